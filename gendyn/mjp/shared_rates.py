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

_NOTHING = -40.0
"""Log of a probability that adds nothing."""

_ENTRIES = 4_000_000
"""Numbers of a matrix that is held at once, about."""


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
    moments = _SortedLinks.of(jumps[order], exposure[order]).moments()
    together, first, second = _alike(moments, torch.stack([jumps, exposure])[:, order])
    told = together > 1e-12
    mean = torch.where(told, first / together, 0.0)
    variance = (torch.where(told, second / together, 1.0) - mean.square()).maximum(1e-12 * mean.square())
    found = torch.empty(3, len(order), dtype=torch.float64)
    found[:, order] = torch.stack(
        [
            torch.where(told, 1 - together, 1.0).clamp(0.0, 1.0),
            mean,
            torch.where(told & (mean > 0), mean.square() / variance.clamp_min(1e-300), 1.0),
        ]
    )
    return found[0], found[1], found[2]


@dataclass(frozen=True, eq=False)
class _SortedLinks:
    """Links by increasing rate, whose groups are summed over; matrices over pairs of places are made in parts.

    Attributes
    ----------
    jumps, time
        Sums of the links up to each place, ``(n + 1,)``.
    shape, rate
        Of the Gamma laws that are tried, ``(H, 1, 1)``.
    """

    jumps: Tensor
    time: Tensor
    shape: Tensor
    rate: Tensor

    @classmethod
    def of(cls, jumps: Tensor, exposure: Tensor) -> Self:
        """Sum up, and choose laws about the mean of all links."""
        usual = float(jumps.sum() / exposure.sum())
        laws = torch.tensor([(a, a / usual * scale) for a in _SHAPES for scale in _SCALES], dtype=torch.float64)
        sums = [torch.cat([v.new_zeros(1), v.cumsum(0)]) for v in (jumps, exposure)]
        return cls(sums[0], sums[1], laws[:, :1, None], laws[:, 1:, None])

    def moments(self) -> Tensor:
        """Return, for each link, the probability to share, and what shared rates and their squares add, ``(3, n)``."""
        n = len(self.jumps) - 1
        swept = [self._sweep(laws) for laws in self._laws((n + 1) ** 2)]
        forward, backward, distinct = (torch.cat(v) for v in zip(*swept, strict=True))
        whole = forward[..., -1]
        evidence = whole + torch.lgamma(_CONCENTRATIONS) - torch.lgamma(_CONCENTRATIONS + n)
        shared = torch.logsumexp(evidence.flatten(), 0) - math.log(evidence.numel())
        differ = torch.logsumexp(distinct, 0) - math.log(len(distinct))
        odds = torch.sigmoid(shared - differ + math.log((1 - _DISTINCT) / _DISTINCT))
        portions = odds.log() + evidence.flatten().log_softmax(0).reshape(evidence.shape)
        forward = forward + (portions - whole + _CONCENTRATIONS.log())[..., None]
        found = torch.zeros(3, n, dtype=torch.float64)
        wide = evidence.shape[1] * (n + 1)
        step = max(1, _ENTRIES // wide)
        # Laws without evidence are left out of the sum.
        told = portions.amax(1) > _NOTHING
        links = _SortedLinks(self.jumps, self.time, self.shape[told], self.rate[told])
        forward, backward = forward[told], backward[told]
        for laws in links._laws(wide * min(n, step)):
            for begin in range(0, n, step):
                found += links._held(laws, slice(begin, begin + step), forward[laws], backward[laws])
        return found

    def _laws(self, entries: int) -> list[slice]:
        """Return the laws in parts of which each has so many entries that they fit."""
        size = max(1, _ENTRIES // entries)
        return [slice(k, k + size) for k in range(0, len(self.shape), size)]

    def _between(self, begins: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return number, jumps and time of the links from some places to every place, ``(begins, n + 1)`` each."""
        places = torch.arange(len(self.jumps), dtype=torch.float64)
        size, jumps, time = (v[None] - v[:-1][begins, None] for v in (places, self.jumps, self.time))
        return size, jumps.clamp_min(0.0), time.clamp_min(0.0)

    def _weights(self, laws: slice, begins: slice) -> Tensor:
        r"""Return :math:`\log(w_{ij} / \theta)` of groups that begin at some places, ``(H, begins, n + 1)``."""
        shape, rate = self.shape[laws], self.rate[laws]
        size, jumps, time = self._between(begins)
        gamma = shape * rate.log() - torch.lgamma(shape) + torch.lgamma(shape + jumps)
        gamma = gamma - (shape + jumps) * (rate + time).log()
        restaurant = torch.lgamma(torch.arange(len(self.jumps), dtype=torch.float64).clamp_min(1.0))
        return torch.where(size > 0, gamma + restaurant[size.clamp_min(0.0).to(torch.int64)], -torch.inf)

    def _sweep(self, laws: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Return logs of both recursions ``(H, thetas, n + 1)``, and the evidence of links that all differ ``(H,)``."""
        weights, price = self._weights(laws, slice(None)), _CONCENTRATIONS.log()
        last = weights.shape[1]
        forward = weights.new_full((len(weights), len(price), last + 1), -torch.inf)
        backward = forward.clone()
        forward[..., 0] = backward[..., last] = 0.0
        for j in range(1, last + 1):
            forward[..., j] = price + torch.logsumexp(forward[..., :j] + weights[:, None, :j, j], 2)
            i = last - j
            backward[..., i] = price + torch.logsumexp(weights[:, None, i, i + 1 :] + backward[..., i + 1 :], 2)
        return forward, backward, weights.diagonal(1, 1, 2).sum(1)

    def _held(self, laws: slice, begins: slice, forward: Tensor, backward: Tensor) -> Tensor:
        """Return what the groups of two or more links that begin at some places add to each link, ``(3, n)``."""
        size, jumps, time = self._between(begins)
        logs = self._weights(laws, begins)[:, None] + backward[:, :, None] + forward[:, :, :-1][:, :, begins, None]
        chance = torch.where(size > 1, logs.exp_().sum(1), 0.0)
        shape, rate = self.shape[laws] + jumps, self.rate[laws] + time
        first = chance * shape / rate
        sums = torch.stack([v.sum(0) for v in (chance, first, first * (shape + 1) / rate)])
        # A link is held by groups that begin before it and end after it.
        after = sums.flip(2).cumsum(2).flip(2)[..., 1:]
        return after.triu(begins.start).sum(1)


def _alike(values: Tensor, seen: Tensor) -> Tensor:
    """Return values ``(3, n)`` averaged over links of which the same was seen, ``(2, n)``: none comes first."""
    _, which, counts = torch.unique(seen, dim=1, return_inverse=True, return_counts=True)
    sums = values.new_zeros(len(values), len(counts)).index_add_(1, which, values)
    averaged: Tensor = (sums / counts)[:, which]
    return averaged
