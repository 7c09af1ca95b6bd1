r"""Rates that two witnesses speak for: what the network believes, and what the likelihood found.

Where jumps are few the likelihood is worse than the network, where they are many better than any network. From
:math:`n_{ij} = T_i \max(\hat Q_{ij}, \mu_{ij})` expected jumps of a link, of which the likelihood found :math:`N_{ij}`,
the likelihood speaks with the weight

.. math:: w_{ij} = u_{ij} + (1 - u_{ij})\,\frac{n_{ij}}{n_{ij} + \kappa} .

The second part is that of a Gamma law of shape :math:`\kappa` about the network's estimate. The first,
:math:`u_{ij}`, is the probability that the network is wrong about this link: :math:`N_{ij}` has a negative binomial
law of mean :math:`T_i\mu_{ij}` and shape :math:`\kappa` if it is right, and of the mean of all links and shape
:math:`\tfrac12` if it is not, which happens once in twenty links. So a slow link of which the network has never seen
the like is left to the jumps that were counted.

Both speak of one link at a time. What links tell of each other, where they may share a rate, is averaged with it by the
probability that a link is alone, see :mod:`gendyn.mjp.shared_rates`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.mjp.network_belief import NetworkBelief
from gendyn.mjp.rate_interval import gamma_interval, mixture_interval
from gendyn.mjp.shared_rates import SharedRates

__all__ = ["RateEstimate"]

_FIRM = 40.0
"""Expected jumps of a link at which likelihood and network have equal weight."""

_FEW = 2.0
"""Changes seen for every link below which the likelihood is not listened to at all."""

_WRONG = 0.05
"""How often the network is wrong about a link."""

_LOOSE = 0.5
"""Shape of the law of a rate of which nothing is known but the mean of all."""


@dataclass(frozen=True, eq=False)
class RateEstimate:
    """Rates ``(S, S)`` off the diagonal.

    Attributes
    ----------
    likely
        Likeliest rates, or ``None`` where the likelihood was not asked.
    jumps, exposure
        Expected jumps ``(S, S)`` and times spent ``(S,)``.
    changes
        Changes of the label that were seen.
    belief
        The network's, or ``None``.
    shared
        What links tell of each other, or ``None`` where they are taken one at a time; it is not listened to where the
        likelihood is not.

    Examples
    --------
    >>> likely = torch.tensor([[0.0, 1.0], [3.0, 0.0]], dtype=torch.float64)
    >>> exposure = torch.tensor([40.0, 400.0], dtype=torch.float64)
    >>> law = {"shape": likely + 9, "link": (likely > 0).double()}
    >>> belief = NetworkBelief(mean=likely / 1.1, estimate=likely / 1.1, **law)
    >>> RateEstimate(likely, likely * exposure[:, None], exposure, 1240, belief).rates()
    tensor([[0.0000, 0.9548],
            [2.9913, 0.0000]], dtype=torch.float64)
    """

    likely: Tensor | None
    jumps: Tensor
    exposure: Tensor
    changes: int
    belief: NetworkBelief | None
    shared: SharedRates | None = None

    def weight(self) -> Tensor:
        """Return how much of each rate is the likelihood's, ``(S, S)``."""
        if self.likely is None:
            return torch.zeros_like(self.jumps)
        if self.belief is None:
            return torch.ones_like(self.jumps)
        if self.changes < _FEW * float(self.belief.link.sum()):
            return torch.zeros_like(self.jumps)
        # Jumps that either of the two expects: a link without any is known to be slow where much time was spent.
        expected = self.exposure[:, None] * torch.maximum(self.likely, self.belief.estimate)
        wrong = self._wrong(self.belief.estimate)
        return wrong + (1 - wrong) * expected / (expected + _FIRM)

    def _wrong(self, estimate: Tensor) -> Tensor:
        """Return the probability that the network is wrong about each link, ``(S, S)``."""
        off = ~torch.eye(len(estimate), dtype=torch.bool)
        jumps = self.jumps.clamp_min(0.0)
        usual = jumps[off].sum() / self.exposure.sum().clamp_min(1e-300) / (len(estimate) - 1)
        expected = self.exposure[:, None] * estimate
        right = _log_negative_binomial(jumps, expected, _FIRM)
        loose = _log_negative_binomial(jumps, self.exposure[:, None] * usual, _LOOSE)
        odds = loose - right + math.log(_WRONG / (1 - _WRONG))
        return torch.where(off, torch.sigmoid(odds), 0.0)

    def rates(self) -> Tensor:
        """Return the estimate, zero on the diagonal."""
        if self.belief is None:
            return torch.zeros_like(self.jumps) if self.likely is None else self.likely.clone()
        if self.likely is None:
            return self.belief.estimate.clone()
        weight = self.weight()
        single = weight * self.likely + (1 - weight) * self.belief.estimate
        return self.shared.average(single) if self.shared is not None and bool(weight.any()) else single

    def interval(self, errors: Tensor | None, level: float) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds.

        Parameters
        ----------
        errors
            Standard errors of log rates, where the likelihood was asked.
        level
            Probability between them.
        """
        weight = self.weight()
        bounds = [torch.zeros_like(self.jumps) for _ in range(2)]
        if self.belief is not None:
            mixed = mixture_interval(self.belief.mean, self.belief.shape, self.belief.link, level)
            bounds = [(1 - weight) * bound for bound in mixed]
        if self.likely is not None and errors is not None:
            likely = gamma_interval(self.likely, errors, self.jumps, self.exposure, level)
            bounds = [b + torch.where(weight > 0, weight * v, 0.0) for b, v in zip(bounds, likely, strict=True)]
        if self.shared is not None and bool(weight.any()):
            return self.shared.interval(bounds[0], bounds[1], level)
        return bounds[0], bounds[1]


def _log_negative_binomial(jumps: Tensor, mean: Tensor, shape: float) -> Tensor:
    """Return the log-probability of numbers of jumps whose rate has a Gamma law, but for what is the same for all."""
    mean = mean.clamp_min(1e-300)
    k = torch.tensor(shape, dtype=torch.float64)
    return torch.lgamma(jumps + k) - torch.lgamma(k) + k * (k / (k + mean)).log() + jumps * (mean / (k + mean)).log()
