r"""Two manifolds with their geodesics: the unit sphere and the flat torus.

With the logarithm :math:`\log_x y`, the velocity at x of the shortest way to y, and the exponential map
:math:`\exp_x v`, where that velocity leads in unit time, the shortest way is

.. math:: x_t = \exp_{x_0}(t \log_{x_0} x_1) .

On the sphere :math:`S^{d-1} \subset \mathbb{R}^d`, with :math:`\theta = \angle(x, y)`,

.. math:: \exp_x v = \cos\lVert v \rVert\, x + \sin\lVert v \rVert\, \frac{v}{\lVert v \rVert}, \qquad
    \log_x y = \frac{\theta}{\sin\theta}\,(y - \cos\theta\, x) ;

on the torus of d angles both are sums and differences modulo :math:`2\pi`. Between antipodes there is no one
shortest way.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

__all__ = ["MANIFOLDS", "Manifold", "ManifoldName", "Sphere", "Torus"]

ManifoldName = Literal["sphere", "torus"]

_NEAR_ANTIPODES = 1e-4
"""Angle from the antipode below which the direction of the shortest way is rounding error."""


class Manifold(ABC):
    """Points ``(B, d)`` with geodesics; velocities are tangent vectors ``(B, d)``."""

    name: str

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise a ValueError for points that are not on the manifold."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Return the nearest points of the manifold."""

    @abstractmethod
    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the part of vectors that is tangent at points of the manifold."""

    @abstractmethod
    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return where tangent vectors lead in unit time."""

    @abstractmethod
    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the tangent vectors at x whose exponentials are y, the shortest ones."""

    @abstractmethod
    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return lengths of shortest ways; broadcasts over all but the last dimension."""

    @abstractmethod
    def is_antipodal(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which pairs ``(B,)`` have no one shortest way."""

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """Return points of a flat space ``(B, e)``, smooth functions of x that tell points apart."""

    @abstractmethod
    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared distances ``(n_0, n_1)`` between two samples, the cost of their transport."""

    def geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shortest way and its velocity, ``(B, d)`` each, at times ``(B, 1)`` in [0, 1].

        Raises
        ------
        ValueError
            If points are antipodes.
        """
        antipodal = self.is_antipodal(x, y)
        if bool(antipodal.any()):
            k = int(torch.nonzero(antipodal)[0])
            raise ValueError(
                f"{int(antipodal.sum())} of {len(x)} pairs are antipodes (first: pair {k}), between which there is no "
                "one shortest way; leave them out, or join points by transport"
            )
        return self._geodesic(x, y, t)

    @abstractmethod
    def _geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]: ...


class Sphere(Manifold):
    """The unit sphere in ``d`` dimensions.

    Examples
    --------
    >>> sphere, north = Sphere(), torch.tensor([[0.0, 0.0, 1.0]])
    >>> east = torch.tensor([[1.0, 0.0, 0.0]])
    >>> round(float(sphere.distance(north, east)) / math.pi, 4)
    0.5
    >>> sphere.log(north, east).tolist()
    [[1.5707..., 0.0, 0.0]]
    """

    name = "sphere"

    def check(self, x: Tensor) -> None:
        """Raise a ValueError for points whose norm is not 1 within 1e-4, or of one feature."""
        if x.shape[1] < 2:
            raise ValueError("points of a sphere have at least two features; got one")
        off = (x.norm(dim=1) - 1).abs()
        if bool((off > 1e-4).any()):
            raise ValueError(
                f"points of the sphere must have norm 1; {int((off > 1e-4).sum())} of {len(x)} are off by up to "
                f"{float(off.max()):.2g}: divide them by their norm"
            )

    def project(self, x: Tensor) -> Tensor:
        """Return the points divided by their norms."""
        unit: Tensor = x / x.norm(dim=-1, keepdim=True)
        return unit

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the vectors without their part along x."""
        return v - (v * x).sum(-1, keepdim=True) * x

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return where tangent vectors lead in unit time."""
        angle = v.norm(dim=-1, keepdim=True)
        return self.project(angle.cos() * x + torch.sinc(angle / math.pi) * v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the tangent vectors at x whose exponentials are y."""
        toward = self.tangent(x, y)
        length = toward.norm(dim=-1, keepdim=True)
        angle = self.distance(x, y)[..., None]
        # At y = x the direction is nothing, and so is the angle.
        ratio: Tensor = angle / length.clamp_min(torch.finfo(x.dtype).tiny)
        return toward * ratio

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return angles; the half-angle formula keeps small ones and those near pi exact."""
        angle: Tensor = 2 * torch.atan2((x - y).norm(dim=-1), (x + y).norm(dim=-1))
        return angle

    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared angles between two samples, by way of chords."""
        chord = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        return (2 * (chord / 2).clamp_max(1).asin()).square()

    def is_antipodal(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which pairs stand opposite."""
        opposite: Tensor = (x + y).norm(dim=-1) < _NEAR_ANTIPODES
        return opposite

    def embed(self, x: Tensor) -> Tensor:
        """Return the points themselves."""
        return x

    def _geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        v = self.log(x, y)
        angle = v.norm(dim=-1, keepdim=True)
        point = (t * angle).cos() * x + t * torch.sinc(t * angle / math.pi) * v
        velocity = (t * angle).cos() * v - angle * (t * angle).sin() * x
        return self.project(point), velocity


class Torus(Manifold):
    r"""The flat torus of ``d`` angles, which are kept in :math:`[-\pi, \pi)`.

    Examples
    --------
    >>> torus = Torus()
    >>> x, y = torch.tensor([[3.0]]), torch.tensor([[-3.0]])
    >>> round(float(torus.log(x, y)), 4), round(float(torus.distance(x, y)), 4)
    (0.2832, 0.2832)
    """

    name = "torus"

    def check(self, x: Tensor) -> None:
        """Accept all angles."""

    def project(self, x: Tensor) -> Tensor:
        r"""Return the same angles in :math:`[-\pi, \pi)`."""
        return torch.remainder(x + math.pi, 2 * math.pi) - math.pi

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the vectors: all are tangent."""
        return v

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return the sums, as angles."""
        return self.project(x + v)

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the differences, each the short way round."""
        return self.project(y - x)

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the norms of differences the short way round."""
        length: Tensor = self.log(x, y).norm(dim=-1)
        return length

    def cost(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the squared distances between two samples, one angle after the other to bound the memory."""
        total = x.new_zeros(len(x), len(y))
        for one, two in zip(x.unbind(1), y.unbind(1), strict=True):
            total += self.project(two - one[:, None]).square()
        return total

    def is_antipodal(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which pairs stand opposite in some angle."""
        return (math.pi - self.log(x, y).abs()).abs().amin(-1) < _NEAR_ANTIPODES

    def embed(self, x: Tensor) -> Tensor:
        """Return cosines and sines."""
        return torch.cat([x.cos(), x.sin()], dim=-1)

    def _geodesic(self, x: Tensor, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        v = self.log(x, y)
        return self.exp(x, t * v), v


MANIFOLDS: dict[str, Manifold] = {"sphere": Sphere(), "torus": Torus()}
"""Manifolds by name."""
