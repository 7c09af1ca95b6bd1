r"""The process of barycentric interpolants: a walk on the simplex, and the flow it gives in space.

With means :math:`g_k(a, x) = E[x_k \mid \sum_l a_l x_l = x]` and a path :math:`a(t)` on the simplex,

.. math:: \dot X = b(t, X) = \sum_k \dot a_k(t)\, g_k(a(t), X), \qquad \sum_k a_k g_k(a, x) = x,

and where population k is Gaussian with mean m and covariance C, the score is
:math:`\nabla \log \rho_a(x) = -C^{-1}(g_k - m)/a_k`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import Scaling
from gendyn.nn import MLP
from gendyn.randomness import Seed

__all__ = ["BarycentricFlow", "BarycentricNetwork", "Path"]

Path = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Times ``(B,)`` in [0, 1] to points of the simplex and their derivatives, ``(B, K)`` each."""


class BarycentricNetwork(nn.Module):
    """The conditional means of all populations at once.

    What the perceptron says is projected on the means that fit together, those with ``sum_k a_k g_k = x``, among which
    the truth is: their total error does not grow by it, and at a corner of the simplex the population's own mean is the
    point itself.

    Parameters
    ----------
    populations, dim
        Numbers of populations ``K`` and of features ``d``.
    hidden, activation, seed
        Of the perceptron, see :class:`gendyn.nn.MLP`.

    Examples
    --------
    >>> network = BarycentricNetwork(3, 2, (8,))
    >>> network(torch.full((5, 3), 1 / 3), torch.zeros(5, 2)).shape
    torch.Size([5, 3, 2])
    """

    def __init__(
        self, populations: int, dim: int, hidden: tuple[int, ...], activation: str = "silu", *, seed: Seed = 0
    ) -> None:
        super().__init__()
        self.populations, self.dim = populations, dim
        self.mlp = MLP(populations + dim, populations * dim, hidden, activation, seed=seed)

    def forward(self, a: Tensor, x: Tensor) -> Tensor:
        """Return the means ``(B, K, d)`` at barycentric coordinates ``(B, K)`` and positions ``(B, d)``."""
        means = self.mlp(torch.cat([a, x], dim=1)).reshape(-1, self.populations, self.dim)
        missed = x - (a[:, :, None] * means).sum(1)
        projected: Tensor = means + (a / a.square().sum(1, keepdim=True))[:, :, None] * missed[:, None]
        return projected


class BarycentricFlow(nn.Module):
    """The flow along a path on the simplex, in the units of the data.

    Parameters
    ----------
    network
        Conditional means in scaled units, ``(a, z) -> (B, K, d)``.
    scaling
        Shift and scale of the positions, ``(d,)`` each.
    path
        On the simplex, over time scaled to [0, 1].
    times
        Times of the populations on the path; from the first to the last is one unit of the path's time.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process.
    time_step : float
        A fiftieth of the shortest gap between times.
    """

    noise_type: Literal["none"] = "none"
    calculus: Literal["ito"] = "ito"
    noise_dim: int = 0
    shift: Tensor
    scale: Tensor
    times: Tensor

    def __init__(self, network: nn.Module, scaling: Scaling, path: Path, times: Tensor) -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.dim = len(scaling.shift)
        self.register_buffer("shift", scaling.shift.clone())
        self.register_buffer("scale", scaling.scale.clone())
        self.register_buffer("times", times.to(torch.float64).clone())
        self.time_step = float(times.diff().min()) / 50

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity ``(B, d)`` at ``x (B, d)``, in units of ``x`` per unit of time."""
        span = self.times[-1] - self.times[0]
        s = ((t.to(torch.float64) - self.times[0]) / span).reshape(-1).expand(len(x))
        a, rate = (v.to(x.dtype) for v in self.path(s))
        means = self.network(a, (x - self.shift) / self.scale)
        velocity: Tensor = (rate[:, :, None] * means).sum(1)
        return velocity * (self.scale / float(span))

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros: a flow has no noise."""
        return torch.zeros_like(x)
