"""How much memory a gradient through a simulation takes, before it is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data import Snapshots
from gendyn.sampling.adjoint import gradient_bytes
from gendyn.sampling.door import output_times, start_states
from gendyn.sampling.noise import Noise
from gendyn.sampling.plan import make_plan
from gendyn.sampling.process import Process
from gendyn.sampling.solvers import Solver

__all__ = ["predict_memory"]


def predict_memory(
    process: Process,
    x0: Tensor | Snapshots | Any,
    times: Tensor | Sequence[float] | NDArray[np.floating[Any]],
    *,
    solver: str | Solver = "auto",
    step: float | None = None,
    substeps: int | None = None,
    noise: str | Noise = "stream",
) -> dict[str, int]:
    r"""Return how many bytes each way to a gradient takes.

    Two steps are taken, and what the second keeps for its gradient is weighed: :math:`s` bytes. With :math:`N` steps,
    of which the longest checkpointed piece has :math:`K \approx \max(32, \sqrt N)`, the modes take about

    .. math:: \text{backprop: } N s, \qquad \text{checkpoint: } K s + \tfrac NK \lvert x \rvert, \qquad
        \text{reversible: } 2 s + \min(N \lvert x \rvert, 64 \text{ MB}),

    (with reversible Heun :math:`2 s`), and the values at the output times, twice while they are put together.
    ``gradient="auto"`` decides by this.

    Parameters
    ----------
    process, x0, times, solver, step, substeps, noise
        As for :func:`gendyn.sample`, with a fixed-step solver.

    Returns
    -------
    dict
        Bytes for ``"backprop"`` and ``"checkpoint"``, and for ``"reversible"`` if the solver can go back. Zero, if
        neither the start nor the process has anything that asks for a gradient, but for the values themselves.

    Raises
    ------
    ValueError
        If the solver is adaptive, or as :func:`gendyn.sample`.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import ODE
    >>> network = torch.nn.Linear(8, 8)
    >>> process = ODE(lambda t, x: torch.tanh(network(x)), dim=8)
    >>> found = predict_memory(process, torch.zeros(1000, 8), [0.0, 10.0], solver="ees25", step=0.01)
    >>> {mode: f"{size / 1e6:.0f} MB" for mode, size in found.items()}
    {'backprop': '...', 'checkpoint': '...', 'reversible': '...'}
    """
    states = start_states(x0, times, None, None)
    grid = output_times(times, len(states), process)
    plan = make_plan(
        process, states, grid, solver=solver, step=step, substeps=substeps, rtol=None, atol=None, seed=0, noise=noise,
        gradient="backprop", parameters=None, save="times",
    )  # fmt: skip
    return gradient_bytes(plan.start(states, 0))
