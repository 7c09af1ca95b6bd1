r"""Permutation tests of equal laws from the kernel matrix of a pooled sample, whatever the kernel.

With the kernel matrix :math:`K` of all :math:`N = n + m` rows, computed once, and the indicator :math:`z` of the ``n``
rows that are called real, the unbiased discrepancy is

.. math:: T(z) = \frac{z^\top \tilde K z}{n (n-1)} + \frac{(1-z)^\top \tilde K (1-z)}{m (m-1)}
    - \frac{2\, z^\top \tilde K (1-z)}{n m}, \qquad \tilde K = K - \operatorname{diag} K .

Under equal laws all :math:`z` are alike, so :math:`p = (1 + \#\{b : T(z_b) \ge T(z_0)\}) / (B + 1)` is a valid p-value
at any sizes (Gretton et al. 2012; Phipson and Smyth 2010). Permutations are columns of one product with ``K``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["PermutationTest", "permutation_test"]

_BLOCK = 4_000_000
"""Indicators at once: 32 MB, and as much for their product with the kernel matrix."""


@dataclass(frozen=True)
class PermutationTest:
    """What a permutation test found.

    Attributes
    ----------
    statistic
        The unbiased squared discrepancy of the samples as they are.
    p_value
        Share of permutations, the identity among them, with a statistic at least as large.
    null
        Statistics ``(B,)`` of the permutations.
    """

    statistic: float
    p_value: float
    null: Array


def permutation_test(gram: Array, n_real: int, *, n_permutations: int = 199, seed: Seed = 0) -> PermutationTest:
    """Test whether the first rows of a pooled sample and the others come from one law.

    Parameters
    ----------
    gram
        Symmetric kernel matrix ``(N, N)`` of the pooled sample, real rows first: Gaussian, signature, or minus a
        distance (which gives the energy test).
    n_real
        Number of real rows; two or more, as are the others.
    n_permutations
        Permutations ``B``; the smallest p-value is ``1 / (B + 1)``.
    seed
        Root of the permutations.

    Returns
    -------
    PermutationTest
        The test holds its level only where rows are exchangeable: windows that overlap are not.

    Raises
    ------
    ValueError
        If the matrix is not square, symmetric and finite, a side has fewer than two rows, or there is no permutation.

    Examples
    --------
    >>> x = np.concatenate([np.linspace(0, 1, 20), np.linspace(1, 2, 30)])
    >>> permutation_test(-np.abs(x[:, None] - x), 20, n_permutations=99).p_value
    0.01
    """
    gram, n, m = _checked(gram, n_real)
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be at least 1; got {n_permutations}")
    size = n + m
    rng = numpy_generator(derive_seed(as_seed(seed), "permutation"))
    diagonal = np.diagonal(gram).copy()
    sums = gram.sum(axis=0) - diagonal
    total = sums.sum()

    def statistics(real: Array) -> Array:
        """Return the statistic of each row of indicators ``(B, N)``."""
        xx = np.einsum("bi,bi->b", real @ gram, real) - real @ diagonal
        xy = real @ sums - xx
        yy = total - xx - 2 * xy
        return np.asarray(xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m))

    identity = np.zeros((1, size))
    identity[0, :n] = 1.0
    observed = float(statistics(identity)[0])
    null = np.empty(n_permutations)
    width = max(1, _BLOCK // size)
    for start in range(0, n_permutations, width):
        block = null[start : start + width]
        block[:] = statistics(rng.permuted(np.repeat(identity, len(block), axis=0), axis=1))
    # Equal statistics differ by rounding, which must not make them count as smaller.
    rounding = 1e-12 * float(np.abs(gram).max())
    larger = int((null >= observed - rounding).sum())
    return PermutationTest(observed, (1 + larger) / (n_permutations + 1), null)


def _checked(gram: Any, n_real: int) -> tuple[Array, int, int]:
    gram = np.asarray(gram, dtype=np.float64)
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be the square kernel matrix of the pooled sample; got shape {gram.shape}")
    n, m = int(n_real), len(gram) - int(n_real)
    if n < 2 or m < 2:
        raise ValueError(f"a permutation test needs at least two rows a side; got {n} real and {m} others")
    scale = float(np.abs(gram).max())
    if not np.isfinite(scale):
        raise ValueError("gram must be finite; got NaN or infinity")
    if float(np.abs(gram - gram.T).max()) > 1e-8 * scale:
        raise ValueError("gram must be symmetric; symmetrise it as (gram + gram.T) / 2")
    return gram, n, m
