"""The interpolant of least action against the Schroedinger bridge between Gaussians, which is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gendyn import OptimalInterpolant, Snapshots
from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.gamma import Brownian
from gendyn.interpolants.schedule import Linear

ONE, TWO = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)


def value(a: float, epsilon: float) -> float:
    """Return minus half the mean square of the forward drift, by quadrature in time and space."""
    exact = GaussianMixtureInterpolant(ONE, TWO, Linear(Brownian(a)))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    points, masses = np.polynomial.hermite_e.hermegauss(3)  # the square of a linear drift
    t = torch.from_numpy((nodes + 1) / 2)
    c = exact.schedule.at(t)
    spread = (0.25 * c.alpha**2 + c.beta**2 + c.gamma**2).sqrt()
    x = (-c.alpha + 2 * c.beta)[:, None] + spread[:, None] * torch.from_numpy(points)
    found = exact.fields(t.repeat_interleave(3)[:, None], x.reshape(-1, 1))
    drift = (found.velocity + epsilon * found.score).reshape(60, 3)
    law = np.outer(weights / 2, masses / masses.sum())
    return float(-0.5 * (torch.from_numpy(law) * drift.square()).sum())


@pytest.mark.parametrize(
    ("epsilon", "best", "at_best", "others"),
    [
        (0.0, 1.0, -4.625, {0.5: -4.648275, 2.0: -4.695260}),
        (0.5, 1.41421356, -4.51200642, {0.5: -4.604001, 2.0: -4.538772}),
        (2.0, 4.12310563, -5.86657792, {}),
    ],
)
def test_the_greatest_value_is_at_the_amplitude_of_the_bridge(epsilon, best, at_best, others) -> None:
    assert math.sqrt(4 * 0.25 * 1.0 + 4 * epsilon**2) == pytest.approx(best, abs=6e-9)
    assert value(best, epsilon) == pytest.approx(at_best, abs=2e-7)
    assert value(best * 1.01, epsilon) < value(best, epsilon) > value(best * 0.99, epsilon)
    for a, lower in others.items():
        assert value(a, epsilon) == pytest.approx(lower, abs=2e-6)


def line(n: int = 800, seed: int = 0) -> Snapshots:
    """Return quantiles of both laws in random order: no error of sampling in the moments."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()[:, None]
    first, second = (z[torch.randperm(n, generator=generator)] for _ in range(2))
    return Snapshots([0.0, 1.0], [-1 + 0.5 * first, 2 + second])


FAST = {"scale": "none", "steps": 1500, "hidden": (48, 48), "batch_size": 512, "lr": 5e-3}


@pytest.mark.parametrize(("epsilon", "best", "action"), [(0.0, 1.0, 4.625), (0.5, 1.41421356, 4.51200642)])
def test_the_amplitude_of_the_bridge_is_found(epsilon: float, best: float, action: float) -> None:
    model = OptimalInterpolant(epsilon, bend=False, **FAST).fit(line(), progress=False)
    assert float(model.amplitude_[0]) == pytest.approx(best, rel=0.05)
    assert model.action_ == pytest.approx(action, rel=0.01)
    start = line(2000, seed=1).samples[0]
    made = model.sample(start, [0.0, 0.5, 1.0], seed=2, step=0.005).values[..., 0]
    assert made.mean(0).tolist() == pytest.approx([-1.0, 0.5, 2.0], abs=0.1)
    assert made.var(0).tolist() == pytest.approx([0.25, 0.3125 + 0.25 * best, 1.0], rel=0.1)
    flow = model.sample(start, [0.0, 1.0], epsilon=0.0).values[:, -1, 0]
    assert float(flow.var()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("steps", [1500, pytest.param(4000, marks=pytest.mark.slow)])
def test_bent_paths_reach_the_bridge_that_straight_ones_cannot(steps: int) -> None:
    """A wide and a narrow axis want amplitudes of their own, which one number cannot be."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 1500, 2, generator=generator)
    z = (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)
    spread = torch.tensor([1.0, 0.3])
    data = Snapshots([0.0, 1.0], [z[0] * spread, z[1] * spread + 1.0])
    epsilon = 0.1
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000

    def action(a: float, v: float) -> float:
        law = ((1 - t) ** 2 + t**2) * v + a * t * (1 - t)
        slope = ((2 * t - 1) * v + a * (1 - 2 * t) / 2 - epsilon) / law
        return 0.5 * (1 + float((slope.square() * law).mean()))

    least = sum(action(math.sqrt(4 * v * v + 4 * epsilon**2), v) for v in (1.0, 0.09))
    straight, one = min((action(a, 1.0) + action(a, 0.09), a) for a in np.linspace(0.1, 2.5, 97))
    assert straight > 1.1 * least
    model = OptimalInterpolant(epsilon, **{**FAST, "steps": steps}).fit(data, progress=False)
    assert model.action_ == pytest.approx(least, rel=0.03)
    if steps < 4000:
        return
    made = model.sample(data.samples[0], [0.0, 0.5, 1.0], seed=1, step=0.0025).values
    for k, v in enumerate((1.0, 0.09)):
        middle = 0.5 * v + 0.25 * math.sqrt(4 * v * v + 4 * epsilon**2)
        far = abs(0.5 * v + 0.25 * one - middle)
        assert float(made[:, 1, k].var()) == pytest.approx(middle, abs=0.5 * far)
        assert float(made[:, 2, k].var()) == pytest.approx(v, rel=0.2)


def test_many_times_and_saved() -> None:
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    data = Snapshots([0.0, 1.0, 4.0], [x, 0.5 * x + 1, x - 1])
    model = OptimalInterpolant(0.3, steps=60, hidden=(16,)).fit(data, progress=False)
    assert model.amplitude_.shape == (2,)
    back = model.sample(data.samples[2], [4.0, 0.0], seed=1)
    assert back.times.tolist() == [4.0, 0.0]
    assert torch.isfinite(back.values).all()
    density = model.log_prob(x, base=torch.distributions.Normal(torch.zeros(2), torch.ones(2)))
    assert torch.isfinite(density).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": -1.0}, "epsilon must be zero or positive; got -1"),
        ({"coupling": "spline-ot"}, "coupling must be one of"),
        ({"field_steps": 0}, "field_steps must be at least 1; got 0"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_sentences(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        OptimalInterpolant(**options).fit(line(20), progress=False)
    model = OptimalInterpolant(steps=2, hidden=(4,)).fit(line(20), progress=False)
    with pytest.raises(ValueError, match="that of a one-sided schedule"):
        model.sample(n=2, epsilon="path-optimal")
