"""The linear process: transitions, likelihood and exact steps against closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from gendyn.data import Paths
from gendyn.sampling import SDE, sample
from gendyn.sampling.linear import ExactLinear, LinearProcess
from gendyn.systems import OrnsteinUhlenbeck

RATE = np.array([[1.0, 0.5], [-0.7, 2.0]])
MEAN = np.array([1.0, -2.0])
VOLATILITY = np.array([[1.0, 0.0], [0.4, 0.7]])
SYSTEM = OrnsteinUhlenbeck(rate=RATE.tolist(), mean=MEAN.tolist(), volatility=VOLATILITY.tolist())
PROCESS = LinearProcess(-RATE, RATE @ MEAN, VOLATILITY)
STATES = torch.tensor([[2.0, 0.0], [-1.0, 3.0], [0.5, 0.5]], dtype=torch.float64)


# --- transitions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [1e-4, 0.1, 1.0, 30.0])
def test_transition_is_that_of_ornstein_uhlenbeck(h):
    transition = PROCESS.transition(h)
    assert transition.matrix.dtype == transition.shift.dtype == transition.covariance.dtype == torch.float64
    torch.testing.assert_close(PROCESS.mean(h, STATES), SYSTEM.conditional_mean(h, STATES), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(transition.covariance, SYSTEM.covariance(h), rtol=1e-11, atol=1e-16)
    moved = STATES.flip(0)
    torch.testing.assert_close(
        PROCESS.log_density(h, STATES, moved), SYSTEM.transition_log_density(h, STATES, moved), rtol=1e-9, atol=1e-9
    )


def test_stationary_law_is_the_limit_and_that_of_ornstein_uhlenbeck():
    mean, covariance = PROCESS.stationary()
    torch.testing.assert_close(mean, torch.from_numpy(MEAN))
    torch.testing.assert_close(covariance, SYSTEM.stationary()[1])
    torch.testing.assert_close(PROCESS.covariance(200.0), covariance)
    torch.testing.assert_close(PROCESS.mean(200.0, STATES), mean.expand(3, 2))
    with pytest.raises(ValueError, match="eigenvalues all have negative real part"):
        LinearProcess([[0.0]], [1.0], [[1.0]]).stationary()


def test_a_singular_rate_is_brownian_motion_with_drift():
    drift, volatility = torch.tensor([0.3, -1.0], dtype=torch.float64), torch.from_numpy(VOLATILITY)
    transition = LinearProcess(torch.zeros(2, 2), drift, volatility).transition(2.5)
    torch.testing.assert_close(transition.matrix, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(transition.shift, 2.5 * drift)
    torch.testing.assert_close(transition.covariance, 2.5 * volatility @ volatility.T)


def test_integrated_brownian_motion():
    # dx = v dt, dv = c dt + s dW: one Brownian motion reaches both features after any time.
    h, s, c = 0.3, 2.0, 0.7
    process = LinearProcess([[0.0, 1.0], [0.0, 0.0]], [0.0, c], [[0.0], [s]])
    transition = process.transition(h)
    expected = s**2 * torch.tensor([[h**3 / 3, h**2 / 2], [h**2 / 2, h]], dtype=torch.float64)
    torch.testing.assert_close(transition.covariance, expected)
    torch.testing.assert_close(transition.shift, torch.tensor([c * h**2 / 2, c * h], dtype=torch.float64))
    density = process.log_density(h, torch.zeros(1, 2), torch.tensor([[0.1, 0.2]]))
    truth = multivariate_normal(transition.shift, expected).logpdf([0.1, 0.2])
    assert density.item() == pytest.approx(truth, abs=1e-5)


coefficients = st.lists(st.floats(-3, 3), min_size=10, max_size=10)


@given(coefficients, st.floats(0.001, 2.0), st.floats(0.001, 2.0))
@settings(max_examples=50)
def test_two_transitions_make_one(numbers, first, second):
    values = np.array(numbers)
    process = LinearProcess(values[:4].reshape(2, 2), values[4:6], values[6:].reshape(2, 2))
    a, b, both = (process.transition(h) for h in (first, second, first + second))
    for found, composed in (
        (both.matrix, b.matrix @ a.matrix),
        (both.shift, b.matrix @ a.shift + b.shift),
        (both.covariance, b.matrix @ a.covariance @ b.matrix.T + b.covariance),
    ):
        torch.testing.assert_close(found, composed, rtol=1e-9, atol=1e-9 * (1 + float(composed.abs().max())))


@given(coefficients, st.floats(0.0, 3.0))
@settings(max_examples=50)
def test_the_factor_is_a_root_even_of_a_singular_covariance(numbers, h):
    values = np.array(numbers)
    transition = LinearProcess(values[:4].reshape(2, 2), values[4:6], values[6:8].reshape(2, 1)).transition(h)
    factor, size = transition.factor, 1e-300 + float(transition.covariance.abs().max())
    torch.testing.assert_close(factor @ factor.T / size, transition.covariance / size, rtol=0, atol=1e-10)
    assert torch.equal(factor, factor.tril())


def test_transitions_are_remembered():
    assert PROCESS.transition(0.125) is PROCESS.transition(0.125)
    many = PROCESS.transitions(torch.tensor([0.125, 3.0]))
    torch.testing.assert_close(many.covariance[1], PROCESS.transition(3.0).covariance)


# --- likelihood of paths -----------------------------------------------------------------------------------


def test_log_likelihood_at_irregular_times_is_a_product_of_transitions():
    times = [0.0, 0.1, 0.15, 2.0]
    values = torch.randn(5, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = sum(
        SYSTEM.transition_log_density(times[k + 1] - times[k], values[:, k], values[:, k + 1]) for k in range(3)
    )
    torch.testing.assert_close(PROCESS.log_likelihood(Paths(times, values)), expected)


def test_log_likelihood_of_paths_with_times_of_their_own():
    values = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.tensor([[0.0, 0.4, 1.0], [0.0, 0.7, 0.7]], dtype=torch.float64)
    found = PROCESS.log_likelihood(Paths(times, values))
    alone = PROCESS.log_likelihood(Paths([0.0, 0.4, 1.0], values[:1]))
    short = PROCESS.log_density(0.7, values[1:, 0], values[1:, 1])
    torch.testing.assert_close(found, torch.cat([alone, short]))


def test_the_true_process_is_the_likeliest():
    x0 = PROCESS.stationary()[0].expand(2000, 2)
    paths = sample(PROCESS, x0, np.linspace(0.0, 4.0, 21), solver=ExactLinear(), substeps=1, seed=0)
    truth = PROCESS.log_likelihood(paths).mean()
    for scale, shift in ((0.8, 0.0), (1.25, 0.0), (1.0, 0.3)):
        other = LinearProcess(-RATE * scale, RATE @ MEAN * scale + shift, VOLATILITY)
        assert other.log_likelihood(paths).mean() < truth - 0.05


# --- steps and simulation ----------------------------------------------------------------------------------


def test_exact_steps_have_the_exact_law():
    x0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64).expand(40_000, 2)
    values = sample(PROCESS, x0, [0.0, 0.5, 3.0], solver=ExactLinear(), substeps=1, seed=1).values
    for k, t in ((1, 0.5), (2, 3.0)):
        torch.testing.assert_close(values[:, k].mean(0), PROCESS.mean(t, x0[:1])[0], rtol=0, atol=0.02)
        torch.testing.assert_close(values[:, k].T.cov(), PROCESS.covariance(t), rtol=0, atol=0.02)


def test_exact_steps_at_times_of_each_paths_own():
    x0 = torch.zeros(20_000, 1)
    process = LinearProcess([[-1.0]], [1.0], [[1.0]])
    times = torch.tensor([[0.0, 0.5, 0.5], [0.0, 1.0, 2.0]]).repeat(10_000, 1)
    values = sample(process, x0, times, solver=ExactLinear(), substeps=1, seed=1).values[:, 2, 0]
    for rows, t in ((values[::2], 0.5), (values[1::2], 2.0)):
        assert rows.mean().item() == pytest.approx(1 - math.exp(-t), abs=0.03)
        assert rows.var().item() == pytest.approx(-math.expm1(-2 * t) / 2, abs=0.03)


def test_short_exact_steps_follow_euler_maruyama():
    # The Cholesky factor over a short time is that of S S^T, so the same increments make nearly the same path.
    exact, euler = (
        sample(PROCESS, STATES, [0.0, 1.0], solver=solver, step=1e-3, seed=2).values[:, 1]
        for solver in (ExactLinear(), "euler_maruyama")
    )
    torch.testing.assert_close(exact, euler, rtol=0, atol=5e-3)


def test_a_process_with_a_linear_form_takes_exact_steps():
    class Wrapped:
        dim, noise_dim, noise_type, calculus, linear = 2, 2, "additive", "ito", PROCESS
        drift, diffusion = PROCESS.drift, PROCESS.diffusion

    ours, plain = (sample(p, STATES, [0.0, 1.0], solver=ExactLinear(), substeps=1).values for p in (Wrapped(), PROCESS))
    assert torch.equal(ours, plain)


def test_gradients_flow_through_the_exact_step():
    x = STATES.clone().requires_grad_()
    out = PROCESS.step(x, 0.5, torch.zeros_like(x))
    out.sum().backward()
    torch.testing.assert_close(x.grad, PROCESS.transition(0.5).matrix.sum(0).expand(3, 2))


# --- what it refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0]], [0.0], [[1.0]]), r"shapes \(d, d\), \(d,\) and \(d, m\)"),
        (([[1.0]], [0.0, 1.0], [[1.0]]), r"shapes \(d, d\), \(d,\) and \(d, m\)"),
        (([1.0], [0.0], [[1.0]]), r"rate must have shape \(d, d\)"),
        (([[1.0]], [0.0], [1.0]), r"volatility must have shape \(d, m\)"),
        (([[math.nan]], [0.0], [[1.0]]), "rate"),
    ],
)
def test_coefficients_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearProcess(*arguments)


def test_what_it_refuses():
    blind = LinearProcess(np.zeros((2, 2)), np.zeros(2), [[1.0], [1.0]])
    for refused, message in (
        (lambda: PROCESS.transition(-1.0), "at least 0"),
        (lambda: PROCESS.log_density(0.0, STATES, STATES), "has no density"),
        (lambda: blind.log_density(1.0, STATES, STATES), "has no density"),
        (lambda: PROCESS.step(STATES, 0.1, torch.zeros(3, 1)), "normals must have the shape"),
        (lambda: PROCESS.log_likelihood(Paths([0.0, 1.0], torch.zeros(3, 2))), "2 features, but the paths have 1"),
        (lambda: PROCESS.log_likelihood(Paths([1.0, 0.0], torch.zeros(3, 2, 2))), "times of these paths fall"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
    hidden = Paths([0.0, 1.0], torch.zeros(1, 2, 2), mask=[[True, False]])
    with pytest.raises(ValueError, match="every value must be observed"):
        PROCESS.log_likelihood(hidden)
    other = SDE(lambda t, x: -x, lambda t, x: torch.eye(2).to(x), dim=2, noise_type="additive")
    with pytest.raises(TypeError, match="needs a LinearProcess"):
        sample(other, STATES, [0.0, 1.0], solver=ExactLinear(), substeps=1)


@pytest.mark.parametrize("columns", [1, 3])
def test_the_exact_step_takes_any_number_of_brownian_motions(columns):
    """As of an oscillator that is pushed, not moved; the law is that of the transition, along any steps."""
    rate = torch.tensor([[0.0, 1.0], [-2.0, -0.5]], dtype=torch.float64)
    volatility = torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.3, 0.2]], dtype=torch.float64)[:, :columns]
    pushed = LinearProcess(rate, torch.zeros(2, dtype=torch.float64), volatility)
    x0, n = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(100_000, 2), 100_000
    law = pushed.transition(1.5)
    for substeps in (1, 3):
        end = sample(pushed, x0, [0.0, 1.5], solver="exact_linear", substeps=substeps, save="final").values[:, 0]
        deviations = torch.diagonal(law.covariance).sqrt()
        assert ((end.mean(0) - law.mean(x0[:1])[0]).abs() < 4 * deviations / n**0.5).all()
        spread = deviations[:, None] * deviations
        assert ((torch.cov(end.T) - law.covariance).abs() < 4 * 2**0.5 * spread / n**0.5).all()
