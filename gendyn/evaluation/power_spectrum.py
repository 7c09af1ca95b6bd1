r"""Power spectra: at which frequencies a trajectory moves, and how far apart two trajectories are in that.

For a standardised channel :math:`x_0, \dots, x_{T-1}` the power at frequency :math:`k / (T \Delta)` is
:math:`|\hat x_k|^2`, smoothed over neighbouring frequencies by a Gaussian and normalised to sum 1. Two spectra
:math:`p` and :math:`q` are compared by the Hellinger distance

.. math:: H(p, q) = \frac{1}{\sqrt 2} \Bigl(\sum_k (\sqrt{p_k} - \sqrt{q_k})^2\Bigr)^{1/2} \in [0, 1],

whose mean over channels is :math:`D_H` (Mikhaeil, Monfared and Durstewitz 2022; Hess et al. 2023). Without
smoothing, a periodogram is as noisy as it is large, and :math:`D_H` of equal laws is near 0.5.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d

from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import drop_constant
from gendyn.evaluation.points import Array
from gendyn.evaluation.trajectory import Trajectories, Trajectory, compare, trajectories
from gendyn.randomness import Seed

__all__ = ["hellinger", "power_spectrum", "power_spectrum_distance", "power_spectrum_distance_value"]


def hellinger(p: Any, q: Any) -> Array:
    """Return the Hellinger distance of mass functions along the first axis.

    Parameters
    ----------
    p, q
        ``(K, ...)``, non-negative, each of sum 1.

    Examples
    --------
    >>> float(hellinger(np.array([1.0, 0.0]), np.array([0.0, 1.0]))).__round__(6)
    1.0
    """
    gap = np.sqrt(np.asarray(p, dtype=np.float64)) - np.sqrt(np.asarray(q, dtype=np.float64))
    return np.asarray(np.sqrt((gap**2).sum(axis=0) / 2))


def power_spectrum(trajectory: Trajectory, *, smoothing: float = 20.0) -> tuple[Array, Array]:
    """Return the smoothed, normalised power spectrum of each channel.

    Parameters
    ----------
    trajectory
        Evenly spaced and complete; the spectra of several paths are averaged.
    smoothing
        Standard deviation of the Gaussian, in frequency bins; 0 leaves it out.

    Returns
    -------
    frequencies, power
        ``(K,)`` in cycles per time unit, and ``(K, N)``, each column of sum 1 (of sum 0 for a constant channel).

    Raises
    ------
    ValueError
        If times are uneven, values are missing, or there are fewer than eight times the smoothing.

    Examples
    --------
    >>> frequencies, power = power_spectrum(np.sin(2 * np.pi * 0.1 * np.arange(1000.0)), smoothing=2.0)
    >>> round(float(frequencies[power[:, 0].argmax()]), 3)
    0.1
    """
    one, _ = _pair(trajectory, trajectory, smoothing)
    frequencies = np.asarray(np.fft.rfftfreq(one.n_times, one.time_step), dtype=np.float64)
    return frequencies, _spectrum(one, smoothing)


def power_spectrum_distance_value(real: Trajectory, generated: Trajectory, *, smoothing: float = 20.0) -> float:
    """Return the Hellinger distance of power spectra alone; see :func:`power_spectrum_distance`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 2))
    >>> power_spectrum_distance_value(x, x)
    0.0
    """
    one, two = _pair(real, generated, smoothing)
    one, two = drop_constant(one, two, "D_H")
    return _distance(one, two, smoothing)


def power_spectrum_distance(
    real: Trajectory,
    generated: Trajectory,
    *,
    smoothing: float = 20.0,
    reference: Trajectory | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    on_nan: Literal["raise", "count"] = "raise",
) -> MetricResult:
    """Return the Hellinger distance of power spectra with floor and interval.

    Parameters
    ----------
    real, generated
        Long trajectories of equal length, evenly spaced with the same step, complete.
    smoothing
        Standard deviation of the Gaussian that smooths over frequency bins. The distance between halves, which have
        half as many bins, is smoothed as widely in bins.
    reference
        Another real trajectory, against which the floor is computed; by default the floor is between halves.
    seed
        Root of the randomness of the interval.
    n_bootstrap
        Resamples behind the interval, see :mod:`~gendyn.evaluation.trajectory`.
    on_nan
        ``"count"`` leaves out generated paths that are not finite.

    Returns
    -------
    MetricResult
        ``extra["channels"]`` holds the distance of each channel. A generated channel that does not move has no
        spectrum; its distance is 1.

    Raises
    ------
    ValueError
        If trajectories are unfit, of different lengths, or shorter than eight times the smoothing.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=4000)
    >>> result = power_spectrum_distance(noise, np.cumsum(noise))
    >>> result.value > 3 * result.floor
    True
    """
    one, two = _pair(real, generated, smoothing, on_nan)
    third = None if reference is None else _pair(real, reference, smoothing)[1]
    one, two = drop_constant(one, two, "D_H")
    third = None if third is None else third.only(one.names)
    channels = hellinger(*(_spectrum(side, smoothing) for side in (one, two)))
    moves = _moves(two)
    extra = {
        "smoothing": smoothing,
        "channels": {name: float(c) if m else 1.0 for name, c, m in zip(one.names, channels, moves, strict=True)},
    }
    return compare(
        "D_H",
        lambda x, y: _distance(x, y, smoothing),
        one,
        two,
        reference=third,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra=extra,
    )


def _pair(
    real: Trajectory, generated: Trajectory, smoothing: float, on_nan: Literal["raise", "count"] = "raise"
) -> tuple[Trajectories, Trajectories]:
    if not (smoothing >= 0 and math.isfinite(smoothing)):
        raise ValueError(f"smoothing must be a number of bins of at least 0; got {smoothing}")
    least = max(4, math.ceil(8 * smoothing))
    one, two = trajectories(real, generated, metric="a power spectrum", even=True, minimum_times=least, on_nan=on_nan)
    for name, side in (("real", one), ("generated", two)):
        if side.mask is not None:
            raise ValueError(
                f"a power spectrum needs complete trajectories of equal length; in the {name} ones "
                f"{float((~side.mask).mean()):.1%} of the values are missing: interpolate or cut them"
            )
    if one.n_times != two.n_times:
        raise ValueError(
            f"power spectra are compared at equal length; got {one.n_times} and {two.n_times} times: cut the longer one"
        )
    return one, two


def _moves(side: Trajectories) -> np.ndarray[Any, np.dtype[np.bool_]]:
    flat = side.values.reshape(-1, side.dim)
    return np.asarray(flat.std(axis=0) > 1e-12 * np.abs(flat).max(axis=0))


def _spectrum(side: Trajectories, smoothing: float) -> Array:
    """Return the spectra ``(K, N)``; that of a constant channel is zero."""
    flat = side.values.reshape(-1, side.dim)
    moves = _moves(side)
    standard = (side.values - flat.mean(axis=0)) / np.where(moves, flat.std(axis=0), 1.0)
    power = (np.abs(np.fft.rfft(standard, axis=1)) ** 2).mean(axis=0) * moves
    if smoothing:
        power = gaussian_filter1d(power, smoothing, axis=0, mode="reflect", truncate=4.0)
    power = np.clip(power, 0.0, None)
    return np.asarray(power / np.where(moves, power.sum(axis=0), 1.0))


def _distance(real: Trajectories, generated: Trajectories, smoothing: float) -> float:
    apart = hellinger(_spectrum(real, smoothing), _spectrum(generated, smoothing))
    return float(np.where(_moves(generated), apart, 1.0).mean())
