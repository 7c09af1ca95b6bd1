r"""What lies around a moment of an irregular series: the line through it, means near and far, and how far one looked.

Of every channel at a time t, with the observations :math:`(s_i, x_i)` of that channel:

===============  ==================================================================================
line             between the neighbouring observations, level beyond the first and the last
mean             of the whole series
near, wide       :math:`\sum_i w_i x_i / \sum_i w_i` with :math:`w_i = e^{-|t - s_i| / \tau}`, of two widths
count            :math:`\log(1 + n)`
before, after    times to the neighbouring observations, at most 1; 1 where there is none
===============  ==================================================================================

All values are zero, the mean of scaled channels, where a channel was never observed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn.data import ControlPath
from gendyn.sde.ridge import Ridge
from gendyn.sde.series import Series

__all__ = ["SURROUNDINGS", "SurroundingsRidge", "surroundings"]

SURROUNDINGS = ("line", "mean", "near", "wide", "count", "before", "after")

_BLOCK = 8_000_000
"""Weights of kernels at once."""

_ENOUGH = 150
"""Outcomes of a channel from which on it has a regression; below, the line stands."""

_MANY = 1000
"""Outcomes of a channel from which on its regression sees the other channels."""

_LEAST = 0.05
"""Deviation of what a regression sees, below which it does not see it."""

_OWN = 14
"""Entries of what a regression sees that are of its own channel."""

_SOME = 20
"""Errors of a channel from which on its deviation is theirs."""

_MOST = 10_000
"""Outcomes of a channel that its regression is fitted to."""

_FAR = 5.0
"""Beyond this many deviations other channels say no more; gross outliers are no scale."""

_NEAR = 0.02
"""Share of the longest series within which another channel was observed at nearly the same moment."""

_COUNT = SURROUNDINGS.index("count")


def surroundings(series: Series, at: Tensor, widths: tuple[float, float]) -> Tensor:
    """Return what lies around times ``(B, Q)`` of scaled series, ``(B, Q, D, 7)`` in the order of :data:`SURROUNDINGS`.

    Parameters
    ----------
    series
        In scaled units.
    at
        Times, in the same.
    widths
        Of both kernels.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> series = read_series(torch.tensor([[0.0, 2.0]]), times=[0.0, 0.5])
    >>> [round(x, 3) for x in surroundings(series, torch.tensor([[0.25]]), (1.0, 2.0))[0, 0, 0].tolist()]
    [1.0, 1.0, 1.0, 1.0, 1.099, 0.25, 0.25]
    """
    size = max(1, _BLOCK // max(1, at.shape[1] * series.values.shape[1]))
    return torch.cat(
        [
            _of_block(series.rows(slice(start, start + size)), at[start : start + size], widths)
            for start in range(0, len(series), size)
        ]
    )


def _of_block(series: Series, at: Tensor, widths: tuple[float, float]) -> Tensor:
    values, seen = series.values.nan_to_num(0.0), series.seen
    line = ControlPath(series.times, series.values, None, series.lengths, "linear")(at)
    count = seen.sum(1, keepdim=True)
    shape = line.shape
    parts = [line, (values.sum(1, keepdim=True) / count.clamp_min(1)).expand(shape)]
    clock, asked = series.times.to(values.device), at.to(values.device, torch.float64)
    distance = (asked[:, :, None] - clock[:, None]).abs()
    # Relative to the nearest row, so that not all weights vanish.
    distance = distance - distance.amin(2, keepdim=True)
    there = seen.to(values)
    for width in widths:
        weights = torch.exp(-distance / width).to(values)
        total = weights @ there
        mean = (weights @ values) / total.clamp_min(torch.finfo(values.dtype).tiny)
        # Where all of a channel is too far to weigh anything, its line says more than a quotient of zeros.
        parts.append(torch.where(total > 1e-6, mean, line))
    parts.append(count.to(values).log1p().expand(shape))
    parts.extend(_gaps(clock, seen, asked))
    return torch.stack([part.to(values) for part in parts], dim=3)


def _gaps(clock: Tensor, seen: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Return times since the observation before, and to the one after, ``(B, Q, D)`` each."""
    wide = clock[:, :, None].expand(seen.shape)
    before = torch.where(seen, wide, -torch.inf).cummax(1).values
    after = torch.where(seen, wide, torch.inf).flip(1).cummin(1).values.flip(1)
    # Rows at or before a time, and at or after it.
    left = torch.searchsorted(clock.contiguous(), asked.contiguous(), right=True) - 1
    right = torch.searchsorted(clock.contiguous(), asked.contiguous())
    dim, last = seen.shape[2], clock.shape[1] - 1
    since = asked[:, :, None] - before.gather(1, left.clamp_min(0)[:, :, None].expand(-1, -1, dim))
    until = after.gather(1, right.clamp_max(last)[:, :, None].expand(-1, -1, dim)) - asked[:, :, None]
    # Padding repeats the last time and holds nothing, so a search that ends in it finds no observation.
    return since.masked_fill(since < 0, 1.0).clamp(0, 1), until.masked_fill(until < 0, 1.0).clamp(0, 1)


class SurroundingsRidge:
    """For each channel a regression on its own surroundings, also times log count and gap, and on all channels' lines.

    Parameters
    ----------
    shift, scale, weight
        ``(D, P)`` each.
    bias
        ``(D,)``.
    deviation
        ``(D, 2)``: of what it leaves where a channel was observed somewhere in a series, and where it was not.

    Examples
    --------
    >>> told = torch.rand(80, 3, 2, 7)
    >>> ridge, left_out = SurroundingsRidge.fit(told, 3 * told[..., 0])
    >>> bool((ridge(told) - 3 * told[..., 0]).abs().max() < 0.01)
    True
    """

    def __init__(self, shift: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, deviation: Tensor) -> None:
        self.shift, self.scale, self.weight, self.bias, self.deviation = shift, scale, weight, bias, deviation

    @classmethod
    def fit(cls, told: Tensor, outcome: Tensor) -> tuple[SurroundingsRidge, Tensor]:
        """Fit to outcomes ``(B, Q, D)``, NaN where not observed; return it, and what it says of left-out ones."""
        dim = outcome.shape[2]
        found, parts = {}, []
        for d in range(dim):
            seen = ~outcome[:, :, d].isnan()
            # Of very many outcomes as many as can matter; leaving out one changes nothing then.
            b, q = (place[:_MOST] for place in torch.nonzero(seen, as_tuple=True))
            features = _features(told[b, q], d)
            if len(b) >= _ENOUGH:
                # What hardly ever differs among what is learned from may differ much elsewhere.
                told_of = features.std(0) > _LEAST
                if len(b) < _MANY:
                    told_of[_OWN:] = False
                features = torch.where(told_of, features, 0.0)
                ridge, left_out = Ridge.fit(features, outcome[b, q, d][:, None])
                found[d] = (b, q, left_out[:, 0])
                parts.append((ridge.shift, ridge.scale, ridge.weight[:, 0], ridge.bias[0]))
            else:
                zero = told.new_zeros(features.shape[1])
                line = zero.clone()
                line[0] = 1.0
                parts.append((zero, zero + 1, line, zero[0]))
        shift, scale, weight, bias = (torch.stack(part) for part in zip(*parts, strict=True))
        fitted = cls(shift, scale, weight, bias, torch.ones_like(shift[:, :2]))
        start = fitted(told)
        for d, (b, q, left_out) in found.items():
            start[b, q, d] = left_out
        never = told[..., _COUNT] == 0
        for k, which in enumerate((~never, never)):
            asked = which & ~outcome.isnan()
            count = asked.sum((0, 1))
            error = torch.where(asked, outcome - start, 0.0).square().sum((0, 1)) / count.clamp_min(1)
            fitted.deviation[:, k] = torch.where(count >= _SOME, error.sqrt(), 1.0).clamp_min(1e-4)
        return fitted, start

    def __call__(self, told: Tensor) -> Tensor:
        """Return what is expected ``(B, Q, D)`` in surroundings ``(B, Q, D, 7)``."""
        weight = self.weight / self.scale
        bias = self.bias - (self.shift * weight).sum(1)
        return torch.stack([_features(told, d) @ weight[d] + bias[d] for d in range(len(bias))], dim=-1)

    def deviations(self, told: Tensor) -> Tensor:
        """Return the deviation from that ``(B, Q, D)``."""
        return torch.where(told[..., _COUNT] == 0, self.deviation[:, 1], self.deviation[:, 0])

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        return {name: getattr(self, name) for name in ("shift", "scale", "weight", "bias", "deviation")}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> SurroundingsRidge:
        """Return the regression that :meth:`state_dict` described."""
        return cls(*(state[name] for name in ("shift", "scale", "weight", "bias", "deviation")))


def _features(told: Tensor, d: int) -> Tensor:
    """Return what the regression of a channel sees of surroundings ``(..., D, 7)``: ``(..., 14 + 2 D)``."""
    own = told[..., d, :]
    values, count, gap = own[..., :4], own[..., _COUNT, None], own[..., 5:].amin(-1, keepdim=True)
    lines = told[..., 0].clamp(-_FAR, _FAR)
    # How much another channel says of a moment depends on how near to it one looked.
    near = lines * torch.exp(-told[..., 5:].amin(-1) / _NEAR)
    return torch.cat([values, values * count, values * gap, count, gap, lines, near], dim=-1)
