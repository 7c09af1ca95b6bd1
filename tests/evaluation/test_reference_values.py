"""Values that are known from elsewhere, on public series and at sizes that take a while.

A value of random samples is one draw: where it is not known how they were drawn, it must lie among draws of our own.
"""

import numpy as np
import pytest
import torch

from gendyn.data import table_windows
from gendyn.datasets import available, load
from gendyn.evaluation import (
    autocorrelation_difference,
    correlational_score,
    discriminative_score,
    gaussian_frechet,
    kurtosis_difference,
    marginal_difference,
    power_spectrum_distance_value,
    predictive_score,
    rosenstein,
    signature_distance,
    skewness_difference,
    state_space_divergence_value,
    wasserstein_value,
)
from gendyn.sampling import sample
from gendyn.systems import Lorenz63

FEATURES = (
    correlational_score,
    marginal_difference,
    autocorrelation_difference,
    skewness_difference,
    kurtosis_difference,
)


def here(name):
    return pytest.mark.skipif(
        not available().set_index("name").loc[name, "present"], reason=f"the data set {name!r} is not in $GENDYN_DATA"
    )


@pytest.fixture(scope="module")
def windows():
    """Return the share prices as tables cut them."""
    return table_windows(load("stock")).values.numpy()


def gaussian(windows, seed=0):
    """Return as many paths of the Gaussian with mean and full covariance of the windows, clipped to [0, 1]."""
    flat = windows.reshape(len(windows), -1)
    drawn = np.random.default_rng(seed).multivariate_normal(flat.mean(0), np.cov(flat.T), len(flat))
    return drawn.reshape(windows.shape).clip(0, 1)


def among(value, draws):
    return min(draws) <= value <= max(draws)


# --- share prices ----------------------------------------------------------------------------------------------


@here("stock")
def test_features_of_random_halves_of_share_prices(windows):
    order, half = np.random.default_rng(1).permutation(len(windows)), len(windows) // 2
    x, y = windows[order[:half]], windows[order[half : 2 * half]]
    found = [metric(x, y, n_bootstrap=0).value for metric in FEATURES]
    np.testing.assert_array_less(np.abs(np.array(found) - [0.0019, 0.153, 0.025, 0.030, 0.213]), 5.1e-4)


@here("stock")
def test_features_of_a_gaussian_of_share_prices(windows):
    draws = np.array(
        [[metric(windows, gaussian(windows, s), n_bootstrap=0).value for metric in FEATURES] for s in range(6)]
    )
    reference = np.array([0.0146, 0.669, 0.0137, 0.917, 2.72])
    assert ((draws.min(0) <= reference) & (reference <= draws.max(0))).all()


@here("stock")
@pytest.mark.slow
def test_signatures_of_random_halves_of_share_prices(windows):
    half = len(windows) // 2
    draws = []
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(len(windows))
        x, y = windows[order[:half]], windows[order[half : 2 * half]]
        draws.append(signature_distance(x, y, scale=None, n_bootstrap=0).value)
    assert among(0.021, draws)


@here("stock")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "mean", "within"), [("random halves", 0.013, 0.011), ("halves", 0.455, 0.03), ("gaussian", 0.176, 0.048)]
)
def test_discriminative_scores_of_share_prices(windows, which, mean, within):
    half = len(windows) // 2
    order = np.random.default_rng(0).permutation(len(windows)) if which == "random halves" else np.arange(len(windows))
    pair = (windows, gaussian(windows))
    if which != "gaussian":
        pair = windows[order[:half]], windows[order[half : 2 * half]]
    assert discriminative_score(*pair, strong=False).value == pytest.approx(mean, abs=within)


@here("stock")
@pytest.mark.slow
def test_predictive_scores_of_share_prices(windows):
    result = predictive_score(windows, gaussian(windows), scale=None)
    assert result.floor == pytest.approx(0.0366, abs=1e-3)
    assert result.value == pytest.approx(0.0493, abs=5e-3)


# --- populations -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dim", "w2", "w1"), [(2, 0.137, 0.100), (5, 0.767, 0.707), (10, 1.91, 1.86), (50, 7.45, None)]
)
def test_floors_of_equal_laws_at_two_thousand_points(dim, w2, w1):
    generator = np.random.default_rng(dim)
    pairs = [(generator.normal(size=(2000, dim)), generator.normal(size=(2000, dim))) for _ in range(3)]
    for p, reference in ((2, w2), (1, w1)):
        if reference is not None:
            mean = np.mean([wasserstein_value(x, y, p=p) for x, y in pairs])
            assert mean == pytest.approx(reference, rel=0.25 if dim == 2 else 0.02)


@pytest.mark.parametrize(
    ("dim", "size", "bias"),
    [(16, 500, 0.37), (16, 4000, 0.038), (64, 500, 4.4), (320, 500, 104), (320, 1000, 52), (320, 4000, 13)],
)
def test_the_bias_of_frechet_distances_of_white_features(dim, size, bias):
    generator = np.random.default_rng(0)
    values = []
    for _ in range(12 if dim == 16 else 1):
        x, y = generator.normal(size=(2, size, dim))
        values.append(gaussian_frechet(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)))
    # In sixteen dimensions one draw is a fifth of its mean away from another.
    assert among(bias, values) if dim == 16 else values[0] == pytest.approx(bias, rel=0.05)


# --- the Lorenz system -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lorenz():
    """Return a published run and twenty-four of our own, each standardised by itself."""
    published = load("lorenz63-standardised", split="test").values[0].numpy()
    start = Lorenz63().initial(24, dtype=torch.float64)
    runs = sample(Lorenz63(), start, torch.arange(102_000) * 0.01, solver="rk4", step=0.01).values[:, 2000:].numpy()
    return published, [(run - run.mean(0)) / run.std(0) for run in runs]


@here("lorenz63-standardised")
@pytest.mark.slow
@pytest.mark.parametrize(("length", "reference"), [(10_000, 1.79), (30_000, 0.63), (100_000, 0.107)])
def test_published_divergence_of_independent_runs_is_one_of_ours(lorenz, length, reference):
    published, runs = lorenz
    assert among(reference, [state_space_divergence_value(published[:length], run[:length]) for run in runs])


@here("lorenz63-standardised")
@pytest.mark.slow
def test_published_mixture_divergence_and_spectral_distance_are_among_ours(lorenz):
    published, runs = lorenz
    for variance, reference in ((1.0, 0.014), (0.01, 0.63)):
        values = [state_space_divergence_value(published, run, form="mixture", variance=variance) for run in runs]
        assert among(reference, values)
    assert among(0.061, [power_spectrum_distance_value(published, run) for run in runs])


@here("lorenz63-standardised")
def test_rosensteins_exponent_of_a_published_run_is_biased_low():
    x = load("lorenz63-standardised", split="test").values[0, :20_000, 0].numpy()
    curve = rosenstein(x, time_step=0.01, window=(0.5, 2.5), dimension=3, delay=10)
    assert curve.exponent == pytest.approx(0.82, abs=0.02)
