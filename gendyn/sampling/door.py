"""What is checked and chosen before anything moves: start states, times, noise, solver, step."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gendyn.data import Snapshots
from gendyn.data.checks import as_tensor, check_finite, exact_times
from gendyn.sampling.adaptive import Adaptive
from gendyn.sampling.brownian_tree import BrownianTree
from gendyn.sampling.grid import check_own_times
from gendyn.sampling.noise import BrownianStream, Noise
from gendyn.sampling.process import Process, check_repeatable, is_diagonal, jumps_of, refuse_jumps
from gendyn.sampling.solvers import SOLVERS, DormandPrince, Solver

__all__ = [
    "Gradient",
    "accurate_solver",
    "check_diagonal_noise",
    "check_gradient",
    "check_options",
    "check_starts",
    "choose_noise",
    "choose_solver",
    "graph_mode",
    "output_times",
    "own_step",
    "population",
    "start_states",
]

Gradient = Literal["none", "backprop", "checkpoint", "reversible", "auto"]


def check_options(gradient: str, save: str, chunk: Any, to: Any, n_jobs: Any) -> None:
    """Say which options do not go together."""
    if gradient not in get_args(Gradient):
        raise ValueError(f"gradient must be one of {', '.join(get_args(Gradient))}; got {gradient!r}")
    if gradient != "none" and (chunk is not None or to is not None or n_jobs != 1):
        raise ValueError("chunks are simulated without a graph; leave out chunk, to and n_jobs, or use gradient='none'")
    if save not in ("times", "final"):
        raise ValueError(f"save must be 'times' or 'final'; got {save!r}")
    if chunk is not None and not (isinstance(chunk, (int, np.integer)) and chunk >= 1):
        raise ValueError(f"chunk must be a whole number of at least 1 path; got {chunk}")
    if not isinstance(n_jobs, (int, np.integer)) or n_jobs == 0:
        raise ValueError(f"n_jobs must be the number of processes, or -1 for all cores; got {n_jobs}")


def choose_noise(noise: Any) -> Noise:
    """Return the noise, by its name or as it is."""
    if isinstance(noise, str):
        if noise not in ("stream", "tree"):
            raise ValueError(f"noise must be 'stream', 'tree' or an object such as BrownianTree; got {noise!r}")
        return BrownianStream() if noise == "stream" else BrownianTree()
    if not all(hasattr(noise, member) for member in ("layout", "start", "brownian")):
        raise TypeError(f"noise must be 'stream', 'tree' or an object such as BrownianTree; got {type(noise).__name__}")
    source: Noise = noise
    return source


def start_states(x0: Any, times: Any, device: torch.device | str | None, dtype: Any) -> Tensor:
    """Return start states ``(B, d)`` that share no memory with the caller's, unless they carry a graph."""
    if isinstance(x0, Snapshots):
        x0 = population(x0, times)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating type of torch, such as torch.float64; got {dtype}")
    states = x0 if isinstance(x0, Tensor) else as_tensor(x0, "x0")
    if states.is_complex():
        raise TypeError(f"x0 must hold real numbers; got {states.dtype}: give real and imaginary parts as features")
    if not states.is_floating_point():
        if hasattr(x0, "dtype"):
            warnings.warn(
                f"x0 holds integers ({states.dtype}) and is moved as float32; give floats, or for counts that jump a "
                "JumpProcess",
                UserWarning,
                stacklevel=3,
            )
        states = states.to(torch.float32)
    states = states.to(device=device, dtype=dtype)
    states = states[None] if states.ndim == 1 else states
    if states.ndim != 2 or 0 in states.shape:
        flat = ": flatten the leading axes with x0.reshape(-1, d)" if states.ndim > 2 else ""
        raise ValueError(f"x0 must have shape (B, d) or (d,) with at least one entry; got {tuple(states.shape)}{flat}")
    check_finite(states.detach(), "x0")
    return states


def population(x0: Snapshots, times: Any) -> Tensor:
    """Return the states ``(B, d)`` of a population at the first of the times."""
    if len(x0) != 1:
        raise ValueError(f"x0 must be a population at one time; got {len(x0)} times: pick one with snapshots.at(t)")
    start, first = float(x0.times[0]), exact_times(times).reshape(-1)[:1]
    if len(first) and abs(start - float(first)) > 1e-6 * max(1.0, abs(start)):
        raise ValueError(f"x0 was measured at time {start:g}, but times start at {float(first):g}; make them equal")
    return x0.samples[0]


def output_times(times: Any, batch: int, process: Process) -> Tensor:
    """Return the output times ``(T,)`` or ``(B, T)``, float64."""
    grid = exact_times(times)
    if grid.ndim not in (1, 2) or grid.shape[-1] < 2:
        raise ValueError(f"times must have shape (T,) or (B, T) with T at least 2; got {tuple(grid.shape)}")
    if grid.ndim == 2:
        check_own_times(grid, batch)
        return grid
    check_finite(grid, "times")
    gaps = grid.diff()
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


def choose_solver(
    solver: str | Solver | DormandPrince,
    process: Process,
    step: float | None,
    substeps: int | None,
    rtol: float | None,
    atol: float | None,
    grid: Tensor,
    gradient: str,
    source: Noise,
) -> Solver | DormandPrince | Adaptive:
    """Return the solver, or say why it does not fit."""
    _check_steps(step, substeps)
    kind = getattr(process, "noise_type", "none")
    fixed = step is not None or substeps is not None
    tolerant = rtol is not None or atol is not None
    if solver == "auto":
        interrupted = grid.ndim == 2 or jumps_of(process) is not None
        default = _default_solver(process, kind, fixed or interrupted, tolerant, gradient, source)
        solver = getattr(process, "solver", None) or default
    elif solver == "euler" and kind != "none":
        solver = "euler_maruyama"
    if solver == "dopri5":
        solver = DormandPrince(1e-5 if rtol is None else rtol, 1e-6 if atol is None else atol)
    elif tolerant and kind == "none":
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
    elif not hasattr(solver, "noise_types") or not hasattr(solver, "step") or isinstance(solver, type):
        raise TypeError(f"solver must be a name, or an object with a step such as SOLVERS['heun']; got {solver!r}")
    _check_fits(solver, process, kind, gradient, source)
    if tolerant and not isinstance(solver, DormandPrince):
        return _adapted(solver, process, rtol, atol, grid, gradient, source)
    return solver


def _check_steps(step: Any, substeps: Any) -> None:
    if step is not None and substeps is not None:
        raise ValueError("give step or substeps, not both")
    if step is not None and not float(step) > 0:
        raise ValueError(f"step must be positive; got {step}")
    if substeps is not None and not (isinstance(substeps, (int, np.integer)) and substeps >= 1):
        raise ValueError(f"substeps must be a whole number of at least 1; got {substeps}")


def _check_fits(solver: Solver | DormandPrince, process: Process, kind: str, gradient: str, source: Noise) -> None:
    smooth = getattr(source, "stratonovich", False)
    if kind not in ("none", "additive") and process.calculus == "stratonovich" and not (source.brownian or smooth):
        raise ValueError(
            f"{type(source).__name__} drives Ito equations alone: integrals of Stratonovich's are for Brownian motion"
        )
    if kind not in solver.noise_types or (kind not in ("none", "additive") and process.calculus not in solver.calculus):
        able = [name for name, s in SOLVERS.items() if kind in s.noise_types and process.calculus in s.calculus]
        raise ValueError(
            f"solver {solver.name!r} is not for {process.calculus} calculus with {kind} noise; use "
            f"{', '.join(able + (['dopri5'] if kind == 'none' else []))}, or convert with to_ito or to_stratonovich"
        )
    able = ["euler_maruyama", *(("heun", "euler_heun") if smooth else ())]
    if kind != "none" and not source.brownian and solver.name not in able:
        raise ValueError(
            f"solver {solver.name!r} is right for Brownian increments alone; use {' or '.join(map(repr, able))} with "
            "this noise"
        )
    if gradient == "reversible" and not hasattr(solver, "back"):
        raise ValueError(
            f"solver {solver.name!r} cannot go back; a reversible gradient needs 'ees25' or 'reversible_heun'"
        )
    if solver.name == "reversible_heun":
        warnings.warn(
            "reversible Heun is unstable over long times: its error grows exponentially for every step; 'ees25' is not",
            UserWarning,
            stacklevel=5,
        )


def _adapted(
    solver: Solver,
    process: Process,
    rtol: float | None,
    atol: float | None,
    grid: Tensor,
    gradient: str,
    source: Noise,
) -> Adaptive:
    """Return a solver with steps of its own choice on a Brownian tree, or say what keeps it from that."""
    if not isinstance(source, BrownianTree):
        raise ValueError(
            "adaptive steps need noise='tree', where a rejected step does not change the path; for other noise give "
            "step and leave out rtol and atol"
        )
    if gradient in ("checkpoint", "reversible"):
        raise ValueError(f"gradient {gradient!r} needs a fixed step: leave out rtol and atol")
    if grid.ndim == 2:
        raise ValueError("adaptive steps need times shared by all paths; for times of each path's own give step")
    refuse_jumps(process, "a solver with adaptive steps")
    adaptive = Adaptive(solver, 1e-3 if rtol is None else rtol, 1e-3 if atol is None else atol)
    adaptive.check(process)
    return adaptive


def check_gradient(process: Process, t: Tensor, states: Tensor, gradient: str) -> None:
    """Say what keeps a gradient from being had, or from being right."""
    if gradient == "none" and states.requires_grad and torch.is_grad_enabled():
        warnings.warn(
            "x0 asks for a gradient, but gradient='none' builds no graph; use gradient='backprop' or another, or "
            "x0.detach()",
            UserWarning,
            stacklevel=4,
        )
    if gradient in ("checkpoint", "reversible", "auto"):
        check_repeatable(process, t, states)


def check_diagonal_noise(
    process: Process, method: Solver | DormandPrince | Adaptive, t: Tensor, states: Tensor
) -> None:
    """Say whether a solver, or a conversion, rests on a diagonal diffusion that is none."""
    step = method.method if isinstance(method, Adaptive) else method
    asked = getattr(step, "needs_diagonal", False) or getattr(process, "needs_diagonal", False)
    if process.noise_type != "diagonal" or states.shape[1] == 1 or not asked or is_diagonal(process, t, states):
        return
    found = "an entry of the diffusion, which is declared diagonal, changes with another coordinate"
    if getattr(process, "needs_diagonal", False):
        raise ValueError(f"{found}: converted as diagonal noise the drift would be wrong; declare noise_type 'general'")
    if step.name == "milstein" and process.calculus == "stratonovich":
        raise ValueError(f"{found}: 'milstein' would tend to a wrong limit; use 'heun'")
    warnings.warn(
        f"{found}: solver {step.name!r} has strong order 1/2 then; use a cheaper one", UserWarning, stacklevel=4
    )


def check_starts(process: Process, method: Solver | DormandPrince | Adaptive, t: Tensor, states: Tensor) -> None:
    """Say which start states a solver cannot move."""
    half = states.dtype not in (torch.float32, torch.float64)
    if half and isinstance(method, (DormandPrince, Adaptive)):
        raise ValueError(
            f"solver {method.name!r} cannot hold its tolerances in {states.dtype}; give dtype=torch.float32, or a step"
        )
    if method.name != "log_euler":
        return
    stuck = states == 0
    if not bool(stuck.any()):
        return
    with torch.no_grad():
        moves = process.drift(t, states) != 0
        if process.noise_type != "none":
            moves = moves | (process.diffusion(t, states) != 0)
    if bool((stuck & moves).any()):
        raise ValueError(
            "x0 holds zeros where drift or diffusion are not zero, and solver 'log_euler' never leaves zero; start "
            "elsewhere, or use another solver"
        )


def _default_solver(process: Process, kind: str, fixed: bool, tolerant: bool, gradient: str, source: Noise) -> str:
    if gradient == "reversible":
        return "ees25"
    if kind == "none":
        return "rk4" if fixed else "dopri5"
    if not source.brownian:
        curved = process.calculus == "stratonovich" and kind != "additive"
        return "heun" if curved else "euler_maruyama"
    if kind == "additive":
        return "shark"
    if process.calculus == "stratonovich":
        return "heun"
    # Euler's steps cannot be adapted.
    milstein = kind in ("diagonal", "scalar") and (tolerant or hasattr(process, "diffusion_dx"))
    return "milstein" if milstein else "euler_maruyama"


def accurate_solver(process: Process, t: Tensor, x: Tensor) -> str:
    """Return the solver for a process that turns many times: ``"sri2"`` where it may be, else ``"auto"``.

    Steps of Euler and Milstein move an oscillator out of phase in proportion to their length, however little noise it
    has. Those of SRI2, of weak order two, keep the phase, for four times the evaluations. Additive noise has such a
    solver by default.

    Parameters
    ----------
    process
        What is to be sampled.
    t, x
        A time and states ``(n, d)`` at which it is looked at.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion, Repressilator
    >>> t, x = torch.tensor(0.0), torch.ones(2, 3)
    >>> accurate_solver(Repressilator(), t, x), accurate_solver(BrownianMotion(), t, x[:, :1])
    ('sri2', 'auto')
    """
    fits = process.calculus == "ito" and process.noise_type in ("diagonal", "scalar")
    if not fits or getattr(process, "solver", None) is not None:
        return "auto"
    return "sri2" if process.noise_type == "scalar" or is_diagonal(process, t, x) else "auto"


def own_step(process: Process, method: Solver, step: float | None, substeps: int | None) -> float | None:
    """Return the step that is given, or else the process's own."""
    if step is not None or substeps is not None:
        return None if step is None else float(step)
    own = getattr(process, "time_step", None)
    if own is None:
        raise ValueError(
            f"solver {method.name!r} needs a step: give step= (a length of time) or substeps= (steps per output "
            f"interval); {type(process).__name__} names no time_step of its own"
        )
    return float(own)


def graph_mode(gradient: Gradient) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a likelihood is computed: with a graph only where one is asked for."""
    if gradient not in ("none", "backprop"):
        raise ValueError(f"gradient must be 'none' or 'backprop'; got {gradient!r}")
    return contextlib.nullcontext() if gradient == "backprop" else torch.no_grad()
