r"""How far the data pin the parameters of a reference down.

The estimate minimises an objective :math:`L(\theta, w)` of the parameters and of the weights :math:`w_{k,i}` of all
rows. Rows are independent cells, so that to first order the estimate varies as

.. math::

    \operatorname{Var}\hat\theta = H^{-1} \Bigl(\sum_k \frac{1}{n_k^2} \sum_i \psi_{k,i}\, \psi_{k,i}^\top\Bigr) H^{-1},
    \qquad H = \frac{\partial^2 L}{\partial\theta\, \partial\theta^\top}, \quad
    \psi_{k,i} = \frac{\partial^2 L}{\partial\theta\, \partial w_{k,i}} - \text{mean}

(the infinitesimal jackknife: Jaeckel 1972). It counts the noise of both roles of a population, as the end of one
interval and as the start of the next, and stays right where the likelihood is only approximate; the plain inverse of
:math:`H` does neither. Derivatives are central differences in the parameters, the second roles of rows in closed form.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Protocol

import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference

__all__ = ["covariance_of", "parameter_covariance", "parameter_table", "row_influences"]

_STEP = 1e-4
"""Step of the differences; parameters are logarithms or free of units."""


class _Objective(Protocol):
    marginals: Marginals

    def value(self, reference: LearnableReference) -> Tensor: ...

    def row_terms(self, reference: LearnableReference) -> list[Tensor]: ...


def parameter_covariance(objective: _Objective, reference: LearnableReference, parameters: Sequence[Tensor]) -> Tensor:
    """Return the covariance of the estimated parameters ``(p, p)``, in the order and units in which they are kept.

    Parameters
    ----------
    objective, reference, parameters
        As for :func:`row_influences`.
    """
    return covariance_of(row_influences(objective, reference, parameters))


def covariance_of(influences: Sequence[Tensor]) -> Tensor:
    """Return the covariance ``(p, p)`` of parameters that independent rows move by ``(p, n_k)`` a population."""
    return torch.stack([part @ part.mT for part in influences]).sum(0)


def row_influences(objective: _Objective, reference: LearnableReference, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return what each row does to the estimated parameters, times its weight: ``(p, n_k)`` a population.

    Parameters
    ----------
    objective
        What the estimate minimises.
    reference
        The reference at the estimate.
    parameters
        Those of its parameters that were learned.
    """
    slopes: list[Tensor] = []
    mixed: list[list[Tensor]] = []
    for parameter in parameters:
        flat = parameter.detach().view(-1)
        for i in range(parameter.numel()):
            kept = float(flat[i])
            ends = []
            for sign in (1, -1):
                flat[i] = kept + sign * _STEP
                ends.append((_gradient(objective, reference, parameters), objective.row_terms(reference)))
            flat[i] = kept
            slopes.append((ends[0][0] - ends[1][0]) / (2 * _STEP))
            mixed.append([(a - b) / (2 * _STEP) for a, b in zip(ends[0][1], ends[1][1], strict=True)])
    hessian = torch.stack(slopes)
    hessian = (hessian + hessian.T) / 2
    centred = []
    for k, weights in enumerate(objective.marginals.weights):
        psi = torch.stack([rows[k] for rows in mixed])
        centred.append((psi - (psi @ weights)[:, None]) * weights)
    # A direction that the data leave open has no curvature: its variance is without bound, not a division by zero.
    values, vectors = torch.linalg.eigh(hessian)
    inverse = vectors @ torch.diag(torch.where(values > 1e-10 * values.max(), 1 / values, torch.inf)) @ vectors.T
    if not bool(torch.isfinite(inverse).all()):
        return [torch.full_like(psi, torch.nan) for psi in centred]
    return [-inverse @ psi for psi in centred]


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
