"""Weighted points: what a metric between populations takes in, checked at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from gendyn.data.checks import as_tensor

__all__ = ["LARGEST", "Array", "Points", "as_array", "broken", "points", "what_is_broken"]

Array = np.ndarray[Any, np.dtype[np.float64]]

LARGEST = 1e150
"""Values beyond this have squares, or sums of squares, that no float64 holds."""


@dataclass(frozen=True)
class Points:
    """Points ``values (n, d)`` with ``weights (n,)`` that sum to 1, in float64.

    Examples
    --------
    >>> one = Points(np.zeros((4, 2)), np.full(4, 0.25))
    >>> len(one), [len(half) for half in one.halves(np.random.default_rng(0))]
    (4, [2, 2])
    """

    values: Array
    weights: Array

    def __len__(self) -> int:
        return len(self.values)

    def halves(self, rng: np.random.Generator) -> tuple[Self, Self] | None:
        """Return two disjoint random halves; ``None`` if one would hold fewer than two points, or no weight."""
        half = len(self) // 2
        if half < 2:
            return None
        order = rng.permutation(len(self))
        one, two = order[:half], order[half : 2 * half]
        if not (self.weights[one].sum() > 0 and self.weights[two].sum() > 0):
            return None
        return self.take(one), self.take(two)

    def resample(self, rng: np.random.Generator, size: int) -> Self:
        """Return ``size`` points drawn with replacement by their weights, each then of equal weight."""
        rows = rng.choice(len(self), size, p=self.weights)
        return type(self)(self.values[rows], np.full(size, 1 / size))

    def take(self, rows: np.ndarray[Any, Any]) -> Self:
        """Return the points with the given numbers, their weights normalised anew."""
        return type(self)(self.values[rows], self.weights[rows] / self.weights[rows].sum())


def points(
    real: Tensor | Array,
    generated: Tensor | Array,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
) -> tuple[Points, Points]:
    """Return both populations in float64 with normalised weights, or say what is wrong.

    Parameters
    ----------
    real, generated
        ``(n, d)`` and ``(m, d)``; ``(n,)`` is read as one feature.
    weights_real, weights_generated
        ``(n,)`` and ``(m,)``, not all zero; uniform by default.

    Raises
    ------
    ValueError
        If shapes do not fit, values are not finite, or weights are negative or all zero.

    Examples
    --------
    >>> x, y = points(np.zeros(3), np.ones(4), weights_real=np.array([1.0, 1.0, 2.0]))
    >>> x.weights.tolist(), y.values.shape
    ([0.25, 0.25, 0.5], (4, 1))
    """
    x, y = _matrix(real, "real"), _matrix(generated, "generated")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"real and generated must have the same number of features; got {x.shape} and {y.shape}")
    a, b = _weights(weights_real, len(x), "weights_real"), _weights(weights_generated, len(y), "weights_generated")
    return Points(x, a), Points(y, b)


def as_array(data: Any, what: str) -> np.ndarray[Any, Any]:
    """Return data as an array outside any graph, not copied where a tensor holds what NumPy knows.

    Raises
    ------
    TypeError
        If they are not real numbers.

    Examples
    --------
    >>> as_array(torch.ones(2, dtype=torch.bfloat16, requires_grad=True), "data").dtype
    dtype('float32')
    """
    known = isinstance(data, Tensor) and data.dtype != torch.bfloat16 and not data.is_complex()
    tensor: Tensor = data if known else as_tensor(data, what)
    return tensor.detach().cpu().numpy()


def broken(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which values no metric can compute with: NaN, infinity, and what is larger than ``LARGEST``.

    Examples
    --------
    >>> broken(np.array([1.0, np.nan, -np.inf, 1e200])).tolist()
    [False, True, True, True]
    """
    return np.asarray(~(np.abs(values) <= np.float64(LARGEST)))


def what_is_broken(values: np.ndarray[Any, Any]) -> str:
    """Return the words for what :func:`broken` found.

    Examples
    --------
    >>> what_is_broken(np.array([1.0, np.nan])), what_is_broken(np.array([1.0, 1e200]))
    ('NaN or infinity', 'values beyond 1e+150, whose squares overflow,')
    """
    return "NaN or infinity" if not np.isfinite(values).all() else f"values beyond {LARGEST:g}, whose squares overflow,"


def _matrix(sample: Any, name: str) -> Array:
    array = as_array(sample, name).astype(np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n, d) with at least one row; got {array.shape}")
    bad = broken(array).any(1)
    if bad.any():
        raise ValueError(f"{name} must be finite; got {what_is_broken(array)} in {bad.sum()} of {len(array)} rows")
    return array


def _weights(weights: Any, n: int, name: str) -> Array:
    if weights is None:
        return np.full(n, 1.0 / n)
    w = (weights.detach().cpu().numpy() if isinstance(weights, Tensor) else np.asarray(weights)).astype(np.float64)
    if w.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},); got {w.shape}")
    if not np.isfinite(w).all() or (w < 0).any() or not w.max() > 0:
        raise ValueError(f"{name} must be finite, non-negative and not all zero")
    # Divided by the largest first, so that their sum is a number.
    w = w / w.max()
    return np.asarray(w / w.sum())
