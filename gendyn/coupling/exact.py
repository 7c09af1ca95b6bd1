r"""Exact optimal transport between two samples.

.. math:: P^\star = \arg\min_P \sum_{ij} P_{ij}\, c(x_i, y_j), \qquad
    P_{ij} \ge 0, \quad \sum_j P_{ij} = a_i, \quad \sum_i P_{ij} = b_j .

One problem, three ways: in one dimension the plan is monotone and costs a sort; small samples of equal size and
weights are a linear assignment (SciPy); everything else is the network simplex of POT (Bonneel et al. 2011,
Flamary et al. 2021). Uniform weights enter the simplex as whole numbers, so that its sums and differences are exact
and equal sizes give a permutation without crumbs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, Cost, check_samples, check_weights, cost_matrix, is_uniform
from gendyn.coupling.plan import Plan

__all__ = ["TransportError", "exact_plan", "optimal_partners", "transport_cost"]

Floats = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]
Atoms = tuple[Integers, Integers, Floats]

_ASSIGNMENT_SIZE = 256
"""Size up to which linear assignment is faster than the network simplex."""

_ASSIGNMENT_COST_SIZE = 600
"""The same where the cost alone is wanted."""

_PIVOTS = 50_000_000
"""Pivots after which the simplex gives up; ten thousand points a side need a few million."""


class TransportError(RuntimeError):
    """An optimal-transport solver stopped before its answer was exact.

    Examples
    --------
    >>> issubclass(TransportError, RuntimeError)
    True
    """


def exact_plan(
    x0: ArrayLike,
    x1: ArrayLike,
    weights0: ArrayLike | None = None,
    weights1: ArrayLike | None = None,
    cost: Cost = "sqeuclidean",
    *,
    max_iterations: int = _PIVOTS,
) -> Plan:
    """Return an exact optimal transport plan.

    Parameters
    ----------
    x0, x1
        Samples ``(n_0, d)`` and ``(n_1, d)``.
    weights0, weights1
        Weights ``(n_0,)`` and ``(n_1,)``, each normalised to sum 1; uniform by default.
    cost
        ``"sqeuclidean"``, ``"euclidean"``, a function ``(x0, x1) -> (n_0, n_1)``, or the matrix itself.
    max_iterations
        Pivots of the network simplex before it gives up.

    Returns
    -------
    Plan
        At most ``n_0 + n_1 - 1`` atoms; a permutation where sizes are equal and weights uniform.

    Raises
    ------
    ValueError
        If samples, weights or costs are unfit, or ``n_0 n_1`` exceeds 2.5e8 (couple mini-batches then). One
        feature with a named cost has no such limit: no matrix is formed.
    TransportError
        If the solver stops before the plan is exact.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[2.0], [5.0], [0.5]])
    >>> plan = exact_plan(x, y)
    >>> plan.columns.tolist(), round(plan.cost(x, y), 9)
    ([2, 0, 1], 1.75)
    """
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1; got {max_iterations}")
    first, second = check_samples(x0, x1)
    n0, n1 = len(first), len(second)
    a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
    uniform = is_uniform(a) and is_uniform(b)
    if uniform and n0 == n1:
        columns = optimal_partners(first, second, cost, max_iterations=max_iterations)
        return Plan(torch.arange(n0, device=columns.device), columns, torch.ones(n0, device=columns.device), (n0, n1))
    if uniform:
        common = math.gcd(n0, n1)
        masses = np.full(n0, float(n1 // common)), np.full(n1, float(n0 // common))
    else:
        masses = a.cpu().numpy(), b.cpu().numpy()
    if _is_line(first, cost):
        atoms = _monotone(first[:, 0].cpu().numpy(), second[:, 0].cpu().numpy(), *masses)
    else:
        atoms = _simplex(cost_matrix(first, second, cost).cpu().numpy(), *masses, max_iterations)
    rows, columns, mass = (torch.from_numpy(values).to(first.device) for values in atoms)
    return Plan(rows, columns, mass, (n0, n1))


def optimal_partners(x0: Tensor, x1: Tensor, cost: Cost = "sqeuclidean", *, max_iterations: int = _PIVOTS) -> Tensor:
    """Return the optimal partner ``(n,)`` in ``x1`` of every row of ``x0``, two samples of one size.

    Examples
    --------
    >>> optimal_partners(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.2], [0.1]])).tolist()
    [1, 0]
    """
    n = len(x0)
    if _is_line(x0, cost):
        first, second = check_samples(x0, x1)
        partners = torch.empty(n, dtype=torch.int64, device=first.device)
        partners[first[:, 0].argsort(stable=True)] = second[:, 0].argsort(stable=True)
        return partners
    costs = cost_matrix(x0, x1, cost)
    if n <= _ASSIGNMENT_SIZE:
        columns = linear_sum_assignment(costs.cpu().numpy())[1]
    else:
        columns = _simplex(costs.cpu().numpy(), np.ones(n), np.ones(n), max_iterations)[1]
    return torch.from_numpy(np.asarray(columns, dtype=np.int64)).to(costs.device)


def _is_line(x: Tensor, cost: Cost) -> bool:
    """Whether the points lie on a line and the cost is convex in their distance: the plan is then monotone."""
    return x.ndim == 2 and x.shape[1] == 1 and isinstance(cost, str) and cost in ("sqeuclidean", "euclidean")


def _monotone(x0: Floats, x1: Floats, a: Floats, b: Floats) -> Atoms:
    """Join equal quantiles: between two neighbouring steps of either distribution function lies one atom."""
    order0, order1 = np.argsort(x0, kind="stable"), np.argsort(x1, kind="stable")
    steps0, steps1 = np.cumsum(a[order0]), np.cumsum(b[order1])
    total = min(steps0[-1], steps1[-1])
    for steps in (steps0, steps1):
        np.minimum(steps, total, out=steps)
        steps[-1] = total
    levels = np.unique(np.concatenate([steps0, steps1]))
    levels = levels[levels > 0]
    rows, columns = order0[np.searchsorted(steps0, levels)], order1[np.searchsorted(steps1, levels)]
    return rows, columns, np.diff(levels, prepend=0.0)


def transport_cost(costs: Floats, a: Floats, b: Floats, max_iterations: int = _PIVOTS) -> float:
    r"""Return :math:`\min_P \sum_{ij} P_{ij} c_{ij}` alone, for costs ``(n, m)`` and weights that sum to 1, in float64.

    Raises
    ------
    TransportError
        If the solver stops before its answer is exact.

    Examples
    --------
    >>> transport_cost(np.array([[1.0, 3.0], [3.0, 1.0]]), np.array([0.5, 0.5]), np.array([0.5, 0.5]))
    1.0
    """
    if len(a) == len(b) <= _ASSIGNMENT_COST_SIZE and bool((a == a[0]).all()) and bool((b == b[0]).all()):
        rows, columns = linear_sum_assignment(costs)
        return float(costs[rows, columns].mean() * a.sum())
    power = _magnitude(costs)
    return math.ldexp(float(_pot(ot.emd2, a, b, np.ldexp(costs, power), max_iterations)), -power)


def _magnitude(costs: Floats) -> int:
    """Return the power of two that brings the largest cost to about 2^60, which rounds nothing.

    The simplex takes reduced costs within some 1e-14 of zero for zero, whatever their unit: left as they are, costs of
    data in small units would silently give a plan that is not optimal.
    """
    largest = max(float(costs.max()), -float(costs.min()))
    return 60 - math.frexp(largest)[1] if largest > 0 else 0


def _pot(solver: Any, a: Floats, b: Floats, costs: Floats, max_iterations: int) -> Any:
    """Run a solver of POT; an answer that is not optimal is an error, not a warning."""
    try:
        # What POT says in a warning stands in its log too, which does not depend on the caller's filters.
        answer, log = solver(a, b, costs, numItermax=max_iterations, log=True, center_dual=False)
        unsolved = log["warning"]
    except UserWarning as warning:
        unsolved = str(warning)
    if unsolved is not None:
        raise TransportError(
            f"optimal transport between {len(a)} and {len(b)} points was not solved exactly within {max_iterations} "
            "pivots; raise max_iterations or use fewer points"
        )
    return answer


def _simplex(costs: Floats, a: Floats, b: Floats, max_iterations: int) -> Atoms:
    """Solve by POT's network simplex and return the atoms, sorted by row."""
    n0, n1 = costs.shape
    matrix = _pot(ot.emd, a, b, np.ldexp(costs, _magnitude(costs)), max_iterations)
    rows, columns = np.nonzero(matrix > 0)
    mass = matrix[rows, columns]
    missed = max(
        float(np.abs(np.bincount(index, mass, len(target)) - target).sum())
        for index, target in ((rows, a), (columns, b))
    )
    if not missed < 1e-9 * float(a.sum()):
        raise TransportError(
            f"optimal transport between {n0} and {n1} points missed its weights by {missed / float(a.sum()):.1e} of "
            "the mass; bring the costs or weights to a smaller range"
        )
    return rows.astype(np.int64), columns.astype(np.int64), mass
