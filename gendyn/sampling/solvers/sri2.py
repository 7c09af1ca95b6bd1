r"""Roessler's SRI2 for Ito equations with diagonal or scalar noise: strong order 3/2 without derivatives.

With :math:`U = h(\tfrac12 \Delta W + H)`, :math:`I_{11} = \tfrac12(\Delta W^2 - h)`,
:math:`I_{111} = \tfrac16(\Delta W^3 - 3 h \Delta W)` and stages

.. math::

    f_s = f\bigl(t + c^0_s h,\; X + h \textstyle\sum A^0_{sr} f_r + \tfrac{U}{h} \sum B^0_{sr} g_r\bigr), \qquad
    g_s = g\bigl(t + c^1_s h,\; X + h \sum A^1_{sr} f_r + \sqrt h \sum B^1_{sr} g_r\bigr),

    X' = X + \textstyle\sum a_s f_s h + \sum g_s\bigl(b^1_s \Delta W + b^2_s I_{11}/\sqrt h + b^3_s U/h
    + b^4_s I_{111}/h\bigr)

(Roessler 2010). The values of all stages are kept: four evaluations of each coefficient a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import combine, with_area

__all__ = ["SRI2"]


C0, C1 = (0.0, 1.0, 0.5, 0.0), (0.0, 0.25, 1.0, 0.25)
A0 = ((), (1.0,), (0.25, 0.25), (0.0, 0.0, 0.0))
A1 = ((), (0.25,), (1.0, 0.0), (0.0, 0.0, 0.25))
B0 = ((), (0.0,), (1.0, 0.5), (0.0, 0.0, 0.0))
B1 = ((), (-0.5,), (1.0, 0.0), (2.0, -1.0, 0.5))
WEIGHTS = (1 / 6, 1 / 6, 2 / 3, 0.0)
NOISE_WEIGHTS = (
    (-1.0, 4 / 3, 2 / 3, 0.0),
    (1.0, -4 / 3, 1 / 3, 0.0),
    (2.0, -4 / 3, -2 / 3, 0.0),
    (-2.0, 5 / 3, -2 / 3, 1.0),
)


class SRI2:
    """Roessler's SRI2 step for Ito equations.

    For diagonal noise each entry must depend on its own coordinate alone, as for Milstein's method.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1)
    >>> w = torch.full((1, 1), 0.5)
    >>> SRI2().step(geometric, torch.tensor(0.0), 0.1, torch.ones(1, 1), w, torch.zeros(1, 1)).item()
    1.5708...
    """

    name = "sri2"
    calculus: tuple[Calculus, ...] = ("ito",)
    noise_types: tuple[NoiseType, ...] = ("diagonal", "scalar")
    order = 1.5
    weak_order = 2.0
    drift_evaluations = 4
    diffusion_evaluations = 4
    needs_area = True
    needs_diagonal = True
    use = "multiplicative Ito noise to strong order 3/2"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        w, shift = with_area(dw, area, self.name)
        root = h**0.5 if isinstance(h, float) else h.sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        length = h if isinstance(h, float) else h.clamp_min(torch.finfo(x.dtype).tiny)
        u = 0.5 * w + shift  # U / h
        double = (w.square() - h) / (2 * root)  # I11 / sqrt(h)
        triple = (w**3 - 3 * h * w) / (6 * length)  # I111 / h
        fs: list[Tensor] = []
        gs: list[Tensor] = []
        for s in range(4):
            at = combine(combine(x, h, A0[s], fs), u, B0[s], gs)
            fs.append(process.drift(t + C0[s] * h, at))
            at = combine(combine(x, h, A1[s], fs), root, B1[s], gs)
            gs.append(process.diffusion(t + C1[s] * h, at))
        moved = combine(x, h, WEIGHTS, fs)
        for weights, integral in zip(NOISE_WEIGHTS, (w, double, u, triple), strict=True):
            moved = combine(moved, integral, weights, gs)
        return moved
