"""A process whose cells carry a weight: the state ends with its logarithm."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ["Growing", "GrowingFlow"]


class Growing(Protocol):
    """A process with a growth rate."""

    dim: int
    noise_dim: int
    time_step: float

    @property
    def noise_type(self) -> Literal["none", "additive"]:
        """Return how noise enters the positions."""
        ...

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)``."""
        ...

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion."""
        ...

    def growth(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the growth rate ``(B,)`` per unit of time."""
        ...


class GrowingFlow:
    """A growing process as one whose state ``(B, d + 1)`` ends with the logarithm of each cell's weight.

    Parameters
    ----------
    flow
        The process of the first ``d`` entries.
    """

    calculus: Literal["ito"] = "ito"

    def __init__(self, flow: Growing) -> None:
        self.flow = flow
        self.dim = flow.dim + 1
        self.noise_type, self.noise_dim = flow.noise_type, flow.noise_dim
        self.time_step = flow.time_step

    def drift(self, t: Tensor, state: Tensor) -> Tensor:
        """Return drift and growth rate ``(B, d + 1)``."""
        x = state[:, :-1]
        return torch.cat([self.flow.drift(t, x), self.flow.growth(t, x)[:, None]], dim=1)

    def diffusion(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the diffusion ``(d + 1, d)``; a weight has no noise of its own."""
        if self.noise_type == "none":
            return torch.zeros_like(state)
        g = self.flow.diffusion(t, state[:, :-1])
        return torch.cat([g, g.new_zeros(1, self.noise_dim)])
