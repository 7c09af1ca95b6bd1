"""What a solver is: one step of a process.

A solver knows no model and no loop. It says which calculus and which noise it is right for, its strong order, and
how often it evaluates the coefficients in a step; its ``step`` is the equation.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = ["Solver"]


class Solver(Protocol):
    """A fixed-step method."""

    name: str
    calculus: tuple[Calculus, ...]
    noise_types: tuple[NoiseType, ...]
    order: float
    drift_evaluations: int
    diffusion_evaluations: int

    def step(self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None) -> Tensor:
        """Return the state ``(B, d)`` after a step of length ``h`` from ``(t, x)`` with Brownian increment ``dw``."""
        ...
