"""The recent past of a series: what its channels were at a few times before its end, and whether somebody looked."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.data import ControlPath
from gendyn.sde.series import Series

__all__ = ["last_values", "recent_values"]


def recent_values(series: Series, gap: float, rows: int) -> Tensor:
    """Return values at times ``0, gap, ..., (rows - 1) gap`` before the end, and whether one was observed near there.

    Parameters
    ----------
    series
        In scaled units.
    gap
        Between times.
    rows
        Number of times ``R``.

    Returns
    -------
    Tensor
        ``(B, 2 R D)``: values on the lines between observations, then which of these times have one within half a gap.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> recent_values(read_series(torch.tensor([[0.0, torch.nan, 4.0, torch.nan]])), 1.0, 2).tolist()
    [[4.0, 4.0, 0.0, 1.0]]
    """
    ends = series.times[:, -1:]
    asked = ends - gap * torch.arange(rows, dtype=torch.float64)
    path = ControlPath(series.times, series.values, None, series.lengths, "linear")
    values = path(asked)
    distance = (asked[:, :, None] - series.times[:, None]).abs()
    near = (distance <= gap / 2 * (1 + 1e-9)).to(series.values)
    looked = torch.einsum("brl,bld->brd", near, series.seen.to(series.values)) > 0
    return torch.cat([values.flatten(1), looked.to(values).flatten(1)], dim=1)


def last_values(series: Series) -> Tensor:
    """Return the last observation of every channel ``(B, D)``, zero where there is none.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> last_values(read_series(torch.tensor([[0.0, torch.nan, 4.0, torch.nan]]))).tolist()
    [[4.0]]
    """
    place = torch.arange(series.values.shape[1], device=series.values.device)[:, None]
    at = torch.where(series.seen, place, 0).amax(1, keepdim=True)
    return series.values.nan_to_num(0.0).gather(1, at)[:, 0]
