r"""Many steps of the Markov approximation at once.

Given the state Y at the beginning of a block of m steps, the m increments of :math:`\hat B` and the state at its end
are jointly normal. Drawing them together takes m + K normals, not mK, and one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root

__all__ = ["BlockLaw", "block_law", "laws_of_blocks"]

_EQUAL = 1e-9
"""Blocks whose steps are this close, relative to their length, are one."""


class BlockLaw(NamedTuple):
    """Increments of a block and the state after it, given the state ``y (..., K)`` before.

    They are ``y @ forward + z @ spread`` with standard normals ``z (..., m + K)``: increments first, then the state.
    """

    forward: Tensor
    spread: Tensor


def block_law(rates: Tensor, weights: Tensor, gaps: Tensor) -> BlockLaw:
    r"""Return the law of a block of steps.

    Parameters
    ----------
    rates, weights
        :math:`\gamma` and :math:`\omega`, ``(K,)``, float64.
    gaps
        Lengths of the steps, ``(m,)``, float64.

    Returns
    -------
    BlockLaw
        ``forward (K, m + K)`` and ``spread (m + K, m + K)``.

    Examples
    --------
    >>> rates, weights, gaps = (torch.tensor(v, dtype=torch.float64) for v in ([1e-9], [1.0], [1.0, 1.0]))
    >>> law = block_law(rates, weights, gaps)
    >>> (law.spread.T @ law.spread).round(decimals=6).abs()  # two steps of Brownian motion, and where it ends
    tensor([[1., 0., 1.],
            [0., 1., 1.],
            [1., 1., 2.]], dtype=torch.float64)
    """
    m, k = len(gaps), len(rates)
    ends = gaps.cumsum(0)
    starts = ends - gaps
    rise = torch.exp(-starts[:, None] * rates) * torch.expm1(-gaps[:, None] * rates) * weights
    forward = torch.cat([rise.mT, torch.diag(torch.exp(-rates * ends[-1]))], 1)
    # Cov[sum_i w_i Y_i(a), Y_l(b)] for a <= b, of what is driven within the block.
    mixed = driven_covariance(rates, ends) @ weights
    later = torch.exp(-rates * (ends[None] - ends[:, None]).clamp_min(0.0)[..., None])
    upper = (mixed[:, None] * later) @ weights
    values = torch.triu(upper) + torch.triu(upper, 1).mT
    across = mixed * later[:, -1]
    joint = torch.cat([torch.cat([values, across], 1), torch.cat([across.mT, driven_covariance(rates, ends[-1])], 1)])
    difference = torch.eye(m + k, dtype=joint.dtype)
    difference[1:m, : m - 1] -= torch.eye(m - 1, dtype=joint.dtype)
    covariance = difference @ joint @ difference.mT
    return BlockLaw(forward, symmetric_root((covariance + covariance.mT) / 2).mT)


_Law = TypeVar("_Law")


def laws_of_blocks(gaps: Tensor, size: int, law: Callable[[Tensor], _Law]) -> list[_Law]:
    """Return the law of each block of ``size`` steps, the last one may be shorter; equal neighbours share one.

    Parameters
    ----------
    gaps
        Lengths of all steps, ``(N,)``.
    size
        Steps of a block.
    law
        What is made of the steps of a block.

    Examples
    --------
    >>> laws_of_blocks(torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0]), 2, torch.sum)
    [tensor(2.), tensor(2.), tensor(2.)]
    """
    laws: list[_Law] = []
    before: Tensor | None = None
    for block in torch.split(gaps, size) if len(gaps) else ():
        same = before is not None and len(before) == len(block)
        if same and before is not None and bool(((block - before).abs() <= _EQUAL * before).all()):
            laws.append(laws[-1])
            continue
        laws.append(law(block))
        before = block
    return laws
