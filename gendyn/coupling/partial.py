r"""Optimal transport of a part of the mass: the rest stays where it is and is joined to nothing.

.. math:: P^\star = \arg\min_P \sum_{ij} P_{ij}\, c(x_i, y_j), \qquad
    P_{ij} \ge 0, \quad \sum_j P_{ij} \le a_i, \quad \sum_i P_{ij} \le b_j, \quad \sum_{ij} P_{ij} = m .

One point more on either side takes what is left at no cost, and nothing passes between these two, which makes it a
balanced problem (Chapel, Alaya and Gasso 2020).
"""

from __future__ import annotations

import numpy as np
import torch

from gendyn.coupling.cost import ArrayLike, Cost, check_samples, check_weights, cost_matrix
from gendyn.coupling.exact import exact_plan
from gendyn.coupling.plan import Plan

__all__ = ["partial_plan"]


def partial_plan(
    x0: ArrayLike,
    x1: ArrayLike,
    mass: float,
    weights0: ArrayLike | None = None,
    weights1: ArrayLike | None = None,
    cost: Cost = "sqeuclidean",
) -> Plan:
    """Return the cheapest plan that moves the fraction ``mass`` of either sample.

    Parameters
    ----------
    x0, x1
        Samples ``(n_0, d)`` and ``(n_1, d)``.
    mass
        What is moved, in ``(0, 1]``; 1 is the exact plan.
    weights0, weights1
        Weights ``(n_0,)`` and ``(n_1,)``, each normalised to sum 1; uniform by default.
    cost
        ``"sqeuclidean"``, ``"euclidean"``, a function ``(x0, x1) -> (n_0, n_1)``, or the matrix itself.

    Returns
    -------
    Plan
        Normalised to mass 1, as every plan; points that stay have no mass in it.

    Raises
    ------
    ValueError
        If the mass is not in ``(0, 1]``, or samples, weights or costs are unfit.
    TransportError
        If the solver stops before the plan is exact.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[0.1], [-9.0], [1.1]])
    >>> plan = partial_plan(x, y, 2 / 3)
    >>> plan.rows.tolist(), plan.columns.tolist()
    ([0, 1], [0, 2])
    """
    if not 0 < mass <= 1:
        raise ValueError(f"mass must lie in (0, 1], a fraction of either sample; got {mass}")
    if mass == 1:
        return exact_plan(x0, x1, weights0, weights1, cost)
    first, second = check_samples(x0, x1)
    a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
    costs = cost_matrix(first, second, cost)
    n0, n1 = costs.shape
    low = float(costs.min())
    spread = float(costs.max()) - low
    # Shifted to start at zero: the mass that is moved is given, so the same for every plan.
    padded = torch.zeros(n0 + 1, n1 + 1, dtype=torch.float64, device=costs.device)
    padded[:-1, :-1] = costs - low
    padded[-1, -1] = 2 * spread + 1
    rest = a.new_tensor([1 - mass])
    places = torch.zeros(n0 + 1, 1, device=costs.device), torch.zeros(n1 + 1, 1, device=costs.device)
    whole = exact_plan(places[0], places[1], torch.cat([a, rest]), torch.cat([b, rest]), padded)
    moved = (whole.rows < n0) & (whole.columns < n1) & (whole.mass > np.finfo(np.float64).eps)
    return Plan(whole.rows[moved], whole.columns[moved], whole.mass[moved], (n0, n1))
