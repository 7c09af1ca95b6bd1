r"""From output times to solver steps.

Between consecutive output times the steps are equal,

.. math:: n_k = \max\bigl(1, \lceil |t_{k+1} - t_k| / h - 10^{-6} \rceil\bigr), \qquad h_k = (t_{k+1} - t_k) / n_k,

so that a step always ends on an output time. The grid is laid out in float64; times are never summed up.
Where every path has its own times, all take the same number of steps in an interval, each of its own length;
a path that has ended takes steps of length zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Interval", "StepGrid"]


@dataclass(frozen=True)
class Interval:
    """Equal steps from one output time to the next.

    Attributes
    ----------
    times
        Start of each step: ``(n,)``, or ``(n, B, 1)`` for own times; and one more, the end.
    step
        Length of the steps: a float, or ``(B, 1)``.
    """

    times: Tensor
    step: float | Tensor

    def __len__(self) -> int:
        return len(self.times) - 1


class StepGrid:
    """Equal steps between output times.

    Parameters
    ----------
    times
        Output times, ``(T,)`` or ``(B, T)``, float64.
    step
        Longest step; or
    substeps
        steps per output interval. Exactly one of the two.

    Examples
    --------
    >>> [len(interval) for interval in StepGrid(torch.tensor([0.0, 1.0, 1.5]), step=0.5)]
    [2, 1]
    """

    def __init__(self, times: Tensor, *, step: float | None = None, substeps: int | None = None) -> None:
        self.times = times.to(torch.float64)
        gaps = self.times.diff(dim=-1).abs()
        longest = (gaps if gaps.ndim == 1 else gaps.max(0).values).tolist()
        if substeps is not None:
            self.counts = [substeps for _ in longest]
        elif step is not None:
            self.counts = [max(1, math.ceil(gap / step - 1e-6)) for gap in longest]
        else:
            raise ValueError("a grid needs step or substeps")

    def rows(self, start: int, stop: int) -> StepGrid:
        """Return the grid of some paths, with the steps that the whole batch takes; shared times are those of all."""
        if self.times.ndim == 1:
            return self
        part = copy(self)
        part.times = self.times[start:stop]
        return part

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return sum(self.counts)

    def __iter__(self) -> Iterator[Interval]:
        for k, count in enumerate(self.counts):
            start, end = self.times[..., k], self.times[..., k + 1]
            fractions = torch.arange(count + 1, dtype=torch.float64, device=self.times.device) / count
            if self.times.ndim == 1:
                yield Interval(start + (end - start) * fractions, float(end - start) / count)
            else:
                spread = start + (end - start) * fractions[:, None]
                yield Interval(spread[:, :, None], ((end - start) / count)[:, None])
