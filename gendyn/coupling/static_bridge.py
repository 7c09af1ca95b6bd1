r"""The static Schroedinger bridge: entropic transport whose regularisation a reference process sets.

Between populations :math:`\sum_i a_i \delta_{x_i}` and :math:`\sum_j b_j \delta_{y_j}` the bridge of a reference with
transition density :math:`p` minimises

.. math:: \mathrm{KL}\bigl(\pi \,\Vert\, a_i\, p(y_j \mid x_i)\bigr), \qquad
    \pi_{ij} = a_i b_j\, e^{f_i + g_j}\, p(y_j \mid x_i),

over couplings of the two (Schroedinger 1931; Leonard 2014). It is entropic transport of the cost
:math:`-\log p(y_j \mid x_i)` at regularisation 1: how strongly mass spreads follows from the noise of the reference and
the time between the populations, and is no knob. The minimum itself is
:math:`\sum_i a_i f_i + \sum_j b_j (g_j + \log b_j)`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, check_weights
from gendyn.coupling.entropic import THOROUGH, plan_of_potentials, solve_entropic
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
    """

    potentials: tuple[Tensor, Tensor]
    kl: float
    marginal_error: float
    iterations: int
    converged: bool


def static_bridge(
    log_density: Tensor,
    weights0: ArrayLike | None = None,
    weights1: ArrayLike | None = None,
    *,
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
    costs, a, b = _problem(log_density, weights0, weights1)
    plan, used = solve_entropic(
        costs, a, b, 1.0, max_iterations=max_iterations, tolerance=tolerance, potentials=potentials, annealing=THOROUGH
    )
    if not plan.marginal_error <= tolerance:
        warnings.warn(
            f"{name} misses its populations by {plan.marginal_error:.1e} of the mass after {used} iterations: sigma is "
            "small against the displacement; raise sigma, take a reference that moves with the data, or raise "
            "max_iterations",
            UserWarning,
            stacklevel=2,
        )
    f, g = plan.potentials
    return StaticBridge(
        (f, g), bridge_kl((f, g), a, b), plan.marginal_error, plan.iterations, plan.marginal_error <= tolerance
    )


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
