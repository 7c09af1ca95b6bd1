r"""Conditional paths: curves through coupled points, and their velocities.

One draw of a coupling through all times is a point :math:`x_k \in \mathbb{R}^d` at each knot
:math:`t_1 < \dots < t_T`. A conditional path is the curve through these points, blurred by a little
Gaussian noise:

.. math::

    x_t = \sum_{k=1}^{T} w_k(t)\, x_k + \sigma z, \qquad
    u_t = \sum_{k=1}^{T} \dot w_k(t)\, x_k, \qquad z \sim \mathcal{N}(0, I).

The cardinal weights :math:`w_k` depend on the knots alone: they are the spline of the k-th unit
vector, because interpolation by a spline is linear in the values. With two knots, or ``"linear"``,
:math:`x_t` is the straight line of conditional flow matching (Tong et al., TMLR 2024); with
``"cubic"`` it is the natural cubic spline, whose velocity is continuous across the knots.
Regressing :math:`u_t` on :math:`(t, x_t)` gives the velocity that moves the marginals.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

__all__ = ["CardinalSpline", "SplineKind"]

SplineKind = Literal["linear", "cubic"]


class CardinalSpline(nn.Module):
    r"""The weights :math:`w_k(t)` of a spline through given knots, and their derivatives.

    Parameters
    ----------
    knots
        :math:`t_1 < \dots < t_T`, shape ``(T,)``, at least two.
    kind
        ``"linear"`` (piecewise straight) or ``"cubic"`` (natural cubic: second derivative zero at both ends).

    Raises
    ------
    ValueError
        If there are fewer than two knots, they do not increase strictly, or ``kind`` is unknown.

    Examples
    --------
    >>> spline = CardinalSpline([0.0, 1.0, 3.0], kind="linear")
    >>> weights, derivatives = spline(torch.tensor([2.0]))
    >>> weights.tolist(), derivatives.tolist()
    ([[0.0, 0.5, 0.5]], [[0.0, -0.5, 0.5]])
    """

    knots: Tensor
    coefficients: Tensor

    def __init__(self, knots: Tensor | np.ndarray | list[float], kind: SplineKind = "cubic") -> None:
        super().__init__()
        points = np.asarray(knots, dtype=np.float64)
        if points.ndim != 1 or len(points) < 2:
            raise ValueError(f"a spline needs at least two knots in one row; got shape {points.shape}")
        if not np.all(np.diff(points) > 0):
            raise ValueError(f"knots must increase strictly; got {points.tolist()}")
        if kind not in get_args(SplineKind):
            raise ValueError(f"kind must be one of {get_args(SplineKind)}; got {kind!r}")
        unit = np.eye(len(points))
        if kind == "linear" or len(points) == 2:
            coefficients = np.zeros((4, len(points) - 1, len(points)))
            coefficients[2] = np.diff(unit, axis=0) / np.diff(points)[:, None]
            coefficients[3] = unit[:-1]
        else:
            coefficients = CubicSpline(points, unit, bc_type="natural").c
        self.kind = kind
        self.register_buffer("knots", torch.from_numpy(points))
        self.register_buffer("coefficients", torch.from_numpy(np.ascontiguousarray(coefficients)))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and derivatives, each ``(B, T)``, at times ``t`` of shape ``(B,)``.

        Beyond the first and last knot the end polynomials are continued. The evaluation is in float64
        (times may be days since a remote origin); the result has the dtype of ``t``.
        """
        exact = t.to(torch.float64)
        interval = torch.bucketize(exact, self.knots[1:-1], right=True)
        s = (exact - self.knots[interval])[:, None]
        c3, c2, c1, c0 = self.coefficients[:, interval]
        weights = ((c3 * s + c2) * s + c1) * s + c0
        derivatives = (3 * c3 * s + 2 * c2) * s + c1
        return weights.to(t.dtype), derivatives.to(t.dtype)
