r"""Reversible Heun for Stratonovich equations: one evaluation a step, and a step that can be undone exactly.

The state is :math:`(y, z, f, g)` with :math:`f, g` at :math:`z`:

.. math::

    z' = 2 y - z + f h + g\,\Delta W, \qquad f', g' \text{ at } (t + h, z'), \qquad
    y' = y + \tfrac12 (f + f') h + \tfrac12 (g + g')\,\Delta W

(Kidger, Foster, Li and Lyons 2021). Its parasitic root :math:`-(a h + \sqrt{1 + a^2 h^2})` on :math:`\dot y = -a y`
lets errors grow like :math:`e^{a T}` for every step: for short times only, never a default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
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
        """Return the state before the step that began at ``t``.

        Where gradients are recorded, its coefficients have a graph that begins at its ``z``.
        """
        y1, z1, f1 = (part.detach() for part in state[:3])
        g1 = None if state[3] is None else state[3].detach()
        kind = process.noise_type
        minus = None if dw is None else -dw
        z = kick(add_scaled(2 * y1 - z1, f1, -h), g1, minus, kind).requires_grad_(torch.is_grad_enabled())
        f, g = both(process, t, z)
        with torch.no_grad():
            y = kick(kick(add_scaled(y1, f + f1, -0.5 * h), g, half(minus), kind), g1, half(minus), kind)
        return y, z, f, g

    def adjoint_before(
        self,
        process: Process,
        h: float | Tensor,
        state: State,
        dw: Tensor | None,
        adjoint: Sequence[Any],
        pull: Callable[..., Tensor],
    ) -> list[Any]:
        r"""Return the adjoint before a step from that after it, with the coefficients' graph at the end of the step.

        With :math:`\bar f' \mathrel{+}= \tfrac12 h \bar y'` and :math:`\bar g' \mathrel{+}= \tfrac12 \bar y'\,\Delta W`
        pulled back to :math:`a = \bar z' + (\partial_{z'} (f', g'))^\top (\bar f', \bar g')`,

        .. math:: \bar y = \bar y' + 2 a, \quad \bar z = -a, \quad \bar f = (\tfrac12 \bar y' + a) h, \quad
            \bar g = (\tfrac12 \bar y' + a)\, \Delta W .
        """
        of_y, of_z, of_f, of_g = adjoint
        _, z, f, g = state
        kind, slope = process.noise_type, 0.5 * of_y
        of_f, kicked = add_scaled(of_f, slope, h), by_diffusion(slope, g, dw, kind)
        a = of_z + pull(z, (f, g), (of_f, None if kicked is None else of_g + kicked))
        slope = slope + a
        return [of_y + 2 * a, -a, slope * h, by_diffusion(slope, g, dw, kind)]

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


def by_diffusion(adjoint: Tensor, g: Tensor | None, dw: Tensor | None, kind: NoiseType) -> Tensor | None:
    """Return the gradient by ``g`` of ``g dw``, weighted by an adjoint ``(B, d)``."""
    if g is None or dw is None:
        return None
    if kind in ("diagonal", "scalar"):
        return adjoint * dw
    return adjoint.T @ dw if g.ndim == 2 else adjoint[:, :, None] * dw[:, None, :]


def half(dw: Tensor | None) -> Tensor | None:
    """Return half an increment."""
    return None if dw is None else 0.5 * dw


def kick(x: Tensor, g: Tensor | None, dw: Tensor | None, kind: NoiseType) -> Tensor:
    """Return ``x + g dw``, or ``x`` where there is no noise."""
    return x if g is None or dw is None else apply_noise(x, g, dw, kind)
