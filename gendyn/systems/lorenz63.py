r"""Lorenz 1963: three equations of convection, and chaos.

.. math::

    \dot x = s (y - x), \qquad \dot y = x (\rho - z) - y, \qquad \dot z = x y - \beta z

Volumes shrink at the constant rate :math:`s + 1 + \beta`, so the Lyapunov exponents sum to minus this number
(0.906, 0 and -14.57 for the default parameters). For :math:`\rho > 1` two of the points of rest are
:math:`(\pm c, \pm c, \rho - 1)` with :math:`c = \sqrt{\beta(\rho - 1)}`. Lorenz (1963).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.chaos import ChaoticFlow
from gendyn.systems.parameters import check_count, check_positive
from gendyn.systems.system import draw_normal

__all__ = ["Lorenz63"]


@dataclass(frozen=True)
class Lorenz63(ChaoticFlow):
    r"""The Lorenz system, deterministic by default, with the same noise on all three coordinates if asked.

    Parameters
    ----------
    prandtl
        :math:`s`, dimensionless.
    rayleigh
        :math:`\rho`, dimensionless.
    aspect
        :math:`\beta`, dimensionless.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> round(Lorenz63().divergence, 4)
    -13.6667
    """

    prandtl: float = 10.0
    rayleigh: float = 28.0
    aspect: float = 8.0 / 3.0

    period: ClassVar[float] = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["prandtl", "rayleigh", "aspect"])

    @property
    def divergence(self) -> float:
        """Rate of change of log volume, the sum of the Lyapunov exponents, per time unit."""
        return -(self.prandtl + 1.0 + self.aspect)

    @property
    def equilibria(self) -> list[tuple[float, float, float]]:
        """Every point of rest."""
        points = [(0.0, 0.0, 0.0)]
        if self.rayleigh > 1:
            c = math.sqrt(self.aspect * (self.rayleigh - 1))
            points += [(-c, -c, self.rayleigh - 1), (c, c, self.rayleigh - 1)]
        return points

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the three right-hand sides, shape ``(B, 3)``."""
        a, b, c = x[..., 0], x[..., 1], x[..., 2]
        return torch.stack([self.prandtl * (b - a), a * (self.rayleigh - c) - b, a * b - self.aspect * c], -1)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states around (0, 1, 25) with deviation 1, shape ``(n, 3)``, beside the attractor."""
        return draw_normal((0.0, 1.0, 25.0), 1.0, check_count("n", n), seed, dtype)
