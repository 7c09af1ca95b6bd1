"""Power spectra against closed forms and the Lorenz system."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import signal, stats

from gendyn import Paths
from gendyn.evaluation import power_spectrum, power_spectrum_distance, power_spectrum_distance_value
from gendyn.evaluation.power_spectrum import hellinger

RNG = np.random.default_rng(0)


def test_hellinger_between_gaussians():
    grid = np.linspace(-12, 13, 200_001)
    p, q = stats.norm.pdf(grid), stats.norm.pdf(grid, loc=1)
    value = hellinger(p / p.sum(), q / q.sum())
    assert value == pytest.approx(np.sqrt(1 - np.exp(-1 / 8)), abs=1e-9)
    assert value == pytest.approx(0.342787, abs=1e-6)


def test_an_autoregression_has_its_spectrum():
    a, n = 0.7, 200_000
    x = signal.lfilter([1.0], [1.0, -a], RNG.normal(size=n))
    frequencies, power = power_spectrum(x, smoothing=500.0)
    density = 1 / np.abs(1 - a * np.exp(-2j * np.pi * frequencies)) ** 2
    inner = slice(2000, -2000)
    np.testing.assert_allclose(power[inner, 0] / (density / density.sum())[inner], 1.0, atol=0.15)
    assert power.sum() == pytest.approx(1.0)


def test_frequencies_are_in_cycles_per_time_unit():
    times = 0.05 * np.arange(4000)
    frequencies, power = power_spectrum(Paths(times, np.sin(2 * np.pi * 1.5 * times)[None, :, None]), smoothing=2.0)
    assert frequencies[power[:, 0].argmax()] == pytest.approx(1.5, abs=0.01)


def test_scale_and_shift_of_a_channel_do_not_show():
    x, y = RNG.normal(size=(2000, 2)), RNG.normal(size=(2000, 2)).cumsum(0)
    assert power_spectrum_distance_value(x, y) == pytest.approx(power_spectrum_distance_value(1e3 * x - 7, y / 50 + 3))
    assert power_spectrum_distance_value(x, x) == 0.0
    assert power_spectrum_distance_value(x, y) == pytest.approx(power_spectrum_distance_value(y, x))


def test_without_smoothing_equal_laws_are_far_apart():
    x, y = RNG.normal(size=(2, 20_000))
    # Two independent exponential variables at each frequency: 1 - (E sqrt(X))^2 = 1 - pi / 4.
    assert power_spectrum_distance_value(x, y, smoothing=0.0) == pytest.approx(np.sqrt(1 - np.pi / 4), abs=0.005)
    assert power_spectrum_distance_value(x, y) < 0.1


def test_more_of_another_motion_is_farther():
    x, y = RNG.normal(size=(2, 8000))
    wave = np.sin(0.3 * np.arange(8000))
    values = [power_spectrum_distance_value(x, np.sqrt(1 - s) * y + np.sqrt(2 * s) * wave) for s in (0, 0.1, 0.25, 0.5)]
    assert values == sorted(values)


def test_a_generator_that_stands_still_is_as_far_as_can_be():
    x = RNG.normal(size=(500, 2))
    still = np.column_stack([x[:, 0], np.full(500, 3.0)])
    result = power_spectrum_distance(x, still, n_bootstrap=2)
    assert result.extra["channels"] == {"x0": 0.0, "x1": 1.0}
    assert result.value == 0.5


def test_spectra_of_several_paths_are_averaged():
    x = RNG.normal(size=(10, 400, 1))
    x = (x - x.mean()) / x.std()
    _, power = power_spectrum(x, smoothing=0.0)
    mean = (np.abs(np.fft.rfft(x[..., 0], axis=1)) ** 2).mean(0)
    np.testing.assert_allclose(power[:, 0], mean / mean.sum(), rtol=1e-9)


def test_floor_interval_and_reference():
    x, y, z = RNG.normal(size=(3, 3000))
    result = power_spectrum_distance(x, y, seed=1)
    assert result.low < result.value < result.high
    assert result.floor == power_spectrum_distance_value(x[:1500], x[1500:])
    assert result.extra["floor_times"] == 1500
    assert power_spectrum_distance(x, y, reference=z, n_bootstrap=0).floor == power_spectrum_distance_value(x, z)
    again = power_spectrum_distance(x, y, seed=1)
    assert (again.low, again.high) == (result.low, result.high)


def test_lorenz_runs_have_the_reference_values():
    files = sorted(Path(os.environ.get("GENDYN_DATA", "/nowhere")).rglob("lorenz63_dsr.npz"))
    if not files:
        pytest.skip("lorenz63_dsr.npz (of the GTF-shPLRNN repository) is not in $GENDYN_DATA")
    with np.load(files[0]) as data:
        x = data["test_clean"]
    rng = np.random.default_rng(0)
    assert power_spectrum_distance_value(x[:50_000], x[50_000:]) == pytest.approx(0.054, abs=0.001)
    assert power_spectrum_distance_value(x, rng.permutation(x)) == pytest.approx(0.877, abs=0.003)
    gaussian = rng.multivariate_normal(x.mean(0), np.cov(x.T), len(x))
    assert power_spectrum_distance_value(x, gaussian) == pytest.approx(0.876, abs=0.003)
    assert power_spectrum_distance_value(x[:50_000], x[50_000:], smoothing=0.0) == pytest.approx(0.47, abs=0.02)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: power_spectrum(x[:100]), "a power spectrum needs at least 160 times; the real paths have 100"),
        (lambda x: power_spectrum(x, smoothing=-1.0), "smoothing must be a number of bins of at least 0; got -1"),
        (lambda x: power_spectrum_distance(x, x[:300]), "compared at equal length; got 400 and 300 times"),
        (
            lambda x: power_spectrum(Paths(range(400), x[None, :, None], mask=(np.arange(400) != 7)[None])),
            "complete trajectories of equal length; in the real ones 0.2%|0.3%",
        ),
        (lambda x: power_spectrum_distance(0 * x, x), "all real channels"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call(RNG.normal(size=400))
