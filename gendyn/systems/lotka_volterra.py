r"""Lotka-Volterra: prey grow, predators eat them; exact cycles without noise, wandering cycles with it.

.. math::

    dX = (a X - b X Y)\,dt + \sigma X\,dW_1, \qquad dY = (d X Y - c Y)\,dt + \sigma Y\,dW_2

Without noise :math:`V = d x - c \log x + b y - a \log y` is conserved and every orbit around the
equilibrium :math:`(c/d, a/b)` is closed; small orbits have the period :math:`2\pi/\sqrt{ac}`. Lotka (1925);
Volterra (1926). Default parameters and start law are those of the snapshot benchmarks of
Shen, Berlinghieri and Broderick (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["LotkaVolterra"]


@dataclass(frozen=True)
class LotkaVolterra:
    r"""Prey and predators; deterministic at ``volatility=0``, else with noise in proportion to size.

    Parameters
    ----------
    growth
        :math:`a`, births of prey, per time unit.
    predation
        :math:`b`, prey eaten, per time unit and predator.
    death
        :math:`c`, deaths of predators, per time unit.
    reproduction
        :math:`d`, births of predators, per time unit and prey.
    volatility
        :math:`\sigma`, per square root of time.

    Raises
    ------
    ValueError
        If a rate is not positive or the volatility is negative.

    Examples
    --------
    >>> LotkaVolterra().equilibrium
    (4.0, 2.5)
    """

    growth: float = 1.0
    predation: float = 0.4
    death: float = 0.4
    reproduction: float = 0.1
    volatility: float = 0.02

    dim: ClassVar[int] = 2
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("prey", "predator")
    times: ClassVar[tuple[float, ...]] = tuple(float(k) for k in range(11))

    def __post_init__(self) -> None:
        check_positive(self, ["growth", "predation", "death", "reproduction"])
        check_non_negative(self, ["volatility"])

    @property
    def noise_type(self) -> NoiseType:
        """``diagonal``, or ``none`` at zero volatility."""
        return "diagonal" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """2, or 0 at zero volatility."""
        return 2 if self.volatility else 0

    @property
    def equilibrium(self) -> tuple[float, float]:
        """The point of rest ``(c/d, a/b)``."""
        return self.death / self.reproduction, self.growth / self.predation

    @property
    def time_step(self) -> float:
        """About one six-hundredth of the period of small orbits."""
        return 0.01 / math.sqrt(self.growth * self.death)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``(a x - b x y, d x y - c y)``, shape ``(B, 2)``."""
        prey, predator = x[..., :1], x[..., 1:]
        per_head = torch.cat([self.growth - self.predation * predator, self.reproduction * prey - self.death], -1)
        return x * per_head

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial f_i / \partial x_j`, shape ``(B, 2, 2)``."""
        prey, predator = x[:, 0], x[:, 1]
        of_prey = torch.stack([self.growth - self.predation * predator, -self.predation * prey], -1)
        of_predator = torch.stack([self.reproduction * predator, self.reproduction * prey - self.death], -1)
        return torch.stack([of_prey, of_predator], 1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma x`, shape ``(B, 2)``."""
        return self.volatility * x

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial g_i / \partial x_i = \sigma`, shape ``(B, 2)``."""
        return torch.full_like(x, self.volatility)

    def conserved(self, x: Tensor) -> Tensor:
        """Return V, constant along every noise-free orbit, shape ``(B,)``."""
        prey, predator = x[..., 0], x[..., 1]
        return (
            self.reproduction * prey
            - self.death * torch.log(prey)
            + self.predation * predator
            - self.growth * torch.log(predator)
        )

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states, prey uniform on [5, 5.1], predators on [4, 4.1], shape ``(n, 2)``."""
        return draw_uniform((5.0, 4.0), (5.1, 4.1), check_count("n", n), seed, dtype)
