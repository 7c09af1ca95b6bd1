r"""The Euler-Maruyama method for Ito equations.

.. math:: X' = X + f(t, X)\, h + g(t, X)\, \Delta W, \qquad \Delta W \sim \mathcal{N}(0, h I).

Strong order 1/2, and 1 for additive noise; weak order 1 (Kloeden and Platen 1992).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = ["EulerMaruyama", "apply_noise"]


class EulerMaruyama:
    """The Euler-Maruyama step, for every noise type.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> brownian = SDE(lambda t, x: torch.zeros_like(x), lambda t, x: torch.ones_like(x), dim=1)
    >>> EulerMaruyama().step(brownian, torch.tensor(0.0), 0.1, torch.zeros(1, 1), torch.full((1, 1), 0.3)).item()
    0.30000001192092896
    """

    name = "euler_maruyama"
    calculus: tuple[Calculus, ...] = ("ito",)
    noise_types: tuple[NoiseType, ...] = ("additive", "diagonal", "scalar", "general")
    order = 0.5
    drift_evaluations = 1
    diffusion_evaluations = 1

    def step(self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None) -> Tensor:
        """Return the state after one step."""
        both = getattr(process, "drift_diffusion", None)
        f, g = both(t, x) if both is not None else (process.drift(t, x), process.diffusion(t, x))
        moved = torch.add(x, f, alpha=h) if isinstance(h, float) else x + h * f
        return moved if dw is None else apply_noise(moved, g, dw, process.noise_type)


def apply_noise(x: Tensor, g: Tensor, dw: Tensor, noise_type: NoiseType) -> Tensor:
    """Return ``x + g dw``: elementwise for diagonal and scalar noise, a matrix product for the others."""
    if noise_type in ("diagonal", "scalar"):
        return torch.addcmul(x, g, dw)
    if g.ndim == 2:
        return torch.addmm(x, dw, g.T)
    return torch.baddbmm(x[:, :, None], g, dw[:, :, None])[:, :, 0]
