"""Running a jump process: on a grid of times, or event by event."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, check_times, exact_times
from gendyn.randomness import Seed, as_seed
from gendyn.sampling.grid import check_own_times
from gendyn.sampling.jumps.direct_method import direct_method
from gendyn.sampling.jumps.jump_paths import JumpPaths
from gendyn.sampling.jumps.jump_process import JumpProcess, RateMatrix, ReactionNetwork, check_states
from gendyn.sampling.jumps.segments import Segment, fill_grid, gather_events
from gendyn.sampling.jumps.skeleton import skeleton
from gendyn.sampling.jumps.tau_leaping import tau_leaping
from gendyn.sampling.jumps.thinning import thinning
from gendyn.sampling.jumps.uniformisation import uniformisation
from gendyn.sampling.jumps.uniforms import UniformStream
from gendyn.sampling.tiles import ROWS

__all__ = ["JUMP_SOLVERS", "run_jumps", "sample_events"]

_EventSolver = Callable[[JumpProcess, Tensor, Tensor, float, UniformStream], Iterator[Segment]]

_EVENT_SOLVERS: dict[str, _EventSolver] = {
    "direct_method": direct_method,
    "uniformisation": uniformisation,
    "thinning": thinning,
}

JUMP_SOLVERS = (*_EVENT_SOLVERS, "skeleton", "tau_leaping")
"""Names of the solvers of jump processes."""

_ROWS_AT_ONCE = 4096


def run_jumps(
    process: JumpProcess,
    x0: ArrayLike,
    times: ArrayLike,
    *,
    solver: str = "auto",
    key: int,
    step: float | None = None,
    first_row: int = 0,
    chunk_rows: int | None = None,
    advance: Callable[[int], Any] | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """Simulate a jump process on a grid of times.

    Parameters
    ----------
    process
        What jumps.
    x0
        Start states ``(B, d)``, whole numbers; ``(d,)`` for one path, ``(B,)`` where ``d`` is 1.
    times
        Output times ``(T,)``, the first of which belongs to ``x0``; or ``(B, T)`` of each path's own, where padding
        repeats a path's last time.
    solver
        ``"auto"``, or one of ``"skeleton"``, ``"direct_method"``, ``"uniformisation"``, ``"thinning"``,
        ``"tau_leaping"``. Auto is the skeleton for a constant rate matrix, the direct method for other rates that do
        not depend on time, else thinning.
    key
        Root of the randomness.
    step
        Longest leap of ``"tau_leaping"``; by default the method chooses.
    first_row
        Number of the first path, a multiple of 256.
    chunk_rows
        Paths at once, rounded up to a multiple of 256; does not show in the result.
    advance
        Called with the number of paths done.

    Returns
    -------
    tuple
        Values ``(B, T, d)`` in int64, on the CPU; and what was done: ``solver``, ``n_steps`` (of the path that took
        most, for the skeleton and tau-leaping), ``n_events`` (jumps of all paths, for the others), ``seed``.

    Raises
    ------
    TypeError
        If the process lacks members, or ``x0`` or ``times`` are not numbers.
    ValueError
        If states, times, solver or rates do not fit; the message says what does.

    Examples
    --------
    >>> switch = RateMatrix([[-1.5, 1.5], [0.5, -0.5]])
    >>> values, info = run_jumps(switch, torch.zeros(1000, 1), [0.0, 0.5, 1.0], key=0)
    >>> values.shape, info["solver"]
    (torch.Size([1000, 3, 1]), 'skeleton')
    """
    states = check_states(process, x0)
    grid = _check_grid(times, len(states))
    name = _choose(solver, process, shared=grid.ndim == 1)
    if step is not None and name != "tau_leaping":
        raise ValueError(f"step belongs to solver 'tau_leaping'; {name!r} needs none: leave it out")
    if step is not None and not (math.isfinite(step) and step > 0):
        raise ValueError(f"step must be positive; got {step}")
    size = _ROWS_AT_ONCE if chunk_rows is None else chunk_rows
    if size < 1:
        raise ValueError(f"chunk_rows must be at least 1 path; got {chunk_rows}")
    size = -(-size // ROWS) * ROWS
    values = states.new_empty((len(states), grid.shape[-1], states.shape[1]))
    n_steps = n_events = 0
    for begin in range(0, len(states), size):
        part = slice(begin, begin + size)
        x, own = states[part], grid if grid.ndim == 1 else grid[part]
        uniforms = UniformStream(key, len(x), _width(process, name, step), first_row=first_row + begin)
        if name == "skeleton":
            values[part] = skeleton(process, x, own, uniforms)
            n_steps = len(grid) - 1
        elif name == "tau_leaping":
            values[part], leaps = tau_leaping(process, x, own, uniforms, step=step)
            n_steps = max(n_steps, leaps)
        else:
            segments = _EVENT_SOLVERS[name](process, x, own[..., 0].expand(len(x)), float(own.max()), uniforms)
            n_events += fill_grid(segments, own, values[part])
        if advance is not None:
            advance(len(x))
    cost = {"n_events": n_events} if name in _EVENT_SOLVERS else {"n_steps": n_steps}
    return values, {"solver": name, **cost, "seed": key}


def sample_events(
    process: JumpProcess,
    x0: ArrayLike,
    end: float,
    *,
    start: float = 0.0,
    solver: str = "auto",
    seed: Seed = 0,
) -> JumpPaths:
    """Simulate a jump process and keep every event.

    Parameters
    ----------
    process
        What jumps, see :class:`gendyn.sampling.jumps.RateMatrix` and :class:`gendyn.sampling.jumps.ReactionNetwork`.
    x0
        Start states ``(B, d)``, whole numbers; ``(d,)`` for one path, ``(B,)`` where ``d`` is 1.
    end
        Time up to which to simulate.
    start
        Time of the start states.
    solver
        ``"auto"``, ``"direct_method"``, ``"uniformisation"`` or ``"thinning"``, all exact. Auto is the direct method
        for rates that do not depend on time, else thinning.
    seed
        Seed or generator. The path of row ``i`` depends on the seed, ``i`` and the other arguments alone.

    Returns
    -------
    JumpPaths
        All jumps; ``at(times)`` reads the states at any times.

    Raises
    ------
    TypeError
        If the process lacks members, or ``x0`` is not an array of numbers.
    ValueError
        If states, times, solver or rates do not fit; the message says what does.

    Examples
    --------
    >>> arrivals = ReactionNetwork([[1]], lambda t, x: torch.full_like(x, 3.0))
    >>> paths = sample_events(arrivals, torch.zeros(2000, 1), end=2.0, seed=1)
    >>> paths.counts.double().mean().item()
    6.0...
    """
    states = check_states(process, x0)
    if not (math.isfinite(start) and math.isfinite(end) and start < end):
        raise ValueError(f"end must be a time after start; got {end:g} after {start:g}")
    name = _choose(solver, process, shared=False)
    if name not in _EVENT_SOLVERS:
        raise ValueError(
            f"solver {name!r} keeps no events; use one of {', '.join(_EVENT_SOLVERS)}, or sample on a grid"
        )
    key = as_seed(seed)
    uniforms = UniformStream(key, len(states), _width(process, name, None))
    begin = torch.full((len(states),), float(start), dtype=torch.float64)
    segments = _EVENT_SOLVERS[name](process, states, begin, float(end), uniforms)
    times, visited, counts = gather_events(segments, states)
    return JumpPaths(
        times,
        visited,
        counts,
        start=start,
        end=end,
        names=getattr(process, "names", None),
        states=getattr(process, "states", None),
        info={"solver": name, "n_events": int(counts.sum()), "seed": key},
    )


def _choose(solver: str, process: JumpProcess, *, shared: bool) -> str:
    if solver == "auto":
        if not process.autonomous:
            return "thinning"
        return "skeleton" if shared and isinstance(process, RateMatrix) else "direct_method"
    if solver not in JUMP_SOLVERS:
        raise ValueError(f"solver of a jump process must be one of auto, {', '.join(JUMP_SOLVERS)}; got {solver!r}")
    return solver


def _width(process: JumpProcess, name: str, step: float | None) -> int:
    """Return how many uniform numbers an event or step takes."""
    if name == "tau_leaping" and isinstance(process, ReactionNetwork):
        return process.n_reactions + (2 if step is None else 0)
    return 1 if name == "skeleton" else 2


def _check_grid(times: ArrayLike, batch: int) -> Tensor:
    grid = exact_times(times)
    if grid.ndim not in (1, 2) or grid.shape[-1] < 2:
        raise ValueError(f"times must have shape (T,) or (B, T) with T at least 2; got {tuple(grid.shape)}")
    if grid.ndim == 1:
        return check_times(grid)
    check_own_times(grid, batch)
    return grid
