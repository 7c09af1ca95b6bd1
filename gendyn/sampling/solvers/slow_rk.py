r"""SlowRK for Stratonovich equations with commutative noise: strong order 3/2 for two drifts and five diffusions.

With :math:`Z_0 = X`, the space-time Levy area :math:`H \sim \mathcal N(0, h/12)` and :math:`f_0 = f(t, X)`,

.. math::

    g_1 &= g(t + \tfrac h2, X + \tfrac h2 f_0), & g_2 &= g(t + \tfrac h2, X + \tfrac h2 f_0 + \tfrac12 g_1 \Delta W), \\
    g_3 &= g(t + \tfrac h2, X + \tfrac h2 f_0 + \tfrac12 g_2 \Delta W), &
    g_4 &= g(t + \tfrac h2, X + \tfrac h2 f_0 + g_3 \Delta W), \\
    f_5 &= f(t + \tfrac34 h, X + \tfrac34 h f_0 + \tfrac34 g_3 \Delta W + \tfrac32 g_3 H), &
    g_6 &= g(t + h, X + h f_0 + \tfrac12 g_2 \Delta W),

    X' = X + \tfrac h3 (f_0 + 2 f_5) + \tfrac16 (g_1 + 2 g_2 + 2 g_3 + g_4) \Delta W + 2 (g_3 - g_6) H

(Foster, Reis and Strange 2024).
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, with_area

__all__ = ["SlowRK"]


class SlowRK:
    """The SlowRK step for Stratonovich equations with commutative noise (additive, scalar, truly diagonal).

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1, calculus="stratonovich")
    >>> w = torch.full((1, 1), 0.5)
    >>> SlowRK().step(geometric, torch.tensor(0.0), 0.1, torch.ones(1, 1), w, torch.zeros(1, 1)).item()
    1.6484...
    """

    name = "slow_rk"
    calculus: tuple[Calculus, ...] = ("stratonovich",)
    noise_types: tuple[NoiseType, ...] = ("additive", "diagonal", "scalar")
    order = 1.5
    weak_order = 2.0
    drift_evaluations = 2
    diffusion_evaluations = 5
    needs_area = True
    needs_diagonal = True
    use = "commutative Stratonovich noise to strong order 3/2"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        w, shift = with_area(dw, area, self.name)
        kind, middle = process.noise_type, t + 0.5 * h
        f0 = process.drift(t, x)
        half = add_scaled(x, f0, 0.5 * h)
        g1 = process.diffusion(middle, half)
        g2 = process.diffusion(middle, apply_noise(half, g1, 0.5 * w, kind))
        g3 = process.diffusion(middle, apply_noise(half, g2, 0.5 * w, kind))
        g4 = process.diffusion(middle, apply_noise(half, g3, w, kind))
        z = apply_noise(add_scaled(x, f0, 0.75 * h), g3, 0.75 * w + 1.5 * shift, kind)
        f5 = process.drift(t + 0.75 * h, z)
        g6 = process.diffusion(t + h, apply_noise(add_scaled(x, f0, h), g2, 0.5 * w, kind))
        moved = add_scaled(x, f0 + 2 * f5, h / 3)
        moved = apply_noise(moved, (g1 + 2 * g2 + 2 * g3 + g4) / 6, w, kind)
        return apply_noise(moved, 2 * (g3 - g6), shift, kind)
