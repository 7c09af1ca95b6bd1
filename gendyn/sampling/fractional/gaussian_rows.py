r"""Gaussian rows from their covariance, so that a row depends on the seed and its number alone.

Equally spaced times of a stationary series come from a circulant embedding of the covariance (Davies and Harte 1987),
whose cost is that of a fast Fourier transform; any other times from a Cholesky factor. All is float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = ["row_normals", "sample_gaussian", "sample_stationary"]

_ROWS = 16
"""Rows that are drawn together, in the groups of 16 in which torch's CPU generator fills."""

_NUMBERS = 1 << 18
"""Normals held at once; more fall out of the cache."""

_NEGATIVE = 1e-10
"""How negative an eigenvalue may be, relative to the largest, and still be a rounding error of zero."""


def sample_stationary(autocovariance: Tensor, n: int, seed: Seed = 0) -> Tensor:
    r"""Draw a stationary Gaussian series with mean 0 from its autocovariance :math:`\rho(0), \dots, \rho(N)`.

    The row :math:`\rho(0), \dots, \rho(N), \rho(N-1), \dots, \rho(1)` is the first of a circulant matrix of size
    :math:`2N`, diagonal in the Fourier basis; where its eigenvalues are not negative (for fractional noise they
    never are, Craigmile 2003) the first :math:`N + 1` values of a draw from it are exact. Elsewhere a Cholesky factor
    does the same more slowly.

    Parameters
    ----------
    autocovariance
        ``(N + 1,)``, float64.
    n
        Number of series.
    seed
        Seed or generator.

    Returns
    -------
    Tensor
        ``(n, N + 1)``, float64.

    Raises
    ------
    ValueError
        If it is not the autocovariance of any series.

    Examples
    --------
    >>> sample_stationary(0.5 ** torch.arange(5.0), n=2).shape
    torch.Size([2, 5])
    """
    rho = torch.as_tensor(autocovariance, dtype=torch.float64)
    if rho.ndim != 1 or len(rho) < 1 or not bool(torch.isfinite(rho).all()):
        raise ValueError(f"an autocovariance must be one row of finite numbers; got shape {tuple(rho.shape)}")
    size = len(rho) - 1
    eigenvalues = torch.fft.rfft(torch.cat([rho, rho[1:-1].flip(0)])).real if size > 1 else None
    if eigenvalues is None or bool(eigenvalues.min() < -_NEGATIVE * eigenvalues.max()):
        lags = torch.arange(size + 1)
        return sample_gaussian(rho[(lags[:, None] - lags).abs()], n, seed)
    # Z_k of the half spectrum: real at both ends, complex with half the variance in each part between.
    weights = (eigenvalues.clamp_min(0.0) * size).sqrt()
    weights[[0, -1]] *= math.sqrt(2)
    values = torch.empty(n, size + 1, dtype=torch.float64)
    for rows, normals in row_normals(n, 2 * size, as_seed(seed)):
        real, imaginary = normals[:, : size + 1], normals[:, size + 1 :]
        spectrum = torch.complex(weights * real, torch.nn.functional.pad(weights[1:-1] * imaginary, (1, 1)))
        values[rows] = torch.fft.irfft(spectrum, n=2 * size)[:, : size + 1]
    return values


def sample_gaussian(covariance: Tensor, n: int, seed: Seed = 0) -> Tensor:
    """Draw Gaussian rows with mean 0 from their covariance ``(T, T)``; what has variance 0 is 0.

    Parameters
    ----------
    covariance
        Symmetric, float64; may be singular to rounding.
    n
        Number of rows.
    seed
        Seed or generator.

    Returns
    -------
    Tensor
        ``(n, T)``, float64.

    Raises
    ------
    ValueError
        If the matrix has an eigenvalue below zero.

    Examples
    --------
    >>> sample_gaussian(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), n=1)[0, 0].item()
    0.0
    """
    matrix = torch.as_tensor(covariance, dtype=torch.float64)
    diagonal = torch.diagonal(matrix)
    free = torch.nonzero(diagonal > 0).flatten()
    values = torch.zeros(n, len(matrix), dtype=torch.float64)
    if not len(free):
        return values
    block = matrix[free[:, None], free]
    factor, failed = torch.linalg.cholesky_ex(block + torch.diag(1e-12 * diagonal[free]))
    if int(failed):
        raise ValueError(
            "this is not a covariance: it has an eigenvalue of "
            f"{float(torch.linalg.eigvalsh(block)[0]):.3g}; times may be too close to tell apart"
        )
    for rows, normals in row_normals(n, len(free), as_seed(seed)):
        values[rows, free] = normals @ factor.T
    return values


def row_normals(n: int, columns: int, key: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their standard normals, so that a row depends on the key and its number alone."""
    generator = torch.Generator()
    block = torch.empty(_ROWS, columns, dtype=torch.float64)
    most = max(1, _NUMBERS // (_ROWS * columns))
    for first in range(0, n, _ROWS * most):
        stop = min(n, first + _ROWS * most)
        held = torch.empty(stop - first, columns, dtype=torch.float64)
        for start in range(first, stop, _ROWS):
            seed = derive_seed(key, "rows", start // _ROWS)
            generator.manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)
            block.normal_(generator=generator)
            held[start - first : start - first + _ROWS] = block[: stop - start]
        yield slice(first, stop), held
