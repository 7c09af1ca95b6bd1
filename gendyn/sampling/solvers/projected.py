r"""Steps of a solver in the surrounding space, each brought back to the manifold.

For a process that lives on a manifold :math:`M \subset \mathbb{R}^d`, with a projection :math:`\pi` onto it,

.. math:: x_{n+1} = \pi\bigl(\Phi_h(t_n, x_n)\bigr) .

A step of order p leaves the manifold by :math:`O(h^{p+1})`, and so much the projection moves it: the order stays
(Hairer, Lubich and Wanner 2006, IV.4).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from gendyn.sampling.process import Process
from gendyn.sampling.solvers.solver import Solver

__all__ = ["Projected"]


class Projected:
    """A fixed-step solver whose every step ends on a manifold.

    Parameters
    ----------
    solver
        The method in the surrounding space, one that carries nothing but the state from step to step.
    project
        Points ``(B, d)`` near the manifold to points on it.

    Raises
    ------
    ValueError
        If the solver carries more than the state.

    Examples
    --------
    >>> import torch
    >>> from gendyn.sampling import ODE, SOLVERS, sample
    >>> turn = ODE(lambda t, x: torch.stack([-x[:, 1], x[:, 0]], dim=1), dim=2)
    >>> on_circle = Projected(SOLVERS["euler"], lambda x: x / x.norm(dim=1, keepdim=True))
    >>> end = sample(turn, torch.tensor([[1.0, 0.0]]), [0.0, 1.0], solver=on_circle, step=0.1).values[0, -1]
    >>> round(end.norm().item(), 6)
    1.0
    """

    def __init__(self, solver: Solver, project: Callable[[Tensor], Tensor]) -> None:
        if hasattr(solver, "forth") or not hasattr(solver, "step"):
            raise ValueError(
                f"solver {getattr(solver, 'name', solver)!r} carries more than the state from step to step and cannot "
                "be projected; use 'heun', 'rk4' or 'euler_heun'"
            )
        self.solver = solver
        self.project = project
        self.name = f"projected_{solver.name}"
        self.use = f"processes on a manifold; otherwise as {solver.name}"
        self.calculus = solver.calculus
        self.noise_types = solver.noise_types
        self.order, self.weak_order = solver.order, solver.weak_order
        self.drift_evaluations = solver.drift_evaluations
        self.diffusion_evaluations = solver.diffusion_evaluations
        self.needs_area = solver.needs_area

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return the state after one step."""
        return self.project(self.solver.step(process, t, h, x, dw, area))
