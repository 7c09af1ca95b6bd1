r"""Brusselator: the simplest chemistry that oscillates.

.. math::

    dX = (1 - (b+1) X + a X^2 Y)\,dt + \sigma\,dW_1, \qquad dY = (b X - a X^2 Y)\,dt + \sigma\,dW_2, \qquad
    d\langle W_1, W_2 \rangle = \rho\,dt

The only point of rest is :math:`(1, b/a)`; the trace of the linear part there is :math:`b - 1 - a`, its determinant
:math:`a`, so the reaction oscillates for :math:`b > 1 + a`. Prigogine and Lefever (1968). Defaults are those of the
sporadic data of De Brouwer et al. (2019), with the noise that these data have (their generator applies its
volatility twice).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_normal

__all__ = ["Brusselator"]


@dataclass(frozen=True)
class Brusselator:
    r"""Two reacting substances with correlated noise.

    Parameters
    ----------
    catalysis
        :math:`a`, per time unit and squared concentration.
    conversion
        :math:`b`, per time unit.
    volatility
        :math:`\sigma`, concentration per square root of time; zero is deterministic.
    correlation
        :math:`\rho` of the noise, between -1 and 1.
    start_deviation
        Start states are drawn around rest with this deviation.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> Brusselator().oscillates, Brusselator(conversion=1.2).oscillates
    (True, False)
    """

    catalysis: float = 0.3
    conversion: float = 1.4
    volatility: float = 0.01
    correlation: float = -0.99
    start_deviation: float = 0.3

    dim: ClassVar[int] = 2
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("activator", "inhibitor")
    times: ClassVar[tuple[float, ...]] = tuple(0.5 * k for k in range(100))
    time_step: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        check_positive(self, ["catalysis", "conversion"])
        check_non_negative(self, ["volatility", "start_deviation"])
        check_finite(self, ["correlation"])
        if not -1 <= self.correlation <= 1:
            raise ValueError(f"Brusselator: correlation must lie between -1 and 1; got {self.correlation}")

    @property
    def noise_type(self) -> NoiseType:
        """``additive``, or ``none`` at zero volatility."""
        return "additive" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """2, or 0 at zero volatility."""
        return 2 if self.volatility else 0

    @property
    def equilibrium(self) -> tuple[float, float]:
        """The point of rest."""
        return 1.0, self.conversion / self.catalysis

    @property
    def oscillates(self) -> bool:
        """Whether the point of rest is unstable."""
        return self.conversion > 1 + self.catalysis

    @cached_property
    def _noise(self) -> Tensor:
        across = math.sqrt(1 - self.correlation**2)
        return self.volatility * torch.tensor([[1.0, 0.0], [self.correlation, across]], dtype=torch.float64)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the rates of change, shape ``(B, 2)``."""
        first, second = x[..., 0], x[..., 1]
        made = self.catalysis * first.square() * second
        return torch.stack([1 - (self.conversion + 1) * first + made, self.conversion * first - made], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the root of the noise covariance, shape ``(2, 2)``."""
        return self._noise.to(x)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states around rest, shape ``(n, 2)``."""
        return draw_normal(self.equilibrium, self.start_deviation, check_count("n", n), seed, dtype)
