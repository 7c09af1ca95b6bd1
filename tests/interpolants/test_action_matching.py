"""Potentials of Gaussians that move, diffuse, fade and grow, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants.action_objective import ActionObjective
from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.nn import VelocityNetwork

SMALL = {"hidden": (32, 32), "steps": 500, "batch_size": 256, "lr": 5e-3}


def gaussian(n: int = 500, dim: int = 1, seed: int = 0) -> torch.Tensor:
    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
    return (x - x.mean(0)) / x.std(0)


def fitted(data: Snapshots, sigma: float = 0.0, **options) -> gendyn.ActionMatching:
    return gendyn.ActionMatching(sigma, **(SMALL | options)).fit(data, progress=False)


def test_a_gaussian_that_translates_has_a_linear_potential() -> None:
    x = gaussian(dim=2)
    shift = torch.tensor([3.0, -1.0])
    model = fitted(Snapshots([0.0, 2.0], [x, x + shift]))
    velocities = model.velocity(Snapshots([0.5, 1.0, 1.5], [x + 0.25 * k * shift for k in (1, 2, 3)]))
    error = torch.cat(velocities) - shift / 2
    assert error.square().mean().sqrt() < 0.15
    end = model.sample(x, [0.0, 2.0]).values[:, -1]
    assert ((end - x - shift).mean(0).abs() < 0.15).all()


def test_the_entropic_drift_adds_half_the_squared_diffusion_times_the_score() -> None:
    """In scaled units (unit c = standard deviation of all cells) the drift is the velocity plus sigma^2/2 score."""
    x = gaussian()
    data = Snapshots([0.0, 1.0], [x, x + 2.0])
    model = fitted(data, 1.0, scale="none")
    drift = torch.cat(model.velocity(Snapshots([0.25, 0.5, 0.75], [x + 2 * t for t in (0.25, 0.5, 0.75)])))
    assert (drift - (2.0 - 0.5 * x.repeat(3, 1))).square().mean().sqrt() < 0.2
    end = model.sample(x, [0.0, 1.0], seed=1).values[:, -1]
    assert abs(float(end.mean()) - 2.0) < 0.2
    assert abs(float(end.std()) - 1.0) < 0.15


def test_units_of_the_diffusion() -> None:
    """Rescaled positions and times give the rescaled process: sigma is that of scaled positions and times."""
    x = gaussian()
    data = Snapshots([0.0, 4.0], [x, x])
    model = fitted(data, 0.5, steps=1)
    assert model.process_.diffusion(torch.tensor(0.0), x).item() == pytest.approx(
        0.5 / math.sqrt(4.0) * float(model.process_.scale), rel=1e-5
    )


def test_a_population_that_only_grows_has_a_constant_potential() -> None:
    x = gaussian()
    mass = torch.full((len(x),), 1.0 / len(x))
    data = Snapshots([0.0, 2.0], [x, x], weights=[mass, mass * math.exp(1.5)])
    model = fitted(data, unbalanced=True)
    rates = torch.cat(model.growth(Snapshots([0.5, 1.0, 1.5], [x] * 3)))
    assert (rates - 0.75).square().mean().sqrt() < 0.08
    paths, logs = model.sample_weighted(x, [0.0, 1.0, 2.0])
    assert (logs[:, 0] == 0).all()
    assert abs(float(logs[:, -1].exp().mean()) / math.exp(1.5) - 1) < 0.1
    assert (paths.values[:, -1] - x).square().mean().sqrt() < 0.15


def test_two_far_modes_exchange_weight_by_growth() -> None:
    """Each mode's weight is p(t) and its cells stay: the rate of growth there is the derivative of log p."""
    a, b = gaussian(400, seed=1) * 0.3 - 4, gaussian(400, seed=2) * 0.3 + 4
    data = Snapshots([0.0, 1.0], [torch.cat([a[:300], b[:100]]), torch.cat([a[:100], b[:300]])])
    model = fitted(data, unbalanced=True, interpolation="mixture", coupling="independent", steps=800, scale="none")
    left, right = (model.growth(Snapshots([0.5], [x]))[0].mean().item() for x in (a, b))
    assert left == pytest.approx(-1.0, abs=0.2)
    assert right == pytest.approx(1.0, abs=0.2)
    paths, logs = model.sample_weighted(n=400, seed=3)
    weights = torch.softmax(logs[:, -1], 0)
    assert float(weights[paths.values[:, -1, 0] > 0].sum()) == pytest.approx(0.75, abs=0.06)


class _Parabola(VelocityNetwork):
    """The potential t + |x|^2, whose terms are known: rate 1, slope 2x, Laplacian 2d."""

    def forward(self, t, x, condition=None):
        return (t.reshape(-1, 1) + x.square().sum(1, keepdim=True)).to(x)


@pytest.mark.parametrize("dim", [2, 6])
def test_terms_of_the_action(dim: int) -> None:
    x = gaussian(50, dim).double()
    data = Snapshots([0.0, 1.0], [x, 2 * x])
    objective = ActionObjective(
        _Parabola(dim, hidden=(4,)),
        CardinalSpline([0.0, 1.0], "linear"),
        CoupledPaths(data, torch.arange(50)[:, None].expand(-1, 2)),
        validation=None,
        masses=torch.tensor([1.0, 4.0]),
        mixture=False,
        sigma=1.5,
        unbalanced=True,
        blur=0.0,
        batch_size=8,
    )
    s = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    signs = torch.ones_like(x)
    square = x.square().sum(1)
    expected = 1 + 2 * square + 0.5 * (s[:, 0] + square) ** 2 + 0.5 * 1.5**2 * 2 * dim
    assert torch.allclose(objective._density(s, x, signs), expected)
    assert torch.allclose(objective._mass(s[:, 0]), 4.0 ** s[:, 0])


def test_the_action_of_the_truth_is_the_least() -> None:
    """At its minimum the action is minus half the kinetic energy, here 4/2."""
    x = gaussian(2000)
    model = gendyn.ActionMatching(**SMALL, scale="none").fit(Snapshots([0.0, 1.0], [x, x + 2.0]), progress=False)
    assert float(model.history_["loss"].tail(50).mean()) == pytest.approx(-2.0, abs=0.15)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": -1.0}, "sigma must be zero or positive"),
        ({"blur": -0.1}, "blur must be zero or positive"),
        ({"interpolation": "curve"}, "interpolation must be one of"),
        ({"coupling": "magic"}, "coupling must be one of"),
        ({"activation": "relu"}, "must be smooth"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_sentences_of_fit(options: dict, words: str) -> None:
    x = gaussian(20)
    with pytest.raises(ValueError, match=words):
        gendyn.ActionMatching(**options).fit(Snapshots([0.0, 1.0], [x, x]), progress=False)


def test_sentences_of_use() -> None:
    x = gaussian(20)
    model = fitted(Snapshots([0.0, 1.0], [x, x]), 0.5, steps=2, hidden=(4,))
    for call in (lambda: model.growth(Snapshots([0.0], [x])), lambda: model.sample_weighted(n=3)):
        with pytest.raises(ValueError, match="fit it with unbalanced=True"):
            call()
    with pytest.raises(ValueError, match="decreasing times are for ordinary"):
        model.sample(x, [1.0, 0.0])
