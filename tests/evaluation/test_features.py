"""Differences of single features, against independent implementations and known values."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gendyn import Paths
from gendyn.data import table_windows
from gendyn.evaluation import (
    autocorrelation_difference,
    correlational_score,
    kurtosis_difference,
    marginal_difference,
    marginal_ks,
    skewness_difference,
)
from gendyn.evaluation.features import autocorrelation, ks_statistics
from gendyn.evaluation.path_set import path_sets

RNG = np.random.default_rng(0)
X = RNG.gamma(2.0, size=(300, 6, 3)).cumsum(1)
Y = RNG.normal(size=(250, 6, 3)).cumsum(1)
Y[..., 1] += Y[..., 0]

ALL = [
    marginal_difference,
    correlational_score,
    autocorrelation_difference,
    skewness_difference,
    kurtosis_difference,
    marginal_ks,
]

STOCK = Path(os.environ.get("GENDYN_DATA", "")) / "timeseries_eval" / "stock_data.csv"


def sines(seed: int, n: int = 10_000) -> np.ndarray:
    frequency, phase = np.random.default_rng(seed).uniform(0, 0.1, (2, n, 1, 5))
    return (np.sin(frequency * np.arange(24)[:, None] + phase) + 1) / 2


def test_marginal_difference_is_that_of_histograms() -> None:
    gaps = []
    for t in range(1, 6):
        for k in range(3):
            edges = np.linspace(X[:, t, k].min(), X[:, t, k].max(), 51)
            width = edges[1] - edges[0]
            p, q = (np.histogram(z[:, t, k], edges)[0] / (len(z) * width) for z in (X, Y))
            gaps.append(np.abs(p - q).mean())
    assert marginal_difference(X, Y, n_bootstrap=0).value == pytest.approx(np.mean(gaps), rel=1e-12)


def test_correlational_score_is_that_of_numpy() -> None:
    gaps = np.abs(np.corrcoef(X.reshape(-1, 3).T) - np.corrcoef(Y.reshape(-1, 3).T))
    result = correlational_score(X, Y, n_bootstrap=0)
    assert result.value == pytest.approx(np.tril(gaps).sum() / 10, rel=1e-12)
    assert correlational_score(X, Y, n_bootstrap=0, table_compatible=False).value == pytest.approx(10 * result.value)


def test_autocorrelation_is_the_mean_of_lagged_products() -> None:
    found = autocorrelation(path_sets(X, X, metric="m")[0])
    centred = X - X.mean((0, 1))
    for lag in range(6):
        products = (centred[:, : 6 - lag] * centred[:, lag:]).mean((0, 1))
        np.testing.assert_allclose(found[lag], products / centred.var((0, 1)), rtol=1e-12)


def test_autocorrelation_of_an_autoregression() -> None:
    x = RNG.normal(size=(20_000, 1, 1))
    steps = [x]
    for _ in range(11):
        steps.append(0.8 * steps[-1] + 0.6 * RNG.normal(size=x.shape))
    found = autocorrelation(path_sets(np.concatenate(steps, axis=1), x.repeat(12, 1), metric="m")[0])
    np.testing.assert_allclose(found[:, 0], 0.8 ** np.arange(12), atol=0.03)


def test_skewness_and_kurtosis_are_those_of_scipy() -> None:
    flat = [z.reshape(-1, 3) for z in (X, Y)]
    skew, kurtosis = (np.abs(f(flat[0]) - f(flat[1])).mean() for f in (stats.skew, stats.kurtosis))
    assert skewness_difference(X, Y, n_bootstrap=0).value == pytest.approx(skew, rel=1e-10)
    assert kurtosis_difference(X, Y, n_bootstrap=0).value == pytest.approx(kurtosis, rel=1e-10)


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31), st.sampled_from([1, 10]))
def test_ks_is_that_of_scipy_with_and_without_ties(n: int, m: int, seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (np.round(rng.normal(size=(size, 4)) * steps) / steps for size in (n, m))
    expected = [stats.ks_2samp(x[:, k], y[:, k]).statistic for k in range(4)]
    np.testing.assert_allclose(ks_statistics(x, y), expected, atol=1e-12)


def test_ks_leaves_gaps_out() -> None:
    x, y = RNG.normal(size=(50, 2)), RNG.normal(size=(40, 2))
    x[RNG.random(x.shape) < 0.4], y[RNG.random(y.shape) < 0.2] = np.nan, np.nan
    expected = [stats.ks_2samp(x[:, k], y[:, k], nan_policy="omit").statistic for k in range(2)]
    np.testing.assert_allclose(ks_statistics(x, y), expected, atol=1e-12)


def test_ks_p_values_are_adjusted_by_holm() -> None:
    x, y = RNG.normal(size=(1000, 5, 2)), RNG.normal(size=(1000, 5, 2))
    result = marginal_ks(x, y, n_bootstrap=0)
    p = [stats.ks_2samp(x[:, t, k], y[:, t, k], method="asymp").pvalue for t in range(5) for k in range(2)]
    assert result.p_value == pytest.approx(min(1.0, 10 * min(p)), rel=1e-6)
    assert result.extra["marginals"] == 10
    assert result.extra["rejected"] == pytest.approx(np.mean(np.array(p) < 0.05))


def test_ks_critical_value() -> None:
    """For equal laws 5 % of the statistics exceed 1.358 sqrt(2 / n)."""
    x, y = RNG.normal(size=(2, 1000, 2000))
    assert abs((ks_statistics(x, y) > 1.358 * np.sqrt(2 / 1000)).mean() - 0.05) < 0.02


def test_ks_looks_at_ten_times_and_at_their_ends() -> None:
    x = RNG.normal(size=(100, 24, 1))
    moved = x.copy()
    moved[:, [0, -1]] += 9
    result = marginal_ks(x, moved, n_bootstrap=0)
    assert result.extra["marginals"] == 10
    assert result.value == pytest.approx(0.2)
    with pytest.raises(ValueError, match="n_times must be at least 1; got 0"):
        marginal_ks(x, x, n_times=0)


def test_known_values_of_the_sines() -> None:
    one, two = sines(0), sines(99)
    flat = one.reshape(-1, 5)
    assert flat.mean() == pytest.approx(0.7474, abs=2e-3)
    assert flat.std() == pytest.approx(0.1604, abs=2e-3)
    expected = {
        correlational_score: 0.0067,
        marginal_difference: 0.227,
        autocorrelation_difference: 0.031,
        skewness_difference: 0.015,
        kurtosis_difference: 0.009,
    }
    for metric, value in expected.items():
        found = metric(one, two, n_bootstrap=0).value
        assert found == pytest.approx(value, abs=0.5 * 10.0 ** -len(str(value).partition(".")[2])), metric.__name__


@pytest.mark.skipif(not STOCK.is_file(), reason="needs the share prices of GENDYN_DATA")
def test_known_values_of_share_prices() -> None:
    """The first and the second half of the prices differ in everything; a Gaussian has their autocorrelation."""
    windows = table_windows(pd.read_csv(STOCK).to_numpy(dtype=np.float64)).values.numpy()
    half = len(windows) // 2
    expected = {
        correlational_score: (0.0381, 5e-5),
        marginal_difference: (1.80, 5e-3),
        autocorrelation_difference: (0.168, 5e-4),
        skewness_difference: (0.920, 5e-4),
        kurtosis_difference: (2.87, 5e-3),
    }
    for metric, (value, digits) in expected.items():
        assert metric(windows[:half], windows[half:], n_bootstrap=0).value == pytest.approx(value, abs=digits)
    flat = windows.reshape(len(windows), -1)
    drawn = np.random.default_rng(0).multivariate_normal(flat.mean(0), np.cov(flat.T), len(flat))
    gaussian = drawn.reshape(windows.shape).clip(0, 1)
    assert autocorrelation_difference(windows, gaussian, n_bootstrap=0).value < 0.04
    assert skewness_difference(windows, gaussian, n_bootstrap=0).value == pytest.approx(0.917, abs=0.05)
    assert marginal_difference(windows, gaussian, n_bootstrap=0).value == pytest.approx(0.669, abs=0.04)


@pytest.mark.parametrize("metric", ALL)
def test_zero_for_equal_sets_and_rising_with_the_share_of_others(metric: object) -> None:
    other = (np.sqrt(X) - 3 * X[:, ::-1, ::-1]) * [1.0, 1.0, -1.0]
    # Of the same mean and deviation, so that every moment of a mixture lies on the line between those of its parts.
    other = (other - other.mean((0, 1))) / other.std((0, 1)) * X.std((0, 1)) + X.mean((0, 1))
    values = []
    for share in (0, 30, 75, 150):
        values.append(metric(X, np.concatenate([other[:share], X[share:]]), n_bootstrap=0).value)
    assert values[0] == pytest.approx(0, abs=1e-12)
    # A fourth moment follows single paths so closely that it need not rise at every share.
    assert values == sorted(values) or metric is kurtosis_difference
    assert values[-1] > 0.01


@pytest.mark.parametrize("metric", ALL)
def test_order_of_paths_does_not_matter(metric: object) -> None:
    shuffled = [z[RNG.permutation(len(z))] for z in (X, Y)]
    assert metric(*shuffled, n_bootstrap=0).value == pytest.approx(metric(X, Y, n_bootstrap=0).value, rel=1e-10)


@pytest.mark.parametrize("metric", [m for m in ALL if m is not marginal_difference])
def test_units_do_not_matter(metric: object) -> None:
    one, two = (z * [2.0, 0.1, 30.0] - [5.0, 0.0, 1.0] for z in (X, Y))
    assert metric(one, two, n_bootstrap=0).value == pytest.approx(metric(X, Y, n_bootstrap=0).value, rel=1e-8)


@pytest.mark.parametrize("metric", ALL)
def test_gaps(metric: object) -> None:
    whole = Paths(range(6), X, mask=np.ones(X.shape, dtype=bool))
    reference = metric(X, Y)
    assert metric(whole, Y).value == reference.value
    holes = RNG.random((len(X), 6)) < 0.3  # rows go at random, as in tables of irregular series
    gappy = metric(Paths(range(6), X, mask=~holes), Y)
    assert gappy.low < reference.value < gappy.high
    assert abs(gappy.value - reference.value) < 0.35 * reference.value + 0.05


@pytest.mark.parametrize("metric", ALL)
def test_a_constant_channel_is_left_out_with_a_warning(metric: object) -> None:
    one, two = (np.concatenate([z, np.ones((len(z), 6, 1))], axis=2) for z in (X, Y))
    with pytest.warns(UserWarning, match="leaves out channel 'x3', which is constant in the real paths"):
        assert metric(one, two, n_bootstrap=0).value == pytest.approx(metric(X, Y, n_bootstrap=0).value)


@pytest.mark.parametrize("metric", ALL)
def test_floor_interval_seed_and_broken_paths(metric: object) -> None:
    one, two = metric(X, Y, seed=4), metric(X, Y, seed=4)
    assert one.to_dict() | {"seconds": 0} == two.to_dict() | {"seconds": 0}
    assert one.low < one.value < one.high
    assert 0 < one.floor < one.value
    broken = Y.copy()
    broken[3, 2, 1] = np.inf
    with pytest.raises(ValueError, match="generated paths must be finite"):
        metric(X, broken)
    assert metric(X, broken, on_nan="count", n_bootstrap=0).extra["dropped"] == 1


def test_a_time_at_which_all_real_paths_are_equal_has_no_histogram() -> None:
    fixed = X.copy()
    fixed[:, 1] = 0
    assert np.isfinite(marginal_difference(fixed, Y, n_bootstrap=0).value)
    with pytest.raises(ValueError, match="found no time and channel at which real paths vary"):
        marginal_difference(fixed[:, :2], Y[:, :2], n_bootstrap=0)


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="correlational score needs at least 2 channels that vary; got 1"):
        correlational_score(X[..., :1], Y[..., :1])
    with pytest.raises(ValueError, match="autocorrelation difference needs at least 2 times"):
        autocorrelation_difference(X[:, :1], Y[:, :1])
    with pytest.raises(ValueError, match="no meaning for times of each path's own"):
        marginal_ks(Paths(np.arange(1800.0).reshape(300, 6), X), Y)
