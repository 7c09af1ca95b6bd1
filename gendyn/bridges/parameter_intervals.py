r"""How far the data pin the parameters of a reference down.

The estimate minimises an objective :math:`L(\theta, w)` of the parameters and of the weights :math:`w_{k,i}` of all
rows. Rows are independent cells, so that to first order the estimate varies as

.. math::

    V = H^{-1} \Bigl(\sum_k \sum_i w_{k,i}^2\, \psi_{k,i}\, \psi_{k,i}^\top\Bigr) H^{-1},
    \qquad H = \frac{\partial^2 L}{\partial\theta\, \partial\theta^\top}, \quad
    \psi_{k,i} = \frac{\partial^2 L}{\partial\theta\, \partial w_{k,i}} - \text{mean}

(the infinitesimal jackknife: Jaeckel 1972). It counts the noise of both roles of a population, as the end of one
interval and as the start of the next, and stays right where the likelihood is only approximate; the plain inverse of
:math:`H` does neither.

It is too large all the same (Efron and Stein 1981). What row i and row j of the next population do only together,
beyond what each does on average over the other,

.. math:: \chi_{k,ij} = \frac{\partial^3 L}{\partial\theta\, \partial w_{k,i}\, \partial w_{k+1,j}}
    - \text{mean over } i - \text{mean over } j + \text{mean},

is in the :math:`\psi` of both, while it moves the estimate once. Therefore

.. math:: \operatorname{Var}\hat\theta = V
    - H^{-1} \Bigl(\sum_k \sum_{ij} w_{k,i}^2\, w_{k+1,j}^2\, \chi_{k,ij}\, \chi_{k,ij}^\top\Bigr) H^{-1}.

The second term is a tenth to a fifth of the first where some ten sources reach each point. Derivatives are central
differences in the parameters, those in weights closed forms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference

__all__ = ["Influences", "parameter_covariance", "parameter_influences", "parameter_table"]

_STEP = 1e-4
"""Step of the differences; parameters are logarithms or free of units."""

_PAIRS = 3e7
"""Pairs of rows, times parameters, that are looked at; of more some rows are left out, evenly."""


class _Objective(Protocol):
    marginals: Marginals

    def value(self, reference: LearnableReference) -> Tensor: ...

    def row_terms(self, reference: LearnableReference) -> list[Tensor]: ...

    def pair_terms(self, reference: LearnableReference, every: int = 1) -> list[Tensor]: ...


@dataclass(frozen=True, eq=False)
class Influences:
    """What rows, and pairs of rows, do to estimated parameters.

    Attributes
    ----------
    rows
        What each row does, times its weight: ``(p, n_k)`` a population.
    pairs
        Covariance ``(p, p)`` of what pairs of rows do beyond their rows.

    Examples
    --------
    >>> rows = [torch.tensor([[0.3, -0.3]]), torch.tensor([[0.4, -0.4]])]
    >>> Influences(rows, torch.tensor([[0.1]])).covariance()  # 2 (0.09 + 0.16) - 0.1
    tensor([[0.4000]])
    """

    rows: list[Tensor]
    pairs: Tensor

    def covariance(self) -> Tensor:
        """Return the covariance ``(p, p)`` of the estimate, the module's equation.

        As pairs are counted twice among rows, they make at most a half of them in every direction.
        """
        rows = torch.stack([part @ part.mT for part in self.rows]).sum(0)
        if not bool(torch.isfinite(rows).all()) or not bool((rows != 0).any()):
            return rows
        values, vectors = torch.linalg.eigh(rows)
        # Coordinates in which rows alone have the covariance 1; directions that nothing moves are left out.
        moved = values > 1e-14 * values.max()
        basis = vectors[:, moved] * values[moved].sqrt()
        white = vectors[:, moved] / values[moved].sqrt()
        shares, directions = torch.linalg.eigh(white.T @ self.pairs @ white)
        turned: Tensor = basis @ directions
        left: Tensor = turned * (1 - shares.clamp(0.0, 0.5))
        return left @ turned.T


def parameter_covariance(objective: _Objective, reference: LearnableReference, parameters: Sequence[Tensor]) -> Tensor:
    """Return the covariance of the estimated parameters ``(p, p)``, in the order and units in which they are kept.

    Parameters
    ----------
    objective, reference, parameters
        As for :func:`parameter_influences`.
    """
    return parameter_influences(objective, reference, parameters).covariance()


def parameter_influences(
    objective: _Objective, reference: LearnableReference, parameters: Sequence[Tensor]
) -> Influences:
    """Return what each row and each pair of rows does to the estimated parameters.

    Parameters
    ----------
    objective
        What the estimate minimises.
    reference
        The reference at the estimate.
    parameters
        Those of its parameters that were learned.
    """
    marginals = objective.marginals
    pairs = sum(len(a) * len(b) for a, b in marginals.intervals) * sum(p.numel() for p in parameters)
    every = max(1, math.ceil(pairs / _PAIRS))
    slopes: list[Tensor] = []
    mixed: list[list[Tensor]] = []
    mixed_twice: list[list[Tensor]] = []
    for parameter in parameters:
        flat = parameter.detach().view(-1)
        for i in range(parameter.numel()):
            kept = float(flat[i])
            ends = []
            for sign in (1, -1):
                flat[i] = kept + sign * _STEP
                gradient, terms = _gradient(objective, reference, parameters), objective.row_terms(reference)
                ends.append((gradient, terms, objective.pair_terms(reference, every)))
            flat[i] = kept
            slopes.append((ends[0][0] - ends[1][0]) / (2 * _STEP))
            for found, k in ((mixed, 1), (mixed_twice, 2)):
                found.append([(a - b) / (2 * _STEP) for a, b in zip(ends[0][k], ends[1][k], strict=True)])
    hessian = torch.stack(slopes)
    hessian = (hessian + hessian.T) / 2
    centred = []
    for k, weights in enumerate(marginals.weights):
        psi = torch.stack([rows[k] for rows in mixed])
        centred.append((psi - (psi @ weights)[:, None]) * weights)
    together = torch.zeros_like(hessian)
    for k, (a, b) in enumerate(marginals.intervals):
        chi = _doubly_centred(torch.stack([terms[k] for terms in mixed_twice]), a[::every], b)
        # Rows that were left out are taken to do as the others.
        together += chi @ chi.T * (a.square().sum() / a[::every].square().sum())
    # A direction that the data leave open has no curvature: its variance is without bound, not a division by zero.
    values, vectors = torch.linalg.eigh(hessian)
    inverse = vectors @ torch.diag(torch.where(values > 1e-10 * values.max(), 1 / values, torch.inf)) @ vectors.T
    if not bool(torch.isfinite(inverse).all()):
        return Influences([torch.full_like(psi, torch.nan) for psi in centred], torch.full_like(together, torch.nan))
    return Influences([-inverse @ psi for psi in centred], inverse @ together @ inverse)


def _doubly_centred(terms: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return terms ``(p, n, m)`` less their means over rows and columns, times both weights, ``(p, n m)``."""
    share = a / a.sum()
    rows, columns = terms @ b, torch.einsum("pij,i->pj", terms, share)
    centred = terms - rows[:, :, None] - columns[:, None, :] + (rows @ share)[:, None, None]
    return (centred * a[:, None] * b).flatten(1)


def parameter_table(
    reference: LearnableReference, parameters: Sequence[Tensor], covariance: Tensor | None, level: float
) -> pd.DataFrame:
    """Return value and interval of every named parameter: ``parameter``, ``value``, ``low``, ``high``, ``level``.

    Positive parameters have their intervals on the logarithmic scale.

    Parameters
    ----------
    reference
        The reference at the estimate.
    parameters, covariance
        As from :func:`parameter_covariance`; without a covariance, or where a parameter was not learned, intervals are
        not numbers.
    level
        Probability that an interval is to cover the truth.
    """
    quantile = float(norm.ppf(0.5 + level / 2))
    rows = []
    for name, tensor in reference.coefficients().items():
        for index in product(*map(range, tensor.shape)):
            entry = tensor[index]
            value = float(entry.detach())
            error = float("nan")
            if covariance is not None and entry.requires_grad:
                slope = _flat(torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True), parameters)
                if bool((slope != 0).any()):
                    error = float((slope @ covariance @ slope).sqrt())
            if name in reference.positive:
                factor = torch.tensor(quantile * error / value).exp().item()
                low, high = value / factor, value * factor
            else:
                low, high = value - quantile * error, value + quantile * error
            label = f"{name}[{','.join(map(str, index))}]" if index else name
            rows.append({"parameter": label, "value": value, "low": low, "high": high, "level": level})
    return pd.DataFrame(rows, columns=["parameter", "value", "low", "high", "level"])


def _gradient(objective: _Objective, reference: LearnableReference, parameters: Sequence[Tensor]) -> Tensor:
    return _flat(torch.autograd.grad(objective.value(reference), parameters, allow_unused=True), parameters)


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    parts = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([part.detach().reshape(-1) for part in parts])
