r"""K Ornstein-Uhlenbeck processes with one Brownian motion: the state of the Markov approximation.

.. math:: dY_k = -\gamma_k Y_k\,dt + dB, \qquad Y_k(t + h) = e^{-\gamma_k h} Y_k(t) + \xi_k, \qquad
    E[\xi_i \xi_j] = \frac{1 - e^{-(\gamma_i + \gamma_j) h}}{\gamma_i + \gamma_j} .

The step is exact whatever its length. Its covariance is singular to rounding as soon as the step is short, since all K
are then the increment of the driver: its root is taken by eigenvalues, with what is below zero set to zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["driven_covariance", "increment_covariance", "lagged_covariance", "symmetric_root"]


def driven_covariance(rates: Tensor, h: Tensor) -> Tensor:
    r"""Return :math:`E[\xi \xi^\top]` over times ``h (...)``: ``(..., K, K)``.

    Examples
    --------
    >>> driven_covariance(torch.tensor([1.0]), torch.tensor(float("inf")))
    tensor([[0.5000]])
    """
    sums = rates[:, None] + rates
    return -torch.expm1(-sums * h[..., None, None]) / sums


def lagged_covariance(rates: Tensor, s: Tensor, t: Tensor) -> Tensor:
    r"""Return :math:`E[Y_i(s) Y_j(t)]` of processes that begin at 0 with 0, for ``s <= t (...)``: ``(..., K, K)``."""
    decay = torch.exp(-rates * (t - s)[..., None])
    return driven_covariance(rates, s) * decay[..., None, :]


def increment_covariance(rates: Tensor, t: Tensor, lag: Tensor, stationary: bool) -> Tensor:
    r"""Return the covariance of :math:`Y(t + d) - Y(t)`, ``(..., K, K)``, of processes that begin with 0 or stationary.

    It is a sum of two positive parts, and loses no digits however short the lag.
    """
    loss = torch.expm1(-rates * lag[..., None])
    before = driven_covariance(rates, torch.full_like(t, torch.inf) if stationary else t)
    return loss[..., :, None] * loss[..., None, :] * before + driven_covariance(rates, lag)


def symmetric_root(covariance: Tensor) -> Tensor:
    r"""Return ``R`` with :math:`R R^\top = C` of ``(..., d, d)``, which may be singular to rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0.0).sqrt()[..., None, :]
    return root
