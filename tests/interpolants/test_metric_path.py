"""Metrics against brute force, metric paths against geodesics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from gendyn.data import Snapshots
from gendyn.interpolants import FlowMatching, preset
from gendyn.interpolants.bent_path import BentPath
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.interpolants.data_metric import Land, RadialBasis, get_metric
from gendyn.interpolants.growing_paths import GrowingPaths
from gendyn.interpolants.metric_objective import MetricObjective
from gendyn.nn import VelocityNetwork
from gendyn.training import fit


def test_the_land_metric_is_its_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    data, x = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (40, 7))
    found = Land(kappa=0.8, rho=0.02, power=1.5).fit(data)(x)
    apart = x[:, None] - data
    weights = torch.exp(-apart.square().sum(-1) / (2 * 0.8**2))
    truth = (0.02 + (weights[..., None] * apart.square()).sum(1)) ** -1.5
    torch.testing.assert_close(found, truth)


def test_bumps_are_one_at_the_data_and_nothing_far_from_it() -> None:
    data = torch.randn(400, 10, generator=torch.Generator().manual_seed(0))
    metric = RadialBasis(kappa=1.5, rho=0.01, power=1.0, clusters=30).fit(data, seed=1)
    h = 1 / metric(data)[:, 0] - 0.01
    assert float(h.mean()) == pytest.approx(1.0, abs=0.05)
    assert float((h - 1).square().mean().sqrt()) < 0.2
    assert float((1 / metric(data + 10)[:, 0] - 0.01).max()) < 1e-6
    again = RadialBasis(kappa=1.5, rho=0.01, power=1.0, clusters=30).fit(data, seed=1)
    assert torch.equal(metric(data), again(data))
    few = RadialBasis(clusters=50).fit(data[:3])(data[:3])
    assert torch.isfinite(few).all()


@pytest.mark.parametrize("metric", [Land(1.0, "median", 2.0), RadialBasis(1.5, "median", 2.0, clusters=20)])
def test_a_median_for_rho_bounds_how_dear_a_place_is(metric) -> None:
    """At the median of h the weight is (2 rho)^-p, far away rho^-p."""
    data = torch.randn(301, 3, generator=torch.Generator().manual_seed(4))
    found = metric.fit(data, seed=0)
    # An odd number of entries: each feature's weights are in the order of its h.
    at_data = found(data)
    far = found(torch.full((1, 3), 1e3))
    middle = float(at_data.median())
    assert float(far[0, 0]) == pytest.approx(4 * middle, rel=1e-6)
    with pytest.raises(ValueError, match="'median'"):
        Land(1.0, "mean", 1.0)


@pytest.mark.parametrize("base", ["linear", "cubic"])
@pytest.mark.parametrize("times", [(0.0, 1.0), (0.0, 0.3, 1.0)])
def test_the_velocity_of_a_metric_path_is_its_derivative(times, base) -> None:
    network = VelocityNetwork(2, hidden=(16,), condition_dim=2, seed=3).double()
    path = BentPath(torch.tensor(times), 0.1, network, base=base)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(20, len(times), 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.02, 0.98, 20, dtype=torch.float64)
    h = 1e-6
    ahead, behind = (path(t + s, points, noise)[0] for s in (h, -h))
    torch.testing.assert_close(path(t, points, noise)[1], (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(path(t, points, noise)[1], (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-7)
    for k, s in enumerate(times):
        at, _ = path(torch.full((20,), s, dtype=torch.float64), points, 0 * noise)
        torch.testing.assert_close(at, points[:, k])


def test_a_bend_that_is_nothing_leaves_the_spline() -> None:
    knots = torch.tensor([0.0, 0.4, 0.7, 1.0], dtype=torch.float64)
    points = torch.randn(30, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.linspace(0.01, 0.99, 30, dtype=torch.float64)
    path = BentPath(knots, 0.0, lambda s, before, after: 0 * before, base="cubic")
    curve = CubicSpline(knots.numpy(), points.numpy(), axis=1, bc_type="natural")
    x, u = path(t, points, 0 * points[:, 0])
    truth, rate = (np.stack([curve(float(v), d)[k] for k, v in enumerate(t)]) for d in (0, 1))
    torch.testing.assert_close(x, torch.from_numpy(truth))
    torch.testing.assert_close(u, torch.from_numpy(rate))


def test_the_least_energy_is_the_squared_length_of_the_geodesic() -> None:
    """On a line the geodesic is known: it runs with speed in proportion to one over the root of the metric."""
    first, last = -1.0, 1.2
    metric = RadialBasis(kappa=1.0, rho=0.1, power=1.0, clusters=1).fit(torch.linspace(-0.6, 0.6, 50)[:, None])
    x = np.linspace(first, last, 20_001)
    cost = metric(torch.from_numpy(x)[:, None])[:, 0].numpy()
    shortest = np.trapezoid(np.sqrt(cost), x) ** 2
    straight = np.trapezoid(cost, x) * (last - first)
    path = BentPath(torch.tensor([0.0, 1.0]), 0.0, VelocityNetwork(1, hidden=(32, 32), condition_dim=1, seed=0))
    ends = Snapshots([0.0, 1.0], [torch.full((2, 1), first), torch.full((2, 1), last)])
    pair = CoupledPaths(ends, torch.zeros(2, 2, dtype=torch.int64))
    objective = MetricObjective(path, [metric], pair, batch_size=256)
    fit(objective, steps=1000, lr=5e-3, progress=False)
    objective.batch_size = 4000
    reached = objective.loss(0, torch.Generator().manual_seed(1)).item()
    assert straight > 1.15 * shortest
    assert reached == pytest.approx(shortest, rel=0.01)


def arc(n: int, low: float, high: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    angle = math.pi * (low + (high - low) * torch.rand(n, generator=generator))
    radius = 1 + 0.03 * torch.randn(n, generator=generator)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.mark.parametrize(
    "metric", [pytest.param(("land", 0.125, 0.001, 1.0), marks=pytest.mark.slow), ("rbf", 1.5, 0.01, 1.0, 15)]
)
def test_a_metric_path_follows_the_data(metric) -> None:
    """Cells move along a half ring; straight paths cut through its inside."""
    data = Snapshots([0.0, 1.0], [arc(400, 0.0, 0.6, 1), arc(400, 0.4, 1.0, 2)])
    off = {}
    for path in ("linear", "metric"):
        options = {"path": path, "metric": metric, "steps": 600, "hidden": (48, 48), "batch_size": 256, "sigma": 0.02}
        model = FlowMatching("ot", scale="none", lr=5e-3, **options).fit(data, progress=False)
        middle = model.sample(data.samples[0], [0.0, 0.5]).values[:, -1]
        off[path] = float((middle.norm(dim=1) - 1).abs().mean())
    end = model.sample(data.samples[0], [0.0, 1.0]).values[:, -1]
    assert float((end.norm(dim=1) - 1).abs().mean()) < 0.08
    assert off["metric"] < 0.4 * off["linear"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: get_metric("flat"), "there is no metric 'flat'; there are land, rbf"),
        (lambda: get_metric(("land", 1.0, 1.0, 1.0, 1.0)), "has the parameters kappa, rho, power; got 4"),
        (lambda: Land(kappa=0.0), "kappa of a metric must be positive; got 0"),
        (lambda: Land(rho=-1.0), "rho of a metric must be positive"),
        (lambda: RadialBasis(clusters=0), "clusters of a metric must be at least 1"),
        (lambda: preset("metric", reflow=1).fit(pair()), "reflow makes paths straight"),
        (lambda: preset("metric", metric="flat").fit(pair()), "there is no metric 'flat'"),
    ],
)
def test_sentences(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def pair() -> Snapshots:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    return Snapshots([0.0, 1.0], [x, x + 1])


def test_a_metric_whose_reach_is_too_short_is_warned_about() -> None:
    x = torch.randn(100, 50, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match=r"most points have no other within kappa=0.125 .*or use the metric 'rbf'"):
        Land().fit(x)


def test_bends_are_learned_where_the_mass_is() -> None:
    """One tuple of length 1 grows nine times, one of length 2 does not: means are over their masses 9^s and 1."""
    data = Snapshots([0.0, 1.0], [torch.zeros(2, 1), torch.tensor([[1.0], [2.0]])])
    table = torch.tensor([[[0, 0], [1, 1]]])
    paths = GrowingPaths(data, table, torch.tensor([[math.log(9.0), 0.0]]))
    straight = BentPath(torch.tensor([0.0, 1.0]).double(), 0.0, VelocityNetwork(1, (4,), condition_dim=1, seed=0))
    torch.nn.init.zeros_(list(straight.network.parameters())[-1])
    torch.nn.init.zeros_(list(straight.network.parameters())[-2])
    objective = MetricObjective(straight, [torch.ones_like], paths, batch_size=200_000)
    found = objective.loss(0, torch.Generator().manual_seed(0)).item()
    grown = 8 / math.log(9.0)
    assert found == pytest.approx((grown + 4) / (grown + 1), rel=0.01)


@pytest.mark.parametrize("base", ["linear", "cubic"])
def test_a_flat_metric_bends_neither_lines_nor_splines(base) -> None:
    """Both are then where the loss has no slope, and a spline is what it was without a metric."""
    knots = torch.tensor([0.0, 0.4, 1.0]).double()
    network = VelocityNetwork(1, (4,), condition_dim=1, seed=0).double()
    last = list(network.parameters())[-2:]
    for parameter in last:
        torch.nn.init.zeros_(parameter)
    path = BentPath(knots, 0.0, network, base=base)
    points = torch.tensor([0.0, 1.0, -1.0]).double().reshape(3, 1, 1)
    data = Snapshots(knots.tolist(), list(points))
    tuples = CoupledPaths(data, torch.zeros(1, 3, dtype=torch.int64))
    flat = MetricObjective(path, [torch.ones_like, torch.ones_like], tuples, batch_size=20_000)
    loss = flat.loss(0, torch.Generator().manual_seed(0))
    slope = torch.autograd.grad(loss, last)
    assert max(float(g.abs().max()) for g in slope) < 5e-3
    steep = MetricObjective(path, [torch.exp, torch.exp], tuples, batch_size=20_000)
    tilted = torch.autograd.grad(steep.loss(0, torch.Generator().manual_seed(0)), last)
    assert max(float(g.abs().max()) for g in tilted) > 0.05
