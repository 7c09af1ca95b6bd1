r"""Refinement by likelihood: every population is explained by the one before, set in motion.

.. math:: L(\theta, \sigma) = -\sum_k \sum_j b_j \log \sum_i a_i\, p_{\theta,\sigma}(y_j \mid x_i)

This needs no coupling. It is consistent in the drift and in the noise, and where it starts with much noise, that
shrinks as the drift learns: annealing by itself, which makes good start values dispensable.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gendyn.bridges.descent import LossDescent, quasi_newton
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.refinement_engine import Engine, geometric_mean
from gendyn.training.checkpoint import load_optimizer, optimizer_tensors

__all__ = ["PushforwardEngine", "PushforwardObjective"]

_POLISH = 3
"""Rounds of L-BFGS steps after those of Adam."""

_POLISH_STEPS = 20

_SETTLED = 1e-8
"""Fall of the objective in a round below which there is no further one."""


class PushforwardObjective:
    r"""The loss :math:`L(\theta, \sigma) + \lambda R(\theta)` of the module's equation.

    Parameters
    ----------
    marginals
        The populations.
    ridge
        :math:`\lambda`, of the squared norm that the reference names.

    Examples
    --------
    >>> from gendyn.data import Snapshots
    >>> from gendyn.bridges.references import Brownian
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(1, 1), torch.tensor([[1.0]])])
    >>> value = PushforwardObjective(Marginals.of(data)).value(Brownian(sigma=1.0).start(data))
    >>> round(value.item(), 4)  # log sqrt(2 pi) + 1 / 2
    1.4189
    """

    def __init__(self, marginals: Marginals, ridge: float = 0.0) -> None:
        self.marginals = marginals
        self.ridge = ridge

    def value(self, reference: LearnableReference) -> Tensor:
        """Return the loss, with a graph."""
        total = self.ridge * reference.ridge_terms()
        densities = self.marginals.log_densities(reference)
        for log_density, (a, b) in zip(densities, self.marginals.intervals, strict=True):
            total = total - b @ torch.logsumexp(log_density + a.log()[:, None], 0)
        return total

    def improve(self, reference: LearnableReference, parameters: Sequence[Tensor]) -> None:
        """Minimise the loss from where the parameters are."""
        quasi_newton(parameters, lambda: self.value(reference), _POLISH * _POLISH_STEPS)

    @torch.no_grad()
    def row_terms(self, reference: LearnableReference) -> list[Tensor]:
        r"""Return the derivative of the loss in the weight of every row, ``(n_k,)`` a population."""
        terms = [torch.zeros_like(w) for w in self.marginals.weights]
        densities = self.marginals.log_densities(reference)
        for k, (log_density, (a, b)) in enumerate(zip(densities, self.marginals.intervals, strict=True)):
            mixed = torch.logsumexp(log_density + a.log()[:, None], 0)
            terms[k] -= (log_density - mixed).exp() @ b
            terms[k + 1] -= mixed
        return terms

    @torch.no_grad()
    def pair_terms(self, reference: LearnableReference, every: int = 1) -> list[Tensor]:
        """Return the derivatives in the weights of both rows of a pair, ``(n_k / every, n_{k+1})`` an interval."""
        terms = []
        densities = self.marginals.log_densities(reference)
        for log_density, (a, _) in zip(densities, self.marginals.intervals, strict=True):
            mixed = torch.logsumexp(log_density + a.log()[:, None], 0)
            terms.append(-(log_density[::every] - mixed).exp())
        return terms


class PushforwardEngine(Engine):
    """Adam, then rounds of L-BFGS steps, on the pushforward loss.

    Parameters
    ----------
    reference, marginals
        See :class:`Engine`.
    ridge
        Factor of the penalty.
    steps
        Steps of Adam.
    rate
        Their learning rate, which falls to a tenth.
    parameters
        What is learned; by default all parameters of the reference.
    """

    name = "pushforward"

    def __init__(
        self,
        reference: LearnableReference,
        marginals: Marginals,
        *,
        ridge: float,
        steps: int,
        rate: float,
        parameters: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__(reference, marginals)
        self.objective = PushforwardObjective(marginals, ridge)
        self.parameters = list(reference.parameters() if parameters is None else parameters)
        self.descent = LossDescent(self.parameters, lambda: self.objective.value(reference), rate)
        self.steps = steps
        self.total = steps + _POLISH

    def step(self, m: int) -> dict[str, float]:
        """Take one step of Adam, or one round of L-BFGS steps."""
        if m < self.steps:
            value = self.descent.step(1 - 0.9 * m / self.steps)
        else:
            if m == self.steps:
                self.descent.settle()
            before = self.descent.best
            value, _ = quasi_newton(self.parameters, self.descent.loss, _POLISH_STEPS)
            self.descent.best = value
            self.finished = before - value < _SETTLED
        return {"objective": value, "sigma": geometric_mean(self.reference.log_sigma)}

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of Adam and the best parameters."""
        return optimizer_tensors(self.descent.optimizer) | self.descent.tensors()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put it back."""
        load_optimizer(self.descent.optimizer, {k: v for k, v in tensors.items() if k.startswith("optimizer.")})
        self.descent.load(tensors)
