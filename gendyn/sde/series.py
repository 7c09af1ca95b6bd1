"""Irregular series as users have them: arrays with NaN, lists of unequal length, long tables, paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data import Paths, read_paths
from gendyn.data.checks import as_tensor, exact_times

__all__ = ["Series", "read_series"]


@dataclass(frozen=True)
class Series:
    """A batch of irregular series; unlike in paths, a whole batch may be unobserved.

    Attributes
    ----------
    times
        ``(B, L)`` in the user's unit, float64, repeating each series' last time after its end.
    values
        ``(B, L, D)``, NaN where not observed.
    lengths
        ``(B,)`` number of times of each series.
    labels
        ``(B,)`` or ``None``.
    names
        Of the channels, or ``None``.
    """

    times: Tensor
    values: Tensor
    lengths: Tensor
    labels: np.ndarray[Any, Any] | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        """Number of channels ``D``."""
        return int(self.values.shape[2])

    @property
    def seen(self) -> Tensor:
        """What was observed ``(B, L, D)``."""
        return ~self.values.isnan()

    def rows(self, index: Tensor | slice) -> Series:
        """Return some of the series."""
        labels = (
            None if self.labels is None else self.labels[index.cpu().numpy() if isinstance(index, Tensor) else index]
        )
        return Series(self.times[index], self.values[index], self.lengths[index], labels, self.names)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Series:
        """Return the series with values on another device or of another type; times stay on the CPU."""
        return Series(self.times, self.values.to(device=device, dtype=dtype), self.lengths, self.labels, self.names)


def read_series(data: Any, y: Any = None, *, times: Any = None, mask: Any = None) -> Series:
    """Read series from whatever holds them.

    Parameters
    ----------
    data
        :class:`~gendyn.Paths`; an array ``(B, L, D)`` or ``(B, L)``, NaN where nothing was observed; a list of arrays
        ``(L_i, D)`` or ``(L_i,)``; or a long table with columns ``id``, ``time``, ``channel`` and ``value`` (or one
        for each channel).
    y
        One label for each series, by default those of the paths.
    times
        Of arrays: ``(L,)``, ``(B, L)`` or a list of ``(L_i,)``; by default 0, 1, 2, ...
    mask
        Of arrays, true where observed, of their shape; what is not observed may be anything.

    Raises
    ------
    TypeError
        If the data are none of these.
    ValueError
        If shapes disagree, times do not increase, or an observed value is infinite; the message names the series,
        the channel and the row.

    Examples
    --------
    >>> read_series([[[1.0], [2.0]], [[3.0]]]).times.tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    if isinstance(data, pd.DataFrame):
        data = read_paths(_wide(data))
    if isinstance(data, Paths):
        if times is not None or mask is not None:
            raise ValueError("paths and tables have times and a mask of their own; leave out times and mask")
        series = _of_paths(data)
    elif isinstance(data, (np.ndarray, Tensor)) and data.ndim in (2, 3):
        series = _of_array(as_tensor(data, "series"), times, mask)
    elif isinstance(data, Sequence) and not isinstance(data, str) and all(_is_array(x) for x in data) and len(data):
        series = _of_list([as_tensor(x, f"series {i}") for i, x in enumerate(data)], times, mask)
    else:
        raise TypeError(
            "series must be gendyn.Paths, an array (B, L, D) with NaN where nothing was observed, a list of arrays "
            f"(L_i, D), or a long table; got {type(data).__name__}"
        )
    _check(series)
    if y is None:
        return series
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.shape != (len(series),):
        raise ValueError(f"y must have one entry for each of {len(series)} series; got shape {labels.shape}")
    return Series(series.times, series.values, series.lengths, labels, series.names)


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with a column for each channel."""
    if not {"channel", "value"} <= set(frame.columns):
        return frame
    keys = [name for name in frame.columns if name not in ("channel", "value")]
    twice = frame.duplicated([*keys, "channel"])
    if twice.any():
        row = frame[twice].iloc[0]
        at = ", ".join(f"{key}={row[key]}" for key in keys)
        raise ValueError(f"channel {row['channel']!r} has two values at {at}; pool what was measured at one time")
    wide = frame.pivot(index=keys, columns="channel", values="value").reset_index()
    wide.columns = [str(name) for name in wide.columns]
    return wide


def _is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, Tensor, list, tuple)) and len(x) > 0


def _of_paths(paths: Paths) -> Series:
    if not paths.values.is_floating_point():
        raise TypeError("stable SDEs need series of real values; these paths hold discrete states")
    n, length = paths.values.shape[:2]
    if paths.shared_times and length > 1 and float(paths.times[1] - paths.times[0]) < 0:
        raise ValueError("times must increase; the times of these paths fall")
    lengths = torch.full((n,), length) if paths.lengths is None else paths.lengths.cpu()
    inside = (torch.arange(length) < lengths[:, None])[:, :, None].to(paths.device)
    seen = inside.expand(paths.values.shape) if paths.mask is None else paths.mask & inside
    values = paths.values.detach().masked_fill(~seen, torch.nan)
    return Series(_padded(paths.times.expand(n, -1), lengths), values, lengths, paths.labels, paths.names)


def _of_array(values: Tensor, times: Any, mask: Any) -> Series:
    values = values if values.is_floating_point() else values.to(torch.float32)
    values = values[:, :, None] if values.ndim == 2 else values
    batch, length, _ = values.shape
    if 0 in values.shape:
        raise ValueError(f"series must hold at least one series, row and channel; got shape {tuple(values.shape)}")
    if mask is not None:
        seen = as_tensor(mask, "mask").to(torch.bool)
        seen = seen[:, :, None].expand(values.shape) if seen.shape == values.shape[:2] else seen
        if seen.shape != values.shape:
            raise ValueError(f"mask must have the shape of the series, {tuple(values.shape)}; got {tuple(seen.shape)}")
        values = values.masked_fill(~seen.to(values.device), torch.nan)
    lengths = torch.full((batch,), length)
    if times is None:
        clock = torch.arange(length, dtype=torch.float64).expand(batch, -1)
    else:
        clock = exact_times(times)
        if clock.shape not in ((length,), (batch, length)):
            raise ValueError(
                f"times must have shape ({length},) or ({batch}, {length}) for these series; got {tuple(clock.shape)}"
            )
        clock = clock.expand(batch, -1)
        # A series ends where its times stop, if nothing was observed after.
        beyond = (clock == clock[:, -1:]) & ~(~values.isnan()).any(2).cpu()
        tail = beyond.flip(1).to(torch.int64).cumprod(1).sum(1)
        lengths = (
            torch.where(clock[:, -2] == clock[:, -1], length - tail.clamp_max(length - 1), lengths)
            if length > 1
            else lengths
        )
    return Series(_padded(clock, lengths), values, lengths)


def _of_list(series: list[Tensor], times: Any, mask: Any) -> Series:
    wide = [x[:, None] if x.ndim == 1 else x for x in series]
    widths = {x.shape[1] if x.ndim == 2 else -1 for x in wide}
    if len(widths) > 1 or -1 in widths:
        shapes = ", ".join(str(tuple(x.shape)) for x in series[:4])
        raise ValueError(f"every series must have shape (L_i, D) with the same channels; got {shapes}")
    lengths = torch.tensor([len(x) for x in wide])
    parts = [None] * len(wide) if times is None else list(times)
    masks = [None] * len(wide) if mask is None else list(mask)
    if len(parts) != len(wide) or len(masks) != len(wide):
        raise ValueError(f"{len(wide)} series need as many rows of times and masks; got {len(parts)} and {len(masks)}")
    most, dtype = int(lengths.max()), torch.float64 if all(x.dtype == torch.float64 for x in wide) else torch.float32
    values = torch.full((len(wide), most, wide[0].shape[1]), torch.nan, dtype=dtype)
    clock = torch.zeros(len(wide), most, dtype=torch.float64)
    for i, (x, own, seen) in enumerate(zip(wide, parts, masks, strict=True)):
        n = len(x)
        t = torch.arange(n, dtype=torch.float64) if own is None else exact_times(own)
        if t.shape != (n,):
            raise ValueError(f"series {i} has {n} rows and times of shape {tuple(t.shape)}")
        values[i, :n] = x.to(dtype)
        if seen is not None:
            there = as_tensor(seen, "mask").to(torch.bool)
            there = there[:, None].expand(x.shape) if there.ndim == 1 else there
            if there.shape != x.shape:
                raise ValueError(f"series {i} has shape {tuple(x.shape)} and a mask of shape {tuple(there.shape)}")
            values[i, :n].masked_fill_(~there, torch.nan)
        clock[i, :n] = t
    return Series(_padded(clock, lengths), values, lengths)


def _padded(times: Tensor, lengths: Tensor) -> Tensor:
    """Return times that repeat the last of each series after its end."""
    return times.cpu().gather(1, torch.minimum(torch.arange(times.shape[1]), lengths[:, None] - 1))


def _check(series: Series) -> None:
    """Refuse times that do not increase and values that are infinite."""
    times, lengths = series.times, series.lengths
    inside = torch.arange(times.shape[1]) < lengths[:, None]
    bad = torch.nonzero(~torch.isfinite(times) & inside)
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(f"times must be finite; series {i} has {float(times[i, k])} at row {k}")
    bad = torch.nonzero((times.diff(dim=1) <= 0) & inside[:, 1:])
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(
            f"times must increase strictly within a series; series {i} has {float(times[i, k + 1]):g} after "
            f"{float(times[i, k]):g} at row {k + 1}: sort them, and pool what was measured at one time"
        )
    bad = torch.nonzero(series.values.isinf())
    if len(bad):
        i, k, d = bad[0].tolist()
        name = repr(series.names[d]) if series.names else str(d)
        raise ValueError(
            f"values must be finite, or NaN where nothing was observed; series {i} has {float(series.values[i, k, d])} "
            f"in channel {name} at row {k}"
        )
