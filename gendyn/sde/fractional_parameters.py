r"""The parameters of a fractional Ornstein-Uhlenbeck process as a point without units, and bounds for it.

Of H the logarithm of the odds, of the rate of relaxation and of the ratio :math:`\rho = s^2/\sigma^2` the logarithm;
level and volatility follow from these. Where the noise s is given, so is :math:`\sigma = s / \sqrt\rho`.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import torch
from torch import Tensor

from gendyn.sde.fractional_likelihood import FractionalLikelihood
from gendyn.sde.hurst_profile import HurstProfile, hurst_profile
from gendyn.sde.quadratic_search import QuadraticSearch, SearchState

__all__ = ["STILL", "FractionalParameters"]

_EDGE = 0.01
STILL = 1e-4
"""Rate of relaxation over the horizon at which nothing relaxes."""
_SCANNED = (-9.0, -5.0, -3.5, -2.0, -0.5, 1.0, 2.5)
"""Logarithms of ratios at which every part of a profile looks for another maximum."""
_STARTS = ((0.12, 0.35, 0.6, 0.85), (0.1, 1.0, 10.0), (1e-3, 0.1, 3.0))
"""Hurst indices, rates of relaxation in units of 3 over the horizon, and ratios, at which a search may start."""


class FractionalParameters:
    """The free parameters of one channel.

    Parameters
    ----------
    likelihood
        In units of time in which a median gap is 1.
    hurst, noise
        ``"estimate"``, or what they are.
    horizon
        Length of the longest series.
    rate
        As ``hurst``; a rate of 0 is one that is slow even to the horizon.

    Examples
    --------
    >>> from gendyn.sampling.fractional import relaxation_rates
    >>> times, values = torch.arange(4.0).double()[None], torch.tensor([[0.0, 1.0, 0.5, 0.2]]).double()
    >>> likelihood = FractionalLikelihood(times, values, relaxation_rates(1.0, 3.0))
    >>> FractionalParameters(likelihood, 0.5, 0.0, 3.0).starts.shape  # the rate of relaxation alone
    torch.Size([3, 1])
    """

    def __init__(
        self,
        likelihood: FractionalLikelihood,
        hurst: Literal["estimate"] | float,
        noise: Literal["estimate"] | float,
        horizon: float,
        rate: Literal["estimate"] | float = "estimate",
    ) -> None:
        self.likelihood = likelihood
        self._rate = None if isinstance(rate, str) else max(float(rate), STILL / horizon)
        self._hurst = None if isinstance(hurst, str) else float(hurst)
        self._noise = None if isinstance(noise, str) else float(noise)
        bounds: list[tuple[float, float]] = []
        axes: list[list[float]] = []
        if self._rate is None:
            bounds.append((math.log(0.01 / horizon), math.log(10.0)))
            axes.append([math.log(3 * x / horizon) for x in _STARTS[1]])
        if self._hurst is None:
            reach = math.log(1 / _EDGE - 1)
            bounds.insert(0, (-reach, reach))
            axes.insert(0, [math.log(h / (1 - h)) for h in _STARTS[0]])
        if self._noise is None or self._noise > 0:
            bounds.append((math.log(1e-8), math.log(1e6)))
            axes.append([math.log(x) for x in _STARTS[2]])
        self.low, self.high = torch.tensor(bounds, dtype=torch.float64).reshape(-1, 2).T
        starts = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64)
        self.starts = starts.clamp(self.low, self.high)

    def log_likelihood(self, points: Tensor) -> Tensor:
        """Return the log-likelihood of points ``(P, p)``: ``(P,)``."""
        hurst, rate, ratio, squared = self._read(points)
        return self.likelihood.profile(hurst, rate, ratio, squared).log_likelihood

    def found(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return Hurst index, rate, level, volatility, ratio and spread of a point ``(p,)``, ``(1,)`` each."""
        hurst, rate, ratio, squared = self._read(point[None])
        profile = self.likelihood.profile(hurst, rate, ratio, squared)
        return hurst, rate, profile.mean, profile.squared_volatility.sqrt(), ratio, profile.spread.sqrt()

    def search(self, tolerance: float) -> QuadraticSearch:
        """Return the search for the highest likelihood."""
        return QuadraticSearch(self.log_likelihood, self.low, self.high, tolerance=tolerance)

    def hurst_profile(self, best: SearchState) -> tuple[HurstProfile | None, SearchState]:
        """Return the profile of H about a maximum, ``None`` where H is given, and the highest point that was met."""
        if self._hurst is not None:
            return None, best
        scan = [] if self._rate is not None else [sorted(set(self.starts[:, 1].tolist()))]
        if len(self.low) > 1 + len(scan):
            scan.append(list(_SCANNED))
        return hurst_profile(self.log_likelihood, self.low, self.high, best, scan)

    def _read(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        columns = list(points.T)
        one = torch.ones(len(points), dtype=torch.float64)
        hurst = torch.sigmoid(columns.pop(0)) if self._hurst is None else self._hurst * one
        rate = columns.pop(0).exp() if self._rate is None else self._rate * one
        ratio = columns.pop(0).exp() if columns else 0 * one
        squared = self._noise**2 / ratio if self._noise else None
        return hurst, rate, ratio, squared
