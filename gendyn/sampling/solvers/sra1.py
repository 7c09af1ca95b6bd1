r"""Roessler's SRA1 for additive noise: strong order 3/2 for two evaluations of the drift.

.. math::

    f_1 = f(t, X), \quad Z = X + \tfrac34 h f_1 + g_0(\tfrac34 \Delta W + \tfrac32 H), \quad
    X' = X + \tfrac{h}{3}\bigl(f_1 + 2 f(t + \tfrac34 h, Z)\bigr) + g_0 \Delta W + (g_1 - g_0)(\tfrac12 \Delta W - H)

with the space-time Levy area :math:`H \sim \mathcal N(0, h/12)` (Roessler 2010).
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, with_area

__all__ = ["SRA1"]


class SRA1:
    """Roessler's SRA1 step for additive noise.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> linear = SDE(lambda t, x: -x, lambda t, x: torch.eye(1), dim=1, noise_type="additive")
    >>> w, area = torch.full((1, 1), 0.5), torch.zeros(1, 1)
    >>> SRA1().step(linear, torch.tensor(0.0), 0.1, torch.ones(1, 1), w, area).item()
    1.37999...
    """

    name = "sra1"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("additive",)
    order = 1.5
    weak_order = 2.0
    drift_evaluations = 2
    diffusion_evaluations = 2
    needs_area = True
    use = "additive noise to strong order 3/2"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        w, shift = with_area(dw, area, self.name)
        g0, g1 = process.diffusion(t, x), process.diffusion(t + h, x)
        f1 = process.drift(t, x)
        z = apply_noise(add_scaled(x, f1, 0.75 * h), g0, 0.75 * w + 1.5 * shift, "additive")
        f2 = process.drift(t + 0.75 * h, z)
        moved = apply_noise(add_scaled(x, f1 + 2 * f2, h / 3), g0, w, "additive")
        return moved if g1 is g0 else apply_noise(moved, g1 - g0, 0.5 * w - shift, "additive")
