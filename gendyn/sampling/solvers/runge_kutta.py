r"""Runge-Kutta methods, each a table; with noise, methods for Stratonovich equations.

With the increment :math:`q(t, x) = f(t, x)\, h + g(t, x)\, \Delta W` (without noise :math:`f h`),

.. math:: k_i = q\bigl(t + c_i h,\; x + \textstyle\sum_{j<i} a_{ij} k_j\bigr), \qquad x' = x + \textstyle\sum_i b_i
k_i .

Driven by noise, a method of order 2 or more converges to the Stratonovich solution with strong order 1 for commutative
noise (Ruemelin 1982). EES(2,5) is nearly reversible: a step back from where a step led misses the start by
:math:`O(h^6)` only (Shmelev, Ebrahimi-Fard, Tapia and Salvi 2025).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import apply_noise, coefficients, combine

__all__ = ["EES25", "EULER", "HEUN", "MIDPOINT", "RK4", "ButcherTable", "NearlyReversible", "RungeKutta"]


@dataclass(frozen=True)
class ButcherTable:
    """Coefficients of an explicit method: rows of ``a`` below the diagonal, ``b`` and ``c``."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    c: tuple[float, ...]
    order: float


EULER = ButcherTable(a=((),), b=(1.0,), c=(0.0,), order=1)
MIDPOINT = ButcherTable(a=((), (0.5,)), b=(0.0, 1.0), c=(0.0, 0.5), order=2)
HEUN = ButcherTable(a=((), (1.0,)), b=(0.5, 0.5), c=(0.0, 1.0), order=2)
RK4 = ButcherTable(
    a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    c=(0.0, 0.5, 0.5, 1.0),
    order=4,
)
EES25 = ButcherTable(a=((), (1 / 3,), (-5 / 48, 15 / 16)), b=(0.1, 0.5, 0.4), c=(0.0, 1 / 3, 5 / 6), order=2)


class RungeKutta:
    """An explicit Runge-Kutta method.

    Parameters
    ----------
    name
        What users call it.
    table
        Its coefficients.
    use
        When to choose it.
    noisy
        Whether it may be driven by noise, as a method for Stratonovich equations.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import ODE
    >>> x = RungeKutta("rk4", RK4).step(ODE(lambda t, x: -x, 1), torch.tensor(0.0), 0.1, torch.ones(1, 1), None)
    >>> round(x.item(), 6)
    0.904837
    """

    needs_area = False

    def __init__(self, name: str, table: ButcherTable, use: str = "", *, noisy: bool = False) -> None:
        self.name = name
        self.table = table
        self.use = use
        self.order = table.order
        self.weak_order = table.order
        self.drift_evaluations = len(table.b)
        self.diffusion_evaluations = len(table.b) if noisy else 0
        self.calculus: tuple[Calculus, ...] = ("stratonovich",) if noisy else ("ito", "stratonovich")
        self.noise_types: tuple[NoiseType, ...] = (
            ("none", "additive", "diagonal", "scalar", "general") if noisy else ("none",)
        )

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        if dw is None:
            slopes: list[Tensor] = []
            for row, node in zip(self.table.a, self.table.c, strict=True):
                slopes.append(process.drift(t + node * h if node else t, combine(x, h, row, slopes)))
            return combine(x, h, self.table.b, slopes)
        kicks: list[Tensor] = []
        for row, node in zip(self.table.a, self.table.c, strict=True):
            f, g = coefficients(process, t + node * h if node else t, combine(x, 1.0, row, kicks))
            kicks.append(apply_noise(f * h, g, dw, process.noise_type))
        return combine(x, 1.0, self.table.b, kicks)


class NearlyReversible(RungeKutta):
    """A method of which a step backward, with the increments turned round, undoes a step almost exactly.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import ODE
    >>> solver, decay, t = NearlyReversible("ees25", EES25), ODE(lambda t, x: -x, dim=1), torch.tensor(0.0)
    >>> there = solver.step(decay, t, 0.1, torch.ones(1, 1), None)
    >>> bool((solver.back(decay, t, 0.1, there, None) - 1).abs() < 1e-6)
    True
    """

    def back(self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None) -> Tensor:
        """Return (nearly) the state from which the step that began at ``t`` led to ``x``."""
        return self.step(process, t + h, -h, x, None if dw is None else -dw)
