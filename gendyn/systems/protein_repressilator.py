r"""Repressilator with proteins: messengers that are measured, and proteins that act and are not.

.. math::

    dM_i = \Big(\alpha + \frac{\beta}{1 + (P_{i-1}/k)^n} - \gamma M_i\Big) dt + \sigma M_i\,dW_i, \qquad
    dP_i = (\beta_p M_i - \gamma_p P_i)\,dt + \sigma P_i\,dW_{3+i}, \qquad i = 1, 2, 3

with messenger 1 repressed by protein 3. At rest all are equal, :math:`M = \gamma_p P / \beta_p` and
:math:`\alpha + \beta/(1 + (P/k)^n) = \gamma M`. Elowitz and Leibler (2000); defaults are those of the snapshot
benchmarks of Berlinghieri et al. (2025), in which the proteins start near zero and are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from scipy.optimize import brentq
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["ProteinRepressilator"]


@dataclass(frozen=True)
class ProteinRepressilator:
    r"""Ring of three repressing genes with messengers (recorded) and proteins (hidden).

    Parameters
    ----------
    leak
        :math:`\alpha`, production that nothing stops, concentration per time unit.
    production
        :math:`\beta`, highest rate of production of messengers, concentration per time unit.
    threshold
        :math:`k`, concentration of protein at which production is halved.
    hill
        :math:`n`, steepness of the repression.
    decay
        :math:`\gamma` of messengers, per time unit.
    translation
        :math:`\beta_p`, proteins made per messenger and time unit.
    protein_decay
        :math:`\gamma_p`, per time unit.
    volatility
        :math:`\sigma`, per square root of time; zero gives the deterministic ring.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> [round(level, 3) for level in ProteinRepressilator().equilibrium]
    [1.697, 1.697]
    """

    leak: float = 1e-5
    production: float = 10.0
    threshold: float = 1.0
    hill: float = 3.0
    decay: float = 1.0
    translation: float = 1.0
    protein_decay: float = 1.0
    volatility: float = 0.02

    dim: ClassVar[int] = 6
    recorded: ClassVar[int] = 3
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = (
        "messenger 1", "messenger 2", "messenger 3", "protein 1", "protein 2", "protein 3",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_positive(self, ["production", "threshold", "hill", "decay", "translation", "protein_decay"])
        check_non_negative(self, ["leak", "volatility"])

    @property
    def noise_type(self) -> NoiseType:
        """``diagonal``, or ``none`` at zero volatility."""
        return "diagonal" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """6, or 0 at zero volatility."""
        return 6 if self.volatility else 0

    @property
    def times(self) -> tuple[float, ...]:
        """Eleven times over ten lifetimes of the messengers."""
        return tuple(k / self.decay for k in range(11))

    @property
    def time_step(self) -> float:
        """A hundredth of the shorter lifetime."""
        return 0.01 / max(self.decay, self.protein_decay)

    @cached_property
    def equilibrium(self) -> tuple[float, float]:
        """Levels of every messenger and of every protein at rest."""
        ratio = self.translation / self.protein_decay

        def excess(messenger: float) -> float:
            repressed = float((ratio * messenger / self.threshold) ** self.hill)
            return self.leak + self.production / (1 + repressed) - self.decay * messenger

        highest = (self.leak + self.production) / self.decay
        level = float(brentq(excess, 0.0, highest, xtol=1e-14, rtol=1e-14))
        return level, ratio * level

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return production minus decay, shape ``(B, 6)``; levels below zero repress like zero."""
        messengers, proteins = x[..., :3], x[..., 3:]
        repressor = (proteins.roll(1, -1) / self.threshold).clamp(min=0.0)
        made = self.leak + self.production / (1 + repressor.pow(self.hill))
        change = self.translation * messengers - self.protein_decay * proteins
        return torch.cat([made - self.decay * messengers, change], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma x`, shape ``(B, 6)``."""
        return self.volatility * x

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial g_i / \partial x_i = \sigma`, shape ``(B, 6)``."""
        return torch.full_like(x, self.volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states: messengers on [1, 1.1]^2 x [2, 2.1], proteins on [0, 0.1]^3, shape ``(n, 6)``."""
        low, high = (1.0, 1.0, 2.0, 0.0, 0.0, 0.0), (1.1, 1.1, 2.1, 0.1, 0.1, 0.1)
        return draw_uniform(low, high, check_count("n", n), seed, dtype)
