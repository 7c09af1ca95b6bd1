"""What was seen last of each channel: values, how long ago, and how fast they changed from one to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sde.series import Series

__all__ = ["last_observations"]


def last_observations(series: Series, gap: float, slopes: int = 1) -> Tensor:
    """Return the last observation of each channel, its age, and slopes between observations before it.

    Parameters
    ----------
    series
        In scaled units.
    gap
        Unit of ages and slopes.
    slopes
        Number of slopes ``R``, each between two observations that follow each other.

    Returns
    -------
    Tensor
        ``(B, (2 + 2 R) D)``: values, zero where nothing was observed; roots of the time since then, or since the start;
        slopes, zero where there are not two observations; and logarithms of the spans that they are over.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> x = read_series(torch.tensor([[1.0, torch.nan, 5.0, torch.nan]]))
    >>> [round(v, 3) for v in last_observations(x, 1.0)[0].tolist()]
    [5.0, 1.0, 2.0, 0.693]
    """
    seen, values = series.seen, series.values.nan_to_num(0.0)
    length = values.shape[1]
    wanted = min(slopes + 1, length)
    place = torch.where(seen, torch.arange(length, device=seen.device)[:, None], -1).topk(wanted, dim=1).values
    there = place >= 0
    at = place.clamp_min(0)
    times = series.times.to(values.device)[:, :, None].expand(values.shape).gather(1, at)
    found = values.gather(1, at)
    last, first = (series.times.to(values.device)[:, end, None] for end in (-1, 0))
    age = (last - torch.where(there[:, 0], times[:, 0], first)) / gap
    parts = [torch.where(there[:, 0], found[:, 0], 0.0), age.clamp_min(0).sqrt().to(values)]
    for k in range(slopes):
        if k + 1 >= wanted:
            parts += [torch.zeros_like(parts[0])] * 2
            continue
        span = (times[:, k] - times[:, k + 1]) / gap
        slope = (found[:, k] - found[:, k + 1]) / span.to(values)
        parts += [torch.where(there[:, k + 1], x, 0.0) for x in (slope, span.clamp_min(1e-6).log().to(values))]
    return torch.cat(parts, dim=1)
