r"""Heun's method with the noise of a step first, for additive noise.

.. math:: Z = X + g(t, X)\,\Delta W, \qquad k_1 = f(t + h, Z), \quad k_2 = f(t + h, Z + h k_1), \qquad
    X' = Z + \tfrac{h}{2}(k_1 + k_2).

Both slopes are taken at the end of the step, so that a drift which is singular at the first time, as scores of
interpolants are, is never evaluated there (Albergo, Boffi and Vanden-Eijnden 2023; Karras et al. 2022). Order 1.
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise

__all__ = ["NoiseFirstHeun"]


class NoiseFirstHeun:
    """The step that adds its noise before it drifts.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> pulled = SDE(lambda t, x: -x, lambda t, x: torch.eye(1), dim=1, noise_type="additive")
    >>> one = torch.ones(1, 1)
    >>> round(NoiseFirstHeun().step(pulled, torch.tensor(0.0), 0.1, one, one).item(), 4)
    1.81
    """

    name = "noise_first_heun"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("additive",)
    order = 1.0
    weak_order = 1.0
    drift_evaluations = 2
    diffusion_evaluations = 1
    needs_area = False
    use = "diffusions of learned scores, singular at the first time"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        noisy = x if dw is None else apply_noise(x, process.diffusion(t, x), dw, process.noise_type)
        first = process.drift(t + h, noisy)
        second = process.drift(t + h, add_scaled(noisy, first, h))
        return add_scaled(add_scaled(noisy, first, 0.5 * h), second, 0.5 * h)
