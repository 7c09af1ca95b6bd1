r"""ShARK, the shifted additive-noise Runge-Kutta method: strong order 3/2 for two evaluations of the drift.

.. math::

    Z_1 = X + g_0 H, \quad f_1 = f(t, Z_1), \quad Z_2 = X + \tfrac56 h f_1 + g_0(\tfrac56 \Delta W + H), \quad
    X' = X + h\bigl(\tfrac25 f_1 + \tfrac35 f(t + \tfrac56 h, Z_2)\bigr) + g_0 \Delta W
    + (g_1 - g_0)(\tfrac12 \Delta W - H)

with the space-time Levy area :math:`H \sim \mathcal N(0, h/12)` (Foster, Reis and Strange 2024).
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, with_area

__all__ = ["ShARK"]


class ShARK:
    """The shifted additive-noise Runge-Kutta step.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> linear = SDE(lambda t, x: -x, lambda t, x: torch.eye(1), dim=1, noise_type="additive")
    >>> w, area = torch.full((1, 1), 0.5), torch.zeros(1, 1)
    >>> ShARK().step(linear, torch.tensor(0.0), 0.1, torch.ones(1, 1), w, area).item()
    1.37999...
    """

    name = "shark"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("additive",)
    order = 1.5
    weak_order = 2.0
    drift_evaluations = 2
    diffusion_evaluations = 2
    needs_area = True
    use = "additive noise: the default"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        w, shift = with_area(dw, area, self.name)
        g0, g1 = process.diffusion(t, x), process.diffusion(t + h, x)
        f1 = process.drift(t, apply_noise(x, g0, shift, "additive"))
        z = apply_noise(add_scaled(x, f1, 5 / 6 * h), g0, 5 / 6 * w + shift, "additive")
        f2 = process.drift(t + 5 / 6 * h, z)
        moved = apply_noise(add_scaled(x, 0.4 * f1 + 0.6 * f2, h), g0, w, "additive")
        return moved if g1 is g0 else apply_noise(moved, g1 - g0, 0.5 * w - shift, "additive")
