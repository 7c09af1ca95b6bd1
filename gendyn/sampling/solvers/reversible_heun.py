r"""Reversible Heun for Stratonovich equations: one evaluation a step, and a step that can be undone exactly.

The state is :math:`(y, z, f, g)` with :math:`f, g` at :math:`z`:

.. math::

    z' = 2 y - z + f h + g\,\Delta W, \qquad f', g' \text{ at } (t + h, z'), \qquad
    y' = y + \tfrac12 (f + f') h + \tfrac12 (g + g')\,\Delta W

(Kidger, Foster, Li and Lyons 2021). Its parasitic root :math:`-(a h + \sqrt{1 + a^2 h^2})` on :math:`\dot y = -a y`
lets errors grow like :math:`e^{a T}` for every step: for short times only, never a default.
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, coefficients

__all__ = ["ReversibleHeun"]

State = tuple[Tensor, Tensor, Tensor, Tensor | None]


class ReversibleHeun:
    """The reversible Heun step; its state carries the coefficients from one step to the next.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> p = SDE(lambda t, x: -x, lambda t, x: x, dim=1, calculus="stratonovich")
    >>> solver, t, w = ReversibleHeun(), torch.tensor(0.0), torch.full((1, 1), 0.3)
    >>> start = solver.begin(p, t, torch.ones(1, 1))
    >>> back = solver.back(p, t, 0.1, solver.forth(p, t, 0.1, start, w), w)
    >>> bool((back[0] - 1).abs() < 1e-6)
    True
    """

    name = "reversible_heun"
    calculus: tuple[Calculus, ...] = ("stratonovich",)
    noise_types: tuple[NoiseType, ...] = ("none", "additive", "diagonal", "scalar", "general")
    order = 1.0
    weak_order = 1.0
    drift_evaluations = 1
    diffusion_evaluations = 1
    needs_area = False
    use = "gradients in constant memory over short times; unstable over long ones"

    def begin(self, process: Process, t: Tensor, x: Tensor) -> State:
        """Return the state at the start."""
        f, g = both(process, t, x)
        return x, x, f, g

    def forth(self, process: Process, t: Tensor, h: float | Tensor, state: State, dw: Tensor | None) -> State:
        """Return the state after one step."""
        y, z, f, g = state
        kind = process.noise_type
        ahead = kick(add_scaled(2 * y - z, f, h), g, dw, kind)
        f1, g1 = both(process, t + h, ahead)
        moved = kick(kick(add_scaled(y, f + f1, 0.5 * h), g, half(dw), kind), g1, half(dw), kind)
        return moved, ahead, f1, g1

    def back(self, process: Process, t: Tensor, h: float | Tensor, state: State, dw: Tensor | None) -> State:
        """Return the state before the step that began at ``t``."""
        y1, z1, f1, g1 = state
        kind = process.noise_type
        minus = None if dw is None else -dw
        z = kick(add_scaled(2 * y1 - z1, f1, -h), g1, minus, kind)
        f, g = both(process, t, z)
        y = kick(kick(add_scaled(y1, f + f1, -0.5 * h), g, half(minus), kind), g1, half(minus), kind)
        return y, z, f, g

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        return self.forth(process, t, h, self.begin(process, t, x), dw)[0]


def both(process: Process, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return drift and diffusion; of an ordinary equation, the drift alone."""
    if process.noise_type == "none":
        return process.drift(t, x), None
    return coefficients(process, t, x)


def half(dw: Tensor | None) -> Tensor | None:
    """Return half an increment."""
    return None if dw is None else 0.5 * dw


def kick(x: Tensor, g: Tensor | None, dw: Tensor | None, kind: NoiseType) -> Tensor:
    """Return ``x + g dw``, or ``x`` where there is no noise."""
    return x if g is None or dw is None else apply_noise(x, g, dw, kind)
