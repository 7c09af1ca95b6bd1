"""Densities along flows, weights along paths: against Gaussian closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn.data import Paths
from gendyn.sampling import ODE, SDE, sample
from gendyn.sampling.flow_density import flow_log_prob, log_density_change
from gendyn.sampling.likelihood import (
    effective_sample_size,
    girsanov_log_weights,
    resample,
    transition_log_prob,
)
from gendyn.sampling.linear import LinearProcess
from gendyn.systems import OrnsteinUhlenbeck

MATRIX = torch.tensor([[-0.5, 1.0, 0.2], [-0.8, 0.3, 0.0], [0.1, -0.4, 0.6]], dtype=torch.float64)
LINEAR = ODE(lambda t, x: x @ MATRIX.T.to(x) + 0.3, dim=3)
POINTS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def curl(t, x):
    return torch.stack([torch.sin(x[:, 0]) * x[:, 1], x[:, 0] ** 2 - torch.cos(x[:, 1])], dim=1)


# --- change of variables -----------------------------------------------------------------------------------


def test_density_along_a_linear_flow_is_the_exact_gaussian():
    flow = LinearProcess(MATRIX, torch.full((3,), 0.3), torch.zeros(3, 1))
    transition = flow.transition(1.5)
    base = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3).double())
    truth = torch.distributions.MultivariateNormal(transition.shift, transition.matrix @ transition.matrix.T)
    found = flow_log_prob(LINEAR, POINTS, [0.0, 1.5], base.log_prob, step=0.02)
    torch.testing.assert_close(found, truth.log_prob(POINTS), rtol=0, atol=1e-6)


def test_there_and_back_again():
    flow, x = ODE(curl, dim=2), POINTS[:, :2]
    end, there = log_density_change(flow, x, [0.0, 0.4, 1.0], step=0.01)
    start, back = log_density_change(flow, end, [1.0, 0.0], step=0.01)
    torch.testing.assert_close(start, x, rtol=0, atol=1e-7)
    torch.testing.assert_close(there, -back, rtol=0, atol=1e-7)


def test_delta_is_the_log_determinant_of_the_flow():
    flow, x = ODE(curl, dim=2), POINTS[:, :2]
    _, delta = log_density_change(flow, x, [0.0, 1.0], step=0.01)

    def end(row):
        return sample(flow, row[None], [0.0, 1.0], solver="rk4", step=0.01, gradient="backprop").values[0, -1]

    jacobians = torch.stack([torch.autograd.functional.jacobian(end, row) for row in x])
    torch.testing.assert_close(delta, -torch.linalg.slogdet(jacobians).logabsdet, rtol=0, atol=1e-6)


def test_hutchinson_is_unbiased_and_fixed_along_the_trajectory():
    x = POINTS[:1].expand(4000, 3)
    end, delta = log_density_change(LINEAR, x, [0.0, 1.0], divergence="hutchinson", probes=2, step=0.25, seed=3)
    exact_end, exact = log_density_change(LINEAR, x[:1], [0.0, 1.0], step=0.25)
    torch.testing.assert_close(end[:1], exact_end)
    assert delta.mean().item() == pytest.approx(exact.item(), abs=4 * delta.std().item() / math.sqrt(4000))
    # The Jacobian is constant: fixed probes give v^T A v times the time, which takes few values.
    assert len(torch.unique(delta.round(decimals=9))) <= 10
    # Spread as the formula says: twice the sum of squares off the diagonal of the symmetric part, over the probes.
    symmetric = (MATRIX + MATRIX.T) / 2
    variance = 2 * (symmetric - torch.diag(symmetric.diagonal())).square().sum().item() / 2
    assert delta.var().item() == pytest.approx(variance, rel=0.15)


def test_hutchinson_rows_do_not_depend_on_the_batch():
    flow = ODE(curl, dim=2)
    many = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    whole = log_density_change(flow, many, [0.0, 1.0], divergence="hutchinson", step=0.1)[1]
    part = log_density_change(flow, many[:7], [0.0, 1.0], divergence="hutchinson", step=0.1)[1]
    torch.testing.assert_close(whole[:7], part)


def test_gradients_of_a_density_are_asked_for():
    scale = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    flow = ODE(lambda t, x: scale * x, dim=3)

    def base(z):
        return -0.5 * z.square().sum(1)

    assert not flow_log_prob(flow, POINTS, [0.0, 1.0], base, step=0.1).requires_grad
    found = flow_log_prob(flow, POINTS, [0.0, 1.0], base, step=0.1, gradient="backprop").sum()
    found.backward()
    # log p(x) = -|x|^2 e^{-2s} / 2 - 3 s
    truth = (POINTS.square().sum() * math.exp(-0.8) - 3 * len(POINTS)).item()
    assert scale.grad.item() == pytest.approx(truth, rel=1e-4)


def test_a_drift_that_does_not_depend_on_the_state():
    constant = ODE(lambda t, x: torch.ones_like(x), dim=3)
    end, delta = log_density_change(constant, POINTS, [0.0, 2.0], step=0.5)
    torch.testing.assert_close(end, POINTS + 2)
    assert torch.equal(delta, torch.zeros(6, dtype=torch.float64))


# --- weights of paths --------------------------------------------------------------------------------------

OU = OrnsteinUhlenbeck(rate=1.0, mean=0.5, volatility=0.8)
STILL = SDE(lambda t, x: torch.zeros_like(x), lambda t, x: torch.full_like(x, 0.8), dim=1)


def test_brownian_motion_reweighted_is_ornstein_uhlenbeck():
    x0 = torch.full((40_000, 1), 1.0, dtype=torch.float64)
    paths = sample(STILL, x0, np.linspace(0.0, 1.0, 101), substeps=1, seed=0)
    log_weights = girsanov_log_weights(paths, OU, STILL)
    weights = log_weights.exp()
    assert weights.mean().item() == pytest.approx(1.0, abs=4 * weights.std().item() / 200)
    end = paths.values[:, -1, 0]
    mean = (weights * end).mean()
    assert mean.item() == pytest.approx(OU.conditional_mean(1.0, x0[:1]).item(), abs=0.02)
    assert (weights * (end - mean) ** 2).mean().item() == pytest.approx(OU.covariance(1.0).item(), abs=0.02)
    chosen, _ = resample(paths, log_weights, seed=1)
    assert chosen.values[:, -1].mean().item() == pytest.approx(mean.item(), abs=0.01)


def rotated(matrix, rate):
    g = torch.tensor(matrix, dtype=torch.float64)
    return SDE(lambda t, x: -rate * x, lambda t, x: g.to(x), dim=2, noise_type="additive", noise_dim=g.shape[1])


def general(rate):
    def diffusion(t, x):
        one, zero = 1 + 0.3 * torch.sin(x[:, 0]), torch.zeros_like(x[:, 0])
        return torch.stack([torch.stack([one, zero, 0.5 * one], 1), torch.stack([0.4 * one, one, zero], 1)], 1)

    return SDE(lambda t, x: -rate * x + t, diffusion, dim=2, noise_type="general", noise_dim=3)


def diagonal(rate):
    return SDE(lambda t, x: -rate * x + t, lambda t, x: 0.5 + 0.2 * torch.cos(x), dim=2)


PAIRS = {
    "additive": (rotated([[1.0, 0.0], [0.5, 0.8]], 1.0), rotated([[1.0, 0.0], [0.5, 0.8]], 0.2)),
    "general": (general(1.0), general(0.3)),
    "diagonal": (diagonal(1.0), diagonal(0.3)),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("own", [False, True])
def test_girsanov_is_the_ratio_of_euler_transitions(kind, own):
    numerator, denominator = PAIRS[kind]
    x0 = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    if own:
        times = times * torch.linspace(0.5, 2.0, 50, dtype=torch.float64)[:, None]
        times[7, 6:] = times[7, 6]
    paths = sample(denominator, x0, times, substeps=1, seed=4)
    expected = transition_log_prob(paths, numerator) - transition_log_prob(paths, denominator)
    torch.testing.assert_close(girsanov_log_weights(paths, numerator, denominator), expected, rtol=0, atol=1e-9)


def test_scalar_noise_weighs_what_it_reaches():
    # One Brownian motion along (1, 2): drifts may differ along it alone.
    direction = torch.tensor([1.0, 2.0], dtype=torch.float64)

    def scalar(drift):
        return SDE(lambda t, x: drift.expand_as(x), lambda t, x: direction.expand_as(x), 2, noise_type="scalar")

    still, along, across = (scalar(torch.tensor(v, dtype=torch.float64)) for v in ([0.0, 0.0], [0.5, 1.0], [1.0, 0.0]))
    paths = sample(still, torch.zeros(100, 2, dtype=torch.float64), np.linspace(0, 1, 5), substeps=1, seed=0)
    # u = 1/2 throughout: u W_1 - u^2 / 2.
    torch.testing.assert_close(girsanov_log_weights(paths, along, still), 0.5 * paths.values[:, -1, 0] - 0.125)
    with pytest.raises(ValueError, match="no noise reaches"):
        girsanov_log_weights(paths, across, still)
    with pytest.raises(ValueError, match="misses a feature"):
        transition_log_prob(paths, still)


def test_noise_that_misses_a_feature():
    def kinetic(friction):
        matrix = torch.tensor([[0.0, 1.0], [0.0, -friction]], dtype=torch.float64)
        return LinearProcess(matrix, torch.zeros(2), [[0.0], [0.7]])

    def half(rate):
        g = torch.tensor([0.0, 0.7], dtype=torch.float64)
        return SDE(lambda t, x: torch.stack([x[:, 1], -rate * x[:, 1]], 1), lambda t, x: g.expand_as(x).clone(), dim=2)

    paths = sample(kinetic(0.0), torch.ones(200, 2, dtype=torch.float64), np.linspace(0, 1, 9), substeps=1, seed=0)
    additive = girsanov_log_weights(paths, kinetic(1.0), kinetic(0.0))
    torch.testing.assert_close(additive, girsanov_log_weights(paths, half(1.0), half(0.0)))
    v, h = paths.values[:, :, 1], 1 / 8
    expected = ((-v[:, :-1] * v.diff(dim=1)).sum(1) - 0.5 * h * v[:, :-1].square().sum(1)) / 0.49
    torch.testing.assert_close(additive, expected)


def test_transition_log_prob_trains_a_drift():
    x0 = torch.zeros(500, 1, dtype=torch.float64)
    paths = sample(OU, x0, np.linspace(0.0, 2.0, 41), substeps=1, seed=0)
    rate = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    model = SDE(lambda t, x: rate * (0.5 - x), lambda t, x: torch.full_like(x, 0.8), dim=1)
    assert not transition_log_prob(paths, model).requires_grad
    # The likelihood is quadratic in the rate: one Newton step finds its maximum.
    loss = -transition_log_prob(paths, model, gradient="backprop").mean()
    (slope,) = torch.autograd.grad(loss, rate, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, rate)
    assert (rate - slope / curvature).item() == pytest.approx(1.0, abs=0.12)


def test_transition_log_prob_nears_the_exact_likelihood():
    exact = LinearProcess([[-1.0]], [0.5], [[0.8]])
    errors = []
    for n in (10, 40):
        paths = sample(exact, torch.zeros(200, 1, dtype=torch.float64), np.linspace(0, 1, n + 1), step=0.001, seed=0)
        errors.append((transition_log_prob(paths, exact) - exact.log_likelihood(paths)).abs().mean().item())
    assert errors[1] < 0.7 * errors[0] < 0.3


# --- resampling --------------------------------------------------------------------------------------------


def numbered(n):
    return Paths([0.0, 1.0], torch.arange(n, dtype=torch.float64)[:, None, None].expand(n, 2, 1), labels=list(range(n)))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=50)
def test_systematic_resampling_rounds_the_expected_counts(log_weights, n, seed):
    weights = torch.softmax(torch.tensor(log_weights, dtype=torch.float64), 0)
    chosen, indices = resample(numbered(len(weights)), torch.tensor(log_weights), n=n, seed=seed)
    counts = torch.bincount(indices, minlength=len(weights))
    assert bool(((counts - n * weights).abs() < 1 + 1e-4).all())
    assert chosen.labels.tolist() == indices.tolist()


@pytest.mark.parametrize("method", ["systematic", "multinomial"])
def test_resampling_frequencies(method):
    weights = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    counts = torch.zeros(4, dtype=torch.float64)
    for seed in range(300):
        _, indices = resample(numbered(4), weights.log() + 700.0, n=7, seed=seed, method=method)
        counts += torch.bincount(indices, minlength=4)
    assert counts[1] == 0
    torch.testing.assert_close(counts / counts.sum(), weights, rtol=0, atol=0.045)


def test_effective_sample_size():
    assert effective_sample_size(torch.full((8,), -900.0)) == pytest.approx(8.0)
    weights = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    assert effective_sample_size(weights.log()) == pytest.approx(1 / (0.49 + 0.04 + 0.01))


# --- what it refuses ---------------------------------------------------------------------------------------


def test_what_it_refuses():
    flow, paths = ODE(lambda t, x: -x, dim=3), Paths([0.0, 1.0], torch.zeros(2, 2))
    loud = SDE(STILL.drift, lambda t, x: torch.ones_like(x), dim=1)
    strat = SDE(STILL.drift, STILL.diffusion, dim=1, calculus="stratonovich")
    for refused, message in (
        (lambda: log_density_change(flow, POINTS, [0.0, 1.0]), "needs a step"),
        (lambda: log_density_change(OU, POINTS[:, :1], [0.0, 1.0]), "probability flow"),
        (lambda: log_density_change(flow, POINTS, [0.0, 1.0], step=0.1, divergence="x"), "divergence must be"),
        (lambda: log_density_change(flow, POINTS, [0.0, 1.0], step=0.1, probes=0), "probes must be"),
        (lambda: log_density_change(flow, POINTS[0], [0.0, 1.0], step=0.1), r"points \(B, d\)"),
        (lambda: log_density_change(flow, POINTS[:, :2], [0.0, 1.0], step=0.1), "3 features, but x0 has 2"),
        (lambda: flow_log_prob(flow, POINTS, [0.0, 1.0], lambda z: z, step=0.1), "base_log_prob must return"),
        (lambda: girsanov_log_weights(paths, loud, STILL), "the same diffusion"),
        (lambda: girsanov_log_weights(paths, strat, STILL), "Ito form"),
        (lambda: transition_log_prob(paths, ODE(lambda t, x: -x, dim=1)), "must have noise"),
        (lambda: transition_log_prob(paths, diagonal(1.0)), "2 features, but the paths have 1"),
        (lambda: transition_log_prob(paths, STILL, gradient="yes"), "gradient must be"),
        (lambda: resample(paths, torch.zeros(3)), "one per path"),
        (lambda: resample(paths, torch.zeros(2), method="x"), "method must be"),
        (lambda: resample(paths, torch.zeros(2), n=0), "at least 1"),
        (lambda: effective_sample_size(torch.tensor([math.nan])), "NaN or infinity"),
        (lambda: effective_sample_size(torch.tensor([-math.inf])), "every weight is zero"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


def test_dopri5_needs_no_step():
    end, delta = log_density_change(LINEAR, POINTS, [0.0, 1.0], solver="dopri5")
    truth, exact = log_density_change(LINEAR, POINTS, [0.0, 1.0], step=0.01)
    torch.testing.assert_close(end, truth, rtol=0, atol=1e-4)
    torch.testing.assert_close(delta, exact, rtol=0, atol=1e-4)
