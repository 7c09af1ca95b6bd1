r"""Markov approximations of fixed rates as a family over the Hurst index, with gradients.

The processes :math:`dY_k = -\gamma_k Y_k\,dt + dB` know no H; their weights do. So an index that is learned moves
:math:`\omega(H)`, of unit scale, and the modes of the past, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike
from gendyn.sampling.fractional.decay_rates import check_horizon, check_rates
from gendyn.sampling.fractional.law_weights import law_weights, law_weights_slope
from gendyn.sampling.fractional.laws import Kind, check_kind, variance_constant
from gendyn.sampling.fractional.markov_approximation import Past, Weighting
from gendyn.sampling.fractional.past_modes import PastModes
from gendyn.sampling.fractional.pathwise_weights import KernelFit, log_variance_constant

__all__ = ["HurstFamily"]

_RIDGE = 1e-6
_DIFFERENCE = 1e-4
"""Step in H of a central difference of modes."""

_KEPT = 64
"""Hurst indices whose weights are remembered."""


@dataclass(frozen=True, eq=False)
class HurstFamily:
    r"""Unit fractional Brownian motions that share their rates.

    Parameters
    ----------
    rates
        :math:`\gamma`, ``(K,)``, increasing.
    horizon
        :math:`T`, up to which it is right.
    shortest
        Shortest lag whose variance law weights look at; by default a thousandth of the horizon.
    kind, past, weighting
        As of :class:`~gendyn.sampling.MarkovApproximation`.

    Examples
    --------
    >>> from gendyn.sampling.fractional import rates_between
    >>> family = HurstFamily(rates_between(0.01, 1.0, 5), horizon=1.0)
    >>> hurst = torch.tensor([0.2, 0.7], dtype=torch.float64, requires_grad=True)
    >>> weights = family.weights(hurst)
    >>> weights.shape
    torch.Size([2, 5])
    >>> weights.sum().backward()
    >>> bool((hurst.grad < 0).all())  # the smoother, the less of the driver at once
    True
    """

    rates: ArrayLike
    horizon: float
    shortest: float | None = None
    kind: Kind = "I"
    past: Past = "stationary"
    weighting: Weighting = "law"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", check_rates(self.rates))
        object.__setattr__(self, "horizon", check_horizon(self.horizon))
        check_kind(self.kind)

    @property
    def modes(self) -> bool:
        """Whether the past is modes."""
        return self.kind == "I" and self.past == "modes"

    @property
    def n_modes(self) -> int:
        """Number of modes of each feature's past."""
        return PastModes(0.5, self.horizon).rank if self.modes else 0

    @property
    def stationary(self) -> bool:
        """Whether the processes begin in their stationary law, and not with 0."""
        return self.kind == "I" and self.past == "stationary"

    def weights(self, hurst: Tensor) -> Tensor:
        r"""Return :math:`\omega(H)` of indices ``(D,)``: ``(D, K)``, float64, of unit scale."""
        index = hurst.to(torch.float64)
        if self.weighting == "pathwise":
            raw = self._fit.weights(index)
        else:
            found = [self._law(float(h)) for h in index.detach()]
            value, slope = (torch.stack(part) for part in zip(*found, strict=True))
            raw = value + slope * (index - index.detach())[:, None]
        return raw * torch.exp(-0.5 * log_variance_constant(index, self.kind))[:, None]

    def past_modes(self, hurst: Tensor, t: Tensor) -> Tensor:
        r"""Return :math:`\varphi(t)` at times ``(...)``: ``(..., D, r)``, of unit scale; r may be 0."""
        index, times = hurst.to(torch.float64), t.to(torch.float64)
        if not self.modes:
            return times.new_zeros(*times.shape, len(index), 0)
        parts = []
        for h, own in zip(index.detach().tolist(), index, strict=True):
            middle, low, high = (
                PastModes(x, self.horizon)(times) / math.sqrt(variance_constant(x, "I"))
                for x in (h, h - _DIFFERENCE, h + _DIFFERENCE)
            )
            # A mode is known but for its sign.
            flat = tuple(range(times.ndim))
            low, high = (x * torch.sign((x * middle).sum(flat)) for x in (low, high))
            parts.append(middle + (high - low) / (2 * _DIFFERENCE) * (own - own.detach()))
        return torch.stack(parts, -2)

    @cached_property
    def _fit(self) -> KernelFit:
        return KernelFit(self.rates, self.horizon, "I" if self.stationary else "II", _RIDGE)

    @cached_property
    def _found(self) -> dict[float, tuple[Tensor, Tensor]]:
        return {}

    def _law(self, h: float) -> tuple[Tensor, Tensor]:
        if h not in self._found:
            while len(self._found) >= _KEPT:
                del self._found[next(iter(self._found))]
            start = self._fit.weights(h)
            modes = PastModes(h, self.horizon) if self.modes else None
            rates = check_rates(self.rates)
            value = law_weights(start, rates, self.horizon, h, self.kind, modes, self.shortest)
            slope = law_weights_slope(value, rates, self.horizon, h, self.kind, self.modes, self.shortest)
            self._found[h] = value, slope
        return self._found[h]
