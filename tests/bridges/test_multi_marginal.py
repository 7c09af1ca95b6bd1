"""Multi-marginal bridges against closed forms of Gaussian bridges, on quantile grids and product quadratures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri

import gendyn as gd
from gendyn.bridges import MultiMarginalBridge, transition_law
from gendyn.bridges.interval_laws import interval_log_densities
from gendyn.bridges.transition import resolving_step
from gendyn.coupling import static_bridge
from gendyn.data import Snapshots
from gendyn.sampling import ODE, SDE, LinearProcess
from gendyn.systems import BrownianMotion, OrnsteinUhlenbeck

DOUBLE = torch.float64


def tensor(values):
    return torch.tensor(values, dtype=DOUBLE)


def normal_1d(mean, variance, n=400):
    """Quantiles of a normal law, stretched to its exact variance."""
    z = torch.from_numpy(ndtri((np.arange(n) + 0.5) / n))
    return mean + math.sqrt(variance) * (z / z.std(correction=0))[:, None]


def normal_2d(mean, covariance, side=24):
    """A product of Gauss-Hermite rules, with weights: moments of a normal law, exactly."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(side)
    x, y = np.meshgrid(nodes, nodes, indexing="ij")
    grid = torch.from_numpy(np.stack([x.ravel(), y.ravel()], 1))
    mass = torch.from_numpy(np.outer(weights, weights).ravel())
    kept = mass > 1e-12 * mass.max()
    return tensor(mean) + grid[kept] @ torch.linalg.cholesky(tensor(covariance)).T, mass[kept]


def moments(bridge, t):
    """Mean and covariance of a bridge at a time inside its only interval, summed over all pairs."""
    plan = bridge.chain.plans[0]
    law = transition_law(
        bridge.reference, bridge.samples[0], float(bridge.times[0]), tensor([t, 1.0]), substeps=bridge.substeps
    )
    means, covariances = law.bridge(plan.rows, bridge.samples[1][plan.columns])
    mean = plan.mass @ means[0]
    apart = means[0] - mean
    inner = covariances[0].expand(len(plan), -1, -1)
    return mean, (apart * plan.mass[:, None]).T @ apart + torch.einsum("e,eij->ij", plan.mass, inner)


def cross_covariance(plan, x, y):
    a, b = plan.marginals
    joint = x.T @ plan.to_dense() @ y
    return joint - torch.outer(a @ x, b @ y)


@pytest.mark.parametrize(("s", "expected"), [(0.25, 1.3801993), (1.0, 1.0811388), (4.0, 0.5)])
def test_coupling_of_two_normals(s, expected):
    x, y = normal_1d(0.0, 1.0), normal_1d(3.0, 2.25)
    bridge, solved = MultiMarginalBridge.solve(
        BrownianMotion(volatility=math.sqrt(s)), Snapshots([0.0, 1.0], [x, y]), tolerance=1e-9
    )
    assert solved[0].converged
    assert float(cross_covariance(bridge.chain.plans[0], x, y)) == pytest.approx(expected, rel=5e-3)


def test_bridge_of_two_normals_in_one_dimension():
    x, y = normal_1d(0.0, 1.0), normal_1d(3.0, 2.25)
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(), Snapshots([0.0, 1.0], [x, y]), tolerance=1e-9)
    for t, variance in ((0.25, 1.2960521), (0.5, 1.6030694), (0.75, 1.9210521)):
        mean, covariance = moments(bridge, t)
        assert float(mean) == pytest.approx(3 * t, abs=1e-6)
        assert float(covariance) == pytest.approx(variance, rel=5e-3)
    # Against a density, the divergence has the entropy of the second population in place of that of its 400 weights.
    entropy = 0.5 * math.log(2 * math.pi * math.e * 2.25)
    assert float(bridge.kl.sum()) + math.log(400) - entropy == pytest.approx(4.5048537, rel=5e-3)
    for t, slope in ((0.0, 0.0811388), (0.5, 0.0779754), (0.75, 0.0764845)):
        place = 3 * t + tensor([[-0.2], [0.2]])
        drift = bridge.process.drift(tensor(t), place)
        # In the last two decimals the slope of the atoms differs from that of their density.
        assert float((drift[1] - drift[0]) / 0.4) == pytest.approx(slope, rel=2e-2)
        assert float(drift.mean()) == pytest.approx(3.0, abs=2e-2)


@pytest.mark.parametrize(("n", "expected"), [(400, 1.0767), (800, 1.0789)])
def test_coupling_of_quantiles_has_the_covariance_of_another_solver(n, expected):
    """Values of an independent solver, for the grid of quantiles itself rather than its limit."""
    z = math.sqrt(2) * torch.erfinv(2 * (torch.arange(n, dtype=torch.float64) + 0.5) / n - 1)[:, None]
    x, y = z, 3.0 + 1.5 * z
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(), Snapshots([0.0, 1.0], [x, y]), tolerance=1e-9)
    assert float(cross_covariance(bridge.chain.plans[0], x, y)) == pytest.approx(expected, abs=1e-4)
    if n == 400:
        for t, slope in ((0.0, 0.0814), (0.5, 0.0778), (0.75, 0.0763)):
            drift = bridge.process.drift(tensor(t), 3 * t + tensor([[-1.0], [1.0]]))
            assert float(drift[1] - drift[0]) / 2 == pytest.approx(slope, rel=2e-3)


def test_golden_ratio():
    x = normal_1d(0.0, 1.0)
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(), Snapshots([0.0, 1.0], [x, x]), tolerance=1e-9)
    assert float(cross_covariance(bridge.chain.plans[0], x, x)) == pytest.approx((math.sqrt(5) - 1) / 2, rel=5e-3)


def test_bridge_of_two_normals_in_two_dimensions():
    x, a = normal_2d([0.0, 0.0], [[1.0, 0.3], [0.3, 0.5]])
    y, b = normal_2d([2.0, -1.0], [[0.6, -0.2], [-0.2, 1.5]])
    bridge, _ = MultiMarginalBridge.solve(
        BrownianMotion(volatility=math.sqrt(0.5), dim=2), Snapshots([0.0, 1.0], [x, y], [a, b]), tolerance=1e-9
    )
    cross = cross_covariance(bridge.chain.plans[0], x, y)
    expected = tensor([[0.52137147, 0.15295072], [0.04894423, 0.61314190]])
    torch.testing.assert_close(cross, expected, atol=2e-3, rtol=0)
    mean, covariance = moments(bridge, 0.5)
    torch.testing.assert_close(mean, tensor([1.0, -0.5]), atol=1e-6, rtol=0)
    expected = tensor([[0.78568573, 0.07547374], [0.07547374, 0.93157095]])
    torch.testing.assert_close(covariance, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "linear-noise"])
def test_ornstein_uhlenbeck_reference(exact):
    process = OrnsteinUhlenbeck(rate=1.0, volatility=math.sqrt(2.0))
    if not exact:
        process = SDE(process.drift, lambda t, x: torch.full_like(x, math.sqrt(2.0)), 1)
    x, y = normal_1d(2.0, 0.5), normal_1d(-1.0, 0.8)
    bridge, _ = MultiMarginalBridge.solve(process, Snapshots([0.0, 1.0], [x, y]), tolerance=1e-9)
    assert float(cross_covariance(bridge.chain.plans[0], x, y)) == pytest.approx(0.15937658, rel=5e-3)
    expected = {0.25: (1.18449603, 0.68323136), 0.5: (0.44340944, 0.78038335), 0.75: (-0.26981941, 0.81625419)}
    for t, (mean, variance) in expected.items():
        found = moments(bridge, t)
        assert float(found[0]) == pytest.approx(mean, abs=1e-4)
        assert float(found[1]) == pytest.approx(variance, rel=5e-3)


def test_rotating_reference():
    rate = [[-0.5, -2.0], [2.0, -0.5]]
    process = LinearProcess(rate, [0.0, 0.0], (math.sqrt(0.4) * torch.eye(2)).tolist())
    flow = process.transition(1.0)
    torch.testing.assert_close(flow.matrix, tensor([[-0.25240582, -0.55151677], [0.55151677, -0.25240582]]))
    torch.testing.assert_close(flow.covariance, 0.25284822 * torch.eye(2, dtype=DOUBLE))
    x, a = normal_2d([1.0, 0.0], [[0.3, 0.0], [0.0, 0.1]])
    y, b = normal_2d([0.0, 1.5], [[0.2, 0.05], [0.05, 0.4]])
    bridge, _ = MultiMarginalBridge.solve(process, Snapshots([0.0, 1.0], [x, y], [a, b]), tolerance=1e-9)
    cross = cross_covariance(bridge.chain.plans[0], x, y)
    expected = tensor([[-0.02321457, 0.17287089], [-0.04370669, -0.03863640]])
    torch.testing.assert_close(cross, expected, atol=1e-3, rtol=0)
    mean, covariance = moments(bridge, 0.5)
    torch.testing.assert_close(mean, tensor([0.87380545, 0.80080641]), atol=1e-3, rtol=0)
    expected = tensor([[0.28210679, 0.06820192], [0.06820192, 0.25348959]])
    torch.testing.assert_close(covariance, expected, atol=1e-3, rtol=0)


THREE = Snapshots([0.0, 1.0, 2.5], [normal_1d(0.0, 1.0), normal_1d(3.0, 2.25), normal_1d(1.0, 0.5)])


def test_three_populations_are_glued_by_the_markov_property():
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(), THREE, tolerance=1e-9)
    x, y, z = THREE.samples
    first, second = bridge.chain.plans
    assert float(cross_covariance(first, x, y)) == pytest.approx(1.0811388, rel=5e-3)
    assert float(cross_covariance(second, y, z)) == pytest.approx(0.5490381, rel=5e-3)
    n = 200_000
    paths = bridge.sample_paths([0.0, 1.0, 1.5, 2.0, 2.5], n, seed=1)[..., 0]
    covariance = paths.T.cov()
    assert float(covariance[0, 4]) == pytest.approx(0.2638162, abs=0.01)
    assert float(paths[:, 2].mean()) == pytest.approx(2.3333333, abs=0.015)
    assert float(covariance[2, 2]) == pytest.approx(1.6329058, rel=0.015)
    assert float(covariance[3, 3]) == pytest.approx(1.0495725, rel=0.015)


def test_the_problem_decouples_and_is_static():
    """Solve the chain of three populations jointly by brute force: the pairs are those of the intervals alone."""
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(n, 1, generator=generator, dtype=DOUBLE) for n in (4, 5, 3)]
    process = BrownianMotion(volatility=0.8)
    densities = list(interval_log_densities(process, samples, tensor([0.0, 1.0, 1.5])))
    # Iterative proportional fitting of the joint law of all three, over tuples.
    joint = (densities[0][:, :, None] + densities[1][None]).exp() / 4
    for _ in range(3000):
        for axes, n, shape in (((1, 2), 4, (4, 1, 1)), ((0, 2), 5, (1, 5, 1)), ((0, 1), 3, (1, 1, 3))):
            joint = joint * (1 / n / joint.sum(axes)).reshape(shape)
    bridge, solved = MultiMarginalBridge.solve(
        process, Snapshots([0.0, 1.0, 1.5], samples), tolerance=1e-12, max_iterations=20_000
    )
    first, second = (plan.to_dense() for plan in bridge.chain.plans)
    torch.testing.assert_close(joint.sum(2), first, atol=1e-10, rtol=0)
    torch.testing.assert_close(joint.sum(0), second, atol=1e-10, rtol=0)
    torch.testing.assert_close(joint, first[:, :, None] * second[None] * 5, atol=1e-10, rtol=0)
    # The divergence of the joint law from the reference is the sum over intervals.
    reference = (densities[0][:, :, None] + densities[1][None]) - math.log(4)
    assert float(bridge.kl.sum()) == pytest.approx(float((joint * (joint.log() - reference)).sum()), abs=1e-9)
    assert sum(result.kl for result in solved) == pytest.approx(float(bridge.kl.sum()), abs=1e-9)


def test_envelope():
    """The gradient of the divergence in a parameter is that with the coupling held fixed."""
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(n, 1, generator=generator, dtype=DOUBLE) + k for k, n in enumerate((6, 7, 5))]
    data = Snapshots([0.0, 1.0, 1.5], samples)

    def process(rate):
        return SDE(lambda t, x: -rate * x, lambda t, x: torch.full_like(x, 0.7), 1)

    def divergence(rate):
        densities = interval_log_densities(process(rate), samples, data.times, 16)
        return sum(static_bridge(d, tolerance=1e-12, max_iterations=20_000).kl for d in densities)

    rate = tensor(0.4).requires_grad_()
    bridge, _ = MultiMarginalBridge.solve(process(0.4), data, tolerance=1e-12, max_iterations=20_000)
    densities = interval_log_densities(process(rate), samples, data.times, 16)
    loss = -sum((plan.to_dense() * d).sum() for plan, d in zip(bridge.chain.plans, densities, strict=True))
    (gradient,) = torch.autograd.grad(loss, rate)
    step = 1e-4
    difference = (divergence(0.4 + step) - divergence(0.4 - step)) / (2 * step)
    assert float(gradient) == pytest.approx(difference, rel=1e-6)


def predators(n=60):
    return gd.systems.simulate_snapshots(gd.systems.LotkaVolterra(), [0.0, 1.0, 2.0], n, step=0.05, dtype=DOUBLE)


def test_observed_times_give_rows_of_the_data():
    data = predators()
    bridge, _ = MultiMarginalBridge.solve(gd.systems.LotkaVolterra(), data)
    for t in (0.0, 1.0, 2.0):
        points = bridge.interpolate(t, 120)
        rows, counts = torch.unique(points, dim=0, return_counts=True)
        assert torch.equal(rows, torch.unique(data.population(t), dim=0))
        assert (counts == 2).all()
    paths = bridge.sample_paths([0.0, 0.5, 1.0, 1.25, 2.0], 60, seed=3)
    assert torch.equal(torch.unique(paths[:, 0], dim=0), torch.unique(data.population(0.0), dim=0))
    for k, t in ((2, 1.0), (4, 2.0)):
        assert (paths[:, k, None] == data.population(t)).all(-1).any(1).all()
    assert torch.equal(paths, bridge.sample_paths([0.0, 0.5, 1.0, 1.25, 2.0], 60, seed=3))


def test_the_true_reference_fills_a_time_that_was_left_out():
    system = gd.systems.LotkaVolterra()
    data = gd.systems.simulate_snapshots(system, [0.0, 2.0, 4.0], 100, step=0.02, dtype=DOUBLE)
    bridge, _ = MultiMarginalBridge.solve(system, data)
    for t in (1.0, 3.0):
        truth = gd.systems.simulate_snapshots(system, [t], 400, seed=5, step=0.02, start=0.0, dtype=DOUBLE).samples[0]
        points = bridge.interpolate(t, 400)
        assert (points.mean(0) - truth.mean(0)).abs().max() < 0.03
        torch.testing.assert_close(points.std(0), truth.std(0), rtol=0.3, atol=0.01)


def test_new_particles_go_where_rows_of_the_data_would():
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(volatility=0.5), THREE, tolerance=1e-9)
    n = 20_000
    row = 150
    start = THREE.samples[1][row].expand(n, 1)
    paths = bridge.continue_from(start, [1.0, 1.5, 2.5], seed=0)[..., 0]
    ends, mass = bridge.samples[2][:, 0], bridge.chain.plans[1].to_dense()[row]
    mass = mass / mass.sum()
    mean = float(mass @ ends)
    deviation = math.sqrt(float(mass @ (ends - mean).square()))
    assert float(paths[:, 2].mean()) == pytest.approx(mean, abs=4 * deviation / math.sqrt(n))
    assert float(paths[:, 2].std()) == pytest.approx(deviation, rel=0.03)


def test_diffusion_and_drawn_paths_have_one_law():
    data = Snapshots([0.0, 1.0, 2.5], [x[::4] for x in THREE.samples])
    bridge, _ = MultiMarginalBridge.solve(OrnsteinUhlenbeck(rate=0.5, mean=2.0, volatility=1.0), data, tolerance=1e-8)
    x0 = bridge.samples[0].repeat(40, 1)
    times = [0.0, 0.5, 1.0, 1.75, 2.5]
    walked = gd.sample(bridge.process, x0, times, solver="euler_maruyama", seed=0).values[..., 0]
    drawn = bridge.continue_from(x0, times, seed=1)[..., 0]
    for k in range(1, 5):
        error = math.sqrt(2 / len(x0)) * float(drawn[:, k].std())
        assert float(walked[:, k].mean() - drawn[:, k].mean()) == pytest.approx(0.0, abs=4 * error + 0.01)
        # Four standard errors of the ratio of two deviations.
        assert float(walked[:, k].std()) == pytest.approx(float(drawn[:, k].std()), rel=4 / math.sqrt(len(x0)))
    assert float(torch.corrcoef(walked[:, 1:].T)[0, 3]) == pytest.approx(
        float(torch.corrcoef(drawn[:, 1:].T)[0, 3]), abs=0.06
    )


def test_the_diffusion_is_the_reference_beyond_the_last_population():
    bridge, _ = MultiMarginalBridge.solve(OrnsteinUhlenbeck(rate=0.5), THREE)
    x = tensor([[1.0], [-2.0]])
    torch.testing.assert_close(bridge.process.drift(tensor(3.0), x), -0.5 * x)
    with pytest.raises(ValueError, match="time -1 lies before the first population, at 0"):
        bridge.process.drift(tensor(-1.0), x)
    each = bridge.process.drift(tensor([[0.5], [1.7]]), x)
    alone = [bridge.process.drift(tensor(t), x[k : k + 1]) for k, t in enumerate((0.5, 1.7))]
    torch.testing.assert_close(each, torch.cat(alone))


def test_forecast_has_the_moments_of_the_reference():
    process = OrnsteinUhlenbeck(rate=0.5, mean=1.0, volatility=0.6)
    bridge, _ = MultiMarginalBridge.solve(process, THREE)
    for start, k in (("last", 2), ("first", 0)):
        paths = bridge.forecast([3.5, 4.5], 20_000, start=start, seed=0)
        assert paths.times.tolist() == [3.5, 4.5]
        linear, gap = process.linear, 4.5 - float(THREE.times[k])
        values = paths.values[:, 1, 0]
        assert float(values.mean()) == pytest.approx(float(linear.mean(gap, THREE.samples[k]).mean()), abs=0.02)
        spread = float(linear.transition(gap).matrix) ** 2 * float(THREE.samples[k].var(correction=0))
        assert float(values.var()) == pytest.approx(spread + float(linear.covariance(gap)), rel=0.05)
    lotka, _ = MultiMarginalBridge.solve(gd.systems.LotkaVolterra(), predators())
    assert lotka.forecast([2.5], 10).values.shape == (10, 1, 2)
    with pytest.raises(ValueError, match=r"a forecast needs times after 2.5, where it starts; got \[2.0\]"):
        bridge.forecast([2.0], 10)
    with pytest.raises(ValueError, match="start must be 'last' or 'first'; got 'middle'"):
        bridge.forecast([3.0], 10, start="middle")


def test_weights_count():
    data = Snapshots([0.0, 1.0], [[[0.0], [10.0]], [[0.0], [10.0]]], [[3.0, 1.0], [0.25, 0.0]])
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(volatility=5.0), data)
    assert (bridge.interpolate(0.0, 8)[:, 0] == 10.0).sum() == 2
    assert (bridge.interpolate(1.0, 8) == 0.0).all()
    assert (bridge.continue_from(tensor([[10.0]]), [0.0, 1.0])[:, 1] == 0.0).all()


def test_one_point_and_doubled_rows_are_fine():
    data = Snapshots([0.0, 1.0, 2.0], [[[0.0]], [[1.0], [1.0], [2.0]], [[3.0]]])
    bridge, solved = MultiMarginalBridge.solve(BrownianMotion(), data)
    assert all(result.converged for result in solved)
    torch.testing.assert_close(bridge.chain.plans[0].to_dense(), torch.full((1, 3), 1 / 3, dtype=DOUBLE))
    middle = bridge.interpolate(0.5, 30_000)
    assert float(middle.mean()) == pytest.approx(2 / 3, abs=0.02)
    assert float(middle.var()) == pytest.approx(0.25 + 0.25 * 2 / 9, rel=0.03)


def test_times_are_checked():
    bridge, _ = MultiMarginalBridge.solve(BrownianMotion(), THREE)
    with pytest.raises(ValueError, match=r"time 3 lies outside the observed times, from 0 to 2.5.*use forecast"):
        bridge.interpolate(3.0, 5)
    with pytest.raises(ValueError, match="must increase strictly; got 0.5 after 0.5 at position 1"):
        bridge.sample_paths([0.5, 0.5], 5)
    with pytest.raises(ValueError, match="at least one time; got none"):
        bridge.sample_paths([], 5)
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        bridge.interpolate(0.5, 0)
    with pytest.raises(ValueError, match=r"states must have shape \(n, 1\); got \(2, 3\)"):
        bridge.continue_from(torch.zeros(2, 3), [0.0, 1.0])


def test_small_sigma_is_warned_of():
    generator = torch.Generator().manual_seed(0)
    data = Snapshots(
        [0.0, 2.0], [torch.randn(30, 1, generator=generator), 50 + torch.randn(30, 1, generator=generator)]
    )
    with pytest.warns(UserWarning, match=r"coupling between times 0 and 2 misses its populations by .*raise sigma"):
        _, solved = MultiMarginalBridge.solve(BrownianMotion(volatility=0.01), data, max_iterations=3)
    assert not solved[0].converged


def test_large_costs_are_solved():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(80, 2, generator=generator) + shift for shift in (0.0, 4.0))
    bridge, solved = MultiMarginalBridge.solve(BrownianMotion(volatility=0.1, dim=2), Snapshots([0.0, 2.0], [x, y]))
    assert solved[0].converged
    assert float(bridge.kl) > 500
    a, b = bridge.chain.plans[0].marginals
    assert float((a - 1 / 80).abs().sum()) < 1e-5
    assert float((b - 1 / 80).abs().sum()) < 1e-5


def test_chunks_do_not_show(monkeypatch):
    bridge, _ = MultiMarginalBridge.solve(gd.systems.LotkaVolterra(), predators(20))
    whole = bridge.sample_paths([0.2, 0.9, 1.3], 50, seed=0), bridge.continue_from(predators().samples[0], [0.0, 1.5])
    monkeypatch.setattr("gendyn.bridges.glued_paths._ENTRIES", 80)
    parts = bridge.sample_paths([0.2, 0.9, 1.3], 50, seed=0), bridge.continue_from(predators().samples[0], [0.0, 1.5])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def one_interval(reference, dim):
    """A bridge whose reference alone is of interest, with populations a time unit apart."""
    x = torch.ones(4, dim, dtype=DOUBLE)
    return MultiMarginalBridge(reference, Snapshots([0.0, 1.0], [x, x]), ())


RING = LinearProcess([[-0.5, -4.0], [4.0, -0.5]], [1.0, -2.0], [[0.3, 0.0], [0.0, 0.3]])


@pytest.mark.parametrize("kind", ["additive", "diagonal"])
def test_a_simulated_reference_has_the_moments_of_its_closed_form(kind):
    def diffusion(t, x):
        return 0.3 * torch.eye(2, dtype=x.dtype) if kind == "additive" else torch.full_like(x, 0.3)

    plain = SDE(RING.drift, diffusion, dim=2, noise_type=kind)
    start, times = torch.tensor([[2.0, 0.0]], dtype=DOUBLE), [0.0, 3.0, 6.0]
    paths = one_interval(plain, 2).run_reference(start.expand(20_000, -1), times, None, 3)
    for k, t in enumerate(times[1:]):
        law = transition_law(RING, start, 0.0, tensor([t]))
        mean, covariance = law.means[0, 0], law.covariances[0, 0]
        x = paths.values[:, k]
        error = covariance.diagonal().sqrt() / math.sqrt(len(x))
        assert ((x.mean(0) - mean).abs() < 4 * error).all()
        torch.testing.assert_close(
            torch.cov(x.T), covariance, rtol=0.04, atol=0.04 * float(covariance.diagonal().max())
        )


@pytest.mark.parametrize("system", [gd.systems.Repressilator(), gd.systems.LotkaVolterra()])
def test_a_simulated_oscillator_keeps_its_phase(system):
    quiet = type(system)(volatility=1e-4)
    learnable = SDE(quiet.drift, quiet.diffusion, dim=quiet.dim)  # names no step of its own
    x0 = quiet.initial(4, dtype=DOUBLE)
    exact = gd.sample(ODE(quiet.drift, dim=quiet.dim), x0, [0.0, 10.0], rtol=1e-10, atol=1e-10).values[:, -1]
    for reference in (learnable, quiet):
        found = one_interval(reference, quiet.dim).run_reference(x0, [0.0, 10.0], None, 0).values[:, -1]
        assert float((found - exact).norm(dim=1).max()) < 0.01  # Euler steps of 0.01 are off by 0.9 and 0.08


def test_half_the_step_changes_a_simulated_reference_by_less_than_its_sampling_error():
    ring = gd.systems.Repressilator()
    bridge, x0 = one_interval(ring, 3), ring.initial(1000, dtype=DOUBLE)
    whole, half = (
        bridge.run_reference(x0, [0.0, 10.0], step, seed).values[:, -1] for seed, step in ((0, None), (1, 0.005))
    )
    spread = half.std(0)
    assert ((whole.mean(0) - half.mean(0)).abs() < 4 * spread * math.sqrt(2 / 1000)).all()
    assert ((whole.std(0) / spread).log().abs() < 4 * math.sqrt(1 / 1000)).all()


def test_steps_follow_a_fast_reference():
    slow, fast = (gd.systems.Repressilator(decay=rate) for rate in (1.0, 50.0))
    x = torch.full((1, 3), 9.0, dtype=DOUBLE)
    steps = [resolving_step(system, tensor([0.0, 1.0]), [x, x]) for system in (slow, fast)]
    assert steps[0] == 0.01
    assert 50 * steps[1] == pytest.approx(0.1, rel=0.05)
