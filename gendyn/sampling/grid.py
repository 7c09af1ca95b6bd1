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
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data.checks import check_finite

__all__ = ["Interval", "StepGrid", "check_own_times"]

_MOST_STEPS = 10**9
"""Steps in one output interval beyond which a step is a mistake."""


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

    Attributes
    ----------
    counts, offsets
        Steps of each output interval, and steps before each (and in all).

    Examples
    --------
    >>> [len(interval) for interval in StepGrid(torch.tensor([0.0, 1.0, 1.5]), step=0.5)]
    [2, 1]
    """

    def __init__(self, times: Tensor, *, step: float | None = None, substeps: int | None = None) -> None:
        self.times = times.to(torch.float64)
        # Shared times in plain numbers too: one small tensor for every interval would cost more than its steps.
        self._shared: list[float] | None = self.times.tolist() if self.times.ndim == 1 else None
        if self._shared is not None:
            longest = [abs(end - start) for start, end in pairwise(self._shared)]
        else:
            longest = self.times.diff(dim=-1).abs().max(0).values.tolist()
        if substeps is not None:
            self._set_counts([substeps for _ in longest])
        elif step is not None:
            if max(longest) / step > _MOST_STEPS:
                raise ValueError(
                    f"a step of {step:g} divides {max(longest):g} between two output times into more than "
                    f"{_MOST_STEPS:g} steps; give a longer one"
                )
            self._set_counts([max(1, math.ceil(gap / step - 1e-6)) for gap in longest])
        else:
            raise ValueError("a grid needs step or substeps")

    def _set_counts(self, counts: list[int]) -> None:
        self.counts = counts
        self.offsets = list(accumulate(counts, initial=0))

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
        changed._set_counts(list(counts))
        return changed

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return self.offsets[-1]

    def starts(self) -> Tensor | None:
        """Return the time at which each step begins, ``(n_steps,)``; ``None`` where every path has its own times."""
        if self._shared is None:
            return None
        parts = [
            a + (b - a) * (np.arange(n) / n) for (a, b), n in zip(pairwise(self._shared), self.counts, strict=True)
        ]
        return torch.from_numpy(np.concatenate(parts))

    def roots(self) -> NDArray[np.float64] | None:
        """Return the square root of the length of each step, ``(n_steps,)``; ``None`` where paths have own times."""
        if self._shared is None:
            return None
        roots = [math.sqrt(abs(b - a) / n) for (a, b), n in zip(pairwise(self._shared), self.counts, strict=True)]
        return np.repeat(roots, self.counts)

    def length(self, interval: int, like: Tensor) -> float | Tensor:
        """Return the length of an output interval: a number, or ``(B, 1)`` where every path has its own times."""
        if self._shared is not None:
            return self._shared[interval + 1] - self._shared[interval]
        return (self.times[:, interval + 1] - self.times[:, interval])[:, None].to(like)

    def root(self, interval: int, like: Tensor) -> float | Tensor:
        """Return the square root of the length of a step in an output interval."""
        step = self.length(interval, like)
        if isinstance(step, float):
            return math.sqrt(abs(step) / self.counts[interval])
        return (step / self.counts[interval]).sqrt()

    def __iter__(self) -> Iterator[Interval]:
        return map(self.interval, range(len(self.counts)))

    def interval(self, k: int) -> Interval:
        """Return the steps from one output time to the next."""
        count = self.counts[k]
        fractions = np.arange(count + 1) / count
        if self._shared is not None:
            start, end = self._shared[k], self._shared[k + 1]
            return Interval(torch.from_numpy(start + (end - start) * fractions), (end - start) / count)
        first, last = self.times[:, k], self.times[:, k + 1]
        spread = first + (last - first) * torch.from_numpy(fractions).to(self.times)[:, None]
        return Interval(spread[:, :, None], ((last - first) / count)[:, None])


def check_own_times(times: Tensor, batch: int) -> None:
    """Refuse times ``(B, T)`` that do not increase up to the end of each path, and stay there.

    Raises
    ------
    ValueError
        If they do not, or there is not a row for each path.

    Examples
    --------
    >>> check_own_times(torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.5, 0.5], [3.0, 3.0, 3.0]]), batch=3)
    """
    if len(times) != batch:
        raise ValueError(f"times of each path's own must have one row for each of {batch} paths; got {len(times)}")
    check_finite(times, "times of each path's own (a path that has ended repeats its last time)")
    gaps = times.diff(dim=1)
    bad = torch.nonzero((gaps < 0) | (gaps > 0) & (gaps == 0).cumsum(1).to(torch.bool))
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(
            "times of each path's own must increase, and a path that has ended repeats its last time; path "
            f"{i} goes from {times[i, k]:g} to {times[i, k + 1]:g} at position {k + 1}"
            + ("" if gaps[i, k] < 0 else ", after a time that was repeated")
        )
