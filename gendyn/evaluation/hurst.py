r"""The Hurst index of a series, by six estimators, each with a standard error.

A *path* wanders; the *noise* of a path is its increments. For fractional Brownian motion :math:`B_H` with increments
:math:`\xi` of variance :math:`s^2` over unit steps:

- variogram: :math:`E|B_{t+l} - B_t|^q \propto l^{qH}`, the slope over lags 1 to 5. Noise is centred first, which biases
  it downwards where H is near 1; the increments of a path are taken as they are;
- rescaled range (Hurst 1951): range of centred partial sums over deviation, in blocks,
  :math:`\propto m^H`; biased to .5;
- detrended fluctuation (Peng et al. 1994): residual of a line in blocks of the path, :math:`\propto m^H`;
- Haar wavelet: variance of differences of neighbouring means over m values, :math:`\propto m^{2H-2}`;
- Whittle: :math:`\min_H \ln\bigl(\tfrac1N \sum_j I_j / f_H(\lambda_j)\bigr) + \tfrac1N \sum_j \ln f_H(\lambda_j)` with
  the periodogram I and the exact spectrum f;
- likelihood: Gaussian, exact, with mean and variance profiled out, by one-step predictions.

Whittle and likelihood have standard errors from their curvature; the others regress over scales, whose errors depend
on each other, and take theirs from series of the estimated H.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import ndtri

from gendyn.data.checks import warn_user
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.fractional import (
    noise_autocovariance,
    noise_spectrum,
    one_step_predictions,
    sample_fractional_noise,
)

__all__ = ["HURST_ESTIMATORS", "HurstEstimate", "hurst_index"]

Given = Literal["path", "noise"]

_FEWEST = 32
_EDGE = 5e-3
"""How near to 0 or 1 an estimate means that the series is no fractional noise."""


@dataclass(frozen=True)
class HurstEstimate:
    """A Hurst index with its standard error.

    Attributes
    ----------
    value, error
        The estimate and its standard error.
    low, high
        Interval of the level that was asked for, normal, cut to [0, 1].
    method
        Name of the estimator.
    n
        Increments that were used.

    Examples
    --------
    >>> HurstEstimate(0.7, 0.02, 0.66, 0.74, "whittle", 1000).covers(0.72)
    True
    """

    value: float
    error: float
    low: float
    high: float
    method: str
    n: int
    extra: dict[str, Any] = field(default_factory=dict)

    def covers(self, hurst: float) -> bool:
        """Return whether the interval holds a Hurst index."""
        return self.low <= hurst <= self.high


def hurst_index(
    series: Any,
    given: Given,
    *,
    method: str = "likelihood",
    level: float = 0.9,
    seed: Seed = 0,
    n_simulations: int = 60,
    **options: Any,
) -> HurstEstimate:
    """Estimate the Hurst index of one series at equal steps.

    Parameters
    ----------
    series
        ``(n,)``, complete.
    given
        Whether the series is a ``"path"`` or the ``"noise"``, its increments. A wrong answer shifts H by one; there
        is a warning where the series contradicts it.
    method
        A name of :data:`HURST_ESTIMATORS`.
    level
        Of the interval.
    seed, n_simulations
        Of the fractional noise behind the standard errors of regressions over scales.
    **options
        ``lags`` and ``order`` of the variogram.

    Returns
    -------
    HurstEstimate
        The estimate.

    Raises
    ------
    ValueError
        If the series is constant, incomplete or shorter than 32, or a choice is not one of those there are.

    Examples
    --------
    >>> noise = sample_fractional_noise(0.7, 1, 1024)[0, :, 0]
    >>> found = hurst_index(noise, "noise")
    >>> round(found.value, 1), round(found.error, 2)
    (0.7, 0.02)
    """
    if given not in get_args(Given):
        raise ValueError(f"given must be 'path' or 'noise' (the increments of a path); got {given!r}")
    if method not in HURST_ESTIMATORS:
        raise ValueError(f"method must be one of {', '.join(HURST_ESTIMATORS)}; got {method!r}")
    values = _check_series(series)
    noise = np.diff(values) if given == "path" else values - values.mean()
    if np.ptp(noise) <= 1e-12 * max(1.0, float(np.abs(noise).max())):
        raise ValueError(
            f"a constant {'slope' if given == 'path' else 'series'} has no Hurst index; give one that moves"
        )
    if given == "noise":
        memory = float(noise[1:] @ noise[:-1] / (noise @ noise))
        if memory > 0.95:
            warn_user(
                f"neighbours of this noise have correlation {memory:.3f}: it looks like a path; if it is one, say "
                "given='path'"
            )
    estimator = HURST_ESTIMATORS[method]
    value, error = estimator(noise, **options)
    if error is None:
        key, index = as_seed(seed), min(max(value, 0.02), 0.98)
        copies = sample_fractional_noise(index, n_simulations, len(noise), seed=derive_seed(key, method))[
            :, :, 0
        ].numpy()
        error = float(np.std([estimator(copy, **options)[0] for copy in copies], ddof=1))
    if not _EDGE < value < 1 - _EDGE:
        other = "noise" if given == "path" else "path"
        warn_user(
            f"the {method} estimate is {value:.3f}, at or beyond the edge of (0, 1): this is not fractional noise. "
            f"Is the series a {other}?"
        )
    reach = float(ndtri(0.5 + level / 2)) * error
    return HurstEstimate(value, error, max(0.0, value - reach), min(1.0, value + reach), method, len(noise))


Estimator = Callable[..., tuple[float, float | None]]


def _variogram(noise: Array, *, lags: Any = (1, 2, 3, 4, 5), order: float = 2.0) -> tuple[float, float | None]:
    path = np.concatenate([[0.0], noise.cumsum()])
    steps = [int(lag) for lag in lags]
    if len(steps) < 2 or min(steps) < 1 or max(steps) >= len(path):
        raise ValueError(f"lags must be at least two steps from 1 to {len(path) - 1}; got {steps}")
    moments = [np.mean(np.abs(path[lag:] - path[:-lag]) ** order) for lag in steps]
    return _slope(steps, moments) / order, None


def _rescaled_range(noise: Array) -> tuple[float, float | None]:
    sizes = np.unique(np.geomspace(10, len(noise) // 2, 20).astype(int))
    ratios = []
    for size in sizes:
        blocks = noise[: len(noise) // size * size].reshape(-1, size)
        centred = blocks - blocks.mean(1, keepdims=True)
        deviation = centred.std(1)
        ranges = np.ptp(centred.cumsum(1), axis=1)
        ratios.append(np.mean(ranges[deviation > 0] / deviation[deviation > 0]))
    return _slope(sizes, ratios), None


def _detrended_fluctuation(noise: Array) -> tuple[float, float | None]:
    profile = (noise - noise.mean()).cumsum()
    sizes = np.unique(np.geomspace(8, len(noise) // 4, 20).astype(int))
    sizes = sizes[sizes >= 4]
    fluctuations = []
    for size in sizes:
        count = len(profile) // size
        both = (profile[: count * size], profile[len(profile) - count * size :])
        blocks = np.concatenate([part.reshape(count, size) for part in both])
        clock = np.arange(size) - (size - 1) / 2
        blocks = blocks - blocks.mean(1, keepdims=True)
        residual = blocks - (blocks @ clock / (clock @ clock))[:, None] * clock
        fluctuations.append(math.sqrt(np.mean(residual**2)))
    return _slope(sizes, fluctuations), None


def _haar(noise: Array) -> tuple[float, float | None]:
    # The mean of m values less that of the m before; longest scale with eight differences.
    path = np.concatenate([[0.0], noise.cumsum()])
    sizes = 2 ** np.arange(max(2, int(math.log2(len(noise) / 8))))
    variances = [np.mean((path[2 * m :] - 2 * path[m:-m] + path[: -2 * m]) ** 2) for m in sizes]
    return _slope(sizes, variances) / 2, None


def _whittle(noise: Array) -> tuple[float, float | None]:
    n = len(noise)
    count = (n - 1) // 2
    frequencies = 2 * math.pi * np.arange(1, count + 1) / n
    periodogram = np.abs(np.fft.rfft(noise - noise.mean())[1 : count + 1]) ** 2 / (2 * math.pi * n)

    def objective(hurst: float) -> float:
        spectrum = noise_spectrum(torch.from_numpy(frequencies), hurst).numpy()
        return float(count * math.log(np.mean(periodogram / spectrum)) + np.log(spectrum).sum())

    return _least(objective, 1e-3)


def _likelihood(noise: Array) -> tuple[float, float | None]:
    n = len(noise)

    def objective(hurst: float) -> float:
        def autocovariance(m: int) -> Array:
            return noise_autocovariance(torch.arange(m), hurst).numpy()

        # Innovations of the series and of a constant, which the mean is regressed on.
        columns = np.stack([noise, np.ones(n)], 1)
        innovations, variances = np.empty((n, 2)), np.empty(n)
        for k, (phi, variance) in zip(range(n), one_step_predictions(autocovariance), strict=False):
            innovations[k], variances[k] = columns[k] - phi[::-1] @ columns[:k], variance
        x, one = (innovations / np.sqrt(variances)[:, None]).T
        rest = x - one * (x @ one) / (one @ one)
        return float(0.5 * n * math.log(rest @ rest / n) + 0.5 * np.log(variances).sum())

    return _least(objective, 1e-3)


HURST_ESTIMATORS: dict[str, Estimator] = {
    "variogram": _variogram,
    "rescaled range": _rescaled_range,
    "detrended fluctuation": _detrended_fluctuation,
    "haar": _haar,
    "whittle": _whittle,
    "likelihood": _likelihood,
}
"""Estimators by name."""


def _least(objective: Callable[[float], float], tolerance: float) -> tuple[float, float]:
    """Return where a negative log-likelihood is least, and the standard error from its curvature."""
    found = minimize_scalar(objective, bounds=(1e-3, 1 - 1e-3), method="bounded", options={"xatol": tolerance / 10})
    value = float(found.x)
    width = min(0.01, value / 2, (1 - value) / 2)
    curvature = (objective(value + width) - 2 * float(found.fun) + objective(value - width)) / width**2
    return value, 1 / math.sqrt(curvature) if curvature > 0 else math.inf


def _slope(scales: Any, values: Any) -> float:
    x, y = np.log(np.asarray(scales, dtype=np.float64)), np.log(np.asarray(values, dtype=np.float64))
    x = x - x.mean()
    return float(x @ y / (x @ x))


def _check_series(series: Any) -> Array:
    values = np.asarray(series, dtype=np.float64)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or len(values) < _FEWEST:
        raise ValueError(f"a Hurst index needs one series of at least {_FEWEST} values; got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} values are missing or not finite; give a complete "
            "stretch of it"
        )
    return values
