r"""Differences of single features between sets of paths, in the exact forms of the field.

With :math:`x_{it}^k` channel :math:`k` of path :math:`i` at time :math:`t`, and everything not observed left out of
every mean:

- marginal distribution difference: histograms with 50 cells on the real range at every time but the first and every
  channel, :math:`\operatorname{mean} |p - q|` of the densities (mass of generated paths outside the range is lost);
- correlational score: :math:`c_{kl}` the mean of :math:`z^k z^l` over paths and times, :math:`z` being standardised,
  each set by its own mean and deviation; :math:`\sum_{k \ge l} |c_{kl} - \hat c_{kl}|`, in tables over 10;
- autocorrelation difference: :math:`\rho_k(l)`, the mean of :math:`(x_t^k - \mu_k)(x_{t+l}^k - \mu_k)` over paths and
  times over the variance; :math:`\operatorname{mean}_k (\sum_l (\rho_k(l) - \hat\rho_k(l))^2)^{1/2}`;
- differences of skewness and of excess kurtosis of pooled values, :math:`\operatorname{mean}_k |\cdot|`;
- Kolmogorov-Smirnov statistics of marginals, :math:`\sup_v |F_{tk}(v) - \hat F_{tk}(v)|`, at ten times.

Each looks at one thing only: the autocorrelation difference of a Gaussian fitted to share prices is smaller than that
between two halves of the prices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy import fft, stats
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, drop_constant, path_sets
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed

__all__ = [
    "autocorrelation_difference",
    "correlational_score",
    "kurtosis_difference",
    "marginal_difference",
    "marginal_ks",
    "skewness_difference",
]

Source = Paths | Tensor | Array
OnNan = Literal["raise", "count"]

_CELLS = 50
_EXACT = 10_000
"""Pairs of values up to which the law of a Kolmogorov-Smirnov statistic is computed exactly."""

_BLOCK = 4_000_000


def marginal_difference(
    real: Source, generated: Source, *, on_nan: OnNan = "raise", seed: Seed = 0, n_bootstrap: int = 30
) -> MetricResult:
    """Return the marginal distribution difference (MDD; Ni et al. 2020) with floor and interval.

    Parameters
    ----------
    real, generated
        Sets of at least two paths at the same two or more times; gaps are allowed.
    on_nan
        ``"count"`` leaves broken generated paths out, and counts them in ``extra["dropped"]``.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples behind the interval; zero leaves it out.

    Returns
    -------
    MetricResult
        In units of inverse values: it changes with the scale of the paths. The floor falls with the size like one over
        its root.

    Raises
    ------
    ValueError
        If sets do not fit, or every channel is constant.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((200, 4, 2))
    >>> marginal_difference(x, x).value
    0.0
    """
    return _compare("marginal difference", _marginal, real, generated, on_nan, seed, n_bootstrap, times=2)


def correlational_score(
    real: Source,
    generated: Source,
    *,
    table_compatible: bool = True,
    on_nan: OnNan = "raise",
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the correlational score between channels with floor and interval.

    Parameters
    ----------
    real, generated, on_nan, seed, n_bootstrap
        As for :func:`marginal_difference`.
    table_compatible
        Whether to divide the sum by 10, as all public code does.

    Raises
    ------
    ValueError
        If sets do not fit, or fewer than two channels vary.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(size=(300, 4, 1))
    >>> same, opposite = np.concatenate([z, z], axis=2), np.concatenate([z, -z], axis=2)
    >>> round(correlational_score(same, opposite).value, 6)
    0.2
    """
    return _compare(
        "correlational score",
        lambda x, y: (
            float(np.tril(np.abs(_correlations(x) - _correlations(y))).sum()) / (10 if table_compatible else 1)
        ),
        real,
        generated,
        on_nan,
        seed,
        n_bootstrap,
        channels=2,
        extra={"table_compatible": table_compatible},
    )


def autocorrelation_difference(
    real: Source, generated: Source, *, on_nan: OnNan = "raise", seed: Seed = 0, n_bootstrap: int = 30
) -> MetricResult:
    """Return the difference of autocorrelation functions (ACD) with floor and interval; lags count steps of the grid.

    Parameters
    ----------
    real, generated, on_nan, seed, n_bootstrap
        As for :func:`marginal_difference`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 4, 1)).cumsum(1)
    >>> autocorrelation_difference(x, 3 * x).value < 1e-12
    True
    """
    return _compare(
        "autocorrelation difference",
        lambda x, y: float(np.sqrt(((autocorrelation(x) - autocorrelation(y)) ** 2).sum(0)).mean()),
        real,
        generated,
        on_nan,
        seed,
        n_bootstrap,
        times=2,
    )


def skewness_difference(
    real: Source, generated: Source, *, on_nan: OnNan = "raise", seed: Seed = 0, n_bootstrap: int = 30
) -> MetricResult:
    """Return the mean absolute difference of skewness of the channels with floor and interval.

    Parameters
    ----------
    real, generated, on_nan, seed, n_bootstrap
        As for :func:`marginal_difference`; one time is enough.

    Examples
    --------
    >>> x = np.array([-1.0, 0, 0, 4]).reshape(4, 1, 1)
    >>> round(skewness_difference(x, -x, n_bootstrap=0).value, 4)
    1.9859
    """
    return _compare(
        "skewness difference",
        lambda x, y: float(np.abs(_moment(x, 3) - _moment(y, 3)).mean()),
        real,
        generated,
        on_nan,
        seed,
        n_bootstrap,
    )


def kurtosis_difference(
    real: Source, generated: Source, *, on_nan: OnNan = "raise", seed: Seed = 0, n_bootstrap: int = 30
) -> MetricResult:
    """Return the mean absolute difference of excess kurtosis of the channels with floor and interval.

    Parameters
    ----------
    real, generated, on_nan, seed, n_bootstrap
        As for :func:`marginal_difference`; one time is enough.

    Examples
    --------
    >>> x = np.array([-1.0, -1, 1, 1]).reshape(4, 1, 1)
    >>> y = np.array([-1.0, 0, 0, 1]).reshape(4, 1, 1)
    >>> round(kurtosis_difference(x, y, n_bootstrap=0).value, 6)
    1.0
    """
    return _compare(
        "kurtosis difference",
        lambda x, y: float(np.abs(_moment(x, 4) - _moment(y, 4)).mean()),
        real,
        generated,
        on_nan,
        seed,
        n_bootstrap,
    )


def marginal_ks(
    real: Source,
    generated: Source,
    *,
    n_times: int = 10,
    on_nan: OnNan = "raise",
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the mean Kolmogorov-Smirnov statistic of the marginals, with floor, interval and a test of them all.

    Parameters
    ----------
    real, generated, on_nan, seed, n_bootstrap
        As for :func:`marginal_difference`; one time is enough.
    n_times
        Times at most that are looked at, evenly spread from the first to the last.

    Returns
    -------
    MetricResult
        Its p-value is the smallest one adjusted by Holm (1979), for the hypothesis that all marginals are equal.
        ``extra`` holds ``rejected`` (share of marginals with p < 0.05 before the adjustment), ``marginals`` (their
        number) and ``largest`` (statistic). The p-values hold for independent paths; for windows of one series that
        overlap they are too small.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 6, 2))
    >>> result = marginal_ks(x, x + [0.0, 1.0])
    >>> result.extra["rejected"], result.p_value < 1e-30
    (0.5, True)
    """
    if n_times < 1:
        raise ValueError(f"n_times must be at least 1; got {n_times}")

    def at_times(paths: PathSet) -> Array:
        chosen = np.unique(np.linspace(0, paths.n_times - 1, min(n_times, paths.n_times)).round().astype(int))
        return paths.values[:, chosen].reshape(len(paths), -1)

    one, two = _door("marginal KS", real, generated, on_nan)
    u, v = at_times(one), at_times(two)
    n, m = (~np.isnan(u)).sum(0), (~np.isnan(v)).sum(0)
    seen = (n > 0) & (m > 0)
    if not seen.any():
        raise ValueError("marginal KS found no time and channel that was observed in both real and generated paths")
    u, v, n, m = u[:, seen], v[:, seen], n[seen], m[seen]
    statistics = ks_statistics(u, v)
    p = stats.kstwo.sf(statistics, np.maximum(np.round(n * m / (n + m)), 1))
    # Continuous samples are never nearer than one step of the larger one; of tied ones SciPy rounds that p beyond one.
    least = statistics * np.maximum(n, m) < 1 + 1e-9
    p[least] = 1.0
    for k in np.flatnonzero((n * m <= _EXACT) & ~least):
        # The limit law gives zero where three paths lie apart from three others.
        first, second = (side[~np.isnan(side[:, k]), k] for side in (u, v))
        p[k] = stats.ks_2samp(first, second, method="exact").pvalue
    return measure(
        "marginal KS",
        lambda x, y: float(np.nanmean(ks_statistics(at_times(x), at_times(y)))),
        one,
        two,
        seed=seed,
        n_bootstrap=n_bootstrap,
        p_value=float(min(1.0, p.min() * len(p))),
        extra={
            "rejected": float((p < 0.05).mean()),
            "marginals": len(p),
            "largest": float(statistics.max()),
            "assumes": "independent paths; for overlapping windows of one series the p-values are too small",
            "dropped": two.dropped,
        },
    )


def ks_statistics(real: Array, generated: Array) -> Array:
    """Return the two-sample Kolmogorov-Smirnov statistic of every column; NaN entries are left out.

    Examples
    --------
    >>> ks_statistics(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])).tolist()
    [0.5]
    """
    pooled = np.concatenate([real, generated])
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = [sign * ~np.isnan(x) / (~np.isnan(x)).sum(0) for x, sign in ((real, 1.0), (generated, -1.0))]
    order = pooled.argsort(0)  # NaN last
    values = np.take_along_axis(pooled, order, 0)
    gaps = np.abs(np.take_along_axis(np.concatenate(steps), order, 0).cumsum(0))
    # Between equal values the difference of the distribution functions is not what the running sum says.
    gaps[:-1][values[1:] == values[:-1]] = 0
    return np.asarray(gaps.max(0))


def autocorrelation(paths: PathSet) -> Array:
    """Return the pooled autocorrelation function ``(T, d)`` at lags 0, 1, ..., T - 1.

    It is zero where no pair was observed, and at all lags of a channel that does not vary.

    Examples
    --------
    >>> one, _ = path_sets(np.array([[1.0, -1.0], [-1.0, 1.0]]), np.zeros((2, 2)), metric="gap")
    >>> autocorrelation(one).round(6).ravel().tolist()
    [1.0, -1.0]
    """
    mean = np.nanmean(paths.values, axis=(0, 1))
    length = fft.next_fast_len(2 * paths.n_times, real=True)
    powers = np.zeros((2, length // 2 + 1, paths.dim))
    # In blocks: a transform is twice as long as its path, and complex.
    rows = max(1, _BLOCK // (length * paths.dim))
    for start in range(0, len(paths), rows):
        part = paths.take(np.arange(start, min(start + rows, len(paths))))
        for k, series in enumerate((np.nan_to_num(part.values - mean), part.observed.astype(np.float64))):
            powers[k] += (np.abs(fft.rfft(series, length, axis=1)) ** 2).sum(0)
    sums, pairs = fft.irfft(powers, length, axis=1)[:, : paths.n_times]
    pairs = pairs.round()
    means = np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0)
    # A channel that stands still is given no correlation at any lag.
    return np.asarray(np.divide(means, means[0], out=np.zeros_like(means), where=means[0] > 0))


def _door(
    metric: str, real: Source, generated: Source, on_nan: OnNan, times: int = 1, channels: int = 1
) -> tuple[PathSet, PathSet]:
    pair = path_sets(real, generated, metric=metric, needs="shared", minimum_times=times, on_nan=on_nan)
    one, two = drop_constant(*pair, metric)
    if one.dim < channels:
        raise ValueError(f"{metric} needs at least {channels} channels that vary; got {one.dim}")
    return one, two


def _compare(
    metric: str,
    value_of: Callable[[PathSet, PathSet], float],
    real: Source,
    generated: Source,
    on_nan: OnNan,
    seed: Seed,
    n_bootstrap: int,
    *,
    times: int = 1,
    channels: int = 1,
    extra: dict[str, Any] | None = None,
) -> MetricResult:
    one, two = _door(metric, real, generated, on_nan, times, channels)
    notes = {"dropped": two.dropped} | (extra or {})
    result = measure(metric, value_of, one, two, seed=seed, n_bootstrap=n_bootstrap, extra=notes)
    if np.isnan(result.value):
        raise ValueError(
            f"{metric} found no time and channel at which real paths vary and generated ones were observed too"
        )
    return result


def _marginal(real: PathSet, generated: PathSet) -> float:
    x, y = (paths.values[:, 1:].reshape(len(paths), -1) for paths in (real, generated))
    seen = ~np.isnan(x).all(0) & ~np.isnan(y).all(0)
    x, y = x[:, seen], y[:, seen]
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    spread = high > low
    # Where all real paths have one value there is no range to divide.
    x, y, low, high = x[:, spread], y[:, spread], low[spread], high[spread]
    if not len(low):
        return float("nan")
    return float(np.abs(_densities(x, low, high) - _densities(y, low, high)).mean())


def _densities(values: Array, low: Array, high: Array) -> Array:
    """Return the density of every column in its cells ``(columns, cells)``."""
    width = (high - low) / _CELLS
    inside = (values >= low) & (values <= high)
    # The upper end belongs to the last cell, as in a histogram.
    cell = np.minimum(((values - low) / width)[inside].astype(np.int64), _CELLS - 1)
    column = np.broadcast_to(np.arange(len(low)), values.shape)[inside]
    counts = np.bincount(column * _CELLS + cell, minlength=len(low) * _CELLS).reshape(len(low), _CELLS)
    return np.asarray(counts / ((~np.isnan(values)).sum(0) * width)[:, None])


def _standardised(paths: PathSet) -> Array:
    """Return values minus their mean over their deviation, a channel that does not vary as zero."""
    centred = paths.values - np.nanmean(paths.values, axis=(0, 1))
    deviation = np.sqrt(np.nanmean(centred**2, axis=(0, 1)))
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))


def _correlations(paths: PathSet) -> Array:
    z = _standardised(paths).reshape(-1, paths.dim)
    seen = (~np.isnan(z)).astype(np.float64)
    z = np.nan_to_num(z)
    pairs = seen.T @ seen
    return np.asarray(np.divide(z.T @ z, pairs, out=np.zeros_like(pairs), where=pairs > 0))


def _moment(paths: PathSet, order: int) -> Array:
    """Return the third or fourth standardised moment of the pooled values of each channel ``(d,)``."""
    z = _standardised(paths)
    square = z * z  # numpy takes other powers through logarithms
    return np.asarray(np.nanmean(square * (z if order == 3 else square), axis=(0, 1)))
