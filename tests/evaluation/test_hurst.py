"""Hurst indices of fractional noise, of paths, and of series of the literature."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from gendyn.evaluation import HURST_ESTIMATORS, hurst_index
from gendyn.evaluation.hurst import _likelihood
from gendyn.sampling.fractional import noise_autocovariance, sample_fractional_noise

DATA = Path(os.environ.get("GENDYN_DATA", "")) / "fractional"

# Mean and deviation over 200 series of 1024 values, from an independent program.
LITERATURE = {
    "variogram": {0.1: (0.099, 0.016), 0.5: (0.497, 0.022), 0.9: (0.889, 0.033)},
    "rescaled range": {0.1: (0.239, 0.020), 0.5: (0.551, 0.036), 0.9: (0.841, 0.038)},
    "detrended fluctuation": {0.1: (0.122, 0.014), 0.5: (0.496, 0.041), 0.9: (0.898, 0.052)},
    "whittle": {0.1: (0.102, 0.013), 0.5: (0.497, 0.021), 0.9: (0.902, 0.021)},
    "likelihood": {0.1: (0.096, 0.013), 0.5: (0.501, 0.021), 0.9: (0.901, 0.021)},
    "haar": {0.1: (0.1, 0.03), 0.5: (0.5, 0.03), 0.9: (0.9, 0.04)},
}


@pytest.mark.parametrize("hurst", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("method", LITERATURE)
def test_estimators_have_the_mean_and_spread_of_the_literature(method, hurst):
    count = 8 if method == "likelihood" else 60
    noise = sample_fractional_noise(hurst, count, 1024, seed=1)[:, :, 0].numpy()
    values = np.array([HURST_ESTIMATORS[method](x)[0] for x in noise])
    mean, spread = LITERATURE[method][hurst]
    assert values.mean() == pytest.approx(mean, abs=4 * spread * (1 / count + 1 / 200) ** 0.5 + 0.004)
    if count > 30 and method != "haar":
        assert values.std(ddof=1) == pytest.approx(spread, rel=0.45)


@pytest.mark.parametrize("method", [m for m in HURST_ESTIMATORS if m not in ("rescaled range", "likelihood")])
def test_intervals_cover_and_a_path_is_read_as_one(method):
    noise = sample_fractional_noise(0.7, 20, 512, seed=2)[:, :, 0].numpy()
    found = [hurst_index(np.cumsum(x), "path", method=method, n_simulations=20) for x in noise]
    # Binomial: 18 of 20 are expected.
    assert sum(f.covers(0.7) for f in found) >= 15
    assert found[0].n == 511
    assert found[0].low < found[0].value < found[0].high
    # Errors are as large as the spread.
    spread = np.std([f.value for f in found], ddof=1)
    assert np.mean([f.error for f in found]) == pytest.approx(spread, rel=0.6)


def test_the_likelihood_is_that_of_the_covariance_matrix():
    x = sample_fractional_noise(0.3, 1, 60, seed=3)[0, :, 0].numpy() + 2.0
    lags = np.arange(60)

    def profile(hurst):
        matrix = noise_autocovariance(torch.from_numpy(np.abs(lags[:, None] - lags)), hurst).numpy()
        inverse, one = np.linalg.inv(matrix), np.ones(60)
        mean = one @ inverse @ x / (one @ inverse @ one)
        variance = (x - mean) @ inverse @ (x - mean) / 60
        return 30 * np.log(variance) + 0.5 * np.linalg.slogdet(matrix)[1]

    grid = np.linspace(0.05, 0.9, 1701)
    best = grid[np.argmin([profile(h) for h in grid])]
    assert _likelihood(x)[0] == pytest.approx(best, abs=6e-4)


@pytest.mark.parametrize("method", HURST_ESTIMATORS)
def test_scale_and_level_do_not_matter(method):
    x = sample_fractional_noise(0.6, 1, 256, seed=4)[0, :, 0].numpy()
    one = hurst_index(x, "noise", method=method, n_simulations=3)
    other = hurst_index(1e4 * x - 7e4, "noise", method=method, n_simulations=3)
    assert one.value == pytest.approx(other.value, abs=1e-3)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs GENDYN_DATA")
@pytest.mark.parametrize(
    ("file", "column", "given", "method", "value", "error"),
    [
        ("nile_minima", "level", "noise", "whittle", 0.8388, 0.0251),
        ("nile_minima", "level", "noise", "likelihood", 0.8315, 0.0246),
        ("nbs_1kg", "dev_ug", "noise", "whittle", 0.5890, 0.035),
        ("nbs_1kg", "dev_ug", "noise", "likelihood", 0.5805, 0.035),
        ("nhemi_temp", "anomaly_C", "noise", "whittle", 0.8347, 0.0155),
        ("nhemi_temp", "anomaly_C", "noise", "likelihood", 0.8272, 0.0155),
        ("ethernet_traffic", "bytes", "noise", "whittle", 0.6913, 0.0098),
        ("spx_rv_2000_2018", "rv", "path", "whittle", 0.1368, 0.0061),
    ],
)
def test_series_of_the_literature(file, column, given, method, value, error):
    series = pd.read_csv(DATA / f"{file}.csv")[column].to_numpy()
    found = hurst_index(np.log(series) if given == "path" else series, given, method=method)
    assert found.value == pytest.approx(value, abs=1.5e-4)
    assert found.error == pytest.approx(error, abs=6e-4)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs GENDYN_DATA")
def test_variograms_of_rough_volatility_agree_over_orders():
    path = np.log(pd.read_csv(DATA / "spx_rv_2000_2018.csv")["rv"].to_numpy())
    for order, value in ((0.5, 0.1390), (1.0, 0.1373), (2.0, 0.1359)):
        found = hurst_index(path, "path", method="variogram", lags=range(1, 31), order=order, n_simulations=2)
        assert found.value == pytest.approx(value, abs=1e-4)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs GENDYN_DATA")
def test_regressions_over_scales_of_the_literature():
    nile = pd.read_csv(DATA / "nile_minima.csv")["level"].to_numpy()
    for method, value in (("detrended fluctuation", 0.917), ("rescaled range", 0.880)):
        assert hurst_index(nile, "noise", method=method, n_simulations=2).value == pytest.approx(value, abs=5e-3)
    path = np.log(pd.read_csv(DATA / "spx_rv_2000_2018.csv")["rv"].to_numpy())
    found = hurst_index(path, "path", method="detrended fluctuation", n_simulations=2)
    assert found.value == pytest.approx(0.142, abs=1e-3)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs GENDYN_DATA")
@pytest.mark.parametrize("method", ["whittle", "likelihood"])
def test_coded_video_is_no_fractional_noise(method):
    video = pd.read_csv(DATA / "video_vbr.csv")["rate"].to_numpy()
    with pytest.warns(UserWarning, match="looks like a path"), pytest.warns(UserWarning, match="not fractional noise"):
        assert hurst_index(video, "noise", method=method).value > 0.995


def test_a_wrong_answer_is_warned_of():
    noise = sample_fractional_noise(0.8, 1, 2048, seed=5)[0, :, 0].numpy()
    with pytest.warns(UserWarning, match="looks like a path"), pytest.warns(UserWarning, match="Is the series a path"):
        hurst_index(np.cumsum(noise), "noise", method="whittle")
    with pytest.warns(UserWarning, match="Is the series a noise"):
        hurst_index(np.random.default_rng(0).normal(size=512), "path", method="whittle")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: hurst_index(np.zeros(100), "path"), "a constant slope has no Hurst index"),
        (lambda: hurst_index(np.ones(100), "noise"), "a constant series has no Hurst index"),
        (lambda: hurst_index(np.arange(20.0), "path"), "at least 32 values; got shape"),
        (lambda: hurst_index(np.full(40, np.nan), "path"), "40 of 40 values are missing"),
        (lambda: hurst_index(np.ones(100), "walk"), "given must be 'path' or 'noise'"),
        (lambda: hurst_index(np.ones(100), "noise", method="guess"), "method must be one of variogram"),
        (
            lambda: hurst_index(np.arange(50.0) ** 2, "path", method="variogram", lags=[1]),
            "lags must be at least two steps",
        ),
    ],
)
def test_sentences_about_hurst_indices(call, words):
    with pytest.raises(ValueError, match=words):
        call()
