r"""The one way anything is simulated: a process, where it starts, when to look.

.. math:: (f, g),\; x_0,\; t_1 < \dots < t_T \;\longmapsto\; X_{t_1}, \dots, X_{t_T}.

What is given is checked, and a solver chosen, in :mod:`gendyn.sampling.door`; here the paths are divided into chunks.
The loop itself is in :mod:`gendyn.sampling.runner`, and knows neither models nor particular solvers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.data import Paths, Snapshots
from gendyn.data.checks import exact_times
from gendyn.data.storage import PathsWriter
from gendyn.randomness import Seed, as_seed
from gendyn.sampling.door import Gradient, check_options, output_times, population, start_states
from gendyn.sampling.jumps.jump_process import JumpProcess, check_states
from gendyn.sampling.jumps.run import JUMP_SOLVERS, run_jumps
from gendyn.sampling.noise import Noise
from gendyn.sampling.plan import Cost, make_plan
from gendyn.sampling.process import Process
from gendyn.sampling.solvers import DormandPrince, Solver
from gendyn.sampling.tiles import ROWS

__all__ = ["sample"]


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
        A name of :data:`gendyn.sampling.SOLVERS`, ``"dopri5"``, or an object with a ``step``. ``"auto"``: the
        process's own ``solver`` if it has one; else for an ordinary differential equation ``"dopri5"``, or ``"rk4"``
        if a step is given; for additive noise ``"shark"``; for an Ito equation ``"milstein"`` where the process has
        ``diffusion_dx``, else ``"euler_maruyama"``; for a Stratonovich equation ``"heun"``.
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
        Tolerances of ``"dopri5"`` (1e-5 and 1e-6 by default). Given for a process with noise, and with
        ``noise="tree"``, the steps of any solver of strong order 1 are adapted to them, those of each path for itself
        (1e-3 and 1e-3); ``step`` is then the longest.
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
    NonFiniteStateError
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
        labelled = names if names is not None else getattr(process, "names", None)
        return _sample_jumps(
            process, x0, times, str(solver), step, as_seed(seed), save, chunk, to, n_jobs, progress, labelled
        )
    states = start_states(x0, times, device, dtype)
    grid = output_times(times, len(states), process)
    check_options(gradient, save, chunk, to, n_jobs)
    plan = make_plan(
        process, states, grid, solver=solver, step=step, substeps=substeps, rtol=rtol, atol=atol, seed=seed,
        noise=noise, gradient=gradient, parameters=parameters, save=save,
    )  # fmt: skip
    rows = len(states) if chunk is None and to is None and n_jobs == 1 else _chunk_rows(chunk, len(states), n_jobs)
    starts = range(0, len(states), rows)
    kept = grid if save == "times" else grid[..., -1:]
    total = plan.n_steps
    with (
        torch.no_grad() if gradient == "none" else contextlib.nullcontext(),
        _bar(progress, total * len(starts), "step") as tick,
    ):
        parts: Iterable[tuple[Tensor, Cost]]
        if n_jobs == 1:
            parts = (plan.run(states[s : s + rows], s, tick) for s in starts)
        else:
            jobs = (joblib.delayed(plan.run_alone)(states[s : s + rows], s) for s in starts)
            parts = _ticking(joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs), tick, total)
        cost, values = Cost(), []
        if to is not None:
            with PathsWriter(to, kept, (len(states), kept.shape[-1], states.shape[1]), states.dtype, names) as writer:
                for part, spent in parts:
                    writer.append(part)
                    cost = cost.most(spent)
                writer.info = plan.info(cost)
            return writer.paths()
        for part, spent in parts:
            values.append(part)
            cost = cost.most(spent)
    whole = values[0] if len(values) == 1 else torch.cat(values)
    return Paths.of_checked(kept, whole, names=names, info=plan.info(cost))


@contextlib.contextmanager
def _bar(show: bool, total: int, unit: str) -> Iterator[Callable[[int], Any]]:
    """Give what is told of progress: a bar on stderr, or nobody."""
    if not show:
        yield lambda count: None
        return
    with tqdm(total=total, desc="sample", unit=unit, mininterval=0.5) as bar:
        yield bar.update


def _check_jumps(solver: Any, given: dict[str, Any]) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise ValueError(f"a jump process takes no {' and no '.join(wrong)}; leave {'them' if wrong[1:] else 'it'} out")
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
    names: Sequence[str] | None,
) -> Paths:
    """Simulate a jump process; the same door, chunks and file as for diffusions."""
    check_options("none", save, chunk, to, n_jobs)
    x0 = population(x0, times) if isinstance(x0, Snapshots) else x0
    states, grid = check_states(process, x0), exact_times(times)
    rows = (
        _chunk_rows(chunk, len(states), n_jobs) if chunk is not None or to is not None or n_jobs != 1 else len(states)
    )
    starts = range(0, len(states), rows)
    tasks = [
        (process, states[s : s + rows], grid if grid.ndim == 1 else grid[s : s + rows], solver, key, step, s)
        for s in starts
    ]
    labels = getattr(process, "states", None)
    kept = grid if save == "times" else grid[..., -1:]
    with _bar(progress, len(states), "path") as tick:
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
                tick(len(part))
                if writer is not None:
                    writer.append(part)
                    writer.info = info
                else:
                    values.append(part)
    if writer is not None:
        return writer.paths()
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
    parts: Iterable[tuple[Tensor, Cost]], tick: Callable[[int], Any], count: int
) -> Iterable[tuple[Tensor, Cost]]:
    for part in parts:
        tick(count)
        yield part


def _chunk_rows(chunk: int | None, n: int, n_jobs: int) -> int:
    if chunk is None:
        chunk = 16_384 if n_jobs == 1 else min(16_384, -(-n // joblib.effective_n_jobs(n_jobs)))
    return min(-(-chunk // ROWS) * ROWS, -(-n // ROWS) * ROWS)
