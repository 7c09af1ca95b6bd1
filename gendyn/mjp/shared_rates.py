r"""Rates that may be one: links of a system often share few constants, and what is seen of one tells of the others.

Some links :math:`l` jump at rates :math:`q_l`; looks at them tell of each what :math:`N_l` jumps in the time
:math:`T_l` would. The links fall into groups :math:`g` of one rate each, with the law of the Chinese restaurant (Ewens
1972) for the groups and a Gamma law for each rate,

.. math::

    p(\text{groups}) = \frac{\Gamma(\theta)}{\Gamma(\theta + n)} \prod_g \theta\,\Gamma(n_g), \qquad
    p(N \mid \text{groups}) \propto \prod_g \frac{b^a}{\Gamma(a)}
        \frac{\Gamma(a + N_g)}{(b + T_g)^{a + N_g}},

:math:`N_g, T_g` summed over a group. Groups whose links do not follow each other, when sorted by :math:`N_l / T_l`,
hardly add to the sum over all groups; those that do follow each other are summed exactly by a forward and a backward
recursion over the places :math:`0, \dots, n` between links, in which a group from :math:`i` to :math:`j` has the weight
:math:`w_{ij}`, its factor of the products above,

.. math:: F_j = \sum_{i < j} F_i\, w_{ij}, \qquad B_i = \sum_{j > i} w_{ij}\, B_j, \qquad
    P(i, j) = F_i\, w_{ij}\, B_j / F_n .

In a group the rate has the law Gamma :math:`(a + N_g, b + T_g)`. The concentration :math:`\theta`, the shape :math:`a`
and the scale of the mean :math:`a/b` are not known either, and averaged over a grid by their evidence :math:`F_n`; with
probability one half all rates differ whatever they are. A link that is alone in its group is left to those who know it
better than a Gamma law of all rates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from scipy.special import gammaincinv
from torch import Tensor

__all__ = ["SharedRates"]

_DISTINCT = 0.5
"""Probability that no two rates are one."""

_CONCENTRATIONS = torch.tensor([0.3, 1.0, 3.0, 10.0, 30.0], dtype=torch.float64)
_SHAPES = (0.2, 0.4, 0.8, 1.6, 3.2)
_SCALES = (0.3, 1.0, 3.0)
"""Of the mean of the Gamma law, b over that which has the mean of all links."""


@dataclass(frozen=True, eq=False)
class SharedRates:
    r"""What links tell of each other's rates, ``(n,)`` or ``(S, S)`` each.

    Attributes
    ----------
    alone
        Probability that a link shares its rate with no other.
    mean, shape
        Of the rate if it shares it: of the Gamma law with the mean and variance of the average over groups.

    Examples
    --------
    Two links of much the same rate, and one that is far from both:

    >>> jumps = torch.tensor([30.0, 36.0, 400.0], dtype=torch.float64)
    >>> shared = SharedRates.of(jumps, torch.full((3,), 10.0, dtype=torch.float64))
    >>> shared.alone
    tensor([0.5842, 0.5842, 1.0000], dtype=torch.float64)
    >>> shared.mean[:2]  # about (30 + 36) / 20
    tensor([3.3344, 3.3344], dtype=torch.float64)
    """

    alone: Tensor
    mean: Tensor
    shape: Tensor

    @classmethod
    def of(cls, jumps: Tensor, exposure: Tensor) -> Self:
        """Average over all groups of links.

        Parameters
        ----------
        jumps, exposure
            :math:`N` and :math:`T`, ``(n,)``, not negative. Links of which nothing was seen, of no time, are alone.
        """
        alone, mean, shape = torch.ones_like(jumps), torch.zeros_like(jumps), torch.ones_like(jumps)
        told = exposure > 0
        if int(told.sum()) > 1 and float(jumps[told].sum()) > 0:
            alone[told], mean[told], shape[told] = _average(jumps[told], exposure[told])
        return cls(alone, mean, shape)

    @classmethod
    def of_likelihood(cls, likely: Tensor, errors: Tensor, jumps: Tensor, dwell: Tensor) -> Self:
        r"""Average over groups of what the likelihood found, ``(S, S)``.

        A rate with the standard error :math:`s` of its logarithm counts as :math:`N = 1/s^2` jumps, no more than are
        expected to have happened, in the time :math:`N / q`; one that less than a jump stands for, as what it is.

        Parameters
        ----------
        likely
            Likeliest rates :math:`q`, zero where there is no link.
        errors
            Standard errors of their logarithms; infinite where nothing is known.
        jumps, dwell
            Expected jumps ``(S, S)`` and times spent ``(S,)``.
        """
        links = (likely > 0) & ~torch.eye(len(likely), dtype=torch.bool)
        counted = errors[links].square().clamp_min(1e-12).reciprocal().minimum(jumps[links])
        time = counted / likely[links]
        few = jumps[links] < 1
        counted = torch.where(few, jumps[links].clamp_min(0.0), counted)
        time = torch.where(few, dwell[:, None].expand_as(likely)[links], time)
        found = cls.of(counted, time)
        whole = [torch.ones_like(likely), torch.zeros_like(likely), torch.ones_like(likely)]
        for value, part in zip(whole, (found.alone, found.mean, found.shape), strict=True):
            value[links] = part
        return cls(*whole)

    def average(self, rates: Tensor) -> Tensor:
        """Return rates of which those that may be one are drawn together; ``rates`` are those of links alone."""
        return self.alone * rates + (1 - self.alone) * self.mean

    def interval(self, low: Tensor, high: Tensor, level: float) -> tuple[Tensor, Tensor]:
        """Return bounds that are averaged like rates.

        Parameters
        ----------
        low, high
            Bounds of links alone.
        level
            Probability between them.
        """
        tail = (1 - level) / 2
        bounds = []
        for bound, p in ((low, tail), (high, 1 - tail)):
            quantile = torch.from_numpy(gammaincinv(self.shape.numpy(), p)) * self.mean / self.shape
            # A bound that is infinite counts for nothing where it has no weight.
            bounds.append(torch.where(self.alone > 0, self.alone * bound, 0.0) + (1 - self.alone) * quantile)
        return bounds[0], bounds[1]


def _average(jumps: Tensor, exposure: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the probability to be alone, and mean and shape of shared rates, in the order of the links."""
    # Equal rates are sorted by their jumps, so that the order in which links come does not matter.
    order = torch.argsort(jumps, stable=True)
    order = order[torch.argsort((jumps / exposure)[order], stable=True)]
    n, places = len(order), torch.arange(len(order) + 1)
    size = places[None] - places[:, None]
    ends = size > 0
    total, time = (torch.where(ends, _between(v[order]), 0.0) for v in (jumps, exposure))
    usual = float(jumps.sum() / exposure.sum())
    restaurant = torch.lgamma(size.clamp_min(1).to(torch.float64))
    normal = torch.lgamma(_CONCENTRATIONS) - torch.lgamma(_CONCENTRATIONS + n)
    parts = []
    for shape in _SHAPES:
        for scale in _SCALES:
            rate = shape / usual * scale
            # Of every group, but for what is the same however links are grouped.
            constant = shape * math.log(rate) - math.lgamma(shape)
            gamma = constant + torch.lgamma(shape + total) - (shape + total) * (rate + time).log()
            weights = gamma + restaurant + _CONCENTRATIONS.log()[:, None, None]
            evidence, groups = _groups(torch.where(ends, weights, -torch.inf))
            distinct = gamma[places[:-1], places[1:]].sum()
            parts.append((evidence + normal, groups, distinct, shape, rate))
    evidence = torch.stack([part[0] for part in parts])
    shared = torch.logsumexp(evidence.flatten(), 0) - math.log(evidence.numel())
    differ = torch.logsumexp(torch.stack([part[2] for part in parts]), 0) - math.log(len(parts))
    odds = torch.sigmoid(shared - differ + math.log((1 - _DISTINCT) / _DISTINCT))
    portions = odds * torch.softmax(evidence.flatten(), 0).reshape(evidence.shape)
    sums = torch.zeros(3, n + 1, n + 1, dtype=torch.float64)
    for portion, (_, groups, _, shape, rate) in zip(portions, parts, strict=True):
        chance = torch.where(size > 1, (portion[:, None, None] * groups).sum(0), 0.0)
        middle = (shape + total) / (rate + time)
        sums += torch.stack([chance, chance * middle, chance * middle * (shape + total + 1) / (rate + time)])
    together, first, second = _alike(_held(sums), torch.stack([jumps, exposure])[:, order])
    told = together > 1e-12
    mean = torch.where(told, first / together, 0.0)
    variance = (torch.where(told, second / together, 1.0) - mean.square()).maximum(1e-12 * mean.square())
    found = torch.empty(3, n, dtype=torch.float64)
    found[:, order] = torch.stack(
        [
            torch.where(told, 1 - together, 1.0).clamp(0.0, 1.0),
            mean,
            torch.where(told & (mean > 0), mean.square() / variance.clamp_min(1e-300), 1.0),
        ]
    )
    return found[0], found[1], found[2]


def _alike(values: Tensor, seen: Tensor) -> Tensor:
    """Return values ``(3, n)`` averaged over links of which the same was seen, ``(2, n)``: none comes first."""
    _, which, counts = torch.unique(seen, dim=1, return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(values), len(counts)).index_add_(1, which, values)
    averaged: Tensor = (sums / counts)[:, which]
    return averaged


def _between(values: Tensor) -> Tensor:
    """Return sums from place i to place j, ``(n + 1, n + 1)``."""
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    return sums[None] - sums[:, None]


def _groups(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return log evidence ``(R,)`` and probabilities of groups from log weights, ``(R, n + 1, n + 1)``."""
    last = weights.shape[1] - 1
    forward = weights.new_full(weights.shape[:2], -torch.inf)
    backward = forward.clone()
    forward[:, 0] = backward[:, last] = 0.0
    for j in range(1, last + 1):
        forward[:, j] = torch.logsumexp(forward[:, :j] + weights[:, :j, j], 1)
        i = last - j
        backward[:, i] = torch.logsumexp(weights[:, i, i + 1 :] + backward[:, i + 1 :], 1)
    evidence = forward[:, last]
    return evidence, (forward[:, :, None] + weights + backward[:, None] - evidence[:, None, None]).exp()


def _held(values: Tensor) -> Tensor:
    """Return sums over the groups that hold each link, ``(..., n)`` of ``(..., n + 1, n + 1)``."""
    sums = values.cumsum(-2).flip(-1).cumsum(-1).flip(-1)
    return sums.diagonal(1, -2, -1)
