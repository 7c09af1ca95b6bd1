r"""Repressilator: three genes in a ring, each switching off the next; the ring oscillates.

.. math::

    dX_i = \Big(\frac{\beta}{1 + (X_{i-1}/k)^n} - \gamma X_i\Big) dt + \sigma X_i\,dW_i, \qquad i = 1, 2, 3

with gene 1 repressed by gene 3. The symmetric point of rest solves :math:`\beta/(1+(x/k)^n) = \gamma x`; it
loses its stability, and the ring oscillates, when the slope of production there is below :math:`-2\gamma`.
Elowitz and Leibler (2000), in the reduced form without proteins. Default parameters and start law are those
of the snapshot benchmarks of Shen, Berlinghieri and Broderick (2025).
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

__all__ = ["Repressilator"]


@dataclass(frozen=True)
class Repressilator:
    r"""Ring of three repressing genes, expression levels with noise in proportion to size.

    Parameters
    ----------
    production
        :math:`\beta`, highest rate of production, concentration per time unit.
    threshold
        :math:`k`, concentration at which production is halved.
    hill
        :math:`n`, steepness of the repression.
    decay
        :math:`\gamma`, per time unit.
    volatility
        :math:`\sigma`, per square root of time; zero gives the deterministic ring.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> ring = Repressilator()
    >>> round(ring.equilibrium, 2), ring.oscillates
    (1.7, True)
    """

    production: float = 10.0
    threshold: float = 1.0
    hill: float = 3.0
    decay: float = 1.0
    volatility: float = 0.02

    dim: ClassVar[int] = 3
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("gene 1", "gene 2", "gene 3")

    def __post_init__(self) -> None:
        check_positive(self, ["production", "threshold", "hill", "decay"])
        check_non_negative(self, ["volatility"])

    @property
    def noise_type(self) -> NoiseType:
        """``diagonal``, or ``none`` at zero volatility."""
        return "diagonal" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """3, or 0 at zero volatility."""
        return 3 if self.volatility else 0

    @property
    def times(self) -> tuple[float, ...]:
        """Eleven times over ten lifetimes."""
        return tuple(k / self.decay for k in range(11))

    @property
    def time_step(self) -> float:
        """A hundredth of a lifetime."""
        return 0.01 / self.decay

    @cached_property
    def equilibrium(self) -> float:
        """The symmetric point of rest: every gene at this level."""

        def excess(level: float) -> float:
            return self.production / (1 + self._ratio(level)) - self.decay * level

        return float(brentq(excess, 0.0, self.production / self.decay, xtol=1e-14, rtol=1e-14))

    @property
    def oscillates(self) -> bool:
        """Whether the symmetric point of rest is unstable."""
        ratio = self._ratio(self.equilibrium)
        return self.hill * ratio / (1 + ratio) > 2.0

    def _ratio(self, level: float) -> float:
        return float((level / self.threshold) ** self.hill)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return production minus decay, shape ``(B, 3)``; levels below zero repress like zero."""
        repressor = (x.roll(1, -1) / self.threshold).clamp(min=0.0)
        return self.production / (1 + repressor.pow(self.hill)) - self.decay * x

    def jacobian(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial f_i / \partial x_j`, shape ``(B, 3, 3)``."""
        repressor = (x.roll(1, -1) / self.threshold).clamp(min=0.0)
        steepness = torch.where(repressor > 0, self.hill * repressor.pow(self.hill - 1), 0.0) / self.threshold
        slope = -self.production * steepness / (1 + repressor.pow(self.hill)).square()
        # Rolled, the i-th row of the identity names the gene that represses the i-th.
        identity = torch.eye(3, dtype=x.dtype, device=x.device)
        return slope[:, :, None] * identity.roll(-1, 1) - self.decay * identity

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma x`, shape ``(B, 3)``."""
        return self.volatility * x

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial g_i / \partial x_i = \sigma`, shape ``(B, 3)``."""
        return torch.full_like(x, self.volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states, uniform on [1, 1.1] x [1, 1.1] x [2, 2.1], shape ``(n, 3)``."""
        return draw_uniform((1.0, 1.0, 2.0), (1.1, 1.1, 2.1), check_count("n", n), seed, dtype)
