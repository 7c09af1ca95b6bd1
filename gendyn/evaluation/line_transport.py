r"""Optimal transport on the line, where it is a sort, and the marginals of paths, to which it applies one by one.

For samples on the line with quantile functions :math:`F^{-1}`, :math:`G^{-1}`,

.. math:: W_p^p = \int_0^1 \lvert F^{-1}(u) - G^{-1}(u) \rvert^p \, du ,

which is the mean over sorted pairs where sizes are equal, and a sum over the merged steps of both quantile functions
where they are not. Sets of paths are compared marginal by marginal, :math:`\frac1{Td} \sum_{t,k} W_p(x_{tk}, y_{tk})`:
what is right or wrong at each time and in each channel, blind to how times and channels hang together.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import ot
import torch
from torch import Tensor

from gendyn.coupling.cost import is_uniform
from gendyn.data import Paths
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, Scale, drop_constant, path_sets, rescale
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed

__all__ = ["check_power", "line_powers", "marginal_wasserstein"]


def check_power(p: int) -> None:
    """Refuse an order that is not offered.

    Examples
    --------
    >>> check_power(2)
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2; got {p!r}")


def line_powers(x: Array, y: Array, a: Array | None = None, b: Array | None = None, *, p: int) -> Array:
    """Return ``W_p^p`` of many pairs of samples on the line.

    Parameters
    ----------
    x, y
        ``(L, n)`` and ``(L, m)``: ``L`` pairs of samples.
    a, b
        Weights ``(n,)`` and ``(m,)`` that sum to 1, the same for every pair; uniform by default.
    p
        The power.

    Returns
    -------
    Array
        ``(L,)``.

    Examples
    --------
    >>> line_powers(np.array([[0.0, 1.0]]), np.array([[3.0, 1.0, 2.0, 2.0]]), p=1).tolist()
    [1.5]
    """
    if not all(w is None or is_uniform(torch.from_numpy(w)) for w in (a, b)):
        n, m = x.shape[1], y.shape[1]
        a, b = np.full(n, 1 / n) if a is None else a, np.full(m, 1 / m) if b is None else b
        return np.asarray(ot.wasserstein_1d(x.T, y.T, a, b, p=p))
    x, y = np.sort(x, axis=1), np.sort(y, axis=1)
    n, m = x.shape[1], y.shape[1]
    if n == m:
        return _power_mean(x - y, p)
    # In units of 1/(nm) the steps of both quantile functions are whole numbers, so that none is split by rounding.
    first, second = m * np.arange(1, n + 1), n * np.arange(1, m + 1)
    levels = np.union1d(first, second)
    gaps = x[:, np.searchsorted(first, levels)] - y[:, np.searchsorted(second, levels)]
    return _power_mean(gaps, p, np.diff(levels, prepend=0) / (n * m))


def _power_mean(gaps: Array, p: int, widths: Array | None = None) -> Array:
    powers = np.abs(gaps, out=gaps) if p == 1 else np.square(gaps, out=gaps) if p == 2 else np.abs(gaps) ** p
    return np.asarray(powers.mean(axis=1) if widths is None else powers @ widths)


def marginal_wasserstein(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    p: Literal[1, 2] = 1,
    scale: Scale = "real-std",
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the Wasserstein distance of marginals, averaged over times and channels, with floor and interval.

    Parameters
    ----------
    real, generated
        Sets of paths at shared times, of any sizes. What was not observed is left out of its marginal.
    p
        The order; the root is taken before the mean.
    scale
        Puts channels on one scale, see :func:`~gendyn.evaluation.path_set.rescale`; by default the value is in standard
        deviations of the real channels, and a channel that is constant there is left out with a warning.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``extra["dropped"]``.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples of paths behind the interval.

    Returns
    -------
    MetricResult
        ``extra`` holds means by time (``by_time``; NaN as ``None``) and by channel (``by_channel``), and the number of
        marginals that were observed on one side only (``skipped``).

    Raises
    ------
    ValueError
        If the sets do not fit, or no marginal was observed on both sides.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(100, 5, 2))
    >>> result = marginal_wasserstein(x, x + [1.0, 0.0], scale=None)
    >>> round(result.value, 6), result.extra["by_channel"]["x1"]
    (0.5, 0.0)
    """
    check_power(p)
    one, two = path_sets(real, generated, metric=f"marginal W{p}", needs="shared", on_nan=on_nan)
    if scale is not None:
        one, two = drop_constant(one, two, f"marginal W{p}")
    one, two = rescale(one, two, scale)
    table = _marginal_distances(one, two, p)
    seen = ~np.isnan(table)
    if not seen.any():
        raise ValueError("no time and channel was observed in both real and generated paths")
    with np.errstate(invalid="ignore"):
        by_time = np.nansum(table, axis=1) / seen.sum(axis=1)
        by_channel = np.nansum(table, axis=0) / seen.sum(axis=0)
    extra = {
        "p": p,
        "by_time": [None if np.isnan(v) else float(v) for v in by_time],
        "by_channel": {k: None if np.isnan(v) else float(v) for k, v in zip(one.names, by_channel, strict=True)},
        "skipped": int((~seen).sum()),
        "dropped": two.dropped,
    }
    return measure(
        f"marginal W{p}",
        lambda u, v: _mean_of_marginals(u, v, p),
        one,
        two,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra=extra,
    )


def _mean_of_marginals(x: PathSet, y: PathSet, p: int) -> float:
    table = _marginal_distances(x, y, p)
    return float(np.nanmean(table)) if not np.isnan(table).all() else float("nan")


def _marginal_distances(x: PathSet, y: PathSet, p: int) -> Array:
    """Return ``W_p`` by time and channel ``(T, d)``, NaN where either side was not observed at all."""
    first, second = (np.ascontiguousarray(s.values.reshape(len(s), -1).T) for s in (x, y))
    whole = ~(np.isnan(first).any(axis=1) | np.isnan(second).any(axis=1))
    powers = np.full(len(first), np.nan)
    if whole.any():
        powers[whole] = line_powers(first[whole], second[whole], p=p)
    for k in np.flatnonzero(~whole):
        u, v = (side[k][~np.isnan(side[k])] for side in (first, second))
        if len(u) and len(v):
            powers[k] = line_powers(u[None], v[None], p=p)[0]
    return np.asarray(powers.reshape(x.n_times, x.dim) ** (1 / p))
