r"""The Euler-Heun method for Stratonovich equations: one drift, two diffusions.

.. math:: Z = X + g(t, X)\,\Delta W, \qquad X' = X + f(t, X)\,h + \tfrac12\bigl(g(t, X) + g(t + h, Z)\bigr)\Delta W .

Strong order 1 for commutative noise, 1/2 otherwise (Kloeden and Platen 1992).
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, coefficients

__all__ = ["EulerHeun"]


class EulerHeun:
    """The Euler-Heun step: the cheapest for Stratonovich equations whose drift is dear.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1, calculus="stratonovich")
    >>> EulerHeun().step(geometric, torch.tensor(0.0), 0.1, torch.ones(1, 1), torch.full((1, 1), 0.5)).item()
    1.625
    """

    name = "euler_heun"
    calculus: tuple[Calculus, ...] = ("stratonovich",)
    noise_types: tuple[NoiseType, ...] = ("additive", "diagonal", "scalar", "general")
    order = 1.0
    weak_order = 1.0
    drift_evaluations = 1
    diffusion_evaluations = 2
    needs_area = False
    use = "Stratonovich equations whose drift is dearer than their diffusion"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        f, g = coefficients(process, t, x)
        moved = add_scaled(x, f, h)
        if dw is None:
            return moved
        kind = process.noise_type
        ahead = process.diffusion(t + h, apply_noise(x, g, dw, kind))
        return apply_noise(moved, 0.5 * (g + ahead), dw, kind)
