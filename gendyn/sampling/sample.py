r"""The one way anything is simulated: a process, where it starts, when to look.

.. math:: (f, g),\; x_0,\; t_1 < \dots < t_T \;\longmapsto\; X_{t_1}, \dots, X_{t_T}.

This is the door: it checks what is given, chooses a solver, lays out the steps, and divides the paths into chunks.
The loop itself is in :mod:`gendyn.sampling.runner`, and knows neither models nor particular solvers.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.data import Paths, Snapshots
from gendyn.data.checks import as_tensor, check_finite
from gendyn.data.storage import PathsWriter
from gendyn.randomness import Seed, as_seed
from gendyn.sampling.adjoint import checkpointed_outputs, graph_bytes, parameters_of, reversible_outputs
from gendyn.sampling.brownian_tree import BrownianTree
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.jumps.jump_process import JumpProcess, check_states
from gendyn.sampling.jumps.jump_times import JumpTimes, check_interruptions
from gendyn.sampling.jumps.run import JUMP_SOLVERS, run_jumps
from gendyn.sampling.noise import BrownianStream, Noise
from gendyn.sampling.process import Process, check_process, jumps_of, noise_dim
from gendyn.sampling.runner import Run, check_state
from gendyn.sampling.solvers import SOLVERS, DormandPrince, Solver
from gendyn.sampling.tiles import ROWS

__all__ = ["Gradient", "sample"]

Gradient = Literal["none", "backprop", "checkpoint", "reversible", "auto"]

_LARGE_GRAPH = 1_000_000_000
"""Bytes of a graph from which ``gradient="auto"`` takes checkpoints."""


def sample(
    process: Process | JumpProcess,
    x0: Tensor | Snapshots | Any,
    times: Tensor | Sequence[float] | NDArray[np.floating[Any]],
    *,
    solver: str | Solver | DormandPrince = "auto",
    step: float | None = None,
    substeps: int | None = None,
    seed: Seed = 0,
    noise: Literal["stream", "tree"] | Noise = "stream",
    gradient: Gradient = "none",
    parameters: Sequence[Tensor] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    save: Literal["times", "final"] = "times",
    chunk: int | None = None,
    to: str | Path | None = None,
    n_jobs: int = 1,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = False,
    names: Sequence[str] | None = None,
) -> Paths:
    """Simulate paths of a process.

    Parameters
    ----------
    process
        What moves, see :class:`gendyn.sampling.Process`, and may jump on its way, see
        :class:`gendyn.sampling.JumpSpec`; or what does nothing but jump, see :class:`gendyn.sampling.JumpProcess`, with
        solvers ``"skeleton"``, ``"direct_method"``, ``"uniformisation"``, ``"thinning"``, ``"tau_leaping"``.
    x0
        Start states ``(B, d)``; ``(d,)`` for one path; or a population at one time.
    times
        Output times, the first of which belongs to ``x0``: ``(T,)`` strictly increasing, or strictly decreasing for an
        ordinary differential equation run backward; ``(B, T)`` for times of each path's own, where padding repeats a
        path's last time.
    solver
        A name of :data:`gendyn.sampling.SOLVERS`, ``"dopri5"``, or an object with a ``step``. ``"auto"``: for an
        ordinary differential equation ``"dopri5"``, or ``"rk4"`` if a step is given; for additive noise ``"shark"``;
        for an Ito equation ``"milstein"`` where the process has ``diffusion_dx``, else ``"euler_maruyama"``; for a
        Stratonovich equation ``"heun"``.
    step, substeps
        Longest step, or steps per output interval, of a fixed-step solver; by default the process's own ``time_step``.
        Steps always end on output times.
    seed
        Seed or generator of the noise; a generator is advanced by one draw. The same seed gives the same paths, for any
        ``chunk`` and in any larger batch.
    noise
        ``"stream"``, the fastest; ``"tree"``, where a smaller step sees the same Brownian path; or an object such as
        :class:`~gendyn.sampling.BrownianTree` or :class:`~gendyn.sampling.AlphaStable`.
    gradient
        ``"none"`` builds no graph. The others let gradients flow to ``x0`` and the process's parameters, see
        :mod:`gendyn.sampling.adjoint`: ``"backprop"``, ``"checkpoint"``, ``"reversible"`` (with solver ``"ees25"``, its
        default, or ``"reversible_heun"``), ``"auto"``.
    parameters
        Tensors that a reversible gradient is wanted of; by default ``process.parameters()``.
    rtol, atol
        Tolerances of ``"dopri5"`` (1e-5 and 1e-6 by default).
    save
        ``"times"`` keeps all output times, ``"final"`` the last alone.
    chunk
        Paths that are simulated at once (rounded up to a multiple of 256); bounds the memory, does not show in the
        result of a fixed-step solver.
    to
        File ``.npz``, ``.parquet`` or ``.zarr`` to which chunks are written as they are done; the returned paths then
        read from that file.
    n_jobs
        Processes among which chunks are divided, by joblib (-1: all cores); any backend that ``joblib.parallel_config``
        names. Does not show in the result.
    device, dtype
        Where and in what type to simulate; by default those of ``x0``.
    progress
        Show a progress bar on stderr.
    names
        Names of the features.

    Returns
    -------
    Paths
        Values ``(B, T, d)``; ``values[:, 0]`` is ``x0`` exactly. ``info`` says which solver took how many steps and
        evaluations, with which step, seed and noise.

    Raises
    ------
    TypeError
        If ``process`` lacks members, or ``x0`` is not an array of numbers.
    ValueError
        If shapes, times, solver or options do not fit; the message says what does.
    FloatingPointError
        If a state stops being finite; the message names time, step and solver.

    Examples
    --------
    >>> from gendyn.sampling import ODE, SDE
    >>> decay = ODE(lambda t, x: -x, dim=1)
    >>> sample(decay, torch.ones(1, 1), [0.0, 1.0]).values[0, :, 0].tolist()
    [1.0, 0.36787...]
    >>> brownian = SDE(lambda t, x: torch.zeros_like(x), lambda t, x: torch.ones_like(x), dim=1)
    >>> paths = sample(brownian, torch.zeros(4000, 1), [0.0, 1.0, 2.0], step=1.0, seed=0)
    >>> paths.values[:, 2].var().item()
    1.9...
    """
    if hasattr(process, "rates"):
        given: dict[str, Any] = {
            "substeps": substeps,
            "rtol": rtol,
            "atol": atol,
            "parameters": parameters,
            "device": device,
        }
        given |= {"gradient": None if gradient == "none" else gradient, "noise": None if noise == "stream" else noise}
        _check_jumps(solver, given | {"dtype": dtype})
        return _sample_jumps(process, x0, times, str(solver), step, as_seed(seed), save, chunk, to, n_jobs, progress)
    states = _start_states(x0, times, device, dtype)
    grid = _output_times(times, len(states), process)
    _check_options(gradient, save, chunk, to, n_jobs)
    source = _choose_noise(noise)
    method = _choose_solver(solver, process, step, substeps, rtol, atol, grid, gradient, source)
    check_interruptions(process, method, source, gradient)
    first = grid[..., 0].to(states.dtype).to(states.device)
    # Paths that stop to jump have times of their own, whatever the grid.
    shared = grid.ndim == 1 and jumps_of(process) is None
    check_process(process, first if shared else first.expand(len(states))[:, None], states)
    layout: StepGrid | None = None
    made: dict[str, Any] = {}
    if not isinstance(method, DormandPrince):
        own = _own_step(process, method, step, substeps)
        made = {"step": own} if substeps is None else {"substeps": substeps}
        layout = StepGrid(grid, step=own, substeps=substeps)
        if process.noise_type != "none":
            layout = source.layout(layout)
            made["noise"] = getattr(source, "name", type(source).__name__)
    plan = _Plan(process, method, layout, grid, source, as_seed(seed), save, gradient, parameters)
    rows = len(states) if chunk is None and to is None and n_jobs == 1 else _chunk_rows(chunk, len(states), n_jobs)
    starts = range(0, len(states), rows)
    kept = grid if save == "times" else grid[..., -1:]
    total = layout.n_steps if layout is not None else grid.shape[-1] - 1
    with (
        torch.no_grad() if gradient == "none" else contextlib.nullcontext(),
        tqdm(total=total * len(starts), disable=not progress, desc="sample", unit="step", mininterval=0.5) as bar,
    ):
        parts: Iterable[tuple[Tensor, _Cost]]
        if n_jobs == 1:
            parts = (plan.run(states[s : s + rows], s, bar.update) for s in starts)
        else:
            jobs = (joblib.delayed(plan.run_alone)(states[s : s + rows], s) for s in starts)
            parts = _ticking(joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs), bar.update, total)
        cost, values = _Cost(), []
        if to is not None:
            with PathsWriter(to, kept, (len(states), kept.shape[-1], states.shape[1]), states.dtype, names) as writer:
                for part, spent in parts:
                    writer.append(part)
                    cost = cost.most(spent)
                writer.info = _info(cost, method, plan.key) | made
            return Paths.load(to)
        for part, spent in parts:
            values.append(part)
            cost = cost.most(spent)
    whole = values[0] if len(values) == 1 else torch.cat(values)
    return Paths(kept, whole, names=names, info=_info(cost, method, plan.key) | made)


@dataclass(frozen=True)
class _Cost:
    """What a run took, for each path: of an adaptive solver, which steps as its chunk needs, the largest."""

    n_steps: int = 0
    nfe_drift: int = 0
    nfe_diffusion: int = 0
    rejected: int = 0

    def most(self, other: _Cost) -> _Cost:
        """Return the larger of each."""
        return _Cost(*(max(getattr(self, n), getattr(other, n)) for n in self.__dataclass_fields__))


@dataclass(frozen=True)
class _Plan:
    """Everything about a simulation but the rows."""

    process: Process
    method: Solver | DormandPrince
    layout: StepGrid | None
    grid: Tensor
    source: Noise
    key: int
    save: str
    gradient: Gradient
    parameters: Sequence[Tensor] | None

    def run_alone(self, x0: Tensor, first_row: int) -> tuple[Tensor, _Cost]:
        """Return values and cost of some rows, in a process of its own."""
        with torch.no_grad():
            return self.run(x0, first_row, lambda count: None)

    def run(self, x0: Tensor, first_row: int, tick: Callable[[int], Any]) -> tuple[Tensor, _Cost]:
        """Return values ``(B, T, d)`` (or ``(B, 1, d)``) and cost of the rows from ``first_row`` on."""
        method = self.method
        if isinstance(method, DormandPrince):
            outcome = method.run(self.process, x0, self.grid, advance=lambda k: tick(1))
            check_state(outcome.values[-1], float(self.grid[-1]), outcome.steps, method.name)
            cost = _Cost(outcome.steps, outcome.drift_evaluations, 0, outcome.rejected)
            return self._stack(x0, list(outcome.values[1:])), cost
        if self.layout is None:
            raise ValueError("a fixed-step solver needs a grid of steps")
        run = self._run(method, self.layout, x0, first_row)
        steps = self.layout.n_steps + (run.jumps.extra_steps if run.jumps is not None else 0)
        cost = _Cost(steps, steps * method.drift_evaluations, steps * method.diffusion_evaluations)
        return self._stack(x0, self._outputs(run, tick)), cost

    def _run(self, method: Solver, layout: StepGrid, x0: Tensor, first_row: int) -> Run:
        grid, driver = layout.rows(first_row, first_row + len(x0)), None
        if self.process.noise_type != "none":
            shape = (len(x0), noise_dim(self.process))
            driver = self.source.start(self.key, grid, shape, first_row, x0.detach(), method.needs_area)
        jumps = None
        if jumps_of(self.process) is not None:
            jumps = JumpTimes(self.process, self.key, grid, len(x0), first_row, x0.detach(), method.needs_area)
        return Run(self.process, method, grid, driver, x0, jumps)

    def _outputs(self, run: Run, tick: Callable[[int], Any]) -> list[Tensor]:
        """Return the values at the output times after the first, with the graph that was asked for."""
        gradient = self.gradient
        if gradient == "auto":
            gradient = "backprop" if graph_bytes(run) < _LARGE_GRAPH else "checkpoint"
        if gradient == "checkpoint":
            return list(checkpointed_outputs(run, tick))
        if gradient == "reversible":
            return list(reversible_outputs(run, parameters_of(self.process, self.parameters), tick))
        if self.save == "final":
            last = run.x0
            for value in run.outputs(tick):
                last = value
            return [last]
        return list(run.outputs(tick))

    def _stack(self, x0: Tensor, outputs: list[Tensor]) -> Tensor:
        return outputs[-1][:, None] if self.save == "final" else torch.stack([x0, *outputs], dim=1)


def _check_jumps(solver: Any, given: dict[str, Any]) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} mean nothing to a jump process; leave them out")
    if not isinstance(solver, str):
        raise TypeError(f"the solver of a jump process is a name, one of {', '.join(JUMP_SOLVERS)}; got {solver!r}")


def _sample_jumps(
    process: Any,
    x0: Any,
    times: Any,
    solver: str,
    step: float | None,
    key: int,
    save: str,
    chunk: int | None,
    to: str | Path | None,
    n_jobs: int,
    progress: bool,
) -> Paths:
    """Simulate a jump process; the same door, chunks and file as for diffusions."""
    _check_options("none", save, chunk, to, n_jobs)
    states, grid = check_states(process, x0), as_tensor(times, "times").to(torch.float64)
    rows = (
        _chunk_rows(chunk, len(states), n_jobs) if chunk is not None or to is not None or n_jobs != 1 else len(states)
    )
    starts = range(0, len(states), rows)
    tasks = [
        (process, states[s : s + rows], grid if grid.ndim == 1 else grid[s : s + rows], solver, key, step, s)
        for s in starts
    ]
    names, labels = getattr(process, "names", None), getattr(process, "states", None)
    kept = grid if save == "times" else grid[..., -1:]
    with tqdm(total=len(states), disable=not progress, desc="sample", unit="path") as bar:
        if n_jobs == 1:
            parts: Iterable[tuple[Tensor, dict[str, Any]]] = (_jump_chunk(*task) for task in tasks)
        else:
            jobs = (joblib.delayed(_jump_chunk)(*task) for task in tasks)
            parts = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
        values, info = [], {"solver": solver, "seed": key}
        writer = None
        with contextlib.ExitStack() as stack:
            if to is not None:
                shape = (len(states), kept.shape[-1], states.shape[1])
                writer = stack.enter_context(PathsWriter(to, kept, shape, torch.int64, names, states=labels))
            for part, spent in parts:
                part = part[:, -1:] if save == "final" else part
                info = _joined(info, spent)
                bar.update(len(part))
                if writer is not None:
                    writer.append(part)
                    writer.info = info
                else:
                    values.append(part)
    if to is not None:
        return Paths.load(to)
    return Paths(kept, torch.cat(values), names=names, states=labels, info=info)


def _jump_chunk(
    process: Any, x0: Tensor, grid: Tensor, solver: str, key: int, step: float | None, first_row: int
) -> tuple[Tensor, dict[str, Any]]:
    return run_jumps(process, x0, grid, solver=solver, key=key, step=step, first_row=first_row)


def _joined(info: dict[str, Any], spent: dict[str, Any]) -> dict[str, Any]:
    """Return what all chunks took: events add up, steps are those of the longest."""
    joined = info | spent
    if "n_events" in spent:
        joined["n_events"] = info.get("n_events", 0) + spent["n_events"]
    if "n_steps" in spent:
        joined["n_steps"] = max(info.get("n_steps", 0), spent["n_steps"])
    return joined


def _ticking(
    parts: Iterable[tuple[Tensor, _Cost]], tick: Callable[[int], Any], count: int
) -> Iterable[tuple[Tensor, _Cost]]:
    for part in parts:
        tick(count)
        yield part


def _check_options(gradient: str, save: str, chunk: int | None, to: Any, n_jobs: int) -> None:
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient must be one of {', '.join(get_args(Gradient))}; got {gradient!r}")
    if gradient != "none" and (chunk is not None or to is not None or n_jobs != 1):
        raise ValueError("chunks are simulated without a graph; leave out chunk, to and n_jobs, or use gradient='none'")
    if save not in ("times", "final"):
        raise ValueError(f"save must be 'times' or 'final'; got {save!r}")
    if n_jobs == 0:
        raise ValueError("n_jobs must be the number of processes, or -1 for all cores; got 0")


def _choose_noise(noise: Any) -> Noise:
    if isinstance(noise, str):
        if noise not in ("stream", "tree"):
            raise ValueError(f"noise must be 'stream', 'tree' or an object such as BrownianTree; got {noise!r}")
        return BrownianStream() if noise == "stream" else BrownianTree()
    if not all(hasattr(noise, member) for member in ("layout", "start", "brownian")):
        raise TypeError(f"noise must be 'stream', 'tree' or an object such as BrownianTree; got {type(noise).__name__}")
    source: Noise = noise
    return source


def _start_states(x0: Any, times: Any, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """Return start states ``(B, d)`` that share no memory with the caller's, unless they carry a graph."""
    if isinstance(x0, Snapshots):
        if len(x0) != 1:
            raise ValueError(f"x0 must be a population at one time; got {len(x0)} times: pick one with snapshots.at(t)")
        start, first = float(x0.times[0]), float(torch.as_tensor(times, dtype=torch.float64).reshape(-1)[0])
        if abs(start - first) > 1e-6 * max(1.0, abs(start)):
            raise ValueError(f"x0 was measured at time {start:g}, but times start at {first:g}; make them equal")
        x0 = x0.samples[0]
    states = x0 if isinstance(x0, Tensor) else as_tensor(x0, "x0")
    if not states.is_floating_point():
        states = states.to(torch.float32)
    states = states.to(device=device, dtype=dtype)
    states = states[None] if states.ndim == 1 else states
    if states.ndim != 2 or 0 in states.shape:
        raise ValueError(f"x0 must have shape (B, d) or (d,) with at least one entry; got {tuple(states.shape)}")
    check_finite(states.detach(), "x0")
    return states


def _output_times(times: Any, batch: int, process: Process) -> Tensor:
    grid = as_tensor(times, "times").to(torch.float64)
    if grid.ndim not in (1, 2) or grid.shape[-1] < 2:
        raise ValueError(f"times must have shape (T,) or (B, T) with T at least 2; got {tuple(grid.shape)}")
    if grid.ndim == 2 and len(grid) != batch:
        raise ValueError(f"times of each path's own must have one row for each of {batch} paths; got {len(grid)}")
    check_finite(grid, "times")
    gaps = grid.diff(dim=-1)
    if grid.ndim == 2:
        if bool((gaps < 0).any()) or bool((gaps[:, 0] == 0).any()):
            raise ValueError("times of each path's own must increase (a path that has ended repeats its last time)")
        return grid
    if bool((gaps > 0).all()):
        return grid
    if bool((gaps < 0).all()):
        if getattr(process, "noise_type", "none") != "none" or jumps_of(process) is not None:
            raise ValueError(
                "decreasing times are for ordinary differential equations; to run a stochastic process backward, "
                "write its reversed drift as a process of its own"
            )
        return grid
    k = int(torch.nonzero(gaps * gaps[0].sign() <= 0)[0]) if float(gaps[0]) else 0
    raise ValueError(f"times must increase strictly; got {grid[k + 1]:g} after {grid[k]:g} at position {k + 1}")


def _choose_solver(
    solver: str | Solver | DormandPrince,
    process: Process,
    step: float | None,
    substeps: int | None,
    rtol: float | None,
    atol: float | None,
    grid: Tensor,
    gradient: str,
    source: Noise,
) -> Solver | DormandPrince:
    """Return the solver, or say why it does not fit."""
    if step is not None and substeps is not None:
        raise ValueError("give step or substeps, not both")
    if step is not None and not step > 0:
        raise ValueError(f"step must be positive; got {step}")
    if substeps is not None and (substeps != int(substeps) or substeps < 1):
        raise ValueError(f"substeps must be a whole number of at least 1; got {substeps}")
    kind = getattr(process, "noise_type", "none")
    fixed = step is not None or substeps is not None
    if solver == "auto":
        interrupted = grid.ndim == 2 or jumps_of(process) is not None
        solver = _default_solver(process, kind, fixed or interrupted, gradient, source)
    elif solver == "euler" and kind != "none":
        solver = "euler_maruyama"
    if solver == "dopri5":
        solver = DormandPrince(1e-5 if rtol is None else rtol, 1e-6 if atol is None else atol)
    elif rtol is not None or atol is not None:
        raise ValueError("rtol and atol belong to the adaptive solver 'dopri5'; a fixed-step solver takes step")
    if isinstance(solver, DormandPrince):
        if fixed:
            raise ValueError("dopri5 chooses its own steps; leave out step and substeps, or name a fixed-step solver")
        if gradient in ("checkpoint", "reversible"):
            raise ValueError(f"gradient {gradient!r} needs a fixed step: name a fixed-step solver and a step")
        if grid.ndim == 2:
            raise ValueError(
                "dopri5 needs times shared by all paths; use 'rk4' with a step for times of each path's own"
            )
    elif isinstance(solver, str):
        if solver not in SOLVERS:
            raise ValueError(f"solver must be one of auto, dopri5, {', '.join(SOLVERS)}; got {solver!r}")
        solver = SOLVERS[solver]
    if kind not in solver.noise_types or (kind not in ("none", "additive") and process.calculus not in solver.calculus):
        able = [name for name, s in SOLVERS.items() if kind in s.noise_types and process.calculus in s.calculus]
        raise ValueError(
            f"solver {solver.name!r} is not for {process.calculus} calculus with {kind} noise; use "
            f"{', '.join(able + (['dopri5'] if kind == 'none' else []))}, or convert with to_ito or to_stratonovich"
        )
    if kind != "none" and not source.brownian and solver.name != "euler_maruyama":
        raise ValueError(
            f"solver {solver.name!r} is right for Brownian increments alone; use 'euler_maruyama' with this noise"
        )
    if gradient == "reversible" and not hasattr(solver, "back"):
        raise ValueError(
            f"solver {solver.name!r} cannot go back; a reversible gradient needs 'ees25' or 'reversible_heun'"
        )
    if solver.name == "reversible_heun":
        warnings.warn(
            "reversible Heun is unstable over long times: its error grows exponentially for every step; 'ees25' is not",
            UserWarning,
            stacklevel=3,
        )
    return solver


def _default_solver(process: Process, kind: str, fixed: bool, gradient: str, source: Noise) -> str:
    if gradient == "reversible":
        return "ees25"
    if kind == "none":
        return "rk4" if fixed else "dopri5"
    if not source.brownian:
        return "euler_maruyama"
    if kind == "additive":
        return "shark"
    if process.calculus == "stratonovich":
        return "heun"
    return "milstein" if kind in ("diagonal", "scalar") and hasattr(process, "diffusion_dx") else "euler_maruyama"


def _own_step(process: Process, method: Solver, step: float | None, substeps: int | None) -> float | None:
    if step is not None or substeps is not None:
        return step
    own = getattr(process, "time_step", None)
    if own is None:
        raise ValueError(
            f"solver {method.name!r} needs a step: give step= (a length of time) or substeps= (steps per output "
            f"interval); {type(process).__name__} names no time_step of its own"
        )
    return float(own)


def _chunk_rows(chunk: int | None, n: int, n_jobs: int) -> int:
    if chunk is None:
        chunk = 16_384 if n_jobs == 1 else min(16_384, -(-n // joblib.effective_n_jobs(n_jobs)))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 path; got {chunk}")
    return min(-(-chunk // ROWS) * ROWS, -(-n // ROWS) * ROWS)


def _info(cost: _Cost, method: Solver | DormandPrince, key: int) -> dict[str, Any]:
    return {
        "solver": method.name,
        "n_steps": cost.n_steps,
        "nfe_drift": cost.nfe_drift,
        "nfe_diffusion": cost.nfe_diffusion,
        "rejected": cost.rejected,
        "seed": key,
    }
