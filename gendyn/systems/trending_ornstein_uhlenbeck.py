r"""Ornstein-Uhlenbeck under a trend: the toy on which generators of time series are compared.

.. math:: dX = (a t - b X)\,dt + \sigma\,dW, \qquad X_0 \sim U(-s, s)

.. math::

    E[X_t] = \frac{a}{b}\Bigl(t - \frac1b\Bigr) + \frac{a}{b^2} e^{-bt}, \qquad
    \operatorname{Var}[X_t] = \frac{s^2}{3} e^{-2bt} + \frac{\sigma^2}{2b}\bigl(1 - e^{-2bt}\bigr)

Kidger, Foster, Li and Lyons (2021), *Neural SDEs as infinite-dimensional GANs*, with their parameters.
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

__all__ = ["TrendingOrnsteinUhlenbeck"]


@dataclass(frozen=True)
class TrendingOrnsteinUhlenbeck:
    r"""The process :math:`dX = (at - bX)\,dt + \sigma\,dW` in one dimension.

    Parameters
    ----------
    slope
        :math:`a`, state units per squared time unit.
    rate
        :math:`b`, per time unit.
    volatility
        :math:`\sigma`, state units per square root of time.
    start_width
        :math:`s`, half the width of the uniform start law.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> process = TrendingOrnsteinUhlenbeck()
    >>> round(process.mean(6.0), 4), round(process.variance(6.0), 4)
    (0.2976, 0.6594)
    """

    slope: float = 0.02
    rate: float = 0.1
    volatility: float = 0.4
    start_width: float = 1.0

    dim: ClassVar[int] = 1
    noise_dim: ClassVar[int] = 1
    noise_type: ClassVar[NoiseType] = "additive"
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("x",)
    times: ClassVar[tuple[float, ...]] = tuple(float(k) for k in range(64))

    def __post_init__(self) -> None:
        check_finite(self, ["slope"])
        check_positive(self, ["rate", "volatility"])
        check_non_negative(self, ["start_width"])

    @property
    def time_step(self) -> float:
        """A hundredth of the relaxation time."""
        return 0.01 / self.rate

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``a t - b x``, shape ``(B, 1)``."""
        return self.slope * t - self.rate * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma`, shape ``(1, 1)``."""
        return x.new_full((1, 1), self.volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states, shape ``(n, 1)``."""
        return draw_uniform((-self.start_width,), (self.start_width,), check_count("n", n), seed, dtype)

    def mean(self, t: float) -> float:
        """Return the mean at time t."""
        limit = self.slope / self.rate
        return limit * (t - 1 / self.rate) + limit / self.rate * math.exp(-self.rate * t)

    def variance(self, t: float) -> float:
        """Return the variance at time t."""
        forgotten = math.exp(-2 * self.rate * t)
        return self.start_width**2 / 3 * forgotten + self.volatility**2 / (2 * self.rate) * (1 - forgotten)
