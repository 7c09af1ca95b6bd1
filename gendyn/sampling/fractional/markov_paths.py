"""Paths of the Markov approximation, exact in its law at any times, in time that is linear in their number."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, check_times
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.fractional.block_law import BlockLaw, block_law, laws_of_blocks
from gendyn.sampling.fractional.gaussian_rows import check_floating, row_normals
from gendyn.sampling.fractional.markov_approximation import MarkovApproximation
from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root

__all__ = ["block_laws", "sample_markov_approximation", "stationary_root"]

_BLOCK = 32
"""Steps drawn at once: fewer normals for each state that is carried on, while the matrices stay small."""


def sample_markov_approximation(
    noise: MarkovApproximation, times: ArrayLike, n: int, *, seed: Seed = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draw paths of a Markov approximation of fractional Brownian motion.

    Parameters
    ----------
    noise
        The approximation.
    times
        ``(T,)``, strictly increasing, not negative; the process is 0 at time 0.
    n
        Number of paths.
    seed
        Seed or generator. Path ``i`` does not depend on ``n``.
    dtype
        Type of the result; all is float64 inside.

    Returns
    -------
    Tensor
        ``(n, T, D)``.

    Raises
    ------
    ValueError
        If times are negative or do not increase.

    Examples
    --------
    >>> noise = MarkovApproximation([0.2, 0.8], horizon=4.0)
    >>> sample_markov_approximation(noise, [0.0, 0.5, 4.0], n=4000)[:, -1].var(0)  # 1.74 and 9.19
    tensor([1.7..., 9...], dtype=torch.float64)
    """
    grid, key = check_times(times), as_seed(seed)
    if float(grid[0]) < 0:
        raise ValueError(f"fractional Brownian motion begins at time 0; got {float(grid[0]):g}")
    gaps = torch.cat([grid[:1], grid.diff()])
    first = int(float(grid[0]) == 0)
    values = torch.zeros(n, len(grid), noise.dim, dtype=check_floating(dtype))
    for feature in range(noise.dim):
        laws = block_laws(noise, feature, gaps[first:])
        rise = noise.past_modes(grid)[:, feature]
        k, columns = len(noise.decay_rates), sum(len(law.spread) for law in laws)
        own = derive_seed(key, "feature", feature)
        for rows, normals in row_normals(n, columns + k + noise.n_modes, own):
            start, past, at = normals[:, :k], normals[:, k : k + noise.n_modes], k + noise.n_modes
            state = start @ stationary_root(noise).mT if noise.stationary else torch.zeros_like(start)
            parts = []
            for law in laws:
                z = normals[:, at : at + len(law.spread)]
                at += len(law.spread)
                drawn = torch.addmm(z @ law.spread, state, law.forward)
                parts.append(drawn[:, :-k])
                state = drawn[:, -k:]
            if parts:
                values[rows, first:, feature] = torch.cat(parts, 1).cumsum(1).to(dtype)
            if noise.n_modes:
                values[rows, :, feature] += (past @ rise.mT).to(dtype)
    return values


def block_laws(noise: MarkovApproximation, feature: int, gaps: Tensor) -> list[BlockLaw]:
    """Return the laws of consecutive blocks of steps ``(N,)``; equal blocks share one."""
    return laws_of_blocks(gaps, _BLOCK, lambda block: block_law(noise.decay_rates, noise.weights[feature], block))


def stationary_root(noise: MarkovApproximation) -> Tensor:
    """Return the root of the stationary covariance of the processes, ``(K, K)``."""
    return symmetric_root(driven_covariance(noise.decay_rates, torch.tensor(torch.inf, dtype=torch.float64)))
