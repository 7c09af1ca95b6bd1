"""Features of whole series that need no learning: random convolutions, and what a physician would look up.

Of every channel the first and last observation, mean, deviation, smallest and largest, and how often it was observed;
and, of the lines between observations at equal spacing, shares above a bias and maxima of random convolutions (see
:mod:`gendyn.evaluation.random_convolutions`), which read shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn.data import ControlPath
from gendyn.evaluation.random_convolutions import RandomConvolutions
from gendyn.randomness import Seed
from gendyn.sde.series import Series

__all__ = ["SeriesFeatures", "summaries"]

_KERNELS = 500
_FEWEST, _MOST = 16, 512
"""Rows onto which series are resampled, at least and at most."""


class SeriesFeatures:
    """Summaries and random convolutions of scaled series.

    Parameters
    ----------
    rows
        Times at equal spacing that convolutions read.
    convolutions
        Of :class:`~gendyn.evaluation.random_convolutions.RandomConvolutions`.
    """

    def __init__(self, rows: int, convolutions: RandomConvolutions) -> None:
        self.rows, self.convolutions = rows, convolutions

    @classmethod
    def fit(cls, series: Series, *, seed: Seed = 0) -> SeriesFeatures:
        """Draw convolutions for series such as these."""
        rows = int(min(max(int(series.lengths.max()), _FEWEST), _MOST))
        shown = _resampled(series, rows)
        return cls(rows, RandomConvolutions.fit(shown.numpy(), kernels=_KERNELS, components=None, seed=seed))

    def __call__(self, series: Series) -> Tensor:
        """Return the features ``(B, F)``."""
        shapes = torch.from_numpy(self.convolutions.features(_resampled(series, self.rows).numpy()))
        return torch.cat([summaries(series), shapes.to(series.values)], dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        found = self.convolutions
        state = {
            "rows": torch.tensor(self.rows),
            "shift": torch.from_numpy(found.shift),
            "width": torch.from_numpy(found.width),
        }
        for k, (dilation, padding, weights, biases) in enumerate(found.banks):
            state |= {f"{k}.span": torch.tensor([dilation, padding]), f"{k}.weights": weights, f"{k}.biases": biases}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> SeriesFeatures:
        """Return the features that :meth:`state_dict` described."""
        held = {name: value.cpu() for name, value in state.items()}
        banks = []
        for k in range(len({name.split(".")[0] for name in held if "." in name})):
            dilation, padding = held[f"{k}.span"].tolist()
            banks.append((dilation, padding, held[f"{k}.weights"], held[f"{k}.biases"]))
        convolutions = RandomConvolutions(tuple(banks), held["shift"].numpy(), held["width"].numpy(), None)
        return cls(int(held["rows"]), convolutions)


def summaries(series: Series) -> Tensor:
    """Return first, last, mean, deviation, smallest, largest and log count of every channel, ``(B, 7 D)``.

    Where a channel was not observed all are zero.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> summaries(read_series(torch.tensor([[1.0, torch.nan, 3.0]])))[0, :6].tolist()
    [1.0, 3.0, 2.0, 1.0, 1.0, 3.0]
    """
    seen, x = series.seen, series.values
    length = x.shape[1]
    place = torch.arange(length, device=x.device)[:, None]
    count = seen.sum(1)
    filled = torch.where(seen, x, 0.0)
    mean = filled.sum(1) / count.clamp_min(1)
    deviation = (torch.where(seen, x - mean[:, None], 0.0).square().sum(1) / count.clamp_min(1)).sqrt()
    first = torch.where(seen, place, length - 1).amin(1, keepdim=True)
    last = torch.where(seen, place, 0).amax(1, keepdim=True)
    found = [
        filled.gather(1, first)[:, 0],
        filled.gather(1, last)[:, 0],
        mean,
        deviation,
        torch.where(seen, x, torch.inf).amin(1),
        torch.where(seen, x, -torch.inf).amax(1),
        count.to(x).log1p(),
    ]
    return torch.cat([torch.where(count > 0, part, 0.0) for part in found], dim=1)


def _resampled(series: Series, rows: int) -> Tensor:
    """Return the lines between observations at equal spacing of each series, ``(B, rows, D)``, in double precision."""
    path = ControlPath(series.times, series.values, None, series.lengths, "linear")
    part = torch.linspace(0, 1, rows, dtype=torch.float64)
    return path(series.times[:, :1] + (series.times[:, -1:] - series.times[:, :1]) * part).cpu().to(torch.float64)
