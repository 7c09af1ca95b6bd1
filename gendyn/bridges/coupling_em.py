r"""Refinement by couplings: alternate the bridge under the reference and the reference under the bridge.

.. math::

    F(\theta) = \min_P \mathrm{KL}(P \Vert Q_\theta)
    = \sum_k \mathrm{KL}\bigl(\pi_k \Vert a_k \otimes p_\theta\bigr)

The coupling step solves the static bridges :math:`\pi_k`; the reference step lowers
:math:`-\sum_k \sum_{ij} \pi_{k,ij} \log p_\theta(y_j \mid x_i)` with them held fixed, whose gradient at the old
parameters is that of :math:`F` (the envelope theorem). Either step lowers the same divergence, so that F never rises
while the noise stays; it is not convex, and may have several minima. The noise itself is not learned, but falls
geometrically from its start to its value over the first third of the iterations, which keeps a poor start from being
lost (Shen, Berlinghieri and Broderick 2025 alternate likewise, with simulated paths).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gendyn.bridges.descent import quasi_newton
from gendyn.bridges.interval_laws import interval_laws
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.refinement_engine import Engine, geometric_mean
from gendyn.coupling import StaticBridge, bridge_plan, static_bridge

__all__ = ["CouplingEngine", "CouplingObjective"]

_SETTLED = 1e-7
"""Fall of the objective in an iteration, in nats, below which there is no further one."""

_ROUGH = 1e-3, 500
"""Tolerance and iterations of couplings at a noise that is on its way to another."""

_ROUGHLY_SETTLED = 1e-3
"""Fall of the objective at a noise that is no final one, below which there is no further iteration."""

_RISES = 2
"""Rises of the objective in a row after which a noise is taken to have fallen below what the reference leaves."""

_MOST_ROWS = 1000
"""Rows of a population beyond which pairs of rows are not looked at."""

_ALTERNATIONS = 30
"""Alternations at most from a start that is near."""


class CouplingObjective:
    r"""The divergence :math:`F(\theta) + \lambda R(\theta)`, and the loss of the reference step.

    Parameters
    ----------
    marginals
        The populations.
    ridge
        :math:`\lambda`, of the squared norm that the reference names.
    tolerance, max_iterations
        Passed to :func:`~gendyn.coupling.static_bridge`.
    """

    def __init__(
        self, marginals: Marginals, ridge: float = 0.0, *, tolerance: float = 1e-5, max_iterations: int = 20_000
    ) -> None:
        self.marginals = marginals
        self.ridge = ridge
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.potentials: list[tuple[Tensor, Tensor]] | None = None

    @torch.no_grad()
    def solve(self, reference: LearnableReference, *, rough: bool = False) -> tuple[float, list[Tensor]]:
        """Solve the coupling of every interval from the potentials before; return F with its penalty, and the plans.

        Parameters
        ----------
        reference
            The reference.
        rough
            Whether a thousandth of the mass may miss its place.
        """
        tolerance, iterations = self.tolerance, self.max_iterations
        if rough:
            tolerance, iterations = max(tolerance, _ROUGH[0]), min(iterations, _ROUGH[1])
        densities = self.marginals.log_densities(reference)
        solved: list[StaticBridge] = []
        with warnings.catch_warnings():
            # A coupling that does not converge on the way is no news; the final one is told.
            warnings.simplefilter("ignore", UserWarning)
            for k, (log_density, (a, b)) in enumerate(zip(densities, self.marginals.intervals, strict=True)):
                solved.append(
                    static_bridge(
                        log_density,
                        a,
                        b,
                        potentials=None if self.potentials is None else self.potentials[k],
                        tolerance=tolerance,
                        max_iterations=iterations,
                    )
                )
        self.potentials = [result.potentials for result in solved]
        plans = [
            bridge_plan(log_density, result.potentials, a, b).to_dense()
            for log_density, result, (a, b) in zip(densities, solved, self.marginals.intervals, strict=True)
        ]
        return sum(result.kl for result in solved) + self.ridge * float(reference.ridge_terms()), plans

    def rescale(self, factor: float) -> None:
        """Move potentials to where costs are ``factor`` times as large."""
        if self.potentials is not None:
            self.potentials = [(factor * f, factor * g) for f, g in self.potentials]

    def loss(self, reference: LearnableReference, plans: list[Tensor]) -> Tensor:
        r"""Return :math:`-\sum \pi \log p + \lambda R`, with a graph; its gradient is that of F at its own plans."""
        total = self.ridge * reference.ridge_terms()
        marginals = self.marginals
        if marginals.lift is not None:
            for log_density, plan in zip(marginals.log_densities(reference), plans, strict=True):
                total = total - (plan * log_density).sum()
            return total
        laws = interval_laws(reference, marginals.samples, marginals.times, marginals.substeps)
        for law, y, plan in zip(laws, marginals.samples[1:], plans, strict=True):
            total = total - law.expected_log_density(y, plan)
        return total

    def value(self, reference: LearnableReference) -> Tensor:
        """Return a number whose gradient is that of F."""
        return self.loss(reference, self.solve(reference)[1])

    def improve(self, reference: LearnableReference, parameters: Sequence[Tensor]) -> None:
        """Minimise F from where the parameters are, by alternation."""
        self.potentials, last = None, math.inf
        for _ in range(_ALTERNATIONS):
            value, plans = self.solve(reference)
            if last - value < _SETTLED * 100:
                return
            last = value
            quasi_newton(parameters, partial(self.loss, reference, plans), 8)

    def row_terms(self, reference: LearnableReference) -> list[Tensor]:
        r"""Return the derivative of F in the weight of every row: its potentials, up to constants; ``(n_k,)`` each."""
        self.solve(reference)
        assert self.potentials is not None
        terms = [torch.zeros_like(w) for w in self.marginals.weights]
        for k, (f, g) in enumerate(self.potentials):
            terms[k] += f
            terms[k + 1] += g + self.marginals.weights[k + 1].log()
        return terms

    def pair_terms(self, reference: LearnableReference, every: int = 1) -> list[Tensor]:
        r"""Return the derivatives of F in the weights of both rows of a pair, ``(n_k / every, n_{k+1})`` an interval.

        They are those of the potentials, :math:`\partial f / \partial b = -A^{-1} \pi S^+` with
        :math:`S = B - \pi^\top A^{-1} \pi` and A, B the weights on diagonals, from the two conditions on the sums of
        :math:`\pi`. They are zero, and intervals a little wide, where a population has more than a thousand rows, for
        which that takes long.
        """
        sizes = [(len(a[::every]), len(b)) for a, b in self.marginals.intervals]
        if max(self.marginals.sizes) > _MOST_ROWS:
            return [self.marginals.weights[0].new_zeros(size) for size in sizes]
        terms = []
        for plan, (a, b) in zip(self.solve(reference)[1], self.marginals.intervals, strict=True):
            # Rows and columns without weight have no mass; any positive number stands for their weight.
            given = plan / torch.where(a > 0, a, 1.0)[:, None]
            # The constant by which potentials are free is in no sum of a pair's terms; b b^T moves it off zero.
            inner = torch.diag(torch.where(b > 0, b, 1.0)) - plan.T @ given + torch.outer(b, b)
            terms.append(-torch.linalg.solve(inner, given.T).T[::every])
        return terms


class CouplingEngine(Engine):
    """The alternation of the module's docstring.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`.
    ridge
        Factor of the penalty.
    iterations
        Alternations at most.
    gradient_steps
        L-BFGS steps of a reference step.
    sigma_factor
        What the noise of the start is multiplied by over the first third of the iterations.
    provisional
        Whether the noise is no final one: couplings need not be exact, nor the reference at rest, and the noise stops
        falling where the objective rises, as it does below what the reference leaves unexplained.
    tolerance, max_iterations
        Passed to :func:`~gendyn.coupling.static_bridge`.
    """

    name = "coupling_em"

    def __init__(
        self,
        reference: LearnableReference,
        marginals: Marginals,
        *,
        ridge: float,
        iterations: int,
        gradient_steps: int,
        sigma_factor: float = 1.0,
        provisional: bool = False,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
    ) -> None:
        super().__init__(reference, marginals)
        self.total = iterations
        self.provisional = provisional
        self.gradient_steps = gradient_steps
        self.first = reference.log_sigma.detach().clone()
        self.sigma_factor = sigma_factor
        self.objective = CouplingObjective(marginals, ridge, tolerance=tolerance, max_iterations=max_iterations)
        self.last = math.inf
        self.rises = 0

    def step(self, m: int) -> dict[str, float]:
        """Solve the couplings and improve the reference; the objective is that of the reference before."""
        reference = self.reference
        annealed = 0 if self.sigma_factor == 1 else max(1, self.total // 3)
        share = min(1.0, m / annealed) if annealed else 1.0
        if 0 < m <= annealed:
            # Costs are squares over the variance of the noise.
            self.objective.rescale(self.sigma_factor ** (-2 / annealed))
        with torch.no_grad():
            reference.log_sigma.copy_(self.first + share * math.log(self.sigma_factor))
        value, plans = self.objective.solve(reference, rough=self.provisional)
        if self.provisional:
            self.rises = self.rises + 1 if value > self.last else 0
        if self.rises >= _RISES and m <= annealed:
            self.finished = True
        elif m > annealed:
            self.finished = self.last - value < (_ROUGHLY_SETTLED if self.provisional else _SETTLED)
        self.last = value
        parameters = reference.drift_parameters()
        if parameters and not self.finished:
            quasi_newton(parameters, lambda: self.objective.loss(reference, plans), self.gradient_steps)
        return {"objective": value, "sigma": geometric_mean(reference.log_sigma)}

    def tensors(self) -> dict[str, Tensor]:
        """Return potentials and the noise of the start."""
        figures = torch.tensor([self.last, self.sigma_factor, self.rises], dtype=torch.float64)
        parts = {"first": self.first, "figures": figures}
        for k, (f, g) in enumerate(self.objective.potentials or ()):
            parts |= {f"f.{k}": f, f"g.{k}": g}
        return parts

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put them back."""
        self.first = tensors["first"]
        # States of earlier versions do not count rises.
        self.last, self.sigma_factor, *rises = tensors["figures"].tolist()
        self.rises = int(rises[0]) if rises else 0
        count = len(self.marginals.intervals)
        self.objective.potentials = [(tensors[f"f.{k}"], tensors[f"g.{k}"]) for k in range(count)]
