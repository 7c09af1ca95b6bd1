"""Entropic plans against POT, closed forms and their own fixed point."""

from __future__ import annotations

import math
import re
import warnings

import numpy as np
import ot
import pytest
import torch

from gendyn.coupling import exact_plan, sinkhorn_plan


def cloud(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_three_points() -> None:
    x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.0], [5.0]])
    expected = [
        [0.22825370, 0.10476322, 0.00031642],
        [0.10476322, 0.21549715, 0.01307297],
        [0.00031642, 0.01307297, 0.31994395],
    ]
    plan = sinkhorn_plan(x, y, 2.0, tolerance=1e-12).plan
    torch.testing.assert_close(plan.to_dense(), torch.tensor(expected, dtype=torch.float64), atol=5e-9, rtol=0.0)


@pytest.mark.parametrize("regularisation", [50.0, 1.0, 0.1, 0.02])
def test_plan_is_that_of_pot(regularisation: float) -> None:
    x, y = cloud(30, 2, 0), cloud(25, 2, 1, 0.5)
    rng = np.random.default_rng(0)
    a, b = rng.random(30) + 0.01, rng.random(25) + 0.01
    a, b = a / a.sum(), b / b.sum()
    costs = ot.dist(x.double().numpy(), y.double().numpy())
    expected = ot.sinkhorn(a, b, costs, regularisation, method="sinkhorn_log", numItermax=100_000, stopThr=1e-13)
    result = sinkhorn_plan(x, y, regularisation, a, b, tolerance=1e-12, max_iterations=100_000)
    assert np.abs(result.plan.to_dense().numpy() - expected).max() < 1e-10
    assert np.abs(result.plan.marginals[0].numpy() - a).max() < 1e-9
    assert np.abs(result.plan.marginals[1].numpy() - b).max() < 1e-9


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.1, 0.495025), (0.5, 0.39038820), (1.0, 0.20710678), (2.0, 0.06155281)]
)
def test_bridge_of_two_gaussians(sigma: float, expected: float) -> None:
    # Between N(., 1/4) and N(., 1) with regularisation 2 sigma^2; quadrature nodes stand for the two laws.
    x = torch.linspace(-4, 4, 241, dtype=torch.float64)[:, None]
    y = torch.linspace(-8, 8, 241, dtype=torch.float64)[:, None]
    a, b = torch.exp(-x[:, 0].square() / 0.5), torch.exp(-y[:, 0].square() / 2)
    plan = sinkhorn_plan(x - 1, y + 2, 2 * sigma**2, a, b, tolerance=1e-9).plan
    covariance = float((plan.mass * x[plan.rows, 0] * y[plan.columns, 0]).sum())
    assert covariance == pytest.approx((math.sqrt(1 + sigma**4) - sigma**2) / 2, abs=2e-6)
    assert covariance == pytest.approx(expected, abs=2e-6)


def test_limits_of_the_regularisation() -> None:
    x, y = cloud(12, 2, 2), cloud(12, 2, 3)
    wide = sinkhorn_plan(x, y, 1e8).plan.to_dense()
    torch.testing.assert_close(wide, torch.full((12, 12), 1 / 144, dtype=torch.float64), rtol=1e-5, atol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        narrow = sinkhorn_plan(x, y, 1e-3, max_iterations=20_000).plan
    assert narrow.cost(x, y) == pytest.approx(exact_plan(x, y).cost(x, y), rel=1e-3)


@pytest.mark.parametrize("regularisation", [1e-4, 1e-2, 1.0, 100.0])
def test_small_and_large_units_neither_overflow_nor_underflow(regularisation: float) -> None:
    x, y = cloud(20, 2, 4), cloud(20, 2, 5, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for scale in (1e-4, 1.0, 1e4):
            result = sinkhorn_plan(scale * x, scale * y, scale**2 * regularisation, max_iterations=300)
            assert bool(torch.isfinite(result.potentials[0]).all() and torch.isfinite(result.potentials[1]).all())
            assert result.plan.mass.sum() == pytest.approx(1.0)
            assert result.marginal_error < 0.2


def test_potentials_are_a_fixed_point_and_give_the_plan() -> None:
    x, y = cloud(15, 3, 6), cloud(10, 3, 7)
    a, b = torch.rand(15, generator=torch.Generator().manual_seed(0)), torch.ones(10)
    a[3] = 0.0
    result = sinkhorn_plan(x, y, 0.5, a, b, tolerance=1e-12)
    f, g = result.potentials
    a, b = a.double() / a.double().sum(), b.double() / 10
    costs = torch.cdist(x.double(), y.double()).square()
    torch.testing.assert_close(f, -0.5 * torch.logsumexp((g - costs) / 0.5 + b.log(), 1), rtol=1e-9, atol=1e-9)
    dense = a[:, None] * b * torch.exp((f[:, None] + g - costs) / 0.5)
    torch.testing.assert_close(result.plan.to_dense(), dense, rtol=1e-6, atol=1e-12)
    assert (f.dtype, f.shape, g.shape, result.regularisation) == (torch.float64, (15,), (10,), 0.5)
    assert float(result.plan.marginals[0][3]) == 0.0


def test_points_without_weight_leave_the_others_alone() -> None:
    x, y = cloud(9, 2, 8), cloud(8, 2, 9)
    a, b = torch.ones(9), torch.ones(8)
    a[[0, 4]], b[7] = 0.0, 0.0
    whole = sinkhorn_plan(x, y, 0.3, a, b, tolerance=1e-12)
    part = sinkhorn_plan(x[a > 0], y[b > 0], 0.3, tolerance=1e-12)
    torch.testing.assert_close(whole.plan.to_dense()[a > 0][:, b > 0], part.plan.to_dense(), rtol=1e-8, atol=1e-14)
    again = sinkhorn_plan(x, y, 0.3, a, b, tolerance=1e-9, potentials=whole.potentials)
    assert again.iterations == 1


def test_a_warm_start_is_shorter_and_arrives_at_the_same_plan() -> None:
    x, y = cloud(60, 2, 10), cloud(60, 2, 11)
    cold = sinkhorn_plan(x, y, 0.05, tolerance=1e-9)
    warm = sinkhorn_plan(x, y, 0.05, tolerance=1e-9, potentials=cold.potentials)
    moved = sinkhorn_plan(x + 0.001, y, 0.05, tolerance=1e-9, potentials=cold.potentials)
    assert warm.iterations <= 2 < cold.iterations
    assert moved.iterations < cold.iterations
    torch.testing.assert_close(warm.plan.to_dense(), cold.plan.to_dense(), rtol=1e-5, atol=1e-12)


def test_symmetric_problems_have_symmetric_plans() -> None:
    x, y = cloud(20, 2, 12), cloud(16, 2, 13)
    forward, backward = (sinkhorn_plan(*pair, 0.2, tolerance=1e-12).plan.to_dense() for pair in ((x, y), (y, x)))
    torch.testing.assert_close(forward, backward.T, rtol=1e-6, atol=1e-12)


def test_one_point_duplicates_and_identical_samples() -> None:
    assert sinkhorn_plan([[0.0]], [[5.0]], 1.0).plan.to_dense().tolist() == [[1.0]]
    same = sinkhorn_plan(torch.ones(6, 2), torch.ones(4, 2), 1e-3)
    torch.testing.assert_close(same.plan.to_dense(), torch.full((6, 4), 1 / 24, dtype=torch.float64))
    assert same.marginal_error < 1e-14


def test_marginal_error_is_what_it_says_and_is_warned_about() -> None:
    x, y = cloud(40, 2, 14), cloud(40, 2, 15, 2.0)
    with pytest.warns(
        UserWarning, match=r"misses its weights by \d\.\de-\d\d of the mass after 3 iterations; raise max"
    ):
        result = sinkhorn_plan(x, y, 0.01, max_iterations=3)
    assert result.marginal_error == pytest.approx(float((result.plan.marginals[0] - 1 / 40).abs().sum()), rel=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sinkhorn_plan(x, y, 0.5).marginal_error <= 1e-6


def test_other_costs() -> None:
    x, y = cloud(10, 2, 16), cloud(10, 2, 17)
    costs = torch.cdist(x.double(), y.double())
    named = sinkhorn_plan(x, y, 0.3, cost="euclidean").plan.to_dense()
    torch.testing.assert_close(named, sinkhorn_plan(x, y, 0.3, cost=costs).plan.to_dense())
    # A constant more is no other problem.
    shifted = sinkhorn_plan(x, y, 0.3, cost=costs + 7, tolerance=1e-10).plan.to_dense()
    torch.testing.assert_close(shifted, sinkhorn_plan(x, y, 0.3, cost=costs, tolerance=1e-10).plan.to_dense())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"regularisation": 0.0}, "regularisation must be positive and finite; got 0.0"),
        ({"regularisation": float("nan")}, "regularisation must be positive and finite; got nan"),
        ({"regularisation": float("inf")}, "regularisation must be positive and finite; got inf"),
        ({"regularisation": 1e-30}, "of the spread of the costs; got 1e-30: use exact_plan where it should vanish"),
        ({"max_iterations": 0}, "max_iterations must be at least 1; got 0"),
        ({"tolerance": 0.0}, "tolerance must be positive; got 0.0"),
        ({"potentials": (torch.zeros(2), torch.zeros(4))}, "potentials must have shapes (3,) and (4,)"),
        ({"potentials": (torch.zeros(3) / 0, torch.zeros(4))}, "potentials must be finite; leave them out"),
        ({"weights0": [1.0, 2.0]}, "weights0 must have shape (3,)"),
    ],
)
def test_unfit_options_are_refused(options: dict[str, object], sentence: str) -> None:
    arguments = {"regularisation": 1.0, **options}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        sinkhorn_plan(cloud(3, 2, 0), cloud(4, 2, 1), **arguments)  # type: ignore[arg-type]
