r"""The Markov approximation: fractional Brownian motion as a weighted sum of Ornstein-Uhlenbeck processes.

.. math:: dY_k = -\gamma_k Y_k\,dt + dB, \qquad \hat B^{II}_t = \sum_k \omega_k Y_k(t), \quad Y(0) = 0,

with one Brownian motion B for all K (Harms and Stefanovits 2019; Daems et al. 2024). Kind I adds its past, either as a
few random modes (:mod:`~gendyn.sampling.fractional.past_modes`), or by letting Y begin in its stationary law,
:math:`\hat B^I_t = \sum_k \omega_k (Y_k(t) - Y_k(0))`, as the literature does, which is poor for H near 1.

The sum is a semimartingale: below the time :math:`1/\gamma_K` it looks like Brownian motion with variance
:math:`(\sum_k \omega_k)^2` per time unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike
from gendyn.sampling.fractional.decay_rates import check_horizon, check_rates, rates_between, warn_of_scales
from gendyn.sampling.fractional.exact_paths import hurst_indices
from gendyn.sampling.fractional.law_weights import law_weights
from gendyn.sampling.fractional.laws import Kind, Normalize, law_scale, variance_constant
from gendyn.sampling.fractional.past_modes import PastModes
from gendyn.sampling.fractional.pathwise_weights import KernelFit
from gendyn.sampling.fractional.shared_driver import driven_covariance, increment_covariance, lagged_covariance

__all__ = ["MarkovApproximation"]

Weighting = Literal["pathwise", "law"]
Past = Literal["modes", "stationary"]


@dataclass(frozen=True)
class MarkovApproximation:
    r"""Fractional Brownian motion of one or several features, as a sum of K processes with exact steps.

    Parameters
    ----------
    hurst
        :math:`H`; or one for each feature, which are independent of each other.
    horizon
        :math:`T`, up to which it is right.
    shortest
        Shortest gap between times that matters; by default a thousandth of the horizon.
    count
        Number K of processes.
    rates
        Their decay rates ``(K,)``, in place of ``shortest`` and ``count``; see
        :func:`~gendyn.sampling.fractional.rates_between` and :func:`~gendyn.sampling.fractional.published_rates`.
    kind, normalize
        Which process, and its scale; see :mod:`gendyn.sampling.fractional.laws`.
    weighting
        ``"pathwise"``: nearest to the path that the same Brownian motion drives. ``"law"``: increments of the right
        variance; for rough paths, and wherever H is estimated.
    past
        How kind I remembers: by ``"modes"``, or by a ``"stationary"`` start, as published.
    match_variance
        ``"terminal"`` scales the sum to the right variance at the horizon, which a projection falls short of.
    ridge
        Keeps weights small, see :class:`~gendyn.sampling.fractional.KernelFit`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> noise = MarkovApproximation(0.3, horizon=1.0, kind="II")
    >>> round(noise.covariance(0.5, 1.0).item(), 3)
    0.462
    >>> from gendyn.sampling.fractional import fractional_covariance
    >>> round(fractional_covariance(0.5, 1.0, 0.3, "II").item(), 3)
    0.462
    """

    hurst: float | Sequence[float]
    horizon: float
    shortest: float | None = None
    count: int = 7
    rates: ArrayLike = None
    kind: Kind = "I"
    normalize: Normalize = "unit"
    weighting: Weighting = "pathwise"
    past: Past = "modes"
    match_variance: Literal["terminal"] | None = None
    ridge: float | None = None

    def __post_init__(self) -> None:
        check_horizon(self.horizon)
        for name, value, choices in (
            ("weighting", self.weighting, get_args(Weighting)),
            ("past", self.past, get_args(Past)),
            ("match_variance", self.match_variance, (None, "terminal")),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")
        for h in self.hurst_indices:
            law_scale(h, self.kind, self.normalize)
        if self.rates is not None:
            warn_of_scales(self.decay_rates, self.horizon, self.shortest, min(self.hurst_indices))
        _ = self.weights

    @property
    def hurst_indices(self) -> list[float]:
        """The Hurst index of each feature."""
        return hurst_indices(self.hurst)

    @property
    def dim(self) -> int:
        """Number of features ``D``."""
        return len(self.hurst_indices)

    @property
    def stationary(self) -> bool:
        """Whether the processes begin in their stationary law, and not with 0."""
        return self.kind == "I" and self.past == "stationary"

    @cached_property
    def decay_rates(self) -> Tensor:
        r""":math:`\gamma`, ``(K,)``, float64."""
        if self.rates is not None:
            return check_rates(self.rates)
        return rates_between(self.horizon / 1000 if self.shortest is None else self.shortest, self.horizon, self.count)

    @cached_property
    def modes(self) -> tuple[PastModes, ...] | None:
        """Of each feature, the raw modes of its past; ``None`` where there is no past, or it is stationary."""
        if self.kind == "II" or self.stationary:
            return None
        return tuple(PastModes(h, self.horizon) for h in self.hurst_indices)

    @property
    def n_modes(self) -> int:
        """Number of modes of each feature's past."""
        return 0 if self.modes is None else self.modes[0].rank

    @cached_property
    def weights(self) -> Tensor:
        r""":math:`\omega`, ``(D, K)``, float64, of the scale that was asked for."""
        return self._raw * self._scale[:, None]

    @cached_property
    def relative_error(self) -> Tensor:
        r"""Mean square of the error over that of the process, over time and driven by the same noise: ``(D,)``.

        Where the past is modes, that of the part that is not the past, relative to the whole.
        """
        index = torch.tensor(self.hurst_indices, dtype=torch.float64)
        error = self._fit.relative_error(index, self._raw)
        if self.modes is None:
            return error
        shares = [variance_constant(h, "II") / variance_constant(h, "I") for h in self.hurst_indices]
        return error * torch.tensor(shares, dtype=torch.float64)

    @property
    def quadratic_variation(self) -> Tensor:
        r""":math:`(\sum_k \omega_k)^2`, ``(D,)``, per time unit: how rough it is at the shortest times."""
        return self.weights.sum(1).square()

    def kernel(self, lag: ArrayLike, feature: int = 0) -> Tensor:
        r"""Return :math:`\kappa(\tau) = \sum_k \omega_k e^{-\gamma_k \tau}` at lags of any shape."""
        tau = torch.as_tensor(lag, dtype=torch.float64)
        return torch.exp(-tau[..., None] * self.decay_rates) @ self.weights[feature]

    def kernel_variance(self, lag: ArrayLike, feature: int = 0) -> Tensor:
        r"""Return :math:`V(\tau) = \int_0^\tau \kappa^2`, what the driver adds over a time, at lags of any shape."""
        omega = self.weights[feature]
        return driven_covariance(self.decay_rates, torch.as_tensor(lag, dtype=torch.float64)) @ omega @ omega

    def past_modes(self, t: ArrayLike) -> Tensor:
        r"""Return :math:`\varphi(t)` of each feature's past at times ``(...)``: ``(..., D, r)``, to scale."""
        times = torch.as_tensor(t, dtype=torch.float64)
        if self.modes is None:
            return times.new_zeros(*times.shape, self.dim, 0)
        return torch.stack([m(times) * c for m, c in zip(self.modes, self._scale, strict=True)], -2)

    def covariance(self, s: ArrayLike, t: ArrayLike, feature: int = 0) -> Tensor:
        """Return the covariance of the approximation at times ``s`` and ``t``, which broadcast; float64."""
        first, second = (torch.as_tensor(v, dtype=torch.float64) for v in (s, t))
        low, high = torch.minimum(first, second), torch.maximum(first, second)
        omega, rates = self.weights[feature], self.decay_rates
        if self.stationary:
            sums = rates[:, None] + rates
            # E (Y_i(s) - Y_i(0)) (Y_j(t) - Y_j(0)), each difference of exponentials without loss of digits.
            before = torch.expm1(-rates * low[..., None])
            after = torch.expm1(-rates * high[..., None])
            kept = before[..., :, None] * after[..., None, :] / sums
            forms = kept + lagged_covariance(rates, low, high)
            return forms @ omega @ omega
        own = lagged_covariance(rates, low, high) @ omega @ omega
        if self.modes is None:
            return own
        one, other = (self.past_modes(v)[..., feature, :] for v in (low, high))
        return own + (one * other).sum(-1)

    def increment_variance(self, t: ArrayLike, lag: ArrayLike, feature: int = 0) -> Tensor:
        r"""Return :math:`E\,(\hat B_{t+d} - \hat B_t)^2`, times and lags broadcast; float64."""
        time, d = (torch.as_tensor(v, dtype=torch.float64) for v in (t, lag))
        time, d = time + 0 * d, d + 0 * time
        omega = self.weights[feature]
        own = increment_covariance(self.decay_rates, time, d, self.stationary) @ omega @ omega
        rise = (self.past_modes(time + d) - self.past_modes(time))[..., feature, :]
        return own + rise.square().sum(-1)

    @cached_property
    def _fit(self) -> KernelFit:
        return KernelFit(self.decay_rates, self.horizon, "I" if self.stationary else "II", self.ridge)

    @cached_property
    def _raw(self) -> Tensor:
        indices = self.hurst_indices
        found = self._fit.weights(torch.tensor(indices, dtype=torch.float64))
        if self.weighting == "pathwise":
            return found
        modes = self.modes or (None,) * len(indices)
        rows = [
            law_weights(start, self.decay_rates, self.horizon, h, self.kind, past)
            for start, h, past in zip(found, indices, modes, strict=True)
        ]
        return torch.stack(rows)

    @cached_property
    def _scale(self) -> Tensor:
        """What raw weights and modes of each feature are multiplied by, ``(D,)``."""
        scales = [1.0 / law_scale(h, self.kind, self.normalize) for h in self.hurst_indices]
        if self.match_variance is not None:
            end = torch.tensor(self.horizon, dtype=torch.float64)
            for i, h in enumerate(self.hurst_indices):
                form = increment_covariance(self.decay_rates, 0 * end, end, self.stationary)
                found = float(form @ self._raw[i] @ self._raw[i])
                if self.modes is not None:
                    found += float(self.modes[i](end).square().sum())
                scales[i] *= math.sqrt(variance_constant(h, self.kind) * self.horizon ** (2 * h) / found)
        return torch.tensor(scales, dtype=torch.float64)
