"""Couplings that may leave points out: those far from all others are paired rarely, or not at all.

They decide who is paired with whom and who counts: pairs follow a plan whose marginals are not the weights of the
batches (Chizat et al. 2018; Chapel, Alaya and Gasso 2020).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, Cost, cost_matrix
from gendyn.coupling.entropic import sinkhorn_plan
from gendyn.coupling.pairing import check_reusable, cost_name, default_strength, draw_evenly
from gendyn.coupling.partial import partial_plan
from gendyn.coupling.plan import Plan

__all__ = ["PartialCoupling", "UnbalancedCoupling"]


class UnbalancedCoupling:
    r"""Entropic transport that may leave points out, at a price; pairs are drawn from the plan.

    The plan minimises cost, entropy and :math:`\rho` times the Kullback-Leibler divergences of its marginals from the
    weights: a point far from all others is paired rarely. Pairs follow the plan, so their marginals are not the
    weights; :func:`~gendyn.coupling.sinkhorn_plan` has the weights that points keep.

    Parameters
    ----------
    relaxation
        :math:`\rho`, in units of the cost; infinite is :class:`EntropicCoupling`.
    regularisation, cost, max_iterations, tolerance
        As for :class:`EntropicCoupling`.

    Raises
    ------
    ValueError
        If relaxation or regularisation are not positive, or the cost is not a known name or a function.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [50.0]]), torch.tensor([[0.0], [1.0]])
    >>> i, j = UnbalancedCoupling(1.0, 0.1)(x, y, generator=torch.Generator().manual_seed(0))
    >>> i.tolist()
    [0, 0]
    """

    def __init__(
        self,
        relaxation: float,
        regularisation: float | None = None,
        cost: Cost = "sqeuclidean",
        *,
        max_iterations: int = 1000,
        tolerance: float = 1e-3,
    ) -> None:
        if not relaxation > 0:
            raise ValueError(f"relaxation must be positive, or infinite for a balanced plan; got {relaxation}")
        if regularisation is not None and not 0 < regularisation < math.inf:
            raise ValueError(f"regularisation must be positive and finite; got {regularisation}")
        check_reusable(cost)
        self.relaxation = relaxation
        self.regularisation = regularisation
        self.cost = cost
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`."""
        costs = cost_matrix(x0, x1, self.cost)
        plan = sinkhorn_plan(
            x0,
            x1,
            default_strength(costs) if self.regularisation is None else self.regularisation,
            weights0,
            weights1,
            relaxation=self.relaxation,
            cost=costs,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        ).plan
        return _pairs_of_plan(plan, generator)

    def __repr__(self) -> str:
        return (
            f"UnbalancedCoupling(relaxation={self.relaxation}, regularisation={self.regularisation}, "
            f"cost={cost_name(self.cost)})"
        )


class PartialCoupling:
    """Exact transport of a part of the mass, where it is cheapest; the rest is left out.

    Parameters
    ----------
    mass
        Fraction of either batch that is paired, in ``(0, 1]``.
    cost
        A name or a function; see :func:`~gendyn.coupling.cost_matrix`.

    Raises
    ------
    ValueError
        If the mass is not in ``(0, 1]``, or the cost is not a known name or a function.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [50.0]]), torch.tensor([[0.0], [-50.0]])
    >>> i, j = PartialCoupling(0.5)(x, y, generator=torch.Generator().manual_seed(0))
    >>> i.tolist(), j.tolist()
    ([0, 0], [0, 0])
    """

    def __init__(self, mass: float, cost: Cost = "sqeuclidean") -> None:
        if not 0 < mass <= 1:
            raise ValueError(f"mass must lie in (0, 1], a fraction of either sample; got {mass}")
        check_reusable(cost)
        self.mass = mass
        self.cost = cost

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`."""
        return _pairs_of_plan(partial_plan(x0, x1, self.mass, weights0, weights1, self.cost), generator)

    def __repr__(self) -> str:
        return f"PartialCoupling(mass={self.mass}, cost={cost_name(self.cost)})"


def _pairs_of_plan(plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw as many pairs as the larger side has points, every atom as evenly as whole numbers allow."""
    atoms = draw_evenly(plan.mass, max(plan.shape), generator)
    return plan.rows[atoms], plan.columns[atoms]
