r"""Double well: a particle in a potential with two minima, kicked over the barrier by noise.

.. math::

    dX = (a X - b X^3)\,dt + \sigma\,dW = -U'(X)\,dt + \sigma\,dW, \qquad
    U(x) = -\tfrac{a}{2} x^2 + \tfrac{b}{4} x^4

Minima at :math:`\pm\sqrt{a/b}`, a barrier of height :math:`a^2/4b` at 0. The stationary density is
:math:`p(x) \propto e^{-2U(x)/\sigma^2}`, and a particle that starts at x between two exits leaves by the
upper one with probability :math:`\int_{l}^{x} e^{2U/\sigma^2} / \int_{l}^{h} e^{2U/\sigma^2}`.
Kramers (1940); Gardiner, *Stochastic Methods* (2009), sections 5.2 and 5.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.first_passage import exit_probability, integral, mean_first_passage
from gendyn.systems.parameters import check_count, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_normal

__all__ = ["DoubleWell"]


@dataclass(frozen=True)
class DoubleWell:
    r"""Double-well diffusion :math:`dX = (aX - bX^3)\,dt + \sigma\,dW` in one dimension.

    Parameters
    ----------
    slope
        :math:`a`, per time unit.
    stiffness
        :math:`b`, per time unit and squared state unit.
    volatility
        :math:`\sigma`, state units per square root of time.
    start_deviation
        Start states are drawn around the barrier top, :math:`\mathcal N(0, \text{start\_deviation}^2)`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> well = DoubleWell(volatility=0.5 ** 0.5)
    >>> round(well.exit_probability(0.5, low=-1.0, high=1.0), 4)
    0.8249
    """

    slope: float = 1.0
    stiffness: float = 1.0
    volatility: float = 0.5
    start_deviation: float = 0.1

    dim: ClassVar[int] = 1
    noise_dim: ClassVar[int] = 1
    noise_type: ClassVar[NoiseType] = "additive"
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        check_positive(self, ["slope", "stiffness", "volatility"])
        check_non_negative(self, ["start_deviation"])

    @property
    def minima(self) -> tuple[float, float]:
        r"""The two wells :math:`\pm\sqrt{a/b}`."""
        well = math.sqrt(self.slope / self.stiffness)
        return -well, well

    @property
    def times(self) -> tuple[float, ...]:
        """Six times over ten relaxation times of the barrier."""
        return tuple(2.0 * k / self.slope for k in range(6))

    @property
    def time_step(self) -> float:
        """A hundredth of the relaxation time in a well, 1 / 2a, doubled."""
        return 0.01 / self.slope

    def potential(self, x: Tensor) -> Tensor:
        """Return U(x), same shape as ``x``."""
        return -0.5 * self.slope * x.square() + 0.25 * self.stiffness * x.pow(4)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``a x - b x^3``, shape ``(B, 1)``."""
        return x * (self.slope - self.stiffness * x.square())

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma`, shape ``(1, 1)``."""
        return x.new_full((1, 1), self.volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states around the barrier top, shape ``(n, 1)``."""
        return draw_normal((0.0,), self.start_deviation, check_count("n", n), seed, dtype)

    def stationary_density(self, x: Tensor) -> Tensor:
        """Return the stationary density at ``x``, same shape, float64."""
        # Measured from the bottom of the wells, the exponent is never positive: no overflow at any noise.
        floor = -(self.slope**2) / (4 * self.stiffness)
        exponent = -2 / self.volatility**2 * (self.potential(x.to(torch.float64)) - floor)
        return torch.exp(exponent) / self._normaliser

    def stationary_moment(self, power: int) -> float:
        r"""Return :math:`E[X^k]` under the stationary law; it obeys :math:`b\,E[X^4] = a\,E[X^2] + \sigma^2/2`.

        Raises
        ------
        TypeError, ValueError
            If ``power`` is not a positive integer.
        """
        k = check_count("power", power)
        if k % 2:
            return 0.0
        return 2 * integral(lambda y: y**k * self._weight(y), 0.0, self._reach, [self.minima[1]]) / self._normaliser

    def exit_probability(self, x: float, low: float, high: float) -> float:
        """Return the probability to reach ``high`` before ``low`` from ``x`` between them.

        Raises
        ------
        ValueError
            Unless ``low <= x <= high`` and ``low < high``.
        """
        return exit_probability(self._potential, self.volatility, x, low, high, [0.0, *self.minima])

    def mean_first_passage(self, x: float, target: float) -> float:
        """Return the mean time to reach ``target`` from ``x``; from one well to the barrier it is Kramers' time.

        Raises
        ------
        ValueError
            If a point is not finite.
        """
        if not (math.isfinite(x) and math.isfinite(target)):
            raise ValueError(f"x and target must be finite; got {x} and {target}")
        far = max(abs(x), self._reach) + self._reach
        return mean_first_passage(self._force, self.volatility, x, target, -far if target >= x else far)

    @cached_property
    def _normaliser(self) -> float:
        return 2 * integral(self._weight, 0.0, self._reach, [self.minima[1]])

    @property
    def _reach(self) -> float:
        return math.sqrt(self.minima[1] ** 2 + 9 * self.volatility / math.sqrt(self.stiffness))

    def _potential(self, y: float) -> float:
        return -0.5 * self.slope * y**2 + 0.25 * self.stiffness * y**4

    def _force(self, y: float) -> float:
        return self.slope * y - self.stiffness * y**3

    def _weight(self, y: float) -> float:
        floor = -(self.slope**2) / (4 * self.stiffness)
        return math.exp(-2 / self.volatility**2 * (self._potential(y) - floor))
