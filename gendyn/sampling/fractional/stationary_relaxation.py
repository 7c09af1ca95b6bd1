r"""The stationary fractional Ornstein-Uhlenbeck process as a weighted sum of Ornstein-Uhlenbeck processes.

Driven by fractional Brownian motion of kind I since ever, :math:`dX = -\theta X\,dt + dB_H` is Brownian motion behind
the filter

.. math:: T(i\omega) = \sqrt{\Gamma(2H+1) \sin \pi H}\; \frac{(i\omega)^{1/2 - H}}{i\omega + \theta}, \qquad
    \hat X = \sum_k c_k Y_k, \quad dY_k = -\gamma_k Y_k\,dt + dB, \quad
    \hat T(i\omega) = \sum_k \frac{c_k}{i\omega + \gamma_k} ,

and the weights :math:`c(H, \theta)` make :math:`|\hat T / T|` nearest to 1 on frequencies that are spread like the
rates: the right law at every scale, not the nearest path. They begin with those that make :math:`\hat T / T` nearest to
1, a linear problem, and take some Gauss-Newton steps on :math:`\ln |\hat T / T|^2`, for the law does not see the phase.
With four rates for each decade the covariance is then right to two parts in ten thousand. Rates are those of the times
of the data. They depend neither on H nor on :math:`\theta`, so the transitions of Y are computed once for all
parameters that are tried.

What lies below the slowest frequency is constant for as long as the data last, and what lies above the fastest is
white: a constant and a white part with the variances that are missing complete the sum. The constant matters for H near
1, where a twentieth of the variance may be slower than ten thousand times the horizon.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gamma
from torch import Tensor

from gendyn.sampling.fractional.decay_rates import check_horizon
from gendyn.sampling.fractional.shared_driver import driven_covariance

__all__ = ["StationaryRelaxation", "relaxation_rates", "stationary_relaxation"]

_SLOWEST, _SLOW, _FASTEST = 1e-5, 0.1, 50.0
"""Rates over the horizon and, the last, over the shortest gap. What is slower than the middle one is a level and a
slope for as long as the data last, and half as many rates do for it."""

_FREQUENCIES = 40
"""Frequencies for each decade, at which the filter is matched."""

_STEPS, _RIDGE = 4, 1e-12
"""Gauss-Newton steps, and their ridge over the mean square of the columns: near-equal rates need no huge weights."""

_ROUNDING = 1e-10
"""Singular values below this part of the largest are left out: near-equal rates need no huge weights."""

Array = NDArray[np.float64]


class StationaryRelaxation(NamedTuple):
    r"""The approximation of P processes by K rates.

    Its covariance over a lag :math:`\tau` is :math:`\sum_{ij} c_i c_j e^{-\gamma_j \tau} / (\gamma_i + \gamma_j)`
    plus ``constant``, plus ``white`` at lag 0.
    """

    rates: Tensor
    weights: Tensor
    constant: Tensor
    white: Tensor

    def autocovariance(self, lag: Tensor) -> Tensor:
        r"""Return the covariance over lags ``(...)``: ``(P, ...)``, float64."""
        tau = torch.as_tensor(lag, dtype=torch.float64).abs()
        forever = driven_covariance(self.rates, torch.tensor(math.inf, dtype=torch.float64))
        mixed = (self.weights @ forever) * self.weights
        smooth = torch.tensordot(mixed, torch.exp(-self.rates.reshape(-1, *[1] * tau.ndim) * tau), dims=1)
        rest = self.constant.reshape(-1, *[1] * tau.ndim)
        result: Tensor = smooth + rest + torch.where(tau == 0, self.white.reshape(-1, *[1] * tau.ndim), 0.0)
        return result


def relaxation_rates(shortest: float, horizon: float, per_decade: float = 4.0) -> Tensor:
    """Return rates for times from ``shortest`` to ``horizon``: ``(K,)``, per time unit, float64.

    Raises
    ------
    ValueError
        If a time is not positive, or ``shortest`` is longer than ``horizon``.

    Examples
    --------
    >>> len(relaxation_rates(0.01, 1.0))
    28
    """
    horizon = check_horizon(horizon)
    if not 0 < shortest <= horizon:
        raise ValueError(f"the shortest gap must lie above 0 and up to the horizon {horizon:g}; got {shortest}")
    if not per_decade > 0:
        raise ValueError(f"per_decade must be positive; got {per_decade}")
    slowest, slow, fast = (math.log10(v) for v in (_SLOWEST / horizon, _SLOW / horizon, _FASTEST / shortest))
    few = math.ceil(per_decade / 2 * (slow - slowest))
    many = math.ceil(per_decade * (fast - slow)) + 1
    edges = torch.linspace(slowest, slow, few + 1, dtype=torch.float64)[:-1]
    return 10.0 ** torch.cat([edges, torch.linspace(slow, fast, many, dtype=torch.float64)])


def stationary_relaxation(rates: Tensor, hurst: Tensor, rate: Tensor) -> StationaryRelaxation:
    r"""Return weights for Hurst indices and rates of relaxation.

    Parameters
    ----------
    rates
        :math:`\gamma`, ``(K,)``, increasing, float64.
    hurst, rate
        :math:`H` and :math:`\theta`, ``(P,)`` each.

    Returns
    -------
    StationaryRelaxation
        Of unit volatility.

    Examples
    --------
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> found = stationary_relaxation(relaxation_rates(0.01, 10.0), 0.3 * one, one)
    >>> round(found.autocovariance(torch.tensor(1.0)).item(), 3)  # exactly 0.0617
    0.062
    """
    gammas, h, theta = (v.detach().to("cpu", torch.float64).numpy() for v in (rates, hurst, rate))
    decades = math.log10(gammas[-1] / gammas[0])
    omega = np.geomspace(gammas[0], gammas[-1], max(40, math.ceil(_FREQUENCIES * decades)))
    strength = gamma(2 * h + 1) * np.sin(math.pi * h)
    target = np.sqrt(strength)[:, None] * (1j * omega) ** (0.5 - h[:, None]) / (1j * omega + theta[:, None])
    basis = gammas / (1j * omega[:, None] + gammas)
    rows = basis / target[:, :, None]
    # Columns of one size, and the real and the imaginary parts are rows of their own.
    stacked = np.concatenate([rows.real, rows.imag], 1)
    size = np.linalg.norm(stacked, axis=1, keepdims=True)
    goal = np.concatenate([np.ones(len(omega)), np.zeros(len(omega))])
    solved = np.linalg.pinv(stacked / size, rcond=_ROUNDING) @ goal
    solved = _match_spectrum(stacked / size, solved)
    weights = solved / size[:, 0] * gammas
    white = np.maximum(_above(omega[-1], h, theta, strength) - _sum_above(omega[-1], gammas, weights), 0.0)
    total = gamma(2 * h + 1) / (2 * theta ** (2 * h))
    found = ((weights @ (1 / (gammas[:, None] + gammas))) * weights).sum(-1)
    constant = np.maximum(total - found - white, 0.0)
    return StationaryRelaxation(rates, *(torch.from_numpy(v) for v in (weights, constant, white)))


def _match_spectrum(stacked: Array, solved: Array) -> Array:
    """Return solutions ``(P, K)`` whose filters, real and then imaginary parts, have a modulus nearest to 1."""
    half = stacked.shape[1] // 2
    identity = np.eye(stacked.shape[2])
    for _ in range(_STEPS):
        fit = (stacked @ solved[..., None])[..., 0]
        real, imaginary = fit[:, :half, None], fit[:, half:, None]
        power = real**2 + imaginary**2
        slope = 2 * (real * stacked[:, :half] + imaginary * stacked[:, half:]) / power
        across = slope.transpose(0, 2, 1)
        normal = across @ slope
        ridge = _RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] / len(identity)
        solved = solved - np.linalg.solve(normal + ridge * identity, across @ np.log(power))[..., 0]
    return solved


def _above(edge: float, hurst: Array, theta: Array, strength: Array) -> Array:
    """Return the variance of frequencies above an edge that is faster than the relaxation."""
    ratio = (theta / edge) ** 2
    # The series of 1 / (1 + theta^2 / omega^2), term by term; the edge is at least three times theta.
    terms = sum((-ratio) ** k / (2 * hurst + 2 * k) for k in range(12))
    return np.asarray(strength / math.pi * edge ** (-2 * hurst) * terms)


def _sum_above(edge: float, gammas: Array, weights: Array) -> Array:
    """Return the variance of the sum above an edge, in closed form: products of partial fractions."""
    # The real part of int_edge^inf dw / ((iw + a)(-iw + b)) is (atan(a / edge) + atan(b / edge)) / (a + b).
    angles = np.arctan(gammas / edge)
    form = (angles[:, None] + angles) / (gammas[:, None] + gammas)
    return np.asarray(((weights @ form) * weights).sum(-1) / math.pi)
