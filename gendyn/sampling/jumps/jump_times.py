r"""Where jumps interrupt the steps of a diffusion.

Candidates for jumps are the points of a Poisson process of each path's own,

.. math:: \tau_{e+1} = \tau_e - \log(1 - u_e) / \bar\lambda ,

so that the same seed jumps at the same times, whatever the step. For the paths that have candidates in a step, the
step is taken again in parts: to each candidate, where the state is the left limit and the jump happens or not, and from
the last one to the step's end. A Brownian bridge divides the increment; at the ends of steps the Brownian path is that
of the process without jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from gendyn.sampling.brownian_tree import cut
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.jumps.jump_spec import JumpSpec
from gendyn.sampling.jumps.uniforms import EVENTS, UniformStream
from gendyn.sampling.noise import Noise
from gendyn.sampling.process import Process, jumps_of
from gendyn.sampling.solvers import DormandPrince, Solver
from gendyn.sampling.tiles import Tiles

__all__ = ["JumpTimes", "check_interruptions"]

Step = Callable[..., Tensor]
"""A solver's ``step(process, t, h, x, dw, area)``."""

_ROWS_AT_ONCE = 4096

_SMALLEST = 2.0**-24
"""How close marks come to 0 and 1, so that quantile functions stay finite in single precision."""


@dataclass(frozen=True)
class _Candidates:
    """One entry for each candidate of any path, ``(N, ...)``, by step, by level, by row.

    ``number`` counts the candidates of a path, ``level`` those of a path in one step. Lengths are fractions of the
    step: ``part`` from the stop before (or the step's start), ``rest`` to the step's end.
    """

    row: Tensor
    number: Tensor
    step: Tensor
    level: Tensor
    time: Tensor
    part: Tensor
    rest: Tensor
    pick: Tensor
    marks: Tensor

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, key: slice | Tensor) -> _Candidates:
        return _Candidates(*(getattr(self, field.name)[key] for field in fields(self)))


class JumpTimes:
    """The candidates of some paths, laid onto their steps.

    Parameters
    ----------
    process
        A process with ``jumps``.
    key
        Root of the randomness.
    grid
        The steps of these paths.
    shape, first_row
        How many paths and Brownian motions, and the number of the first path; a multiple of 256.
    like
        A tensor of the type and device of the states.
    area
        Whether the solver asks for space-time Levy areas.

    Examples
    --------
    >>> from gendyn.sampling import ODE, JumpSpec
    >>> process = ODE(lambda t, x: 0 * x, 1, jumps=JumpSpec(3.0, lambda t, x, k, u: x + 1))
    >>> grid = StepGrid(torch.tensor([0.0, 2.0]), substeps=4)
    >>> len(JumpTimes(process, 0, grid, (1000, 0), 0, torch.zeros(1), False))  # about 3 x 2 x 1000
    5...
    """

    def __init__(
        self,
        process: Process,
        key: int,
        grid: StepGrid,
        shape: tuple[int, int],
        first_row: int,
        like: Tensor,
        area: bool,
    ) -> None:
        self._spec: JumpSpec = process.jumps  # type: ignore[attr-defined]
        n_rows, columns = shape[0], shape[1] * (2 if area else 1)
        self._n_rows = n_rows
        self._area = area
        self._tiles = Tiles(key, "bridge", n_rows, columns, first_row, like) if columns else None
        found = _draw(self._spec, key, grid, n_rows, first_row)
        self._edges: list[int] = torch.searchsorted(found.step, torch.arange(grid.n_steps + 1)).tolist()
        # A step with c candidates is taken once in vain, and then in c + 1 parts.
        cost = np.bincount(found.row, 1 + (found.level == 0).to(torch.float64), minlength=n_rows)
        self.extra_steps = int(cost.max())
        self._found = _Candidates(*(getattr(found, field.name).to(like.device) for field in fields(found)))

    def __len__(self) -> int:
        return len(self._found)

    def interrupted(self, step: Step, start: int, count: int) -> Step:
        """Return a solver's step with jumps, to be called for each of ``count`` steps of the run from ``start`` on."""
        stops = self._stops(start, count)

        def step_with_jumps(
            process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
        ) -> Tensor:
            moved = step(process, t, h, x, dw, area)
            here, normals = next(stops)
            if len(here) == 0:
                return moved
            levels = torch.arange(int(here.level[-1]) + 2, device=x.device)
            cuts = torch.searchsorted(here.level, levels).tolist()
            rows = here.row[: cuts[1]]
            t, h = (torch.as_tensor(v, dtype=x.dtype, device=x.device).expand(len(x), 1)[rows] for v in (t, h))
            # Some noise knows areas that were not asked for.
            dw, area = (None if v is None else v[rows] for v in (dw, area if self._area else None))
            paths = _StoppingPaths(step, process, self._spec, t, h, x[rows], torch.ones_like(h), dw, area)
            for low, high in pairwise(cuts):
                stop = here[low:high]
                paths.go_to(stop, torch.searchsorted(rows, stop.row), None if normals is None else normals[low:high])
            return moved.index_copy(0, rows, paths.end())

        return step_with_jumps

    def _stops(self, start: int, count: int) -> Iterator[tuple[_Candidates, Tensor | None]]:
        """Return the candidates of each step, and normals ``(n, columns)`` that divide its increment."""
        first, last = self._edges[start], self._edges[start + count]
        normals = None
        if self._tiles is not None and first < last:
            normals = self._normals(self._tiles, start, self._found[first:last])
        for low, high in pairwise(self._edges[start : start + count + 1]):
            yield self._found[low:high], None if normals is None else normals[low - first : high - first]

    def _normals(self, tiles: Tiles, start: int, part: _Candidates) -> Tensor:
        """Return normals of the candidates in consecutive steps; each depends on its path and the steps alone."""
        earliest = part.number.new_full((self._n_rows,), len(self)).scatter_reduce(0, part.row, part.number, "amin")
        place = part.number - earliest[part.row]
        return tiles.draw((start,), int(place.max()) + 1)[place, part.row]


@dataclass
class _StoppingPaths:
    """The paths that have candidates in a step, on their way through it.

    They are at ``(t, x)``, with ``rest`` of the step ``h`` before them, each ``(n, 1)``, and what is left of the
    increment and area. Nothing is written into these tensors, which may carry a graph.
    """

    step: Step
    process: Process
    spec: JumpSpec
    t: Tensor
    h: Tensor
    x: Tensor
    rest: Tensor
    dw: Tensor | None
    area: Tensor | None

    def go_to(self, stop: _Candidates, at: Tensor, normals: Tensor | None) -> None:
        """Move the paths ``at`` to their next candidates, and let them jump there."""
        time, part, rest = (v[:, None].to(self.x) for v in (stop.time, stop.part, stop.rest))
        marks = stop.marks.to(self.x)
        w = area = None
        if self.dw is not None and normals is not None:
            share = torch.where(stop.rest > 0, stop.part / (stop.part + stop.rest), 1.0)[:, None].to(self.x)
            w, area = self._take(self.dw, at, share, normals)
        x = self.step(self.process, self.t[at], part * self.h[at], self.x[at], w, area)
        which, kinds = self.spec.kinds(time, x, stop.pick)
        if len(which):
            x = x.index_copy(0, which, self.spec.apply(time[which], x[which], kinds, marks[which]))
        self.x, self.t = self.x.index_copy(0, at, x), self.t.index_copy(0, at, time)
        self.rest = self.rest.index_copy(0, at, rest)

    def _take(self, dw: Tensor, at: Tensor, share: Tensor, normals: Tensor) -> tuple[Tensor, Tensor | None]:
        """Take the first share of what is left of the increments (and areas) of the paths ``at``."""
        whole, h = dw[at], self.rest[at] * self.h[at]
        if self.area is None:
            w = share * whole + (share * (1 - share) * h).sqrt() * normals
            self.dw = dw.index_copy(0, at, whole - w)
            return w, None
        first, last = cut(whole, self.area[at], h, share, torch.stack(normals.chunk(2, dim=1)))
        self.dw, self.area = dw.index_copy(0, at, last[0]), self.area.index_copy(0, at, last[1])
        return first

    def end(self) -> Tensor:
        """Return the states at the end of the step."""
        return self.step(self.process, self.t, self.rest * self.h, self.x, self.dw, self.area)


def check_interruptions(process: Process, method: Solver | DormandPrince, noise: Noise, gradient: str) -> None:
    """Say what does not go with the jumps of a process, if it has any.

    Raises
    ------
    ValueError
        If the solver carries something from step to step, the noise cannot be divided, or a gradient is wanted that
        does not exist.
    """
    jumps = jumps_of(process)
    if jumps is None:
        return
    if isinstance(method, DormandPrince) or hasattr(method, "forth"):
        raise ValueError(
            f"solver {method.name!r} carries what it knows from step to step, which a jump would break; use "
            f"{'rk4' if process.noise_type == 'none' else 'ees25'!r} with a step"
        )
    if process.noise_type != "none" and not noise.brownian:
        raise ValueError(
            f"jumps divide steps, which only Brownian increments can be; {type(noise).__name__} drives processes "
            "without jumps"
        )
    if gradient == "reversible":
        raise ValueError("a reversible gradient cannot go back over a jump; use gradient='checkpoint'")
    if gradient != "none" and not jumps.differentiable:
        raise ValueError(
            "whether and when a jump happens has no gradient, so jumps let one through only if their rates are "
            "constant numbers; use gradient='none'"
        )


def _draw(spec: JumpSpec, key: int, grid: StepGrid, n_rows: int, first_row: int) -> _Candidates:
    """Return the candidates of all paths, laid onto the grid."""
    times = grid.times.cpu()
    pieces: list[tuple[Tensor, ...]] = []
    for first in range(0, n_rows if spec.bound > 0 else 0, _ROWS_AT_ONCE):
        rows = torch.arange(first, min(first + _ROWS_AT_ONCE, n_rows))
        uniforms = UniformStream(key, len(rows), 2 + spec.marks, first_row=first_row + first)
        own, drawn = times if times.ndim == 1 else times[rows], 0
        now = own[..., 0].expand(len(rows))
        while len(rows):
            numbers = uniforms.draw(rows - first).transpose(0, 1)
            when = now[:, None] - torch.log1p(-numbers[..., 0]).cumsum(1) / spec.bound
            inside = when <= own[..., -1:]
            step, place = _lay(grid, own, when)
            i, number = torch.nonzero(inside, as_tuple=True)
            pieces.append((rows[i], number + drawn, *(v[i, number] for v in (step, when, place, numbers[..., 1:]))))
            going = inside[:, -1]
            own = own if own.ndim == 1 else own[going]
            rows, now, drawn = rows[going], when[going, -1], drawn + EVENTS
    if not pieces:
        none, nothing = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
        pieces.append((none, none, none, nothing, nothing, nothing.new_zeros(0, 1 + spec.marks)))
    return _in_order(*(torch.cat(column) for column in zip(*pieces, strict=True)))


def _lay(grid: StepGrid, times: Tensor, when: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step, counted from the run's start, in which each time ``(n, k)`` lies, and where in it (0 to 1)."""
    last = times.shape[-1] - 2
    interval = (torch.searchsorted(times.contiguous(), when.contiguous()) - 1).clamp_(0, last)
    start, end = (times[k] if times.ndim == 1 else times.gather(1, k) for k in (interval, interval + 1))
    count = torch.tensor(grid.counts)[interval]
    place = (when - start) / (end - start) * count
    within = torch.minimum((place.ceil() - 1).clamp_min(0).to(torch.int64), count - 1)
    return torch.tensor(grid.offsets)[interval] + within, (place - within).clamp(0.0, 1.0)


def _in_order(row: Tensor, number: Tensor, step: Tensor, time: Tensor, place: Tensor, numbers: Tensor) -> _Candidates:
    """Return candidates by step, level and row, with their distances from each other."""
    order = torch.from_numpy(np.lexsort((number.numpy(), row.numpy())))
    row, number, step, time, place, numbers = (v[order] for v in (row, number, step, time, place, numbers))
    index = torch.arange(len(row))
    fresh = torch.ones(len(row), dtype=torch.bool)
    fresh[1:] = (row.diff() != 0) | (step.diff() != 0)
    level = index - torch.where(fresh, index, 0).cummax(0).values if len(row) else index
    before = torch.where(fresh, 0.0, place.roll(1))
    found = _Candidates(
        row,
        number,
        step,
        level,
        time,
        place - before,
        1.0 - place,
        numbers[:, 0],
        numbers[:, 1:].clamp(_SMALLEST, 1.0 - _SMALLEST),
    )
    return found[torch.from_numpy(np.lexsort((row.numpy(), level.numpy(), step.numpy())))]
