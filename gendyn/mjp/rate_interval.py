r"""How far a rate can be told: intervals from the observed information, and from what the network believes.

Near the likeliest rates the log-likelihood in :math:`\theta = \log Q` is quadratic with the observed information
:math:`I = -\nabla^2 \ell`, by differences of the exact gradient. A rate with the standard error :math:`s` of
its logarithm is as well known as from :math:`1/s^2` jumps, and has the Gamma law of that shape: its quantiles are
never negative and tend to those of the logarithm where jumps are many. Directions in which the information is not
positive are not identifiable, and rates along them get no bound.
"""

from __future__ import annotations

import math

import torch
from scipy.special import gammaincinv
from torch import Tensor

from gendyn.mjp.likelihood import Likelihood
from gendyn.mjp.maximum_likelihood import JumpParameters

__all__ = ["gamma_interval", "log_rate_errors", "mixture_interval"]

_STEP = 1e-4
"""Of the differences, in log rates."""

_FLAT = 1e-6
"""Part of the largest curvature below which a direction is flat."""


def log_rate_errors(likelihood: Likelihood, at: JumpParameters) -> Tensor:
    """Return standard errors of log rates ``(S, S)``: infinite where not identifiable, NaN where there is no link.

    Noise and initial law are held at their estimates.
    """
    links = at.rates > 0
    logs = at.rates[links].log()
    noise, initial = at.noise.emission, at.initial

    def gradient(theta: Tensor) -> Tensor:
        off = torch.zeros_like(at.rates).masked_scatter(links, theta.exp())
        rates = off - torch.diag(off.sum(1))
        slopes = likelihood.slopes(rates, noise, initial).rates
        # A rate sits off the diagonal and, negative, on it.
        return ((slopes - slopes.diagonal()[:, None]) * off)[links]

    # Differences to one side: the error of a step is far below that of calling the likelihood quadratic.
    columns, here = [], gradient(logs)
    for k in range(len(logs)):
        shift = torch.zeros_like(logs)
        shift[k] = _STEP
        columns.append((gradient(logs + shift) - here) / _STEP)
    information = -torch.stack(columns) if columns else torch.zeros(0, 0, dtype=torch.float64)
    result = torch.full_like(at.rates, math.nan)
    if len(logs):
        values, vectors = torch.linalg.eigh((information + information.T) / 2)
        firm = values > _FLAT * values.max().clamp_min(1e-12)
        variances = (vectors[:, firm].square() / values[firm]).sum(1)
        loose = vectors[:, ~firm].square().sum(1) > 1e-3
        result[links] = torch.where(loose, math.inf, variances.sqrt())
    return result


def gamma_interval(rates: Tensor, errors: Tensor, jumps: Tensor, dwell: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Return bounds of rates, ``(S, S)`` each.

    Parameters
    ----------
    rates
        Their estimates.
    errors
        Standard errors of their logarithms; infinite errors give no upper bound.
    jumps, dwell
        Expected jumps ``(S, S)`` and times spent ``(S,)``. A rate that less than one jump stands for is known to be
        small, by the time spent without one: its interval begins at zero, and all that is left out lies above it.
    level
        Probability between the bounds.
    """
    tail = (1 - level) / 2
    shape = errors.square().clamp_min(1e-12).reciprocal()
    low, high = (torch.from_numpy(gammaincinv(shape.numpy(), p)) * rates / shape for p in (tail, 1 - tail))
    loose = torch.isinf(errors)
    low, high = torch.where(loose, 0.0, low), torch.where(loose, math.inf, high)
    rare = jumps < 1
    most = torch.from_numpy(gammaincinv((jumps + 1).numpy(), level)) / dwell[:, None].clamp_min(1e-300)
    return torch.where(rare, 0.0, low), torch.where(rare, most, high)


def mixture_interval(mean: Tensor, shape: Tensor, link: Tensor, level: float) -> tuple[Tensor, Tensor]:
    r"""Return bounds of :math:`(1 - \lambda)\,\delta_0 + \lambda\,\mathrm{Gamma}` that hold a probability exactly.

    As much is left out on either side, unless zero alone is more likely than that: the interval then begins at zero,
    and all that is left out lies above it.

    Parameters
    ----------
    mean, shape
        Of the Gamma law.
    link
        :math:`\lambda`.
    level
        Probability between the bounds.

    Examples
    --------
    A jump that is possible or not with even odds, and whose rate, if it is, has the law Exp(1):

    >>> one = torch.ones(1, dtype=torch.float64)
    >>> low, high = mixture_interval(one, one, 0.5 * one, 0.9)
    >>> low.item(), high.exp().item()  # exp(-high) / 2 = 0.1
    (0.0, 5.0...)
    """
    tail, absent = (1 - level) / 2, 1 - link
    bounds = []
    below, above = torch.full_like(link, tail), torch.full_like(link, 1 - tail)
    for p in (below, torch.where(absent >= tail, torch.full_like(link, level), above)):
        # Below 1 - lambda the quantile is zero; above it that of the Gamma law at what is left.
        left = ((p - absent) / link.clamp_min(1e-12)).clamp(0.0, 1 - 1e-12)
        bounds.append(torch.from_numpy(gammaincinv(shape.numpy(), left.numpy())) * mean / shape)
    return bounds[0], bounds[1]
