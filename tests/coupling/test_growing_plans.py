"""Mass that appears and vanishes at a price of either side: closed forms, and the map of another program."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import ot
import pytest
import torch

from gendyn.coupling import bridge_plan, sinkhorn_plan, static_bridge, waddington_plan
from gendyn.coupling.entropic import solve_entropic

CELLS = Path(os.environ.get("GENDYN_DATA", "/nowhere")) / "biology" / "wot_serum_250cells.npz"


def problem(n=12, m=15, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(size, 2, generator=generator, dtype=torch.float64) for size in (n, m))
    log_density = -(x[:, None] - y).square().sum(-1) / (2 * 0.8**2) - math.log(2 * math.pi * 0.8**2)
    a = torch.rand(n, generator=generator, dtype=torch.float64) + 0.2
    b = torch.rand(m, generator=generator, dtype=torch.float64) + 0.2
    return x, y, log_density, a / a.sum(), b / b.sum()


def test_one_point_and_one_point_have_a_closed_form():
    """log m = (log k + rho0 log a + rho1 log b) / (1 + rho0 + rho1)."""
    one = torch.ones(1, dtype=torch.float64)
    for k, a, b, rho in ((0.5, 1.0, 2.0, (1.0, 50.0)), (3.0, 0.7, 0.1, (20.0, 0.3)), (0.2, 1.5, 4.0, (5.0, math.inf))):
        costs = torch.tensor([[-math.log(k / (a * b))]], dtype=torch.float64)
        solved, _ = solve_entropic(costs, a * one, b * one, 1.0, relaxation=rho, max_iterations=10_000, tolerance=1e-13)
        expected = (
            b
            if math.isinf(rho[1])
            else math.exp((math.log(k) + rho[0] * math.log(a) + rho[1] * math.log(b)) / (1 + sum(rho)))
        )
        assert solved.mass == pytest.approx(expected, rel=1e-10)
    assert math.exp((math.log(0.5) + 50 * math.log(2)) / 52) == pytest.approx(1.92160, abs=1e-5)


@pytest.mark.parametrize("prices", [(1.0, 50.0), (0.3, 0.1), (math.inf, 2.0), (4.0, math.inf)])
def test_the_plan_is_the_fixed_point_of_the_damped_alternation(prices):
    _, _, log_density, a, b = problem()
    solved = static_bridge(log_density, a, b, relaxation=prices, tolerance=1e-12)
    kernel = a[:, None] * log_density.exp()
    kernel = kernel / kernel.sum()
    u, v = torch.ones_like(a), torch.ones_like(b)
    powers = [1.0 if math.isinf(rho) else rho / (1 + rho) for rho in prices]
    for _ in range(2000):
        u = (a / (kernel @ v)) ** powers[0]
        v = (b / (kernel.T @ u)) ** powers[1]
    expected = u[:, None] * kernel * v
    found = solved.mass * bridge_plan(log_density, solved.potentials, a, b).to_dense()
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
    dense = a[:, None] * log_density.exp() * solved.potentials[0].exp()[:, None] * (solved.potentials[1].exp() * b)
    torch.testing.assert_close(dense, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(solved.log_gain, (expected.sum(1) / a).log(), atol=1e-8, rtol=0)
    kl = float((expected * (expected / kernel).log()).sum() - expected.sum() + 1)
    assert solved.kl == pytest.approx(kl, abs=1e-9)


def test_infinite_prices_meet_the_weights():
    _, _, log_density, a, b = problem()
    met = static_bridge(log_density, a, b, tolerance=1e-12)
    dear = static_bridge(log_density, a, b, relaxation=(1e7, 1e7), tolerance=1e-10)
    assert met.mass == 1.0
    assert met.log_gain is None
    plans = [bridge_plan(log_density, s.potentials, a, b).to_dense() for s in (met, dear)]
    torch.testing.assert_close(*plans, atol=1e-6, rtol=0)


def test_units_of_the_density_do_not_matter():
    _, _, log_density, a, b = problem()
    solved = [static_bridge(log_density + c, a, b, relaxation=(2.0, 5.0), tolerance=1e-12) for c in (0.0, 40.0)]
    assert solved[0].mass == pytest.approx(solved[1].mass, rel=1e-9)
    again = static_bridge(log_density, a, b, relaxation=(2.0, 5.0), tolerance=1e-9, potentials=solved[0].potentials)
    assert again.iterations <= 2


def test_a_pair_of_equal_prices_is_one_price():
    x, y, _, a, b = problem()
    one = sinkhorn_plan(x, y, 0.3, a, b, relaxation=1.5, tolerance=1e-11)
    two = sinkhorn_plan(x, y, 0.3, a, b, relaxation=(1.5, 1.5), tolerance=1e-11)
    torch.testing.assert_close(one.plan.to_dense(), two.plan.to_dense(), atol=1e-12, rtol=0)
    for wrong in ((1.0, 0.0), (1.0, 2.0, 3.0), -1.0):
        with pytest.raises(ValueError, match="relaxation must be positive, or infinite"):
            sinkhorn_plan(x, y, 0.3, relaxation=wrong)


def test_points_without_weight_take_no_part():
    _, _, log_density, a, b = problem(5, 6)
    a, b = a * torch.tensor([1, 0, 1, 1, 1]), b * torch.tensor([0, 1, 1, 1, 1, 1])
    solved = static_bridge(log_density, a, b, relaxation=(2.0, 3.0), tolerance=1e-12)
    smaller = static_bridge(log_density[a > 0][:, b > 0], a[a > 0], b[b > 0], relaxation=(2.0, 3.0), tolerance=1e-12)
    assert solved.mass == pytest.approx(smaller.mass, rel=1e-9)
    assert solved.kl == pytest.approx(smaller.kl, abs=1e-9)
    assert all(torch.isfinite(potential).all() for potential in solved.potentials)


@pytest.mark.skipif(not CELLS.is_file(), reason="wot_serum_250cells.npz is not in $GENDYN_DATA")
def test_the_stored_map_of_waddington_ot_is_reproduced():
    x, y, stored = stored_map()
    solved = waddington_plan(
        x, y, regularisation=0.5, relaxation=(1.0, 10.0), growth_iterations=1, components=50, tolerance=1e-10
    )
    found = solved.plan.to_dense().numpy() * solved.mass
    assert solved.mass == pytest.approx(1.3498, abs=1e-4)
    assert np.corrcoef(found.ravel(), stored.ravel())[0, 1] > 0.99999
    assert abs(found / found.sum() - stored / stored.sum()).sum() < 0.002


def stored_map():
    with np.load(CELLS, allow_pickle=False) as z:
        import scipy.sparse

        genes = scipy.sparse.csr_matrix((z["data"], z["indices"], z["indptr"]), shape=z["shape"]).toarray()
        return genes[z["day"] == 10], genes[z["day"] == 10.5], z["tmap_10_105"]


def test_unbalanced_transport_of_another_library_agrees():
    x, y, _, _, _ = problem(20, 25)
    growth = torch.linspace(0.5, 2.0, 20, dtype=torch.float64)
    solved = waddington_plan(
        x, y, growth, regularisation=0.2, relaxation=(1.0, 5.0), growth_iterations=1, tolerance=1e-11
    )
    costs = torch.cdist(x, y).square()
    costs = costs / costs.median() if len(costs.flatten()) % 2 else costs / np.median(costs.numpy())
    p = growth / 20
    q = torch.full((25,), float(p.sum()) / 25, dtype=torch.float64)
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        p.numpy(), q.numpy(), costs.numpy(), 0.2, (1.0, 5.0), reg_type="entropy", numItermax=100_000, stopThr=1e-14
    )
    np.testing.assert_allclose(solved.plan.to_dense().numpy() * solved.mass, theirs, atol=1e-8)


def test_growth_is_learned_from_row_sums():
    """Cells on the right have twice as many descendants; more maps tell more of it."""
    x = torch.cat([torch.full((20, 1), -5.0), torch.full((20, 1), 5.0)]).double()
    y = torch.cat([torch.full((20, 1), -5.0), torch.full((40, 1), 5.0)]).double()
    generator = torch.Generator().manual_seed(0)
    x, y = (z + 0.3 * torch.randn(z.shape, generator=generator, dtype=torch.float64) for z in (x, y))
    ratios = []
    for iterations in (1, 2, 3):
        solved = waddington_plan(x, y, growth_iterations=iterations)
        rows = solved.plan.marginals[0]
        ratios.append(float(rows[20:].sum() / rows[:20].sum()))
    assert ratios[0] < ratios[1] < ratios[2]
    assert ratios[2] == pytest.approx(2.0, rel=0.02)


def test_a_waddington_map_says_what_is_unfit():
    x, y, _, _, _ = problem(4, 5)
    with pytest.raises(ValueError, match="one number for each of the 4 earlier cells"):
        waddington_plan(x, y, torch.ones(5))
    with pytest.raises(ValueError, match="growth_iterations must be at least 1"):
        waddington_plan(x, y, growth_iterations=0)
    with pytest.raises(ValueError, match="components must be at least 1"):
        waddington_plan(x, y, components=0)
    with pytest.raises(ValueError, match="median squared distance"):
        waddington_plan(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.warns(UserWarning, match="the transport map misses its masses"):
        waddington_plan(x, y, regularisation=1e-3, relaxation=math.inf, max_iterations=1, growth_iterations=1)
