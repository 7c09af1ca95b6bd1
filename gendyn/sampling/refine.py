r"""Values of given paths at more times: solved again along the same Brownian path, never interpolated.

Between two states of a stochastic process the straight line has the wrong law: for Brownian motion over :math:`h` it
has variance :math:`t^2/h`, not :math:`t`. Paths that were sampled with a :class:`~gendyn.sampling.BrownianTree` can be
had at any other time instead: the tree knows what the Brownian path does there. The steps that the paths were made
with are taken again; a step within which a new time lies is cut there, and the tree with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import check_finite, exact_times
from gendyn.sampling.brownian_tree import DEEPEST, BrownianTree, Cells, Place
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import Driver, Increments
from gendyn.sampling.process import Process, refuse_jumps
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import SOLVERS

__all__ = ["refine"]

_AT_ONCE = 1024
"""Steps whose states are held at once."""


def refine(
    process: Process,
    paths: Paths,
    times: Tensor | Sequence[float] | NDArray[np.floating[Any]],
    *,
    step: float | None = None,
    noise: BrownianTree | None = None,
) -> Paths:
    """Return sampled paths at other times, solved again with the same Brownian path.

    Parameters
    ----------
    process
        The process that the paths were sampled from.
    paths
        From :func:`gendyn.sample` with ``noise="tree"`` and a fixed-step solver: all rows, and at least the first two
        of its output times.
    times
        New times ``(T,)``, increasing, within those of ``paths``; any number, and anywhere.
    step
        Longest step; by default the steps are those that the paths were made with. A shorter one makes the values more
        exact.
    noise
        The tree that the paths were sampled with, if it was another than ``noise="tree"``.

    Returns
    -------
    Paths
        Values ``(n, T, d)`` at the new times. At times of ``paths`` they are its values, as nearly as cut or shorter
        steps give them: exactly, if no step before was.

    Raises
    ------
    ValueError
        If the process has jumps; if the paths were not sampled with a tree, or are not those of this process and this
        tree from one call (as after selecting some rows); if times do not fit.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> paths = sample(brownian, torch.zeros(4000, 1), [0.0, 1.0], step=0.5, noise="tree")
    >>> middle = refine(brownian, paths, [0.3, 1.0])
    >>> bool((middle.values[:, 1] - paths.values[:, 1]).abs().max() < 1e-6)
    True
    >>> middle.values[:, 0].var().item()  # on the straight line it would be 0.09
    0.3...
    """
    refuse_jumps(process, "refining paths")
    wanted = _wanted(times, paths)
    tree, solver, key = _made_by(paths, noise)
    grid = StepGrid(paths.times, step=paths.info.get("step"), substeps=paths.info.get("substeps"))
    places = tree.places(grid)
    along = _Along(tree, grid, ())
    _check_same(process, paths, solver, key, along, places)
    if step is not None:
        if not step > 0:
            raise ValueError(f"step must be positive; got {step}")
        places = [_finer(place, float(gap) / step) for place, gap in zip(places, paths.times.diff(), strict=True)]
    x, found, cost = paths.values[:, 0].detach(), [], [0, 0, 0]
    if wanted[0] == paths.times[0]:
        found.append(x)
    for k, place in enumerate(places):
        inside = wanted[(wanted > paths.times[k]) & (wanted <= paths.times[k + 1])]
        if float(paths.times[k]) >= float(wanted[-1]):
            break
        nodes, steps, kept = _steps(float(paths.times[k]), float(paths.times[k + 1]), place, inside)
        for start in range(0, len(steps), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(steps))
            run = sample(
                process, x, nodes[start : stop + 1], solver=solver, substeps=1, seed=key,
                noise=along.steps(steps[start:stop]),
            )  # fmt: skip
            cost = [a + run.info[name] for a, name in zip(cost, ("n_steps", "nfe_drift", "nfe_diffusion"), strict=True)]
            found += [run.values[:, j - start].clone() for j in kept if start < j <= stop]
            x = run.values[:, -1].clone()
    info = dict(paths.info) | {"noise": "tree, refined", "n_steps": cost[0], "nfe_drift": cost[1]}
    info |= {"nfe_diffusion": cost[2], "step": step if step is not None else paths.info.get("step")}
    return Paths(wanted, torch.stack(found, dim=1), labels=paths.labels, names=paths.names, info=info)


class _Step(NamedTuple):
    """A step along a tree: a cell of some depth, or a part of it."""

    cell: int
    depth: int
    number: int
    start: float = 0.0
    end: float = 1.0


class _Along:
    """A tree as noise for steps that are listed one by one."""

    brownian = True

    def __init__(self, tree: BrownianTree, grid: StepGrid, steps: Sequence[_Step]) -> None:
        self._tree = tree
        self._grid = grid
        self._steps = steps

    def steps(self, steps: Sequence[_Step]) -> _Along:
        """Return the noise of these steps."""
        return _Along(self._tree, self._grid, steps)

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid as it is."""
        return grid

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        return _Listed(self._steps, grid, self._tree.cells(key, self._grid, shape, first_row, like))


class _Listed:
    def __init__(self, steps: Sequence[_Step], grid: StepGrid, cells: Cells) -> None:
        self._steps = steps
        self._offsets = grid.offsets
        self._cells = cells
        self._held: tuple[tuple[int, int, int, float], tuple[Tensor, Tensor]] | None = None

    def increments(self, interval: int, first: int, count: int) -> Increments:
        start = self._offsets[interval] + first
        parts = [self._one(step) for step in self._steps[start : start + count]]
        return torch.stack([w for w, _ in parts]), torch.stack([area for _, area in parts])

    def _one(self, step: _Step) -> tuple[Tensor, Tensor]:
        whole, area = (part[0] for part in self._cells.between(step.cell, step.depth, step.number, 1))
        if (step.start, step.end) == (0.0, 1.0):
            return whole, area
        h = self._length(step) * (step.end - step.start)
        before, above = self._until(step, step.start, whole, area)
        after, total = self._until(step, step.end, whole, area)
        w = after - before
        return w.to(area), ((total - above - before * h) / h - 0.5 * w).to(area)

    def _until(self, step: _Step, fraction: float, whole: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
        """Return the path from the start of a step's cell, and its integral; the last one is held for the next step."""
        if fraction == 0.0:
            nothing = torch.zeros_like(whole, dtype=torch.float64)
            return nothing, nothing
        if fraction == 1.0:
            w = whole.to(torch.float64)
            return w, self._length(step) * (0.5 * w + area)
        key = (step.cell, step.depth, step.number, fraction)
        if self._held is None or self._held[0] != key:
            self._held = key, self._cells.until(*key)
        return self._held[1]

    def _length(self, step: _Step) -> float:
        return math.ldexp(float(self._cells.lengths[step.cell]), -step.depth)


def _steps(start: float, end: float, place: Place, inside: Tensor) -> tuple[Tensor, list[_Step], list[int]]:
    """Return the times of all steps from one output time to the next, the steps, and which times are wanted."""
    at = (inside - start) / (end - start) * place.steps
    at = torch.where((at - at.round()).abs() < 1e-12 * place.steps, at.round(), at)
    close = torch.nonzero(at.diff() < 2.0 ** (place.depth - DEEPEST)).flatten()
    if len(close):
        one, other = inside[int(close[0])], inside[int(close[0]) + 1]
        raise ValueError(f"times {one:.12g} and {other:.12g} are too close to tell apart; leave out one")
    ends = torch.unique(torch.cat([torch.arange(place.steps + 1, dtype=torch.float64), at]))
    nodes = start + (end - start) * (ends / place.steps)
    kept = torch.searchsorted(ends, at)
    # Exactly the times that are asked for, and exactly the output times at both ends.
    nodes[0], nodes[-1], nodes[kept] = start, end, inside
    steps = []
    for before, after in pairwise(ends.tolist()):
        whole = math.floor(before)
        steps.append(_Step(place.cell, place.depth, place.first + whole, before - whole, after - whole))
    return nodes, steps, kept.tolist()


def _finer(place: Place, ratio: float) -> Place:
    """Return a place whose steps, ``ratio`` of which fill the interval, are halved until they are no longer."""
    more = max(0, math.ceil(math.log2(ratio / place.steps) - 1e-9))
    return Place(place.cell, place.depth + more, place.first << more, place.steps << more)


def _wanted(times: Any, paths: Paths) -> Tensor:
    wanted = exact_times(times)
    if wanted.ndim != 1 or not len(wanted):
        raise ValueError(f"times must have shape (T,) with at least one time; got {tuple(wanted.shape)}")
    check_finite(wanted, "times")
    if not bool((wanted.diff() > 0).all()):
        k = int(torch.nonzero(wanted.diff() <= 0)[0])
        raise ValueError(f"times must increase strictly; got {wanted[k + 1]:g} after {wanted[k]:g} at position {k + 1}")
    if not paths.shared_times or paths.n_times < 2:
        raise ValueError("paths to refine need two or more times that all of them share")
    first, last = float(paths.times[0]), float(paths.times[-1])
    if float(wanted[0]) < first or float(wanted[-1]) > last:
        raise ValueError(
            f"these paths reach from {first:g} to {last:g}; got times from {wanted[0]:g} to {wanted[-1]:g}"
        )
    return wanted


def _made_by(paths: Paths, noise: BrownianTree | None) -> tuple[BrownianTree, str, int]:
    """Return tree, solver and seed of the paths, or say what they lack."""
    kind, solver = paths.info.get("noise"), paths.info.get("solver")
    if kind == "tree, refined":
        raise ValueError("these paths were refined already; refine those that they came from, at all times you want")
    if kind != "tree":
        raise ValueError(
            f"only paths sampled with noise='tree' have a Brownian path that is known at other times; these were made "
            f"with {f'noise {kind!r}' if kind else 'no noise that is known'}: sample them again with noise='tree', or "
            "at all times you want"
        )
    if solver not in SOLVERS or hasattr(SOLVERS[solver], "forth") or not {"step", "substeps"} & set(paths.info):
        raise ValueError(
            f"paths of solver {solver!r} cannot be taken up again within its steps; sample them with a fixed step of "
            "another solver"
        )
    return (BrownianTree() if noise is None else noise), solver, int(paths.info["seed"])


def _check_same(process: Process, paths: Paths, solver: str, key: int, along: _Along, places: Sequence[Place]) -> None:
    """Sample to the second output time, and look whether the paths are there."""
    cell, depth, first, count = places[0]
    steps = [_Step(cell, depth, first + i) for i in range(count)]
    x = paths.values[:, :2].detach()
    again = sample(
        process, x[:, 0], paths.times[:2], solver=solver, substeps=count, seed=key, noise=along.steps(steps)
    ).values
    reach = (again[:, 1] - x[:, 0]).abs().max()
    if float((again[:, 1] - x[:, 1]).abs().max()) > torch.finfo(x.dtype).eps ** 0.5 * float(reach):
        raise ValueError(
            f"these paths are not what this {type(process).__name__} gives with seed {key}: give the process, all rows "
            "in their order and (by noise=) the tree that they were sampled with, and select rows afterwards"
        )
