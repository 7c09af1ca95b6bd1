r"""Brownian motion with drift: where every diffusion comes from, and its first passages in closed form.

.. math:: dX = \mu\,dt + \sigma\,dW

With :math:`k = 2\mu/\sigma^2` it leaves an interval by the upper end with probability
:math:`(1 - e^{-k(x-l)}) / (1 - e^{-k(h-l)})`, and it reaches a level :math:`a` above x for the first time at a time
with the inverse Gaussian density

.. math:: p(t) = \frac{a - x}{\sigma \sqrt{2\pi t^3}} \exp\Bigl(-\frac{(a - x - \mu t)^2}{2\sigma^2 t}\Bigr),

which falls short of 1 where the drift leads away. Karatzas and Shreve (1991), section 3.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from scipy.special import ndtr
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sampling.linear import LinearProcess
from gendyn.systems.parameters import check_count, check_finite, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["BrownianMotion"]


@dataclass(frozen=True)
class BrownianMotion:
    r"""Brownian motion :math:`dX = \mu\,dt + \sigma\,dW`, each coordinate by itself.

    Parameters
    ----------
    trend
        :math:`\mu`, state units per time unit.
    volatility
        :math:`\sigma`, state units per square root of time.
    start
        Where every path starts.
    dim
        d.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> round(BrownianMotion(trend=0.5).exit_probability(0.0, low=-1.0, high=1.0), 4)
    0.7311
    """

    trend: float = 0.0
    volatility: float = 1.0
    start: float = 0.0
    dim: int = 1

    noise_type: ClassVar[NoiseType] = "additive"
    calculus: ClassVar[Calculus] = "ito"
    times: ClassVar[tuple[float, ...]] = tuple(0.1 * k for k in range(11))
    time_step: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        check_finite(self, ["trend", "start"])
        check_positive(self, ["volatility"])
        check_count("BrownianMotion: dim", self.dim)

    @property
    def noise_dim(self) -> int:
        """One Brownian motion for each coordinate."""
        return self.dim

    @property
    def names(self) -> tuple[str, ...]:
        """``x1 ... xd``."""
        return tuple(f"x{i + 1}" for i in range(self.dim))

    @cached_property
    def linear(self) -> LinearProcess:
        """The process as :class:`gendyn.sampling.LinearProcess`: exact steps, likelihoods, transitions."""
        identity = torch.eye(self.dim, dtype=torch.float64)
        return LinearProcess(0 * identity, self.trend * identity.sum(0), self.volatility * identity)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\mu`, shape ``(B, d)``."""
        # Zero times the state keeps a graph that is asked for.
        return torch.full_like(x, self.trend) + 0 * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma I`, shape ``(d, d)``."""
        return self.volatility * torch.eye(self.dim, dtype=x.dtype, device=x.device)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return n copies of the start, shape ``(n, d)``; the seed changes nothing."""
        point = (float(self.start),) * self.dim
        return draw_uniform(point, point, check_count("n", n), seed, dtype)

    def transition_log_density(self, t: float, x0: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\log p(X_t = x \mid x_0)` for rows of ``x0`` and ``x``: ``(B,)``, float64.

        Raises
        ------
        ValueError
            If ``t`` is not positive.
        """
        return self.linear.log_density(t, x0, x)

    def exit_probability(self, x: float, low: float, high: float) -> float:
        """Return the probability of one coordinate to reach ``high`` before ``low`` from ``x`` between them.

        Raises
        ------
        ValueError
            Unless ``low <= x <= high`` and ``low < high``.
        """
        if not (low <= x <= high and low < high):
            raise ValueError(f"x must lie between the exits low < high; got low={low}, x={x}, high={high}")
        k = 2 * self.trend / self.volatility**2
        if k == 0:
            return (x - low) / (high - low)
        if k < 0:  # from the other end, so that no exponential overflows
            return 1 - math.expm1(k * (high - x)) / math.expm1(k * (high - low))
        return math.expm1(-k * (x - low)) / math.expm1(-k * (high - low))

    def first_passage_density(self, t: Tensor, x: float, level: float) -> Tensor:
        """Return the density of the time at which one coordinate first reaches ``level`` from ``x``, float64.

        Parameters
        ----------
        t
            Positive times, any shape.
        x, level
            Start, and where to; above or below.
        """
        times, distance = t.to(torch.float64), abs(level - x)
        toward = self.trend if level >= x else -self.trend
        exponent = -((distance - toward * times).square()) / (2 * self.volatility**2 * times)
        return distance / (self.volatility * (2 * math.pi * times.pow(3)).sqrt()) * exponent.exp()

    def first_passage_probability(self, t: float, x: float, level: float) -> float:
        """Return the probability that one coordinate has reached ``level`` from ``x`` by the time ``t``.

        Raises
        ------
        ValueError
            If ``t`` is not positive.
        """
        if not t > 0:
            raise ValueError(f"t must be positive; got {t}")
        distance, spread = abs(level - x), self.volatility * math.sqrt(t)
        toward = self.trend if level >= x else -self.trend
        direct = float(ndtr((toward * t - distance) / spread))
        # In logarithms: the factor may overflow where the normal tail underflows.
        tail = float(torch.special.log_ndtr(torch.tensor(-(toward * t + distance) / spread, dtype=torch.float64)))
        return direct + math.exp(2 * toward * distance / self.volatility**2 + tail)
