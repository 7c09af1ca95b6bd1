"""Fractional Brownian motion: its laws, and paths that have them."""

from gendyn.sampling.fractional.exact_paths import sample_fractional_brownian_motion, sample_fractional_noise
from gendyn.sampling.fractional.gaussian_rows import sample_gaussian, sample_stationary
from gendyn.sampling.fractional.laws import (
    Kind,
    Normalize,
    driver_covariance,
    fractional_covariance,
    noise_autocovariance,
    noise_spectrum,
    past_covariance,
    variance_constant,
)
from gendyn.sampling.fractional.prediction import one_step_predictions, stream_fractional_noise

__all__ = [
    "Kind",
    "Normalize",
    "driver_covariance",
    "fractional_covariance",
    "noise_autocovariance",
    "noise_spectrum",
    "one_step_predictions",
    "past_covariance",
    "sample_fractional_brownian_motion",
    "sample_fractional_noise",
    "sample_gaussian",
    "sample_stationary",
    "stream_fractional_noise",
    "variance_constant",
]
