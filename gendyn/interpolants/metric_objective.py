r"""Paths that are short in a metric of the data.

.. math:: \varphi^\star = \arg\min_\varphi \mathbb{E} \sum_d \dot x_{t,d}^2\, G_d(x_t)^p

over the paths :math:`x_t` that :math:`\varphi` bends, learned before any velocity (Kapusniak et al., Metric flow
matching, NeurIPS 2024). Between one pair the minimum is the squared length of the geodesic, run at constant speed.

The shortest path knows nothing of the times before and after, and would undo what a spline knows of them. Bent splines
:math:`\ell` are therefore measured from themselves,

.. math:: \varphi^\star = \arg\min_\varphi
    \mathbb{E} \sum_d \bigl[(\dot x_t - \dot\ell_t)_d^2 + \dot\ell_{t,d}^2\bigr] G_d(x_t)^p :

a metric that is the same everywhere leaves splines as they are, as it leaves lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gendyn.interpolants.bent_path import BentPath
from gendyn.interpolants.coupled_paths import CoupledPaths
from gendyn.interpolants.data_metric import MetricField

__all__ = ["MetricObjective"]


class MetricObjective:
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
        self, path: BentPath, metrics: Sequence[MetricField], training: CoupledPaths, *, batch_size: int
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
        rows = self.training.at(rows, s)
        points, (mass, _) = self.training.points(rows), self.training.mass(rows, s)
        gap, _, length = self.path.local(s)
        position, velocity = self.path(s, points, torch.zeros_like(points[:, 0]))
        speed = self._squared_speed(velocity, self.path.base(s, points, torch.zeros_like(points[:, 0]))[1], length)
        # Times are sorted, so that the rows of a gap are neighbours.
        counts = torch.bincount(gap, minlength=len(self.metrics)).tolist()
        parts = zip(self.metrics, torch.split(position, counts), torch.split(speed, counts), strict=True)
        return (mass * torch.cat([(metric(x) * v).sum(1) for metric, x, v in parts])).mean()

    def _squared_speed(self, velocity: Tensor, along: Tensor, length: Tensor) -> Tensor:
        """Return what a metric weighs, ``(B, d)``, float64, of velocities of paths and of what they bend."""
        if self.path.curve == "linear":
            return (velocity.double() * length).square()
        return ((velocity - along).double() * length).square() + (along.double() * length).square()
