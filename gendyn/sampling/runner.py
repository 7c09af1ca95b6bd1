"""The loop: the only one that moves a state through time.

A run is a list of segments, each at most 32 steps within one output interval. A segment asks the driver of the noise
for its increments and takes its steps; whatever wants something else of a run (a graph in pieces, a way back) does
so by segments.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendyn.data.checks import all_finite
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.jumps.jump_times import JumpTimes
from gendyn.sampling.noise import Driver
from gendyn.sampling.process import Process
from gendyn.sampling.solvers import Solver
from gendyn.sampling.tiles import STEPS

__all__ = ["NonFiniteStateError", "Run", "Segment", "State", "check_state", "value_of"]


class NonFiniteStateError(FloatingPointError):
    """A state stopped being finite; the message names time, step and solver."""


State = Any
"""What a solver carries from step to step: the values ``(B, d)``, or a tuple that begins with them."""

_CHECK_EVERY = 64
"""Steps between looks at whether the state is finite."""


class Segment(NamedTuple):
    """Consecutive steps within one output interval."""

    interval: int
    first: int
    steps: int
    last: bool
    """Whether it ends on an output time."""


@dataclass
class Run:
    """Some rows, moved along a grid by a solver.

    Parameters
    ----------
    process, method
        What is moved, and how.
    grid
        Steps between output times, for these rows.
    driver
        Of the noise; ``None`` for ordinary equations.
    x0
        Start values ``(B, d)``.
    jumps
        Where jumps interrupt the steps, if the process has any.
    """

    process: Process
    method: Solver
    grid: StepGrid
    driver: Driver | None
    x0: Tensor
    jumps: JumpTimes | None = None

    def __post_init__(self) -> None:
        starts = self.grid.starts()
        self._starts = None if starts is None else starts.to(self.x0)
        self._held: tuple[int, Tensor, Tensor] | None = None
        self.forth = getattr(self.method, "forth", None)

    def segments(self) -> Iterator[Segment]:
        """Return the segments in order."""
        done = 0
        for interval, total in enumerate(self.grid.counts):
            first = 0
            while first < total:
                count = min(total - first, STEPS - done % STEPS)
                yield Segment(interval, first, count, first + count == total)
                first += count
                done += count

    def begin(self) -> State:
        """Return the state at the first time."""
        if self.forth is None:
            return self.x0
        times, _ = self.steps(Segment(0, 0, 1, False))
        return self.method.begin(self.process, times[0], self.x0)  # type: ignore[attr-defined]

    def steps(self, segment: Segment) -> tuple[tuple[Tensor, ...], float | Tensor]:
        """Return the start of each step of a segment, and their length."""
        k, first = segment.interval, segment.first
        if self._starts is not None:
            first += self.grid.offsets[k]
            h = self.grid.length(k, self.x0) / self.grid.counts[k]
            return self._starts[first : first + segment.steps].unbind(0), h
        if self._held is None or self._held[0] != k:
            found = self.grid.interval(k)
            self._held = k, found.times.to(self.x0), torch.as_tensor(found.step).to(self.x0)
        return self._held[1][first : first + segment.steps].unbind(0), self._held[2]

    def increments(self, segment: Segment) -> tuple[tuple[Tensor | None, ...], tuple[Tensor | None, ...]]:
        """Return increments and areas of each step of a segment."""
        nothing: tuple[Tensor | None, ...] = (None,) * segment.steps
        if self.driver is None:
            return nothing, nothing
        w, area = self.driver.increments(segment.interval, segment.first, segment.steps)
        return w.unbind(0), nothing if area is None else area.unbind(0)

    def advance(self, state: State, segment: Segment, starts: deque[Tensor] | None = None) -> State:
        """Return the state after a segment; ``starts`` is given the values from which each step began."""
        times, h = self.steps(segment)
        process, (increments, areas) = self.process, self.increments(segment)
        if self.forth is not None:
            for t, dw in zip(times, increments, strict=True):
                state = self.forth(process, t, h, state, dw)
            return state
        step = self.method.step
        if self.jumps is not None:
            first = self.grid.offsets[segment.interval] + segment.first
            step = self.jumps.interrupted(step, first, segment.steps)
        for t, dw, area in zip(times, increments, areas, strict=True):
            if starts is not None:
                starts.append(state)
            state = step(process, t, h, state, dw, area)
        return state

    def outputs(self, tick: Callable[[int], Any]) -> Iterator[Tensor]:
        """Return the values at the output times after the first, one after the other."""
        state, done, looked = self.begin(), 0, 0
        for segment in self.segments():
            state = self.advance(state, segment)
            done += segment.steps
            if done - looked >= _CHECK_EVERY or segment.last:
                looked = done
                self.check(state, segment, done)
            tick(segment.steps)
            if segment.last:
                yield value_of(state)

    def check(self, state: State, segment: Segment, done: int) -> None:
        """Say so if the state after a segment, ``done`` steps in all, is not finite."""
        x = value_of(state)
        if not all_finite(x):
            # The latest, of times of each path's own.
            t = float(self.grid.interval(segment.interval).times[segment.first + segment.steps].max())
            check_state(x, t, done, self.method.name)


def value_of(state: State) -> Tensor:
    """Return the values ``(B, d)`` of a state."""
    value: Tensor = state[0] if isinstance(state, tuple) else state
    return value


def check_state(x: Tensor, t: float, step: int, name: str) -> None:
    """Say at which time and step values stopped being finite.

    Raises
    ------
    NonFiniteStateError
        If they did.
    """
    if all_finite(x):
        return
    finite = torch.isfinite(x.detach()).all(1)
    raise NonFiniteStateError(
        f"the state is not finite any more in {int((~finite).sum())} of {len(x)} paths by t={t:.6g} (step {step}, "
        f"solver {name}); take a smaller step, or look at drift and diffusion there"
    )
