r"""Paths that bend towards the data: a network learns how, from a metric, before any velocity is learned.

Between two coupled points, in local time t,

.. math:: x_t = (1-t)\,x_0 + t\,x_1 + 2t(1-t)\,\varphi(x_0, x_1, t), \qquad
    \varphi^\star = \arg\min_\varphi \mathbb{E} \sum_d \dot x_{t,d}^2\, G_d(x_t)^p,

whose ends are the points whatever :math:`\varphi` is. The velocity holds :math:`\partial_t\varphi`, taken exactly
(Kapusniak et al., Metric flow matching, NeurIPS 2024). Between one pair the minimum is the squared length of the
geodesic, run at constant speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gendyn.interpolants.conditional_path import PathOfGaps
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.interpolants.data_metric import MetricField

__all__ = ["MetricPath", "MetricPathObjective"]


class MetricPath(PathOfGaps):
    r"""A straight line that a network bends, and constant noise.

    Parameters
    ----------
    knots
        Times of the points ``(T,)``, from 0 to 1.
    sigma
        Standard deviation of the noise.
    network
        :math:`\varphi`, called with times ``(B, 1)``, earlier points and later points ``(B, d)``.

    Examples
    --------
    >>> path = MetricPath(torch.tensor([0.0, 1.0]), 0.0, lambda s, x0, x1: s * torch.ones_like(x0))
    >>> x, u = path(torch.tensor([0.5]).double(), torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 1))
    >>> x.item(), u.item()
    (0.75, 1.5)
    """

    def __init__(self, knots: Tensor, sigma: float, network: nn.Module) -> None:
        super().__init__(knots, sigma)
        self.network = network

    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return particle and velocity; see :class:`gendyn.interpolants.conditional_path.ConditionalPath`."""
        gap, *local = self.local(s)
        t, length = (v.to(points.dtype) for v in local)
        rows = torch.arange(len(points), device=points.device)
        before, after = points[rows, gap], points[rows, gap + 1]
        at = s.to(points.dtype)[:, None]
        bend, bend_rate = _with_rate(lambda r: self.network(r, before, after), at)
        position = torch.lerp(before, after, t) + 2 * t * (1 - t) * bend
        velocity = (after - before + 2 * (1 - 2 * t) * bend) / length + 2 * t * (1 - t) * bend_rate
        return position + self.sigma * noise, velocity


class MetricPathObjective:
    """The mean squared length of paths in a metric, over coupled populations in scaled units.

    Parameters
    ----------
    path
        Its network is trained.
    metrics
        Of every gap between times.
    training
        Coupled populations.
    batch_size
        Tuples a step.
    """

    def __init__(
        self, path: MetricPath, metrics: Sequence[MetricField], training: CoupledPaths, *, batch_size: int
    ) -> None:
        self.module = path.network
        self.path = path
        self.metrics = metrics
        self.training = training
        self.batch_size = batch_size

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one mini-batch; everything random comes from ``generator``."""
        n, device = self.batch_size, self.training.populations[0].device
        rows = torch.randint(0, len(self.training), (n,), generator=generator)
        offsets = torch.rand(n, generator=generator, dtype=torch.float64)
        s = ((torch.arange(n, dtype=torch.float64) + offsets) / n).to(device)
        points = self.training.points(rows)
        gap, _, length = self.path.local(s)
        position, velocity = self.path(s, points, torch.zeros_like(points[:, 0]))
        speed = (velocity.double() * length).square()
        # Times are sorted, so that the rows of a gap are neighbours.
        counts = torch.bincount(gap, minlength=len(self.metrics)).tolist()
        parts = zip(self.metrics, position.split(counts), speed.split(counts), strict=True)
        return torch.cat([(metric(x) * v).sum(1) for metric, x, v in parts]).mean()


def _with_rate(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of times ``(B, 1)`` that acts on each row alone, and its derivative, ``(B, d)`` each."""
    value, pull = torch.func.vjp(function, t)[:2]
    # Pulling back is linear; pulling that back in turn pushes forward, for every output at once.
    push = torch.func.vjp(lambda v: pull(v)[0], torch.zeros_like(value))[1]
    rate: Tensor = push(torch.ones_like(t))[0]
    return value, rate
