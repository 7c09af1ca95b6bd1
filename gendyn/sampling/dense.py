r"""Solutions of ordinary differential equations as functions of time.

A fixed-step solver gives states :math:`x_k` with slopes :math:`f_k` at the ends of its steps. Between them stands the
cubic that has both (Hermite): with :math:`\theta = (t - t_k)/h` and :math:`\Delta = x_{k+1} - x_k`,

.. math:: x(t) = x_k + h f_k\, \theta + \bigl(3 \Delta - h (2 f_k + f_{k+1})\bigr) \theta^2
    + \bigl(h (f_k + f_{k+1}) - 2 \Delta\bigr) \theta^3 ,

whose error is :math:`O(h^4)`. Dormand-Prince has a quartic of its own from its stages (Shampine 1986), which keeps up
with its longer steps. The states of a stochastic process are never interpolated: see :func:`gendyn.sampling.refine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data import Snapshots
from gendyn.data.checks import exact_times
from gendyn.sampling.process import Process, refuse_jumps
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import SOLVERS, DormandPrince, Solver
from gendyn.sampling.solvers.dormand_prince import AdaptiveRun, quartic

__all__ = ["DenseSolution", "dense"]


class DenseSolution:
    """A solution at every time between two: call it.

    Attributes
    ----------
    times : Tensor
        Ends of the solver's steps, ``(K + 1,)``, float64.
    """

    def __init__(self, times: Tensor, coefficients: Tensor) -> None:
        self.times = times
        self._coefficients = coefficients

    def __call__(self, t: float | Tensor | Sequence[float] | NDArray[np.floating[Any]]) -> Tensor:
        """Return the states ``(B, d)`` at a time, or ``(B, T, d)`` at times ``(T,)`` in any order.

        Raises
        ------
        ValueError
            If a time lies outside the solution's.
        """
        wanted = torch.as_tensor(t, dtype=torch.float64)
        if wanted.ndim > 1:
            raise ValueError(f"t must be a time or times (T,); got shape {tuple(wanted.shape)}")
        first, last = float(self.times[0]), float(self.times[-1])
        low, high = min(first, last), max(first, last)
        slack = 1e-9 * (high - low)
        if not bool(((wanted >= low - slack) & (wanted <= high + slack)).all()):
            raise ValueError(f"the solution reaches from {low:g} to {high:g}; got times beyond that, or NaN")
        sign = 1.0 if last > first else -1.0
        flat = wanted.reshape(-1)
        k = torch.searchsorted(sign * self.times[1:-1].contiguous(), sign * flat, right=True)
        theta = ((flat - self.times[k]) / (self.times[k + 1] - self.times[k])).to(self._coefficients)[:, None, None]
        pieces = self._coefficients[k.to(self._coefficients.device)]
        value = pieces[:, -1]
        for power in reversed(range(pieces.shape[1] - 1)):
            value = value * theta + pieces[:, power]
        return value[0] if wanted.ndim == 0 else value.transpose(0, 1)

    def __repr__(self) -> str:
        batch, dim = self._coefficients.shape[2:]
        start, end = float(self.times[0]), float(self.times[-1])
        return f"DenseSolution({batch} paths, {dim} features, {len(self.times) - 1} steps from {start:g} to {end:g})"


def dense(
    process: Process,
    x0: Tensor | Snapshots | Any,
    times: Tensor | Sequence[float] | NDArray[np.floating[Any]],
    *,
    solver: str | Solver | DormandPrince = "auto",
    step: float | None = None,
    substeps: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    gradient: Literal["none", "backprop"] = "none",
) -> DenseSolution:
    """Solve an ordinary differential equation and keep the solution between the steps.

    Parameters
    ----------
    process
        Without noise.
    x0, solver, step, substeps, rtol, atol
        As for :func:`gendyn.sample`.
    times
        ``(T,)``, from the first of which to the last it is solved; steps of a fixed-step solver end on all of them.
    gradient
        ``"none"``, or ``"backprop"`` for a solution that gradients flow through.

    Returns
    -------
    DenseSolution
        Call it with times; it takes the memory of four or five states for each step.

    Raises
    ------
    ValueError
        If the process has noise or jumps, or as :func:`gendyn.sample`.

    Examples
    --------
    >>> from gendyn.sampling import ODE
    >>> solution = dense(ODE(lambda t, x: -x, dim=1), torch.ones(1, 1), [0.0, 2.0], solver="rk4", step=0.1)
    >>> solution(1.234).item(), solution([0.0, 0.777]).shape
    (0.2911..., torch.Size([1, 2, 1]))
    """
    kind = getattr(process, "noise_type", "none")
    if kind != "none":
        raise ValueError(
            f"this process has {kind} noise, and states of a stochastic process are never interpolated, which would "
            "give the wrong law; sample at all times that are wanted, or use gendyn.sampling.refine"
        )
    refuse_jumps(process, "a dense solution")
    if gradient not in ("none", "backprop"):
        raise ValueError(f"gradient of a dense solution must be 'none' or 'backprop'; got {gradient!r}")
    grid = exact_times(times)
    if grid.ndim != 1:
        raise ValueError(f"a dense solution needs times (T,) shared by all paths; got shape {tuple(grid.shape)}")
    if solver == "auto":
        solver = "dopri5" if step is None and substeps is None else "rk4"
    pieces: list[tuple[float, Tensor]] = []
    recording: Any = solver
    if solver == "dopri5":
        recording = _RecordingDormandPrince(1e-5 if rtol is None else rtol, 1e-6 if atol is None else atol, pieces)
        rtol = atol = None
    elif isinstance(solver, DormandPrince):
        recording = _RecordingDormandPrince(solver.rtol, solver.atol, pieces)
    elif not isinstance(solver, str) or solver in SOLVERS:
        recording = _RecordingSteps(SOLVERS[solver] if isinstance(solver, str) else solver, pieces)
    paths = sample(
        process, x0, grid, solver=recording, step=step, substeps=substeps, rtol=rtol, atol=atol, gradient=gradient
    )
    if isinstance(recording, _RecordingSteps):
        with torch.set_grad_enabled(gradient == "backprop"):
            pieces = recording.hermite(process, paths.values[:, -1], grid[-1])
    ends = grid[0] + torch.tensor([0.0, *(h for h, _ in pieces)], dtype=torch.float64).cumsum(0)
    ends[-1] = grid[-1]
    return DenseSolution(ends, torch.stack([part for _, part in pieces]))


class _RecordingDormandPrince(DormandPrince):
    """The adaptive method, which notes the quartic of each step."""

    def __init__(self, rtol: float, atol: float, pieces: list[tuple[float, Tensor]]) -> None:
        super().__init__(rtol, atol)
        self._pieces = pieces

    def run(
        self,
        process: Process,
        x0: Tensor,
        times: Tensor,
        *,
        advance: Callable[[int], None] = lambda k: None,
        record: Callable[[float, Tensor, list[Tensor]], None] = lambda h, x, slopes: None,
    ) -> AdaptiveRun:
        """Return the states at the output times."""

        def keep(h: float, x: Tensor, slopes: list[Tensor]) -> None:
            record(h, x, slopes)
            self._pieces.append((h, quartic(x, h, slopes)))

        return super().run(process, x0, times, advance=advance, record=keep)


class _RecordingSteps:
    """A fixed-step method, which notes where each step began."""

    def __init__(self, method: Solver, pieces: list[tuple[float, Tensor]]) -> None:
        if hasattr(method, "forth"):
            raise ValueError(f"solver {method.name!r} carries more than the state from step to step; use 'rk4'")
        self._method = method
        self._starts: list[tuple[Tensor, float, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)

    def step(
        self, process: Process, t: Tensor, h: float, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        self._starts.append((t, h, x))
        return self._method.step(process, t, h, x, dw, area)

    def hermite(self, process: Process, last: Tensor, end: Tensor) -> list[tuple[float, Tensor]]:
        """Return length and cubic of each step."""
        states = [*(x for _, _, x in self._starts), last]
        slopes = [process.drift(t, x) for t, _, x in self._starts] + [process.drift(end.to(last), last)]
        found = []
        for k, (_, h, x) in enumerate(self._starts):
            moved, f0, f1 = states[k + 1] - x, h * slopes[k], h * slopes[k + 1]
            found.append((h, torch.stack([x, f0, 3 * moved - 2 * f0 - f1, f0 + f1 - 2 * moved])))
        return found
