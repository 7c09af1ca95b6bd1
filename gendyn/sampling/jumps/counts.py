r"""Random counts from uniform numbers, by the quantile function.

.. math:: k(u) = \min\{k : F(k) \ge u\} .

One number per count, whatever the mean, keeps the numbers of a path its own. The search starts at the expansion of
Cornish and Fisher (1938), which is at most a step or two off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import bdtr, ndtri, pdtr
from torch import Tensor

__all__ = ["binomial_quantile", "poisson_quantile"]

Array = NDArray[np.float64]

_SMALLEST, _LARGEST = 2.0**-54, 1.0 - 2.0**-53


def poisson_quantile(u: Tensor, mean: Tensor) -> Tensor:
    """Return Poisson counts with means ``(n,)`` for uniform numbers ``(n,)``, int64.

    Examples
    --------
    >>> u = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    >>> poisson_quantile(u, torch.full_like(u, 10.0)).tolist()
    [6, 10, 14]
    """
    m = mean.numpy()

    def distribution(k: Array, i: NDArray[np.int64]) -> Any:
        return pdtr(k, m[i])

    deviation = np.sqrt(m)
    return _search(distribution, u.numpy(), m, deviation, np.ones_like(m), np.full_like(m, np.inf))


def binomial_quantile(u: Tensor, trials: Tensor, probability: Tensor) -> Tensor:
    """Return binomial counts of ``trials`` ``(n,)`` with ``probability`` ``(n,)`` for uniform numbers, int64.

    Examples
    --------
    >>> u = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    >>> binomial_quantile(u, torch.full_like(u, 20.0), torch.full_like(u, 0.5)).tolist()
    [7, 10, 13]
    """
    n, p = trials.to(torch.float64).numpy(), probability.numpy()

    def distribution(k: Array, i: NDArray[np.int64]) -> Any:
        return bdtr(k, n[i].astype(np.int64), p[i])

    deviation = np.sqrt(n * p * (1.0 - p))
    return _search(distribution, u.numpy(), n * p, deviation, 1.0 - 2.0 * p, n)


def _search(
    distribution: Callable[[Array, NDArray[np.int64]], Any],
    u: Array,
    mean: Array,
    deviation: Array,
    asymmetry: Array,
    largest: Array,
) -> Tensor:
    """Return the quantile; ``asymmetry`` is the skewness times the standard deviation."""
    # At 0 and 1 the quantile is not finite.
    u = np.clip(u, _SMALLEST, _LARGEST)
    z = ndtri(u)
    k = np.clip(np.floor(mean + deviation * z + asymmetry * (z * z - 1.0) / 6.0), 0.0, largest)
    low = np.flatnonzero(k < largest)
    while len(low):
        low = low[distribution(k[low], low) < u[low]]
        k[low] += 1.0
        low = low[k[low] < largest[low]]
    high = np.flatnonzero(k > 0)
    while len(high):
        high = high[distribution(k[high] - 1.0, high) >= u[high]]
        k[high] -= 1.0
        high = high[k[high] > 0]
    return torch.from_numpy(k.astype(np.int64))
