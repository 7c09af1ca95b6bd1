r"""Units of series and of static covariates, fitted on what is trained on.

Times of a series count from its own first one, in units of the longest span that was trained on, so that a model of the
same data in minutes or in days is the same model; channels are standardised by what was observed of them:

.. math:: \tau = \frac{t - t_0}{u}, \qquad z = \frac{x - m}{s} .
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gendyn.data.checks import as_tensor
from gendyn.sde.series import Series

__all__ = ["SeriesScaling", "StaticScaling", "mean_and_deviation", "normal_reach"]


class SeriesScaling:
    """Unit of time, and mean and standard deviation of every channel.

    Parameters
    ----------
    unit
        A unit of scaled time, in the user's.
    mean, deviation
        ``(D,)`` each.
    far
        Deviations beyond which a value says no more where gross outliers are no scale ``(D,)``, see
        :func:`normal_reach`.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> series = read_series(torch.tensor([[0.0, 2.0], [torch.nan, 4.0]]), times=[10.0, 30.0])
    >>> scaling = SeriesScaling.fit(series)
    >>> scaled = scaling.transform(series)
    >>> scaled.times.tolist(), scaling.mean.tolist()
    ([[0.0, 1.0], [0.0, 1.0]], [2.0])
    """

    def __init__(self, unit: float, mean: Tensor, deviation: Tensor, far: Tensor) -> None:
        self.unit, self.mean, self.deviation, self.far = unit, mean, deviation, far

    @classmethod
    def fit(cls, series: Series) -> SeriesScaling:
        """Fit unit, means and deviations; a channel that is constant or was never observed is not divided."""
        unit = float((series.times - series.times[:, :1]).max())
        mean, deviation = mean_and_deviation(series.values.flatten(0, 1))
        far = normal_reach(series.seen.sum((0, 1))).to(mean)
        return cls(unit if unit > 0 else 1.0, mean, deviation, far)

    def transform(self, series: Series) -> Series:
        """Return series in scaled units."""
        values = (series.values - self.mean) / self.deviation
        return Series(self.clock(series.times, series), values, series.lengths, series.labels, series.names)

    def near(self, scaled: Series) -> Series:
        """Return scaled series whose values lie within :attr:`far`."""
        values = scaled.values.clamp(-self.far, self.far)
        return Series(scaled.times, values, scaled.lengths, scaled.labels, scaled.names)

    def clock(self, times: Tensor, series: Series) -> Tensor:
        """Return times ``(Q,)`` or ``(B, Q)`` in scaled units of each series, ``(B, Q)``."""
        # Differences first, in double precision: large dates would lose them.
        return (times.to(torch.float64) - series.times[:, :1]) / self.unit

    def inverse(self, values: Tensor) -> Tensor:
        """Return scaled values ``(..., D)`` in the user's units."""
        return values * self.deviation + self.mean

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        return {
            "unit": torch.tensor(self.unit, dtype=torch.float64),
            "mean": self.mean,
            "deviation": self.deviation,
            "far": self.far,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> SeriesScaling:
        """Return the scaling that :meth:`state_dict` described."""
        return cls(float(state["unit"]), state["mean"], state["deviation"], state["far"])


class StaticScaling:
    """Standardised static covariates; what is unknown is the mean, with a column that says so.

    Examples
    --------
    >>> scaling = StaticScaling.fit(torch.tensor([[1.0], [3.0], [torch.nan]]))
    >>> scaling.transform(torch.tensor([[3.0], [torch.nan]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def __init__(self, mean: Tensor, deviation: Tensor, gaps: Tensor) -> None:
        self.mean, self.deviation, self.gaps = mean, deviation, gaps

    @classmethod
    def fit(cls, static: Tensor) -> StaticScaling:
        """Fit means, deviations, and which columns have gaps."""
        return cls(*mean_and_deviation(static), static.isnan().any(0))

    @property
    def width(self) -> int:
        """Number of columns that come out."""
        return len(self.mean) + int(self.gaps.sum())

    def transform(self, static: Tensor) -> Tensor:
        """Return covariates ``(B, width)``."""
        missing = static.isnan()
        z = torch.where(missing, 0.0, (static - self.mean) / self.deviation)
        return torch.cat([z, missing[:, self.gaps].to(z)], dim=1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        return {"mean": self.mean, "deviation": self.deviation, "gaps": self.gaps}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> StaticScaling:
        """Return the scaling that :meth:`state_dict` described."""
        return cls(state["mean"], state["deviation"], state["gaps"])


def read_static(static: Any, n: int) -> Tensor:
    """Return static covariates ``(n, S)``, NaN where unknown.

    Raises
    ------
    ValueError
        If there is not a row for each series, or one is infinite.

    Examples
    --------
    >>> read_static([1.0, 2.0], 2).shape
    torch.Size([2, 1])
    """
    values = as_tensor(static if not hasattr(static, "to_numpy") else static.to_numpy(np.float64), "static")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n:
        raise ValueError(f"static must have shape ({n}, S), a row for each series; got {tuple(values.shape)}")
    values = values if values.is_floating_point() else values.to(torch.float32)
    bad = torch.nonzero(values.isinf())
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(f"static covariates must be finite or NaN; series {i} has {float(values[i, k])} in column {k}")
    return values


def normal_reach(count: Tensor) -> Tensor:
    r"""Return how many deviations a sample of a normal law reaches, :math:`\sqrt{2 \log n}` for each size n.

    The largest of n independent draws lies below it with a probability that tends to one (Donoho and Johnstone 1994).

    Examples
    --------
    >>> [round(x, 2) for x in normal_reach(torch.tensor([100, 100_000])).tolist()]
    [3.03, 4.8]
    """
    return (2 * count.clamp_min(2).to(torch.float64).log()).sqrt()


def mean_and_deviation(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the columns of rows ``(N, D)`` with NaN; 0 and 1 where there are none.

    Examples
    --------
    >>> mean_and_deviation(torch.tensor([[1.0, 5.0], [3.0, torch.nan]]))
    (tensor([2., 5.]), tensor([1., 1.]))
    """
    seen = ~rows.isnan()
    count = seen.sum(0).clamp_min(1)
    x = torch.where(seen, rows, 0.0).to(torch.float64)
    mean = x.sum(0) / count
    deviation = (torch.where(seen, x - mean, 0.0).square().sum(0) / count).sqrt()
    flat = ~(deviation > 1e-9 * mean.abs())
    return mean.to(rows.dtype), torch.where(flat, 1.0, deviation).to(rows.dtype)
