r"""The regression of velocity and growth, on paths whose mass changes.

.. math:: L(\theta) = \frac{\mathbb{E}\, m(s) \bigl( \lVert v_\theta(s, x_s) - u_s \rVert^2
    + (g_\theta(s, x_s) - \lambda_s)^2 \bigr)}{\mathbb{E}\, m(s)},

with the mass m of a tuple and its rate of growth :math:`\lambda` from :mod:`gendyn.interpolants.growing_paths`, and
means over tuples and times of a batch. At the minimum :math:`\partial_t \rho = -\nabla \cdot (\rho v) + \rho g` moves
the populations of the paths.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn.interpolants.conditional_path import ConditionalPath
from gendyn.interpolants.growing_paths import GrowingPaths
from gendyn.interpolants.objective import FlowMatchingObjective

__all__ = ["GrowingObjective", "VelocityAndGrowth"]


class VelocityAndGrowth(nn.Module):
    """A velocity network and, of the same inputs, a network of one output.

    Parameters
    ----------
    velocity, rate
        The networks.
    """

    def __init__(self, velocity: nn.Module, rate: nn.Module) -> None:
        super().__init__()
        self.velocity = velocity
        self.rate = rate

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return velocity and growth rate ``(B, d + 1)``."""
        return torch.cat([self.velocity(t, x), self.rate(t, x)], dim=1)


class GrowingObjective(FlowMatchingObjective):
    """The loss of velocity and growth on coupled populations with masses, in scaled units.

    Parameters
    ----------
    module
        Both networks.
    path, training, validation, batch_size
        As for :class:`~gendyn.interpolants.objective.FlowMatchingObjective`.
    """

    def __init__(
        self,
        module: VelocityAndGrowth,
        path: ConditionalPath,
        training: GrowingPaths,
        *,
        validation: GrowingPaths | None = None,
        batch_size: int,
    ) -> None:
        super().__init__(module, path, training, validation=validation, batch_size=batch_size)

    def _error(self, coupled: GrowingPaths, n: int, generator: torch.Generator) -> Tensor:  # type: ignore[override]
        rows, s, position, velocity = self._drawn(coupled, n, generator)
        mass, rate = coupled.mass(rows, s)
        target = torch.cat([velocity, rate[:, None]], dim=1)
        error: Tensor = self.module(s.to(position.dtype)[:, None], position) - target
        return (mass * error.square().sum(1)).mean()
