r"""Gaussian rows from their covariance, so that a row depends on the seed and its number alone.

Equally spaced times of a stationary series come from a circulant embedding of the covariance (Davies and Harte 1987),
whose cost is that of a fast Fourier transform; any other times from a Cholesky factor. All is float64.

Normals come in pairs from uniform numbers :math:`u, v` of 53 bits (Box and Muller 1958),

.. math:: z_1 + i z_2 = \sqrt{-2 \ln(1 - u)}\; e^{2 \pi i v},

whose four functions run on many numbers at once: a third of the time of torch's own normals in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = [
    "check_floating",
    "circulant_weights",
    "row_normals",
    "sample_gaussian",
    "sample_stationary",
    "stationary_rows",
]

_ROWS = 16
"""Rows that share a seed."""

_NUMBERS = 1 << 17
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
    weights = circulant_weights(rho)
    if weights is None:
        lags = torch.arange(len(rho))
        return sample_gaussian(rho[(lags[:, None] - lags).abs()], n, seed)
    values = torch.empty(n, len(rho), dtype=torch.float64)
    for rows, drawn in stationary_rows(weights, n, as_seed(seed)):
        values[rows] = drawn
    return values


def circulant_weights(autocovariance: Tensor) -> Tensor | None:
    r"""Return deviations of the Fourier coefficients of a series of size :math:`2N`, ``(N + 1,)``.

    ``None`` where an eigenvalue of the circulant matrix is negative, or there is one value only.
    """
    size = len(autocovariance) - 1
    if size < 1:
        return None
    eigenvalues = torch.fft.rfft(torch.cat([autocovariance, autocovariance[1:-1].flip(0)])).real
    if bool(eigenvalues.min() < -_NEGATIVE * eigenvalues.max()):
        return None
    # Real at both ends, complex with half the variance in each part between.
    weights: Tensor = (eigenvalues.clamp_min(0.0) * size).sqrt()
    weights[[0, -1]] *= math.sqrt(2)
    return weights


def stationary_rows(weights: Tensor, n: int, key: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and the series ``(m, N + 1)`` that have these weights; what is yielded is overwritten by the next."""
    size = len(weights) - 1
    spectrum = torch.empty(0, size + 1, dtype=torch.complex128)
    for rows, length, angle in _polar_rows(n, size, key):
        if len(spectrum) != len(length):
            spectrum = torch.empty(len(length), size + 1, dtype=torch.complex128)
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        # Both ends of the spectrum are real: they share the first pair.
        torch.mul(angle[:, 0].sin() * length[:, 0], weights[-1], out=real[:, -1])
        length *= weights[:-1]
        torch.mul(angle.cos(), length, out=real[:, :-1])
        torch.mul(angle.sin_(), length, out=imaginary[:, :-1])
        imaginary[:, [0, -1]] = 0.0
        yield rows, torch.fft.irfft(spectrum, n=2 * size)[:, : size + 1]


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


def check_floating(dtype: torch.dtype) -> torch.dtype:
    """Return a type of real numbers, or say that it is none."""
    if not dtype.is_floating_point:
        raise TypeError(f"paths are real numbers: dtype must be a floating type, such as torch.float32; got {dtype}")
    return dtype


def row_normals(n: int, columns: int, key: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and their standard normals, so that a row depends on the key and its number alone."""
    pairs = (columns + 1) // 2
    for rows, length, angle in _polar_rows(n, pairs, key):
        held = torch.empty(len(length), 2 * pairs, dtype=torch.float64)
        torch.mul(angle.cos(), length, out=held[:, :pairs])
        torch.mul(angle.sin_(), length, out=held[:, pairs:])
        yield rows, held[:, :columns]


def _polar_rows(n: int, pairs: int, key: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield rows, and length and angle ``(m, pairs)`` of complex numbers whose parts are standard normals."""
    most = _ROWS * max(1, _NUMBERS // (2 * _ROWS * max(pairs, 1)))
    uniform = np.empty((min(most, n), 2, pairs))
    for first in range(0, n, most):
        count = min(most, n - first)
        for k in range(0, count, _ROWS):
            seed = derive_seed(key, "rows", (first + k) // _ROWS)
            np.random.Generator(np.random.SFC64(seed)).random(out=uniform[k : min(k + _ROWS, count)])
        u, v = torch.from_numpy(uniform[:count]).unbind(1)
        yield slice(first, first + count), torch.sub(1.0, u).log_().mul_(-2.0).sqrt_(), v * (2 * math.pi)
