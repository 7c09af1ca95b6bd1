r"""Proper scores as losses: what samples of a forecast are trained by.

For members :math:`Y_1, \dots, Y_m` and an outcome y, the energy score and, channel by channel, the continuous ranked
probability score are estimated without bias by

.. math:: \frac1m \sum_i \lvert Y_i - y \rvert - \frac{1}{2 m (m - 1)} \sum_{i \ne j} \lvert Y_i - Y_j \rvert .

Their expectation is least where members have the law of the outcome. Squared errors would teach a noise that is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crps_loss", "energy_loss"]


def crps_loss(members: Tensor, outcome: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return the mean score of every observed entry, ``()``.

    Parameters
    ----------
    members
        ``(m, ...)``, at least two.
    outcome
        ``(...)``.
    seen
        Which entries were observed, ``(...)``; by default all.

    Raises
    ------
    ValueError
        If there are fewer than two members.

    Examples
    --------
    >>> crps_loss(torch.tensor([[0.0], [2.0]]), torch.tensor([1.0])).item()
    0.0
    """
    m = _count(members)
    y = outcome if seen is None else torch.where(seen, outcome, 0.0)
    apart = (members - y).abs().mean(0)
    # Sorted, the sum over pairs is one over members.
    ranks = 2 * torch.arange(m, device=members.device, dtype=members.dtype) - (m - 1)
    order = members.sort(0).values
    spread: Tensor = torch.tensordot(ranks, order, dims=1) / (m * (m - 1))
    score: Tensor = apart - spread
    if seen is None:
        return score.mean()
    return torch.where(seen, score, 0.0).sum() / seen.sum().clamp_min(1)


def energy_loss(members: Tensor, outcome: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return the mean energy score of whole outcomes, ``()``; what was not observed of one is left out of its norms.

    Parameters
    ----------
    members
        ``(m, B, ...)``, at least two.
    outcome
        ``(B, ...)``.
    seen
        Which entries were observed, ``(B, ...)``; by default all.

    Raises
    ------
    ValueError
        If there are fewer than two members.

    Examples
    --------
    >>> energy_loss(torch.tensor([[[0.0, 0.0]], [[6.0, 8.0]]]), torch.tensor([[3.0, 4.0]])).item()
    0.0
    """
    m = _count(members)
    y = outcome if seen is None else torch.where(seen, outcome, 0.0)
    x = members if seen is None else torch.where(seen, members, 0.0)
    apart = _norm((x - y).flatten(2)).mean(0)
    pairs = [(i, j) for i in range(m) for j in range(i)]
    first, second = (torch.tensor(side, device=x.device) for side in zip(*pairs, strict=True))
    spread = _norm((x[first] - x[second]).flatten(2)).sum(0) / (m * (m - 1))
    return (apart - spread).mean()


def _norm(x: Tensor) -> Tensor:
    # The gradient of a norm at zero is not a number.
    squares: Tensor = x.square().sum(-1) + torch.finfo(x.dtype).tiny
    return squares.sqrt()


def _count(members: Tensor) -> int:
    if len(members) < 2:
        raise ValueError(f"a proper score needs at least two members; got {len(members)}")
    return len(members)
