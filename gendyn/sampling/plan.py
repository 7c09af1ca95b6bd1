"""Everything about a simulation but the rows: what runs them, in whole or in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gendyn.randomness import Seed, as_seed
from gendyn.sampling.adaptive import Adaptive
from gendyn.sampling.adjoint import checkpointed_outputs, gradient_bytes, parameters_of, reversible_outputs
from gendyn.sampling.brownian_tree import BrownianTree
from gendyn.sampling.door import (
    Gradient,
    check_diagonal_noise,
    check_gradient,
    check_starts,
    choose_noise,
    choose_solver,
    own_step,
)
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.jumps.jump_times import JumpTimes, check_interruptions
from gendyn.sampling.noise import Noise
from gendyn.sampling.process import Process, check_process, jumps_of, noise_dim, rows_of
from gendyn.sampling.runner import Run, check_state
from gendyn.sampling.solvers import DormandPrince, Solver

__all__ = ["Cost", "Plan", "make_plan"]

_LARGE_GRAPH = 1_000_000_000
"""Bytes of a graph from which ``gradient="auto"`` takes checkpoints."""


@dataclass(frozen=True)
class Cost:
    """What a run took, for each path: of an adaptive solver, which steps as its chunk needs, the largest."""

    n_steps: int = 0
    nfe_drift: int = 0
    nfe_diffusion: int = 0
    rejected: int = 0

    def most(self, other: Cost) -> Cost:
        """Return the larger of each."""
        return Cost(*(max(getattr(self, n), getattr(other, n)) for n in self.__dataclass_fields__))


@dataclass(frozen=True)
class Plan:
    """Everything about a simulation but the rows."""

    process: Process
    method: Solver | DormandPrince | Adaptive
    layout: StepGrid | None
    grid: Tensor
    source: Noise
    key: int
    save: str
    gradient: Gradient
    parameters: Sequence[Tensor] | None
    made: dict[str, Any]
    """How the paths are made: step or tolerances, and noise."""

    @property
    def n_steps(self) -> int:
        """Steps in all, as far as they are known before the run."""
        return self.layout.n_steps if self.layout is not None else self.grid.shape[-1] - 1

    def info(self, cost: Cost) -> dict[str, Any]:
        """Return what paths say of how they were made."""
        return {
            "solver": self.method.name,
            "n_steps": cost.n_steps,
            "nfe_drift": cost.nfe_drift,
            "nfe_diffusion": cost.nfe_diffusion,
            "rejected": cost.rejected,
            "seed": self.key,
        } | self.made

    def run_alone(self, x0: Tensor, first_row: int) -> tuple[Tensor, Cost]:
        """Return values and cost of some rows, in a process of its own."""
        with torch.no_grad():
            return self.run(x0, first_row, lambda count: None)

    def run(self, x0: Tensor, first_row: int, tick: Callable[[int], Any]) -> tuple[Tensor, Cost]:
        """Return values ``(B, T, d)`` (or ``(B, 1, d)``) and cost of the rows from ``first_row`` on."""
        process = rows_of(self.process, first_row, first_row + len(x0))
        return replace(self, process=process)._run(x0, first_row, tick)

    def _run(self, x0: Tensor, first_row: int, tick: Callable[[int], Any]) -> tuple[Tensor, Cost]:
        """Return the same, for a process of exactly these rows."""
        method = self.method
        if isinstance(method, DormandPrince):
            outcome = method.run(self.process, x0, self.grid, advance=lambda k: tick(1))
            for t, value in zip(self.grid.tolist(), outcome.values, strict=True):
                check_state(value, t, outcome.steps, method.name)
            cost = Cost(outcome.steps, outcome.drift_evaluations, 0, outcome.rejected)
            return self._stack(x0, list(outcome.values[1:])), cost
        if isinstance(method, Adaptive):
            return self._adapt(method, x0, first_row, tick)
        run = self.start(x0, first_row)
        steps = self.n_steps + (run.jumps.extra_steps if run.jumps is not None else 0)
        cost = Cost(steps, steps * method.drift_evaluations, steps * method.diffusion_evaluations)
        return self._stack(x0, self._outputs(run, tick)), cost

    def start(self, x0: Tensor, first_row: int) -> Run:
        """Return the run of some rows, by a fixed-step solver."""
        if self.layout is None or isinstance(self.method, (DormandPrince, Adaptive)):
            raise ValueError(f"solver {self.method.name!r} has no steps that are known before it runs")
        grid, driver, shape = self.layout.rows(first_row, first_row + len(x0)), None, (len(x0), 0)
        if self.process.noise_type != "none":
            columns: Callable[[Process], int] = getattr(self.method, "columns", noise_dim)
            shape = (len(x0), columns(self.process))
            driver = self.source.start(self.key, grid, shape, first_row, x0.detach(), self.method.needs_area)
        jumps = None
        if jumps_of(self.process) is not None:
            jumps = JumpTimes(self.process, self.key, grid, shape, first_row, x0.detach(), self.method.needs_area)
        return Run(self.process, self.method, grid, driver, x0, jumps)

    def _adapt(self, method: Adaptive, x0: Tensor, first_row: int, tick: Callable[[int], Any]) -> tuple[Tensor, Cost]:
        if self.layout is None or not isinstance(self.source, BrownianTree):
            raise ValueError("adaptive steps need a Brownian tree")
        shape = (len(x0), noise_dim(self.process))
        cells = self.source.cells(self.key, self.layout, shape, first_row, x0.detach())
        outcome = method.run(self.process, x0, self.grid, self.source.places(self.layout), cells, advance=tick)
        step, taken = method.method, outcome.taken
        cost = Cost(outcome.steps, taken * step.drift_evaluations, taken * step.diffusion_evaluations, outcome.rejected)
        return self._stack(x0, outcome.values), cost

    def _outputs(self, run: Run, tick: Callable[[int], Any]) -> list[Tensor]:
        """Return the values at the output times after the first, with the graph that was asked for."""
        gradient = self.gradient
        if gradient == "auto":
            gradient = "backprop" if gradient_bytes(run)["backprop"] < _LARGE_GRAPH else "checkpoint"
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


def make_plan(
    process: Process,
    states: Tensor,
    grid: Tensor,
    *,
    solver: str | Solver | DormandPrince,
    step: float | None,
    substeps: int | None,
    rtol: float | None,
    atol: float | None,
    seed: Seed,
    noise: Any,
    gradient: Gradient,
    parameters: Sequence[Tensor] | None,
    save: str,
) -> Plan:
    """Return the plan of a simulation, or say what does not fit; arguments are those of :func:`gendyn.sample`."""
    first = grid[..., 0].to(states.dtype).to(states.device)
    # Paths that stop to jump have times of their own, whatever the grid.
    shared = grid.ndim == 1 and jumps_of(process) is None
    t = first if shared else first.expand(len(states))[:, None]
    check_process(process, t, states)
    source = choose_noise(noise)
    method = choose_solver(solver, process, step, substeps, rtol, atol, grid, gradient, source)
    if not isinstance(method, Adaptive):
        check_interruptions(process, method, source, gradient)
    check_gradient(process, t, states, gradient)
    check_diagonal_noise(process, method, t, states)
    check_starts(process, method, t, states)
    layout: StepGrid | None = None
    made: dict[str, Any] = {}
    if isinstance(method, Adaptive):
        longest = getattr(process, "time_step", None) if step is None and substeps is None else step
        whole = 1 if longest is None and substeps is None else substeps
        layout = source.layout(StepGrid(grid, step=longest, substeps=whole))
    elif not isinstance(method, DormandPrince):
        own = own_step(process, method, step, substeps)
        made = {"step": own} if substeps is None else {"substeps": substeps}
        layout = StepGrid(grid, step=own, substeps=substeps)
        if process.noise_type != "none":
            layout = source.layout(layout)
    if isinstance(method, (DormandPrince, Adaptive)):
        made = {"rtol": method.rtol, "atol": method.atol}
    if process.noise_type != "none":
        made["noise"] = getattr(source, "name", type(source).__name__)
    return Plan(process, method, layout, grid, source, as_seed(seed), save, gradient, parameters, made)
