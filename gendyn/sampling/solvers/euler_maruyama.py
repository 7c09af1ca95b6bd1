r"""The Euler-Maruyama method for Ito equations.

.. math:: X' = X + f(t, X)\, h + g(t, X)\, \Delta W, \qquad \Delta W \sim \mathcal{N}(0, h I).

Strong order 1/2, and 1 for additive noise; weak order 1 (Kloeden and Platen 1992).
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, advance, coefficients

__all__ = ["EulerMaruyama"]


class EulerMaruyama:
    """The Euler-Maruyama step, for every noise type.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> brownian = SDE(lambda t, x: torch.zeros_like(x), lambda t, x: torch.ones_like(x), dim=1)
    >>> EulerMaruyama().step(brownian, torch.tensor(0.0), 0.1, torch.zeros(1, 1), torch.full((1, 1), 0.3)).item()
    0.30000001192092896
    """

    name = "euler_maruyama"
    calculus: tuple[Calculus, ...] = ("ito",)
    noise_types: tuple[NoiseType, ...] = ("additive", "diagonal", "scalar", "general")
    order = 0.5
    weak_order = 1.0
    drift_evaluations = 1
    diffusion_evaluations = 1
    needs_area = False
    use = "any Ito equation; the cheapest step, and the one to train with"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        f, g = coefficients(process, t, x)
        return add_scaled(x, f, h) if dw is None else advance(x, f, h, g, dw, process.noise_type)
