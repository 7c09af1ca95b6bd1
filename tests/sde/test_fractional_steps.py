"""Exact steps of linear equations with fractional noise: closed forms, composition, slopes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gendyn.sampling.fractional import KernelFit, published_rates, rates_between, variance_constant
from gendyn.sde.fractional_steps import fractional_steps

RATES = published_rates(5, 20.0)


def one(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def many_steps(gaps: Tensor, weights: Tensor, theta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return matrix, shift and covariance of all steps together."""
    steps = fractional_steps(gaps[:, None], RATES, weights, one(theta), one(0.7))
    d = steps.matrix.shape[-1]
    matrix, shift, covariance = torch.eye(d).double(), torch.zeros(d).double(), torch.zeros(d, d).double()
    for k in range(len(gaps)):
        phi, root = steps.matrix[k, 0, 0], steps.root[k, 0, 0]
        matrix, shift = phi @ matrix, phi @ shift + steps.shift[k, 0, 0]
        covariance = phi @ covariance @ phi.mT + root @ root.mT
    return matrix, shift, covariance


@pytest.mark.parametrize("hurst", [0.1, 0.3, 0.7, 0.9])
@pytest.mark.parametrize("theta", [1.0, 2.0])
def test_the_variance_is_that_of_fractional_ornstein_uhlenbeck(hurst: float, theta: float) -> None:
    """Kind II with many rates, from 0 to T = 2: the exact values of the literature's process."""
    exact = {
        (0.1, 1.0): 0.710219, (0.1, 2.0): 0.622432, (0.3, 1.0): 0.498008, (0.3, 2.0): 0.329383,
        (0.7, 1.0): 0.597017, (0.7, 2.0): 0.256099, (0.9, 1.0): 0.804594, (0.9, 2.0): 0.320983,
    }  # fmt: skip
    rates = rates_between(1e-5, 2.0, 10)
    weights = KernelFit(rates, 2.0, "II", 0.0).weights(hurst) / math.sqrt(variance_constant(hurst, "II"))
    steps = fractional_steps(one(2.0)[None], rates, weights[None], one(theta), one(0.0))
    variance = float((steps.root @ steps.root.mT)[0, 0, 0, 0, 0])
    assert variance == pytest.approx(exact[hurst, theta], rel={0.1: 0.06, 0.9: 5e-3}.get(hurst, 2e-3))


@pytest.mark.parametrize("theta", [0.0, 1.0, 0.99, 4.4721359549995805, 20.0, -0.5, 300.0])
def test_steps_compose_whatever_their_length(theta: float) -> None:
    weights = KernelFit(RATES, 6.0, "II").weights(0.3)[None]
    whole = many_steps(one(2.0), weights, theta)
    cut = many_steps(torch.tensor([1e-6, 0.3, 0.0, 1.2, 0.5 - 1e-6], dtype=torch.float64), weights, theta)
    for a, b in zip(whole, cut, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_without_a_drift_the_noise_is_the_approximation_itself() -> None:
    weights = KernelFit(RATES, 6.0, "II").weights(0.1)[None]
    weights, rates = torch.nn.functional.pad(weights, (0, 1), value=0.1), torch.cat([RATES, one(1e4)])
    gaps = torch.tensor([[0.01], [2.0]], dtype=torch.float64)
    steps = fractional_steps(gaps, rates, weights, one(0.0), one(0.0))
    covariance, omega = steps.root @ steps.root.mT, weights[0]
    for k, h in enumerate((0.01, 2.0)):
        form = -torch.expm1(-(rates[:, None] + rates) * h) / (rates[:, None] + rates)
        torch.testing.assert_close(covariance[k, 0, 0, 0, 0], omega @ form @ omega, rtol=1e-9, atol=0)
        torch.testing.assert_close(covariance[k, 0, 0, 0, 1:], form @ omega, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("theta", [0.0, 1.0, 2.0, 20.0])
def test_a_control_adds_the_integral_of_what_an_impulse_leaves(theta: float) -> None:
    weights = KernelFit(RATES, 6.0, "II").weights(0.3)[None]
    h = 0.7
    steps = fractional_steps(one(h)[None], RATES, weights, one(theta), one(0.0))
    # As many short steps with impulses in between, by the exact steps themselves.
    n = 4000
    short = fractional_steps(one(h / n)[None], RATES, weights, one(theta), one(0.0))
    phi, state = short.matrix[0, 0, 0], torch.zeros(6).double()
    impulse = torch.cat([weights.sum()[None], torch.ones(5).double()])
    half = fractional_steps(one(h / n / 2)[None], RATES, weights, one(theta), one(0.0)).matrix[0, 0, 0]
    for _ in range(n):
        state = phi @ state + half @ impulse * h / n
    torch.testing.assert_close(steps.drive[0, 0, 0], state, rtol=1e-6, atol=1e-7)


def test_slopes_of_moments_are_those_of_differences() -> None:
    weights = KernelFit(RATES, 6.0, "II").weights(0.3)[None]

    def moment(theta: Tensor, scale: Tensor) -> Tensor:
        steps = fractional_steps(
            torch.tensor([[0.02], [0.9]], dtype=torch.float64), RATES, weights * scale, theta, one(0.3)
        )
        first = steps.root[0, 0, 0]
        second = steps.matrix[1, 0, 0] @ first
        total = second @ second.mT + steps.root[1, 0, 0] @ steps.root[1, 0, 0].mT
        return total[0, 0] + 0.1 * total[0, 2] + steps.shift[1, 0, 0, 0] + steps.drive[1, 0, 0, 0]

    theta, scale = one(1.0).requires_grad_(), one(1.3).requires_grad_()
    moment(theta, scale).backward()
    with torch.no_grad():
        for x, args in ((theta, lambda d: (theta + d, scale)), (scale, lambda d: (theta, scale + d))):
            difference = (moment(*args(1e-5)) - moment(*args(-1e-5))) / 2e-5
            torch.testing.assert_close(x.grad[0], difference, rtol=1e-6, atol=1e-8)
