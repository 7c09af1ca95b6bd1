"""Ordinal patterns against exact masses, sorting, and the package ordpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import signal

from gendyn.evaluation import (
    complexity_limits,
    entropy_complexity,
    natural_time,
    ordinal_counts,
    ordinal_patterns,
    ordinal_statistics,
    sampling_lags,
)

RNG = np.random.default_rng(0)


def logistic_series(n):
    x = np.empty(n)
    x[0] = 0.3
    for k in range(1, n):
        x[k] = 4 * x[k - 1] * (1 - x[k - 1])
    return x


LOGISTIC = logistic_series(200_000)


def masses_of(series, order, lag=1):
    names = ["".join(map(str, pattern)) for pattern in ordinal_patterns(order)]
    return dict(zip(names, ordinal_statistics(series, order=order, lag=lag).masses, strict=True))


# --- patterns ----------------------------------------------------------------------------------------------


@given(
    st.integers(2, 6),
    st.integers(1, 4),
    st.integers(0, 40),
    st.sampled_from([np.float64, np.float32, np.int64]),
    st.integers(0, 1000),
)
@settings(deadline=None)
def test_counts_are_those_of_sorting(order, lag, extra, kind, seed):
    length = (order - 1) * lag + 1 + extra
    x = np.random.default_rng(seed).integers(0, 5, size=(2, length)).astype(kind)  # full of ties
    windows = np.stack([x[:, i * lag : x.shape[1] - (order - 1 - i) * lag] for i in range(order)], axis=-1)
    sorting = windows.argsort(axis=-1, kind="stable").reshape(-1, order)
    index = {tuple(p): k for k, p in enumerate(ordinal_patterns(order).tolist())}
    expected = np.bincount([index[tuple(p)] for p in sorting.tolist()], minlength=math.factorial(order))
    np.testing.assert_array_equal(ordinal_counts(x, order=order, lag=lag), expected)


def test_chunks_do_not_show():
    x = RNG.normal(size=300_001)
    whole = ordinal_counts(x, order=4, lag=3)
    parts = sum(ordinal_counts(x[k : k + 1009], order=4, lag=3) for k in range(0, len(x) - 9, 1000))
    assert whole.sum() == len(x) - 9
    np.testing.assert_array_equal(whole, parts)


def test_windows_with_a_gap_are_left_out():
    x = RNG.normal(size=200)
    x[[20, 100]] = np.nan
    parts = [x[:20], x[21:100], x[101:]]
    np.testing.assert_array_equal(ordinal_counts(x, order=3), sum(ordinal_counts(p, order=3) for p in parts))


def test_patterns_are_in_lexicographic_order():
    for order in (2, 4, 5):
        rows = ordinal_patterns(order).tolist()
        assert rows == sorted(rows)
        assert len({tuple(r) for r in rows}) == math.factorial(order)


@pytest.mark.parametrize("order", [3, 4, 5, 6])
def test_equal_to_ordpy(order):
    ordpy = pytest.importorskip("ordpy", reason="the package ordpy is not installed; it is only compared with")
    for x in (RNG.normal(size=5000), np.round(RNG.normal(size=5000), 1), LOGISTIC[:5000]):
        patterns, shares = ordpy.ordinal_distribution(x, dx=order, return_missing=True)
        mine = dict(zip(map(tuple, ordinal_patterns(order).tolist()), ordinal_counts(x, order=order), strict=True))
        for pattern, share in zip(patterns, shares, strict=True):
            assert mine[tuple(int(k) for k in pattern)] / (5000 - order + 1) == pytest.approx(share, abs=1e-12)
        h, c = entropy_complexity(list(mine.values()))
        assert (h, c) == pytest.approx(ordpy.complexity_entropy(x, dx=order), abs=1e-12)


# --- exact values ------------------------------------------------------------------------------------------


def test_masses_of_the_logistic_map():
    exact = {"012": 1 / 3, "021": 1 / 15, "201": 4 / 15, "102": 2 / 15, "120": 1 / 5, "210": 0.0}
    h, c = entropy_complexity(list(exact.values()))
    assert (h, c) == pytest.approx((0.831445, 0.165767), abs=1e-6)
    assert masses_of(LOGISTIC, 3) == pytest.approx(exact, abs=0.002)


@pytest.mark.parametrize(
    ("order", "entropy", "complexity", "patterns"),
    [(3, 0.831445, 0.165767, 5), (4, 0.739114, 0.291744, 12), (5, 0.679849, 0.399226, 31), (6, 0.629606, 0.484285, 75)],
)
def test_the_logistic_map(order, entropy, complexity, patterns):
    result = ordinal_statistics(LOGISTIC, order=order)
    assert (result.entropy, result.complexity) == pytest.approx((entropy, complexity), abs=0.001)
    assert result.n_patterns == patterns


def test_a_random_walk():
    h, c = entropy_complexity([1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 4])
    assert (h, c) == pytest.approx((0.967132, 0.030602), abs=1e-6)
    walk = RNG.normal(size=400_000).cumsum()
    assert masses_of(walk, 3)["012"] == pytest.approx(1 / 4, abs=0.004)
    result = ordinal_statistics(walk, order=5)
    assert (result.entropy, result.complexity) == pytest.approx((0.9156, 0.1199), abs=0.002)


def test_noise_and_order():
    assert entropy_complexity(np.full(120, 1 / 120)) == pytest.approx((1.0, 0.0), abs=1e-12)
    rising = ordinal_statistics(np.arange(2000.0))
    assert (rising.entropy, rising.complexity) == (0.0, 0.0)
    alternating = ordinal_statistics(np.tile([0.0, 1.0], 1000))
    assert (alternating.entropy, alternating.complexity) == pytest.approx((0.144783, 0.140803), abs=1e-5)


@pytest.mark.parametrize(("order", "expected"), [(3, 0.999), (4, 0.997), (5, 0.987), (6, 0.936)])
@pytest.mark.filterwarnings("ignore:.*are few for the")
def test_the_entropy_of_a_short_noise_falls_short_by_the_deficit(order, expected):
    results = [ordinal_statistics(RNG.normal(size=1000 + order - 1), order=order) for _ in range(20)]
    mean = np.mean([r.entropy for r in results])
    assert mean == pytest.approx(expected, abs=0.002)
    if order < 6:  # the first term of the expansion, for ten windows a pattern and more
        assert mean == pytest.approx(1 - results[0].deficit, abs=0.002)


def test_henon():
    x = np.empty(100_000)
    a, b = 0.1, 0.1
    for k in range(len(x)):
        a, b = 1 - 1.4 * a * a + b, 0.3 * a
        x[k] = a
    result = ordinal_statistics(x)
    assert (result.entropy, result.complexity) == pytest.approx((0.616, 0.405), abs=0.001)


@pytest.mark.parametrize(("lag", "entropy", "complexity"), [(20, 0.533, 0.406), (1, 0.189, 0.173)])
def test_a_sine(lag, entropy, complexity):
    # Seen from 60 phases: at a lag of 1 few of the 173 samples of a period are turning points.
    phases = 2 * np.pi * np.arange(60)[:, None] / 60
    x = np.sin(2 * np.pi * np.arange(1038) / 173 + phases)
    result = ordinal_statistics(x, lag=lag)
    assert (result.entropy, result.complexity) == pytest.approx((entropy, complexity), abs=0.006)
    assert 0.144783 <= result.entropy <= 0.551240


@pytest.mark.parametrize(("power", "entropy", "complexity"), [(1, 0.971, 0.063), (2, 0.858, 0.231), (3, 0.443, 0.296)])
def test_coloured_noise(power, entropy, complexity):
    rng = np.random.default_rng(1)
    n = 1 << 17
    frequencies = np.fft.rfftfreq(n)
    weights = np.zeros(len(frequencies))
    weights[1:] = frequencies[1:] ** (-power / 2)
    results = []
    for _ in range(6):
        x = np.fft.irfft(weights * (rng.normal(size=len(weights)) + 1j * rng.normal(size=len(weights))))
        results.append(ordinal_statistics(x, order=6))
    assert np.mean([r.entropy for r in results]) == pytest.approx(entropy, abs=0.02)
    assert np.mean([r.complexity for r in results]) == pytest.approx(complexity, abs=0.02)


# --- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "shared", "peak", "at"), [(3, 3, 0.291452, 0.613), (4, 6, 0.354090, 0.564), (5, 19, 0.424820, 0.615)]
)
def test_the_peak_of_complexity(order, shared, peak, at):
    entropy = math.log(shared) / math.log(math.factorial(order))
    assert entropy == pytest.approx(at, abs=5e-4)
    assert complexity_limits(entropy, order=order)[1] == pytest.approx(peak, abs=1e-6)
    grid = np.linspace(0, 1, 5001)
    assert complexity_limits(grid, order=order)[1].max() <= peak + 1e-6


@given(
    arrays(np.float64, st.sampled_from([6, 24, 120]), elements=st.floats(0, 1)).filter(lambda m: m.sum() > 0),
    st.floats(0.1, 20),
)
@settings(max_examples=300, deadline=None)
def test_every_law_lies_between_the_limits(masses, sharpness):
    order = {6: 3, 24: 4, 120: 5}[len(masses)]
    p = (masses / masses.max()) ** sharpness
    h, c = entropy_complexity(p)
    least, largest = complexity_limits(np.clip(h, 0, 1), order=order)
    assert 0 <= h <= 1 + 1e-12
    assert least - 1e-9 <= c <= largest + 1e-9


def test_limits_are_reached_by_their_laws():
    n = 24
    heavy = np.full(n, 0.6 / (n - 1))
    heavy[0] = 0.4
    h, c = entropy_complexity(heavy)
    assert complexity_limits(h, order=4)[0] == pytest.approx(c, abs=1e-9)
    light = np.zeros(n)
    light[:8] = [0.03] + [0.97 / 7] * 7
    h, c = entropy_complexity(light)
    assert complexity_limits(h, order=4)[1] == pytest.approx(c, abs=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_monotone_maps_do_not_show(seed):
    x = np.random.default_rng(seed).normal(size=300)
    for f in (np.exp, np.tanh, lambda z: z**3, lambda z: 2 * z - 5):
        np.testing.assert_array_equal(ordinal_counts(f(x), order=4), ordinal_counts(x, order=4))


def test_reversal_and_sign_permute_the_masses():
    x = RNG.normal(size=3000).cumsum()
    one = ordinal_statistics(x, order=4)
    for other in (x[::-1], -x):
        two = ordinal_statistics(other.copy(), order=4)
        assert two.entropy == pytest.approx(one.entropy, abs=1e-12)
        np.testing.assert_allclose(np.sort(two.masses), np.sort(one.masses))


# --- sampling ----------------------------------------------------------------------------------------------


def test_natural_time_of_a_sine_is_its_period():
    x = np.sin(2 * np.pi * np.arange(17_300) / 173)
    assert natural_time(x, time_step=0.1) == pytest.approx(17.3, rel=0.01)
    assert natural_time(np.stack([x, x])) == pytest.approx(173, rel=0.01)
    gaps = x.copy()
    gaps[RNG.random(len(x)) < 0.2] = np.nan
    assert natural_time(gaps) == pytest.approx(173, rel=0.1)
    assert natural_time(np.arange(11.0)) == 10.0


@given(st.integers(40, 2000), st.integers(3, 7))
@settings(max_examples=40, deadline=None)
def test_lags_span_the_asked_part_of_the_natural_time(period, order):
    x = np.sin(2 * np.pi * np.arange(20 * period) / period + 0.3)
    scale = natural_time(x)
    lags = sampling_lags(x, order=order)
    assert 1 <= len(lags) <= 3
    for lag in lags:
        assert 0.3 <= lag * (order - 1) / scale <= 0.5 or len(lags) == 1
    if 0.2 * scale >= order:
        assert len(lags) > 1 or 0.3 <= lags[0] * (order - 1) / scale <= 0.5


def test_lags_of_maps_are_one_and_short_series_are_said_to_be():
    assert sampling_lags(LOGISTIC[:5000]) == (1,)
    assert sampling_lags(RNG.normal(size=1000)) == (1,)
    with pytest.warns(UserWarning, match="lasts 1 natural times"):
        assert sampling_lags(np.arange(100.0)) == (8, 10, 12)


def test_filtered_noise_is_seen_as_noise_at_its_own_scale():
    x = signal.lfilter(*signal.butter(4, 0.02), RNG.normal(size=200_000))
    fine = ordinal_statistics(x, lag=1).entropy
    own = ordinal_statistics(x, lag=sampling_lags(x)[1]).entropy
    assert fine < 0.4 < 0.6 < own


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ordinal_counts(np.zeros(9), order=10), "order must be a whole number from 2 to 9; got 10"),
        (lambda: ordinal_counts(np.zeros(9), lag=0), "lag must be a whole number of at least 1; got 0"),
        (lambda: ordinal_counts(np.zeros(8), lag=2), r"5 values 2 steps apart spans 9; the series has shape \(8,\)"),
        (lambda: ordinal_statistics(np.full(20, np.nan)), "no window of 5 values"),
        (lambda: entropy_complexity([1.0]), "two patterns or more"),
        (lambda: entropy_complexity([0.5, -0.5]), "non-negative"),
        (lambda: complexity_limits(1.2), "entropies must lie in 0 to 1"),
        (lambda: natural_time(1.0), "two values or more"),
        (lambda: sampling_lags(np.zeros(100), low=0.6), "in order"),
        (lambda: sampling_lags(np.zeros(4)), "does not fit into a series"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_few_windows_are_said_to_be():
    with pytest.warns(UserWarning, match="96 windows are few for the 120 patterns of order 5"):
        ordinal_statistics(RNG.normal(size=100))


def test_tensors_strides_and_grids():
    x = RNG.normal(size=(4, 60))
    expected = ordinal_counts(x[:, ::2].copy(), order=3)
    np.testing.assert_array_equal(ordinal_counts(x[:, ::2], order=3), expected)
    np.testing.assert_array_equal(ordinal_counts(torch.from_numpy(x)[:, ::2], order=3), expected)
    np.testing.assert_array_equal(ordinal_counts(x[:, ::2].astype(np.float32), order=3), expected)
