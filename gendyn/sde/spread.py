"""How wide members must lie about their mean for their intervals to hold what they say they hold."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["right_spread"]

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
    # Not torch's quantile, which refuses many entries.
    place = 0.8 * (len(needed) - 1)
    below_place = int(place)
    order = needed.sort().values
    part = place - below_place
    found = order[below_place] + part * (order[min(below_place + 1, len(order) - 1)] - order[below_place])
    return found.clamp(0.5, 4.0)
