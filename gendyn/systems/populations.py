r"""Populations and paths of a system: what an experiment would record.

Cells are destroyed when they are measured, so the cells of one snapshot are never seen again: at each time
:math:`t_k` the rows are fresh, independent draws of the law of :math:`X_{t_k}`, started at the first time
from the system's own start law. A path, in contrast, follows the same cell through all times.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling import sample
from gendyn.systems.parameters import check_count
from gendyn.systems.system import System

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
        Process with known truth, see `System`.
    times
        Measurement times ``(T,)``, strictly increasing, not before ``start``; default ``system.times``.
    n
        Number of cells measured at each time, or one number a time.
    seed
        Integer or generator; the same seed gives the same cells.
    start
        Time at which cells are in the start law; default the first of ``system.times``.
    step
        Step of the solver, time units; default ``system.time_step``.
    dtype
        Type of the values.

    Returns
    -------
    Snapshots
        ``T`` populations with ``n`` rows each, named after the system's coordinates.

    Raises
    ------
    ValueError, TypeError
        If times do not increase strictly or come before ``start``, or a number of cells is not positive.

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
    sizes = _sizes(n, len(grid))
    root, step = as_seed(seed), system.time_step if step is None else step
    # One batch holds the cells of all times; a group leaves it when its time has come.
    alive = system.initial(sum(sizes), derive_seed(root, "start"), dtype=dtype)
    populations, now = [], origin
    for index, (time, size) in enumerate(zip(grid, sizes, strict=True)):
        if time > now:
            noise = derive_seed(root, "interval", index)
            paths = sample(system, alive, [now, float(time)], step=step, seed=noise, save="final", dtype=dtype)
            alive, now = paths.values[:, -1], float(time)
        populations.append(alive[:size])
        alive = alive[size:]
    return Snapshots(grid, populations, names=system.names)


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

    Parameters are those of `simulate_snapshots`; the first of ``times`` is the start.

    Examples
    --------
    >>> from gendyn.systems import LotkaVolterra
    >>> simulate_paths(LotkaVolterra(), times=[0.0, 0.5, 1.0], n=4, step=0.1).values.shape
    torch.Size([4, 3, 2])
    """
    grid = _times(system, times)
    root, step = as_seed(seed), system.time_step if step is None else step
    x0 = system.initial(check_count("n", n), derive_seed(root, "start"), dtype=dtype)
    noise = derive_seed(root, "paths")
    return sample(system, x0, grid, step=step, seed=noise, dtype=dtype, names=system.names)


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
