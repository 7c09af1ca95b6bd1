r"""Couplings of cells that multiply, as Waddington-OT finds them.

Between cells :math:`x_i` and later cells :math:`y_j`, of which cell i is expected to leave :math:`g_i` descendants, the
transport map minimises

.. math::

    \sum_{ij} \pi_{ij} c_{ij} + \varepsilon \sum_{ij} \pi_{ij} (\log \pi_{ij} - 1)
    + \lambda_0\, \mathrm{KL}(\pi 1 \Vert p) + \lambda_1\, \mathrm{KL}(\pi^\top 1 \Vert q), \qquad
    p_i = g_i / n_0, \quad q_j = \textstyle\sum_i p_i / n_1,

with c the squared distance in the leading principal components of both populations together, divided by its median. How
much a cell grew is learned by taking the row sums of a map for the growth of the next (Schiebinger et al., Cell 2019).
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, check_samples, check_weights, cost_matrix
from gendyn.coupling.entropic import EntropicPlan, Relaxation, check_relaxation, solve_entropic

__all__ = ["median_cost", "waddington_plan"]


def waddington_plan(
    x0: ArrayLike,
    x1: ArrayLike,
    growth: ArrayLike | None = None,
    *,
    regularisation: float = 0.05,
    relaxation: Relaxation = (1.0, 50.0),
    growth_iterations: int = 3,
    components: int | None = 30,
    max_iterations: int = 10_000,
    tolerance: float = 1e-6,
) -> EntropicPlan:
    r"""Return the transport map of Waddington-OT between two populations.

    Parameters
    ----------
    x0, x1
        Cells ``(n_0, d)`` and ``(n_1, d)``.
    growth
        :math:`g`, expected descendants of every earlier cell over the interval, ``(n_0,)``; 1 by default.
    regularisation
        :math:`\varepsilon`, in medians of the squared distance.
    relaxation
        :math:`(\lambda_0, \lambda_1)`, in the same unit; infinite: that side is met.
    growth_iterations
        How many maps are solved, each with the row sums of the one before for its growth.
    components
        Principal components that distances are measured in; ``None``: all features as they are.
    max_iterations, tolerance
        See :func:`~gendyn.coupling.sinkhorn_plan`.

    Returns
    -------
    EntropicPlan
        The plan has mass 1; the map is that times ``mass``, and its row sums times :math:`n_0` are the learned growth.

    Raises
    ------
    ValueError
        If cells, growth or numbers are unfit.

    Warns
    -----
    UserWarning
        If a map did not converge.

    Examples
    --------
    One of two cells has twice as many descendants, which only its own neighbours can be:

    >>> x, y = torch.tensor([[0.0], [9.0]]), torch.tensor([[0.0], [0.1], [9.0]])
    >>> solved = waddington_plan(x, y, regularisation=0.01)
    >>> [round(v, 2) for v in (solved.plan.marginals[0] * solved.mass * 2).tolist()]
    [1.33, 0.67]
    """
    first, second = check_samples(x0, x1)
    prices = check_relaxation(relaxation)
    _check_numbers(regularisation, growth_iterations, components)
    p = _expected(growth, first) / len(first)
    costs = cost_matrix(*_leading(first, second, components))
    costs, even = costs / median_cost(costs), check_weights(None, second, "x1")
    for k in range(growth_iterations):
        q = even * p.sum()
        # The plan is a_i b_j e^((f + g - c) / epsilon), and the map's kernel has no weights in it.
        weighted = costs + regularisation * (p.log()[:, None] + q.log())
        result, used = solve_entropic(
            weighted, p, q, regularisation, relaxation=prices, max_iterations=max_iterations, tolerance=tolerance
        )
        if not result.marginal_error <= tolerance:
            _warn(result.marginal_error, used)
        if k + 1 < growth_iterations:
            mass = result.mass if not all(map(math.isinf, prices)) else float(p.sum())
            p = (result.plan.marginals[0] * mass).clamp_min(torch.finfo(torch.float64).tiny)
    return result


def _check_numbers(regularisation: float, growth_iterations: int, components: int | None) -> None:
    """Raise a ValueError where one of the three is out of range."""
    if not 0 < regularisation < math.inf:
        raise ValueError(f"regularisation must be positive and finite; got {regularisation}")
    if growth_iterations < 1:
        raise ValueError(f"growth_iterations must be at least 1; got {growth_iterations}")
    if components is not None and components < 1:
        raise ValueError(f"components must be at least 1, or None for all features; got {components}")


def _warn(error: float, iterations: int) -> None:
    """Say that a map did not converge."""
    warnings.warn(
        f"the transport map misses its masses by {error:.1e} after {iterations} iterations; raise max_iterations or "
        "regularisation",
        UserWarning,
        stacklevel=3,
    )


def _expected(growth: ArrayLike | None, cells: Tensor) -> Tensor:
    """Return the expected descendants of every cell, float64."""
    if growth is None:
        return torch.ones_like(cells[:, 0], dtype=torch.float64)
    g = torch.as_tensor(growth).detach().to(device=cells.device, dtype=torch.float64)
    if g.shape != (len(cells),) or not bool((g > 0).all() and torch.isfinite(g).all()):
        raise ValueError(
            f"growth must be positive and finite, one number for each of the {len(cells)} earlier cells; "
            f"got shape {tuple(g.shape)}"
        )
    return g


def median_cost(costs: Tensor) -> float:
    """Return the median of all entries, the mean of the middle two where their number is even.

    Raises
    ------
    ValueError
        If it is 0, so that distances have no scale.

    Examples
    --------
    >>> median_cost(torch.tensor([[1.0, 2.0], [4.0, 9.0]]))
    3.0
    """
    ordered = costs.flatten().sort().values
    middle = float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    if not middle > 0:
        raise ValueError(
            "the median squared distance between the populations is 0, so that it is no scale; are more than half of "
            "all cells the same?"
        )
    return middle


def _leading(x0: Tensor, x1: Tensor, components: int | None) -> tuple[Tensor, Tensor]:
    """Return both in the leading principal components of both together."""
    joined = torch.cat([x0, x1]).to(torch.float64)
    joined = joined - joined.mean(0)
    if components is not None and components < joined.shape[1]:
        u, s, _ = torch.linalg.svd(joined, full_matrices=False)
        joined = u[:, :components] * s[:components]
    return joined[: len(x0)], joined[len(x0) :]
