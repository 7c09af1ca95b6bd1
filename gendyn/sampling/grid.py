r"""From output times to solver steps.

Between consecutive output times the steps are equal,

.. math:: n_k = \max\bigl(1, \lceil |t_{k+1} - t_k| / h - 10^{-6} \rceil\bigr), \qquad h_k = (t_{k+1} - t_k) / n_k,

so that a step always ends on an output time. The grid is laid out in float64; times are never summed up.
Where every path has its own times, all take the same number of steps in an interval, each of its own length;
a path that has ended takes steps of length zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate

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

    def with_counts(self, counts: Sequence[int]) -> StepGrid:
        """Return the same output times with other numbers of steps between them."""
        changed = copy(self)
        changed.counts = list(counts)
        return changed

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return sum(self.counts)

    @property
    def offsets(self) -> list[int]:
        """Number of steps before each output interval."""
        return list(accumulate(self.counts, initial=0))

    def length(self, interval: int, like: Tensor) -> float | Tensor:
        """Return the length of an output interval: a number, or ``(B, 1)`` where every path has its own times."""
        gap = self.times[..., interval + 1] - self.times[..., interval]
        return float(gap) if gap.ndim == 0 else gap[:, None].to(like)

    def root(self, interval: int, like: Tensor) -> float | Tensor:
        """Return the square root of the length of a step in an output interval."""
        step = self.length(interval, like)
        return (
            (abs(step) / self.counts[interval]) ** 0.5
            if isinstance(step, float)
            else (step / self.counts[interval]).sqrt()
        )

    def __iter__(self) -> Iterator[Interval]:
        return map(self.interval, range(len(self.counts)))

    def interval(self, k: int) -> Interval:
        """Return the steps from one output time to the next."""
        count, start, end = self.counts[k], self.times[..., k], self.times[..., k + 1]
        fractions = torch.arange(count + 1, dtype=torch.float64, device=self.times.device) / count
        if self.times.ndim == 1:
            return Interval(start + (end - start) * fractions, float(end - start) / count)
        spread = start + (end - start) * fractions[:, None]
        return Interval(spread[:, :, None], ((end - start) / count)[:, None])
