r"""Straight lines, or splines, that a network bends.

Between two coupled points, in local time t,

.. math:: x_t = \ell(t) + 2t(1-t)\,\varphi(x_0, x_1, t) + \sigma z, \qquad \ell(t) = (1-t)\,x_0 + t\,x_1,

or :math:`\ell` the cubic spline through all the points of a tuple. The ends are the points whatever
:math:`\varphi` is. The velocity holds :math:`\partial_t\varphi`, taken exactly. What
:math:`\varphi` is good for is an objective's to say: :mod:`gendyn.interpolants.metric_objective` makes paths short in a
metric of the data (Kapusniak et al., NeurIPS 2024), :mod:`gendyn.interpolants.optimal_objective` makes a process cheap
(Albergo, Boffi and Vanden-Eijnden 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gendyn.interpolants.conditional_path import PathOfGaps, SplineKind, SplinePath

__all__ = ["BentPath"]


class BentPath(PathOfGaps):
    r"""A straight line, or a spline, that a network bends, and constant noise.

    Parameters
    ----------
    knots
        Times of the points ``(T,)``, from 0 to 1.
    sigma
        Standard deviation of the noise.
    network
        :math:`\varphi`, called with times ``(B, 1)``, earlier points and later points ``(B, d)``.
    base
        What is bent: ``"linear"`` or ``"cubic"``.
    bend
        Of a cubic base, see :class:`gendyn.interpolants.conditional_path.CardinalSpline`.

    Examples
    --------
    >>> path = BentPath(torch.tensor([0.0, 1.0]), 0.0, lambda s, x0, x1: s * torch.ones_like(x0))
    >>> x, u = path(torch.tensor([0.5]).double(), torch.tensor([[[0.0], [1.0]]]), torch.zeros(1, 1))
    >>> x.item(), u.item()
    (0.75, 1.5)
    """

    def __init__(
        self, knots: Tensor, sigma: float, network: nn.Module, *, base: SplineKind = "linear", bend: float = 1.0
    ) -> None:
        super().__init__(knots, sigma)
        self.network = network
        self.curve: SplineKind = base
        self.base = SplinePath(knots, base, 0.0, bend)

    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return particle and velocity; see :class:`gendyn.interpolants.conditional_path.ConditionalPath`."""
        gap, *local = self.local(s)
        t, length = (v.to(points.dtype) for v in local)
        rows = torch.arange(len(points), device=points.device)
        before, after = points[rows, gap], points[rows, gap + 1]
        at = s.to(points.dtype)[:, None]
        bend, bend_rate = _with_rate(lambda r: self.network(r, before, after), at)
        position, velocity = self.base(s, points, torch.zeros_like(noise))
        position = position + 2 * t * (1 - t) * bend + self.sigma * noise
        velocity = velocity + 2 * (1 - 2 * t) * bend / length + 2 * t * (1 - t) * bend_rate
        return position, velocity


def _with_rate(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function of times ``(B, 1)`` that acts on each row alone, and its derivative, ``(B, d)`` each."""
    value, pull = torch.func.vjp(function, t)[:2]
    # Pulling back is linear; pulling that back in turn pushes forward, for every output at once.
    push = torch.func.vjp(lambda v: pull(v)[0], torch.zeros_like(value))[1]
    rate: Tensor = push(torch.ones_like(t))[0]
    return value, rate
