"""Fractional Brownian motion, fractional Ornstein-Uhlenbeck and rough volatility against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from gendyn.systems import FractionalBrownianMotion, FractionalOrnsteinUhlenbeck, RoughBergomi, Sines, simulate_paths

# Variance at time 2 from a start at 0: kind I at rates 1 and 2, kind II at rates 1 and 2.
STARTED = {
    0.1: (0.470419, 0.400022, 0.710219, 0.622432),
    0.3: (0.455497, 0.295215, 0.498008, 0.329383),
    0.5: (0.490842, 0.249916, 0.490842, 0.249916),
    0.7: (0.564320, 0.233513, 0.597017, 0.256099),
    0.9: (0.675899, 0.234943, 0.804594, 0.320983),
}


def within_error(x, covariance):
    """Whether the covariance of rows x is the given one within four and a half standard errors."""
    found = x.T @ x / len(x)
    variances = covariance.diagonal()
    error = ((covariance.square() + variances[:, None] * variances) / len(x)).sqrt()
    return bool(((found - covariance).abs() <= 4.5 * error + 1e-10).all())


@pytest.mark.parametrize(
    ("hurst", "rate", "lag", "value"),
    [(0.7, 2, 0.5, 0.1494781), (0.3, 1, 1, 0.0617334), (0.1, 1, 0.5, 0.0404082), (0.9, 2, 2, 0.1599814)],
)
def test_stationary_autocovariance(hurst, rate, lag, value):
    process = FractionalOrnsteinUhlenbeck(hurst=hurst, rate=rate)
    assert process.autocovariance(lag).item() == pytest.approx(value, abs=5e-8)
    variance = math.gamma(2 * hurst + 1) / (2 * rate ** (2 * hurst))
    assert process.autocovariance(0.0).item() == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("hurst", [0.1, 0.3, 0.7, 0.9])
def test_autocovariance_is_the_transform_of_the_spectrum(hurst):
    # w = u^2/(1-u)^2-like substitutions are avoided: the two singular ends are integrated with their own weights.
    process = FractionalOrnsteinUhlenbeck(hurst=hurst)
    strength = math.gamma(2 * hurst + 1) * math.sin(math.pi * hurst) / math.pi
    for lag in (0.5, 3.0, 12.0, 30.0):
        near = quad(lambda w, t=lag: math.cos(w * t) / (1 + w * w), 0, 1, weight="alg", wvar=(1 - 2 * hurst, 0))[0]
        far = quad(lambda w: w ** (1 - 2 * hurst) / (1 + w * w), 1, np.inf, weight="cos", wvar=lag, limlst=200)[0]
        assert process.autocovariance(lag).item() == pytest.approx(strength * (near + far), abs=2e-7)


def test_autocovariance_is_smooth_across_the_switch_and_decays_as_a_power():
    for hurst in (0.1, 0.3, 0.5, 0.7, 0.9):
        process = FractionalOrnsteinUhlenbeck(hurst=hurst)
        around = process.autocovariance(8.0 + 1e-3 * np.arange(-4, 5))
        second = around.diff().diff()
        assert (second.diff().abs().max() / around.abs().max()).item() < 1e-8
        if hurst != 0.5:
            tail = hurst * (2 * hurst - 1) * 1000.0 ** (2 * hurst - 2)
            assert process.autocovariance(1000.0).item() == pytest.approx(tail, rel=1e-4)
    # At one half it is the exponential of an Ornstein-Uhlenbeck process.
    lags = torch.linspace(0, 20, 41, dtype=torch.float64)
    torch.testing.assert_close(
        FractionalOrnsteinUhlenbeck(hurst=0.5).autocovariance(lags), 0.5 * torch.exp(-lags), atol=1e-12, rtol=1e-6
    )


@pytest.mark.parametrize("hurst", STARTED)
def test_variance_from_a_start(hurst):
    cases = [("I", 1.0), ("I", 2.0), ("II", 1.0), ("II", 2.0)]
    for (kind, rate), value in zip(cases, STARTED[hurst], strict=True):
        process = FractionalOrnsteinUhlenbeck(hurst=hurst, rate=rate, start=0.0, kind=kind)
        assert process.covariance([2.0]).item() == pytest.approx(value, abs=6e-7)


@pytest.mark.parametrize("hurst", [0.2, 0.7])
@pytest.mark.parametrize("kind", ["I", "II"])
def test_a_started_process_without_return_is_the_noise(hurst, kind):
    # As the rate vanishes, what is left is fractional Brownian motion of the same kind.
    times = [0.0, 0.5, 1.0, 1.7]
    slow = FractionalOrnsteinUhlenbeck(hurst=hurst, rate=1e-7, start=0.0, kind=kind).covariance(times)
    noise = FractionalBrownianMotion(hurst=hurst, kind=kind).covariance(times)
    torch.testing.assert_close(slow, noise, atol=2e-4 if kind == "I" else 1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_at_one_half_it_is_ornstein_uhlenbeck(kind):
    times = torch.tensor([0.0, 0.3, 1.0, 1.25], dtype=torch.float64)
    process = FractionalOrnsteinUhlenbeck(hurst=0.5, rate=2.0, volatility=3.0, start=1.0, kind=kind)
    gaps, sums = (times[:, None] - times).abs(), times[:, None] + times
    torch.testing.assert_close(
        process.covariance(times), 9 / 4 * (torch.exp(-2 * gaps) - torch.exp(-2 * sums)), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(process.conditional_mean(times), torch.exp(-2 * times))


@pytest.mark.parametrize("grid", [(0.0, 0.5, 1.0, 1.5), (0.1, 0.2, 0.7, 3.0)])
@pytest.mark.parametrize(
    "process",
    [
        FractionalOrnsteinUhlenbeck(hurst=0.3),
        FractionalOrnsteinUhlenbeck(hurst=0.8, mean=2.0, rate=0.5),
        FractionalOrnsteinUhlenbeck(hurst=0.2, start=3.0, mean=1.0),
        FractionalOrnsteinUhlenbeck(hurst=0.7, start=0.0, kind="II", volatility=2.0),
    ],
)
def test_paths_have_the_law(process, grid):
    paths = process.paths(grid, 20_000, seed=0, dtype=torch.float64)
    centred = paths.values[:, :, 0] - process.conditional_mean(grid)
    assert within_error(centred, process.covariance(grid))


def test_fractional_paths_of_several_features():
    process = FractionalBrownianMotion(hurst=0.2, volatility=2.0, dim=2)
    x = simulate_paths(process, [0.0, 0.5, 1.0], n=20_000, dtype=torch.float64).values
    assert within_error(x[..., 0], process.covariance([0.0, 0.5, 1.0]))
    assert within_error(x[:, -1], 4.0 * torch.eye(2).double())


def check_forward_variance(variance, log_variance):
    """Check that values have the mean xi = .0552, within three standard errors.

    The plain mean of a log-normal this wide is far from normal even for 100 000 values; mean and variance of the
    logarithms tell the same with a third of the error, which is normal.
    """
    logs = variance.log()
    told = logs.mean().item() + 0.5 * logs.var().item() - math.log(0.0552)
    assert abs(told) < 3 * math.sqrt((log_variance + log_variance**2 / 2) / len(variance))
    # The shape of the logarithms, without which these two would tell nothing of the mean.
    z = (logs - logs.mean()) / logs.std()
    assert abs(z.pow(3).mean().item()) < 3 * math.sqrt(6 / len(z))
    assert abs(z.pow(4).mean().item() - 3) < 3 * math.sqrt(24 / len(z))


@pytest.mark.parametrize("volatility", [0.5, 1.9])
def test_rough_variance_has_its_mean_and_its_roughness(volatility):
    model, n = RoughBergomi(volatility_of_volatility=volatility), 40_000
    times = [0.0, 0.1, 0.5, 1.0]
    variance = model.paths(times, n, seed=0, dtype=torch.float64).values[..., 1]
    assert variance[:, 0].eq(0.0552).all()
    for k, t in enumerate(times[1:], 1):
        log_variance = volatility**2 * t**0.14
        check_forward_variance(variance[:, k], log_variance)
        if volatility < 1:
            error = 0.0552 * math.sqrt(math.expm1(log_variance) / n)
            assert abs(variance[:, k].mean().item() - 0.0552) < 3 * error
        assert variance[:, k].log().var().item() == pytest.approx(log_variance, rel=3 * math.sqrt(2 / n))
    logs = variance[:, 1:].log()
    assert within_error(logs - logs.mean(0), model.log_variance_covariance(times[1:]))


@pytest.mark.parametrize("resolution", [0.01, 5e-4])
def test_the_markov_approximation_keeps_mean_and_roughness(resolution):
    # At a step of 5e-4 the exact draw is out of reach of most machines; the approximation is not.
    model = RoughBergomi(method="markov", resolution=resolution)
    times, n = [0.0, 0.002, 0.1, 0.5, 1.0], 40_000 if resolution > 1e-3 else 2000
    values = model.paths(times, n, seed=0, dtype=torch.float64).values
    variance = values[..., 1]
    for k, t in enumerate(times[1:], 1):
        log_variance = 1.9**2 * t**0.14
        check_forward_variance(variance[:, k], log_variance)
        rel = 0.05 + (0 if n > 9999 else 3 * math.sqrt(2 / n))
        assert variance[:, k].log().var().item() == pytest.approx(log_variance, rel=rel)
    price = values[:, -1, 0]
    assert abs(price.mean().item() - 1.0) < 3 * price.std().item() / n**0.5
    assert torch.corrcoef(torch.stack([price.log(), variance[:, -1].log()]))[0, 1] < -0.15
    again = model.paths(times, 5, seed=0, dtype=torch.float64).values
    torch.testing.assert_close(again, values[:5])


def test_the_compensator_is_that_of_the_approximation():
    # Few processes lack variance, and the mean of the variance is right all the same.
    model = RoughBergomi(method="markov", count=2, volatility_of_volatility=1.0)
    variance = model.paths([0.0, 1.0], 40_000, seed=0, dtype=torch.float64).values[:, 1, 1]
    assert abs(variance.mean().item() - 0.0552) < 3 * variance.std().item() / 200


def test_the_rough_price_is_a_martingale_that_falls_when_variance_rises():
    model = RoughBergomi(resolution=0.02)
    values = model.paths([0.25, 1.0], 40_000, seed=1, dtype=torch.float64).values
    price, variance = values[..., 0], values[..., 1]
    for k in (0, 1):
        error = price[:, k].std().item() / 200
        assert abs(price[:, k].mean().item() - 1.0) < 3 * error
    assert torch.corrcoef(torch.stack([price[:, 0].log(), variance[:, 0].log()]))[0, 1] < -0.3
    assert RoughBergomi(spot=3.0).paths([0.0, 0.5], 2).values[:, 0, 0].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("method", ["exact", "markov"])
def test_rough_bergomi_at_its_start_and_at_one_later_time(method):
    model = RoughBergomi(spot=3.0, method=method)
    start = model.paths([0.0], 2, dtype=torch.float64)
    assert start.values.tolist() == [[[3.0, 0.0552]]] * 2
    assert start.times.tolist() == [0.0]
    assert start.names == ("price", "variance")
    alone, both = model.paths([0.5], 4).values, model.paths([0.0, 0.5], 4).values
    torch.testing.assert_close(alone[:, 0], both[:, 1])


def test_without_volatility_of_volatility_it_is_black_and_scholes():
    model = RoughBergomi(volatility_of_volatility=0.0, resolution=0.25)
    values = model.paths([0.0, 1.0], 40_000, seed=0, dtype=torch.float64).values
    assert torch.allclose(values[..., 1], torch.tensor(0.0552).double())
    logs = values[:, 1, 0].log()
    assert logs.mean().item() == pytest.approx(-0.0276, abs=4 * math.sqrt(0.0552) / 200)
    assert logs.var().item() == pytest.approx(0.0552, rel=0.04)


def test_sines_have_the_moments_of_the_benchmark():
    waves = Sines()
    grid = torch.arange(24.0, dtype=torch.float64)
    mean, variance = waves.mean(grid), waves.covariance(grid, grid)
    for j, level, deviation in ((0, 0.52498, 0.01441), (12, 0.78464, 0.13435), (23, 0.86973, 0.13467)):
        assert mean[j].item() == pytest.approx(level, abs=5e-6)
        assert variance[j].sqrt().item() == pytest.approx(deviation, abs=5e-6)
    pooled = (variance + mean.square()).mean() - mean.mean().square()
    assert mean.mean().item() == pytest.approx(0.7474, abs=5e-4)
    assert pooled.sqrt().item() == pytest.approx(0.1604, abs=5e-4)
    x = waves.paths(waves.times, 20_000, dtype=torch.float64).values
    assert x.min() >= 0
    assert x.max() <= 1
    torch.testing.assert_close(x.mean((0, 2)), mean, atol=2e-3, rtol=0)
    across = ((x[:, 5] - mean[5]) * (x[:, 20] - mean[20])).mean(0)
    torch.testing.assert_close(across, waves.covariance(5.0, 20.0).expand(5), atol=1e-3, rtol=0)
    assert torch.corrcoef(x[:, 12].T).fill_diagonal_(0).abs().max() < 0.04


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: FractionalOrnsteinUhlenbeck(start=0.0).covariance([-1.0]), "finite numbers that are not negative"),
        (lambda: RoughBergomi().paths([-1.0, 1.0], 2), "the model begins at time 0; got -1"),
        (lambda: RoughBergomi(resolution=1e-5).paths([0.0, 1.0], 2), "100000 steps are too many.*or method='markov'"),
        (lambda: RoughBergomi(method="fast"), "method must be 'exact' or 'markov'"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()
