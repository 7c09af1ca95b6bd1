r"""What the shipped network believes of the rates, before the likelihood is asked.

A link is possible with a probability :math:`\lambda_{ij}`, and its rate then has a Gamma law; the estimate that it
would stake is :math:`\lambda_{ij}\,\mathrm{mean}_{ij}` times a shrinkage.

It was trained on looks that are .03 mean times between changes apart, or more. Of recordings that are denser, those of
channels and of simulated molecules, it reads every so manieth look.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gendyn.mjp.maximum_likelihood import time_unit
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.rate_network import rate_features
from gendyn.mjp.shipped_network import shipped_network
from gendyn.mjp.summary import TransitionSummary

__all__ = ["NetworkBelief"]

_TRAINED = 10
"""Most states that the network was trained on."""

_DENSEST, _DENSE = 0.03, 0.05
"""Looks that are closer than this part of the mean time between changes are read as far apart as the latter."""

_LOOKS = 25
"""Looks of a path that are left at least."""


@dataclass(frozen=True, eq=False)
class NetworkBelief:
    """Off-diagonal rates ``(S, S)`` as the network sees them, per time unit of the data.

    Attributes
    ----------
    mean, shape
        Of the Gamma laws.
    link
        Probability that the jump is possible.
    estimate
        Point estimate.
    """

    mean: Tensor
    shape: Tensor
    link: Tensor
    estimate: Tensor

    @classmethod
    def read(cls, seen: StateObservations, allowed: Tensor | None) -> tuple[Self, TransitionSummary, Tensor, float]:
        """Return the belief, the counts that it was read off, the law of the first look, and the label noise."""
        size = seen.n_states
        if size > _TRAINED:
            warnings.warn(
                f"the network was trained on 2 to {_TRAINED} states; it reads {size} all the same", stacklevel=4
            )
        summary = TransitionSummary.of(_as_trained(seen))
        unit = float(summary.unit)
        with torch.no_grad():
            found = shipped_network()(rate_features(summary))
        off = ~torch.eye(size, dtype=torch.bool) if allowed is None else allowed & ~torch.eye(size, dtype=torch.bool)
        link = torch.where(off, torch.sigmoid(found.link[0].double()), 0.0)
        if allowed is not None:
            # Jumps that are known to be possible are not asked about.
            link = off.to(torch.float64)
        mean = found.mean[0].double() / unit
        belief = cls(mean, found.shape[0].double(), link, link * mean * found.shrinkage[0].double())
        return belief, summary, torch.softmax(found.initial[0].double(), 0), float(found.noise[0].clamp(1e-3, 0.4))


def _as_trained(seen: StateObservations) -> StateObservations:
    """Return looks that are no closer than those that the network was trained on."""
    lag = seen.median_lag
    most = max(1, seen.n_pairs // len(seen.lengths) // (_LOOKS - 1))
    result, stride = seen, 1
    # Wrong labels look like changes, and are fewer of fewer looks: a few rounds find the time between true ones.
    while stride < most and stride * lag < _DENSEST * time_unit(result):
        stride = min(most, max(stride + 1, math.ceil(_DENSE * time_unit(result) / lag)))
        result = seen.apart(stride * lag)
    return result
