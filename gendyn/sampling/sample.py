r"""The one way anything is simulated: a process, where it starts, when to look.

.. math:: (f, g),\; x_0,\; t_1 < \dots < t_T \;\longmapsto\; X_{t_1}, \dots, X_{t_T}.

The loop knows neither models nor particular solvers. It lays out the steps, draws the noise, keeps
the states at the output times, and looks now and then whether they are still numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.data import Paths, Snapshots
from gendyn.data.checks import as_tensor, check_finite
from gendyn.data.storage import PathsWriter
from gendyn.randomness import Seed, as_seed
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import ROWS, BrownianStream
from gendyn.sampling.process import Process, check_process, noise_dim
from gendyn.sampling.solvers import SOLVERS, DormandPrince, Solver

__all__ = ["Gradient", "sample"]

Gradient = Literal["none", "backprop"]

_CHECK_EVERY = 64
"""Steps between looks at whether the state is finite."""

_NOISE_STEPS = 32
"""Steps whose normals are drawn at once; larger blocks fall out of the cache."""


@dataclass
class _Cost:
    """What a run took, for each path: of an adaptive solver, which steps as its chunk needs, the largest."""

    n_steps: int = 0
    nfe_drift: int = 0
    nfe_diffusion: int = 0
    rejected: int = 0


def sample(
    process: Process,
    x0: Tensor | Snapshots | Any,
    times: Tensor | Sequence[float] | NDArray[np.floating[Any]],
    *,
    solver: str | Solver | DormandPrince = "auto",
    step: float | None = None,
    substeps: int | None = None,
    seed: Seed = 0,
    gradient: Gradient = "none",
    rtol: float | None = None,
    atol: float | None = None,
    save: Literal["times", "final"] = "times",
    chunk: int | None = None,
    to: str | Path | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = False,
    names: Sequence[str] | None = None,
) -> Paths:
    """Simulate paths of a process.

    Parameters
    ----------
    process
        What moves, see :class:`gendyn.sampling.Process`.
    x0
        Start states ``(B, d)``; ``(d,)`` for one path; or a population at one time.
    times
        Output times, the first of which belongs to ``x0``: ``(T,)`` strictly increasing, or strictly decreasing for an
        ordinary differential equation run backward; ``(B, T)`` for times of each path's own, where padding repeats a
        path's last time.
    solver
        ``"auto"``: for an ordinary differential equation ``"dopri5"``, or ``"rk4"`` if a step is given; for an Ito
        equation ``"euler_maruyama"``. Also ``"euler"``, ``"midpoint"``, ``"heun"``, or an object with a ``step``.
    step, substeps
        Longest step, or steps per output interval, of a fixed-step solver; by default the process's own ``time_step``.
        Steps always end on output times.
    seed
        Seed or generator of the noise; a generator is advanced by one draw. The same seed gives the same paths, for any
        ``chunk`` and in any larger batch.
    gradient
        ``"none"`` builds no graph; ``"backprop"`` lets gradients flow to ``x0`` and the process's parameters.
    rtol, atol
        Tolerances of ``"dopri5"`` (1e-5 and 1e-6 by default).
    save
        ``"times"`` keeps all output times, ``"final"`` the last alone.
    chunk
        Paths that are simulated at once (rounded up to a multiple of 256); bounds the memory, does not show in the
        result of a fixed-step solver.
    to
        File ``.npz`` to which chunks are written as they are done; the returned paths then read from that file.
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
        evaluations.

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
    states = _start_states(x0, times, device, dtype)
    grid = _output_times(times, len(states), process)
    method = _choose_solver(solver, process, step, substeps, rtol, atol, grid)
    if gradient not in ("none", "backprop"):
        raise ValueError(f"gradient must be 'none' or 'backprop'; got {gradient!r}")
    if gradient == "backprop" and (chunk is not None or to is not None):
        raise ValueError("chunks are simulated without a graph; leave out chunk and to, or use gradient='none'")
    if save not in ("times", "final"):
        raise ValueError(f"save must be 'times' or 'final'; got {save!r}")
    first = grid[..., 0].to(states.dtype).to(states.device)
    check_process(process, first if grid.ndim == 1 else first[:, None], states)
    if isinstance(method, DormandPrince):
        layout = None
    else:
        if step is None and substeps is None:
            step = _own_step(process, method)
        layout = StepGrid(grid, step=step, substeps=substeps)
    key = as_seed(seed)
    rows = len(states) if chunk is None and to is None else _chunk_rows(chunk, len(states))
    cost = _Cost()
    runner = _Runner(process, method, layout, grid, key, save, cost)
    total = (layout.n_steps if layout is not None else grid.shape[-1] - 1) * -(-len(states) // rows)
    kept = grid if save == "times" else grid[..., -1:]
    with (
        contextlib.nullcontext() if gradient == "backprop" else torch.no_grad(),
        tqdm(total=total, disable=not progress, desc="sample", unit="step", mininterval=0.5) as bar,
    ):
        if to is not None:
            with PathsWriter(to, kept, (len(states), kept.shape[-1], states.shape[1]), states.dtype, names) as writer:
                for start in range(0, len(states), rows):
                    writer.append(runner.run(states[start : start + rows], start, bar.update))
                writer.info = _info(cost, method, key)
            return Paths.load(to)
        parts = [runner.run(states[s : s + rows], s, bar.update) for s in range(0, len(states), rows)]
    values = parts[0] if len(parts) == 1 else torch.cat(parts)
    return Paths(kept, values, names=names, info=_info(cost, method, key))


@dataclass
class _Runner:
    """One run of the loop over some rows."""

    process: Process
    method: Solver | DormandPrince
    layout: StepGrid | None
    grid: Tensor
    key: int
    save: str
    cost: _Cost

    def run(self, x0: Tensor, first_row: int, advance: Callable[[int], Any]) -> Tensor:
        """Return values ``(B, T, d)`` (or ``(B, 1, d)``) of the rows from ``first_row`` on."""
        if isinstance(self.method, DormandPrince):
            outcome = self.method.run(self.process, x0, self.grid, advance=lambda k: advance(1))
            self.cost.n_steps = max(self.cost.n_steps, outcome.steps)
            self.cost.nfe_drift = max(self.cost.nfe_drift, outcome.drift_evaluations)
            self.cost.rejected = max(self.cost.rejected, outcome.rejected)
            _check_state(outcome.values[-1], float(self.grid[-1]), outcome.steps, self.method.name)
            return outcome.values[-1][:, None] if self.save == "final" else torch.stack(outcome.values, dim=1)
        return self._fixed(x0, first_row, advance)

    def _fixed(self, x0: Tensor, first_row: int, advance: Callable[[int], Any]) -> Tensor:
        method, process, layout = self.method, self.process, self.layout
        if layout is None or isinstance(method, DormandPrince):
            raise ValueError("a fixed-step solver needs a grid of steps")
        layout = layout.rows(first_row, first_row + len(x0))
        noise = self._noise(x0, first_row)
        x, saved, count = x0, [x0], 0
        for interval in layout:
            times = interval.times.to(dtype=x.dtype, device=x.device)
            h = interval.step if isinstance(interval.step, float) else interval.step.to(dtype=x.dtype, device=x.device)
            root = h**0.5 if isinstance(h, float) else h.sqrt()
            normals: Tensor | None = None
            for k in range(len(interval)):
                if noise is not None:
                    if k % _NOISE_STEPS == 0:
                        normals = noise.normals(min(_NOISE_STEPS, len(interval) - k)) * root
                    dw = None if normals is None else normals[k % _NOISE_STEPS]
                else:
                    dw = None
                x = method.step(process, times[k], h, x, dw)
                count += 1
                if count % _CHECK_EVERY == 0:
                    _check_state(x, float(interval.times[k + 1].max()), count, method.name)
            advance(len(interval))
            if self.save == "times":
                saved.append(x)
        _check_state(x, float(self.grid[..., -1].max()), count, method.name)
        self.cost.n_steps = count
        self.cost.nfe_drift = count * method.drift_evaluations
        self.cost.nfe_diffusion = count * method.diffusion_evaluations
        return x[:, None] if self.save == "final" else torch.stack(saved, dim=1)

    def _noise(self, x0: Tensor, first_row: int) -> BrownianStream | None:
        if self.process.noise_type == "none":
            return None
        columns = noise_dim(self.process)
        return BrownianStream(self.key, len(x0), columns, first_row=first_row, dtype=x0.dtype, device=x0.device)


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
        if getattr(process, "noise_type", "none") != "none":
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
        if kind == "none":
            solver = "rk4" if fixed or grid.ndim == 2 else "dopri5"
        elif process.calculus == "ito" or kind == "additive":
            solver = "euler_maruyama"
        else:
            raise ValueError(
                f"no solver here is right for Stratonovich calculus with {kind} noise; write the process in Ito form"
            )
    if solver == "dopri5":
        solver = DormandPrince(1e-5 if rtol is None else rtol, 1e-6 if atol is None else atol)
    elif rtol is not None or atol is not None:
        raise ValueError("rtol and atol belong to the adaptive solver 'dopri5'; a fixed-step solver takes step")
    if isinstance(solver, DormandPrince):
        if fixed:
            raise ValueError("dopri5 chooses its own steps; leave out step and substeps, or name a fixed-step solver")
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
            f"{', '.join(able + (['dopri5'] if kind == 'none' else [])) or 'the Ito form of the process'}"
        )
    return solver


def _own_step(process: Process, method: Solver) -> float:
    own = getattr(process, "time_step", None)
    if own is None:
        raise ValueError(
            f"solver {method.name!r} needs a step: give step= (a length of time) or substeps= (steps per output "
            f"interval); {type(process).__name__} names no time_step of its own"
        )
    return float(own)


def _chunk_rows(chunk: int | None, n: int) -> int:
    if chunk is None:
        chunk = 16_384
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 path; got {chunk}")
    return min(-(-chunk // ROWS) * ROWS, -(-n // ROWS) * ROWS)


def _check_state(x: Tensor, t: float, step: int, name: str) -> None:
    if not bool(torch.isfinite(x.detach()).all()):
        rows = torch.nonzero(~torch.isfinite(x.detach()).all(1)).flatten()
        raise FloatingPointError(
            f"the state is not finite any more in {len(rows)} of {len(x)} paths by t={t:.6g} (step {step}, solver "
            f"{name}); take a smaller step, or look at drift and diffusion there"
        )


def _info(cost: _Cost, method: Solver | DormandPrince, key: int) -> dict[str, Any]:
    return {
        "solver": method.name,
        "n_steps": cost.n_steps,
        "nfe_drift": cost.nfe_drift,
        "nfe_diffusion": cost.nfe_diffusion,
        "rejected": cost.rejected,
        "seed": key,
    }
