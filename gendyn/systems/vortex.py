r"""Lamb-Oseen vortex: what floats on the sea and is carried round an eddy.

.. math::

    dX = \Omega(r) \begin{pmatrix} X_2 \\ -X_1 \end{pmatrix} dt + \sigma\,dW, \qquad
    \Omega(r) = \Gamma\,\frac{1 - e^{-(r/s)^2}}{(r/s)^2}, \qquad r = |X|

Near the centre the water turns like a solid, with angular velocity :math:`\Gamma`, far out more slowly. Without noise
every particle keeps its distance r and returns after :math:`2\pi / \Omega(r)`; the flow has no divergence. Lamb (1932);
Oseen (1912). A stand-in for the currents of the Gulf of Mexico in the benchmarks of Shen, Berlinghieri and
Broderick (2025), with their start law and noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["Vortex"]


@dataclass(frozen=True)
class Vortex:
    r"""Particles in a Lamb-Oseen vortex around the origin, clockwise for positive rotation.

    Parameters
    ----------
    rotation
        :math:`\Gamma`, angular velocity at the centre, radians per time unit.
    core
        :math:`s`, radius of the core, state units.
    volatility
        :math:`\sigma`, state units per square root of time; zero is deterministic.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> round(Vortex().period(0.75), 2)
    8.22
    """

    rotation: float = 1.0
    core: float = 1.0
    volatility: float = 0.01

    dim: ClassVar[int] = 2
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("longitude", "latitude")
    times: ClassVar[tuple[float, ...]] = tuple(0.8 * k for k in range(10))
    time_step: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        check_finite(self, ["rotation"])
        check_positive(self, ["core"])
        check_non_negative(self, ["volatility"])

    @property
    def noise_type(self) -> NoiseType:
        """``additive``, or ``none`` at zero volatility."""
        return "additive" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """2, or 0 at zero volatility."""
        return 2 if self.volatility else 0

    def angular_velocity(self, radius: Tensor) -> Tensor:
        r"""Return :math:`\Omega(r)`, same shape."""
        square = (radius / self.core).square()
        # (1 - e^-u) / u, with its limit at the centre.
        small = square < 1e-8
        ratio = -torch.expm1(-square) / torch.where(small, torch.ones_like(square), square)
        return self.rotation * torch.where(small, 1 - square / 2, ratio)

    def period(self, radius: float) -> float:
        """Return the time of one round at a distance from the centre."""
        return 2 * math.pi / abs(float(self.angular_velocity(torch.tensor(radius, dtype=torch.float64))))

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the current, shape ``(B, 2)``."""
        turned = torch.stack([x[..., 1], -x[..., 0]], -1)
        square = x.square().sum(-1, keepdim=True)
        # The root has no derivative at the centre; the square has.
        small = square < 1e-12 * self.core**2
        radius = torch.where(small, torch.ones_like(square), square).sqrt()
        return torch.where(small, self.rotation, self.angular_velocity(radius)) * turned

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma I`, shape ``(2, 2)``."""
        return self.volatility * torch.eye(2, dtype=x.dtype, device=x.device)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n particles from a patch south of the centre, shape ``(n, 2)``."""
        return draw_uniform((-0.05, -0.8), (0.05, -0.7), check_count("n", n), seed, dtype)
