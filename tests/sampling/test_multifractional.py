"""A Hurst index that changes with time, against kernels integrated numerically, and learned from paths."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad

from gendyn.sampling.fractional import (
    HurstCurve,
    MarkovApproximation,
    MultifractionalMotion,
    sample_multifractional,
    variance_constant,
)

GRID = torch.tensor([0.0, 0.1, 0.15, 0.5, 0.7, 1.0, 1.6], dtype=torch.float64)


def curve(t: torch.Tensor) -> torch.Tensor:
    return 0.2 + 0.6 * torch.sigmoid(3 * (t - 0.6))


def exact(s: float, t: float) -> float:
    """Covariance of the motion of Riemann and Liouville with the index of the moment, unit variance at time 1."""
    if t < s:
        s, t = t, s
    one, other = (curve(torch.tensor(v)).item() for v in (s, t))
    scale = math.gamma(one + 0.5) * math.gamma(other + 0.5)
    scale *= math.sqrt(variance_constant(one, "II") * variance_constant(other, "II"))
    if s == t:
        return s ** (2 * one)
    integral = quad(lambda u: (t - u) ** (other - 0.5), 0, s, weight="alg", wvar=(0.0, one - 0.5), epsabs=1e-12)[0]
    return integral / scale


def test_the_evaluated_motion_is_that_of_riemann_and_liouville():
    motion = MultifractionalMotion(GRID, curve, count=9)
    found = motion.covariance
    for i, s in enumerate(GRID[1:].tolist(), 1):
        for j, t in enumerate(GRID[1:].tolist(), 1):
            assert found[i, j].item() == pytest.approx(exact(s, t), abs=0.012)
    assert not found[0].any()


@pytest.mark.parametrize("definition", ["evaluated", "integrated"])
def test_a_constant_index_is_the_approximation_of_kind_two(definition):
    rates = [0.1, 1.0, 10.0, 100.0]
    motion = MultifractionalMotion(GRID, torch.full((7,), 0.3, dtype=torch.float64), definition=definition, rates=rates)
    noise = MarkovApproximation(0.3, 1.6, rates=rates, kind="II")
    torch.testing.assert_close(motion.covariance, noise.covariance(GRID[:, None], GRID), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("definition", ["evaluated", "integrated"])
def test_paths_have_the_covariance(definition):
    motion, n = MultifractionalMotion(GRID, curve, definition=definition), 20_000
    x = sample_multifractional(motion, n, seed=1)
    law = motion.covariance
    error = (law.square() + law.diagonal()[:, None] * law.diagonal()).div(n).sqrt()
    assert ((x.T @ x / n - law).abs() <= 4.5 * error + 1e-12).all()
    torch.testing.assert_close(sample_multifractional(motion, 5, seed=1), x[:5])
    # The density is that of the normal law.
    white = torch.distributions.MultivariateNormal(torch.zeros(6).double(), law[1:, 1:])
    torch.testing.assert_close(motion.log_density(x[:4]), white.log_prob(x[:4, 1:]))


def test_the_definitions_differ_where_the_index_moves():
    # A long step of H at t = 1: evaluated, the variance follows at once; integrated, the path keeps what it has.
    grid = torch.linspace(0, 1.01, 102).double()
    hurst = torch.where(grid > 1.005, 0.9, 0.2)
    evaluated, integrated = (MultifractionalMotion(grid, hurst, definition=d) for d in ("evaluated", "integrated"))
    jumped = evaluated.covariance
    assert jumped[-1, -1].item() == pytest.approx(1.01**1.8, rel=5e-3)
    correlation = jumped[-1, -2] / (jumped[-1, -1] * jumped[-2, -2]).sqrt()
    kept = integrated.covariance
    assert correlation < 0.9
    torch.testing.assert_close(kept[:-1, :-1], jumped[:-1, :-1], atol=1e-9, rtol=0)
    rise = kept[-1, -1] - 2 * kept[-1, -2] + kept[-2, -2]
    assert rise.item() == pytest.approx((jumped[100, 100] - 2 * jumped[99, 100] + jumped[99, 99]).item(), rel=0.1)


def test_the_likelihood_finds_the_curve():
    times = torch.linspace(0, 2, 41).double()
    truth = 0.3 + 0.5 * torch.sigmoid(7 * (1 - times))
    paths = sample_multifractional(MultifractionalMotion(times, truth), 200, seed=0)
    network = HurstCurve(seed=0).double()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(150):
        optimiser.zero_grad()
        loss = -MultifractionalMotion(times, network).log_density(paths).mean()
        loss.backward()
        optimiser.step()
    found = network(times).detach()
    assert (found - truth)[1:].abs().mean().item() < 0.03


def test_gradients_to_the_index_are_right():
    times = GRID[:4]
    index = torch.tensor([0.3, 0.4, 0.5, 0.6], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[0.0, 0.2, -0.1, 0.5]]).double()
    for definition in ("evaluated", "integrated"):

        def density(h, definition=definition):
            return MultifractionalMotion(times, h, definition=definition, rates=[0.3, 3.0, 30.0]).log_density(x)

        assert torch.autograd.gradcheck(density, (index,), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MultifractionalMotion([0.0, 1.0], [0.5, 1.0]), "must stay between 0 and 1.*got 1 at time 1"),
        (lambda: MultifractionalMotion([0.0, 1.0], [0.5, math.nan]), "got nan at time 1"),
        (lambda: MultifractionalMotion([0.1, 1.0], [0.5, 0.5]), "times must begin at 0"),
        (lambda: MultifractionalMotion([0.0, 1.0], [0.5]), "one index for each of 2 times"),
        (lambda: MultifractionalMotion([0.0, 1.0], [0.5, 0.5], definition="both"), "'evaluated' or 'integrated'"),
        (lambda: MultifractionalMotion([0.0, 1.0, 1.0], [0.5] * 3), "times must increase strictly"),
    ],
)
def test_sentences_about_curves(call, words):
    with pytest.raises(ValueError, match=words):
        call()
