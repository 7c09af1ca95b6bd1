r"""Geometric Brownian motion: growth at a constant rate with noise in proportion to size.

.. math::

    dX = \mu X\,dt + \sigma X\,dW, \qquad X_t = x_0 \exp\big((\mu - \tfrac12\sigma^2) t + \sigma W_t\big)

so that :math:`\log X_t` is Gaussian, :math:`E[X_t] = x_0 e^{\mu t}` and
:math:`\operatorname{Var}[X_t] = x_0^2 e^{2\mu t}(e^{\sigma^2 t} - 1)`.
Osborne (1959); Black and Scholes (1973).
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

__all__ = ["GeometricBrownianMotion"]


@dataclass(frozen=True)
class GeometricBrownianMotion:
    r"""Geometric Brownian motion :math:`dX = \mu X\,dt + \sigma X\,dW`, coordinates independent.

    Parameters
    ----------
    growth
        :math:`\mu`, per time unit.
    volatility
        :math:`\sigma`, per square root of time.
    dim
        Number d of independent coordinates.
    start
        Start value, state units, above zero.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> process = GeometricBrownianMotion(growth=0.5, volatility=0.6)
    >>> process.conditional_mean(1.0, torch.ones(1, 1)).item()
    1.6487...
    """

    growth: float = 0.1
    volatility: float = 0.3
    dim: int = 1
    start: float = 1.0

    noise_type: ClassVar[NoiseType] = "diagonal"
    calculus: ClassVar[Calculus] = "ito"
    times: ClassVar[tuple[float, ...]] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)

    def __post_init__(self) -> None:
        check_finite(self, ["growth"])
        check_non_negative(self, ["volatility"])
        check_positive(self, ["start"])
        check_count("GeometricBrownianMotion: dim", self.dim)

    @property
    def noise_dim(self) -> int:
        """One Brownian motion a coordinate."""
        return self.dim

    @property
    def names(self) -> tuple[str, ...]:
        """``x1 ... xd``."""
        return tuple(f"x{i + 1}" for i in range(self.dim))

    @property
    def time_step(self) -> float:
        """A hundredth of the faster of growth time and diffusion time, at most 0.05."""
        return min(0.05, 0.01 / max(abs(self.growth), self.volatility**2, 1e-12))

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\mu x`, shape ``(B, d)``."""
        return self.growth * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma x`, shape ``(B, d)``."""
        return self.volatility * x

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial g_i / \partial x_i = \sigma`, shape ``(B, d)``."""
        return torch.full_like(x, self.volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return n copies of the start value, shape ``(n, d)``; the seed changes nothing."""
        point = (float(self.start),) * self.dim
        return draw_uniform(point, point, check_count("n", n), seed, dtype)

    def solution(self, t: float, x0: Tensor, brownian: Tensor) -> Tensor:
        r"""Return the strong solution :math:`X_t` for given values of :math:`W_t`, shape ``(B, d)``."""
        return x0 * torch.exp((self.growth - 0.5 * self.volatility**2) * t + self.volatility * brownian)

    def conditional_mean(self, t: float, x0: Tensor) -> Tensor:
        r"""Return :math:`E[X_t \mid x_0] = x_0 e^{\mu t}`, shape of ``x0``."""
        return x0 * math.exp(self.growth * t)

    def conditional_variance(self, t: float, x0: Tensor) -> Tensor:
        r"""Return :math:`\operatorname{Var}[X_t \mid x_0]`, each coordinate by itself, shape of ``x0``."""
        return x0.square() * math.exp(2 * self.growth * t) * math.expm1(self.volatility**2 * t)

    def transition_log_density(self, t: float, x0: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\log p(X_t = x \mid x_0)`, a log-normal density, shape ``(B,)``, float64.

        Minus infinity where ``x / x0`` is not positive.

        Raises
        ------
        ValueError
            If ``t`` or the volatility is zero: there is no density.
        """
        deviation = self.volatility * math.sqrt(t) if t > 0 else 0.0
        if deviation == 0.0:
            raise ValueError(f"GeometricBrownianMotion: no density at t = {t} with volatility {self.volatility}")
        ratio = x.to(torch.float64) / x0.to(torch.float64)
        positive = ratio > 0
        logarithm = torch.log(torch.where(positive, ratio, torch.ones_like(ratio)))
        standard = (logarithm - (self.growth - 0.5 * self.volatility**2) * t) / deviation
        normal = -0.5 * standard.square() - math.log(deviation * math.sqrt(2 * math.pi))
        density = normal - torch.log(x.to(torch.float64).abs().clamp(min=torch.finfo(torch.float64).tiny))
        return torch.where(positive, density, torch.full_like(density, -math.inf)).sum(-1)
