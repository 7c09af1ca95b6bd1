"""Barycentric interpolants of Gaussians: means, scores, costs and shortest paths in closed form."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants import SimplexPath
from gendyn.interpolants.barycentric_flow import BarycentricNetwork
from gendyn.interpolants.barycentric_objective import _coordinates
from gendyn.interpolants.simplex_path import CornerPath

SMALL = {"hidden": (64, 64), "steps": 2000, "batch_size": 512, "scale": "none"}


def gaussian(n: int, mean: float, variance: float, seed: int, dim: int = 1) -> torch.Tensor:
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    x = (x - x.mean(0)) / x.std(0, correction=0)
    return mean + math.sqrt(variance) * x


class GaussianMeans(torch.nn.Module):
    """Conditional means of independent Gaussians on a line."""

    def __init__(self, means: list[float], variances: list[float]) -> None:
        super().__init__()
        self.m, self.v = torch.tensor(means), torch.tensor(variances)

    def forward(self, a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        total = (a.square() * self.v).sum(1, keepdim=True)
        return (self.m + a * self.v / total * (x - (a * self.m).sum(1, keepdim=True)))[:, :, None]


def populations(means: list[float], variances: list[float], n: int = 3000) -> Snapshots:
    samples = [gaussian(n, m, v, seed=k) for k, (m, v) in enumerate(zip(means, variances, strict=True))]
    return Snapshots([float(k) for k in range(len(means))], samples)


def exact(means: list[float], variances: list[float]) -> gendyn.BarycentricInterpolant:
    """Return a model whose network is the truth, and whose tuples are fresh draws."""
    data = populations(means, variances, 300)
    model = gendyn.BarycentricInterpolant(**(SMALL | {"steps": 1})).fit(data, progress=False)
    model.process_.network = GaussianMeans(means, variances)
    z = torch.randn(4000, len(means), 1, generator=torch.Generator().manual_seed(9))
    model.tuples_ = torch.tensor(means)[:, None] + torch.tensor(variances).sqrt()[:, None] * z
    return model


def test_means_and_score_of_three_gaussians() -> None:
    """N(0, 1), N(3, 1/4) and N(-1, 2) at a = (.2, .5, .3), x = 1: C = .2825."""
    truth = GaussianMeans([0.0, 3.0, -1.0], [1.0, 0.25, 2.0])
    a, x = torch.tensor([[0.2, 0.5, 0.3]]), torch.ones(1, 1)
    expected = torch.tensor([-0.14159292, 2.91150442, -1.42477876])
    assert torch.allclose(truth(a, x)[0, :, 0], expected, atol=1e-6)
    model = gendyn.BarycentricInterpolant(**SMALL).fit(populations([0.0, 3.0, -1.0], [1.0, 0.25, 2.0]), progress=False)
    learned = model.process_.network(a, x)[0, :, 0]
    assert (learned - expected).abs().max() < 0.15
    assert float(learned @ a[0]) == pytest.approx(1.0, abs=1e-5)
    z = _coordinates(2000, 3, torch.Generator().manual_seed(1)).float()
    points = model.tuples_[:2000]
    at = torch.bmm(z[:, None], points)[:, 0]
    error = (model.process_.network(z, at) - truth(z, at)).square().sum((1, 2)).mean()
    assert error < 0.02 * truth(z, at).square().sum((1, 2)).mean()
    places = torch.linspace(0.7, 1.7, 5)[:, None]
    # The formula divides the error of a mean by a_k v_k, which is largest for the third population.
    score = model.log_density_gradient(a[0], places, gaussian=2)
    assert (score + (places - 1.2) / 0.2825).abs().max() < 0.5
    for k in range(3):
        exactly = exact([0.0, 3.0, -1.0], [1.0, 0.25, 2.0]).log_density_gradient(a[0], places, gaussian=k)
        assert (exactly + (places - 1.2) / 0.2825).abs().max() < 1e-3, k


def test_units_of_the_score() -> None:
    data = populations([0.0, 3.0], [1.0, 4.0])
    stretched = Snapshots([0.0, 1.0], [10 * x + 5 for x in data.samples])
    options = SMALL | {"scale": "global", "steps": 50}
    scores = [
        gendyn.BarycentricInterpolant(**options).fit(d, progress=False).log_density_gradient([0.5, 0.5], x, gaussian=0)
        for d, x in ((data, torch.ones(1, 1)), (stretched, torch.full((1, 1), 15.0)))
    ]
    assert float(scores[1]) == pytest.approx(float(scores[0]) / 10, rel=1e-3)


def test_the_process_visits_every_population() -> None:
    means, variances = [0.0, 3.0, -1.0], [1.0, 0.25, 2.0]
    data = populations(means, variances)
    model = gendyn.BarycentricInterpolant("ot", **SMALL).fit(data, progress=False)
    paths = model.sample(data.only([0.0]), [0.0, 0.5, 1.0, 2.0]).values[..., 0]
    # Along a line optimal plans join equal quantiles, so that deviations are averaged; half-way the pace is at p = 5/8.
    for k, (mean, deviation) in ((0, (0.0, 1.0)), (1, (1.875, 0.6875)), (2, (3.0, 0.5)), (3, (-1.0, math.sqrt(2)))):
        assert float(paths[:, k].mean()) == pytest.approx(mean, abs=0.05)
        assert float(paths[:, k].std()) == pytest.approx(deviation, rel=0.05)
    back = gendyn.sample(model.along(SimplexPath(3, 2, 0, torch.zeros(3, 1))), data.samples[2], [0.0, 1.0])
    assert float(back.values[:, -1].mean()) == pytest.approx(0.0, abs=0.05)
    assert float(back.values[:, -1].std()) == pytest.approx(1.0, rel=0.05)


class ReflectedMeans(torch.nn.Module):
    """Conditional means where the second population is minus the first, and the third independent; all N(0, 1)."""

    def forward(self, a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        q = a[:, 0] - a[:, 1]
        first = torch.stack([q, -q, a[:, 2]], dim=1)
        return (first / (q.square() + a[:, 2].square())[:, None] * x)[:, :, None]


def reflected(n: int = 3000) -> Snapshots:
    x, other = gaussian(n, 0.0, 1.0, seed=1), gaussian(n, 0.0, 1.0, seed=2)
    return Snapshots([0.0, 1.0, 2.0], [x, -x, other])


@pytest.mark.parametrize("learned", [False, True])
def test_a_third_population_shortens_the_way(learned: bool) -> None:
    """On a line the cost is the mean square change of the deviation s, with s^2 = (a_0 - a_1)^2 + a_2^2.

    Along the edge s = |1 - 2t| and the cost is 4. Every path has to cross the saddle s^2 = 1/2 twice, at least as one
    long stay, so that none costs less than (2 - sqrt 2)^2 = 0.343.
    """
    model = gendyn.BarycentricInterpolant("paired", **SMALL)
    model = (model if learned else model.set_params(steps=1)).fit(reflected(), progress=False)
    if not learned:
        model.process_.network = ReflectedMeans()
    edge = SimplexPath(3, 0, 1, torch.zeros(3, 1))
    if not learned:
        assert model.path_cost(edge) == pytest.approx(4.0, rel=0.05)
    path = model.optimise_path(0, 1, seed=1)
    cost = model.path_cost(path, times=200)
    assert (2 - math.sqrt(2)) ** 2 * 0.9 < cost < model.path_cost(edge) / 3
    a, _ = path(torch.linspace(0, 1, 51))
    assert a[0].tolist() == pytest.approx([1, 0, 0], abs=1e-5)
    assert a[-1].tolist() == pytest.approx([0, 1, 0], abs=1e-5)
    assert float(a[25, 2]) > 0.3
    x = gaussian(2000, 0.0, 1.0, seed=3)
    moved = gendyn.sample(model.along(path), x, [0.0, 1.0], solver="rk4", step=0.01).values[:, -1]
    assert float(moved.mean()) == pytest.approx(0.0, abs=0.1)
    assert float(moved.var()) == pytest.approx(1.0, rel=0.15)


def test_the_edge_is_kept_where_nothing_is_shorter() -> None:
    """Of two populations alone, coordinates are one number, and its best pace is that of equal speed."""
    model = exact([0.0, 4.0], [1.0, 1.0])
    edge = SimplexPath(2, 0, 1, torch.zeros(2, 1))
    path = model.optimise_path(0, 1, steps=100)
    assert model.path_cost(edge) == pytest.approx(16 + 2 - math.pi / 2, rel=0.02)
    assert 16.0 < model.path_cost(path) <= model.path_cost(edge)


@pytest.mark.parametrize("modes", [1, 5])
def test_paths_stay_on_the_simplex_and_know_their_slope(modes: int) -> None:
    c = torch.randn(4, modes, generator=torch.Generator().manual_seed(modes), dtype=torch.float64)
    path = SimplexPath(4, 3, 1, c).requires_grad_(False)
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    a, rate = path(t)
    assert (a >= 0).all()
    assert torch.allclose(a.sum(1), torch.ones(41, dtype=torch.float64))
    assert a[0].tolist() == pytest.approx([0, 0, 0, 1])
    assert a[-1].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-12)
    _, slope = torch.func.jvp(lambda s: path(s)[0], (t,), (torch.ones_like(t),))
    assert torch.allclose(rate, slope)


@pytest.mark.parametrize("times", [[0.0, 2.0], [0.0, 1.0, 4.0], [-1.0, 0.0, 0.5, 3.0]])
def test_the_path_through_all_corners(times: list[float]) -> None:
    path = CornerPath(torch.tensor(times, dtype=torch.float64))
    at = path(path.knots)[0]
    assert torch.allclose(at, torch.eye(len(times), dtype=torch.float64), atol=1e-12)
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    a, rate = path(t)
    assert (a >= -1e-12).all()
    assert torch.allclose(a.sum(1), torch.ones(401, dtype=torch.float64))
    _, slope = torch.func.jvp(lambda s: path(s)[0], (t,), (torch.ones_like(t),))
    assert torch.allclose(rate, slope)
    assert torch.allclose(path(path.knots[1:-1])[1], torch.zeros(len(times) - 2, len(times), dtype=torch.float64))
    if len(times) == 2:
        assert torch.allclose(a[:, 1], t)


def test_means_always_fit_together() -> None:
    network = BarycentricNetwork(3, 2, (8,), seed=1)
    a = _coordinates(50, 3, torch.Generator().manual_seed(0)).float()
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose((a[:, :, None] * network(a, x)).sum(1), x, atol=1e-5)
    corner = torch.eye(3)[[2]].expand(50, -1)
    assert torch.allclose(network(corner, x)[:, 2], x, atol=1e-6)


def test_coordinates_are_uniform_and_half_of_them_lie_on_edges() -> None:
    a = _coordinates(40_000, 3, torch.Generator().manual_seed(2))
    assert torch.allclose(a.sum(1), torch.ones(40_000, dtype=torch.float64))
    on_edges = (a == 0).sum(1)
    assert (on_edges[:20_000] == 1).all()
    assert (on_edges[20_000:] == 0).all()
    inner, edges = a[20_000:], a[:20_000]
    # Dirichlet(1, 1, 1): means 1/3 and variances 1/18; on an edge, uniform on (0, 1).
    assert torch.allclose(inner.mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.005)
    assert torch.allclose(inner.var(0), torch.full((3,), 1 / 18, dtype=torch.float64), atol=0.002)
    assert float(edges[edges > 0].var()) == pytest.approx(1 / 12, abs=0.003)


def test_sentences() -> None:
    data = populations([0.0, 1.0, 2.0], [1.0, 1.0, 1.0], 20)
    small = {"steps": 1, "hidden": (4,)}
    with pytest.raises(ValueError, match="coupling must be one of"):
        gendyn.BarycentricInterpolant("magic").fit(data, progress=False)
    model = gendyn.BarycentricInterpolant(**small).fit(data, progress=False)
    x = data.samples[0]
    for call, words in (
        (lambda: model.along(lambda t: (t[:, None], t[:, None])), r"a path must return two tensors \(B, 3\)"),
        (lambda: model.along(lambda t: (t[:, None].expand(-1, 3), torch.ones(len(t), 3))), "stay on the simplex"),
        (lambda: model.optimise_path(0, 0), "start and end must be two of the 3 corners; got 0 and 0"),
        (lambda: model.optimise_path(0, 1, modes=0), "modes must be at least 1"),
        (lambda: model.log_density_gradient([0.0, 0.5, 0.5], x, gaussian=0), "3 coordinates are needed"),
        (lambda: SimplexPath(3, 0, 1, torch.zeros(2, 1)), r"coefficients must have shape \(3, M\)"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    coupled = gendyn.BarycentricInterpolant("ot", **small).fit(data, progress=False)
    with pytest.raises(ValueError, match="the formula needs independent populations; this model was coupled by 'ot'"):
        coupled.log_density_gradient([0.2, 0.4, 0.4], x, gaussian=0)
