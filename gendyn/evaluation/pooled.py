r"""Rows of a pooled sample: numbers that rest on something computed once for all pairs, or once for each row.

Real and generated rows stand one under the other, :math:`N = n + m` in all, and a sample is a vector of shares
:math:`w \in \mathbb{R}^N` that sums to 1 and is zero off its rows. A half, a resample and a permutation are then other
shares of the same rows, and

.. math:: D(u, v) = q(u, u) + q(v, v) - 2\, u^\top K v, \qquad
    q(w, w) = \frac{w^\top K w - \sum_i w_i^2 K_{ii}}{1 - \sum_i w_i^2}

is the unbiased squared discrepancy of a kernel matrix :math:`K` (the V-statistic is plain :math:`(u-v)^\top K (u-v)`),
which costs one product with ``K`` for a floor or a resample instead of a kernel matrix each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from gendyn.evaluation.points import Array

__all__ = ["PooledRows", "discrepancy", "pooled_rows"]

Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class PooledRows:
    """A sample as shares of the rows of a pooled one.

    Attributes
    ----------
    rows
        Numbers of its rows.
    shares
        ``(N,)``; sum to 1, zero off its rows.

    Examples
    --------
    >>> one, two = pooled_rows(np.full(2, 0.5), np.full(4, 0.25))
    >>> len(two), two.rows.tolist(), two.shares.tolist()
    (4, [2, 3, 4, 5], [0.0, 0.0, 0.25, 0.25, 0.25, 0.25])
    """

    rows: Integers
    shares: Array

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Integers) -> Self:
        """Return some of its rows, given by their numbers in the pooled sample, with their shares normalised anew."""
        shares = np.zeros_like(self.shares)
        shares[rows] = self.shares[rows] / self.shares[rows].sum()
        return type(self)(rows, shares)

    def halves(self, rng: np.random.Generator) -> tuple[Self, Self] | None:
        """Return two disjoint random halves; ``None`` if one would hold fewer than two rows, or no weight."""
        half = len(self) // 2
        if half < 2:
            return None
        order = self.rows[rng.permutation(len(self))]
        one, two = order[:half], order[half : 2 * half]
        if not (self.shares[one].sum() > 0 and self.shares[two].sum() > 0):
            return None
        return self.take(one), self.take(two)

    def resample(self, rng: np.random.Generator, size: int) -> Self:
        """Return ``size`` rows drawn with replacement by their shares, each draw then of equal weight."""
        drawn = self.rows[rng.choice(len(self), size, p=self.shares[self.rows])]
        return type(self)(drawn, np.bincount(drawn, minlength=len(self.shares)) / size)


def pooled_rows(a: Array, b: Array) -> tuple[PooledRows, PooledRows]:
    """Return real and generated samples of weights ``(n,)`` and ``(m,)`` as rows of the pooled one, real ones first."""
    n, size = len(a), len(a) + len(b)
    first, second = np.zeros(size), np.zeros(size)
    first[:n], second[n:] = a, b
    return PooledRows(np.arange(n), first), PooledRows(np.arange(n, size), second)


def discrepancy(gram: Array, one: PooledRows, two: PooledRows, *, unbiased: bool = True) -> float:
    """Return the squared discrepancy of two samples from the kernel matrix ``(N, N)`` of the pooled rows.

    A sample of one row has no pair: its unbiased inner term is left out.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 3.0])
    >>> sides = pooled_rows(np.full(2, 0.5), np.ones(1))
    >>> discrepancy(-np.abs(x[:, None] - x), *sides, unbiased=False)  # 2 E|X-Y| - E|X-X'| - E|Y-Y'|
    4.5
    """
    shares = np.stack([one.shares, two.shares])
    inner = shares @ gram @ shares.T
    within = [float(inner[0, 0]), float(inner[1, 1])]
    if unbiased:
        diagonal = np.diagonal(gram)
        for k, w in enumerate(shares):
            repeats = float(w @ w)
            pairs = within[k] - float(w**2 @ diagonal)
            within[k] = pairs / (1.0 - repeats) if repeats < 1.0 - 1e-12 else 0.0
    return within[0] + within[1] - 2.0 * float(inner[0, 1])
