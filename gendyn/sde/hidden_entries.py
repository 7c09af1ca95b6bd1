"""Series of which a part is hidden, and what was hidden: how one learns to interpolate."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gendyn.randomness import torch_generator
from gendyn.sde.series import Series

__all__ = ["Hiding", "hide", "hide_stretch"]

Hiding = Literal["row", "channel"]


def hide(series: Series, share: float, hiding: Hiding, seed: int) -> tuple[Series, Tensor, Tensor]:
    """Return series without a share of what was observed, and where and what that was.

    Parameters
    ----------
    series
        Of which to hide.
    share
        Of the rows with an observation, or of the observations of each channel; of two or more at least one.
    hiding
        ``"row"``: all channels of a row, as when nobody looked; ``"channel"``: each channel's own.
    seed
        Of the draw.

    Returns
    -------
    tuple
        The rest; times ``(B, Q)`` of rows with hidden entries, padded with the last time of a series; and their values
        ``(B, Q, D)``, NaN where nothing was hidden.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> rest, asked, outcome = hide(read_series([[1.0, 2.0, 3.0, 4.0]]), 0.5, "row", 0)
    >>> int(rest.seen.sum()), asked.shape, bool((outcome[0, :, 0] == asked[0] + 1).all())
    (2, torch.Size([1, 2]), True)
    """
    seen = series.seen.cpu()
    there = seen.any(2, keepdim=True) if hiding == "row" else seen
    keys = torch.rand(there.shape, generator=torch_generator(seed, "hide"), dtype=torch.float64)
    keys = keys.masked_fill(~there, torch.inf)
    count = there.sum(1, keepdim=True)
    wanted = (share * count).round().clamp_min(1).minimum((count - 1).clamp_min(0))
    hidden = (keys.argsort(1).argsort(1) < wanted) & seen
    inside = hidden.any(2)
    most = max(1, int(inside.sum(1).max()))
    order = torch.argsort((~inside).to(torch.int8), dim=1, stable=True)[:, :most]
    used = inside.gather(1, order)
    asked = torch.where(used, series.times.gather(1, order), series.times[:, -1:])
    wide = order[:, :, None].expand(-1, -1, series.dim)
    outside = ~(hidden.gather(1, wide) & used[:, :, None])
    where = series.values.device
    outcome = series.values.gather(1, wide.to(where)).masked_fill(outside.to(where), torch.nan)
    rest = series.values.masked_fill(hidden.to(where), torch.nan)
    return Series(series.times, rest, series.lengths, series.labels, series.names), asked, outcome


def hide_stretch(series: Series, share: float, seed: int) -> Series:
    """Return series of which each lacks the rows of one stretch, of any length up to a share of its time.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> rest = hide_stretch(read_series(torch.ones(50, 20)), 0.4, 0)
    >>> missing = (~rest.seen).sum(1)[:, 0]
    >>> 0 <= int(missing.min()), int(missing.max()) <= 9
    (True, True)
    """
    draws = torch.rand(len(series), 2, generator=torch_generator(seed, "hide stretch"), dtype=torch.float64)
    first, span = series.times[:, 0], series.times[:, -1] - series.times[:, 0]
    length = share * draws[:, 0] * span
    start = first + draws[:, 1] * (span - length)
    hidden = (series.times >= start[:, None]) & (series.times <= (start + length)[:, None])
    # Of one time there is no stretch.
    hidden &= (span > 0)[:, None]
    values = series.values.masked_fill(hidden[:, :, None].to(series.values.device), torch.nan)
    return Series(series.times, values, series.lengths, series.labels, series.names)
