r"""Populations and paths of a system: what an experiment would record.

Cells are destroyed when they are measured, so the cells of one snapshot are never seen again: at each time
:math:`t_k` the rows are fresh, independent draws of the law of :math:`X_{t_k}`, started at the first time
from the system's own start law. A path, in contrast, follows the same cell through all times. Particles that feel each
other are one population at all times, of which each snapshot shows other particles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import BrownianStream, StepGrid, accurate_solver, sample
from gendyn.sampling.noise import Driver
from gendyn.systems.parameters import check_count
from gendyn.systems.system import ClosedFormSystem, DiffusionSystem, InteractingSystem, JumpSystem, System

__all__ = ["simulate_paths", "simulate_snapshots"]


def simulate_snapshots(
    system: System,
    times: ArrayLike | Tensor | None = None,
    n: int | Iterable[int] = 500,
    seed: Seed = 0,
    *,
    start: float | None = None,
    step: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Snapshots:
    r"""Simulate a population and measure other cells at each time.

    Parameters
    ----------
    system
        What moves, see :mod:`gendyn.systems.system`.
    times
        Measurement times ``(T,)``, strictly increasing, not before ``start``; default ``system.times``.
    n
        Number of cells measured at each time, or one number a time.
    seed
        Integer or generator; the same seed gives the same cells.
    start
        Time at which cells are in the start law; default the first of ``system.times``.
    step
        Step of the solver, :func:`gendyn.sampling.accurate_solver`, time units; default ``system.time_step``.
    dtype
        Type of the values.

    Returns
    -------
    Snapshots
        ``T`` populations with ``n`` rows each, named after the coordinates that are recorded. Where cells divide and
        die they carry weights, whose sum at a time is the mass, 1 at the start.

    Raises
    ------
    ValueError, TypeError
        If times do not increase strictly or come before ``start``, or a number of cells is not positive; or a step is
        given for a system that takes none.

    Examples
    --------
    >>> from gendyn.systems import ToggleSwitch
    >>> simulate_snapshots(ToggleSwitch(), times=[0.0, 1.0], n=20, step=0.1).sizes
    (20, 20)
    """
    grid = _times(system, times)
    origin = float(system.times[0]) if start is None else float(start)
    if not np.isfinite(origin) or grid[0] < origin:
        raise ValueError(
            f"times must not come before the start of the system at {origin:g}; got {grid[0]:g}: "
            "move the times or give an earlier start"
        )
    sizes, root = _sizes(n, len(grid)), as_seed(seed)
    if not isinstance(system, DiffusionSystem):
        whole = grid if grid[0] == origin or isinstance(system, ClosedFormSystem) else np.append(origin, grid)
        run = _simulate(system, whole, sum(sizes), root, step, dtype)
        last = run.values[:, -len(grid) :].to(dtype)
        ends = np.cumsum(sizes)
        rows = [last[end - size : end, k] for k, (size, end) in enumerate(zip(sizes, ends, strict=True))]
        return Snapshots(grid, rows, names=run.names)
    step = system.time_step if step is None else step
    # One batch holds the cells of all times; a group leaves it when its time has come.
    alive = system.initial(sum(sizes), derive_seed(root, "start"), dtype=dtype)
    populations, weights, now = [], [], origin
    solver = accurate_solver(system, torch.tensor(origin, dtype=dtype, device=alive.device), alive)
    for index, (time, size) in enumerate(zip(grid, sizes, strict=True)):
        if time > now:
            noise = derive_seed(root, "interval", index)
            paths = sample(
                system, alive, [now, float(time)], solver=solver, step=step, seed=noise, save="final", dtype=dtype
            )
            alive, now = paths.values[:, -1], float(time)
        cells, weight = _measure(system, alive[:size])
        populations.append(cells)
        weights.append(weight / size)
        alive = alive[size:]
    names = system.names[: populations[0].shape[1]]
    return Snapshots(grid, populations, weights if hasattr(system, "weighted") else None, names=names)


def simulate_paths(
    system: System,
    times: ArrayLike | Tensor | None = None,
    n: int = 100,
    seed: Seed = 0,
    *,
    step: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Paths:
    """Simulate n paths of a system from its start law at the first time.

    Parameters are those of `simulate_snapshots`; the first of ``times`` is the start. Of particles that feel each
    other, the paths are the particles of one population.

    Examples
    --------
    >>> from gendyn.systems import LotkaVolterra
    >>> simulate_paths(LotkaVolterra(), times=[0.0, 0.5, 1.0], n=4, step=0.1).values.shape
    torch.Size([4, 3, 2])
    """
    return _simulate(system, _times(system, times), check_count("n", n), as_seed(seed), step, dtype)


def _simulate(
    system: System, grid: NDArray[np.float64], n: int, root: int, step: float | None, dtype: torch.dtype
) -> Paths:
    if step is not None and isinstance(system, ClosedFormSystem | JumpSystem):
        raise ValueError(f"{type(system).__name__} is exact at any times and takes no step; leave it out")
    if isinstance(system, ClosedFormSystem):
        return system.paths(grid, n, root, dtype=dtype)
    start, noise = derive_seed(root, "start"), derive_seed(root, "paths")
    if isinstance(system, JumpSystem):
        return sample(system, system.initial(n, start), grid, seed=noise)
    if isinstance(system, InteractingSystem):
        x0 = system.initial(n, start, dtype=dtype).reshape(1, -1)
        step = system.time_step if step is None else step
        run = sample(system.population(n), x0, grid, step=step, seed=noise, noise=_ParticleNoise(n))
        values = run.values.reshape(len(grid), n, system.dim).transpose(0, 1)
        return Paths(grid, values, names=system.names, info=run.info)
    if not isinstance(system, DiffusionSystem):
        raise TypeError(f"system must be one of gendyn.systems; got {type(system).__name__}")
    x0 = system.initial(n, start, dtype=dtype)
    step = system.time_step if step is None else step
    solver = accurate_solver(system, torch.tensor(float(grid[0]), dtype=dtype), x0)
    run = sample(system, x0, grid, solver=solver, step=step, seed=noise, dtype=dtype, names=system.names)
    recorded = getattr(system, "recorded", system.dim)
    if recorded == system.dim:
        return run
    return Paths(grid, run.values[:, :, :recorded], names=system.names[:recorded], info=run.info)


@dataclass(frozen=True)
class _ParticleNoise:
    """Brownian motion of each particle in a row of its own: noise is drawn in whole blocks of rows."""

    particles: int
    brownian = True

    def layout(self, grid: StepGrid) -> StepGrid:
        return BrownianStream().layout(grid)

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> _FlatDriver:
        rows = self.particles, shape[1] // self.particles
        return _FlatDriver(BrownianStream().start(key, grid, rows, 0, like, area))


@dataclass(frozen=True)
class _FlatDriver:
    """Increments of particles ``(count, n, d)`` as those of one state ``(count, 1, n d)``."""

    particles: Driver

    def increments(self, interval: int, first: int, count: int) -> tuple[Tensor, Tensor | None]:
        w, area = self.particles.increments(interval, first, count)
        return w.reshape(count, 1, -1), None if area is None else area.reshape(count, 1, -1)


def _measure(system: DiffusionSystem, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is recorded of cells, and their weights."""
    weighted = getattr(system, "weighted", None)
    if weighted is not None:
        cells, weights = weighted(x)
        return cells, weights
    return x[:, : getattr(system, "recorded", system.dim)], torch.ones(len(x), dtype=x.dtype)


def _times(system: System, times: ArrayLike | Tensor | None) -> NDArray[np.float64]:
    if not isinstance(system, System):
        raise TypeError(f"system must be one of gendyn.systems; got {type(system).__name__}")
    try:
        grid = np.atleast_1d(np.asarray(system.times if times is None else times, dtype=np.float64))
    except (TypeError, ValueError):
        raise TypeError(f"times must be numbers; got {times!r}") from None
    if grid.ndim != 1 or len(grid) == 0:
        raise ValueError(f"times must be one row of at least one number; got shape {grid.shape}")
    if not np.isfinite(grid).all():
        raise ValueError(f"times must be finite; got {grid[~np.isfinite(grid)][0]}")
    gaps = np.flatnonzero(np.diff(grid) <= 0)
    if len(gaps):
        k = int(gaps[0]) + 1
        raise ValueError(f"times must increase strictly; got {grid[k]:g} after {grid[k - 1]:g} at position {k}")
    return grid


def _sizes(n: int | Iterable[int], n_times: int) -> list[int]:
    if isinstance(n, int | str) or not isinstance(n, Iterable):
        return [check_count("n", n)] * n_times
    sizes = [check_count("n", size) for size in n]
    if len(sizes) != n_times:
        raise ValueError(f"n must be one number or one a time ({n_times}); got {len(sizes)} numbers")
    return sizes
