"""Densities on a grid against Gaussians and exact interpolants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.sampling import ODE, SDE, fokker_planck

PULLED = SDE(lambda t, x: -2 * x, lambda t, x: 0.8 * torch.ones_like(x), dim=1)
START = torch.distributions.Normal(torch.ones(1, dtype=torch.float64), 0.5)


def start(x: torch.Tensor) -> torch.Tensor:
    return START.log_prob(x).sum(1)


def law(t: float) -> torch.distributions.Normal:
    decay = math.exp(-2 * t)
    variance = 0.25 * decay**2 + 0.64 / 4 * (1 - decay**2)
    return torch.distributions.Normal(torch.tensor(decay, dtype=torch.float64), math.sqrt(variance))


def error(cells: int, step: float) -> float:
    axis = torch.linspace(-3.0, 4.0, cells, dtype=torch.float64)
    found = fokker_planck(PULLED, [0.0, 0.2, 0.5], [axis], start, step=step)
    np.testing.assert_allclose(found.mass.numpy(), 1.0, atol=1e-12)
    assert found.values.shape == (3, cells)
    return float((found.values[-1] - law(0.5).log_prob(axis).exp()).abs().max())


def test_the_error_is_of_second_order() -> None:
    errors = [error(101, 0.02), error(201, 0.01), error(401, 0.005)]
    assert errors[2] < 1e-3
    order = -np.polyfit(np.log([1, 2, 4]), np.log(errors), 1)[0]
    assert order == pytest.approx(2.0, abs=0.25)


def test_multiplicative_noise_in_ito_form() -> None:
    """Geometric Brownian motion, whose logarithm is Gaussian."""
    geometric = SDE(lambda t, x: 0.3 * x, lambda t, x: 0.4 * x, dim=1)
    first = torch.distributions.LogNormal(torch.zeros(1, dtype=torch.float64), 0.3)
    axis = torch.linspace(0.01, 8.0, 800, dtype=torch.float64)
    found = fokker_planck(geometric, [0.0, 1.0], [axis], lambda x: first.log_prob(x).sum(1), step=0.01)
    end = torch.distributions.LogNormal(torch.tensor(0.3 - 0.08, dtype=torch.float64), math.sqrt(0.09 + 0.16))
    assert float((found.values[-1] - end.log_prob(axis).exp()).abs().max()) < 2e-3


def test_two_dimensions_with_a_rotation() -> None:
    """A spiral inward with noise of two sizes; the covariance follows from its equation."""
    rate = torch.tensor([[1.0, 0.8], [-0.8, 1.0]], dtype=torch.float64)
    noise = torch.tensor([0.7, 0.4], dtype=torch.float64)
    spiral = SDE(lambda t, x: -x @ rate.T, lambda t, x: torch.diag(noise), dim=2, noise_type="additive", noise_dim=2)
    mean, covariance = torch.tensor([1.0, 0.0], dtype=torch.float64), 0.09 * torch.eye(2, dtype=torch.float64)
    first = torch.distributions.MultivariateNormal(mean, covariance)
    axes = [torch.linspace(-2.5, 2.5, 101, dtype=torch.float64)] * 2
    found = fokker_planck(spiral, [0.0, 0.6], axes, first.log_prob, step=0.02)
    h = 1e-4
    for _ in range(6000):
        mean = mean - h * rate @ mean
        covariance = covariance + h * (-rate @ covariance - covariance @ rate.T + torch.diag(noise**2))
    end = torch.distributions.MultivariateNormal(mean, covariance)
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    truth = end.log_prob(x.reshape(-1, 2)).exp().reshape(101, 101)
    assert float((found.values[-1] - truth).abs().max()) < 0.02 * float(truth.max())
    peak = mean[None]
    assert found.log_prob(peak).item() == pytest.approx(end.log_prob(peak).item(), abs=0.03)


@pytest.mark.parametrize("epsilon", [0.0, 0.5])
def test_flow_and_diffusion_of_an_interpolant_have_its_density(epsilon: float) -> None:
    source = GaussianMixture([0.5, 0.5], [[-1.5], [1.5]], [0.25, 0.25])
    exact = GaussianMixtureInterpolant(source, GaussianMixture.gaussian([0.5], 1.0))

    def drift(t, x):
        at = exact.fields(t, x)
        return at.velocity + epsilon * at.score

    noise = math.sqrt(2 * epsilon)
    made = SDE(drift, lambda t, x: noise * torch.ones_like(x), dim=1) if epsilon else ODE(drift, dim=1)
    axis = torch.linspace(-6.0, 6.0, 601, dtype=torch.float64)
    found = fokker_planck(made, [0.0, 0.5, 1.0], [axis], source.log_prob, step=0.005)
    for k, t in ((1, 0.5), (2, 1.0)):
        truth = exact.fields(t, axis[:, None]).log_prob.exp()
        # Without noise the flux is upwind, of first order.
        assert float((found.values[k] - truth).abs().max()) < (2e-3 if epsilon else 0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": [[0.0, 1.0]]}, "axis 0 must hold at least three evenly spaced, rising centres"),
        ({"axes": [[0.0, 1.0, 3.0]]}, "evenly spaced"),
        ({"axes": [[0.0, 1.0, 2.0]] * 2}, "got 2 axes and a process of 1 dimensions"),
        ({"times": [1.0, 0.0]}, "must have shape .* and rise"),
        ({"step": None}, "a positive step is needed; got None"),
        (
            {"process": SDE(lambda t, x: x, lambda t, x: x, dim=1, calculus="stratonovich")},
            "write it in Ito form",
        ),
    ],
)
def test_sentences(change: dict, words: str) -> None:
    given = {"process": PULLED, "times": [0.0, 0.1], "axes": [torch.linspace(-3, 3, 61)], "base_log_prob": start}
    with pytest.raises(ValueError, match=words):
        fokker_planck(**({"step": 0.05} | given | change))


def test_correlated_noise_and_narrow_grids() -> None:
    mixed = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    process = SDE(lambda t, x: -x, lambda t, x: mixed, dim=2, noise_type="additive", noise_dim=2)
    with pytest.raises(ValueError, match="noise of the two dimensions must be independent"):
        fokker_planck(process, [0.0, 0.1], [torch.linspace(-3, 3, 31)] * 2, lambda x: -x.square().sum(1), step=0.1)
    with pytest.warns(UserWarning, match="of the mass is in the cells at the edge"):
        fokker_planck(PULLED, [0.0, 0.1], [torch.linspace(-0.5, 0.5, 31)], start, step=0.05)
