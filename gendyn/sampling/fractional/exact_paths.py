"""Fractional Brownian motion and its increments, exact in law.

Kind I at equally spaced times from 0 is the sum of stationary increments, drawn by a circulant embedding; any other
times, and kind II, by a Cholesky factor. Path :math:`i` depends on the seed, :math:`i` and the times alone, not on how
many others there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, check_times
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.fractional.gaussian_rows import check_floating, circulant_weights, sample_gaussian, stationary_rows
from gendyn.sampling.fractional.laws import (
    Kind,
    Normalize,
    check_hurst,
    fractional_covariance,
    law_scale,
    noise_autocovariance,
    variance_constant,
)

__all__ = ["hurst_indices", "sample_fractional_brownian_motion", "sample_fractional_noise"]

_EQUAL = 1e-9
"""How far steps of time may differ, relative to the longest, and still be equal."""


def sample_fractional_noise(
    hurst: float | Sequence[float],
    n: int,
    steps: int,
    *,
    step: float = 1.0,
    seed: Seed = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Draw fractional Gaussian noise: increments of unit kind I over equal steps.

    Parameters
    ----------
    hurst
        :math:`H`; or one for each feature, which are independent of each other.
    n
        Number of series.
    steps
        Increments in each.
    step
        Time between two values.
    seed
        Seed or generator.
    dtype
        Type of the result; the numbers are drawn in float64.

    Returns
    -------
    Tensor
        ``(n, steps, d)``, with ``d`` 1 or the number of Hurst indices.

    Raises
    ------
    ValueError
        If ``hurst`` or the step is not possible, or there is no step.

    Examples
    --------
    >>> noise = sample_fractional_noise(0.9, n=500, steps=64)
    >>> (noise[:, 1:] * noise[:, :-1]).mean().item()
    0.7...
    """
    indices, key = hurst_indices(hurst), as_seed(seed)
    if steps < 1:
        raise ValueError(f"a series needs at least one step; got {steps}")
    values = torch.empty(n, steps, len(indices), dtype=check_floating(dtype))
    for feature, h in enumerate(indices):
        weights = _noise_weights(h, steps, step)
        for rows, drawn in stationary_rows(weights, n, derive_seed(key, "feature", feature)):
            values[rows, :, feature] = drawn[:, :steps]
    return values


def sample_fractional_brownian_motion(
    hurst: float | Sequence[float],
    times: ArrayLike,
    n: int,
    *,
    kind: Kind = "I",
    normalize: Normalize = "unit",
    seed: Seed = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Draw fractional Brownian motion at given times, exact in law.

    Parameters
    ----------
    hurst
        :math:`H`; or one for each feature, which are independent of each other.
    times
        ``(T,)``, strictly increasing, not negative; the process is 0 at time 0.
    n
        Number of paths.
    kind, normalize
        Which process, and its scale; see the module.
    seed
        Seed or generator. Path ``i`` does not depend on ``n``.
    dtype
        Type of the result; the numbers are drawn in float64.

    Returns
    -------
    Tensor
        ``(n, T, d)``, with ``d`` 1 or the number of Hurst indices.

    Raises
    ------
    ValueError
        If ``hurst``, the kind or the normalisation is not possible, or times are negative or do not increase.

    Examples
    --------
    >>> paths = sample_fractional_brownian_motion([0.2, 0.8], [0.0, 0.5, 4.0], n=4000)
    >>> paths[:, -1].var(0)
    tensor([1.7..., 9...], dtype=torch.float64)
    """
    grid, indices, key = check_times(times), hurst_indices(hurst), as_seed(seed)
    if float(grid[0]) < 0:
        raise ValueError(f"fractional Brownian motion begins at time 0; got {float(grid[0]):g}")
    gaps = grid.diff()
    regular = (
        kind == "I"
        and float(grid[0]) == 0.0
        and len(gaps) > 0
        and bool((gaps - gaps.mean()).abs().max() <= _EQUAL * gaps.max())
    )
    values = torch.empty(n, len(grid), len(indices), dtype=check_floating(dtype))
    for feature, h in enumerate(indices):
        own = derive_seed(key, "feature", feature)
        if regular:
            scale = math.sqrt(variance_constant(h, kind)) / law_scale(h, kind, normalize)
            values[:, 0, feature] = 0.0
            for rows, drawn in stationary_rows(scale * _noise_weights(h, len(gaps), float(gaps.mean())), n, own):
                values[rows, 1:, feature] = drawn[:, : len(gaps)].cumsum(1)
        else:
            drawn = sample_gaussian(fractional_covariance(grid[:, None], grid, h, kind, normalize), n, own)
            values[:, :, feature] = drawn
    return values


@lru_cache(maxsize=8)
def _noise_weights(hurst: float, size: int, step: float) -> Tensor:
    """Return the weights of fractional noise of this size; that its eigenvalues are not negative is Craigmile's."""
    weights = circulant_weights(noise_autocovariance(torch.arange(size + 1), hurst, step))
    if weights is None:
        raise ValueError(
            f"the covariance of fractional noise over {size} steps comes out with an eigenvalue below zero for a Hurst "
            f"index of {hurst!r}, by rounding; take fewer steps, or an index farther from 0 and 1"
        )
    return weights


def hurst_indices(hurst: float | Sequence[float]) -> list[float]:
    """Return the Hurst index of each feature, or say what is not one."""
    if isinstance(hurst, Sequence):
        if not hurst:
            raise ValueError("hurst must be a number between 0 and 1, or one for each feature; got none")
        return [check_hurst(h) for h in hurst]
    return [check_hurst(hurst)]
