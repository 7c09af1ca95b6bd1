r"""What a stable SDE is told at every step: time, how often and how long ago one looked, and what the series did.

Within a step from :math:`\tau_k` to :math:`\tau_{k+1}` a channel is summed up by its Legendre moments

.. math:: c_{k, j} = \frac{\sqrt{2 j + 1}}{2} \int_{-1}^{1} X\!\left(\tfrac{\tau_k + \tau_{k+1}}{2}
    + \tfrac{\tau_{k+1} - \tau_k}{2}\, u\right) P_j(u)\, du, \qquad j = 0, \dots, J ,

the mean, the slope, the curvature and so on: the iterated integrals of the channel against time, in better-conditioned
coordinates. A solver may so take steps that are much longer than the gaps between observations. They see one step
ahead; without moments the control at :math:`\tau_k` is the value there, as published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from gendyn.data import ControlMethod, ControlPath, observation_counts
from gendyn.sde.series import Series

__all__ = ["ControlChannel", "ControlChannels"]

ControlChannel = Literal["time", "intensity", "delta"]

_BLOCK = 4_000_000
"""Values of control paths at once."""


class ControlChannels:
    """The control of every series at every step of a solver, from what was observed.

    Parameters
    ----------
    method
        How observations are joined, see :class:`~gendyn.data.ControlPath`.
    channels
        Further channels before the values, in this order: ``"time"``, ``"intensity"`` (for each channel how often it
        was observed so far) and ``"delta"`` (time since it was).
    degree
        Highest Legendre moment ``J``; ``None`` takes values.
    scale
        Of every moment ``(D, J + 1)``.
    count
        Most observations of a channel of a series.

    Raises
    ------
    ValueError
        If a channel or the method is unknown, the degree negative, or a rectilinear control comes without time.
    """

    def __init__(
        self,
        method: ControlMethod = "hermite",
        channels: Sequence[ControlChannel] = ("time",),
        degree: int | None = 4,
        scale: Tensor | None = None,
        count: float = 1.0,
    ) -> None:
        if method not in get_args(ControlMethod):
            raise ValueError(f"control must be one of {', '.join(get_args(ControlMethod))}; got {method!r}")
        wrong = [name for name in channels if name not in get_args(ControlChannel)]
        if wrong or isinstance(channels, str):
            raise ValueError(f"channels must be some of {', '.join(get_args(ControlChannel))}; got {channels!r}")
        if method == "rectilinear" and "time" not in channels:
            raise ValueError("control='rectilinear' jumps and needs channels=('time', ...) to say when")
        whole: Any = degree
        if whole is not None and not isinstance(whole, Integral):
            raise ValueError(f"degree must be a whole number, or None for values; got {degree!r}")
        if degree is not None and degree < 0:
            raise ValueError(f"degree must be at least 0, or None for values; got {degree}")
        self.method, self.channels, self.degree = method, tuple(channels), degree
        self.scale, self.count = scale, count

    def width(self, dim: int) -> int:
        """Return the number of control channels of series with ``D`` channels."""
        named = {"time": 1, "intensity": dim, "delta": dim}
        return sum(named[name] for name in self.channels) + dim * (1 if self.degree is None else self.degree + 1)

    def fit(self, series: Series, grid: Tensor) -> ControlChannels:
        """Return the same with scales of moments and counts of scaled series."""
        count = float(series.seen.sum(1).max())
        scale = None
        if self.degree is not None:
            moments = self._moments(series, grid)
            scale = moments.square().mean((0, 1)).sqrt()
            scale = torch.where(scale > 1e-9, scale, 1.0)
        return ControlChannels(self.method, self.channels, self.degree, scale, max(count, 1.0))

    def __call__(self, series: Series, grid: Tensor) -> Tensor:
        """Return the controls ``(B, M, d_x)`` of scaled series on a grid ``(M,)`` or ``(B, M)``."""
        wide = grid.expand(len(series), -1)
        parts = []
        if "time" in self.channels:
            parts.append(wide.to(series.values)[:, :, None])
        if {"intensity", "delta"} & set(self.channels):
            # The last row at or before each time of the grid.
            row = torch.searchsorted(series.times.contiguous(), wide.contiguous(), right=True) - 1
            row = torch.minimum(row, series.lengths[:, None] - 1).to(series.values.device)[:, :, None]
            row = row.expand(-1, -1, series.dim)
        if "intensity" in self.channels:
            parts.append((observation_counts(series.seen).gather(1, row) / self.count).to(series.values))
        if "delta" in self.channels:
            clock = series.times.to(series.values.device)[:, :, None].expand(series.values.shape)
            start = series.times[:, :1, None].to(series.values.device)
            latest = torch.where(series.seen, clock, start).cummax(1).values.gather(1, row)
            parts.append((wide.to(latest)[:, :, None] - latest).to(series.values))
        if self.degree is None:
            parts.append(self._path(series)(wide))
        else:
            moments = self._moments(series, grid)
            parts.append((moments if self.scale is None else moments / self.scale).flatten(2))
        return torch.cat(parts, dim=2)

    def _path(self, series: Series) -> ControlPath:
        return ControlPath(series.times, series.values, None, series.lengths, self.method)

    def _moments(self, series: Series, grid: Tensor) -> Tensor:
        """Return the moments of every step ``(B, M, D, J + 1)``; of the last time, which begins none, its value."""
        degree = self.degree or 0
        wide = grid.expand(len(series), -1)
        per_step = series.values.shape[1] / max(wide.shape[1] - 1, 1)
        points = int(min(max(2 * degree + 4, 2 * per_step), 64))
        nodes, weights = np.polynomial.legendre.leggauss(points)
        basis = np.polynomial.legendre.legvander(nodes, degree) * np.sqrt(2 * np.arange(degree + 1) + 1)
        product = torch.from_numpy(basis * weights[:, None] / 2).to(series.values)
        half = torch.cat([wide.diff(dim=1), torch.zeros_like(wide[:, :1])], dim=1) / 2
        places = (wide + half)[:, :, None] + half[:, :, None] * torch.from_numpy(nodes)
        size = max(1, _BLOCK // (places[0].numel() * series.dim))
        found = []
        for start in range(0, len(series), size):
            rows = slice(start, start + size)
            path = self._path(series.rows(rows))
            values = path(places[rows].flatten(1)).reshape(-1, *places.shape[1:], series.dim)
            found.append(torch.einsum("bmqd,qj->bmdj", values, product))
        return torch.cat(found)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was fitted by name."""
        state = {"count": torch.tensor(self.count, dtype=torch.float64)}
        return state if self.scale is None else state | {"scale": self.scale}

    def with_state(self, state: Mapping[str, Tensor]) -> ControlChannels:
        """Return the same with what :meth:`state_dict` described."""
        scale = None if self.degree is None else state["scale"]
        return ControlChannels(self.method, self.channels, self.degree, scale, float(state["count"]))
