"""Fractional Brownian motion: its laws, exact paths, and a Markov approximation with exact steps."""

from gendyn.sampling.fractional.decay_rates import published_rates, rates_between
from gendyn.sampling.fractional.driven_paths import sample_with_driver
from gendyn.sampling.fractional.exact_paths import sample_fractional_brownian_motion, sample_fractional_noise
from gendyn.sampling.fractional.gaussian_rows import sample_gaussian, sample_stationary
from gendyn.sampling.fractional.hurst_family import HurstFamily
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
from gendyn.sampling.fractional.markov_approximation import MarkovApproximation
from gendyn.sampling.fractional.markov_paths import sample_markov_approximation
from gendyn.sampling.fractional.multifractional import (
    HurstCurve,
    MultifractionalMotion,
    sample_multifractional,
)
from gendyn.sampling.fractional.multifractional_noise import MultifractionalNoise
from gendyn.sampling.fractional.noise import FractionalNoise
from gendyn.sampling.fractional.past_modes import PastModes
from gendyn.sampling.fractional.pathwise_weights import KernelFit
from gendyn.sampling.fractional.prediction import one_step_predictions, stream_fractional_noise
from gendyn.sampling.fractional.stationary_relaxation import (
    StationaryRelaxation,
    relaxation_rates,
    stationary_relaxation,
)

__all__ = [
    "FractionalNoise",
    "HurstCurve",
    "HurstFamily",
    "KernelFit",
    "Kind",
    "MarkovApproximation",
    "MultifractionalMotion",
    "MultifractionalNoise",
    "Normalize",
    "PastModes",
    "StationaryRelaxation",
    "driver_covariance",
    "fractional_covariance",
    "noise_autocovariance",
    "noise_spectrum",
    "one_step_predictions",
    "past_covariance",
    "published_rates",
    "rates_between",
    "relaxation_rates",
    "sample_fractional_brownian_motion",
    "sample_fractional_noise",
    "sample_gaussian",
    "sample_markov_approximation",
    "sample_multifractional",
    "sample_stationary",
    "sample_with_driver",
    "stationary_relaxation",
    "stream_fractional_noise",
    "variance_constant",
]
