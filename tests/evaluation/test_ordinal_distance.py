"""The distance of ordinal patterns: blind to monotone maps, sharp to the order of time."""

import numpy as np
import pytest
from scipy import signal

from gendyn import Paths
from gendyn.evaluation import ordinal_distance, ordinal_distance_value, ordinal_statistics
from gendyn.evaluation.ordinal import sampling_lags

RNG = np.random.default_rng(0)


def test_forbidden_patterns_are_as_far_as_can_be():
    rising, falling = np.arange(500.0), -np.arange(500.0)
    assert ordinal_distance_value(rising, falling, lags=[1]) == pytest.approx(1.0)
    assert ordinal_distance_value(rising, 2 * rising**3, lags=[1]) == 0.0


def test_the_value_is_that_of_the_masses():
    x, y = RNG.normal(size=3000), RNG.normal(size=2500).cumsum()
    p, q = (ordinal_statistics(z, order=4, lag=2).masses for z in (x, y))
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = sum(np.nansum(r * np.log2(r / m)) for r in (p, q)) / 2
    assert ordinal_distance_value(x, y, order=4, lags=[2]) == pytest.approx(np.sqrt(divergence), rel=1e-9)
    assert ordinal_distance_value(y, x, order=4, lags=[2]) == pytest.approx(np.sqrt(divergence), rel=1e-9)


def test_monotone_maps_of_a_channel_do_not_show():
    x, y = RNG.normal(size=(2, 4000, 2)).cumsum(1) / 10
    value = ordinal_distance_value(x, y, lags=[1, 5])
    assert ordinal_distance_value(np.exp(x / 20), np.exp(y / 20), lags=[1, 5]) == pytest.approx(value, abs=1e-12)


def test_more_of_another_motion_is_farther():
    x, y = RNG.normal(size=(2, 20_000))
    smooth = signal.lfilter([1, 1, 1], [1], RNG.normal(size=20_000))
    values = [ordinal_distance_value(x, (1 - s) * y + s * smooth, order=4, lags=[1]) for s in (0, 0.3, 0.6, 0.9)]
    assert values == sorted(values)


def test_floor_interval_and_places_in_the_plane():
    x, y = RNG.normal(size=(2, 8000))
    result = ordinal_distance(x, y.cumsum(), order=4, seed=2)
    assert result.low < result.value < result.high
    assert result.value > 5 * result.floor
    assert (result.n_real, result.extra["floor_size"]) == (8000, 4000)
    channel = result.extra["channels"]["x0"]
    assert channel["lags"] == [1]
    (h, c), (g, b) = channel["real"][0], channel["generated"][0]
    assert (h, c) == pytest.approx((1.0, 0.0), abs=0.01)
    assert result.extra["entropy_difference"] == pytest.approx(g - h)
    assert result.extra["complexity_difference"] == pytest.approx(b - c)
    again = ordinal_distance(x, y.cumsum(), order=4, seed=2)
    assert (again.low, again.floor) == (result.low, result.floor)


def test_sets_of_short_paths():
    x, y = RNG.normal(size=(300, 24, 3)).cumsum(1), RNG.normal(size=(200, 24, 3)).cumsum(1)
    result = ordinal_distance(x, y, order=4)
    assert (result.n_real, result.n_generated, result.extra["floor_size"]) == (300, 200, 150)
    assert result.value < 2 * result.floor
    assert ordinal_distance(x, np.diff(y, axis=1, prepend=0.0), order=4).value > 3 * result.floor


def test_gaps_are_left_out():
    x, y = RNG.normal(size=(40, 100, 1)), RNG.normal(size=(40, 100, 1))
    mask = RNG.random(x.shape) < 0.9
    full = ordinal_distance(x, y, order=3, lags=[1])
    gaps = ordinal_distance(Paths(range(100), x, mask=mask), y, order=3, lags=[1])
    assert gaps.value == pytest.approx(full.value, abs=0.03)
    assert gaps.extra["windows"] < full.extra["windows"]
    whole = Paths(range(100), x, mask=np.ones(x.shape, dtype=bool))
    assert ordinal_distance(whole, y, order=3, lags=[1]).value == full.value


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_lags_are_chosen_from_the_real_side(noise):
    x = np.sin(0.05 * np.arange(6000)) + noise * RNG.normal(size=6000)
    result = ordinal_distance(x, RNG.normal(size=6000), n_bootstrap=0)
    assert tuple(result.extra["channels"]["x0"]["lags"]) == sampling_lags(x)
    assert len(sampling_lags(x)) == 3 or noise  # noise crosses the mean often, and leaves few lags to choose from
    reference = ordinal_distance(x, RNG.normal(size=6000), reference=x, n_bootstrap=0)
    assert reference.floor == 0.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: ordinal_distance(x[:4], x), "ordinal distance needs at least 5 times; the real paths have 4"),
        (
            lambda x: ordinal_distance(x, x, lags=[]),
            "lags of at least 1 and at most 37 for 5 values in trajectories of 300 and 300 times.*got 0",
        ),
        (lambda x: ordinal_distance(x, x, lags=[100]), "at most 37.*got 100"),
        (lambda x: ordinal_distance(x[:9], x), "at most 0 for 5 values in trajectories of 9 and 300 times.*got 1"),
        (lambda x: ordinal_distance(x, x, order=1), "order must be a whole number"),
        (lambda x: ordinal_distance(Paths([0, 1, 3, 4, 5, 6], x[None, :6, None]), x), "evenly spaced"),
        (
            lambda x: ordinal_distance(
                Paths(range(300), x[None, :, None], mask=(np.arange(300) % 3 > 0)[None]), x, order=4, lags=[1]
            ),
            "no window of 4 values without a gap",
        ),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call(RNG.normal(size=300))
