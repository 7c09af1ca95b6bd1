r"""What a model of trajectories says of the next observation, given those before it: its mean and how far it strays."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.interpolants.observation_noise import ObservationNoise
from gendyn.interpolants.observed_series import ObservedSeries
from gendyn.interpolants.trajectory_process import GapProcess

__all__ = ["NextObservation"]


class NextObservation(ABC):
    """One-step predictions of observed series, for a model that has a process of one gap."""

    process_: GapProcess
    noise_: ObservationNoise | None
    history: int
    clock: bool
    names_: tuple[str, ...] | None

    def predict(self, data: Paths) -> Paths:
        """Return the expected value of every observation but the first of a series, given those before it.

        Parameters
        ----------
        data
            Observed series.

        Returns
        -------
        Paths
            Shaped as the observed rows of ``data`` pushed together, with the mask true where there is a prediction.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If no series was observed twice, or features or labels do not fit.
        """
        series, predicted, *place = self._one_step(data)
        return self._pushed_together(data, series, predicted, *place)

    def predict_std(self, data: Paths) -> Paths:
        """Return the standard deviation of every observation but the first of a series, given those before it.

        Parameters
        ----------
        data
            Observed series.

        Returns
        -------
        Paths
            As of :meth:`predict`, in the units of the data.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the model has no noise head, no series was observed twice, or features or labels do not fit.
        """
        series = self._observed(data)
        if self.noise_ is None:
            raise ValueError("this model learned no standard deviations; fit it with noise_head=True")
        path, row, context = self._gaps(data, series)
        with torch.no_grad():
            deviation = self.noise_(series.values[path, row], context)[1] * self.process_.scale
        return self._pushed_together(data, series, deviation, path, row)

    def score(self, data: Paths) -> float:
        """Return minus the root mean square error of the next observation, in units of the scaled data.

        Each observation is predicted by its mean given those before it; hidden entries are left out. Higher is better;
        what cannot be foreseen stays.

        Parameters
        ----------
        data
            Series, of which at least one was observed twice.
        """
        series, predicted, path, row = self._one_step(data)
        seen = series.seen[path, row + 1]
        error = (predicted - self.process_.shift) / self.process_.scale - series.values[path, row + 1]
        return -float((error.square() * seen).sum().div(seen.sum()).sqrt())

    @abstractmethod
    def _observed(self, data: Paths) -> ObservedSeries:
        """Return series in the units of the fit; a model that is not fitted has none, and says so."""

    @abstractmethod
    def _codes(self, data: Paths) -> Tensor | None:
        """Return encoded labels of series."""

    def _gaps(self, data: Paths, series: ObservedSeries) -> tuple[Tensor, Tensor, Tensor]:
        """Return path and row at the start of every gap, and what is known there."""
        path, row = series.gaps.T
        if len(path) == 0:
            raise ValueError("no series was observed at two times; there is nothing to predict")
        codes = self._codes(data)
        context = series.known(path, row, self.history).context(
            series.times[path, row + 1] - series.times[path, row],
            history=self.history,
            clock=self.clock,
            label=None if codes is None else codes[path],
        )
        return path, row, context

    def _one_step(self, data: Paths) -> tuple[ObservedSeries, Tensor, Tensor, Tensor]:
        """Return the observed series, and the mean of the next observation at path and row of every gap."""
        series = self._observed(data)
        path, row, context = self._gaps(data, series)
        gap = series.times[path, row + 1] - series.times[path, row]
        start = series.values[path, row] * self.process_.scale + self.process_.shift
        with torch.no_grad():
            mean = self.process_.given(context, gap).target(torch.zeros((), dtype=start.dtype), start)
            if self.noise_ is not None:
                mean = mean + self.noise_(series.values[path, row], context)[0] * self.process_.scale
        return series, mean, path, row

    def _pushed_together(self, data: Paths, series: ObservedSeries, found: Tensor, path: Tensor, row: Tensor) -> Paths:
        """Return values of the end of every gap as paths."""
        values = torch.zeros_like(series.values)
        mask = torch.zeros_like(series.seen)
        values[path, row + 1], mask[path, row + 1] = found, True
        times = (series.times * series.unit + series.origin).cpu()
        last = times.gather(1, (series.counts - 1).clamp_min(0).cpu()[:, None])
        times = torch.where(torch.arange(times.shape[1]) < series.counts.cpu()[:, None], times, last)
        return Paths(times, values, mask, series.counts.clamp_min(1), data.labels, self.names_)
