r"""Irregular series as a network sees them: gaps between observations, and what was known at the start of each.

Path i was observed at times :math:`t_{i0} < t_{i1} < \dots`; a row counts as observed where any of its features is. A
feature that was not seen keeps its last value, and the mean of the data before its first. What is known at
observation k are the latest ``history`` rows, that is values, which of them were seen and how long ago, with the length
of the gap :math:`t_{i,k+1} - t_{ik}` that follows, and, where asked for, the time and a label.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendyn.data import Paths, Scaling
from gendyn.data.scaling import ScaleMethod

__all__ = ["Known", "ObservedSeries", "check_series"]


def check_series(data: Any) -> None:
    """Refuse what is not real-valued series in order of time.

    Raises
    ------
    TypeError
        If it is not :class:`~gendyn.Paths`, or its values are whole numbers.
    ValueError
        If its times fall.
    """
    if not isinstance(data, Paths):
        raise TypeError(
            f"series are needed as gendyn.Paths; got {type(data).__name__}: read them with gendyn.read_paths"
        )
    if not data.values.is_floating_point():
        raise TypeError(f"series of real values are needed; got values of type {data.dtype}")
    if data.shared_times and len(data.times) > 1 and bool(data.times[1] < data.times[0]):
        raise ValueError("the times of these series fall; give them in increasing order")


class Known:
    """The latest observations of some series, newest first, in scaled units of space and time.

    Parameters
    ----------
    values, seen
        ``(B, h, d)``: values, and whether they were observed.
    times
        ``(B, h)``.
    there
        ``(B, h)``, whether there was an observation so long ago.
    """

    def __init__(self, values: Tensor, seen: Tensor, times: Tensor, there: Tensor) -> None:
        self.values, self.seen, self.times, self.there = values, seen, times, there

    def context(self, gap: Tensor, *, history: int, clock: bool, label: Tensor | None) -> Tensor:
        """Return what a network is told ``(B, c)``, for gaps of the given lengths ``(B,)``."""
        values, there = self.values[:, :history], self.there[:, :history]
        told = [
            (values * there[..., None]).flatten(1),
            (self.seen[:, :history] & there[..., None]).to(values).flatten(1),
            ((self.times[:, :1] - self.times[:, :history]) * there).to(values),
            gap.to(values)[:, None],
        ]
        if clock:
            told.append(self.times[:, :1].to(values))
        if label is not None:
            told.append(label.to(values).expand(len(values), -1))
        return torch.cat(told, dim=1)

    def then(self, values: Tensor, times: Tensor) -> Known:
        """Return what is known when the whole of ``values (B, d)`` has been seen at ``times (B,)`` too."""
        whole = torch.ones_like(values, dtype=torch.bool)
        new = (values, whole, times, torch.ones_like(times, dtype=torch.bool))
        old = (self.values, self.seen, self.times, self.there)
        return Known(*(torch.cat([a[:, None], b[:, :-1]], dim=1) for a, b in zip(new, old, strict=True)))


class ObservedSeries:
    """The observed rows of every path, pushed together and filled forward, in scaled units.

    Parameters
    ----------
    paths
        At least one path; hidden entries may be anything.
    scaling
        Of the values; ``None`` fits one, of the kind ``scale``.
    scale
        See :class:`gendyn.data.Scaling`.
    unit
        Unit of time; ``None`` takes the median gap between observations.
    origin
        Where scaled time is zero; ``None`` takes the earliest observation.

    Raises
    ------
    ValueError
        If a scaling or a unit is to be found and no path was observed twice.
    """

    def __init__(
        self,
        paths: Paths,
        scaling: Scaling | None = None,
        scale: ScaleMethod = "global",
        *,
        unit: float | None = None,
        origin: float | None = None,
    ) -> None:
        x = paths.values
        n, length, _ = x.shape
        seen = torch.ones_like(x, dtype=torch.bool) if paths.mask is None else paths.mask.clone()
        if paths.lengths is not None:
            seen &= (torch.arange(length, device=x.device) < paths.lengths[:, None])[..., None]
        rows = seen.any(-1)
        # A stable sort pushes observed rows to the front, in their order.
        order = torch.argsort(~rows, dim=1, stable=True)
        self.counts = rows.sum(1)
        last = max(int(self.counts.max()), 1)
        order = order[:, :last]
        wide = order[..., None].expand(-1, -1, x.shape[2])
        x, self.seen = x.gather(1, wide), seen.gather(1, wide)
        times = paths.times.to(x.device).expand(n, length).gather(1, order)
        if unit is None:
            gaps = times.diff(dim=1)[torch.arange(1, last, device=x.device) < self.counts[:, None]]
            if len(gaps) == 0:
                raise ValueError("no path was observed at two times; series to learn from need at least two each")
            unit = float(gaps.median())
        inside = torch.arange(last, device=x.device) < self.counts[:, None]
        self.unit = unit
        self.origin = float(times[inside].min()) if origin is None else origin
        self.times = (times - self.origin) / unit
        if scaling is None:
            kept = torch.where(self.seen, x, 0)
            mean = kept.sum((0, 1)) / self.seen.sum((0, 1)).clamp_min(1)
            scaling = Scaling.fit(_filled(x, self.seen, mean)[inside], scale)
        self.scaling = scaling
        self.values = scaling.transform(_filled(x, self.seen, scaling.shift))

    @property
    def gaps(self) -> Tensor:
        """Path and row at the start of every gap, ``(G, 2)``."""
        length = self.values.shape[1]
        place = torch.arange(length - 1, device=self.values.device)
        return torch.nonzero(place + 1 < self.counts[:, None])

    def known(self, path: Tensor, row: Tensor, history: int) -> Known:
        """Return what was known of paths ``(B,)`` at rows ``(B,)``; never less than the row itself."""
        back = row[:, None] - torch.arange(max(history, 1), device=row.device)
        there, back = back >= 0, back.clamp_min(0)
        at = path[:, None], back
        return Known(self.values[at], self.seen[at], self.times[at], there)

    def select(self, paths: Tensor) -> ObservedSeries:
        """Return the series with the given numbers."""
        part = object.__new__(ObservedSeries)
        part.unit, part.origin, part.scaling = self.unit, self.origin, self.scaling
        part.values, part.seen, part.times, part.counts = (
            v[paths] for v in (self.values, self.seen, self.times, self.counts)
        )
        return part


def _filled(x: Tensor, seen: Tensor, before: Tensor) -> Tensor:
    """Carry the last seen value of every feature forward; ``before (d,)`` stands in front of the first."""
    place = torch.arange(x.shape[1], device=x.device)[:, None]
    latest = torch.where(seen, place, -1).cummax(1).values
    carried = torch.where(seen, x, 0).gather(1, latest.clamp_min(0))
    return torch.where(latest >= 0, carried, before)
