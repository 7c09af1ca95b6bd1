r"""Weights of the Markov approximation whose increments have the right variance.

The approximation that is nearest path by path is a projection, and loses variance at short lags. Where only the law
counts, the weights minimise

.. math:: \sum_{t, d} \Bigl(\ln \frac{S_\omega(t, d)}{S(t, d)}\Bigr)^2, \qquad
    S(t, d) = E\,(B_{t+d} - B_t)^2, \quad S_\omega(t, d) = \omega^\top \Sigma(t, d)\, \omega + S_{\text{past}}(t, d)

over 25 lags d from T/1000 to T and the times t = 0, T/4, T/2, by Levenberg-Marquardt from the pathwise ones.

Where H is learned, weights need a slope. With residuals r, those that stay best move by

.. math:: \frac{d\omega}{dH} = -\Bigl(\nabla_\omega^2 \tfrac12 |r|^2\Bigr)^{-1}
    \frac{\partial}{\partial H} \nabla_\omega \tfrac12 |r|^2 .
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from gendyn.sampling.fractional.laws import Kind, fractional_covariance
from gendyn.sampling.fractional.past_modes import PastModes
from gendyn.sampling.fractional.shared_driver import increment_covariance

__all__ = ["increment_variance", "law_weights", "law_weights_slope"]

_LAGS = 25
_SHORTEST = 1e-3
_DIFFERENCE = 1e-5
"""Step in H of a central difference of what has a closed form."""


def increment_variance(t: Tensor, lag: Tensor, hurst: float, kind: Kind) -> Tensor:
    r"""Return :math:`E\,(B_{t+d} - B_t)^2` of the raw process, any shape."""
    later = t + lag

    def covariance(first: Tensor, second: Tensor) -> Tensor:
        return fractional_covariance(first, second, hurst, kind, "raw")

    return covariance(later, later) - 2 * covariance(t, later) + covariance(t, t)


def law_weights(
    start: Tensor,
    rates: Tensor,
    horizon: float,
    hurst: float,
    kind: Kind,
    modes: PastModes | None,
    shortest: float | None = None,
) -> Tensor:
    """Return raw weights ``(K,)`` whose increments have the variance of fractional Brownian motion.

    Parameters
    ----------
    start
        The pathwise weights, raw, ``(K,)``.
    rates, horizon, hurst, kind
        Of the approximation.
    modes
        Of the past, where kind I has them; ``None`` for kind II, or for kind I with the stationary start.
    shortest
        Shortest lag that matters; by default a thousandth of the horizon.
    """
    first, lag = _lags(horizon, shortest)
    forms = increment_covariance(rates, first, lag, kind == "I" and modes is None).numpy()
    exact = increment_variance(first, lag, hurst, kind).numpy()
    past = _past(modes, first, lag).numpy()

    def residual(omega: Any) -> Any:
        return np.log((forms @ omega @ omega + past) / exact)

    def jacobian(omega: Any) -> Any:
        product = forms @ omega
        return 2 * product / (product @ omega + past)[:, None]

    found = least_squares(residual, start.numpy(), jac=jacobian, method="lm", x_scale="jac")
    return torch.from_numpy(found.x)


def law_weights_slope(
    weights: Tensor,
    rates: Tensor,
    horizon: float,
    hurst: float,
    kind: Kind,
    past: bool,
    shortest: float | None = None,
) -> Tensor:
    """Return how raw weights ``(K,)`` of :func:`law_weights` move with H: ``(K,)``.

    Parameters
    ----------
    weights
        Those of this Hurst index.
    rates, horizon, hurst, kind, shortest
        As there.
    past
        Whether the past of kind I is modes.

    Examples
    --------
    >>> from gendyn.sampling.fractional import KernelFit
    >>> rates = torch.logspace(-1, 3.6, 7, dtype=torch.float64)
    >>> middle = law_weights(KernelFit(rates, 1.0, "I", 1e-6).weights(0.3), rates, 1.0, 0.3, "I", None)
    >>> low, high = (law_weights(middle, rates, 1.0, h, "I", None) for h in (0.299, 0.301))
    >>> difference = (high - low) / 0.002
    >>> gap = law_weights_slope(middle, rates, 1.0, 0.3, "I", past=False) - difference
    >>> bool(gap.norm() < 0.02 * difference.norm())
    True
    """
    first, lag = _lags(horizon, shortest)
    forms = increment_covariance(rates, first, lag, kind == "I" and not past)
    modes = [PastModes(hurst + d, horizon) if past else None for d in (0.0, -_DIFFERENCE, _DIFFERENCE)]
    variance = forms @ weights @ weights
    before, after = (
        torch.log((variance + _past(m, first, lag)) / increment_variance(first, lag, hurst + d, kind))
        for m, d in ((modes[1], -_DIFFERENCE), (modes[2], _DIFFERENCE))
    )
    q = variance + _past(modes[0], first, lag)
    slope = 2 * (forms @ weights) / q[:, None]
    residual = torch.log(q / increment_variance(first, lag, hurst, kind))
    # Of half the sum of squares: its second derivative, and how H moves its first one.
    bend = slope.mT @ slope + torch.tensordot(residual / q, 2 * forms, 1) - (slope.mT * residual) @ slope
    past_moves = (_past(modes[2], first, lag) - _past(modes[1], first, lag)) / (2 * _DIFFERENCE)
    moves = (after - before) / (2 * _DIFFERENCE) - residual * past_moves / q
    return torch.from_numpy(np.linalg.lstsq(bend.numpy(), -(slope.mT @ moves).numpy(), rcond=1e-14)[0])


def _lags(horizon: float, shortest: float | None) -> tuple[Tensor, Tensor]:
    """Return times and lags, paired."""
    least = _SHORTEST if shortest is None else min(shortest / horizon, 0.1)
    lags = horizon * torch.logspace(math.log10(least), 0.0, _LAGS, dtype=torch.float64)
    t = horizon * torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)
    first, lag = torch.meshgrid(t, lags, indexing="ij")
    return first.flatten(), lag.flatten()


def _past(modes: PastModes | None, first: Tensor, lag: Tensor) -> Tensor:
    """Return the variance that the past gives to increments."""
    return torch.zeros_like(lag) if modes is None else (modes(first + lag) - modes(first)).square().sum(-1)
