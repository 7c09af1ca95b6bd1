r"""The Milstein method: Euler-Maruyama with the one iterated integral that diagonal noise has.

.. math:: X' = X + f h + g\,\Delta W + \tfrac12\, g\, g' (\Delta W^2 - h) \quad\text{(Ito)},

without the :math:`-h` in Stratonovich calculus; :math:`g'` is the derivative of each entry by its own coordinate (for
scalar noise, of the vector along itself). Strong order 1 (Milstein 1974; Kloeden and Platen 1992). The derivative
comes from the process's ``diffusion_dx`` where it has one, else from automatic differentiation.
"""

from __future__ import annotations

from torch import Tensor

from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.solvers.solver import add_scaled, apply_noise, coefficients, diffusion_derivative

__all__ = ["Milstein"]


class Milstein:
    """The Milstein step for diagonal, scalar and additive noise.

    For diagonal noise each entry must depend on its own coordinate alone; a network of all coordinates does not, and
    the order falls to 1/2: see :func:`gendyn.sampling.check_diagonal`.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1)
    >>> Milstein().step(geometric, torch.tensor(0.0), 0.1, torch.ones(1, 1), torch.full((1, 1), 0.5)).item()
    1.575...
    """

    name = "milstein"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("additive", "diagonal", "scalar")
    order = 1.0
    weak_order = 1.0
    drift_evaluations = 1
    diffusion_evaluations = 2
    needs_area = False
    needs_diagonal = True
    use = "multiplicative diagonal noise; one order better than Euler for one derivative"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        f, g = coefficients(process, t, x)
        moved = add_scaled(x, f, h)
        if dw is None:
            return moved
        moved = apply_noise(moved, g, dw, process.noise_type)
        if process.noise_type == "additive":
            return moved
        square = dw.square() if process.calculus == "stratonovich" else dw.square() - h
        return moved + 0.5 * diffusion_derivative(process, t, x, g) * square
