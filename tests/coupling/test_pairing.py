"""Couplings of mini-batches: one contract for all, and what each alone promises."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from gendyn.coupling import (
    Coupling,
    EntropicCoupling,
    ExactCoupling,
    IndependentCoupling,
    PairedCoupling,
    exact_plan,
    get_coupling,
    sinkhorn_plan,
)

COUPLINGS = {
    "independent": IndependentCoupling(),
    "ot": ExactCoupling(),
    "ot-euclidean": ExactCoupling(cost="euclidean"),
    "ot-block": ExactCoupling(block=4),
    "ot-resample": ExactCoupling(resample=True),
    "ot-block-resample": ExactCoupling(block=5, resample=True),
    "sinkhorn": EntropicCoupling(0.5),
    "sinkhorn-default": EntropicCoupling(),
}
PERMUTATIONS = ("independent", "ot", "ot-euclidean", "ot-block")


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def global_generators_stay_untouched() -> Iterator[None]:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    yield
    assert bool((torch.get_rng_state() == before[0]).all())
    assert bool((np.random.get_state()[1] == before[1]).all())


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS.keys())
@pytest.mark.parametrize(("n0", "n1"), [(1, 1), (12, 12), (1, 6), (10, 13), (13, 10)])
@pytest.mark.parametrize("d", [1, 3])
def test_contract(coupling: Coupling, n0: int, n1: int, d: int) -> None:
    x, y = cloud(n0, d, 0), cloud(n1, d, 1)
    i, j = coupling(x, y, generator=generator(3))
    assert i.shape == j.shape == (max(n0, n1),)
    assert i.dtype == j.dtype == torch.int64
    assert 0 <= int(i.min()) <= int(i.max()) < n0
    assert 0 <= int(j.min()) <= int(j.max()) < n1
    again = coupling(x, y, generator=generator(3))
    assert bool((again[0] == i).all() and (again[1] == j).all())
    # Couplings read values only: arrays, other dtypes and graphs give the same pairs.
    array = coupling(x.numpy(), y.double().requires_grad_(), generator=generator(3))
    assert bool((array[0] == i).all() and (array[1] == j).all())


@pytest.mark.parametrize("coupling", COUPLINGS.values(), ids=COUPLINGS.keys())
@pytest.mark.parametrize(("n0", "n1"), [(6, 6), (4, 6)])
@pytest.mark.parametrize("weighted", [False, True])
def test_marginals_are_kept(coupling: Coupling, n0: int, n1: int, weighted: bool) -> None:
    x, y = cloud(n0, 2, 2), cloud(n1, 2, 3)
    a = torch.arange(n0).double() if weighted else torch.ones(n0).double()
    b = torch.arange(n1, 0, -1).double() if weighted else torch.ones(n1).double()
    weights = (a, b) if weighted else (None, None)
    source, counts, rounds = generator(0), [torch.zeros(n0), torch.zeros(n1)], 1000
    for _ in range(rounds):
        i, j = coupling(x, y, *weights, generator=source)
        counts[0] += torch.bincount(i, minlength=n0)
        counts[1] += torch.bincount(j, minlength=n1)
    for count, weight in zip(counts, (a, b), strict=True):
        expected = weight / weight.sum() * rounds * max(n0, n1)
        assert int(count[expected == 0].sum()) == 0
        # Entropic plans meet their weights to 1e-3; everything else leaves no more than the noise of draws.
        assert chisquare(count[expected > 0].double().numpy(), expected[expected > 0].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("name", PERMUTATIONS)
@pytest.mark.parametrize("weights", [None, torch.full((50,), 0.3)])
def test_equal_batches_are_permuted(name: str, weights: torch.Tensor | None) -> None:
    i, j = COUPLINGS[name](cloud(50, 2, 0), cloud(50, 2, 1), weights, weights, generator=generator())
    assert sorted(i.tolist()) == sorted(j.tolist()) == list(range(50))


def test_exact_coupling_is_the_exact_plan() -> None:
    for n in (40, 300):
        x, y = cloud(n, 3, 4), cloud(n, 3, 5)
        i, j = ExactCoupling()(x, y, generator=generator())
        assert float((x[i] - y[j]).double().square().sum(1).mean()) == pytest.approx(
            exact_plan(x, y).cost(x, y), rel=1e-6
        )


def test_exact_coupling_on_a_line_is_sorted() -> None:
    x, y = cloud(100, 1, 6), cloud(100, 1, 7)
    i, j = ExactCoupling()(x, y, generator=generator())
    order = x[i, 0].argsort()
    assert bool((y[j, 0][order].diff() >= 0).all())


def test_resampled_pairs_belong_to_the_plan() -> None:
    x, y = cloud(60, 2, 8), cloud(60, 2, 9)
    plan = exact_plan(x, y)
    i, j = ExactCoupling(resample=True)(x, y, generator=generator())
    assert bool((plan.columns[i] == j).all())
    assert len(i.unique()) < 60


def test_blocks_cost_between_the_plan_and_chance() -> None:
    x, y = cloud(256, 2, 10), cloud(256, 2, 11, 1.0)

    def mean_cost(coupling: Coupling) -> float:
        i, j = coupling(x, y, generator=generator(1))
        return float((x[i] - y[j]).square().sum(1).mean())

    costs = [
        mean_cost(c) for c in (ExactCoupling(), ExactCoupling(block=64), ExactCoupling(block=16), IndependentCoupling())
    ]
    assert costs == sorted(costs)
    assert costs[2] < 0.7 * costs[3]


def test_blocks_of_uneven_sizes_use_every_row() -> None:
    i, j = ExactCoupling(block=7)(cloud(31, 2, 0), cloud(31, 2, 1), generator=generator())
    assert sorted(i.tolist()) == sorted(j.tolist()) == list(range(31))
    i, j = ExactCoupling(block=7)(cloud(31, 2, 0), cloud(62, 2, 1), generator=generator())
    assert torch.bincount(i).tolist() == [2] * 31
    assert sorted(j.tolist()) == list(range(62))


def test_entropic_pairs_follow_the_plan() -> None:
    x, y = cloud(3, 2, 12), cloud(3, 2, 13)
    dense = sinkhorn_plan(x, y, 0.7).plan.to_dense()
    source, counts = generator(0), torch.zeros(3, 3)
    for _ in range(3000):
        i, j = EntropicCoupling(0.7, tolerance=1e-6)(x, y, generator=source)
        assert i.tolist() == [0, 1, 2]
        counts[i, j] += 1
    for row in range(3):
        assert chisquare(counts[row].double().numpy(), (dense[row] / dense[row].sum() * 3000).numpy()).pvalue > 1e-3


def test_entropic_default_follows_the_units() -> None:
    x, y = cloud(30, 2, 14), cloud(30, 2, 15)
    pairs = [EntropicCoupling()(s * x, s * y, generator=generator(2))[1].tolist() for s in (1.0, 1024.0)]
    assert pairs[0] == pairs[1]
    same = EntropicCoupling()(torch.ones(4, 2), torch.ones(4, 2), generator=generator())
    assert same[0].tolist() == [0, 1, 2, 3]


def test_entropic_coupling_says_when_it_stops_early() -> None:
    with pytest.warns(UserWarning, match="the entropic plan misses its weights"):
        EntropicCoupling(1e-3, max_iterations=1)(cloud(30, 2, 0), cloud(30, 2, 1, 3.0), generator=generator())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EntropicCoupling(0.5)(cloud(30, 2, 0), cloud(30, 2, 1), generator=generator())


def test_own_costs_are_used() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0]])

    def first_feature(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return -(a[:, None, 1] * b[None, :, 0])

    assert ExactCoupling(cost=first_feature)(x, y, generator=generator())[1].tolist() == [0, 1]
    assert repr(ExactCoupling(cost=first_feature)) == "ExactCoupling(block=None, resample=False, cost=first_feature)"


def test_paired_rows_stay_together() -> None:
    x = cloud(5, 2, 0)
    i, j = PairedCoupling()(x, x, generator=generator())
    assert i.tolist() == j.tolist() == [0, 1, 2, 3, 4]
    weights = torch.tensor([0.0, 1.0, 0.0, 1.0, 2.0])
    i, j = PairedCoupling()(x, x, weights, weights, generator=generator())
    assert bool((i == j).all())
    assert set(i.tolist()) <= {1, 3, 4}
    with pytest.raises(ValueError, match="paired batches must have equal sizes; got 5 and 4"):
        PairedCoupling()(x, x[:4], generator=generator())
    with pytest.raises(ValueError, match="paired batches must have equal weights"):
        PairedCoupling()(x, x, weights, None, generator=generator())


def test_couplings_by_name() -> None:
    types = {
        "independent": IndependentCoupling,
        "paired": PairedCoupling,
        "ot": ExactCoupling,
        "sinkhorn": EntropicCoupling,
    }
    for name, kind in types.items():
        coupling = get_coupling(name)
        assert isinstance(coupling, kind)
        assert repr(coupling).startswith(kind.__name__)
    exact = get_coupling("ot", block=64, resample=True)
    assert isinstance(exact, ExactCoupling)
    assert (exact.block, exact.resample) == (64, True)
    with pytest.raises(
        ValueError,
        match="coupling must be one of independent, paired, ot, sinkhorn, partial; got 'optimal'",
    ):
        get_coupling("optimal")
    with pytest.raises(TypeError, match="the coupling 'ot' has no option 'blok'; it has block, resample, cost"):
        get_coupling("ot", blok=64)
    with pytest.raises(TypeError, match="the coupling 'independent' has no option 'block'; it has none"):
        get_coupling("independent", block=64)


def test_unfit_options_are_refused() -> None:
    with pytest.raises(ValueError, match="block must be at least 2 rows, or None for the whole batch; got 1"):
        ExactCoupling(block=1)
    with pytest.raises(ValueError, match="a coupling of mini-batches needs a cost by name or as a function"):
        ExactCoupling(cost=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="cost must be 'sqeuclidean', 'euclidean' or a function; got 'city'"):
        EntropicCoupling(1.0, cost="city")  # type: ignore[arg-type]
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"regularisation must be positive and finite; got {value}"):
            EntropicCoupling(value)


@pytest.mark.parametrize("coupling", [*COUPLINGS.values(), PairedCoupling()], ids=[*COUPLINGS.keys(), "paired"])
def test_unfit_batches_are_refused(coupling: Coupling) -> None:
    x, wrong = cloud(6, 2, 0), cloud(6, 2, 1)
    wrong[4, 0] = torch.inf
    with pytest.raises(
        ValueError, match=re.escape("x1 must be finite; got NaN or infinity in 1 of 6 rows (first: row 4)")
    ):
        coupling(x, wrong, generator=generator())
    with pytest.raises(ValueError, match="the same number of features; got 2 and 3"):
        coupling(x, cloud(6, 3, 0), generator=generator())
    with pytest.raises(ValueError, match=r"weights1 must be finite and not negative; got -1\.0 at position 0"):
        coupling(x, x, None, -torch.ones(6), generator=generator())
