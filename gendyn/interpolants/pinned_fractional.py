r"""Fractional Brownian motion that is pinned at both ends, in closed form.

Over local time from 0 to 1 a feature moves by :math:`X_t = x_0 + \sigma \hat B_t` with the Markov approximation of kind
II, :math:`\hat B = \sum_k \omega_k Y_k`, :math:`dY_k = -\gamma_k Y_k\,dt + dB`, :math:`Y(0) = 0`. With its kernel
:math:`\kappa(\tau) = \sum_k \omega_k e^{-\gamma_k \tau}` and :math:`V(\tau) = \int_0^\tau \kappa^2`,

.. math::

    E[X_1 \mid X_t, Y_t] = \mu_t = x_0 + \sigma \sum_k \omega_k e^{-\gamma_k (1-t)} Y_k(t), \qquad
    \operatorname{Var}[X_1 \mid X_t, Y_t] = \sigma^2 V(1-t) .

Pinned at :math:`X_1 = x_1` the Brownian motion B has the drift
:math:`u = \kappa(1-t)\,(x_1 - \mu_t) / (\sigma V(1-t))`, and the state after a time h is normal, with
:math:`\lambda_k = \omega_k e^{-\gamma_k (1-t-h)}` and the free covariance Q of what is added,

.. math::

    Y' = e^{-\gamma h} Y + \frac{Q\lambda}{V(1-t)} \frac{x_1 - \mu_t}{\sigma} + \xi, \qquad
    \operatorname{Cov}\xi = Q - \frac{Q\lambda\,\lambda^\top Q}{V(1-t)} .

What is expected of the end is a Brownian bridge in a clock of its own: with :math:`r = V(1-t)/V(1)`,

.. math:: \mu_t \mid x_0, x_1 \sim \mathcal N\bigl(r x_0 + (1-r) x_1,\; \sigma^2 V(1)\, r (1-r)\bigr),

whatever the Hurst index (Nobis et al., fractional diffusion bridge models, 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike
from gendyn.sampling.fractional import MarkovApproximation, rates_between
from gendyn.sampling.fractional.laws import check_hurst
from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root

__all__ = ["PinnedFractional", "PinnedStep"]

_STILL = 1e-6
"""Rate of a process that does not decay over local time: Brownian motion."""


class PinnedStep(NamedTuple):
    r"""The state after a step: ``decay * y + gain * (x1 - mu) / sigma + root @ z``, with normals ``z (..., K)``."""

    decay: Tensor
    gain: Tensor
    root: Tensor


@dataclass(frozen=True)
class PinnedFractional:
    """The law of the noise, of unit variance at local time 1.

    Parameters
    ----------
    hurst
        :math:`H`.
    count
        Number K of processes.
    shortest
        Shortest local time that matters.
    rates
        Their decay rates ``(K,)``, per local time, in place of ``count`` and ``shortest``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> brownian = PinnedFractional(0.5)
    >>> round(brownian.left(0.75).item(), 4), brownian.expected(0.75).round(decimals=4).tolist()
    (0.25, [1.0])
    """

    hurst: float
    count: int = 7
    shortest: float = 0.01
    rates: ArrayLike = None

    def __post_init__(self) -> None:
        check_hurst(self.hurst)
        _ = self.noise

    @cached_property
    def noise(self) -> MarkovApproximation:
        """The approximation."""
        rates = self.rates
        if rates is None:
            one = torch.tensor([_STILL], dtype=torch.float64)
            rates = one if self.hurst == 0.5 else rates_between(self.shortest, 1.0, self.count)
        return MarkovApproximation(self.hurst, 1.0, rates=rates, kind="II", match_variance="terminal")

    @property
    def decay_rates(self) -> Tensor:
        r""":math:`\gamma`, ``(K,)``, float64."""
        return self.noise.decay_rates

    @property
    def weights(self) -> Tensor:
        r""":math:`\omega`, ``(K,)``, float64."""
        return self.noise.weights[0]

    def left(self, t: float) -> Tensor:
        """Return :math:`V(1-t)`, the variance that is still to come, of noise with variance 1 in all."""
        return self.noise.kernel_variance(max(1.0 - t, 0.0))

    def expected(self, t: float) -> Tensor:
        r"""Return :math:`\omega_k e^{-\gamma_k (1-t)}`, ``(K,)``: what the state is worth at the end."""
        return self.weights * torch.exp(-self.decay_rates * max(1.0 - t, 0.0))

    def step(self, t: float, h: float) -> PinnedStep:
        """Return the step from a local time before 1, of length ``h``, given the end."""
        free = driven_covariance(self.decay_rates, torch.tensor(h, dtype=torch.float64))
        left = self.left(t)
        towards = free @ self.expected(t + h)
        covariance = free - torch.outer(towards, towards) / left
        return PinnedStep(torch.exp(-self.decay_rates * h), towards / left, symmetric_root(covariance))
