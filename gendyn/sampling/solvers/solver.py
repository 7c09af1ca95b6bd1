r"""What a solver is: one step of a process; and the few lines of algebra that all steps share.

A solver knows no model and no loop. It says which calculus and which noise it is right for, its orders, and how
often it evaluates the coefficients in a step; its ``step`` is the equation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = [
    "Solver",
    "add_scaled",
    "advance",
    "apply_noise",
    "coefficients",
    "combine",
    "diffusion_derivative",
    "with_area",
]


class Solver(Protocol):
    """A fixed-step method.

    Optional members: ``columns(process)``, the number of Brownian motions that a step takes where it is not the
    process's own; ``needs_diagonal``, whether its order rests on noise that is diagonal in more than shape; ``begin``,
    ``forth`` and ``back``, of a method that carries more than the state from step to step, or goes back.

    Attributes
    ----------
    name : str
        What users call it.
    calculus, noise_types : tuple
        What it is right for.
    order, weak_order : float
        Strong order (for ordinary equations: the order) for the noise it is meant for, and weak order.
    drift_evaluations, diffusion_evaluations : int
        Of one step.
    needs_area : bool
        Whether a step asks for the space-time Levy area of its Brownian increment.
    use : str
        When to choose it.
    """

    name: str
    calculus: tuple[Calculus, ...]
    noise_types: tuple[NoiseType, ...]
    order: float
    weak_order: float
    drift_evaluations: int
    diffusion_evaluations: int
    needs_area: bool
    use: str

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        r"""Return the state ``(B, d)`` after a step of length ``h`` from ``(t, x)``.

        ``dw`` is the increment :math:`W_{t+h} - W_t` of shape ``(B, m)``; ``area`` the space-time Levy area
        :math:`H = \frac1h \int_t^{t+h} (W_s - W_t - \frac{s-t}{h} \Delta W)\,ds \sim \mathcal N(0, h/12)`.
        """
        ...


def add_scaled(x: Tensor, y: Tensor, scale: float | Tensor) -> Tensor:
    """Return ``x + scale * y``, in one pass where the scale is a number."""
    return torch.add(x, y, alpha=scale) if isinstance(scale, float) else x + scale * y


def combine(x: Tensor, h: float | Tensor, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    r"""Return :math:`x + h \sum_i w_i k_i`, skipping weights that are zero.

    Examples
    --------
    >>> combine(torch.zeros(1), 0.5, (1.0, 0.0), [torch.ones(1), torch.ones(1)]).item()
    0.5
    """
    for weight, slope in zip(weights, slopes, strict=False):
        if weight:
            x = add_scaled(x, slope, weight * h)
    return x


def apply_noise(x: Tensor, g: Tensor, dw: Tensor, noise_type: NoiseType) -> Tensor:
    """Return ``x + g dw``: elementwise for diagonal and scalar noise, a matrix product for the others."""
    if noise_type in ("diagonal", "scalar"):
        return torch.addcmul(x, g, dw)
    if g.ndim == 2:
        return torch.addmm(x, dw, g.T)
    return torch.baddbmm(x[:, :, None], g, dw[:, :, None])[:, :, 0]


def advance(x: Tensor, f: Tensor, h: float | Tensor, g: Tensor, dw: Tensor, noise_type: NoiseType) -> Tensor:
    """Return ``x + f h + g dw``."""
    if noise_type not in ("diagonal", "scalar"):
        return apply_noise(add_scaled(x, f, h), g, dw, noise_type)
    moved = x.addcmul(g, dw)
    # In place, which no gradient minds: what was just made is nobody's yet.
    return moved.add_(f, alpha=h) if isinstance(h, float) else moved.addcmul_(f, h)


def coefficients(process: Process, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return drift and diffusion at one point, in one call where the process offers it."""
    both = getattr(process, "drift_diffusion", None)
    return both(t, x) if both is not None else (process.drift(t, x), process.diffusion(t, x))


def with_area(dw: Tensor | None, area: Tensor | None, name: str) -> tuple[Tensor, Tensor]:
    """Return increment and area, or say that they are needed."""
    if dw is None or area is None:
        raise ValueError(f"solver {name!r} needs Brownian increments with their space-time Levy area; got none")
    return dw, area


def diffusion_derivative(process: Process, t: Tensor, x: Tensor, g: Tensor) -> Tensor:
    r"""Return the derivative that Milstein's method needs, ``(B, d)``, times the diffusion.

    For diagonal noise :math:`g_i\, \partial g_i/\partial x_i`, for scalar noise :math:`(Dg)\,g`; from the process's
    ``diffusion_dx`` (:math:`\partial g_i/\partial x_i`, or :math:`(Dg)\,g`) where it has one, else by differentiation.
    """
    given = getattr(process, "diffusion_dx", None)
    if given is not None:
        derivative: Tensor = given(t, x)
        return derivative if process.noise_type == "scalar" else g * derivative
    if process.noise_type == "scalar":
        along: Tensor = torch.func.jvp(lambda z: process.diffusion(t, z), (x.contiguous(),), (g.contiguous(),))[1]
        return along
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        z = x if x.requires_grad and keep else x.detach().requires_grad_(True)
        value = process.diffusion(t, z)
        if not value.requires_grad:
            return torch.zeros_like(x)
        slope = torch.autograd.grad(value.sum(), z, create_graph=keep, materialize_grads=True)[0]
    return g * slope
