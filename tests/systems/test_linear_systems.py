"""Ornstein-Uhlenbeck and geometric Brownian motion against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad_vec
from scipy.linalg import expm

from gendyn.sampling import sample
from gendyn.systems import GeometricBrownianMotion, OrnsteinUhlenbeck, simulate_snapshots

ROTATING = OrnsteinUhlenbeck(
    rate=[[0.5, 2.0], [-2.0, 0.5]], mean=[1.0, -1.0], volatility=[[0.6, 0.0], [0.2, 0.5]], start=[2.0, 0.0]
)


def test_scalar_closed_forms():
    process = OrnsteinUhlenbeck(rate=1.0, mean=0.5, volatility=math.sqrt(2.0))
    x0 = torch.tensor([[2.0]], dtype=torch.float64)
    assert process.conditional_mean(1.0, x0).item() == pytest.approx(0.5 + 1.5 * math.exp(-1.0))
    assert process.covariance(1.0).item() == pytest.approx(1 - math.exp(-2.0))  # .86466472
    assert process.stationary()[1].item() == pytest.approx(1.0)


def test_rotating_covariance_of_a_published_case():
    # Equal noise on both axes: C_t = (1 - e^{-2 r t}) s^2 / 2r, whatever the rotation.
    process = OrnsteinUhlenbeck(rate=[[0.5, 2.0], [-2.0, 0.5]], volatility=math.sqrt(0.4))
    torch.testing.assert_close(process.covariance(1.0), 0.25284822 * torch.eye(2).double(), atol=1e-7, rtol=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), t=st.floats(1e-3, 30.0), d=st.integers(1, 4))
def test_covariance_equals_quadrature(seed, t, d):
    rng = np.random.default_rng(seed)
    rate = rng.normal(size=(d, d)) * 0.5 + np.eye(d) * 1.5
    volatility = rng.normal(size=(d, d))
    process = OrnsteinUhlenbeck(rate=rate, volatility=volatility)

    def integrand(s):
        root = expm(-rate * s) @ volatility
        return root @ root.T

    expected = quad_vec(integrand, 0.0, t, epsabs=1e-12, epsrel=1e-10, points=[t / 100, t / 10])[0]
    np.testing.assert_allclose(process.covariance(t).numpy(), expected, rtol=1e-6, atol=1e-9)


def test_covariance_is_accurate_at_both_ends():
    process = OrnsteinUhlenbeck(rate=[3.0, 0.01], volatility=[1.0, 0.5])
    short = process.covariance(1e-9).diagonal()
    torch.testing.assert_close(short, torch.tensor([1e-9, 0.25e-9]).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(process.covariance(1e5), process.stationary()[1], rtol=1e-10, atol=0)
    assert process.covariance(0.0).abs().max() == 0


def test_unstable_rates_have_no_stationary_law_but_a_covariance():
    process = OrnsteinUhlenbeck(rate=-1.0)
    assert process.covariance(1.0).item() == pytest.approx((math.exp(2.0) - 1) / 2)
    with pytest.raises(ValueError, match="stationary law needs rates with positive real part; the smallest is -1"):
        process.stationary()


def test_rates_and_volatilities_agree_in_every_form():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    forms = [
        OrnsteinUhlenbeck(rate=2.0, volatility=0.3, dim=3),
        OrnsteinUhlenbeck(rate=[2.0] * 3, volatility=[0.3] * 3),
        OrnsteinUhlenbeck(rate=2 * np.eye(3), volatility=0.3 * torch.eye(3)),
    ]
    for process in forms[1:]:
        torch.testing.assert_close(process.drift(torch.tensor(0.0), x), forms[0].drift(torch.tensor(0.0), x))
        torch.testing.assert_close(process.diffusion(torch.tensor(0.0), x), forms[0].diffusion(torch.tensor(0.0), x))


def test_simulated_population_has_the_marginal_law():
    snapshots = simulate_snapshots(ROTATING, [0.0, 0.5, 2.0], n=8000, seed=0, dtype=torch.float64)
    for t, x in zip(snapshots.times.tolist(), snapshots.samples, strict=True):
        mean, covariance = ROTATING.marginal(t)
        error = (x.mean(0) - mean) / (covariance.diagonal() / 8000).sqrt()
        assert error.abs().max() < 4.5
        torch.testing.assert_close(torch.cov(x.T), covariance, atol=0.025, rtol=0)


def test_exact_transition_samples_have_the_transition_law():
    x0 = torch.tensor([2.0, 0.0], dtype=torch.float64).expand(20000, 2)
    x = ROTATING.transition_sample(0.7, x0, seed=0)
    torch.testing.assert_close(x.mean(0), ROTATING.conditional_mean(0.7, x0[:1])[0], atol=0.02, rtol=0)
    torch.testing.assert_close(torch.cov(x.T), ROTATING.covariance(0.7), atol=0.01, rtol=0)
    assert torch.equal(x, ROTATING.transition_sample(0.7, x0, seed=0))


def test_transition_density_equals_scipy():
    x0 = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    x = torch.tensor([[1.0, 0.5], [0.3, -1.0]], dtype=torch.float64)
    means, covariance = ROTATING.conditional_mean(0.7, x0), ROTATING.covariance(0.7)
    expected = [
        stats.multivariate_normal(m, covariance).logpdf(y) for m, y in zip(means.numpy(), x.numpy(), strict=True)
    ]
    np.testing.assert_allclose(ROTATING.transition_log_density(0.7, x0, x), expected, rtol=1e-10)


def test_singular_transitions_and_negative_times_have_a_sentence():
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="the transition over h = 0 has no density: its covariance is singular"):
        ROTATING.transition_log_density(0.0, x, x)
    with pytest.raises(ValueError, match="a transition needs finite times of at least 0"):
        ROTATING.covariance(-1.0)


def test_geometric_brownian_motion_moments_and_strong_solution():
    process = GeometricBrownianMotion(growth=0.5, volatility=0.6, dim=2)
    generator = torch.Generator().manual_seed(0)
    brownian = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    x0 = torch.full((200_000, 2), 1.5, dtype=torch.float64)
    x = process.solution(1.0, x0, brownian)
    torch.testing.assert_close(x.mean(0), process.conditional_mean(1.0, x0)[0], rtol=0.01, atol=0)
    torch.testing.assert_close(x.var(0), process.conditional_variance(1.0, x0)[0], rtol=0.03, atol=0)


def test_sampled_geometric_brownian_motion_has_the_mean_and_variance():
    process = GeometricBrownianMotion(growth=0.3, volatility=0.4)
    x0 = process.initial(20_000, dtype=torch.float64)
    end = sample(process, x0, [0.0, 1.0], step=0.02, seed=0).values[:, -1]
    assert end.mean().item() == pytest.approx(math.exp(0.3), abs=0.02)
    assert end.var().item() == pytest.approx(process.conditional_variance(1.0, x0[:1]).item(), rel=0.07)


def test_geometric_density_equals_scipy_and_integrates_to_one():
    process = GeometricBrownianMotion(growth=0.5, volatility=0.6)
    x = torch.linspace(1e-3, 30.0, 40_001, dtype=torch.float64)[:, None]
    density = process.transition_log_density(1.0, torch.ones_like(x), x)
    expected = stats.lognorm(s=0.6, scale=math.exp(0.5 - 0.18)).logpdf(x[:, 0].numpy())
    np.testing.assert_allclose(density, expected, rtol=1e-9, atol=1e-9)
    assert torch.trapezoid(density.exp(), x[:, 0]).item() == pytest.approx(1.0, abs=1e-4)
    assert process.transition_log_density(1.0, torch.ones(1, 1), -torch.ones(1, 1)).item() == -math.inf
    with pytest.raises(ValueError, match="no density at t = 0"):
        process.transition_log_density(0.0, torch.ones(1, 1), torch.ones(1, 1))
