r"""Explicit Runge-Kutta methods for ordinary differential equations, each a table.

.. math:: k_i = f\bigl(t + c_i h,\; x + h \textstyle\sum_{j<i} a_{ij} k_j\bigr), \qquad
    x' = x + h \textstyle\sum_i b_i k_i .
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = ["EULER", "HEUN", "MIDPOINT", "RK4", "ButcherTable", "RungeKutta"]


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


class RungeKutta:
    """An explicit Runge-Kutta method.

    Parameters
    ----------
    name
        What users call it.
    table
        Its coefficients.

    Examples
    --------
    >>> from gendyn.sampling import ODE
    >>> x = RungeKutta("rk4", RK4).step(ODE(lambda t, x: -x, 1), torch.tensor(0.0), 0.1, torch.ones(1, 1), None)
    >>> round(x.item(), 6)
    0.904837
    """

    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("none",)
    diffusion_evaluations = 0

    def __init__(self, name: str, table: ButcherTable) -> None:
        self.name = name
        self.table = table
        self.order = table.order
        self.drift_evaluations = len(table.b)

    def step(self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None) -> Tensor:
        """Return the state after one step."""
        slopes: list[Tensor] = []
        for row, node in zip(self.table.a, self.table.c, strict=True):
            slopes.append(process.drift(t + node * h if node else t, combine(x, h, row, slopes)))
        return combine(x, h, self.table.b, slopes)


def combine(x: Tensor, h: float | Tensor, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    r"""Return :math:`x + h \sum_i w_i k_i`, skipping weights that are zero."""
    for weight, slope in zip(weights, slopes, strict=False):
        if weight == 0.0:
            continue
        x = torch.add(x, slope, alpha=weight * h) if isinstance(h, float) else x + (weight * h) * slope
    return x
