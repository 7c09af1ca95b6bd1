"""How wide members must lie about their mean for their intervals to hold what they say they hold."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sde.ridge import Ridge

__all__ = ["relative_error", "right_spread"]

_BLOCKS = 10
"""Parts of the series, in the order in which they come, each of which is once left out."""

_ENOUGH = 20
"""Outcomes from which on a spread is chosen by them."""


def right_spread(members: Tensor, outcome: Tensor) -> Tensor:
    """Return the factor of deviations from the mean at which 80 % intervals hold 80 % of outcomes, ``()``.

    Parameters
    ----------
    members
        ``(S, ...)``.
    outcome
        ``(...)``, NaN where not observed. Of fewer than twenty nothing is concluded, and the factor is 1.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> members, outcome = (torch.randn(n, 2000, generator=generator) for n in (100, 1))
    >>> round(right_spread(members, 2 * outcome[0]).item(), 1)
    2.0
    """
    low, high = torch.quantile(members, torch.tensor([0.1, 0.9], dtype=members.dtype, device=members.device), dim=0)
    centre = members.mean(0)
    # The least factor at which an outcome is inside.
    above = (outcome - centre) / (high - centre).clamp_min(1e-12)
    below = (centre - outcome) / (centre - low).clamp_min(1e-12)
    needed = torch.maximum(above, below)
    needed = needed[~needed.isnan()]
    if len(needed) < _ENOUGH:
        return centre.new_ones(())
    return centre.new_tensor(_level(needed)).clamp(0.5, 4.0)


def relative_error(told: Tensor, outcome: Tensor, told_held: Tensor, held: Tensor) -> Tensor:
    """Return for each lead how much wider errors are of all series than of the few that were held out, ``(Q,)``.

    A few held-out series may be easier than others, and what is calibrated on them too narrow. How much easier is told
    by a regression, which is soon fitted anew without each of ten blocks of series: where windows of one run follow
    each other, most blocks hold runs that the rest does not.

    Parameters
    ----------
    told, told_held
        Features of series that were learned from ``(B, F)`` and of held-out ones ``(H, F)``.
    outcome, held
        ``(B, Q, D)`` and ``(H, Q, D)``, these with NaN where not observed.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> told, outcome, held = (torch.randn(n, k, generator=generator) for n, k in ((900, 1), (900, 4), (100, 4)))
    >>> found = relative_error(told, outcome[:, None], told[:100], held[:, None] / 2)
    >>> round(found.item(), 1)
    1.9
    """
    if len(told) < _BLOCKS:
        return torch.ones(outcome.shape[1], dtype=torch.float64)
    ridge, left_out = Ridge.fit(told, outcome.flatten(1), blocks=_BLOCKS)
    errors = (outcome - left_out.reshape(outcome.shape)).abs()
    of_held = (held - ridge(told_held).reshape(held.shape)).abs()
    found = []
    for k in range(outcome.shape[1]):
        few = of_held[:, k][~of_held[:, k].isnan()]
        width = _level(few) if len(few) >= _ENOUGH else 0.0
        found.append(_level(torch.cat([errors[:, k].flatten(), few])) / width if width > 0 else 1.0)
    return torch.tensor(found, dtype=torch.float64)


def _level(x: Tensor) -> float:
    """Return the number below which 80 % of entries lie; not torch's quantile, which refuses many entries."""
    place = 0.8 * (len(x) - 1)
    below = int(place)
    order = x.sort().values
    return float(order[below] + (place - below) * (order[min(below + 1, len(order) - 1)] - order[below]))
