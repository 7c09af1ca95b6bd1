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

import numpy as np
import torch
from torch import Tensor

from gendyn.data import ControlPath
from gendyn.sde.grouped_ridge import GroupedRidge
from gendyn.sde.series import Series
from gendyn.sde.series_scaling import normal_reach

__all__ = ["SURROUNDINGS", "SurroundingsRidge", "surroundings"]

SURROUNDINGS = ("line", "mean", "near", "wide", "count", "before", "after")

_BLOCK = 8_000_000
"""Weights of kernels at once."""

_OWN = 14
"""Entries of what a regression sees that are of its own channel."""

_GROUPS = 5
"""Groups of series, each of which is left out once."""

_SOME = 20
"""Errors of a channel from which on its deviation is theirs."""

_FAR = 5.0
"""Deviations within which other channels are always listened to: tails of short recordings are heavier than normal."""

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

    How much of this it sees is chosen by what it says of series that were left out: the line alone, its own
    surroundings, the lines of the others too, or those also by how near one looked.

    Parameters
    ----------
    weight, low, high
        ``(D, P)`` each: the weights, and between what bounds lay what it sees.
    bias
        ``(D,)``.
    deviation
        ``(D, 2)``: of what it leaves where a channel was observed somewhere in a series, and where it was not.
    near
        Time within which another channel was observed at nearly the same moment.
    far
        Deviations beyond which other channels say no more ``(D,)``: five, or what a normal sample of that size
        reaches, see :func:`~gendyn.sde.series_scaling.normal_reach`.

    Examples
    --------
    >>> told = torch.rand(80, 3, 2, 7)
    >>> ridge, left_out = SurroundingsRidge.fit(told, 3 * told[..., 0], torch.rand(80, 3), near=0.1)
    >>> bool((ridge(told) - 3 * told[..., 0]).abs().max() < 0.01)
    True
    """

    def __init__(
        self, weight: Tensor, low: Tensor, high: Tensor, bias: Tensor, deviation: Tensor, near: float, far: Tensor
    ) -> None:
        self.weight, self.low, self.high, self.bias, self.deviation = weight, low, high, bias, deviation
        self.near, self.far = near, far

    @classmethod
    def fit(
        cls, told: Tensor, outcome: Tensor, at: Tensor, *, near: float, series: Tensor | None = None
    ) -> tuple[SurroundingsRidge, Tensor]:
        """Fit to outcomes ``(B, Q, D)``, NaN where not observed; return it, and what it says of left-out ones.

        Parameters
        ----------
        told, outcome, at
            Surroundings ``(B, Q, D, 7)`` of times ``(B, Q)``, and what was there.
        near
            See the class.
        series
            Which series each row is of ``(B,)``, where there are several of one; by default each is its own.
        """
        dim = outcome.shape[2]
        own = range(_OWN)
        sets = [[0], own, range(_OWN + dim), range(_OWN + 2 * dim)]
        whose = torch.arange(len(told)) if series is None else series
        start, parts = told[..., 0].clone(), []
        far = normal_reach((~outcome.isnan()).sum((0, 1))).clamp_min(_FAR).to(told)
        for d in range(dim):
            b, q = torch.nonzero(~outcome[:, :, d].isnan(), as_tuple=True)
            features = _features(told[b, q], d, near, far)
            groups = _groups(whose.to(b.device)[b], at.to(b.device)[b, q])
            y = outcome[b, q, d]
            if groups is None:
                # Of what was hardly ever observed the line stands.
                weight = features.new_zeros(features.shape[1])
                weight[0] = 1.0
                parts.append((weight, weight - torch.inf, weight + torch.inf, weight.new_zeros(())))
                continue
            low, high = features.amin(0), features.amax(0)
            # Its own line may go further than it ever did; what others say is believed as far as it was seen.
            low[:_OWN], high[:_OWN] = -torch.inf, torch.inf
            found = GroupedRidge.fit(features, y, groups, sets)
            start[b, q, d] = found.left_out.to(start)
            parts.append((found.weight.to(low), low, high, found.bias.to(low)))
        weight, low, high, bias = (torch.stack(part) for part in zip(*parts, strict=True))
        fitted = cls(weight, low, high, bias, torch.ones_like(weight[:, :2]), near, far)
        unasked = outcome.isnan()
        start = torch.where(unasked, fitted(told), start)
        never = told[..., _COUNT] == 0
        for k, which in enumerate((~never, never)):
            asked = which & ~unasked
            count = asked.sum((0, 1))
            error = torch.where(asked, outcome - start, 0.0).square().sum((0, 1)) / count.clamp_min(1)
            fitted.deviation[:, k] = torch.where(count >= _SOME, error.sqrt(), 1.0).clamp_min(1e-4)
        return fitted, start

    def __call__(self, told: Tensor) -> Tensor:
        """Return what is expected ``(B, Q, D)`` in surroundings ``(B, Q, D, 7)``."""
        return torch.stack(
            [
                _features(told, d, self.near, self.far).maximum(self.low[d]).minimum(self.high[d]) @ self.weight[d]
                + self.bias[d]
                for d in range(len(self.bias))
            ],
            dim=-1,
        )

    def deviations(self, told: Tensor) -> Tensor:
        """Return the deviation from that ``(B, Q, D)``."""
        return torch.where(told[..., _COUNT] == 0, self.deviation[:, 1], self.deviation[:, 0])

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        state = {name: getattr(self, name) for name in ("weight", "low", "high", "bias", "deviation", "far")}
        return state | {"near": torch.tensor(self.near, dtype=torch.float64)}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> SurroundingsRidge:
        """Return the regression that :meth:`state_dict` described."""
        return cls(
            state["weight"],
            state["low"],
            state["high"],
            state["bias"],
            state["deviation"],
            float(state["near"]),
            state["far"],
        )


def _groups(series: Tensor, times: Tensor) -> Tensor | None:
    """Return the group of each outcome, or nothing where there are too few: of whole series, else of stretches."""
    which, number = _numbered(series)
    if which >= _GROUPS:
        return number % _GROUPS
    if len(times) < 2 * _GROUPS:
        return None
    # Copies of one series share their times, and so their group.
    moments, number = _numbered(times)
    return number * _GROUPS // moments if moments >= _GROUPS else None


def _numbered(x: Tensor) -> tuple[int, Tensor]:
    """Return how many different entries there are, and the number of each among them."""
    values, number = np.unique(x.cpu().numpy(), return_inverse=True)
    return len(values), torch.from_numpy(number).to(x.device)


def _features(told: Tensor, d: int, near: float, far: Tensor) -> Tensor:
    """Return what the regression of a channel sees of surroundings ``(..., D, 7)``: ``(..., 14 + 2 D)``."""
    own = told[..., d, :]
    values, count, gap = own[..., :4], own[..., _COUNT, None], own[..., 5:].amin(-1, keepdim=True)
    lines = told[..., 0].clamp(-far, far)
    # How much another channel says of a moment depends on how near to it one looked.
    weighed = lines * torch.exp(-told[..., 5:].amin(-1) / near)
    return torch.cat([values, values * count, values * gap, count, gap, lines, weighed], dim=-1)
