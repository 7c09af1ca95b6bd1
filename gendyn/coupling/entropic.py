r"""Entropic optimal transport, in the log domain.

.. math:: P^\varepsilon = \arg\min_P \sum_{ij} P_{ij}\, c_{ij}
    + \varepsilon \sum_{ij} P_{ij} \log \frac{P_{ij}}{a_i b_j},
    \qquad P^\varepsilon_{ij} = a_i b_j\, e^{(f_i + g_j - c_{ij}) / \varepsilon},

over plans with marginals :math:`a, b`, by Sinkhorn's alternation (Cuturi 2013; Peyre and Cuturi 2019)

.. math:: f_i \leftarrow -\varepsilon \log \sum_j b_j\, e^{(g_j - c_{ij}) / \varepsilon}, \qquad
    g_j \leftarrow -\varepsilon \log \sum_i a_i\, e^{(f_i - c_{ij}) / \varepsilon} .

The potentials are kept as logarithms, so a small :math:`\varepsilon` neither overflows nor underflows. Between two
such steps the alternation runs as matrix-vector products on :math:`P` itself, rescaled by :math:`u_i v_j`, and the
scalings are absorbed into the potentials before they leave a safe range (Schmitzer 2019): the same iterates, ten
times faster. From a cold start :math:`\varepsilon` descends in stages to its value, each warm-starting the next.

A finite relaxation :math:`\rho` lets mass appear and vanish: the marginals are no longer imposed, departures cost
:math:`\rho_0\,\mathrm{KL}(P1 \Vert a) + \rho_1\,\mathrm{KL}(P^\top 1 \Vert b)`, and either step is damped by the
factor :math:`\rho / (\rho + \varepsilon)` of its side (Chizat, Peyre, Schmitzer and Vialard 2018). Adding a number to f
and taking it from g changes no entry of :math:`P`; left to the alternation that number converges slowly, so its best
value, :math:`\log(\sum_i a_i e^{-f_i/\rho_0} / \sum_j b_j e^{-g_j/\rho_1}) / (1/\rho_0 + 1/\rho_1)`, is set in every
round (Sejourne, Vialard and Peyre 2022).

With squared costs and :math:`\varepsilon = 2 \sigma^2` the balanced plan is the static Schroedinger bridge of Brownian
motion :math:`\sigma W` over a unit of time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, Cost, check_samples, check_weights, cost_matrix
from gendyn.coupling.overrelaxation import Overrelaxation
from gendyn.coupling.plan import Plan

__all__ = ["EntropicPlan", "Relaxation", "check_relaxation", "sinkhorn_plan"]

Relaxation = float | tuple[float, float]
"""Price of mass that appears or vanishes, of both sides or of either; infinite: none does."""

_LEAST_REGULARISATION = 1e-10
"""Fraction of the spread of the costs below which float64 no longer tells the exponents apart."""

_SAFE_LOGARITHM = 200.0
"""Largest logarithm of a scaling before it is absorbed; e^200 is far from the end of float64."""

_CHECK_EVERY = 10
"""Iterations between two looks at the range of the scalings."""


@dataclass(frozen=True)
class Annealing:
    """The stages of a cold start.

    Attributes
    ----------
    factor
        Factor between the regularisations of consecutive stages.
    tolerance
        Mass that may miss its place at the end of an early stage.
    iterations
        Iterations of an early stage at most.
    """

    factor: float
    tolerance: float
    iterations: int


QUICK = Annealing(4.0, 0.05, 100)
"""Enough where the last regularisation is some hundredths of the spread of the costs."""

THOROUGH = Annealing(2.0, 1e-3, 500)
"""For regularisations far below: a later stage moves potentials by less, and does not make up for an early one."""


@dataclass(frozen=True, eq=False)
class EntropicPlan:
    """What :func:`sinkhorn_plan` returns.

    Attributes
    ----------
    plan
        The plan, without the atoms that together carry less than 1e-12 of the mass of their row and column.
    potentials
        ``f`` of shape ``(n_0,)`` and ``g`` of shape ``(n_1,)``, float64, in units of the cost; pass them on to start
        a similar problem.
    regularisation
        The regularisation of the plan.
    marginal_error
        Mass that misses its place: the larger of the summed absolute errors of row and column sums.
    iterations
        Iterations, those of all stages together.
    mass
        Mass of the plan before it was normalised: 1, or what an unbalanced problem found worth moving.
    """

    plan: Plan
    potentials: tuple[Tensor, Tensor]
    regularisation: float
    marginal_error: float
    iterations: int
    mass: float


def sinkhorn_plan(
    x0: ArrayLike,
    x1: ArrayLike,
    regularisation: float,
    weights0: ArrayLike | None = None,
    weights1: ArrayLike | None = None,
    *,
    relaxation: Relaxation = math.inf,
    cost: Cost = "sqeuclidean",
    max_iterations: int = 10_000,
    tolerance: float = 1e-6,
    potentials: tuple[ArrayLike, ArrayLike] | None = None,
) -> EntropicPlan:
    r"""Return the entropic optimal transport plan.

    Parameters
    ----------
    x0, x1
        Samples ``(n_0, d)`` and ``(n_1, d)``.
    regularisation
        :math:`\varepsilon > 0`, in units of the cost.
    weights0, weights1
        Weights ``(n_0,)`` and ``(n_1,)``, each normalised to sum 1; uniform by default.
    relaxation
        :math:`\rho > 0`, price of mass that appears or vanishes, in units of the cost; infinite: none does. A pair
        :math:`(\rho_0, \rho_1)` prices either side on its own.
    cost
        ``"sqeuclidean"``, ``"euclidean"``, a function ``(x0, x1) -> (n_0, n_1)``, or the matrix itself.
    max_iterations
        Iterations at the final regularisation at most.
    tolerance
        Mass that may miss its place when the iteration stops.
    potentials
        Where to start, from an earlier :class:`EntropicPlan` of the same points; by default a cold start in stages.

    Returns
    -------
    EntropicPlan
        The plan, its potentials, and how far it got.

    Raises
    ------
    ValueError
        If samples, weights, costs, potentials or numbers are unfit; the message says which.

    Warns
    -----
    UserWarning
        If more than ``tolerance`` of the mass still misses its place; the message says how much.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [2.0], [5.0]])
    >>> result = sinkhorn_plan(x, y, 2.0, tolerance=1e-10)
    >>> [round(mass, 8) for mass in result.plan.to_dense()[0].tolist()]
    [0.2282537, 0.10476322, 0.00031642]
    """
    epsilon = _check_numbers(regularisation, max_iterations, tolerance)
    prices = check_relaxation(relaxation)
    first, second = check_samples(x0, x1)
    a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
    costs = cost_matrix(first, second, cost)
    spread = float(costs.max() - costs.min())
    if epsilon < _LEAST_REGULARISATION * spread:
        raise ValueError(
            f"regularisation must be at least {_LEAST_REGULARISATION * spread:.2g}, {_LEAST_REGULARISATION:g} of the "
            f"spread of the costs; got {epsilon:g}: use exact_plan where it should vanish"
        )
    limits: dict[str, Any] = {"max_iterations": max_iterations, "tolerance": tolerance}
    result, used = solve_entropic(costs, a, b, epsilon, relaxation=prices, potentials=potentials, **limits)
    if not result.marginal_error <= tolerance:
        warnings.warn(
            f"the entropic plan misses its weights by {result.marginal_error:.1e} of the mass after {used} iterations; "
            "raise max_iterations or regularisation",
            UserWarning,
            stacklevel=2,
        )
    return result


def _check_numbers(regularisation: float, max_iterations: int, tolerance: float) -> float:
    """Return the regularisation as a number; raise a ValueError where one of the three is out of range."""
    epsilon = float(regularisation)
    if not 0 < epsilon < math.inf:
        raise ValueError(f"regularisation must be positive and finite; got {regularisation}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1; got {max_iterations}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive; got {tolerance}")
    return epsilon


def check_relaxation(relaxation: Relaxation) -> tuple[float, float]:
    """Return the prices of both sides.

    Raises
    ------
    ValueError
        If they are not two, or not positive.
    """
    prices = tuple(relaxation) if isinstance(relaxation, Sequence) else (relaxation, relaxation)
    if len(prices) != 2 or not all(price > 0 for price in prices):
        raise ValueError(
            f"relaxation must be positive, or infinite for a balanced plan, or a pair of such; got {relaxation}"
        )
    return float(prices[0]), float(prices[1])


def solve_entropic(
    costs: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: float,
    *,
    relaxation: tuple[float, float] = (math.inf, math.inf),
    max_iterations: int,
    tolerance: float,
    potentials: tuple[ArrayLike, ArrayLike] | None = None,
    annealing: Annealing = QUICK,
) -> tuple[EntropicPlan, int]:
    """Solve for checked costs and weights; return how far it got, and the iterations at the final regularisation."""
    spread = float(costs.max() - costs.min())
    f, g = _start(potentials, a, b)
    # A point without weight has no part in the iteration; its potential follows from the others at the end.
    rows, columns = a > 0, b > 0
    whole = bool(rows.all()) and bool(columns.all())
    problem = _Problem(costs if whole else costs[rows][:, columns], a[rows], b[columns], relaxation)
    inner_f, inner_g = f[rows], g[columns]
    iterations = 0
    if potentials is None:
        for stage in _stages(spread, epsilon, annealing.factor):
            inner_f, inner_g, used = problem.alternate(
                inner_f, inner_g, stage, annealing.tolerance, annealing.iterations
            )
            iterations += used
    inner_f, inner_g, used = problem.alternate(inner_f, inner_g, epsilon, tolerance, max_iterations)
    iterations += used
    mass = problem.mass(inner_f, inner_g, epsilon)
    total = float(mass.sum())
    a_met, b_met = problem.marginals(inner_f, inner_g)
    error = float(torch.maximum((mass.sum(1) - a_met).abs().sum(), (mass.sum(0) - b_met).abs().sum()))
    error = error if problem.balanced else error / max(total, 1e-300)
    if not total > 0:
        raise ValueError(
            f"at relaxation {min(relaxation):g} letting all mass vanish is cheaper than moving any: costs are at least "
            f"{float(costs.min()):.3g}; raise relaxation"
        )
    f[rows], g[columns] = inner_f, inner_g
    if not whole:
        damping = problem.damping(epsilon)
        f[~rows] = damping[0] * _soft_minimum(costs[~rows][:, columns] - inner_g, problem.b, epsilon)
        g[~columns] = damping[1] * _soft_minimum(costs[rows][:, ~columns].T - inner_f, problem.a, epsilon)
    plan = _sparse(mass, (a_met, b_met), rows, columns)
    mass_moved = 1.0 if problem.balanced else total
    return EntropicPlan(plan, (f, g), epsilon, error, iterations, mass_moved), used


def plan_of_potentials(costs: Tensor, potentials: tuple[Tensor, Tensor], epsilon: float, a: Tensor, b: Tensor) -> Plan:
    r"""Return the balanced plan :math:`a_i b_j e^{(f_i + g_j - c_{ij}) / \varepsilon}` that potentials stand for.

    Parameters
    ----------
    costs
        ``(n_0, n_1)``, float64.
    potentials
        ``f`` and ``g`` of an :class:`EntropicPlan` of these costs.
    epsilon
        Its regularisation.
    a, b
        Weights ``(n_0,)`` and ``(n_1,)`` that sum to 1.
    """
    rows, columns = a > 0, b > 0
    problem = _Problem(costs[rows][:, columns], a[rows], b[columns], (math.inf, math.inf))
    mass = problem.mass(potentials[0][rows], potentials[1][columns], epsilon)
    return _sparse(mass, (problem.a, problem.b), rows, columns)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Costs ``(n_0, n_1)`` with positive weights ``(n_0,)`` and ``(n_1,)``, and the prices of missing them."""

    costs: Tensor
    a: Tensor
    b: Tensor
    relaxation: tuple[float, float]

    @property
    def balanced(self) -> bool:
        return all(map(math.isinf, self.relaxation))

    def damping(self, epsilon: float) -> tuple[float, float]:
        first, second = self.relaxation
        return 1 / (1 + epsilon / first), 1 / (1 + epsilon / second)

    def mass(self, f: Tensor, g: Tensor, epsilon: float) -> Tensor:
        """Return :math:`a_i b_j e^{(f_i + g_j - c_ij) / epsilon}`."""
        exponent = f[:, None] - self.costs
        return exponent.add_(g).div_(epsilon).add_(self.a.log()[:, None]).add_(self.b.log()).exp_()

    def marginals(self, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Return the row and column sums that the optimal plan has, given its potentials."""
        if self.balanced:
            return self.a, self.b
        first, second = self.relaxation
        return self.a * (-f / first).exp(), self.b * (-g / second).exp()

    def alternate(
        self, f: Tensor, g: Tensor, epsilon: float, tolerance: float, max_iterations: int
    ) -> tuple[Tensor, Tensor, int]:
        """Alternate until at most ``tolerance`` of the mass misses its row; return potentials and iterations."""
        used = 0
        damping = self.damping(epsilon)
        while used < max_iterations:
            f = damping[0] * _soft_minimum(self.costs - g, self.b, epsilon)
            g = damping[1] * _soft_minimum((self.costs - f[:, None]).T, self.a, epsilon)
            used += 1
            # Subnormal numbers slow a product down tenfold and weigh nothing.
            kernel = torch.threshold_(self.mass(f, g, epsilon), 1e-290, 0.0)
            budget = max_iterations - used
            if self.balanced:
                u, v, more, converged = self._scale(kernel, tolerance, budget)
            else:
                u, v, more, converged = self._scale_damped(kernel, f, g, epsilon, tolerance, budget)
            f, g, used = f + epsilon * u.log(), g + epsilon * v.log(), used + more
            if converged:
                break
        return f, g, used

    def _scale(self, kernel: Tensor, tolerance: float, budget: int) -> tuple[Tensor, Tensor, int, bool]:
        """Alternate on ``u_i kernel_ij v_j`` while the scalings stay in range; the columns are met on entry."""
        u, v = torch.ones_like(self.a), torch.ones_like(self.b)
        safe = u, v, 0
        pace, omega, kept = Overrelaxation(), 1.0, (u, v)
        for count in range(budget + 1):
            rows = kernel @ v
            missed = float((u * rows - self.a).abs().sum())
            # After a longer step columns are amiss as well; a plain one meets them.
            converged = missed <= tolerance and omega == 1
            if converged or count % _CHECK_EVERY == 0 or count == budget:
                reach = float(torch.cat([u, v]).log().abs().max())
                if not reach <= _SAFE_LOGARITHM:
                    break
                safe = u, v, count
                if converged:
                    return u, v, count, True
            if pace.watch(missed):
                u, v = kept
                rows = kernel @ v
            if pace.began:
                kept = u, v
            omega = 1.0 if missed <= tolerance or count + 1 >= budget else pace.omega
            u = _relaxed(u, self.a / rows, omega)
            v = _relaxed(v, self.b / (kernel.T @ u), omega)
        return *safe, False

    def _scale_damped(
        self, kernel: Tensor, f: Tensor, g: Tensor, epsilon: float, tolerance: float, budget: int
    ) -> tuple[Tensor, Tensor, int, bool]:
        """Do the same where marginals may be missed at a price, with the best shift between the potentials."""
        (rho0, rho1), damping = self.relaxation, self.damping(epsilon)
        held = (-f / (rho0 + epsilon)).exp(), (-g / (rho1 + epsilon)).exp()
        stiffness = epsilon * (1 / rho0 + 1 / rho1)
        u, v = torch.ones_like(self.a), torch.ones_like(self.b)
        safe = u, v, 0
        for count in range(budget + 1):
            rows, columns = kernel @ v, kernel.T @ u
            a, b = self.marginals(f + epsilon * u.log(), g + epsilon * v.log())
            missed = (u * rows - a).abs().sum() + (v * columns - b).abs().sum()
            converged = bool(missed <= tolerance * (u * rows).sum())
            if converged or count % _CHECK_EVERY == 0 or count == budget:
                reach = float(torch.cat([u, v]).log().abs().max())
                if not reach <= _SAFE_LOGARITHM:
                    break
                safe = u, v, count
                if converged:
                    return u, v, count, True
            u = (self.a / rows) ** damping[0] * held[0]
            v = (self.b / (kernel.T @ u)) ** damping[1] * held[1]
            a, b = self.marginals(f + epsilon * u.log(), g + epsilon * v.log())
            shift = ((a.sum().log() - b.sum().log()) / stiffness).exp()
            u, v = u * shift, v / shift
        return *safe, False


def _start(potentials: tuple[ArrayLike, ArrayLike] | None, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return copies of the given potentials, or zeros."""
    if potentials is None:
        return torch.zeros_like(a), torch.zeros_like(b)
    f, g = (torch.as_tensor(p).detach().to(a).clone() for p in potentials)
    if f.shape != a.shape or g.shape != b.shape:
        raise ValueError(
            f"potentials must have shapes ({len(a)},) and ({len(b)},), one number a point; "
            f"got {tuple(f.shape)} and {tuple(g.shape)}"
        )
    if not bool(torch.isfinite(f).all() and torch.isfinite(g).all()):
        raise ValueError("potentials must be finite; leave them out for a cold start")
    return f, g


def _stages(spread: float, epsilon: float, factor: float) -> list[float]:
    """Return the regularisations before the last: from the spread of the costs down, a factor apart."""
    count = math.ceil(math.log(spread / epsilon, factor)) if spread > epsilon else 0
    return [epsilon * factor**k for k in range(count, 0, -1)]


def _soft_minimum(shifted: Tensor, weights: Tensor, epsilon: float) -> Tensor:
    """Return :math:`-epsilon log sum_j w_j e^{-s_ij / epsilon}` of every row of ``s``, which is overwritten."""
    return -epsilon * torch.logsumexp(shifted.div_(-epsilon).add_(weights.log()), dim=1)


def _relaxed(before: Tensor, after: Tensor, omega: float) -> Tensor:
    """Return a scaling whose logarithm moves ``omega`` times as far."""
    return after if omega == 1 else before * (after / before) ** omega


def _sparse(mass: Tensor, marginals: tuple[Tensor, Tensor], rows: Tensor, columns: Tensor) -> Plan:
    """Keep the atoms that their row or their column would miss, and put them back among the points without weight."""
    n0, n1 = mass.shape
    needed = mass > 1e-12 * torch.minimum(marginals[0][:, None] / n1, marginals[1] / n0)
    i, j = torch.nonzero(needed, as_tuple=True)
    kept = mass[i, j]
    all_rows, all_columns = torch.nonzero(rows).flatten(), torch.nonzero(columns).flatten()
    return Plan(all_rows[i], all_columns[j], kept, (len(rows), len(columns)))
