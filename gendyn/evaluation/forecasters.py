r"""Forecasters that need no learning worth the name: the rows that every table of forecasts must beat.

Each is fitted on training paths for two lists of their times, those that are known and those that are wanted, and then
predicts new paths at the wanted times from what was observed of them at the known ones:

- :class:`LastValue`: the last observation before (where there is none, the first one after);
- :class:`LinearInterpolation`: the line through the observations on both sides or, beyond the last, through the last
  two;
- :class:`RidgeRegression`: :math:`\hat y = \bar y + B (x - \bar x)` with
  :math:`\min_B \lVert Y - X B^\top \rVert^2 + \lambda \lVert B \rVert^2` over all known values, :math:`\lambda` by
  generalised cross-validation;
- :class:`Climatology`: the mean of the training paths at that time.

Wanted times may lie between known ones (interpolation) or behind them (forecasting). Ensembles add the errors that the
same forecaster made on one training path or another, whole paths of errors at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import as_times, listed
from gendyn.data.windows import as_paths
from gendyn.evaluation.filling import Integers, interpolated, observed_around
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = [
    "FORECASTERS",
    "Climatology",
    "Forecaster",
    "LastValue",
    "LinearInterpolation",
    "RidgeRegression",
    "training_free_forecasts",
]

_PENALTIES = np.logspace(-6, 3, 28)
"""Penalties tried, for each path and in units of the variance of a known value."""


class Forecaster:
    """What all cheap forecasters have in common: ``fit``, ``predict`` and, for ensembles, ``members``."""

    def fit(
        self, train: Paths | Tensor | Array, known: Iterable[float] | Tensor, wanted: Iterable[float] | Tensor
    ) -> Self:
        """Learn from training paths what follows from values at the known times for those at the wanted ones.

        Parameters
        ----------
        train
            Paths at shared times, or an array ``(n, T, d)`` at times 0, 1, 2, ...; gaps are allowed.
        known, wanted
            Times, each among those of the training paths, and none in both.

        Raises
        ------
        ValueError
            If a time is not there or stands in both lists, a list is empty, or a channel was never observed at the
            known times or at a wanted one.
        """
        source = as_paths(train)
        paths, _ = path_sets(source, source, metric=type(self).__name__, needs="shared")
        self._known = _places(paths.times, known, "known")
        self._wanted = _places(paths.times, wanted, "wanted")
        both = set(self._known) & set(self._wanted)
        if both:
            raise ValueError(f"a time is known or wanted; {paths.times[min(both)]:g} is both")
        self._clock = paths.times
        self._names = source.names
        outcomes = paths.values[:, self._wanted]
        unseen = np.argwhere(np.isnan(outcomes).all(0))
        if len(unseen):
            k, channel = unseen[0]
            raise ValueError(
                f"channel {paths.names[channel]!r} was never observed at the wanted time "
                f"{self._clock[self._wanted[k]]:g} in training"
            )
        self._climate = np.nanmean(outcomes, axis=0)
        self._learn(paths.values)
        errors = outcomes - self._foresee(paths.values[:, self._known])
        complete = errors[~np.isnan(errors).any((1, 2))]
        self._errors = complete if len(complete) else np.nan_to_num(errors)
        return self

    def predict(self, paths: Paths | Tensor | Array) -> Paths:
        """Return a forecast for each path at the wanted times, from what was observed at the known ones alone.

        Raises
        ------
        RuntimeError
            If it was not fitted.
        ValueError
            If a known time is not among those of the paths, or they have other channels than the training paths.
        """
        source, values = self._read(paths)
        return self._paths(source, self._foresee(values))

    def members(self, paths: Paths | Tensor | Array, n: int, *, seed: Seed = 0) -> Paths:
        """Return ``n`` members for each path, those of the first path first: its forecast plus errors of training.

        Raises
        ------
        ValueError
            If ``n`` is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        source, values = self._read(paths)
        rng = numpy_generator(derive_seed(as_seed(seed), "members"))
        drawn = rng.integers(0, len(self._errors), (len(values), n))
        found = self._foresee(values)[:, None] + self._errors[drawn]
        return self._paths(source, found.reshape(-1, *found.shape[2:]))

    def _read(self, paths: Paths | Tensor | Array) -> tuple[Paths, Array]:
        if not hasattr(self, "_errors"):
            raise RuntimeError(f"this {type(self).__name__} was not fitted; call fit(train, known, wanted) first")
        source = as_paths(paths)
        given, _ = path_sets(source, source, metric=type(self).__name__, needs="shared", minimum=1)
        places = _places(given.times, self._clock[self._known], "known")
        values = given.values[:, places]
        dim = self._climate.shape[1]
        if values.shape[2] != dim:
            raise ValueError(
                f"this {type(self).__name__} was fitted on {dim} channels; got paths with {values.shape[2]}"
            )
        return source, values

    def _paths(self, source: Paths, values: Array) -> Paths:
        dtype = source.dtype if source.values.is_floating_point() else torch.float32
        times = self._clock[self._wanted]
        info = {"forecaster": type(self).__name__}
        return Paths(times, torch.from_numpy(values).to(source.device, dtype), names=self._names, info=info)

    def _learn(self, paths: Array) -> None:
        """Learn from training paths ``(n, T, d)``, NaN where not observed, beyond their means at the wanted times."""

    def _foresee(self, values: Array) -> Array:
        """Return forecasts ``(n, wanted, d)`` from values ``(n, known, d)``, NaN where not observed."""
        raise NotImplementedError

    def _on_grid(self, values: Array) -> Array:
        """Return values ``(n, T, d)`` on all times of training, NaN where not known."""
        grid = np.full((len(values), len(self._clock), values.shape[2]), np.nan)
        grid[:, self._known] = values
        return grid

    def _or_climate(self, found: Array) -> Array:
        """Return forecasts, that of the climatology where a path was not observed at all."""
        return np.asarray(np.where(np.isnan(found), self._climate, found))


class LastValue(Forecaster):
    """The last observation of each channel.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(2, 6, 1)
    >>> LastValue().fit(x, known=range(4), wanted=[4, 5]).predict(x).values[0, :, 0].tolist()
    [3.0, 3.0]
    """

    def _foresee(self, values: Array) -> Array:
        grid = self._on_grid(values)
        before, after = (places[:, self._wanted] for places in observed_around(~np.isnan(grid)))
        place = np.where(before >= 0, before, after)
        return self._or_climate(np.take_along_axis(grid, np.clip(place, 0, len(self._clock) - 1), axis=1))


class LinearInterpolation(Forecaster):
    """The line through the nearest observations on both sides; outside of all, through the two at that end.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(2, 6, 1)
    >>> LinearInterpolation().fit(x, known=[0, 2, 3], wanted=[1, 5]).predict(x).values[0, :, 0].tolist()
    [1.0, 5.0]
    """

    def _foresee(self, values: Array) -> Array:
        grid = self._on_grid(values)
        length = len(self._clock)
        before, after = observed_around(~np.isnan(grid))
        left, right = before[:, self._wanted], after[:, self._wanted]

        def at(place: Integers, of: Array | Integers) -> Any:
            return np.take_along_axis(np.broadcast_to(of, grid.shape), np.clip(place, 0, length - 1), axis=1)

        # Beyond one end of the observations: that end and its neighbour, or itself where it has none.
        second = np.where(left > 0, at(left - 1, before), -1)
        third = np.where(right < length - 1, at(right + 1, after), length)
        start = np.where(left < 0, right, np.where(right < length, left, np.where(second < 0, left, second)))
        end = np.where(left < 0, np.where(third < length, third, right), np.where(right < length, right, left))
        clock = self._clock[None, :, None]
        span = at(end, clock) - at(start, clock)
        ahead = self._clock[self._wanted][None, :, None] - at(start, clock)
        part = np.divide(ahead, span, out=np.zeros_like(span), where=span != 0)
        return self._or_climate(at(start, grid) + part * (at(end, grid) - at(start, grid)))


class RidgeRegression(Forecaster):
    """Linear regression on all known values, with a penalty for each wanted value by generalised cross-validation.

    Gaps are filled along the line between observations first.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 6, 1)).cumsum(1)
    >>> forecast = RidgeRegression().fit(x[:100], known=range(5), wanted=[5]).predict(x[100:])
    >>> float((forecast.values[:, 0, 0] - torch.from_numpy(x[100:, 4, 0])).abs().mean()) < 0.3
    True
    """

    def _learn(self, paths: Array) -> None:
        known = interpolated(paths[:, self._known], self._clock[self._known])
        count = np.maximum(1, (~np.isnan(known)).sum(0))
        self._mean = np.nan_to_num(known).sum(0) / count
        deviation = np.sqrt((np.nan_to_num(known - self._mean) ** 2).sum(0) / count)
        self._deviation = np.where(deviation > 0, deviation, 1.0)
        outcomes = interpolated(paths, self._clock)[:, self._wanted]
        outcomes = np.where(np.isnan(outcomes), self._climate, outcomes).reshape(len(paths), -1)
        regression = RidgeCV(alphas=len(paths) * _PENALTIES, alpha_per_target=True)
        self._regression = regression.fit(self._inputs(paths[:, self._known]), outcomes)

    def _foresee(self, values: Array) -> Array:
        found = np.asarray(self._regression.predict(self._inputs(values)))
        return found.reshape(len(values), len(self._wanted), -1)

    def _inputs(self, values: Array) -> Array:
        """Return known values without gaps, in units of their deviation ``(n, known d)``."""
        filled = interpolated(values, self._clock[self._known])
        centred = np.nan_to_num((filled - self._mean) / self._deviation)
        return np.asarray(centred.reshape(len(values), -1))


class Climatology(Forecaster):
    """The mean of the training paths at the wanted times, whatever was observed.

    Examples
    --------
    >>> x = np.arange(12.0).reshape(2, 6, 1)
    >>> Climatology().fit(x, known=[0], wanted=[4, 5]).predict(x).values[0, :, 0].tolist()
    [7.0, 8.0]
    """

    def _foresee(self, values: Array) -> Array:
        return np.repeat(self._climate[None], len(values), axis=0)


FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    "last value": LastValue,
    "linear": LinearInterpolation,
    "ridge": RidgeRegression,
    "climatology": Climatology,
}
"""Cheap forecasters by the names of their rows."""


def training_free_forecasts(
    train: Paths | Tensor | Array,
    paths: Paths | Tensor | Array,
    known: Iterable[float] | Tensor,
    wanted: Iterable[float] | Tensor,
) -> dict[str, Paths]:
    """Return the forecasts of every cheap forecaster for the same paths, by the names of their rows.

    Parameters
    ----------
    train, known, wanted
        As for :meth:`Forecaster.fit`.
    paths
        As for :meth:`Forecaster.predict`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 6, 1)).cumsum(1)
    >>> list(training_free_forecasts(x[:25], x[25:], known=range(5), wanted=[5]))
    ['last value', 'linear', 'ridge', 'climatology']
    """
    known, wanted = as_times(known), as_times(wanted)
    return {name: kind().fit(train, known, wanted).predict(paths) for name, kind in FORECASTERS.items()}


def _places(times: Array, asked: Iterable[float] | Tensor, name: str) -> Integers:
    """Return the places of times among those there are, in order."""
    wanted = np.array(as_times(asked))
    if not len(wanted):
        raise ValueError(f"{name} must hold at least one time; got none")
    gaps = np.abs(times[:, None] - wanted)
    missing = gaps.min(0) > 1e-6 * max(1.0, float(np.abs(times).max()))
    if missing.any():
        raise ValueError(
            f"the paths have no {name} time {wanted[missing][0]:g}; there are {listed(torch.from_numpy(times))}"
        )
    return np.unique(gaps.argmin(0))
