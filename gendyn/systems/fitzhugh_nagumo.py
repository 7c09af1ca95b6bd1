r"""FitzHugh-Nagumo: a nerve cell that rests, fires or fires again and again.

.. math::

    dV = (V - \tfrac13 V^3 - W + I)\,dt + \sigma\,dB, \qquad dW = \tfrac{1}{\tau} (V + a - b W)\,dt

V is the membrane potential, W the slow recovery, I the stimulus. Every point of rest solves
:math:`v - v^3/3 - (v+a)/b + I = 0`. FitzHugh (1961); Nagumo, Arimoto and Yoshizawa (1962).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_normal

__all__ = ["FitzHughNagumo"]


@dataclass(frozen=True)
class FitzHughNagumo:
    r"""Excitable or oscillating nerve cell, noise on the potential.

    Parameters
    ----------
    stimulus
        :math:`I`, dimensionless current; the default fires again and again, 0 rests.
    offset
        :math:`a`, dimensionless.
    recovery
        :math:`b`, dimensionless.
    time_scale
        :math:`\tau`, how much slower the recovery is, time units.
    volatility
        :math:`\sigma`, potential units per square root of time; zero is deterministic.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> [tuple(round(level, 4) for level in point) for point in FitzHughNagumo(stimulus=0.0).equilibria]
    [(-1.1994, -0.6243)]
    """

    stimulus: float = 0.5
    offset: float = 0.7
    recovery: float = 0.8
    time_scale: float = 12.5
    volatility: float = 0.1

    dim: ClassVar[int] = 2
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("potential", "recovery")
    time_step: ClassVar[float] = 0.02

    def __post_init__(self) -> None:
        check_finite(self, ["stimulus", "offset"])
        check_positive(self, ["recovery", "time_scale"])
        check_non_negative(self, ["volatility"])

    @property
    def noise_type(self) -> NoiseType:
        """``additive``, or ``none`` at zero volatility."""
        return "additive" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """1 (the potential), or 0 at zero volatility."""
        return 1 if self.volatility else 0

    @property
    def times(self) -> tuple[float, ...]:
        """Eleven times over four recovery times."""
        return tuple(0.4 * k * self.time_scale for k in range(11))

    @property
    def equilibria(self) -> list[tuple[float, float]]:
        """Every point of rest ``(v, w)``, sorted by the potential."""
        # v - v^3/3 - (v + a)/b + I = 0
        roots = np.roots([-1 / 3, 0.0, 1 - 1 / self.recovery, self.stimulus - self.offset / self.recovery])
        real = np.sort(roots[np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots))].real)
        return [(float(v), float((v + self.offset) / self.recovery)) for v in real]

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the two right-hand sides, shape ``(B, 2)``."""
        v, w = x[..., :1], x[..., 1:]
        fast = v - v.pow(3) / 3 - w + self.stimulus
        slow = (v + self.offset - self.recovery * w) / self.time_scale
        return torch.cat([fast, slow], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`(\sigma, 0)^\top`, shape ``(2, 1)``."""
        return x.new_tensor([[self.volatility], [0.0]])

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n cells near rest, potential and recovery with deviation 0.1, shape ``(n, 2)``."""
        return draw_normal((-1.2, -0.6), 0.1, check_count("n", n), seed, dtype)
