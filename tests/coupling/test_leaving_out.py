"""Plans and couplings that leave points out, against POT, a linear program and their balanced limits."""

from __future__ import annotations

import math
import re

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linprog

from gendyn.coupling import (
    EntropicCoupling,
    PartialCoupling,
    cost_matrix,
    exact_plan,
    get_coupling,
    partial_plan,
    sinkhorn_plan,
)


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def weights(n: int, seed: int) -> torch.Tensor:
    w = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return w / w.sum()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("regularisation", "relaxation"), [(0.1, 0.5), (1.0, 1.0), (0.05, 5.0), (0.5, 100.0)])
@pytest.mark.parametrize("weighted", [False, True])
def test_unbalanced_plan_is_that_of_pot(regularisation: float, relaxation: float, weighted: bool) -> None:
    x, y = cloud(40, 2, 0), cloud(30, 2, 1, 1.0)
    a, b = (weights(40, 2), weights(30, 3)) if weighted else (torch.full((40,), 1 / 40), torch.full((30,), 1 / 30))
    ours = sinkhorn_plan(x, y, regularisation, a, b, relaxation=relaxation, tolerance=1e-10)
    pot = ot.unbalanced.sinkhorn_unbalanced(
        a.double().numpy(), b.double().numpy(), cost_matrix(x, y).numpy(), regularisation, relaxation,
        numItermax=200_000, stopThr=1e-14,
    )  # fmt: skip
    assert ours.mass == pytest.approx(pot.sum(), rel=1e-6)
    assert np.abs(ours.plan.to_dense().numpy() * ours.mass - pot).max() < 1e-6 * pot.max()


def test_one_atom_has_a_closed_form() -> None:
    """Of one point a side, f + g = c + eps log m and either is -rho log m: m = exp(-c / (eps + 2 rho))."""
    here = torch.zeros(1, 1, dtype=torch.float64)
    for cost, regularisation, relaxation in ((3.0, 0.5, 1.0), (0.2, 2.0, 10.0)):
        found = sinkhorn_plan(
            here, here + cost, regularisation, relaxation=relaxation, cost="euclidean", tolerance=1e-13
        )
        assert found.mass == pytest.approx(math.exp(-cost / (regularisation + 2 * relaxation)), rel=1e-10)


def test_a_rising_price_leads_to_the_balanced_plan() -> None:
    x, y = cloud(30, 2, 4), cloud(40, 2, 5, 2.0)
    balanced = sinkhorn_plan(x, y, 0.5, tolerance=1e-10)
    errors = []
    for relaxation in (1.0, 10.0, 1e3, 1e6):
        found = sinkhorn_plan(x, y, 0.5, relaxation=relaxation, tolerance=1e-10)
        errors.append(float((found.plan.to_dense() * found.mass - balanced.plan.to_dense()).abs().sum()))
        assert found.iterations < 2 * balanced.iterations + 100
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4
    infinite = sinkhorn_plan(x, y, 0.5, relaxation=math.inf, tolerance=1e-10)
    assert torch.equal(infinite.plan.mass, balanced.plan.mass)
    assert infinite.mass == 1.0


def test_an_outlier_is_left_out_by_price() -> None:
    x, y = cloud(20, 2, 6), cloud(20, 2, 7)
    x[0] = 30.0
    plan = sinkhorn_plan(x, y, 0.5, relaxation=5.0).plan
    assert float(plan.marginals[0][0]) < 1e-12
    assert float(plan.marginals[0][1:].min()) > 0.01


def test_unbalanced_points_without_weight() -> None:
    x, y = cloud(6, 2, 8), cloud(5, 2, 9)
    a, b = torch.ones(6), torch.ones(5)
    a[2] = b[4] = 0
    found = sinkhorn_plan(x, y, 0.5, a, b, relaxation=2.0, tolerance=1e-10)
    keep, kept = a > 0, b > 0
    alone = sinkhorn_plan(x[keep], y[kept], 0.5, relaxation=2.0, tolerance=1e-10)
    assert found.mass == pytest.approx(alone.mass, rel=1e-8)
    assert torch.allclose(found.plan.to_dense()[keep][:, kept], alone.plan.to_dense())
    again = sinkhorn_plan(x, y, 0.5, a, b, relaxation=2.0, tolerance=1e-8, potentials=found.potentials)
    assert again.iterations < 3


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.85])
@pytest.mark.parametrize("weighted", [False, True])
def test_partial_plan_is_the_linear_program(mass: float, weighted: bool) -> None:
    n0, n1 = 9, 7
    x, y = cloud(n0, 2, 10), cloud(n1, 2, 11)
    a = weights(n0, 12) if weighted else torch.full((n0,), 1 / n0, dtype=torch.float64)
    b = weights(n1, 13) if weighted else torch.full((n1,), 1 / n1, dtype=torch.float64)
    plan = partial_plan(x, y, mass, a, b)
    costs = cost_matrix(x, y).numpy()
    rows = np.kron(np.eye(n0), np.ones(n1))
    columns = np.kron(np.ones(n0), np.eye(n1))
    bound = np.concatenate([a.numpy(), b.numpy()])
    exact = linprog(costs.ravel(), np.vstack([rows, columns]), bound, np.ones((1, n0 * n1)), [mass])
    dense = plan.to_dense() * mass
    assert float((dense * torch.from_numpy(costs)).sum()) == pytest.approx(exact.fun, rel=1e-8)
    assert bool((dense.sum(1) <= a + 1e-12).all())
    assert bool((dense.sum(0) <= b + 1e-12).all())


def test_partial_plan_of_everything_is_exact() -> None:
    x, y = cloud(30, 2, 14), cloud(30, 2, 15)
    assert partial_plan(x, y, 1.0).columns.tolist() == exact_plan(x, y).columns.tolist()
    nearly = partial_plan(x, y, 1 - 1e-9)
    assert nearly.cost(x, y) == pytest.approx(exact_plan(x, y).cost(x, y), rel=1e-6)


def test_partial_plan_follows_no_unit_and_no_shift_of_the_cost() -> None:
    x, y = cloud(12, 2, 16), cloud(12, 2, 17)
    costs = cost_matrix(x, y)
    reference = partial_plan(x, y, 0.5).to_dense()
    for other in (1e-6 * costs, 1e6 * costs, costs - 100.0):
        assert torch.allclose(partial_plan(x, y, 0.5, cost=other).to_dense(), reference)


def test_pairs_follow_their_plans() -> None:
    x, y = cloud(8, 2, 18), cloud(6, 2, 19)
    plans = {
        EntropicCoupling(0.5, relaxation=2.0, tolerance=1e-8): sinkhorn_plan(
            x, y, 0.5, relaxation=2.0, tolerance=1e-8
        ).plan,
        PartialCoupling(0.6): partial_plan(x, y, 0.6),
    }
    for coupling, plan in plans.items():
        counts, source, rounds = torch.zeros(8, 6, dtype=torch.float64), generator(), 400
        for _ in range(rounds):
            i, j = coupling(x, y, generator=source)
            assert len(i) == len(j) == 8
            counts.index_put_((i, j), torch.ones(8, dtype=torch.float64), accumulate=True)
        expected = plan.to_dense() * 8
        assert float((counts / rounds - expected).abs().max()) < 0.05
        assert float(counts[expected == 0].sum()) == 0


def test_by_name_and_sentences() -> None:
    assert repr(get_coupling("sinkhorn", relaxation=1.0)) == (
        "EntropicCoupling(regularisation=None, cost='sqeuclidean', relaxation=1.0)"
    )
    assert repr(get_coupling("partial", mass=0.5)) == "PartialCoupling(mass=0.5, cost='sqeuclidean')"
    x = cloud(4, 2, 0)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="relaxation must be positive"):
            EntropicCoupling(relaxation=wrong)
        with pytest.raises(ValueError, match="relaxation must be positive"):
            sinkhorn_plan(x, x, 1.0, relaxation=wrong)
    with pytest.raises(ValueError, match="regularisation must be positive and finite"):
        EntropicCoupling(0.0, relaxation=1.0)
    for wrong in (0.0, 1.5, math.nan):
        for call in (lambda mass=wrong: PartialCoupling(mass), lambda mass=wrong: partial_plan(x, x, mass)):
            with pytest.raises(ValueError, match=re.escape("mass must lie in (0, 1], a fraction of either sample")):
                call()
    with pytest.raises(ValueError, match="letting all mass vanish is cheaper than moving any"):
        sinkhorn_plan(x, x + 1000.0, 1e-2, relaxation=1e-2)
    with pytest.raises(ValueError, match="x1 must be finite"):
        PartialCoupling(0.5)(x, x * math.nan, generator=generator())
