"""What a forecaster is asked: the pasts of series, and the rows that follow."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sde.series import Series
from gendyn.sde.series_inputs import Inputs

__all__ = ["AskedInputs", "cut"]


class AskedInputs:
    """Inputs, recent pasts ``(B, T)``, leads ``(B, Q)``, outcomes ``(B, Q, D)`` and last values ``(B, 1, D)``."""

    def __init__(self, inputs: Inputs, told: Tensor, leads: Tensor, outcome: Tensor | None, last: Tensor) -> None:
        self.inputs, self.told, self.leads, self.outcome, self.last = inputs, told, leads, outcome, last

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: Tensor | slice) -> AskedInputs:
        """Return some of the series."""
        outcome = None if self.outcome is None else self.outcome[index]
        return AskedInputs(self.inputs.rows(index), self.told[index], self.leads[index], outcome, self.last[index])

    def blocks(self, size: int) -> list[AskedInputs]:
        """Return the series in blocks."""
        return [self.rows(slice(k, k + size)) for k in range(0, len(self.inputs), size)]


def cut(series: Series, horizon: int) -> tuple[Series, Tensor, Tensor]:
    """Return pasts, and times ``(B, Q)`` and values ``(B, Q, D)`` of the last rows.

    Raises
    ------
    ValueError
        If a series has no more rows than the horizon.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> past, asked, target = cut(read_series([[1.0, 2.0, 3.0]]), 1)
    >>> past.values.flatten().tolist(), asked.tolist(), target.flatten().tolist()
    ([1.0, 2.0], [[2.0]], [3.0])
    """
    short = torch.nonzero(series.lengths <= horizon).flatten()
    if len(short):
        i = int(short[0])
        raise ValueError(
            f"series {i} has {int(series.lengths[i])} rows, no more than the horizon of {horizon}; nothing is left to "
            "forecast from"
        )
    lengths = series.lengths - horizon
    rows = lengths[:, None] + torch.arange(horizon)
    target = series.values[torch.arange(len(series))[:, None], rows]
    most = int(lengths.max())
    last = torch.minimum(torch.arange(most), lengths[:, None] - 1)
    beyond = (torch.arange(most) >= lengths[:, None])[:, :, None].to(series.values.device)
    values = series.values[:, :most].masked_fill(beyond, torch.nan)
    past = Series(series.times.gather(1, last), values, lengths, series.labels, series.names)
    return past, series.times.gather(1, rows), target
