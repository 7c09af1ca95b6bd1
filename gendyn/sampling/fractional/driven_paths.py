r"""Paths of the Markov approximation together with the Brownian motion that drives them.

The driver is one more process of the state, with the rate 0: of :math:`dY_k = -\gamma_k Y_k\,dt + dB` at
:math:`\gamma = 0` nothing is left but B. Models in which the same noise moves two things, as price and volatility, need
both; together they are exact in law at any step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, check_times
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.fractional.block_law import laws_of_blocks
from gendyn.sampling.fractional.gaussian_rows import check_floating, row_normals
from gendyn.sampling.fractional.markov_approximation import MarkovApproximation
from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root

__all__ = ["driven_blocks", "sample_with_driver"]

_BLOCK = 32
_STILL = 1e-9
"""Rate of the driver over the horizon: nothing of it decays to nine digits."""


def sample_with_driver(
    noise: MarkovApproximation, times: ArrayLike, n: int, *, seed: Seed = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Draw paths of an approximation of kind II, and of its driver.

    Parameters
    ----------
    noise
        The approximation, of one feature.
    times
        ``(T,)``, strictly increasing, from 0 on.
    n
        Number of paths.
    seed
        Seed or generator. Path ``i`` does not depend on ``n``.
    dtype
        Type of the result; all is float64 inside.

    Returns
    -------
    paths, driver
        ``(n, T)`` each.

    Raises
    ------
    ValueError
        If times are negative or do not increase, or the approximation is of kind I, or of several features.

    Examples
    --------
    >>> noise = MarkovApproximation(0.1, horizon=1.0, kind="II", weighting="law")
    >>> paths, driver = sample_with_driver(noise, [0.0, 1.0], n=4000)
    >>> (paths[:, 1] * driver[:, 1]).mean().item()  # sqrt(2 H) / (H + 1/2) = .745 for the exact one
    0.7...
    """
    if noise.kind != "II" or noise.dim != 1:
        raise ValueError(
            f"a path and its driver are drawn of kind II and one feature; got kind {noise.kind} and {noise.dim}: the "
            "past of kind I has no driver after time 0"
        )
    grid, key = check_times(times), derive_seed(as_seed(seed), "driven")
    if float(grid[0]) < 0:
        raise ValueError(f"fractional Brownian motion begins at time 0; got {float(grid[0]):g}")
    first = int(float(grid[0]) == 0)
    gaps = torch.cat([grid[:1], grid.diff()])[first:]
    rates = torch.cat([torch.tensor([_STILL / noise.horizon], dtype=torch.float64), noise.decay_rates])
    weights = torch.zeros(len(rates), 2, dtype=torch.float64)
    weights[1:, 0], weights[0, 1] = noise.weights[0], 1.0
    width = len(rates)
    laws = driven_blocks(rates, weights, gaps, _BLOCK)
    values = torch.zeros(n, len(grid), 2, dtype=check_floating(dtype))
    for rows, normals in row_normals(n, len(gaps) * width, key):
        state, at = torch.zeros(len(normals), width, dtype=torch.float64), 0
        for law, block in zip(laws, torch.split(gaps, _BLOCK), strict=False):
            z = normals[:, at * width : (at + len(block)) * width]
            drawn = torch.cat([state, z], 1) @ law
            shown = drawn[:, :-width].reshape(len(drawn), len(block), 2)
            values[rows, first + at : first + at + len(block)] = shown.to(dtype)
            state, at = drawn[:, -width:], at + len(block)
    return values[..., 0], values[..., 1]


def driven_blocks(rates: Tensor, weights: Tensor, gaps: Tensor, size: int) -> list[Tensor]:
    """Return, for each block of steps, how what is shown after each step depends on the state before and on normals.

    Parameters
    ----------
    rates, weights
        Of the processes, ``(K,)``, and of each of what is shown, ``(K, S)``.
    gaps
        Lengths of all steps, ``(N,)``.
    size
        Steps of a block.

    Returns
    -------
    list of Tensor
        ``(K + m K, m S + K)`` for blocks of m steps; the state at the end is last. Equal blocks share one.
    """
    return laws_of_blocks(gaps, size, lambda block: _block(rates, weights, block))


def _block(rates: Tensor, weights: Tensor, gaps: Tensor) -> Tensor:
    """Return the map of the state before and of normals to both values after each step, and to the state at the end."""
    width, m = len(rates), len(gaps)
    # Of every quantity, how it depends on the state before and on the normals so far.
    state = torch.cat([torch.eye(width, dtype=torch.float64), torch.zeros(m * width, width, dtype=torch.float64)])
    shown = []
    for k, h in enumerate(gaps):
        state = state * torch.exp(-rates * h)
        state[(1 + k) * width : (2 + k) * width] = symmetric_root(driven_covariance(rates, h)).mT
        shown.append(state @ weights)
    return torch.cat([*shown, state], 1)
