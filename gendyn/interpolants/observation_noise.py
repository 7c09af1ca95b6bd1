r"""The Gaussian law of the next observation: how far it strays, and from where, given what is known.

.. math:: x_{k+1,d} \mid h \sim \mathcal{N}\bigl(\hat x_d(h) + m_d(h),\, s_d(h)^2\bigr), \qquad
    L(m, s) = E \sum_d \Bigl[\log s_d(h) + \frac{(x_{k+1,d} - \hat x_d(h) - m_d(h))^2}{2\,s_d(h)^2}\Bigr],

with the means :math:`\hat x` of a model that has been fitted before; features of :math:`x_{k+1}` that were not seen
have no part. The minimum is the conditional variance of what is left (Nix and Weigend 1994); as the noise head of a
model of trajectories: Zhang, Pu, Kawamura, Loza, Bengio, Shung and Tong 2024. The correction m takes out what a path
without noise blurs: along it the next observation shows more and more, and a smooth network does not forget that at
its start.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gendyn.nn import VelocityNetwork
from gendyn.randomness import Seed

__all__ = ["NoiseObjective", "ObservationNoise"]

_LEAST = 1e-4
"""Least standard deviation, in scaled units."""


class ObservationNoise(nn.Module):
    """Corrections of the mean of the next observation, and its standard deviations, in scaled units.

    Parameters
    ----------
    dim
        Number of features.
    hidden, activation
        Of the network.
    context_dim
        Width of what is known.
    seed
        Of the initial weights.

    Examples
    --------
    >>> noise = ObservationNoise(2, (8,), "silu", context_dim=3)
    >>> mean, deviation = noise(torch.zeros(5, 2), torch.zeros(5, 3))
    >>> mean.shape, bool((deviation > 0).all())
    (torch.Size([5, 2]), True)
    """

    def __init__(self, dim: int, hidden: Sequence[int], activation: str, *, context_dim: int, seed: Seed = 0) -> None:
        super().__init__()
        self.network = VelocityNetwork(
            dim, tuple(hidden), activation, condition_dim=context_dim, out_features=2 * dim, seed=seed
        )

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return corrections and standard deviations from last positions ``(B, d)`` and what is known ``(B, c)``."""
        mean, raw = self.network(torch.zeros((), dtype=x.dtype, device=x.device), x, context).chunk(2, dim=1)
        return mean, _LEAST + nn.functional.softplus(raw)


class NoiseObjective:
    """The Gaussian likelihood of residuals, over gaps in scaled units.

    Parameters
    ----------
    module
        Is trained.
    x, context
        Positions ``(G, d)`` at the start of every gap, and what is known there ``(G, c)``.
    residuals
        The next observations less their means ``(G, d)``.
    seen
        Which of them were observed ``(G, d)``.
    batch_size
        Gaps per step.
    """

    def __init__(
        self, module: ObservationNoise, x: Tensor, context: Tensor, residuals: Tensor, seen: Tensor, *, batch_size: int
    ) -> None:
        self.module = module
        self.x, self.context, self.residuals, self.seen = x, context, residuals, seen
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        rows = torch.randint(0, len(self.x), (self.batch_size,), generator=generator).to(self.x.device)
        mean, deviation = self.module(self.x[rows], self.context[rows])
        ratio = (self.residuals[rows] - mean) / deviation
        terms = (deviation.log() + ratio.square() / 2) * self.seen[rows]
        total: Tensor = terms.sum(1).mean()
        return total
