"""The populations that a reference is refined on, in float64, and the transition densities between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gendyn.bridges.interval_laws import interval_log_densities
from gendyn.bridges.lifted import lifted_log_densities
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.data import Snapshots
from gendyn.sampling import Process

__all__ = ["Lift", "Marginals"]

Lift = Callable[[Process], LiftedReference]
"""Says which coordinates of a process are observed."""


@dataclass(frozen=True, eq=False)
class Marginals:
    r"""Populations :math:`\mu_k = \sum_i w_{k,i}\, \delta_{x_{k,i}}` at times :math:`t_0 < \dots < t_K`.

    Attributes
    ----------
    times
        ``(K + 1,)``.
    samples
        ``K + 1`` populations ``(n_k, d)``, float64.
    weights
        Their weights ``(n_k,)``, each of sum 1.
    substeps
        Runge-Kutta steps an interval, of references that are not linear.
    lift
        Says which coordinates of a reference the populations show, where some are hidden.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion
    >>> marginals = Marginals.of(Snapshots([0.0, 1.0], [torch.zeros(1, 1), torch.ones(2, 1)]))
    >>> marginals.log_densities(BrownianMotion())[0]
    tensor([[-1.4189, -1.4189]], dtype=torch.float64)
    """

    times: Tensor
    samples: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    substeps: int = 16
    lift: Lift | None = None

    @classmethod
    def of(cls, data: Snapshots, substeps: int = 16, lift: Lift | None = None) -> Marginals:
        """Take the populations of a data set; weights are normalised."""
        exact = data.to(dtype=torch.float64)
        weights = tuple(exact.mass(t) for t in exact.times.tolist())
        return cls(data.times, exact.samples, weights, substeps, lift)

    @property
    def dim(self) -> int:
        """Number of features."""
        return int(self.samples[0].shape[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of rows of every population."""
        return tuple(len(x) for x in self.samples)

    @property
    def intervals(self) -> list[tuple[Tensor, Tensor]]:
        """The weights of both ends of every interval."""
        return list(pairwise(self.weights))

    def reweighted(self, weights: Sequence[Tensor]) -> Marginals:
        """Return the same points with other weights."""
        return replace(self, weights=tuple(weights))

    def log_densities(self, reference: Process) -> list[Tensor]:
        r"""Return :math:`\log p(y_j \mid x_i)` of every interval, ``(n_k, n_{k+1})``, with a graph to the reference.

        Of a reference with hidden coordinates they are filtered, see
        :func:`~gendyn.bridges.lifted.lifted_log_densities`.
        """
        if self.lift is not None:
            lifted = self.lift(reference)
            return list(lifted_log_densities(lifted, self.samples, self.times, self.weights, self.substeps))
        return list(interval_log_densities(reference, self.samples, self.times, self.substeps))
