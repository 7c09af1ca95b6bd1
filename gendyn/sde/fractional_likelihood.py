r"""The likelihood of series under a stationary fractional Ornstein-Uhlenbeck process that is seen with noise.

.. math:: y_k = \mu + \sigma X(t_k) + \sigma \sqrt{\rho}\, \varepsilon_k, \qquad dX = -\theta X\,dt + dB_H

Given H, :math:`\theta` and the ratio :math:`\rho`, level and volatility have closed forms: the filter of unit
volatility runs over each series and over a series of ones, and with their innovations e and u of variance S

.. math::

    \hat\mu = \frac{\sum u e / S}{\sum u^2 / S}, \qquad \hat\sigma^2 = \frac1n \sum \frac{(e - \hat\mu u)^2}{S}, \qquad
    -2 \ln L = n \ln 2\pi\hat\sigma^2 + n + \sum \ln S .

With levels of each series' own the sums behind :math:`\hat\mu` are over a series, and the levels are integrated out: n
is less by one for each series, and :math:`-2 \ln L` more by :math:`\ln \sum u^2 / S`.

What is needed of the filter are :math:`e / \sqrt S`, :math:`u / \sqrt S` and :math:`\sum \ln S`. Where all series share
a few hundred times, the Cholesky factor of their one covariance gives the same in less time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn.sampling.fractional import StationaryRelaxation, stationary_relaxation
from gendyn.sampling.fractional.shared_driver import driven_covariance
from gendyn.sampling.kalman import FilteredSeries, LinearState

__all__ = ["FractionalLikelihood", "Profile", "RelaxationState"]

_FEW = 300
"""Times up to which the covariance of all series is factored at once."""
_DIGITS = 9
"""Digits behind the point, of times whose median gap is 1, by which lags are told apart."""
_NUMBERS = 1 << 22
"""Numbers of the covariances that are held at once."""


class Profile(NamedTuple):
    """Log-likelihood ``(P,)`` of candidates, with the level and the squared volatility that go with it.

    ``spread`` is the variance of levels between series, 0 where they share one.
    """

    log_likelihood: Tensor
    mean: Tensor
    squared_volatility: Tensor
    spread: Tensor


class RelaxationState:
    """The state of the approximation at times of L rows, for P candidates and U rows of times.

    Parameters
    ----------
    process
        The approximation of the P candidates.
    times
        ``(U, L)``, float64.
    noise
        Variance of the noise of an observation, where the volatility is 1, ``(P,)``.
    """

    def __init__(self, process: StationaryRelaxation, times: Tensor, noise: Tensor) -> None:
        self._rates = torch.cat([process.rates, process.rates.new_zeros(1)])
        self._gaps = times.diff(dim=1)
        driven = driven_covariance(process.rates, torch.tensor(math.inf, dtype=torch.float64))
        # The constant part is one more state, of variance 1, that never changes.
        start = torch.nn.functional.pad(driven, (0, 1, 0, 1))
        start[-1, -1] = 1.0
        output = torch.cat([process.weights, process.constant.sqrt()[:, None]], 1)
        # A law for each candidate and each row of times.
        output = output[:, None].expand(-1, len(times), -1)
        self.state = LinearState(start, self.step, output, (noise + process.white)[:, None])

    def step(self, k: int) -> tuple[Tensor, Tensor]:
        """Return decays and covariances of the k-th step, one for each row of times."""
        gap = self._gaps[:, k]
        rates = self._rates[:-1]
        added = torch.nn.functional.pad(driven_covariance(rates, gap), (0, 1, 0, 1))
        return torch.exp(-self._rates * gap[:, None]), added


class FractionalLikelihood:
    """The likelihood of one channel of series, for many parameters at once.

    Parameters
    ----------
    times
        ``(B, L)``, increasing, padded by repeating the last.
    values
        ``(B, L)``, float64, NaN where nothing was observed.
    rates
        Of the approximation, ``(K,)``.
    own_level
        Whether each series has a level of its own, of which nothing is known beforehand.

    Examples
    --------
    >>> from gendyn.sampling.fractional import relaxation_rates
    >>> times = torch.arange(4.0).double().expand(2, 4)
    >>> values = torch.tensor([[0.0, 1.0, 0.5, 0.0], [0.5, 0.5, torch.nan, 0.0]]).double()
    >>> half = torch.tensor([0.5]).double()
    >>> found = FractionalLikelihood(times, values, relaxation_rates(1.0, 4.0)).profile(half, 2 * half, 0 * half)
    >>> round(found.mean.item(), 2)
    0.3
    """

    def __init__(self, times: Tensor, values: Tensor, rates: Tensor, *, own_level: bool = False) -> None:
        self.rates, self.own_level = rates, own_level
        seen = ~values.isnan()
        shared = bool((times == times[:1]).all()) and bool((seen == seen[:1]).all())
        self.times = times[:1] if shared else times
        # Columns of one law where all series share their times and gaps; else a law for each.
        self.seen = (seen[:1] if shared else seen).T[:, None]
        self.values = values.T[:, None, None, :] if shared else values.T[:, None, :, None]
        self.count = int(seen.sum())
        rows = self.seen[:, 0, 0]
        self._rows = rows if shared and int(rows.sum()) <= _FEW else None
        if self._rows is not None:
            clock = self.times[0, rows]
            lags = (clock[:, None] - clock).abs().round(decimals=_DIGITS)
            self._lags, self._places = torch.unique(lags, return_inverse=True)

    def filter(self, process: StationaryRelaxation, noise: Tensor, mean: Tensor | None = None) -> FilteredSeries:
        """Filter the series for P candidates of unit volatility; ones are the last column unless there is a mean."""
        if mean is None:
            ones = torch.ones(*self.values.shape[:-1], 1, dtype=torch.float64)
            columns = torch.cat([self.values.nan_to_num(), ones], -1)
        else:
            columns = self.values.nan_to_num() - mean[:, None, None]
        return RelaxationState(process, self.times, noise).state.filter(columns, self.seen)

    def profile(self, hurst: Tensor, rate: Tensor, ratio: Tensor, squared: Tensor | None = None) -> Profile:
        r"""Return the log-likelihood of candidates, at their best level and volatility.

        Parameters
        ----------
        hurst, rate, ratio
            :math:`H, \theta, \rho`, ``(P,)`` each.
        squared
            Squared volatilities :math:`\sigma^2`, ``(P,)``, where these are given.
        """
        width = len(self.rates) + 1
        held = len(self.times) * width * (width + self.values.shape[-1])
        if self._rows is not None:
            held = max(held, self._places.shape[0] * (self._places.shape[0] + self.values.shape[-1]))
        size = max(1, _NUMBERS // held)
        parts = []
        for first in range(0, len(hurst), size):
            some = slice(first, first + size)
            parts.append(
                self._profile(hurst[some], rate[some], ratio[some], None if squared is None else squared[some])
            )
        return Profile(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _profile(self, hurst: Tensor, rate: Tensor, ratio: Tensor, squared: Tensor | None) -> Profile:
        # A profile holds H and often the rate: the noise is all that its candidates differ in.
        laws, own_law = torch.unique(torch.stack([hurst, rate], 1), dim=0, return_inverse=True)
        found = stationary_relaxation(self.rates, *laws.unbind(1))
        process = StationaryRelaxation(found.rates, *(part[own_law] for part in found[1:]))
        if self.own_level:
            # What is constant within a series is its level.
            process = process._replace(constant=torch.zeros_like(process.constant))
        white, logs = self._whitened(process, ratio)
        e, u = white[..., :-1], white[..., -1:]
        # Rows of laws are series, or the columns of the one law are: sums over times are (P, U, M), of each series.
        told, known = (u * e).sum(0), (u * u).sum(0).expand(-1, *e.shape[2:])
        there = known > 0
        spread, count = torch.zeros_like(hurst), self.count
        if self.own_level:
            level = told / torch.where(there, known, 1.0)
            n = there.sum((1, 2))
            mean = level.sum((1, 2)) / n
            spread = torch.where(there, level - mean[:, None, None], 0.0).square().sum((1, 2)) / (n - 1).clamp_min(1)
            logs = logs + torch.where(there, known, 1.0).log().sum((1, 2))
            count = self.count - int(n[0])
        else:
            mean = told.sum((1, 2)) / known.sum((1, 2))
            level = mean[:, None, None]
        squares = (e - level * u).square().sum((0, 2, 3))
        own = squares / count if squared is None else squared
        value = -0.5 * (count * (2 * math.pi * own).log() + squares / own + logs)
        return Profile(value, mean, own, spread)

    def _whitened(self, process: StationaryRelaxation, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return columns without correlation ``(L, P, U, M + 1)``, ones the last, and log determinants ``(P,)``."""
        if self._rows is not None:
            factored = self._factored(process, noise, self._rows)
            if factored is not None:
                return factored
        found = self.filter(process, noise)
        weight = torch.where(found.seen, torch.rsqrt(found.variances), 0.0)[..., None]
        logs = torch.where(found.seen, found.variances.log(), 0.0).sum((0, 2))
        return found.innovations * weight, logs * (found.innovations.shape[-1] - 1)

    def _factored(self, process: StationaryRelaxation, noise: Tensor, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the same from the covariance of all times; ``None`` where it is singular to rounding."""
        covariance = process.autocovariance(self._lags)[:, self._places]
        covariance.diagonal(dim1=1, dim2=2).add_(noise[:, None])
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if bool(failed.any()):
            return None
        values = self.values[rows, 0, 0]
        columns = torch.cat([values, torch.ones_like(values[:, :1])], 1)
        white = torch.linalg.solve_triangular(factor, columns.expand(len(factor), -1, -1), upper=False)
        logs = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1) * values.shape[1]
        return white.movedim(1, 0)[:, :, None], logs
