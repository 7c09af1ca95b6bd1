r"""Divergence of marginal densities, estimated by kernels.

For each marginal, with Gaussian kernel densities :math:`\hat p` of the real and :math:`\hat q` of the generated sample
at Scott's bandwidths :math:`h = \hat\sigma n^{-1/5}`,

.. math:: \mathrm{KL}(\text{real} \,\Vert\, \text{generated}) = \int \hat p \log \frac{\hat p}{\hat q}

by the trapezoid rule on 1000 points over the pooled range and three bandwidths beyond, densities being held above
:math:`10^{-12}` over the range of the real points. Where generated points reach so far that this grid would pass over
the real density, it covers the real points alone. Smoothing brings the two closer, which lowers the value a little;
tails that the generated sample does not reach raise it. A constant sample has no density: a real one is left out, a
generated one is a spike, which costs it dearly.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from scipy.integrate import trapezoid
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, drop_constant, path_sets
from gendyn.evaluation.points import Array, Points, points
from gendyn.randomness import Seed

__all__ = ["kde_kl", "marginal_kde_kl"]

_GRID = 1000
_FLOOR = 1e-12
"""Least density, in units of the range of the real points."""

_COARSE = 0.5
"""Steps of the grid, in bandwidths of the real density, beyond which it would not be resolved."""


def kde_kl(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the divergence of kernel densities in nats, averaged over features, with floor and interval.

    Parameters
    ----------
    real, generated
        Samples ``(n, d)`` and ``(m, d)`` of at least two points; sizes may differ.
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples behind the interval.

    Returns
    -------
    MetricResult
        ``extra["by_feature"]`` holds the divergence of each feature, ``None`` for one that is constant in the real
        sample, which a warning names.

    Raises
    ------
    ValueError
        If samples are unfit, hold one point, or every feature is constant in the real sample.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> [round(v, 2) for v in kde_kl(x, x + [0.0, 1.0], n_bootstrap=0).extra["by_feature"]]  # truth: 0 and 0.5
    [0.0, 0.52]
    """
    x, y = points(real, generated, weights_real, weights_generated)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a kernel density needs at least two points; got {len(x)} and {len(y)}")
    varies = np.ptp(x.values[x.weights > 0], axis=0) > 0
    if not varies.any():
        raise ValueError("a kernel density needs a feature that varies; all real features are constant")
    if not varies.all():
        constant = ", ".join(map(str, np.flatnonzero(~varies)))
        warnings.warn(f"KDE-KL leaves out feature {constant}, which is constant in the real sample", stacklevel=2)
        x, y = Points(x.values[:, varies], x.weights), Points(y.values[:, varies], y.weights)
    by_feature = np.full(len(varies), np.nan)
    by_feature[varies] = _divergences(x.values, y.values, x.weights, y.weights)
    return measure(
        "KDE-KL",
        lambda u, v: _mean(_divergences(u.values, v.values, u.weights, v.weights)),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra={"by_feature": [None if np.isnan(v) else float(v) for v in by_feature]},
    )


def marginal_kde_kl(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the divergence of kernel densities in nats, averaged over times and channels, with floor and interval.

    Parameters
    ----------
    real, generated
        Sets of paths at shared times, of any sizes. What was not observed is left out of its marginal.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``extra["dropped"]``.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples of paths behind the interval.

    Returns
    -------
    MetricResult
        ``extra`` holds means by time (``by_time``) and the number of marginals left out (``skipped``): those that
        are constant in the real paths, as at a fixed start, and those observed fewer than twice on either side.

    Raises
    ------
    ValueError
        If the sets do not fit, or no marginal is left.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 4, 2))
    >>> result = marginal_kde_kl(x, 2 * x)  # truth: 0.318
    >>> 0.25 < result.value < 0.35
    True
    """
    one, two = drop_constant(*path_sets(real, generated, metric="marginal KDE-KL", needs="shared", on_nan=on_nan),
                             "marginal KDE-KL")  # fmt: skip
    table = _table(one, two)
    seen = ~np.isnan(table)
    if not seen.any():
        raise ValueError("no time and channel varies in the real paths and was observed twice in both sets")
    extra = {
        "by_time": [float(row[kept].mean()) if kept.any() else None for row, kept in zip(table, seen, strict=True)],
        "skipped": int((~seen).sum()),
        "dropped": two.dropped,
    }
    return measure(
        "marginal KDE-KL",
        lambda u, v: _mean(_table(u, v)),
        one,
        two,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra=extra,
    )


def _mean(table: Array) -> float:
    return float(np.nanmean(table)) if not np.isnan(table).all() else float("nan")


def _table(x: PathSet, y: PathSet) -> Array:
    """Return the divergence by time and channel ``(T, d)``, NaN where there is none."""
    first, second = (side.values.reshape(len(side), -1) for side in (x, y))
    whole = ~(np.isnan(first).any(axis=0) | np.isnan(second).any(axis=0))
    table = np.full(first.shape[1], np.nan)
    if whole.any():
        table[whole] = _divergences(first[:, whole], second[:, whole])
    for k in np.flatnonzero(~whole):
        u, v = (side[~np.isnan(side[:, k]), k][:, None] for side in (first, second))
        if min(len(u), len(v)) > 1:
            table[k] = _divergences(u, v)[0]
    return table.reshape(x.n_times, x.dim)


def _divergences(x: Array, y: Array, a: Array | None = None, b: Array | None = None) -> Array:
    """Return the divergence of each column of ``(n, c)`` and ``(m, c)``, NaN where the first is constant."""
    a, b = (np.full(len(side), 1 / len(side)) if w is None else w for side, w in ((x, a), (y, b)))
    # In units of the first, so that the floor of the densities means the same whatever the units of the data.
    unit = np.ptp(x, axis=0)
    shift, unit = x.min(axis=0), np.where(unit > 0, unit, 1.0)
    x, y = (x - shift) / unit, (y - shift) / unit
    widths = [_scott(side, w) for side, w in ((x, a), (y, b))]
    reach = 3 * np.maximum(*widths)
    low = np.minimum(x.min(axis=0), y.min(axis=0)) - reach
    step = (np.maximum(x.max(axis=0), y.max(axis=0)) + reach - low) / (_GRID - 1)
    defined = widths[0] > 0
    step = np.where(defined, step, 1.0)
    p, q = (
        np.maximum(_density(side, w, width, low, step), _FLOOR)
        for side, w, width in ((x, a, widths[0]), (y, b, widths[1]))
    )
    found = np.where(defined, trapezoid(p * np.log(p / q), axis=1) * step, np.nan)
    # Where generated points reach so far that the grid passes over the real density, it covers the real points alone.
    for k in np.flatnonzero(defined & (step > _COARSE * widths[0])):
        found[k] = _on_real_grid((x[:, k], y[:, k]), (a, b), (widths[0][k], widths[1][k]))
    return found


def _on_real_grid(points: tuple[Array, Array], weights: tuple[Array, Array], widths: tuple[float, float]) -> float:
    """Return the divergence of one column on a grid of the real points, its kernels summed one by one."""
    real, reach = points[0], 3 * widths[0]
    grid = np.linspace(real.min() - reach, real.max() + reach, _GRID)
    step = grid[1] - grid[0]
    densities = []
    for values, w, width in zip(points, weights, widths, strict=True):
        h = max(width, _COARSE * step)
        total = np.zeros(_GRID)
        for part in range(0, len(values), _GRID):
            rows = slice(part, part + _GRID)
            total += w[rows] @ np.exp(-0.5 * ((values[rows, None] - grid) / h) ** 2)
        densities.append(np.maximum(total / (h * np.sqrt(2 * np.pi)), _FLOOR))
    p, q = densities
    return float(trapezoid(p * np.log(p / q)) * step)


def _scott(x: Array, w: Array) -> Array:
    """Return Scott's bandwidth of each column, with the effective number of points of weighted ones."""
    repeats = float(w @ w)
    if repeats > 1 - 1e-12:
        return np.zeros(x.shape[1])
    variance = w @ (x - w @ x) ** 2 / (1 - repeats)
    # A constant column has no variance; what rounding leaves of it is none either.
    variance[np.ptp(x, axis=0) == 0] = 0.0
    return np.asarray(np.sqrt(variance) * repeats**0.2)


def _density(x: Array, w: Array, width: Array, low: Array, step: Array) -> Array:
    """Return kernel densities ``(c, grid)`` of the columns: binned linearly, then convolved on the grid."""
    columns = x.shape[1]
    place = (x - low) / step
    cell = np.clip(np.floor(place).astype(np.int64), 0, _GRID - 2)
    right = (place - cell) * w[:, None]
    index = cell + _GRID * np.arange(columns)
    counts = np.bincount(index.ravel(), (w[:, None] - right).ravel(), columns * _GRID)
    counts += np.bincount(index.ravel() + 1, right.ravel(), columns * _GRID)
    # On a circle of twice the grid nothing wraps around: the ends are three bandwidths away from the data.
    offsets = np.minimum(np.arange(2 * _GRID), 2 * _GRID - np.arange(2 * _GRID))
    ratio = step / np.maximum(width, 1e-3 * step)
    kernel = np.exp(-0.5 * (offsets * ratio[:, None]) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    spectrum = np.fft.rfft(counts.reshape(columns, _GRID), 2 * _GRID, axis=1) * np.fft.rfft(kernel, axis=1)
    return np.asarray(np.fft.irfft(spectrum, 2 * _GRID, axis=1)[:, :_GRID] / step[:, None])
