"""Schedules and exact fields against closed forms and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.gamma import GAMMAS, Brownian, Sigmoid, get_gamma
from gendyn.interpolants.schedule import (
    SCHEDULES,
    CustomSchedule,
    EncodeDecode,
    Linear,
    Mirror,
    OneSidedLinear,
    OneSidedVariancePreserving,
    Trigonometric,
    VariancePreservingTrigonometric,
    get_schedule,
)

INNER = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)[torch.arange(49) != 24]  # encode-decode turns at 1/2
ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)


def slope(function, t: torch.Tensor) -> torch.Tensor:
    h = 1e-6
    return (function(t + h) - function(t - h)) / (2 * h)


@pytest.mark.parametrize("name", GAMMAS)
def test_amplitudes(name: str) -> None:
    gamma = get_gamma(name)
    torch.testing.assert_close(gamma.value(ENDS), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(gamma.rate(INNER), slope(gamma.value, INNER), atol=1e-8, rtol=1e-7)
    torch.testing.assert_close(gamma.product(INNER), gamma.value(INNER) * gamma.rate(INNER))
    assert torch.isfinite(gamma.product(ENDS)).all()
    if name != "zero":
        assert (gamma.value(INNER) > 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    schedule = get_schedule(name)
    c = schedule.at(INNER)
    for value, rate in (("alpha", "alpha_rate"), ("beta", "beta_rate"), ("gamma", "gamma_rate")):
        expected = slope(lambda t, v=value: getattr(schedule.at(t), v), INNER)
        torch.testing.assert_close(getattr(c, rate), expected, atol=1e-8, rtol=1e-7)
    ends = schedule.at(ENDS)
    wanted = {"alpha": [1.0, 0.0], "beta": [0.0, 1.0], "gamma": [0.0, 0.0]}
    if schedule.sides == "mirror":
        wanted |= {"alpha": [0.0, 0.0], "beta": [1.0, 1.0]}
    for key, value in wanted.items():
        torch.testing.assert_close(getattr(ends, key), torch.tensor(value, dtype=torch.float64), atol=1e-12, rtol=0)


def test_a_schedule_of_ones_own() -> None:
    own = CustomSchedule(lambda t: torch.cos(math.pi * t / 2), lambda t: torch.sin(math.pi * t / 2), "quadratic")
    for mine, theirs in zip(own.at(INNER), Trigonometric("quadratic").at(INNER), strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(ValueError, match="beta must be 0 at t=0 and 1 at t=1; got 1 and 0"):
        CustomSchedule(lambda t: 1 - t, lambda t: 1 - t)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: get_schedule("bent"), "there is no schedule 'bent'; there are linear"),
        (lambda: get_gamma("big"), "there is no gamma 'big'; there are brownian"),
        (lambda: EncodeDecode("zero"), "collapses to a point at t=0.5"),
        (lambda: Mirror("zero"), "without it nothing moves"),
        (lambda: VariancePreservingTrigonometric(Brownian(4.0)), "needs gamma below 1"),
        (lambda: VariancePreservingTrigonometric("sin2"), "needs gamma below 1"),
        (lambda: Brownian(0.0), "must be positive; got 0"),
        (lambda: Sigmoid(-1.0), "must be positive; got -1"),
        (lambda: get_schedule("one-sided-linear", "quadratic"), "one-sided"),
        (lambda: get_schedule(Linear(), "quadratic"), "has its own gamma"),
        (lambda: GaussianMixture([1.0], [[0.0]], [-1.0]), "positive definite"),
        (lambda: GaussianMixture([0.0, 1.0], [[0.0], [1.0]], [1.0, 1.0]), "weights must be positive"),
        (lambda: GaussianMixture([1.0], [0.0], [1.0]), "are needed; got"),
        (lambda: GaussianMixtureInterpolant(ONE, ONE, "one-sided-linear"), "starts from the standard Gaussian"),
        (lambda: GaussianMixtureInterpolant(ONE, TWO, "mirror"), "the same law at both ends"),
        (lambda: GaussianMixtureInterpolant(ONE, GaussianMixture.gaussian([0.0, 0.0], 1.0)), "the same dimension"),
    ],
)
def test_what_does_not_fit_is_said(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


ONE, TWO = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)

# rho, velocity, score, source, target, noise
EXACT = [
    (Linear("zero"), 0.3, (0.37098609, 3.35294118, -2.82352941, -0.50588235, 2.84705882, 0.0)),
    (Linear(), 0.3, (0.40084073, 3.46153846, -1.42011834, -0.75147929, 2.42603550, 0.65077998)),
    (Linear(Brownian(2.0)), 0.3, (0.37738629, 3.49802372, -0.94861660, -0.83399209, 2.28458498, 0.61477382)),
    (Linear("quadratic"), 0.3, (0.39051026, 3.48869836, -2.33826968, -0.59080281, 2.70148090, 0.49103663)),
    (Trigonometric(), 0.3, (0.42090579, 4.04403645, -0.78594342, -0.82492982, 2.35681085, 0.36016452)),
    (EncodeDecode(), 0.3, (0.27015221, 6.11997159, -1.84515506, -0.84062865, 2.0, 1.20766966)),
    (EncodeDecode(), 0.8, (0.29658454, 4.61196951, 1.47699365, -1.0, 1.03329511, -0.51028875)),
    (VariancePreservingTrigonometric(), 0.3, (None, 3.57171430, -0.91558857, None, None, None)),
]


@pytest.mark.parametrize(("schedule", "t", "values"), EXACT)
def test_fields_of_two_gaussians(schedule, t: float, values: tuple) -> None:
    found = GaussianMixtureInterpolant(ONE, TWO, schedule).fields(t, torch.tensor([[0.5]]))
    got = (found.log_prob.exp(), found.velocity, found.score, found.source, found.target, found.noise)
    for mine, theirs in zip(got, values, strict=True):
        if theirs is not None:
            assert mine.item() == pytest.approx(theirs, abs=6e-9)


@pytest.mark.parametrize(
    ("schedule", "energy", "score", "least"),
    [
        (Linear("zero"), 9.46460184, math.pi, 0.0),
        (Linear(), 9.25, 2.0, -0.15888308),
        (Linear(Brownian(2.0)), 9.39051899, 1.52069199, -0.22994025),
        (Linear("quadratic"), 9.38494322, 2.80452174, -0.04644228),
        (Trigonometric("zero"), 9.61852054, 2.0, 0.0),
        (VariancePreservingTrigonometric(), 9.38284686, 1.70565940, -0.13048162),
    ],
)
def test_integrals_over_time(schedule, energy: float, score: float, least: float) -> None:
    """Gauss-Legendre in time and Gauss-Hermite in space: int E|b|^2, int E|s|^2, and the least loss of the noise."""
    exact = GaussianMixtureInterpolant(ONE, TWO, schedule)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    # t = sin^2 takes the square-root ends of the Brownian amplitude out.
    u = (nodes + 1) * math.pi / 4
    t, dt = np.sin(u) ** 2, np.sin(2 * u) * math.pi / 4 * weights
    points, masses = np.polynomial.hermite_e.hermegauss(40)
    c = schedule.at(torch.from_numpy(t))
    mean = (-c.alpha + 2 * c.beta).numpy()
    deviation = (0.25 * c.alpha**2 + c.beta**2 + c.gamma**2).sqrt().numpy()
    x = torch.from_numpy((mean[:, None] + deviation[:, None] * points).reshape(-1, 1))
    found = exact.fields(torch.from_numpy(np.repeat(t, 40)[:, None]), x)
    law = np.outer(dt, masses / masses.sum()).ravel()
    assert law @ found.velocity[:, 0].square().numpy() == pytest.approx(energy, abs=2e-7)
    assert law @ found.score[:, 0].square().numpy() == pytest.approx(score, abs=2e-7)
    assert -0.5 * law @ found.noise[:, 0].square().numpy() == pytest.approx(least, abs=2e-8)


LEFT = GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [0.25, 0.25])
RIGHT = GaussianMixture([1 / 3, 1 / 3, 1 / 3], [[-6.0], [0.0], [6.0]], [0.5, 0.33, 0.5])


@pytest.mark.parametrize(
    ("schedule", "t", "x", "values"),
    [
        (Linear(), 0.25, -1.0, (0.11522891, 8.05777640, 0.30699304, -2.97606997, 5.15845469, -0.13293188)),
        (Linear(), 0.5, 1.0, (0.15275467, 2.83697891, 1.19945738, -0.11862511, 2.71835380, -0.59972869)),
        (Linear(), 0.75, 4.0, (0.10860847, 7.94639502, 0.02678502, -1.94975189, 5.98994688, -0.01159825)),
        (Linear("zero"), 0.25, -1.0, (0.13504244, 9.02149518, 1.36713003)),
        (Linear("zero"), 0.5, 1.0, (0.15257331, 2.96166581, 3.04440671)),
        (EncodeDecode(), 0.25, -1.0, (0.23920303, 11.30769104, -1.59934985)),
    ],
)
def test_fields_of_two_mixtures(schedule, t: float, x: float, values: tuple) -> None:
    found = GaussianMixtureInterpolant(LEFT, RIGHT, schedule).fields(t, torch.tensor([[x]]))
    got = (found.log_prob.exp(), found.velocity, found.score, found.source, found.target, found.noise)
    for mine, theirs in zip(got, values, strict=False):
        assert mine.item() == pytest.approx(theirs, abs=6e-9)


def test_log_density_of_a_mixture() -> None:
    found = RIGHT.log_prob(torch.tensor([[-6.0], [-2.0], [0.5]]))
    np.testing.assert_allclose(found.numpy(), [-1.67097723, -7.52378638, -1.84200739], atol=6e-9)


@pytest.mark.parametrize(
    ("gamma", "velocity", "divergence", "score"),
    [
        ("zero", (1.86397331, -0.59636768), 0.57079318, (0.54670126, -0.78453175)),
        ("brownian", (1.89534146, -0.76889227), 0.36790218, (0.25069815, -0.39561648)),
    ],
)
def test_fields_in_the_plane(gamma: str, velocity: tuple, divergence: float, score: tuple) -> None:
    first = GaussianMixture.gaussian([0.0, 0.0], [[1.0, 0.6], [0.6, 0.5]])
    second = GaussianMixture.gaussian([2.0, -1.0], [[0.4, -0.3], [-0.3, 1.2]])
    found = GaussianMixtureInterpolant(first, second, Linear(gamma)).fields(0.4, torch.tensor([[0.7, -0.2]]).double())
    np.testing.assert_allclose(found.velocity[0].numpy(), velocity, atol=6e-9)
    np.testing.assert_allclose(found.score[0].numpy(), score, atol=6e-9)
    assert found.divergence.item() == pytest.approx(divergence, abs=6e-9)


def test_one_sided_fields() -> None:
    exact = GaussianMixtureInterpolant(GaussianMixture.gaussian([0.0], 1.0), TWO, OneSidedLinear())
    found = exact.fields(0.3, torch.tensor([[0.5]]))
    for name, value in (
        ("noise", -0.12068966),
        ("target", 1.94827586),
        ("velocity", 2.06896552),
        ("score", 0.17241379),
    ):
        assert getattr(found, name).item() == pytest.approx(value, abs=6e-9)


@pytest.mark.parametrize(
    "schedule", [Linear(), Trigonometric("sin2"), EncodeDecode(), OneSidedVariancePreserving(), Mirror()]
)
def test_identities_and_derivatives(schedule) -> None:
    """Score and divergence against autograd, and the identities between the fields."""
    rng = np.random.default_rng(1)
    first = GaussianMixture([0.3, 0.7], rng.normal(size=(2, 2)), [0.5, 1.5])
    second = GaussianMixture(
        [0.6, 0.4], rng.normal(size=(2, 2)) * 3, [[[1.0, 0.4], [0.4, 0.6]], [[0.3, 0.0], [0.0, 2.0]]]
    )
    if schedule.sides == "one-sided":
        first = GaussianMixture.gaussian([0.0, 0.0], 1.0)
    if schedule.sides == "mirror":
        first = second
    exact = GaussianMixtureInterpolant(first, second, schedule)
    t = torch.rand(7, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    x = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = exact.fields(t, x)
    (score,) = torch.autograd.grad(found.log_prob.sum(), x, retain_graph=True)
    torch.testing.assert_close(found.score, score)
    jacobian = torch.stack([torch.autograd.grad(found.velocity[:, i].sum(), x, retain_graph=True)[0] for i in range(2)])
    torch.testing.assert_close(found.divergence, jacobian[0, :, 0] + jacobian[1, :, 1])
    c = schedule.at(t)
    if schedule.sides == "one-sided":
        torch.testing.assert_close(found.score, -found.noise / c.alpha)
        torch.testing.assert_close(c.alpha * found.noise + c.beta * found.target, x)
    else:
        torch.testing.assert_close(c.alpha * found.source + c.beta * found.target + c.gamma * found.noise, x)
        total = c.alpha_rate * found.source + c.beta_rate * found.target + c.gamma_rate * found.noise
        torch.testing.assert_close(found.velocity, total)
        torch.testing.assert_close(found.mean_velocity, c.alpha_rate * found.source + c.beta_rate * found.target)


def test_samples_have_the_law() -> None:
    exact = GaussianMixtureInterpolant(LEFT, RIGHT)
    x = exact.sample(0.5, 20_000, seed=3)[:, 0]
    # mean 0; variance: (9.25 + 24 + (0.5 + 0.33 + 0.5) / 3) / 4 + 1/4
    assert abs(float(x.mean())) < 4 * math.sqrt(9.0 / 20_000)
    assert float(x.var()) == pytest.approx((9.25 + 24 + 1.33 / 3) / 4 + 0.25, rel=0.03)
