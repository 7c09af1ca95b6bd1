r"""Ordinal patterns: in which orders successive values of a series occur, and how structured that is.

A window :math:`(x_t, x_{t+\ell}, \dots, x_{t+(n-1)\ell})` has the pattern :math:`\pi`, the permutation that sorts it,
ties keeping their order in time. From the masses :math:`p` of the :math:`N = n!` patterns, with Shannon's entropy S in
nats and the uniform masses :math:`u` (Bandt and Pompe 2002; Rosso et al. 2007):

.. math::

    H = \frac{S[p]}{\ln N}, \qquad
    C = Q_0 \Bigl( S\bigl[\tfrac{p+u}{2}\bigr] - \tfrac12 S[p] - \tfrac12 S[u] \Bigr) H,

:math:`Q_0` scaling the Jensen-Shannon divergence to at most 1. Noise has (1, 0), a monotone series (0, 0), chaos a
middling H with a large C. For a given H the complexity lies between two curves (Martin, Plastino and Rosso 2006).

Patterns are counted without sorting. With :math:`g_k(t) = [x_t > x_{t+k\ell}]`, the digits
:math:`L_i = \sum_{k=1}^{n-1-i} g_k(t + i\ell)` are the Lehmer code of the ranks in the window: n - 1 comparisons of
the whole series number all its windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import entr
from torch import Tensor

from gendyn.data.checks import as_tensor, warn_user
from gendyn.evaluation.points import Array

__all__ = [
    "OrdinalStatistics",
    "check_order",
    "complexity_limits",
    "entropy_complexity",
    "natural_time",
    "ordinal_counts",
    "ordinal_patterns",
    "ordinal_statistics",
    "sampling_lags",
]

Counts = np.ndarray[Any, np.dtype[np.int64]]

_LARGEST_ORDER = 9
_CHUNK = 1 << 17
"""Windows that are numbered at once: what they need stays in the cache."""


@dataclass(frozen=True)
class OrdinalStatistics:
    """Permutation entropy and statistical complexity of a series.

    Attributes
    ----------
    entropy, complexity
        H and C, between 0 and 1.
    masses
        ``(n!,)`` masses of the patterns, in the order of :func:`ordinal_patterns`.
    order, lag
        Length of the patterns, and steps between their values.
    n_windows
        Windows that were counted.

    Examples
    --------
    >>> ordinal_statistics(np.arange(2000.0), order=3)
    OrdinalStatistics(H = 0, C = 0, 1 of 6 patterns in 1998 windows, order 3, lag 1)
    """

    entropy: float
    complexity: float
    masses: Array
    order: int
    lag: int
    n_windows: int

    def __repr__(self) -> str:
        seen = f"{self.n_patterns} of {len(self.masses)} patterns in {self.n_windows} windows"
        h, c = self.entropy + 0.0, self.complexity + 0.0
        return f"OrdinalStatistics(H = {h:.4g}, C = {c:.4g}, {seen}, order {self.order}, lag {self.lag})"

    @property
    def n_patterns(self) -> int:
        """Number of patterns that occurred."""
        return int((self.masses > 0).sum())

    @property
    def deficit(self) -> float:
        """How far the entropy of white noise lies below 1 for so few windows (Miller 1955)."""
        n = len(self.masses)
        return (n - 1) / (2 * self.n_windows * math.log(n))


def ordinal_patterns(order: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return all patterns ``(n!, n)`` in lexicographic order; each row lists positions from the least value up.

    Examples
    --------
    >>> ordinal_patterns(3).tolist()
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    """
    check_order(order)
    rows = np.zeros((1, 0), dtype=np.int64)
    for size in range(1, order + 1):
        # Every pattern of the size before, after each possible first entry.
        first = np.repeat(np.arange(size), len(rows))[:, None]
        rest = np.tile(rows, (size, 1))
        rows = np.concatenate([first, rest + (rest >= first)], axis=1)
    return rows


def ordinal_counts(series: Tensor | Array | Any, *, order: int = 5, lag: int = 1) -> Counts:
    """Count the ordinal patterns along the last axis.

    Parameters
    ----------
    series
        ``(..., T)``; windows that hold a NaN are left out.
    order
        Length n of the patterns, 2 to 9.
    lag
        Steps between the values of a pattern.

    Returns
    -------
    numpy.ndarray
        ``(n!,)``, over all leading axes, in the order of :func:`ordinal_patterns`.

    Raises
    ------
    ValueError
        If order or lag are out of range, or a window is longer than the series.

    Examples
    --------
    >>> ordinal_counts([4.0, 7.0, 9.0, 10.0, 6.0, 11.0, 3.0], order=3).tolist()
    [2, 0, 1, 0, 2, 0]
    """
    check_order(order)
    if lag < 1 or lag != int(lag):
        raise ValueError(f"lag must be a whole number of at least 1; got {lag}")
    tensor = series.detach().cpu() if isinstance(series, Tensor) else as_tensor(series, "series")
    values = tensor.numpy()
    span = (order - 1) * lag
    if values.ndim == 0 or values.shape[-1] <= span:
        raise ValueError(
            f"a pattern of {order} values {lag} steps apart spans {span + 1}; the series has shape {values.shape}"
        )
    rows = values.reshape(-1, values.shape[-1])
    gaps = bool(np.isnan(rows).any()) if rows.dtype.kind == "f" else False
    counts = np.zeros(math.factorial(order), dtype=np.int64)
    width = min(rows.shape[1] - span, _CHUNK)
    height = max(1, _CHUNK // (width + span))
    for top in range(0, len(rows), height):
        for left in range(0, rows.shape[1] - span, width):
            block = np.ascontiguousarray(rows[top : top + height, left : left + width + span])
            number = _numbers(block, order, lag)
            if gaps:
                whole = ~np.isnan(block)
                seen = whole[:, : number.shape[1]].copy()
                for i in range(1, order):
                    seen &= whole[:, i * lag : i * lag + number.shape[1]]
                number = number[seen]
            counts += np.bincount(number.reshape(-1), minlength=len(counts))
    return np.asarray(counts[_ranks_of_patterns(order)])


def entropy_complexity(masses: Any) -> tuple[Array, Array]:
    """Return permutation entropy H and statistical complexity C of pattern masses.

    Parameters
    ----------
    masses
        ``(..., N)``, non-negative, each of sum 1; or counts, which are normalised.

    Raises
    ------
    ValueError
        If there are fewer than two patterns, or masses are negative or all zero.

    Examples
    --------
    >>> h, c = entropy_complexity([1 / 3, 1 / 15, 2 / 15, 1 / 5, 4 / 15, 0])
    >>> round(float(h), 6), round(float(c), 6)
    (0.831445, 0.165767)
    """
    p = np.asarray(masses, dtype=np.float64)
    n = p.shape[-1] if p.ndim else 0
    total = p.sum(axis=-1, keepdims=True) if n else np.zeros(1)
    if n < 2 or not (np.isfinite(p).all() and (p >= 0).all() and (total > 0).all()):
        raise ValueError(
            f"masses must be finite, non-negative and not all zero, of two patterns or more; got shape {p.shape}"
        )
    p = p / total
    shannon = entr(p).sum(axis=-1)
    mixed = entr((p + 1 / n) / 2).sum(axis=-1)
    h = shannon / math.log(n)
    return h, _largest_divergence(n) * np.clip(mixed - shannon / 2 - math.log(n) / 2, 0.0, None) * h


def ordinal_statistics(series: Tensor | Array | Any, *, order: int = 5, lag: int = 1) -> OrdinalStatistics:
    """Return permutation entropy and statistical complexity along the last axis, over all leading axes together.

    A warning is given where there are fewer than ten windows for each pattern: entropy is then too low.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=5000)
    >>> result = ordinal_statistics(noise, order=4)
    >>> abs(result.entropy - (1 - result.deficit)) < 0.001
    True
    """
    counts = ordinal_counts(series, order=order, lag=lag)
    windows = int(counts.sum())
    if windows == 0:
        raise ValueError(f"no window of {order} values {lag} steps apart was observed")
    if windows < 10 * len(counts):
        warn_user(
            f"{windows} windows are few for the {len(counts)} patterns of order {order}: entropy is too low; lower the "
            "order, or give a longer series"
        )
    h, c = entropy_complexity(counts)
    return OrdinalStatistics(float(h), float(c), counts / windows, order, lag, windows)


def complexity_limits(entropy: Any, *, order: int = 5) -> tuple[Array, Array]:
    r"""Return the least and the largest complexity that go with an entropy.

    The least is taken by one pattern of mass :math:`p \ge 1/N`, all others sharing the rest; the largest by one of mass
    :math:`p \le 1/(k+1)`, k sharing the rest, and none else, for some k.

    Parameters
    ----------
    entropy
        Permutation entropies H in [0, 1], of any shape.
    order
        Length of the patterns.

    Returns
    -------
    least, largest
        In the shape of ``entropy``.

    Raises
    ------
    ValueError
        If an entropy lies outside [0, 1].

    Examples
    --------
    >>> least, largest = complexity_limits([0.0, 0.613, 1.0], order=3)
    >>> largest.round(4).tolist()
    [0.0, 0.2914, 0.0]
    """
    check_order(order)
    h = np.asarray(entropy, dtype=np.float64)
    if not ((h >= 0) & (h <= 1)).all():
        raise ValueError(f"entropies must lie in 0 to 1; got {float(h.min()):g} to {float(h.max()):g}")
    n = math.factorial(order)
    target = h * math.log(n)
    least = _complexity(n, np.full(h.shape, n - 1), _mass_of_entropy(np.full(h.shape, n - 1), target, above=True))
    # Between ln k and ln (k + 1) the largest complexity is that of k patterns and one lighter one.
    shared = np.clip(np.floor(np.exp(target) * (1 + 1e-12)), 1, n - 1).astype(np.int64)
    return least, _complexity(n, shared, _mass_of_entropy(shared, target, above=False))


def natural_time(series: Any, *, time_step: float = 1.0) -> float:
    """Return the natural time scale of a series: twice the mean time between crossings of its mean.

    Parameters
    ----------
    series
        ``(..., T)``; crossings are pooled over all leading axes, each about its own mean. Steps to or from a NaN
        are left out.
    time_step
        Time between two values.

    Returns
    -------
    float
        The whole duration where the mean is never crossed twice.

    Examples
    --------
    >>> round(natural_time(np.sin(2 * np.pi * np.arange(100000.0) / 50), time_step=0.1), 1)
    5.0
    """
    values = as_tensor(series, "series").detach().cpu().numpy().astype(np.float64)
    if values.ndim == 0 or values.shape[-1] < 2:
        raise ValueError(f"a natural time needs series of two values or more; got shape {values.shape}")
    seen = ~np.isnan(values)
    middle = np.where(seen, values, 0.0).sum(axis=-1) / np.maximum(seen.sum(axis=-1), 1)
    above = values > middle[..., None]
    steps = seen[..., 1:] & seen[..., :-1]
    crossings = int((steps & (above[..., 1:] != above[..., :-1])).sum())
    return float(2 * steps.sum() * time_step / crossings if crossings > 2 else (values.shape[-1] - 1) * time_step)


def sampling_lags(
    series: Any, *, order: int = 5, low: float = 0.3, high: float = 0.5, count: int = 3
) -> tuple[int, ...]:
    """Return lags at which ordinal patterns see a series' own motion.

    A pattern of n values spans ``lag * (n - 1)`` steps. Much shorter than the natural time it sees monotone pieces
    only, and everything looks regular; much longer, and everything looks like noise. Lags are chosen evenly such that
    the span lies between ``low`` and ``high`` natural times (Hyman, Daniel and Schaffner 2025).

    Parameters
    ----------
    series
        ``(..., T)``.
    order
        Length of the patterns.
    low, high
        Range of the span, in natural times.
    count
        How many lags at most.

    Returns
    -------
    tuple of int
        The nearest one where none lies in the range: 1 where the series is sampled coarsely, as maps and noise are.

    Raises
    ------
    ValueError
        If the range is empty, or no pattern fits into the series.

    Examples
    --------
    >>> sampling_lags(np.sin(2 * np.pi * np.arange(10000.0) / 173))
    (13, 17, 21)
    """
    check_order(order)
    if not 0 < low <= high or count < 1:
        raise ValueError(f"low and high must be positive and in order, count at least 1; got {low}, {high}, {count}")
    values = as_tensor(series, "series").detach().cpu().numpy()
    length = values.shape[-1] if values.ndim else 0
    if length <= order - 1:
        raise ValueError(f"a pattern of {order} values does not fit into a series of shape {values.shape}")
    scale = natural_time(values)
    if length - 1 < 1.5 * scale:
        warn_user(
            f"the series lasts {(length - 1) / scale:.2g} natural times; ordinal patterns describe its motion from 1.5"
        )
    longest = (length - 1) // (order - 1)
    first, last = math.ceil(low * scale / (order - 1)), math.floor(high * scale / (order - 1))
    first, last = max(first, 1), min(last, longest)
    if last < first:
        middle = round((low + high) / 2 * scale / (order - 1))
        return (min(max(middle, 1), longest),)
    return tuple(sorted({round(v) for v in np.linspace(first, last, count)}))


def check_order(order: int) -> None:
    """Refuse an order that patterns cannot have.

    Examples
    --------
    >>> check_order(5)
    """
    if order != int(order) or not 2 <= order <= _LARGEST_ORDER:
        raise ValueError(f"order must be a whole number from 2 to {_LARGEST_ORDER}; got {order}")


def _numbers(block: np.ndarray[Any, Any], order: int, lag: int) -> np.ndarray[Any, Any]:
    """Return the Lehmer number of the ranks in each window ``(rows, windows)``."""
    length = block.shape[1]
    windows = length - (order - 1) * lag
    kind = np.uint8 if order <= 5 else np.int32
    number = np.zeros((len(block), windows), dtype=kind)
    smaller_after = np.zeros(block.shape, dtype=kind)
    for k in range(1, order):
        # How many of the k next values lie below: the digit of the value that has k next ones in its window.
        smaller_after[:, : length - k * lag] += block[:, : length - k * lag] > block[:, k * lag :]
        at = (order - 1 - k) * lag
        number += smaller_after[:, at : at + windows] * kind(math.factorial(k))
    return number


@lru_cache(maxsize=_LARGEST_ORDER)
def _ranks_of_patterns(order: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return, for each pattern, the Lehmer number of the ranks that it sorts."""
    ranks = ordinal_patterns(order).argsort(axis=1)
    digits = (ranks[:, :, None] > ranks[:, None, :]) & np.triu(np.ones((order, order), dtype=bool), 1)
    weights = np.array([math.factorial(order - 1 - i) for i in range(order)], dtype=np.int64)
    return np.asarray(digits.sum(axis=2) @ weights)


def _largest_divergence(n: int) -> float:
    """Return Q0, the inverse of the Jensen-Shannon divergence of one certain pattern from the uniform masses."""
    return -2.0 / ((n + 1) / n * math.log(n + 1) - 2 * math.log(2 * n) + math.log(n))


def _complexity(n: int, shared: Counts, p: Array) -> Array:
    """Return C of one pattern of mass p and ``shared`` others that have the rest in equal parts."""
    rest = (1 - p) / shared
    shannon = entr(p) + shared * entr(rest)
    mixed = entr((p + 1 / n) / 2) + shared * entr((rest + 1 / n) / 2) + (n - 1 - shared) * entr(0.5 / n)
    divergence = np.clip(mixed - shannon / 2 - math.log(n) / 2, 0.0, None)
    return np.asarray(_largest_divergence(n) * divergence * shannon / math.log(n))


def _mass_of_entropy(shared: Counts, target: Array, *, above: bool) -> Array:
    """Return by bisection the mass p of one pattern, above or below an equal share, that gives the entropy."""
    equal = 1.0 / (shared + 1)
    low, high = (equal, np.ones_like(equal)) if above else (np.zeros_like(equal), equal)
    for _ in range(60):
        p = (low + high) / 2
        shannon = entr(p) + shared * entr((1 - p) / shared)
        # Entropy falls with a mass above the equal share, rises with one below.
        up = (shannon > target) == above
        low, high = np.where(up, p, low), np.where(up, high, p)
    return (low + high) / 2
