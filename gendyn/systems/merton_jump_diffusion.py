r"""Merton's jump-diffusion: a price that trembles and, now and then, jumps.

.. math:: \frac{dX}{X_-} = \mu\,dt + \sigma\,dW + (e^J - 1)\,dN, \qquad J \sim \mathcal N(m, v), \qquad
    N \text{ Poisson of rate } \lambda

Given the number k of jumps until t, :math:`\ln(X_t/X_0)` is normal with mean
:math:`(\mu - \sigma^2/2)\,t + k m` and variance :math:`\sigma^2 t + k v`; over k, with the moments

.. math::

    E[X_t] = X_0\, e^{(\mu + \lambda (e^{m + v/2} - 1)) t}, \qquad
    \operatorname{Var}\Bigl[\ln \tfrac{X_t}{X_0}\Bigr] = \bigl(\sigma^2 + \lambda (m^2 + v)\bigr)\,t .

Merton (1976). Between jumps the logarithm takes exact steps, so the law is exact at any step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from scipy.stats import poisson
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sampling.jumps.jump_spec import JumpSpec
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["MertonJumpDiffusion"]


@dataclass(frozen=True)
class MertonJumpDiffusion:
    r"""Geometric Brownian motion with log-normal jumps.

    Parameters
    ----------
    growth
        :math:`\mu`, per time unit, without the jumps.
    volatility
        :math:`\sigma`, per square root of time.
    jump_rate
        :math:`\lambda`, jumps per time unit.
    jump_mean, jump_deviation
        :math:`m` and :math:`\sqrt v`, of the logarithm of a jump.
    start
        Where every path starts, positive.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> round(MertonJumpDiffusion().mean(1.0), 4)
    1.0094
    """

    growth: float = 0.1
    volatility: float = 0.2
    jump_rate: float = 1.0
    jump_mean: float = -0.1
    jump_deviation: float = 0.1
    start: float = 1.0

    dim: ClassVar[int] = 1
    noise_dim: ClassVar[int] = 1
    noise_type: ClassVar[NoiseType] = "diagonal"
    calculus: ClassVar[Calculus] = "ito"
    solver: ClassVar[str] = "log_euler"
    names: ClassVar[tuple[str, ...]] = ("price",)
    times: ClassVar[tuple[float, ...]] = tuple(k / 50 for k in range(51))
    time_step: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        check_finite(self, ["growth", "jump_mean"])
        check_positive(self, ["volatility", "jump_rate", "start"])
        check_non_negative(self, ["jump_deviation"])

    @cached_property
    def jumps(self) -> JumpSpec:
        """How often the price jumps, and where to."""

        def jump(t: Tensor, x: Tensor, kind: Tensor, uniform: Tensor) -> Tensor:
            size = self.jump_mean + self.jump_deviation * torch.special.ndtri(uniform)
            jumped: Tensor = x * size.to(x).exp()
            return jumped

        return JumpSpec(self.jump_rate, jump)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\mu x`, shape ``(B, 1)``."""
        return self.growth * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma x`, shape ``(B, 1)``."""
        return self.volatility * x

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial g / \partial x = \sigma`, shape ``(B, 1)``."""
        return torch.full_like(x, self.volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return n copies of the start, shape ``(n, 1)``; the seed changes nothing."""
        return draw_uniform((self.start,), (self.start,), check_count("n", n), seed, dtype)

    def mean(self, t: float) -> float:
        """Return the mean price at time t."""
        jumped = math.expm1(self.jump_mean + self.jump_deviation**2 / 2)
        return self.start * math.exp((self.growth + self.jump_rate * jumped) * t)

    def log_return_moments(self, t: float) -> tuple[float, float, float, float]:
        r"""Return mean, variance, skewness and excess kurtosis of :math:`\ln(X_t / X_0)`."""
        m, v, rate = self.jump_mean, self.jump_deviation**2, self.jump_rate * t
        variance = self.volatility**2 * t + rate * (m**2 + v)
        third = rate * (m**3 + 3 * m * v) / variance**1.5
        fourth = rate * (m**4 + 6 * m**2 * v + 3 * v**2) / variance**2
        return (self.growth - self.volatility**2 / 2) * t + rate * m, variance, third, fourth

    def transition_log_density(self, t: float, x0: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\log p(X_t = x \mid x_0)` for positive rows of ``x0`` and ``x (B, 1)``: ``(B,)``, float64.

        A mixture over the number of jumps, cut where less than :math:`10^{-14}` of the mass is left.

        Raises
        ------
        ValueError
            If ``t``, ``x0`` or ``x`` is not positive.
        """
        if not (t > 0 and bool((x0 > 0).all()) and bool((x > 0).all())):
            raise ValueError("the density of a price needs t, x0 and x to be positive")
        rate = self.jump_rate * t
        count = torch.arange(int(poisson.isf(1e-14, rate)) + 2, dtype=torch.float64)
        weight = count * math.log(rate) - rate - torch.lgamma(count + 1)
        mean = (self.growth - self.volatility**2 / 2) * t + count * self.jump_mean
        variance = self.volatility**2 * t + count * self.jump_deviation**2
        gain = (x.to(torch.float64) / x0.to(torch.float64)).log()
        normal = -0.5 * ((gain - mean).square() / variance + (2 * math.pi * variance).log())
        density: Tensor = torch.logsumexp(weight + normal, 1) - x.to(torch.float64)[:, 0].log()
        return density
