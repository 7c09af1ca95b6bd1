r"""The static Schroedinger bridge: entropic transport whose regularisation a reference process sets.

Between populations :math:`\sum_i a_i \delta_{x_i}` and :math:`\sum_j b_j \delta_{y_j}` the bridge of a reference with
transition density :math:`p` minimises

.. math:: \mathrm{KL}\bigl(\pi \,\Vert\, a_i\, p(y_j \mid x_i)\bigr), \qquad
    \pi_{ij} = a_i b_j\, e^{f_i + g_j}\, p(y_j \mid x_i),

over couplings of the two (Schroedinger 1931; Leonard 2014). It is entropic transport of the cost
:math:`-\log p(y_j \mid x_i)` at regularisation 1: how strongly mass spreads follows from the noise of the reference and
the time between the populations, and is no knob. The minimum itself is
:math:`\sum_i a_i f_i + \sum_j b_j (g_j + \log b_j)`.

Where cells multiply and die the weights may be missed at a price (Chizat, Peyre, Schmitzer and Vialard 2018),

.. math:: \mathrm{KL}(\pi \Vert K) + \rho_0\, \mathrm{KL}(\pi 1 \Vert a) + \rho_1\, \mathrm{KL}(\pi^\top 1 \Vert b),
    \qquad K_{ij} \propto a_i\, p(y_j \mid x_i), \quad \sum_{ij} K_{ij} = 1,

with :math:`\mathrm{KL}(\pi \Vert K) = \sum \pi \log(\pi / K) - \sum \pi + \sum K`. Rows then have the sums
:math:`a_i e^{-\varphi_i / \rho_0}`, with :math:`\varphi` the potential with respect to K. That K has mass 1 makes the
mass of the plan independent of the units in which p is a density.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, check_weights
from gendyn.coupling.entropic import (
    THOROUGH,
    EntropicPlan,
    Relaxation,
    check_relaxation,
    plan_of_potentials,
    solve_entropic,
)
from gendyn.coupling.plan import Plan

__all__ = ["StaticBridge", "bridge_kl", "bridge_plan", "static_bridge"]


@dataclass(frozen=True, eq=False)
class StaticBridge:
    r"""What :func:`static_bridge` returns.

    Attributes
    ----------
    potentials
        :math:`f` of shape ``(n_0,)`` and :math:`g` of shape ``(n_1,)``, float64; pass them on to start a similar
        problem.
    kl
        :math:`\mathrm{KL}(\pi \Vert a_i\, p(y_j \mid x_i))`, in nats. The weights :math:`b` are discrete and :math:`p`
        is a density, so it may be compared among references and not among data.
    marginal_error
        Mass that misses its place: the larger of the summed absolute errors of row and column sums.
    iterations
        Iterations, those of all stages together.
    converged
        Whether the error is within the tolerance.
    mass
        Mass of the plan: 1 where the weights are met.
    log_gain
        Logarithm of the row sums of the plan over the weights, ``(n_0,)``; ``None`` where the weights are met.
    """

    potentials: tuple[Tensor, Tensor]
    kl: float
    marginal_error: float
    iterations: int
    converged: bool
    mass: float = 1.0
    log_gain: Tensor | None = None


def static_bridge(
    log_density: Tensor,
    weights0: ArrayLike | None = None,
    weights1: ArrayLike | None = None,
    *,
    relaxation: Relaxation = math.inf,
    potentials: tuple[Tensor, Tensor] | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 20_000,
    name: str = "the coupling",
) -> StaticBridge:
    r"""Solve the static Schroedinger bridge of a reference's transition density.

    Parameters
    ----------
    log_density
        :math:`\log p(y_j \mid x_i)`, ``(n_0, n_1)``, finite, float64.
    weights0, weights1
        Weights ``(n_0,)`` and ``(n_1,)``, each normalised to sum 1; uniform by default.
    relaxation
        :math:`\rho`, or the pair :math:`(\rho_0, \rho_1)`, in nats: the prices of missing the weights. Infinite: they
        are met.
    potentials
        Where to start, from the solution of a similar problem; by default a cold start in stages.
    tolerance
        Mass that may miss its place when the iteration stops.
    max_iterations
        Iterations of the last stage at most.
    name
        What the warning calls the problem.

    Returns
    -------
    StaticBridge
        Potentials and the minimum; :func:`bridge_plan` makes the plan of them.

    Raises
    ------
    ValueError
        If densities or weights are unfit.

    Warns
    -----
    UserWarning
        If more than ``tolerance`` of the mass still misses its place.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [2.0]])
    >>> brownian = torch.distributions.Normal(x.double(), 1.0).log_prob(y.T.double())
    >>> solved = static_bridge(brownian, tolerance=1e-12)
    >>> bridge_plan(brownian, solved.potentials).to_dense()
    tensor([[0.3396, 0.1604],
            [0.1604, 0.3396]], dtype=torch.float64)
    """
    prices = check_relaxation(relaxation)
    costs, a, b = _problem(log_density, weights0, weights1)
    balanced = all(map(math.isinf, prices))
    # With respect to K potentials are f + log Z and g + log b, Z being the mass that is set to 1.
    level, share = costs.new_zeros(()), torch.zeros_like(b)
    if not balanced:
        level = torch.logsumexp((a.log()[:, None] - costs)[a > 0][:, b > 0].flatten(), 0)
        share = torch.where(b > 0, b, 1.0).log()
        costs = (costs + share).add_(level)
        potentials = None if potentials is None else (potentials[0] + level, potentials[1] + share)
    limits: dict[str, Any] = {"max_iterations": max_iterations, "tolerance": tolerance, "annealing": THOROUGH}
    plan, used = solve_entropic(costs, a, b, 1.0, relaxation=prices, potentials=potentials, **limits)
    if not plan.marginal_error <= tolerance:
        _warn(name, plan.marginal_error, used)
    found = (plan.potentials[0] - level, plan.potentials[1] - share)
    figures = plan.marginal_error, plan.iterations, plan.marginal_error <= tolerance
    if balanced:
        return StaticBridge(found, bridge_kl(found, a, b), *figures)
    # Of rows without weight and of those the plan leaves out, the price says what is left.
    return StaticBridge(found, _unbalanced_kl(plan), *figures, plan.mass, -plan.potentials[0] / prices[0])


def bridge_plan(
    log_density: Tensor,
    potentials: tuple[Tensor, Tensor],
    weights0: ArrayLike | None = None,
    weights1: ArrayLike | None = None,
) -> Plan:
    r"""Return the plan :math:`a_i b_j e^{f_i + g_j} p(y_j \mid x_i)` of potentials; see :func:`static_bridge`."""
    costs, a, b = _problem(log_density, weights0, weights1)
    return plan_of_potentials(costs, potentials, 1.0, a, b)


def bridge_kl(potentials: tuple[Tensor, Tensor], a: Tensor, b: Tensor) -> float:
    r"""Return :math:`\sum_i a_i f_i + \sum_j b_j (g_j + \log b_j)`, the minimum, of potentials and weights."""
    f, g = potentials
    return float(a @ f + b @ g + torch.xlogy(b, b).sum())


def _unbalanced_kl(plan: EntropicPlan) -> float:
    """Return the divergence of a plan from the kernel of mass 1 that its potentials are with respect to."""
    rows, columns = (mass * plan.mass for mass in plan.plan.marginals)
    return float(rows @ plan.potentials[0] + columns @ plan.potentials[1]) + 1 - plan.mass


def _warn(name: str, error: float, iterations: int) -> None:
    """Say that a coupling did not converge."""
    warnings.warn(
        f"{name} misses its populations by {error:.1e} of the mass after {iterations} iterations: sigma is small "
        "against the displacement; raise sigma, take a reference that moves with the data, or raise max_iterations",
        UserWarning,
        stacklevel=3,
    )


def _problem(log_density: Tensor, weights0: ArrayLike | None, weights1: ArrayLike | None) -> tuple[Tensor, ...]:
    """Return costs and weights, checked."""
    log_density = log_density.detach().to(torch.float64)
    if log_density.ndim != 2 or 0 in log_density.shape:
        raise ValueError(f"log_density must have shape (n0, n1); got {tuple(log_density.shape)}")
    if not bool(torch.isfinite(log_density).all()):
        i, j = torch.nonzero(~torch.isfinite(log_density))[0].tolist()
        raise ValueError(
            f"log_density must be finite for every pair of points; got {float(log_density[i, j])} from point {i} to {j}"
        )
    a = check_weights(weights0, log_density, "weights0")
    b = check_weights(weights1, log_density.T, "weights1")
    return -log_density, a, b
