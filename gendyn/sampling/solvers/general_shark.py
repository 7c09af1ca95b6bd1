r"""ShARK for Stratonovich equations with general noise: two drifts and three diffusions.

.. math::

    g_1 &= g(t, X), \qquad Z_2 = X + g_1 H, \qquad f_2, g_2 \text{ at } (t, Z_2), \\
    Z_3 &= X + \tfrac56 (h f_2 + g_2 \Delta W) + g_1 H, \qquad f_3, g_3 \text{ at } (t + \tfrac56 h, Z_3), \\
    X' &= X + h(\tfrac25 f_2 + \tfrac35 f_3) + (\tfrac25 g_2 + \tfrac35 g_3) \Delta W + \tfrac65 (g_2 - g_3) H

with the space-time Levy area :math:`H` (Foster, Reis and Strange 2024). Strong order 1 for commutative noise, 1/2
otherwise, 3/2 for additive noise.
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, coefficients, with_area

__all__ = ["GeneralShARK"]


class GeneralShARK:
    """The general ShARK step.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1, calculus="stratonovich")
    >>> w = torch.full((1, 1), 0.5)
    >>> GeneralShARK().step(geometric, torch.tensor(0.0), 0.1, torch.ones(1, 1), w, torch.zeros(1, 1)).item()
    1.625
    """

    name = "general_shark"
    calculus: tuple[Calculus, ...] = ("stratonovich",)
    noise_types: tuple[NoiseType, ...] = ("additive", "diagonal", "scalar", "general")
    order = 1.0
    weak_order = 1.0
    drift_evaluations = 2
    diffusion_evaluations = 3
    needs_area = True
    use = "general Stratonovich noise that is nearly additive"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        w, shift = with_area(dw, area, self.name)
        kind = process.noise_type
        g1 = process.diffusion(t, x)
        moved = apply_noise(x, g1, shift, kind)
        f2, g2 = coefficients(process, t, moved)
        z = apply_noise(add_scaled(moved, f2, 5 / 6 * h), g2, 5 / 6 * w, kind)
        f3, g3 = coefficients(process, t + 5 / 6 * h, z)
        out = add_scaled(x, 0.4 * f2 + 0.6 * f3, h)
        out = apply_noise(out, 0.4 * g2 + 0.6 * g3, w, kind)
        return apply_noise(out, 1.2 * (g2 - g3), shift, kind)
