r"""Weights of the Markov approximation whose increments have the right variance.

The approximation that is nearest path by path is a projection, and loses variance at short lags. Where only the law
counts, the weights minimise

.. math:: \sum_{t, d} \Bigl(\ln \frac{S_\omega(t, d)}{S(t, d)}\Bigr)^2, \qquad
    S(t, d) = E\,(B_{t+d} - B_t)^2, \quad S_\omega(t, d) = \omega^\top \Sigma(t, d)\, \omega + S_{\text{past}}(t, d)

over 25 lags d from T/1000 to T and the times t = 0, T/4, T/2, by Levenberg-Marquardt from the pathwise ones.
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

__all__ = ["increment_variance", "law_weights"]

_LAGS = 25
_SHORTEST = 1e-3


def increment_variance(t: Tensor, lag: Tensor, hurst: float, kind: Kind) -> Tensor:
    r"""Return :math:`E\,(B_{t+d} - B_t)^2` of the raw process, any shape."""
    later = t + lag

    def covariance(first: Tensor, second: Tensor) -> Tensor:
        return fractional_covariance(first, second, hurst, kind, "raw")

    return covariance(later, later) - 2 * covariance(t, later) + covariance(t, t)


def law_weights(
    start: Tensor, rates: Tensor, horizon: float, hurst: float, kind: Kind, modes: PastModes | None
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
    """
    lags = horizon * torch.logspace(math.log10(_SHORTEST), 0.0, _LAGS, dtype=torch.float64)
    t = horizon * torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)
    first, lag = (v.flatten() for v in torch.meshgrid(t, lags, indexing="ij"))
    stationary = kind == "I" and modes is None
    forms = increment_covariance(rates, first, lag, stationary).numpy()
    exact = increment_variance(first, lag, hurst, kind).numpy()
    past = (modes(first + lag) - modes(first)).square().sum(-1).numpy() if modes is not None else 0.0 * exact

    def residual(omega: Any) -> Any:
        return np.log((forms @ omega @ omega + past) / exact)

    def jacobian(omega: Any) -> Any:
        product = forms @ omega
        return 2 * product / (product @ omega + past)[:, None]

    found = least_squares(residual, start.numpy(), jac=jacobian, method="lm", x_scale="jac")
    return torch.from_numpy(found.x)
