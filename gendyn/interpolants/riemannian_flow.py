r"""The process of flow matching on a manifold, and the regression that makes it.

.. math:: \dot X = \Pi_X\, v_\theta(t, X), \qquad L(\theta) = E \bigl\lVert \Pi_{x_t} v_\theta(t, x_t) - \dot x_t
    \bigr\rVert^2, \qquad x_t = \exp_{x_0}(t \log_{x_0} x_1),

with :math:`\Pi_x` the projection on the tangent space at x (Chen and Lipman 2024).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.interpolants.manifold import Manifold
from gendyn.nn import VelocityNetwork
from gendyn.randomness import torch_generator
from gendyn.sampling import SOLVERS
from gendyn.sampling.solvers.projected import Projected

__all__ = ["RiemannianFlow", "RiemannianObjective", "TangentNetwork"]


class TangentNetwork(nn.Module):
    """A tangent vector field ``(t, x) -> (B, d)`` of a network that sees points as the manifold embeds them.

    Parameters
    ----------
    manifold
        Where the points are.
    dim
        Features ``d`` of a point.
    hidden, activation, seed
        Of the network, see :class:`gendyn.nn.VelocityNetwork`.

    Examples
    --------
    >>> from gendyn.interpolants.manifold import Sphere
    >>> x = torch.tensor([[0.0, 0.0, 1.0]])
    >>> found = TangentNetwork(Sphere(), 3, (8,))(torch.tensor(0.5), x)
    >>> bool(((found * x).sum(1).abs() < 1e-6).all())
    True
    """

    def __init__(
        self, manifold: Manifold, dim: int, hidden: tuple[int, ...], activation: str = "silu", *, seed: int = 0
    ) -> None:
        super().__init__()
        self.manifold = manifold
        seen = manifold.embed(torch.zeros(1, dim)).shape[1]
        self.network = VelocityNetwork(seen, hidden, activation, out_features=dim, seed=seed)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the field at times ``()`` or ``(B, 1)`` and points ``(B, d)`` of the manifold."""
        return self.manifold.tangent(x, self.network(t, self.manifold.embed(x)))


class RiemannianFlow(nn.Module):
    """The flow of a tangent field, over the trained times.

    Parameters
    ----------
    field
        Tangent vectors over time scaled to [0, 1].
    dim
        Features of a point.
    times
        The trained times ``(T,)``.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process.
    solver : Projected
        Heun's method, each step of which ends on the manifold; what ``"auto"`` means to :func:`gendyn.sample`.
    time_step : float
        A fiftieth of the shortest gap between times.
    shift, scale : Tensor
        Zeros and ones ``(d,)``: points of a manifold are not scaled.
    """

    noise_type: Literal["none"] = "none"
    calculus: Literal["ito"] = "ito"
    noise_dim: int = 0
    times: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, field: TangentNetwork, dim: int, times: Tensor) -> None:
        super().__init__()
        self.field = field
        self.dim = dim
        self.register_buffer("times", times.to(torch.float64).clone())
        like = next(field.parameters())
        self.register_buffer("shift", like.new_zeros(dim))
        self.register_buffer("scale", like.new_ones(dim))
        self.solver = Projected(SOLVERS["heun"], field.manifold.project)
        self.time_step = float(times.diff().min()) / 50

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity ``(B, d)``, tangent at the point of the manifold next to ``x (B, d)``."""
        span = float(self.times[-1] - self.times[0])
        s = ((t.to(torch.float64) - self.times[0]) / span).to(x.dtype)
        velocity: Tensor = self.field(s, self.field.manifold.project(x)) / span
        return velocity

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros: a flow has no noise."""
        return torch.zeros_like(x)


class RiemannianObjective:
    """The flow-matching loss along geodesics between consecutive populations.

    Parameters
    ----------
    module
        The field that is trained.
    training, validation
        Coupled populations to learn from, and such that only watch.
    knots
        Times of the populations, scaled to [0, 1].
    batch_size
        Tuples per step.
    """

    def __init__(
        self,
        module: TangentNetwork,
        training: CoupledPaths,
        knots: Tensor,
        *,
        validation: CoupledPaths | None,
        batch_size: int,
    ) -> None:
        self.module = module
        self.training = training
        self.validation = validation
        self.knots = knots.to(torch.float64).cpu()
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        return self._error(self.training, self.batch_size, generator)

    def validation_loss(self) -> float:
        """Return the loss on the watching cells, with the same tuples and times at every call."""
        if self.validation is None:
            raise ValueError("this objective has no validation cells: give it some, or do not ask for early stopping")
        with torch.no_grad():
            return float(self._error(self.validation, 4096, torch_generator(0, "validation")))

    def _error(self, coupled: CoupledPaths, n: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(coupled), (n,), generator=generator)
        s = (torch.arange(n, dtype=torch.float64) + torch.rand(n, generator=generator, dtype=torch.float64)) / n
        gap = torch.bucketize(s, self.knots[1:-1], right=True)
        length = self.knots[gap + 1] - self.knots[gap]
        points = coupled.points(rows)
        device, each = points.device, torch.arange(n, device=points.device)
        x0, x1 = points[each, gap.to(device)], points[each, gap.to(device) + 1]
        local = ((s - self.knots[gap]) / length).to(points)[:, None]
        x, velocity = self.module.manifold.geodesic(x0, x1, local)
        error: Tensor = self.module(s.to(points)[:, None], x) - velocity / length.to(points)[:, None]
        return error.square().sum(1).mean()
