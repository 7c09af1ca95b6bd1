r"""Paths on the simplex: which mixture of populations a process passes through at each time.

A path :math:`a(t)`, with :math:`a_k \ge 0` and :math:`\sum_k a_k = 1`, that runs from corner i to corner j of the
simplex carries population i into population j. A path through all corners in the order of their times has to rest at
those in between, or its velocity would jump: a corner is an extreme point. A shortest path is sought in the family
(Albergo, Boffi, Lindsey and Vanden-Eijnden 2023)

.. math:: a_k(t) = \frac{u_k}{\sum_l u_l}, \qquad
    u_k(t) = (1 - t)\,\delta_{ki} + t\,\delta_{kj} + \Bigl(\sum_{m=1}^{M} c_{km} \sin(\pi m t)\Bigr)^2 .
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["CornerPath", "SimplexPath"]


class SimplexPath(nn.Module):
    r"""A smooth path from one corner of the simplex to another, over :math:`t \in [0, 1]`.

    Parameters
    ----------
    corners
        Number of corners ``K``.
    start, end
        Indices of the first and the last corner.
    coefficients
        :math:`c`, ``(K, M)``; zeros give the straight edge.

    Raises
    ------
    ValueError
        If the corners are out of range or the same, or coefficients do not fit.

    Examples
    --------
    >>> edge = SimplexPath(3, 0, 2, torch.zeros(3, 4))
    >>> edge(torch.tensor([0.25]))[0].tolist()
    [[0.75, 0.0, 0.25]]
    """

    def __init__(self, corners: int, start: int, end: int, coefficients: Tensor) -> None:
        super().__init__()
        if not (0 <= start < corners and 0 <= end < corners and start != end):
            raise ValueError(f"start and end must be two of the {corners} corners; got {start} and {end}")
        if coefficients.ndim != 2 or len(coefficients) != corners:
            raise ValueError(f"coefficients must have shape ({corners}, M); got {tuple(coefficients.shape)}")
        self.start, self.end = start, end
        self.coefficients = nn.Parameter(coefficients.clone())

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the path and its derivative, ``(B, K)`` each, at times ``(B,)``."""
        c = self.coefficients
        modes = math.pi * torch.arange(1, c.shape[1] + 1, dtype=c.dtype, device=c.device)
        phase = t.to(c)[:, None] * modes
        wave, slope = torch.sin(phase) @ c.T, (torch.cos(phase) * modes) @ c.T
        u, rate = wave.square(), 2 * wave * slope
        edge, direction = torch.zeros_like(u), torch.zeros_like(u)
        edge[:, self.start], edge[:, self.end] = 1 - t.to(c), t.to(c)
        direction[:, self.start], direction[:, self.end] = -1.0, 1.0
        u, rate = u + edge, rate + direction
        total, growth = u.sum(1, keepdim=True), rate.sum(1, keepdim=True)
        return u / total, (rate - u / total * growth) / total


class CornerPath(nn.Module):
    r"""The path through all corners in the order of their times, along edges, resting at inner corners.

    Between two corners the later coordinate is the cubic :math:`p(s)` from 0 to 1 whose slope is 0 at an inner corner
    and 1 at the first and the last; with two corners, :math:`p = s`.

    Parameters
    ----------
    times
        Strictly increasing times ``(K,)``; over the path's own time they are scaled to ``[0, 1]``.

    Examples
    --------
    >>> path = CornerPath(torch.tensor([0.0, 1.0, 2.0]))
    >>> path(torch.tensor([0.25, 0.5]))[0].tolist()
    [[0.375, 0.625, 0.0], [0.0, 1.0, 0.0]]
    """

    knots: Tensor

    def __init__(self, times: Tensor) -> None:
        super().__init__()
        exact = times.to(torch.float64)
        self.register_buffer("knots", (exact - exact[0]) / (exact[-1] - exact[0]))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the path and its derivative, ``(B, K)`` each, at times ``(B,)``."""
        knots, corners = self.knots, len(self.knots)
        gap = torch.bucketize(t.to(torch.float64).contiguous(), knots[1:-1].contiguous(), right=True)
        length = knots[gap + 1] - knots[gap]
        s = (t.to(torch.float64) - knots[gap]) / length
        first, last = (gap == 0).to(s), (gap == corners - 2).to(s)
        part = s.square() * (3 - 2 * s) + first * s * (1 - s).square() - last * s.square() * (1 - s)
        rate = 6 * s * (1 - s) + first * (1 - s) * (1 - 3 * s) - last * s * (2 - 3 * s)
        one = torch.nn.functional.one_hot
        here, there = one(gap, corners).to(s), one(gap + 1, corners).to(s)
        a = (1 - part)[:, None] * here + part[:, None] * there
        slope = (rate / length)[:, None] * (there - here)
        return a.to(t.dtype), slope.to(t.dtype)
