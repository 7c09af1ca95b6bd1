r"""What a network reads of a data set: counts of transitions, times spent, and their scale; not the paths themselves.

Of looks :math:`x_0, x_1, \dots` at times :math:`t_0 < t_1 < \dots`, summed over all paths: numbers of pairs
:math:`C^k_{ij} = \#\{m: x_m = i, x_{m+k} = j\}` for the skips :math:`k = 1, 2, 4, 8` with their mean lags; those of
:math:`k = 1` once more apart for short and for long lags; returns :math:`R_{ij} = \#(i, j, i)` and detours
:math:`D_{ij} = \#(i, j, l \ne i)`, which tell wrong labels from visits; times spent :math:`T_i = \frac12 \sum_m
\Delta_m (1[x_m = i] + 1[x_{m+1} = i])`; and where paths begin. Nothing depends on the order of paths, all moves along
with the labels, and times enter through ratios to the unit :math:`\tau = \sum_i T_i / (J + 1)` with :math:`J` the
number of changes seen.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gendyn.mjp.observations import StateObservations

__all__ = ["SKIPS", "TransitionSummary", "summarise"]

SKIPS = (1, 2, 4, 8)
"""Looks that lie this far apart are paired."""

_ROWS = 4_000_000
"""Looks that are counted at once."""


@dataclass(frozen=True, eq=False)
class TransitionSummary:
    """The statistics of ``B`` data sets on ``S`` states, float64; see the module's docstring.

    Attributes
    ----------
    counts
        :math:`C^k`, ``(B, 4, S, S)``.
    elapsed
        Summed lags of those pairs, ``(B, 4)``.
    short, long
        :math:`C^1` of lags up to the median and above it, ``(B, S, S)``.
    short_elapsed, long_elapsed
        Their summed lags, ``(B,)``.
    returns, detours
        :math:`R` and :math:`D`, ``(B, S, S)``, zero on the diagonal.
    dwell
        :math:`T`, ``(B, S)``.
    squared
        Summed squares of the one-step lags, ``(B,)``.
    starts
        Paths that begin in each state, ``(B, S)``.
    """

    counts: Tensor
    elapsed: Tensor
    short: Tensor
    long: Tensor
    short_elapsed: Tensor
    long_elapsed: Tensor
    returns: Tensor
    detours: Tensor
    dwell: Tensor
    squared: Tensor
    starts: Tensor

    @property
    def n_states(self) -> int:
        """Number of states ``S``."""
        return int(self.dwell.shape[1])

    @property
    def changes(self) -> Tensor:
        """:math:`J`, changes seen, ``(B,)``."""
        one = self.counts[:, 0]
        return one.sum((1, 2)) - one.diagonal(dim1=1, dim2=2).sum(1)

    @property
    def unit(self) -> Tensor:
        r""":math:`\tau`, ``(B,)``."""
        return self.dwell.sum(1) / (self.changes + 1)

    def __add__(self, other: TransitionSummary) -> TransitionSummary:
        """Return the statistics of both; their medians may differ, so that short and long blur a little."""
        return TransitionSummary(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def of(cls, seen: StateObservations) -> TransitionSummary:
        """Summarise one data set; looks that may be one of several states are left out of all pairs.

        Examples
        --------
        >>> from gendyn.data import Paths
        >>> found = TransitionSummary.of(StateObservations.of(Paths([0.0, 1.0, 3.0], torch.tensor([[0, 1, 0]]))))
        >>> found.dwell.tolist(), found.unit.item(), found.returns[0, 0, 1].item()
        ([[1.5, 1.5]], 1.0, 1.0)
        """
        # A little above the median, so that the lags of a regular grid are all short whatever their rounding.
        middle = 1.001 * seen.median_lag
        size = max(1, _ROWS // seen.labels.shape[1])
        result: TransitionSummary | None = None
        for start in range(0, len(seen.labels), size):
            some = slice(start, start + size)
            owner = torch.zeros(len(seen.labels[some]), dtype=torch.int64)
            part = summarise(
                seen.labels[some],
                seen.times[some],
                seen.lengths[some],
                owner,
                n_sets=1,
                n_states=seen.n_states,
                middle=torch.tensor([middle], dtype=torch.float64),
            )
            result = part if result is None else result + part
        if result is None:
            raise ValueError("there are no looks to summarise")
        return result


def summarise(
    labels: Tensor,
    times: Tensor,
    lengths: Tensor,
    owner: Tensor,
    *,
    n_sets: int,
    n_states: int,
    middle: Tensor,
) -> TransitionSummary:
    """Summarise many data sets at once.

    Parameters
    ----------
    labels
        ``(N, L)``, int64; those from ``n_states`` on count as not seen.
    times
        ``(N, L)``, or ``(N, 1)`` times ``(L,)`` broadcast alike.
    lengths
        ``(N,)`` looks of each path.
    owner
        ``(N,)`` number of the data set of each path.
    n_sets, n_states
        How many there are.
    middle
        ``(n_sets,)``: lags up to this one are short.
    """
    length, size = labels.shape[1], n_states
    inside = (torch.arange(length)[None] < lengths[:, None]) & (labels < size)
    base = owner[:, None] * size
    # Where everything was seen no pair is asked whether it was.
    whole = bool(inside.all())
    before = (base + labels) * size

    def pairs(flat: Tensor, chosen: Tensor | None) -> Tensor:
        counts = torch.bincount((flat if chosen is None else flat[chosen]).flatten(), minlength=n_sets * size**2)
        return counts.reshape(n_sets, size, size).to(torch.float64)

    def summed(values: Tensor, chosen: Tensor | None) -> Tensor:
        rows = (values if chosen is None else torch.where(chosen, values, 0.0)).sum(1).expand(len(labels))
        return torch.zeros(n_sets, dtype=torch.float64).index_add_(0, owner, rows)

    counts, elapsed = [], []
    for skip in SKIPS:
        if skip >= length:
            counts.append(torch.zeros(n_sets, size, size, dtype=torch.float64))
            elapsed.append(torch.zeros(n_sets, dtype=torch.float64))
            continue
        both = None if whole else inside[:, skip:] & inside[:, :-skip]
        counts.append(pairs(before[:, :-skip] + labels[:, skip:], both))
        elapsed.append(summed(times[:, skip:] - times[:, :-skip], both))
    first, last, gaps = labels[:, :-1], labels[:, 1:], times.diff(dim=1)
    one = before[:, :-1] + last
    both = None if whole else inside[:, 1:] & inside[:, :-1]
    brief = gaps <= middle[owner][:, None]
    if both is not None:
        brief = brief & both
    short = counts[0] if both is None and bool(brief.all()) else pairs(one, brief)
    halves = (gaps if both is None else torch.where(both, gaps, 0.0)).expand(first.shape).flatten() / 2
    dwell = torch.zeros(n_sets * size, dtype=torch.float64)
    for ends in (first, last):
        dwell.index_add_(0, (base + ends.clamp_max(size - 1)).flatten(), halves)
    returns = detours = torch.zeros(n_sets, size, size, dtype=torch.float64)
    if length > 2:
        moved = first[:, :-1] != last[:, :-1]
        if both is not None:
            moved &= both[:, :-1] & inside[:, 2:]
        turned = pairs(one[:, :-1], moved)
        returns = pairs(one[:, :-1], moved & (labels[:, :-2] == labels[:, 2:]))
        detours = turned - returns
    begun = (lengths > 0) & inside[:, 0]
    starts = torch.bincount((base[:, 0] + labels[:, 0])[begun], minlength=n_sets * size)
    short_elapsed = summed(gaps, brief)
    return TransitionSummary(
        counts=torch.stack(counts, 1),
        elapsed=torch.stack(elapsed, 1),
        short=short,
        long=counts[0] - short,
        short_elapsed=short_elapsed,
        long_elapsed=elapsed[0] - short_elapsed,
        returns=returns,
        detours=detours,
        dwell=dwell.reshape(n_sets, size),
        squared=summed(gaps.square(), both),
        starts=starts.reshape(n_sets, size).to(torch.float64),
    )
