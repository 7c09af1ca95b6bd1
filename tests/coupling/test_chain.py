"""Chains of plans: the law of paths, enumerated and drawn."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from scipy.stats import chisquare

from gendyn.coupling import (
    EntropicCoupling,
    ExactCoupling,
    IndependentCoupling,
    Plan,
    PlanChain,
    chain_minibatch,
    exact_plan,
    sinkhorn_plan,
)


def cloud(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def weights(n: int, seed: int) -> torch.Tensor:
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)).double() + 0.1


def small_chain(sizes: tuple[int, ...], regularisation: float = 1.0) -> tuple[PlanChain, list[torch.Tensor]]:
    """Entropic plans, so that every path has mass."""
    points = [cloud(n, k) for k, n in enumerate(sizes)]
    mass = [weights(n, 10 + k) for k, n in enumerate(sizes)]
    plans = [
        sinkhorn_plan(x, y, regularisation, a, b, tolerance=1e-12).plan
        for (x, y), (a, b) in zip(itertools.pairwise(points), itertools.pairwise(mass), strict=True)
    ]
    return PlanChain(plans), [a / a.sum() for a in mass]


def law(chain: PlanChain) -> torch.Tensor:
    """Every path's probability, by the definition: the first plan, then conditionals forward."""
    probability = chain.plans[0].to_dense()
    for plan in chain.plans[1:]:
        dense = plan.to_dense()
        probability = probability[..., None] * (dense / dense.sum(1, keepdim=True))
    return probability


@pytest.mark.parametrize("sizes", [(3, 4), (2, 3, 2), (3, 2, 4, 2), (2, 2, 3, 2, 2)])
def test_paths_follow_the_enumerated_law(sizes: tuple[int, ...]) -> None:
    chain, _ = small_chain(sizes)
    probability = law(chain)
    assert float(probability.sum()) == pytest.approx(1.0, abs=1e-9)
    n = 60_000
    paths = chain.sample(n, torch.Generator().manual_seed(4))
    assert (paths.shape, paths.dtype) == ((n, len(sizes)), torch.int64)
    counts = torch.zeros(sizes).index_put(tuple(paths.T), torch.ones(n), accumulate=True)
    expected = (probability / probability.sum() * n).flatten()
    busy = expected > 5
    rest = float(expected[~busy].sum())
    observed = counts.flatten()[busy].double()
    tail = (torch.tensor([n - float(observed.sum())]), torch.tensor([rest])) if rest > 5 else (torch.empty(0),) * 2
    totals = torch.cat([observed, tail[0]]), torch.cat([expected[busy], tail[1]])
    assert chisquare(totals[0].numpy(), (totals[1] * totals[0].sum() / totals[1].sum()).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("sizes", [(5, 7, 6), (8, 5, 6, 7)])
def test_every_time_keeps_its_weights(sizes: tuple[int, ...]) -> None:
    points, mass = [cloud(n, k) for k, n in enumerate(sizes)], [weights(n, k) for k, n in enumerate(sizes)]
    mass[1][0] = 0.0
    plans = [
        exact_plan(x, y, a, b)
        for (x, y), (a, b) in zip(itertools.pairwise(points), itertools.pairwise(mass), strict=True)
    ]
    chain = PlanChain(plans)
    assert (chain.sizes, chain.n_times) == (sizes, len(sizes))
    paths = chain.sample(30_000, 2)
    for k, a in enumerate(mass):
        expected = a / a.sum()
        torch.testing.assert_close(chain.weights(k), expected, rtol=0.0, atol=1e-12)
        counts = torch.bincount(paths[:, k], minlength=sizes[k])
        assert int(counts[expected == 0].sum()) == 0
        assert chisquare(counts[expected > 0].numpy(), expected[expected > 0].numpy() * 30_000).pvalue > 1e-3


@pytest.mark.parametrize("time", [0, 1, 2, 3])
def test_given_points_start_anywhere_and_grow_both_ways(time: int) -> None:
    chain, _ = small_chain((3, 2, 3, 2))
    probability = law(chain).movedim(time, 0)
    point, n = 1, 30_000
    paths = chain.given(time, torch.full((n,), point), 3)
    assert bool((paths[:, time] == point).all())
    others = [k for k in range(4) if k != time]
    expected = probability[point] / probability[point].sum()
    counts = torch.zeros(expected.shape).index_put(tuple(paths[:, others].T), torch.ones(n), accumulate=True)
    keep = expected > 5 / n
    observed, mean = counts[keep].double(), expected[keep]
    assert chisquare(observed.numpy(), (mean / mean.sum() * observed.sum()).numpy()).pvalue > 1e-3


def test_permutations_chain_exactly() -> None:
    points = [cloud(20, k) for k in range(4)]
    plans = [exact_plan(x, y) for x, y in itertools.pairwise(points)]
    paths = PlanChain(plans).given(2, torch.arange(20))
    for k, plan in enumerate(plans):
        assert bool((plan.columns[paths[:, k]] == paths[:, k + 1]).all())
        assert sorted(paths[:, k].tolist()) == list(range(20))


def test_paths_are_reproducible() -> None:
    chain, _ = small_chain((4, 4, 4))
    before = torch.get_rng_state()
    assert bool((chain.sample(40, 1) == chain.sample(40, 1)).all())
    assert not bool((chain.sample(40, 1) == chain.sample(40, 2)).all())
    source = torch.Generator().manual_seed(0)
    assert not bool((chain.sample(40, source) == chain.sample(40, source)).all())
    assert chain.sample(0).shape == (0, 3)
    assert bool((torch.get_rng_state() == before).all())
    assert repr(chain) == "PlanChain(4 - 4 - 4)"


def test_plans_that_do_not_fit_are_refused() -> None:
    two, three = Plan.from_dense(torch.ones(2, 2)), Plan.from_dense(torch.ones(3, 3))
    with pytest.raises(ValueError, match="a chain needs at least one plan; got none"):
        PlanChain([])
    with pytest.raises(ValueError, match="plan 0 ends at 2 points and plan 1 starts from 3"):
        PlanChain([two, three])
    tilted = Plan.from_dense([[0.6, 0.0], [0.0, 0.4]])
    with pytest.raises(
        ValueError, match=re.escape("plans 1 and 2 differ by 0.1 of the mass about the time they share")
    ):
        PlanChain([two, two, tilted])
    for time in (-1, 2):
        with pytest.raises(ValueError, match=f"time must lie between 0 and 1; got {time}"):
            PlanChain([two]).weights(time)
        with pytest.raises(ValueError, match=f"time must lie between 0 and 1; got {time}"):
            PlanChain([two]).given(time, [0])
    with pytest.raises(ValueError, match="n must not be negative; got -3"):
        PlanChain([two]).sample(-3)
    with pytest.raises(ValueError, match="indices must lie between 0 and 1; got 5"):
        PlanChain([two]).given(0, [5])


@pytest.mark.parametrize("coupling", [ExactCoupling(), ExactCoupling(block=8), IndependentCoupling()])
def test_mini_batches_compose_permutations(coupling: ExactCoupling | IndependentCoupling) -> None:
    batches = [cloud(30, k) for k in range(4)]
    paths = chain_minibatch(batches, coupling, torch.Generator().manual_seed(0))
    assert paths.shape == (30, 4)
    assert paths[:, 0].tolist() == list(range(30))
    assert all(sorted(column.tolist()) == list(range(30)) for column in paths.T)
    if isinstance(coupling, ExactCoupling) and coupling.block is None:
        plans = [exact_plan(x, y) for x, y in itertools.pairwise(batches)]
        assert bool((paths == PlanChain(plans).given(0, torch.arange(30))).all())


def test_entropic_mini_batches_are_conditional_draws() -> None:
    batches = [cloud(3, k) for k in range(3)]
    coupling = EntropicCoupling(1.0, tolerance=1e-9)
    plans = [sinkhorn_plan(x, y, 1.0, tolerance=1e-12).plan for x, y in itertools.pairwise(batches)]
    expected = (law(PlanChain(plans)) * 3).flatten() / 3
    source, counts, rounds = torch.Generator().manual_seed(1), torch.zeros(3, 3, 3), 3000
    for _ in range(rounds):
        paths = chain_minibatch(batches, coupling, source)
        counts.index_put_(tuple(paths.T), torch.ones(3), accumulate=True)
    keep = expected * rounds * 3 > 5
    observed = counts.flatten()[keep].double()
    assert chisquare(observed.numpy(), (expected[keep] / expected[keep].sum() * observed.sum()).numpy()).pvalue > 1e-3


def test_mini_batches_that_do_not_fit_are_refused() -> None:
    source = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=re.escape("at least two batches of one size are needed; got sizes [3]")):
        chain_minibatch([cloud(3, 0)], ExactCoupling(), source)
    with pytest.raises(ValueError, match=re.escape("at least two batches of one size are needed; got sizes [3, 4]")):
        chain_minibatch([cloud(3, 0), cloud(4, 0)], ExactCoupling(), source)
    with pytest.raises(
        ValueError, match=r"gives every row of the earlier batch one partner; ExactCoupling.*resample=False"
    ):
        chain_minibatch([cloud(30, 0), cloud(30, 1)], ExactCoupling(resample=True), source)
