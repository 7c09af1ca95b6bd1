r"""Fractional Brownian motion as a system: exact paths at any times.

.. math:: X_t = \sigma B_H(t), \qquad \operatorname{Var}[X_t] = \sigma^2 t^{2H}

of kind I (Mandelbrot and van Ness) or II (Riemann and Liouville), see :mod:`gendyn.sampling.fractional`. It is no
Markov process: the increments of kind I remember each other for ever, with correlation
:math:`2^{2H-1} - 1` between neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed
from gendyn.sampling.fractional import (
    Kind,
    fractional_covariance,
    sample_fractional_brownian_motion,
    variance_constant,
)
from gendyn.systems.parameters import check_count, check_finite, check_positive

__all__ = ["FractionalBrownianMotion"]


@dataclass(frozen=True)
class FractionalBrownianMotion:
    r"""Fractional Brownian motion from 0.

    Parameters
    ----------
    hurst
        :math:`H`, between 0 and 1: below one half the path turns back, above it persists.
    volatility
        :math:`\sigma`, standard deviation at time 1.
    kind
        ``"I"`` or ``"II"``.
    dim
        Number of independent features.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> FractionalBrownianMotion(hurst=0.7).covariance([0.5, 1.0])
    tensor([[0.3789, 0.5000],
            [0.5000, 1.0000]], dtype=torch.float64)
    """

    hurst: float = 0.3
    volatility: float = 1.0
    kind: Kind = "I"
    dim: int = 1

    times: ClassVar[tuple[float, ...]] = tuple(k / 100 for k in range(101))

    def __post_init__(self) -> None:
        check_finite(self, ["hurst"])
        check_positive(self, ["volatility"])
        check_count("FractionalBrownianMotion: dim", self.dim)
        variance_constant(self.hurst, self.kind)

    @property
    def names(self) -> tuple[str, ...]:
        """``x1 ... xd``."""
        return tuple(f"x{i + 1}" for i in range(self.dim))

    def covariance(self, times: ArrayLike) -> Tensor:
        """Return the covariance of a feature at times ``(T,)``, shape ``(T, T)``, float64."""
        grid = torch.as_tensor(times, dtype=torch.float64)
        return self.volatility**2 * fractional_covariance(grid[:, None], grid, self.hurst, self.kind)

    def paths(self, times: ArrayLike, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Paths:
        """Draw n paths at times ``(T,)``, not negative."""
        hurst = [self.hurst] * self.dim
        x = sample_fractional_brownian_motion(hurst, times, check_count("n", n), kind=self.kind, seed=seed)
        return Paths(times, (self.volatility * x).to(dtype), names=self.names)
