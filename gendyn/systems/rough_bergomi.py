r"""Rough Bergomi: a price whose volatility is rougher than Brownian motion.

.. math::

    \frac{dS}{S} = \sqrt{V}\,\bigl(\rho\,dB + \sqrt{1-\rho^2}\,dB^\perp\bigr), \qquad
    V_t = \xi \exp\bigl(\eta B^{II}_H(t) - \tfrac12 \eta^2 t^{2H}\bigr)

with :math:`B^{II}_H` fractional Brownian motion of kind II, of unit variance at time 1, driven by the same B that moves
the price. The compensator is half the variance of the exponent, so :math:`E[V_t] = \xi` at every time and
:math:`\operatorname{Var}[\ln V_t] = \eta^2 t^{2H}`. The variance is exact at every time; the price takes steps in which
it holds the variance at their beginning, and remains a martingale, :math:`E[S_t] = S_0`. Bayer, Friz and Gatheral
(2016).

Exact paths factor a covariance, at a cost that grows like the cube of the number of steps. By the Markov approximation
the cost is linear; the compensator is then half the variance of the approximation, without which :math:`E[V_t]` would
be off by what the approximation lacks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import check_times
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.fractional import (
    MarkovApproximation,
    driver_covariance,
    fractional_covariance,
    sample_gaussian,
    sample_with_driver,
    variance_constant,
)
from gendyn.sampling.grid import StepGrid
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive

__all__ = ["RoughBergomi"]

_MOST = 4000
"""Steps up to which the joint covariance of exponent and driver is factored."""


@dataclass(frozen=True)
class RoughBergomi:
    r"""Price and variance of the rough Bergomi model.

    Parameters
    ----------
    hurst
        :math:`H`, between 0 and 1; about 0.1 for stock indices.
    volatility_of_volatility
        :math:`\eta`.
    correlation
        :math:`\rho` of price and volatility, between -1 and 1.
    forward_variance
        :math:`\xi`, per time unit.
    spot
        :math:`S_0`.
    resolution
        Longest step of the price, time units.
    method
        ``"exact"``, or ``"markov"`` for many steps: a sum of Ornstein-Uhlenbeck processes, right in law to a part in a
        hundred at every scale from the step on.
    count
        Number of these processes.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> paths = RoughBergomi().paths([0.0, 0.5, 1.0], n=3)
    >>> paths.names, paths.values[:, 0].tolist()[0]
    (('price', 'variance'), [1.0, 0.0551...])
    """

    hurst: float = 0.07
    volatility_of_volatility: float = 1.9
    correlation: float = -0.9
    forward_variance: float = 0.0552
    spot: float = 1.0
    resolution: float = 0.01
    method: Literal["exact", "markov"] = "exact"
    count: int = 10

    dim: ClassVar[int] = 2
    names: ClassVar[tuple[str, ...]] = ("price", "variance")
    times: ClassVar[tuple[float, ...]] = tuple(k / 50 for k in range(51))

    def __post_init__(self) -> None:
        check_finite(self, ["hurst", "correlation"])
        check_positive(self, ["forward_variance", "spot", "resolution"])
        check_non_negative(self, ["volatility_of_volatility"])
        variance_constant(self.hurst, "II")
        if not -1 <= self.correlation <= 1:
            raise ValueError(f"RoughBergomi: correlation must lie between -1 and 1; got {self.correlation}")
        if self.method not in ("exact", "markov"):
            raise ValueError(f"RoughBergomi: method must be 'exact' or 'markov'; got {self.method!r}")
        check_count("RoughBergomi: count", self.count)

    def log_variance_covariance(self, times: ArrayLike) -> Tensor:
        r"""Return the covariance of :math:`\ln V` at times ``(T,)``, shape ``(T, T)``, float64."""
        grid = torch.as_tensor(times, dtype=torch.float64)
        return self.volatility_of_volatility**2 * fractional_covariance(grid[:, None], grid, self.hurst, "II")

    def paths(self, times: ArrayLike, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Paths:
        """Draw n paths at times ``(T,)``, not negative; the price is ``spot`` at time 0.

        Raises
        ------
        ValueError
            If times are negative, or there are more steps than one covariance can hold.
        """
        wanted, size, key = check_times(np.asarray(times, dtype=np.float64)), check_count("n", n), as_seed(seed)
        if float(wanted[0]) < 0:
            raise ValueError(f"the model begins at time 0; got {float(wanted[0]):g}")
        if float(wanted[-1]) == 0:
            start = wanted.new_tensor([self.spot, self.forward_variance]).to(dtype)
            return Paths(wanted, start.expand(size, 1, 2).clone(), names=self.names)
        stops = torch.cat([wanted.new_zeros(int(float(wanted[0]) > 0)), wanted])
        layout = StepGrid(stops, step=self.resolution)
        if self.method == "exact" and layout.n_steps > _MOST:
            raise ValueError(
                f"{layout.n_steps} steps are too many for an exact draw; give a coarser resolution, or method='markov'"
            )
        fine = torch.cat([stops[:1], *(interval.times[1:] for interval in layout)])
        draw = self._joint if self.method == "exact" else self._approximate
        exponent, driver, spread = draw(fine, size, derive_seed(key, "volatility"))
        eta = self.volatility_of_volatility
        variance = self.forward_variance * torch.exp(eta * exponent - 0.5 * eta**2 * spread)
        price = self._price(variance, driver, fine.diff(), derive_seed(key, "price"))
        # Steps end on the stops, so each is found where its interval ends.
        kept = torch.tensor(layout.offsets)[len(stops) - len(wanted) :]
        values = torch.stack([price[:, kept], variance[:, kept]], -1)
        return Paths(wanted, values.to(dtype), names=self.names)

    def _joint(self, fine: Tensor, n: int, key: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return fractional path and driver at the fine times, ``(n, F)`` each, and the variance of the former."""
        across = driver_covariance(fine[:, None], fine, self.hurst)
        own = fractional_covariance(fine[:, None], fine, self.hurst, "II")
        joint = torch.cat([torch.cat([own, across], 1), torch.cat([across.T, torch.minimum(fine[:, None], fine)], 1)])
        drawn = sample_gaussian(joint, n, key)
        return drawn[:, : len(fine)], drawn[:, len(fine) :], fine.pow(2 * self.hurst)

    def _approximate(self, fine: Tensor, n: int, key: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same by the Markov approximation."""
        noise = MarkovApproximation(
            self.hurst,
            float(fine[-1]),
            shortest=float(fine.diff().min()),
            count=self.count,
            kind="II",
            weighting="law",
        )
        return *sample_with_driver(noise, fine, n, seed=key), noise.covariance(fine, fine)

    def _price(self, variance: Tensor, driver: Tensor, steps: Tensor, key: int) -> Tensor:
        """Return the price at the fine times, ``(n, F)``."""
        other = sample_gaussian(torch.diag(steps), len(variance), key)
        noise = self.correlation * driver.diff(dim=1) + math.sqrt(1 - self.correlation**2) * other
        held = variance[:, :-1]
        gains = (held.sqrt() * noise - 0.5 * held * steps).cumsum(1)
        return self.spot * torch.cat([torch.ones_like(gains[:, :1]), gains.exp()], 1)
