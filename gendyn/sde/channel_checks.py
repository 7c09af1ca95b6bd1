"""What channels must be for a law to be learned of them."""

from __future__ import annotations

import torch

from gendyn.sde.series import Series

__all__ = ["check_channels"]

_FEWEST = 8


def check_channels(series: Series) -> None:
    """Say which channel no law can be learned of.

    Raises
    ------
    ValueError
        If no series has two times, or a channel has fewer than 8 values or does not vary.
    """
    if not bool((series.times[:, -1] > series.times[:, 0]).any()):
        raise ValueError("a process needs series of at least two times; each of these has one")
    for d in range(series.dim):
        values = series.values[:, :, d]
        there = values[~values.isnan()].to(torch.float64)
        name = repr(series.names[d]) if series.names else str(d)
        if len(there) < _FEWEST:
            raise ValueError(f"channel {name} has {len(there)} observed values; at least {_FEWEST} are needed")
        if float(there.max() - there.min()) <= 1e-12 * max(1e-300, float(there.abs().max())):
            raise ValueError(f"channel {name} is constant; give one that moves, or leave it out")
