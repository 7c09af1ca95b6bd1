r"""The regression of a fractional bridge: where the path ends, seen from what is expected of the end under way.

.. math:: L(\theta) = E\,\frac{s^2 (1-r) + v r}{v r}\, \lVert \hat x_\theta(r, \mu, x_0) - x_1 \rVert^2, \qquad
    \mu = r x_0 + (1-r) x_1 + \sqrt{v r (1-r)}\, z,

over pairs and :math:`r \sim U(0, 1)`, with the names of :mod:`gendyn.interpolants.fractional_bridge_process`. The
weight is one over the variance that is left where :math:`x_1` is normal given :math:`x_0`. The Hurst index has no part:
it decides when a path is at which r.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.interpolants.fractional_bridge_process import expected_end
from gendyn.nn import VelocityNetwork
from gendyn.randomness import torch_generator

__all__ = ["FractionalBridgeObjective"]

_WATCHED = 4096


class FractionalBridgeObjective:
    """The loss over pairs, in scaled units.

    Parameters
    ----------
    module
        ``(clock, mu, start) -> (B, d)``.
    training, validation
        Pairs ``(n, 2, d)`` to learn from, and pairs that only watch; may be empty.
    spread, sigma
        Deviation of the end given the start, and of the noise, ``(d,)``.
    batch_size
        Pairs a step.
    """

    def __init__(
        self,
        module: VelocityNetwork,
        training: Tensor,
        validation: Tensor,
        *,
        spread: Tensor,
        sigma: Tensor,
        batch_size: int,
    ) -> None:
        self.module, self.training, self.validation = module, training, validation
        self.spread, self.sigma, self.batch_size = spread, sigma, batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        rows = torch.randint(0, len(self.training), (self.batch_size,), generator=generator)
        return self._error(self.training[rows.to(self.training.device)], generator)

    def validation_loss(self) -> float:
        """Return the loss on the watching pairs, with the same noise at every call; not a number without any."""
        if not len(self.validation):
            return float("nan")
        generator = torch_generator(0, "validation")
        rows = torch.randperm(len(self.validation), generator=generator)[:_WATCHED]
        with torch.no_grad():
            return float(self._error(self.validation[rows.to(self.validation.device)], generator))

    def _error(self, pairs: Tensor, generator: torch.Generator) -> Tensor:
        start, end = pairs.unbind(1)
        n = len(pairs)
        noise = torch.randn(start.shape, generator=generator, dtype=start.dtype).to(start.device)
        uniform = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        left = (1 - uniform).to(start)[:, None]
        mu = torch.lerp(end, start, left) + self.sigma * (left * (1 - left)).sqrt() * noise
        found = expected_end(self.module, left, mu, start, self.spread, self.sigma)
        rest = self.sigma.square() * left
        weight = (self.spread.square() * (1 - left) + rest) / rest
        total: Tensor = (weight * (found - end).square()).sum(1).mean()
        return total
