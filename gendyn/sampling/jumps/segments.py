r"""The loop of the exact methods: all live paths fire one event at a time, finished ones are dropped.

A :class:`Segment` holds a few events of some paths. Solvers that go from event to event yield segments; the values
on a grid of times or the full record of events is read off them, so that a long path need not be kept whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.sampling.jumps.jump_process import check_counts
from gendyn.sampling.jumps.uniforms import UniformStream

__all__ = ["Segment", "fill_grid", "fire_events", "gather_events"]

Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(t, state, exponential, uniform) -> (t, state)`` after one event; time infinite once the path has ended."""

_EVENTS_AT_ONCE = 1 << 20
"""About as many events, over all paths, are held while their states are looked up."""

_CHECK_EVERY = 8
"""Events between looks at how many paths are left."""


@dataclass(frozen=True)
class Segment:
    """Up to ``K`` events of ``n`` paths, event by event.

    Parameters
    ----------
    rows
        Which paths, ``(n,)``.
    since
        When the first state was entered, ``(n,)``.
    times
        ``(K, n)``, not decreasing; infinite once the path has ended.
    states
        ``(K + 1, n, d)``: the state before the first event, then after each. A state may stay as it is.
    """

    rows: Tensor
    since: Tensor
    times: Tensor
    states: Tensor

    @property
    def changed(self) -> Tensor:
        """Which events are jumps to another state, ``(K, n)``."""
        return (self.states[1:] != self.states[:-1]).any(-1) & torch.isfinite(self.times)


def fire_events(step: Step, x0: Tensor, start: Tensor, uniforms: UniformStream) -> Iterator[Segment]:
    """Yield segments until every path has ended; paths start at ``x0``, ``(B, d)``, at times ``start``, ``(B,)``."""
    rows = torch.arange(len(x0))
    t, x = start, x0
    waits = picks = torch.empty(0)
    while len(rows):
        if len(waits) == 0:
            numbers = uniforms.draw(rows)
            # A uniform number may be 0, never 1. The floor keeps 0/0 out of states that are never left.
            waits = torch.log1p(-numbers[..., 0]).neg_().clamp_(min=2.0**-54)
            picks = numbers[..., 1].contiguous()
        since = t
        times = torch.empty_like(waits)
        states = x.new_empty((len(waits) + 1, *x.shape))
        states[0] = x
        count = 0
        for wait, pick in zip(waits, picks, strict=True):
            t, x = step(t, x, wait, pick)
            times[count] = t
            count += 1
            states[count] = x
            # Dropping the finished copies what is left, which pays once they are many.
            if count % _CHECK_EVERY == 0 and 2 * int((t < math.inf).sum()) < len(rows):
                break
        check_counts(states[1 : count + 1], times[:count])
        yield Segment(rows, since, times[:count], states[: count + 1])
        live = torch.nonzero(t < math.inf).flatten()
        rows, t, x = rows[live], t[live], x[live]
        waits, picks = waits[count:, live], picks[count:, live]


def fill_grid(segments: Iterable[Segment], grid: Tensor, values: Tensor) -> int:
    """Write the states at times ``(T,)`` or ``(B, T)`` into ``(B, T, d)``; return the number of jumps."""
    jumps = 0
    for segment in _joined(segments):
        jumps += int(segment.changed.sum())
        until = segment.times[-1]
        columns = slice(None)
        if grid.ndim == 1:
            edges = torch.stack([segment.since.min(), until.max()])
            low, high = torch.searchsorted(grid, edges).tolist()
            columns = slice(low, high)
        wanted = (grid if grid.ndim == 1 else grid[segment.rows])[..., columns]
        wanted = wanted.expand(len(segment.rows), wanted.shape[-1]).contiguous()
        if wanted.shape[1] == 0:
            continue
        # Right-continuous: at the time of an event the state is the one after it.
        index = torch.searchsorted(segment.times.T.contiguous(), wanted, right=True)
        states = segment.states.permute(2, 1, 0).contiguous()
        found = states.gather(2, index.expand(len(states), *index.shape)).permute(1, 2, 0)
        # What a path writes beyond its last event here, the next segment writes anew.
        inside = wanted >= segment.since[:, None]
        if not bool(inside.all()):
            found = torch.where(inside[..., None], found, values[segment.rows, columns])
        values[segment.rows, columns] = found
    return jumps


def _joined(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Put consecutive segments together, up to a size: what lies between two of them is looked up in both."""
    held: list[Segment] = []
    for segment in segments:
        if held and len(held[0].rows) * (sum(len(s.times) for s in held) + len(segment.times)) > _EVENTS_AT_ONCE:
            yield _join(held)
            held = []
        held.append(segment)
    if held:
        yield _join(held)


def _join(parts: list[Segment]) -> Segment:
    """Return one segment of consecutive ones; the paths of each are among those of the one before."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    total = sum(len(part.times) for part in parts)
    times = first.times.new_full((total, len(first.rows)), math.inf)
    states = first.states.new_empty((total + 1, *first.states.shape[1:]))
    states[0] = first.states[0]
    at = 0
    for part in parts:
        # Of a path that has ended the states after are never looked at.
        columns = slice(None) if part is first else torch.searchsorted(first.rows, part.rows)
        times[at : at + len(part.times), columns] = part.times
        states[at + 1 : at + 1 + len(part.times), columns] = part.states[1:]
        at += len(part.times)
    return Segment(first.rows, first.since, times, states)


def gather_events(segments: Iterable[Segment], x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return event times ``(B, E)``, states ``(B, E + 1, d)`` and counts ``(B,)`` of the jumps alone."""
    counts = torch.zeros(len(x0), dtype=torch.int64)
    pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for segment in segments:
        changed = segment.changed
        place = counts[segment.rows] + changed.cumsum(0) - 1
        k, i = torch.nonzero(changed, as_tuple=True)
        pieces.append((segment.rows[i], place[k, i], segment.times[k, i], segment.states[k + 1, i]))
        counts[segment.rows] += changed.sum(0)
    most = int(counts.max())
    times = torch.full((len(x0), most), math.inf, dtype=torch.float64)
    states = x0[:, None].repeat(1, most + 1, 1)
    for rows, place, t, x in pieces:
        times[rows, place] = t
        states[rows, place + 1] = x
    last = torch.minimum(torch.arange(most + 1), counts[:, None])
    return times, states.gather(1, last[..., None].expand_as(states)), counts
