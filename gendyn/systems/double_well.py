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
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

from gendyn.randomness import Seed
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

    def exit_probability(self, x: float, low: float, high: float) -> float:
        """Return the probability to reach ``high`` before ``low`` from ``x`` between them.

        Raises
        ------
        ValueError
            Unless ``low <= x <= high`` and ``low < high``.
        """
        if not (low <= x <= high and low < high):
            raise ValueError(f"x must lie between the exits low < high; got low={low}, x={x}, high={high}")

        def potential(y: float) -> float:
            return -0.5 * self.slope * y**2 + 0.25 * self.stiffness * y**4

        # The highest point between the exits keeps the exponent at or below zero.
        corners = [low, high] + [y for y in (0.0, *self.minima) if low < y < high]
        top = max(potential(y) for y in corners)

        def weight(y: float) -> float:
            return math.exp(2 / self.volatility**2 * (potential(y) - top))

        below, above = _integral(weight, low, x, corners), _integral(weight, x, high, corners)
        return below / (below + above)

    @cached_property
    def _normaliser(self) -> float:
        floor = -(self.slope**2) / (4 * self.stiffness)

        def weight(y: float) -> float:
            potential = -0.5 * self.slope * y**2 + 0.25 * self.stiffness * y**4
            return math.exp(-2 / self.volatility**2 * (potential - floor))

        well = self.minima[1]
        reach = math.sqrt(well**2 + 9 * self.volatility / math.sqrt(self.stiffness))
        return 2 * _integral(weight, 0.0, reach, [well])


def _integral(function: Callable[[float], float], low: float, high: float, corners: list[float]) -> float:
    """Integrate piece by piece between corners, so that narrow peaks at them are never stepped over."""
    edges = sorted({low, high, *(y for y in corners if low < y < high)})
    total = 0.0
    for left, right in pairwise(edges):
        # Geometric refinement towards both ends of a piece: the peaks sit there.
        unit = np.concatenate([[0.0], np.geomspace(1e-6, 0.5, 8)])
        nodes = np.concatenate([unit, 1 - unit[-2::-1]]) * (right - left) + left
        total += sum(
            quad(function, float(a), float(b), epsabs=0.0, epsrel=1e-10, limit=200)[0] for a, b in pairwise(nodes)
        )
    return total
