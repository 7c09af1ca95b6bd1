r"""What a fractional Ornstein-Uhlenbeck process may have been at any times, given noisy looks at it.

Observed and asked times are rows of one state. Of what the state does not hold, the white part of variance w beside the
noise of an observation, R in all, a look :math:`y` tells :math:`\tfrac{w}{R} (y - c^\top z)`, so that

.. math::

    E[X \mid y] = (1 - s)\, E[c^\top z \mid y] + s\, y, \qquad
    \operatorname{Var}[X \mid y] = (1 - s)^2 \operatorname{Var}[c^\top z \mid y] + (1 - s)\, w, \qquad s = w / R

at a row that was observed, with :math:`s = 0` at any other. A path from the posterior is one from the prior, corrected
by the mean of what its own noisy looks miss of those at hand (Matheron).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.fractional import StationaryRelaxation
from gendyn.sde.fractional_likelihood import FractionalLikelihood, RelaxationState

__all__ = ["FractionalPosterior"]


class FractionalPosterior:
    """Posterior of one channel, where the level is 0 and the volatility 1.

    Parameters
    ----------
    times, values
        Of the series, ``(B, L)``, NaN where nothing was observed.
    asked
        ``(B, Q)``, in any order, before, between or after the times of the series.
    process
        One approximation.
    noise
        Variance of the noise of an observation.

    Examples
    --------
    >>> from gendyn.sampling.fractional import relaxation_rates, stationary_relaxation
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> process = stationary_relaxation(relaxation_rates(0.1, 10.0), 0.5 * one, one)
    >>> times, values = torch.tensor([[0.0, 1.0]]).double(), torch.tensor([[1.0, 2.0]]).double()
    >>> posterior = FractionalPosterior(times, values, torch.tensor([[1.0, 2.0]]).double(), process, 0.0)
    >>> mean, variance = posterior.moments()
    >>> mean.round(decimals=2)  # at one half, the future returns like exp(-t) from the last look
    tensor([[2.0000, 0.7400]], dtype=torch.float64)
    """

    def __init__(
        self, times: Tensor, values: Tensor, asked: Tensor, process: StationaryRelaxation, noise: float
    ) -> None:
        batch, length = times.shape
        rows = torch.cat([times, asked], 1)
        merged, order = torch.sort(rows, dim=1, stable=True)
        place = torch.empty_like(order).scatter_(1, order, torch.arange(rows.shape[1]).expand(batch, -1))
        empty = torch.full_like(asked, torch.nan)
        self._rows = FractionalLikelihood(merged, torch.cat([values, empty], 1).gather(1, order), process.rates)
        # A question about the very time of a look is one about its row: what is white there was looked at.
        nearest = torch.searchsorted(times.contiguous(), asked.contiguous()).clamp_max(length - 1)
        met = (times.gather(1, nearest) == asked) & ~values.gather(1, nearest).isnan()
        self._places = torch.where(met, place[:, :length].gather(1, nearest), place[:, length:])
        self._white = float(process.white)
        total = noise + self._white
        self._share = self._white / total if total > 0 else 0.0
        self._noise = noise
        self._state = RelaxationState(process, self._rows.times, torch.full((1,), noise, dtype=torch.float64)).state

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the process at the asked times, ``(B, Q)`` each."""
        mean, variance = self._correct(self._rows.values.nan_to_num())
        return self._asked(mean), self._asked(variance[..., None].expand_as(mean))

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n paths of each series at the asked times, ``(n, B, Q)``."""
        values = self._rows.values.nan_to_num()
        length, laws, columns = values.shape[0], values.shape[2], values.shape[3]
        path = self._state.draw(length, n * columns, generator)
        path = path + self._white**0.5 * torch.randn(path.shape, dtype=torch.float64, generator=generator)
        looks = path + self._noise**0.5 * torch.randn(path.shape, dtype=torch.float64, generator=generator)
        missed = values.repeat(1, 1, 1, n) - looks
        mean, _ = self._correct(missed)
        drawn = (path + mean).reshape(length, 1, laws, n, columns).movedim(3, 0)
        return torch.stack([self._asked(one) for one in drawn])

    def _correct(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(L, 1, U, M)`` and variance ``(L, 1, U)`` of the process at all rows."""
        found = self._state.filter(values, self._rows.seen)
        mean, variance = self._state.smooth(found)
        share = torch.where(found.seen, self._share, 0.0)
        mean = (1 - share)[..., None] * mean + share[..., None] * values
        return mean, (1 - share).square() * variance + (1 - share) * self._white

    def _asked(self, rows: Tensor) -> Tensor:
        """Return rows ``(L, 1, U, M)`` at the asked times ``(B, Q)``."""
        return rows[:, 0].flatten(1).T.gather(1, self._places)
