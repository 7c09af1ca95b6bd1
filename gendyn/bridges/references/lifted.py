"""A reference of which only some coordinates are observed, as the bridges take it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gendyn.sampling import Process

__all__ = ["LiftedReference"]


@dataclass(frozen=True, eq=False)
class LiftedReference:
    r"""A process, which of its coordinates the data show, and the law of the others at the first time.

    .. math:: h \mid x \sim \mathcal N(c + B x,\; V) \qquad\text{at the first time.}

    Attributes
    ----------
    process
        The reference of the whole state, ``D`` coordinates, in the Ito sense.
    observed
        Indices of the ``d`` observed coordinates, in the order of the data's features.
    offset
        :math:`c`, ``(H,)``, of the ``H`` hidden coordinates in their own order.
    gain
        :math:`B`, ``(H, d)``.
    covariance
        :math:`V`, ``(H, H)``.
    """

    process: Process
    observed: list[int]
    offset: Tensor
    gain: Tensor
    covariance: Tensor

    @cached_property
    def hidden(self) -> list[int]:
        """Indices of the hidden coordinates, increasing."""
        return [k for k in range(self.process.dim) if k not in self.observed]

    def state(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Join observed ``(..., d)`` and hidden coordinates ``(..., H)`` to whole states ``(..., D)``."""
        place = [*self.observed, *self.hidden]
        order = torch.tensor(place, device=x.device).argsort()
        return torch.cat([x, hidden], -1)[..., order]

    def start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means ``(n, H)`` and covariances ``(n, H, H)`` of the hidden coordinates at the first points."""
        covariance = self.covariance.to(x)
        mean = self.offset.to(x) + x @ self.gain.to(x).T
        return mean, covariance.expand(len(x), *covariance.shape)
