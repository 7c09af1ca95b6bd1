"""The static bridge of Brownian motion is entropic transport of squared distance, and says how well it converged."""

from __future__ import annotations

import pytest
import torch

from gendyn.coupling import bridge_kl, bridge_plan, exact_plan, sinkhorn_plan, static_bridge


def problem(n=20, m=30, sigma=0.8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in (n, m))
    squares = (x[:, None] - y).square().sum(-1)
    log_density = -squares / (2 * sigma**2) - torch.log(torch.tensor(2 * torch.pi * sigma**2, dtype=torch.float64))
    return x, y, log_density


def test_brownian_bridge_is_entropic_transport():
    x, y, log_density = problem()
    a = torch.linspace(1, 3, 20, dtype=torch.float64)
    solved = static_bridge(log_density, a, tolerance=1e-12)
    plan = bridge_plan(log_density, solved.potentials, a)
    expected = sinkhorn_plan(x, y, 2 * 0.8**2, a, tolerance=1e-12).plan
    torch.testing.assert_close(plan.to_dense(), expected.to_dense(), atol=1e-10, rtol=0)
    assert solved.converged
    dense = plan.to_dense()
    a = a / a.sum()
    kl = float((dense * (dense.log() - a.log()[:, None] - log_density)).sum())
    assert solved.kl == pytest.approx(kl, abs=1e-8)
    b = torch.full((30,), 1 / 30, dtype=torch.float64)
    assert bridge_kl(solved.potentials, a, b) == pytest.approx(solved.kl, abs=1e-12)


def test_a_warm_start_is_shorter():
    _, _, log_density = problem()
    cold = static_bridge(log_density, tolerance=1e-9)
    warm = static_bridge(log_density * 1.01, potentials=cold.potentials, tolerance=1e-9)
    again = static_bridge(log_density * 1.01, tolerance=1e-9)
    assert warm.iterations < again.iterations
    assert warm.kl == pytest.approx(again.kl, abs=1e-6)


def test_points_without_weight_take_no_part():
    _, _, log_density = problem(5, 6)
    a, b = torch.tensor([1.0, 0, 1, 1, 1]), torch.tensor([0.0, 1, 1, 1, 1, 1])
    solved = static_bridge(log_density, a, b, tolerance=1e-12)
    plan = bridge_plan(log_density, solved.potentials, a, b).to_dense()
    assert (plan[1] == 0).all()
    assert (plan[:, 0] == 0).all()
    assert all(torch.isfinite(potential).all() for potential in solved.potentials)
    smaller = static_bridge(log_density[a > 0][:, b > 0], tolerance=1e-12)
    assert solved.kl == pytest.approx(smaller.kl, abs=1e-9)


def test_errors_and_warnings():
    _, _, log_density = problem(5, 6)
    with pytest.raises(ValueError, match=r"log_density must have shape \(n0, n1\); got \(5,\)"):
        static_bridge(log_density[:, 0])
    wrong = log_density.clone()
    wrong[2, 3] = float("-inf")
    with pytest.raises(ValueError, match="finite for every pair of points; got -inf from point 2 to 3"):
        static_bridge(wrong)
    with pytest.raises(ValueError, match="weights0 must be finite and not negative; got -1.0 at position 0"):
        static_bridge(log_density, [-1, 1, 1, 1, 1])
    with pytest.warns(UserWarning, match=r"the coupling misses its populations by .*sigma is small against"):
        assert not static_bridge(30 * log_density, max_iterations=1).converged


def test_nearly_exact_transport_is_met():
    """In thirty dimensions with little noise the plan is all but a permutation, and costs are some ten thousand."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(60, 30, generator=generator, dtype=torch.float64) for _ in range(2))
    log_density = -(x[:, None] - y).square().sum(-1) / (2 * 0.03**2)
    solved = static_bridge(log_density)
    assert solved.converged
    assert solved.iterations < 2000
    plan = bridge_plan(log_density, solved.potentials)
    exact = exact_plan(x, y)
    assert plan.cost(x, y) == pytest.approx(exact.cost(x, y), rel=1e-4)
