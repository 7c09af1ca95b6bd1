"""Pulls of observations: closed forms, exact posteriors, and the floors of controls that are held over steps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gendyn.sampling.fractional import KernelFit, published_rates
from gendyn.sde.fractional_guide import Guide, guide, steering_roots
from gendyn.sde.fractional_steps import FractionalSteps, fractional_steps

RATES, T, NOISE = published_rates(5, 20.0), 2.0, 0.1
IDEAL = {0.1: 2.6881, 0.3: 2.6156, 0.5: 2.6507, 0.7: 2.7045, 0.9: 2.7488}


def raw_weights(hurst: float, kind: Any = "II") -> Tensor:
    return KernelFit(RATES, 6.0, kind).weights(hurst)[None]


def equal(n: int) -> Tensor:
    return torch.linspace(0, T, n + 1, dtype=torch.float64)


def graded(n: int) -> Tensor:
    return T * (1 - (1 - torch.linspace(0, 1, n + 1, dtype=torch.float64)) ** 3)


def exact_steps(times: Tensor, weights: Tensor, theta: float = 0.0) -> FractionalSteps:
    rate = torch.tensor([theta], dtype=torch.float64)
    return fractional_steps(times.diff()[:, None], RATES, weights, rate, 0 * rate)


def euler_steps(times: Tensor, weights: Tensor) -> FractionalSteps:
    """The steps of the published recipe."""
    h = times.diff()[:, None, None, None, None]
    force = torch.zeros(6, 6, dtype=torch.float64)
    force[0, 1:], force[1:, 1:] = -weights[0] * RATES, -torch.diag(RATES)
    impulse = torch.cat([weights.sum()[None], torch.ones(5).double()])
    matrix = torch.eye(6).double() + h * force
    root = h.sqrt() * impulse[:, None]
    drive = (h * impulse)[..., 0, :]
    return FractionalSteps(times.diff()[:, None], matrix, 0 * drive, root, drive, 0 * drive[..., 0])


def looks(n: int, value: float = 0.0) -> tuple[Tensor, Tensor]:
    weights = torch.zeros(n + 1, 1, 1, dtype=torch.float64)
    weights[-1] = NOISE**-2
    return torch.full((n + 1, 1, 1, 1), value, dtype=torch.float64), weights


def expected_loss(found: Guide, steps: FractionalSteps, start: Tensor, posterior: str, y: float = 0.0) -> float:
    """Return E (y - X_T)^2 / 2 s^2 + KL by the moments of the closed loop, from the covariance of the start."""
    roots = steering_roots(steps, posterior)
    mean = torch.zeros(start.shape[-1]).double()
    cov, total = start, 0.0
    for k in range(len(steps.gaps)):
        pull = [part[k, 0, 0] for part in found.steps]
        s, turn, offset, gain, _ = pull
        turned = roots[k, 0, 0] @ turn
        loop = (gain / (1 + s)).mT
        mu = offset[0] / (1 + s) - loop @ mean
        total += 0.5 * float(mu @ mu + (loop @ cov @ loop.mT).trace())
        if posterior == "guided":
            total += 0.5 * float((torch.log1p(s) - s / (1 + s)).sum())
            noise = turned / (1 + s) @ turned.mT
        else:
            noise = steps.root[k, 0, 0] @ steps.root[k, 0, 0].mT
        phi = steps.matrix[k, 0, 0] - turned @ loop
        mean = phi @ mean + turned @ (offset[0] / (1 + s))
        cov = phi @ cov @ phi.mT + noise
    return total + 0.5 * NOISE**-2 * float(cov[0, 0] + (y - mean[0]) ** 2)


def loss_from_zero(steps: FractionalSteps, posterior: Any, y: float = 0.0) -> float:
    values, weights = looks(len(steps.gaps), y)
    nothing = torch.zeros(1, 6, 6).double()
    found = guide(steps, torch.zeros(1, 6).double(), nothing, values, weights, posterior)
    return expected_loss(found, steps, nothing[0], posterior, y)


def kernel_variance(weights: Tensor, tau: float) -> float:
    sums = RATES[:, None] + RATES
    return float(weights[0] @ (-torch.expm1(-sums * tau) / sums) @ weights[0])


@pytest.mark.parametrize("hurst", IDEAL)
def test_guided_steps_are_ideal_however_long_they_are(hurst: float) -> None:
    weights = raw_weights(hurst)
    ideal = 0.5 * math.log(1 + kernel_variance(weights, T) / NOISE**2)
    assert ideal == pytest.approx(IDEAL[hurst], abs=6e-5)
    for n in (1, 2, 7, 200):
        assert loss_from_zero(exact_steps(equal(n), weights), "guided") == pytest.approx(ideal, abs=1e-8)


@pytest.mark.parametrize("theta", [1.0, 2.0])
@pytest.mark.parametrize("hurst", [0.3, 0.7])
def test_guided_steps_are_ideal_for_a_linear_drift(hurst: float, theta: float) -> None:
    """The evidence is that of X_T, whose variance is that of a single step."""
    weights, y = raw_weights(hurst), 0.6
    variance = float((exact_steps(equal(1), weights, theta).root[0, 0, 0, 0] ** 2).sum())
    ideal = 0.5 * math.log(1 + variance / NOISE**2) + 0.5 * y**2 / (variance + NOISE**2)
    for n in (1, 2, 7, 200):
        assert loss_from_zero(exact_steps(equal(n), weights, theta), "guided", y) == pytest.approx(ideal, abs=1e-8)


@pytest.mark.parametrize(
    ("hurst", "euler", "exact", "clustered"),
    [
        (0.1, (64.1, 17.01, 5.07), (36.8, 14.74, 4.979), 2.803),
        (0.3, (13.11, 4.792, 2.943), (9.889, 4.564, 2.936), 2.674),
        (0.5, (4.082, 2.940, 2.702), (4.070, 2.940, 2.702), 2.693),
        (0.7, (3.114, 2.798, 2.723), (3.136, 2.800, 2.723), 2.750),
        (0.9, (3.025, 2.813, 2.761), (3.030, 2.814, 2.762), 2.801),
    ],
)
def test_the_floors_of_controls_that_are_held(
    hurst: float, euler: tuple[float, ...], exact: tuple[float, ...], clustered: float
) -> None:
    weights = raw_weights(hurst)
    for n, by_euler, by_exact in zip((50, 200, 1000), euler, exact, strict=True):
        assert loss_from_zero(euler_steps(equal(n), weights), "control") == pytest.approx(by_euler, rel=1e-3)
        assert loss_from_zero(exact_steps(equal(n), weights), "control") == pytest.approx(by_exact, rel=1e-3)
    assert loss_from_zero(exact_steps(graded(200), weights), "control") == pytest.approx(clustered, rel=1e-3)


@pytest.mark.parametrize("hurst", [0.1, 0.7])
def test_the_control_of_short_steps_is_the_closed_form(hurst: float) -> None:
    weights, y = raw_weights(hurst), 0.4
    times = graded(4000)
    steps = exact_steps(times, weights)
    values, looked = looks(4000, y)
    found = guide(steps, torch.zeros(1, 6).double(), torch.zeros(1, 6, 6).double(), values, looked, "control")
    state = torch.tensor([0.3, 0.2, -0.1, 0.05, 0.1, 0.02]).double()
    state[0] = weights[0] @ state[1:]
    for k in (0, 1500, 2500):
        left = T - float(times[k])
        fading = torch.exp(-RATES * left)
        right = float(weights[0] @ fading) * (y - float(state[1:] @ (weights[0] * fading)))
        right /= kernel_variance(weights, left) + NOISE**2
        s, _, offset, gain, _ = (part[k, 0, 0] for part in found.steps)
        control = (offset[0] - state @ gain) / (1 + s) / steps.gaps[k, 0].sqrt()
        assert abs(float(control)) == pytest.approx(abs(right), rel=5e-3)


@pytest.mark.parametrize(
    ("hurst", "prior", "learned"), [(0.1, 2.92368, 2.87959), (0.7, 2.64843, 2.64221), (0.9, 2.79173, 2.69505)]
)
def test_what_it_costs_to_take_the_start_from_the_prior(hurst: float, prior: float, learned: float) -> None:
    weights = raw_weights(hurst, "I")
    steps = exact_steps(graded(7), weights)
    values, looked = looks(7)
    root = torch.zeros(1, 6, 6).double()
    root[0, 1:, 1:] = torch.linalg.cholesky(1 / (RATES[:, None] + RATES))
    found = guide(steps, torch.zeros(1, 6).double(), root, values, looked)
    s, turn = found.start.strength[0, 0], found.start.turn[0, 0]
    turned = root[0] @ turn
    divergence = 0.5 * float((torch.log1p(s) - s / (1 + s)).sum())
    best = expected_loss(found, steps, turned / (1 + s) @ turned.mT, "guided") + divergence
    assert best == pytest.approx(learned, abs=1e-5)
    assert expected_loss(found, steps, root[0] @ root[0].mT, "guided") == pytest.approx(prior, abs=1e-5)


def test_several_looks_are_the_posterior_of_the_joint_normal_law() -> None:
    """Against the joint covariance of kind II of the approximation, with a hole."""
    weights = raw_weights(0.3)
    times = torch.tensor([0.0, 0.4, 0.5, 1.3, 2.0], dtype=torch.float64)
    steps = exact_steps(times, weights)
    y, seen = torch.tensor([0.0, 0.5, 9.9, -0.7, 0.2]).double(), torch.tensor([0.0, 1, 0, 1, 1]).double()
    look = (seen / NOISE**2)[:, None, None]
    nothing = torch.zeros(1, 6, 6).double()
    found = guide(steps, torch.zeros(1, 6).double(), nothing, y[:, None, None, None], look)
    mean, means = torch.zeros(6).double(), []
    for k in range(4):
        s, turn, offset, gain, _ = (part[k, 0, 0] for part in found.steps)
        mu = (offset[0] - mean @ gain) / (1 + s)
        mean = steps.matrix[k, 0, 0] @ mean + steps.root[k, 0, 0] @ turn @ mu
        means.append(mean[0])
    sums = RATES[:, None] + RATES
    t = times[1:]
    low = torch.minimum(t[:, None], t)[..., None, None]
    lag = (t[:, None] - t).abs()[..., None]
    forms = -torch.expm1(-sums * low) / sums * torch.exp(-RATES * lag)[..., None, :]
    cov = forms @ weights[0] @ weights[0]
    kept = seen[1:] > 0
    right = cov[:, kept] @ torch.linalg.solve(cov[kept][:, kept] + NOISE**2 * torch.eye(3).double(), y[1:][kept])
    torch.testing.assert_close(torch.stack(means), right, rtol=1e-8, atol=1e-8)
