r"""Conditional paths: Gaussian laws that move through coupled points, and their velocities.

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

Any path is a Gaussian law :math:`\mathcal{N}(\mu_t, \sigma_t^2)` given the points, and the velocity of its particle
:math:`x_t = \mu_t + \sigma_t z` is :math:`u_t = \dot\mu_t + \dot\sigma_t z`. Where the mean is not a spline with fixed
weights, the path has its own formula: the monotone cubic of Fritsch and Carlson (1980), the quarter circle of Albergo
and Vanden-Eijnden (2023), or the path of Lipman et al. (2023), which shrinks Gaussian noise onto a point.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal, get_args

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

__all__ = [
    "CardinalSpline",
    "ConditionalPath",
    "MonotonePath",
    "PathName",
    "PathOfGaps",
    "ShrinkingPath",
    "SplineKind",
    "SplinePath",
    "TrigonometricPath",
    "make_path",
]

SplineKind = Literal["linear", "cubic"]

PathName = Literal["linear", "cubic", "pchip", "trigonometric", "shrinking", "metric"]


class CardinalSpline(nn.Module):
    r"""The weights :math:`w_k(t)` of a spline through given knots, and their derivatives.

    Parameters
    ----------
    knots
        :math:`t_1 < \dots < t_T`, shape ``(T,)``, at least two.
    kind
        ``"linear"`` (piecewise straight) or ``"cubic"`` (natural cubic: second derivative zero at both ends).
    bend
        Of a cubic spline, how far it is from the straight lines: 1 is the natural spline itself, 0 the lines, and
        between them the weights are :math:`b\,w^{\text{cubic}} + (1 - b)\,w^{\text{linear}}`.

    Raises
    ------
    ValueError
        If there are fewer than two knots, they do not increase strictly, ``kind`` is unknown, or ``bend`` is not in
        [0, 1].

    Examples
    --------
    >>> spline = CardinalSpline([0.0, 1.0, 3.0], kind="linear")
    >>> weights, derivatives = spline(torch.tensor([2.0]))
    >>> weights.tolist(), derivatives.tolist()
    ([[0.0, 0.5, 0.5]], [[0.0, -0.5, 0.5]])
    """

    knots: Tensor
    coefficients: Tensor

    def __init__(self, knots: Tensor | np.ndarray | list[float], kind: SplineKind = "cubic", bend: float = 1.0) -> None:
        super().__init__()
        points = np.asarray(knots, dtype=np.float64)
        if points.ndim != 1 or len(points) < 2:
            raise ValueError(f"a spline needs at least two knots in one row; got shape {points.shape}")
        if not np.all(np.diff(points) > 0):
            raise ValueError(f"knots must increase strictly; got {points.tolist()}")
        if kind not in get_args(SplineKind):
            raise ValueError(f"kind must be one of {get_args(SplineKind)}; got {kind!r}")
        if not 0 <= bend <= 1:
            raise ValueError(f"bend must lie in [0, 1], from straight lines to the natural spline; got {bend}")
        unit = np.eye(len(points))
        self._straight = kind == "linear" or len(points) == 2
        coefficients = np.zeros((4, len(points) - 1, len(points)))
        coefficients[2] = np.diff(unit, axis=0) / np.diff(points)[:, None]
        coefficients[3] = unit[:-1]
        if not self._straight:
            coefficients = bend * CubicSpline(points, unit, bc_type="natural").c + (1 - bend) * coefficients
        self.kind = kind
        self.register_buffer("knots", torch.from_numpy(points))
        self.register_buffer("coefficients", torch.from_numpy(np.ascontiguousarray(coefficients)))

    def forward(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and derivatives, each ``(B, T)``, at times ``t`` of shape ``(B,)``.

        Beyond the first and last knot the end polynomials are continued. The evaluation is in float64
        (times may be days since a remote origin); the result has the dtype of ``t``.
        """
        exact = t.to(torch.float64)
        start, coefficients = self.knots[:1], self.coefficients
        if len(self.knots) > 2:
            interval = torch.bucketize(exact, self.knots[1:-1], right=True)
            start, coefficients = self.knots[interval], coefficients.index_select(1, interval)
        s = (exact - start)[:, None]
        c3, c2, c1, c0 = coefficients
        if self._straight:
            weights = c1 * s + c0
            derivatives = c1.expand_as(weights)
        else:
            weights = ((c3 * s + c2) * s + c1) * s + c0
            derivatives = (3 * c3 * s + 2 * c2) * s + c1
        return weights.to(t.dtype), derivatives.to(t.dtype)


class ConditionalPath(nn.Module, ABC):
    """A Gaussian law that moves through coupled points, over time scaled to [0, 1]."""

    @abstractmethod
    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return a particle of the law and its velocity, ``(B, d)`` each.

        Parameters
        ----------
        s
            Times ``(B,)``, float64.
        points
            Coupled points ``(B, T, d)``.
        noise
            Standard Gaussian numbers ``(B, d)``: where in the law the particle is.
        """


class SplinePath(ConditionalPath):
    r"""A spline with fixed weights and constant noise: :math:`x = \sum_k w_k x_k + \sigma z`.

    Parameters
    ----------
    knots
        Times of the points ``(T,)``.
    kind
        Of the spline.
    sigma
        Standard deviation of the noise.
    bend
        Of a cubic spline, see :class:`CardinalSpline`.

    Examples
    --------
    >>> path = SplinePath(torch.tensor([0.0, 1.0]), "linear", sigma=0.1)
    >>> x, u = path(torch.tensor([0.25]).double(), torch.tensor([[[0.0], [4.0]]]), torch.ones(1, 1))
    >>> round(x.item(), 6), u.item()
    (1.1, 4.0)
    """

    def __init__(self, knots: Tensor, kind: SplineKind, sigma: float, bend: float = 1.0) -> None:
        super().__init__()
        self.spline = CardinalSpline(knots, kind, bend)
        self.sigma = sigma

    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return particle and velocity; see :class:`ConditionalPath`."""
        weights, derivatives = (w.to(points.dtype)[:, None] for w in self.spline(s))
        return torch.bmm(weights, points)[:, 0] + self.sigma * noise, torch.bmm(derivatives, points)[:, 0]


class PathOfGaps(ConditionalPath):
    """A path whose formula is that of the gap between two neighbouring points."""

    knots: Tensor

    def __init__(self, knots: Tensor, sigma: float) -> None:
        super().__init__()
        self.register_buffer("knots", torch.as_tensor(knots, dtype=torch.float64))
        self.sigma = sigma

    def local(self, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gap of each time, the local time in it and its length, the latter two ``(B, 1)``."""
        gap = torch.bucketize(s, self.knots[1:-1], right=True)
        length = self.knots.diff()[gap]
        return gap, ((s - self.knots[gap]) / length)[:, None], length[:, None]


class MonotonePath(PathOfGaps):
    r"""A monotone piecewise cubic (PCHIP) through each feature of the points, and constant noise.

    The slope at an inner point is the weighted harmonic mean of those of its two gaps, and zero where they differ in
    sign: no feature overshoots its points, as a natural cubic spline may (Fritsch and Butland 1984).

    Examples
    --------
    >>> path = MonotonePath(torch.tensor([0.0, 0.5, 1.0]), sigma=0.0)
    >>> x, u = path(torch.tensor([0.5]).double(), torch.tensor([[[0.0], [1.0], [0.0]]]), torch.zeros(1, 1))
    >>> x.item(), u.item()
    (1.0, 0.0)
    """

    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return particle and velocity; see :class:`ConditionalPath`."""
        gap, *local = self.local(s)
        t, length = (v.to(points.dtype) for v in local)
        rows = torch.arange(len(points), device=points.device)
        slopes = self._slopes(points)
        before, after = points[rows, gap], points[rows, gap + 1]
        first, last = length * slopes[rows, gap], length * slopes[rows, gap + 1]
        rise = after - before
        # Hermite's cubic, as a polynomial in local time.
        c3, c2 = first + last - 2 * rise, 3 * rise - 2 * first - last
        position = ((c3 * t + c2) * t + first) * t + before
        velocity = ((3 * c3 * t + 2 * c2) * t + first) / length
        return position + self.sigma * noise, velocity

    def _slopes(self, points: Tensor) -> Tensor:
        h = self.knots.diff().to(points.dtype)[None, :, None]
        secant = points.diff(dim=1) / h
        if secant.shape[1] == 1:
            return secant.expand(-1, 2, -1)
        left, right, h0, h1 = secant[:, :-1], secant[:, 1:], h[:, :-1], h[:, 1:]
        w0, w1 = 2 * h1 + h0, h1 + 2 * h0
        agree = left * right > 0
        safe_left, safe_right = torch.where(agree, left, 1.0), torch.where(agree, right, 1.0)
        inner = torch.where(agree, (w0 + w1) / (w0 / safe_left + w1 / safe_right), 0.0)
        first = _end_slope(h[:, 0], h[:, 1], secant[:, 0], secant[:, 1])
        last = _end_slope(h[:, -1], h[:, -2], secant[:, -1], secant[:, -2])
        return torch.cat([first[:, None], inner, last[:, None]], dim=1)


class TrigonometricPath(PathOfGaps):
    r"""A quarter circle in each gap and constant noise: :math:`x = \cos(\pi t/2) x_0 + \sin(\pi t/2) x_1 + \sigma z`.

    Between independent, centred populations of one covariance the covariance stays.

    Examples
    --------
    >>> path = TrigonometricPath(torch.tensor([0.0, 1.0]), sigma=0.0)
    >>> x, u = path(torch.tensor([0.5]).double(), torch.tensor([[[1.0], [1.0]]]), torch.zeros(1, 1))
    >>> round(x.item(), 6), round(u.item(), 6)
    (1.414214, 0.0)
    """

    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return particle and velocity; see :class:`ConditionalPath`."""
        gap, t, length = self.local(s)
        rows = torch.arange(len(points), device=points.device)
        before, after = points[rows, gap], points[rows, gap + 1]
        half = math.pi / 2
        cosine, sine = (f(half * t).to(points.dtype) for f in (torch.cos, torch.sin))
        velocity = half * (cosine * after - sine * before) / length.to(points.dtype)
        return cosine * before + sine * after + self.sigma * noise, velocity


class ShrinkingPath(ConditionalPath):
    r"""Standard Gaussian noise that shrinks onto the last point (Lipman et al. 2023).

    .. math:: x = t\,x_1 + (1 - (1 - \sigma)t)\, z, \qquad
        u = x_1 - (1 - \sigma) z = \frac{x_1 - (1 - \sigma) x}{1 - (1 - \sigma) t}

    The first points are not looked at: their law is taken to be standard Gaussian.

    Examples
    --------
    >>> x, u = ShrinkingPath(0.1)(torch.tensor([0.3]).double(), torch.tensor([[[1.0], [-2.0]]]), torch.tensor([[0.4]]))
    >>> round(x.item(), 6), round(u.item(), 6)
    (-0.308, -2.36)
    """

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    @staticmethod
    def check_source(x: Tensor) -> None:
        """Raise a ValueError for points that are far from standard Gaussian noise, by their first two moments."""
        mean = float(x.mean(0).abs().max())
        centred = (x - x.mean(0)).double()
        covariance = centred.T @ centred / len(x)
        off = float((covariance - torch.eye(x.shape[1], dtype=covariance.dtype, device=x.device)).abs().max())
        if mean > 0.2 or off > 0.3:
            raise ValueError(
                "a shrinking path starts from standard Gaussian noise; the scaled first population has a mean of up to "
                f"{mean:.2g} and a covariance up to {off:.2g} from the unit matrix: use path='linear' (the preset "
                "'icfm'), or, if it is standard Gaussian in its own units, scale='none'"
            )

    def forward(self, s: Tensor, points: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return particle and velocity; see :class:`ConditionalPath`."""
        t, end, shrink = s.to(points.dtype)[:, None], points[:, -1], 1 - self.sigma
        return t * end + (1 - shrink * t) * noise, end - shrink * noise


def make_path(name: PathName, knots: Tensor, sigma: float, bend: float = 1.0) -> ConditionalPath:
    """Return a conditional path by name.

    Parameters
    ----------
    name
        ``"linear"``, ``"cubic"``, ``"pchip"``, ``"trigonometric"`` or ``"shrinking"``; a metric path is made of a
        network, see :class:`gendyn.interpolants.bent_path.BentPath`.
    knots
        Times of the points ``(T,)``, from 0 to 1.
    sigma
        Standard deviation of the noise; of ``"shrinking"`` at its end.
    bend
        Of ``"cubic"``, see :class:`CardinalSpline`.

    Raises
    ------
    ValueError
        If there is none of that name, or a shrinking path is to run through more than two times.

    Examples
    --------
    >>> make_path("pchip", torch.tensor([0.0, 0.5, 1.0]), 0.1)
    MonotonePath()
    """
    names = [known for known in get_args(PathName) if known != "metric"]
    if name not in names:
        raise ValueError(f"path must be one of {', '.join(names)}; got {name!r}")
    if name == "shrinking":
        if len(knots) != 2:
            raise ValueError(f"a shrinking path joins noise to one population; got {len(knots)} times")
        return ShrinkingPath(sigma)
    if name == "pchip":
        return MonotonePath(knots, sigma)
    if name == "trigonometric":
        return TrigonometricPath(knots, sigma)
    return SplinePath(knots, "cubic" if name == "cubic" else "linear", sigma, bend)


def _end_slope(h0: Tensor, h1: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Return the slope at an end from three points, cut where it would not keep the shape of the data."""
    slope = ((2 * h0 + h1) * near - h0 * far) / (h0 + h1)
    slope = torch.where(slope * near > 0, slope, 0.0)
    return torch.where((near * far < 0) & (slope.abs() > 3 * near.abs()), 3 * near, slope)
