r"""Long trajectories: what a metric of the long run takes in, and what its floor and interval are made of.

A metric of the long run compares time averages, so a single path is already a sample: its points in time are the
rows. They are not independent. Therefore one trajectory is

- halved in time, its first half against its last;
- resampled in blocks of :math:`\lceil T^{2/3} \rceil` successive points, drawn with replacement (moving-block
  bootstrap: Kuensch 1989), which keep the dependence within a block.

Several trajectories are halved and resampled whole, as any set of paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import numpy as np
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, path_sets
from gendyn.evaluation.points import Array, as_array
from gendyn.randomness import Seed

__all__ = ["Trajectories", "Trajectory", "compare", "trajectories"]

Trajectory = Paths | Tensor | Array
"""One or several paths; an array ``(T, N)`` is one of them, ``(T,)`` is one of one channel."""


@dataclass(frozen=True)
class Trajectories(PathSet):
    """Paths whose rows are points in time where there is one path, and paths where there are several.

    Examples
    --------
    >>> one, _ = trajectories(np.arange(8.0), np.arange(8.0), metric="gap")
    >>> len(one), [half.values[0, :, 0].tolist() for half in one.halves(np.random.default_rng(0))]
    (8, [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
    """

    def __len__(self) -> int:
        return self.n_times if self.single else len(self.values)

    @property
    def single(self) -> bool:
        """Whether there is one path."""
        return len(self.values) == 1

    @property
    def states(self) -> Array:
        """All states that were observed in every channel ``(P, N)``, whatever their path and time."""
        flat = self.values.reshape(-1, self.dim)
        return flat if self.mask is None else flat[self.mask.reshape(-1, self.dim).all(axis=1)]

    @property
    def time_step(self) -> float:
        """Mean distance of two successive times of the first path."""
        times = np.unique(self.times if self.times.ndim == 1 else self.times[0])
        return float(times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0

    def first(self, n: int) -> Self:
        """Return the first n times."""
        return self._at(np.arange(min(n, self.n_times)))

    def only(self, names: tuple[str, ...]) -> Self:
        """Return the channels with the given names."""
        return self.channels(np.isin(self.names, names))

    def halves(self, rng: np.random.Generator) -> tuple[Self, Self] | None:
        """Return the first and the last half in time of one path, two disjoint random halves of several."""
        if not self.single:
            return super().halves(rng)
        half = self.n_times // 2
        if half < 2:
            return None
        return self._at(np.arange(half)), self._at(np.arange(self.n_times - half, self.n_times))

    def resample(self, rng: np.random.Generator, size: int) -> Self:
        """Return as many points in time in blocks drawn from one path, or as many whole paths of several."""
        if not self.single:
            return super().resample(rng, size)
        block = math.ceil(self.n_times ** (2 / 3))
        starts = rng.integers(0, self.n_times - block + 1, math.ceil(size / block))
        steps = (starts[:, None] + np.arange(block)).reshape(-1)[:size]
        return replace(self._at(steps), times=self.times[..., :size])

    def _at(self, steps: np.ndarray[Any, Any]) -> Self:
        mask = None if self.mask is None else self.mask[:, steps]
        return replace(self, values=self.values[:, steps], times=self.times[..., steps], mask=mask)


def trajectories(
    real: Trajectory,
    generated: Trajectory,
    *,
    metric: str,
    even: bool = False,
    minimum_times: int = 2,
    on_nan: Literal["raise", "count"] = "raise",
) -> tuple[Trajectories, Trajectories]:
    """Return both sides as a metric of the long run wants them, or say what is wrong.

    Parameters
    ----------
    real, generated
        :class:`~gendyn.Paths`, or arrays ``(T, N)`` of one trajectory, ``(T,)`` of one channel, ``(n, T, N)`` of
        several. Their lengths need not be equal.
    metric
        Its name, for the sentences.
    even
        Whether the order of time counts: times must then be evenly spaced, with the same step on both sides.
    minimum_times
        Times that either side must hold.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``dropped``; real ones never.

    Raises
    ------
    TypeError
        If an argument is neither paths nor an array.
    ValueError
        If channels do not fit, there are too few times, values are not finite, or times are uneven where that matters.

    Examples
    --------
    >>> trajectories(np.zeros((5, 3)), np.zeros((7, 2)), metric="gap")
    Traceback (most recent call last):
    ValueError: real and generated must have the same number of channels; got (1, 5, 3) and (1, 7, 2)
    """
    pair = path_sets(
        _lifted(real, "real"),
        _lifted(generated, "generated"),
        metric=metric,
        needs="any",
        minimum=1,
        minimum_times=minimum_times,
        on_nan=on_nan,
    )
    one, two = (Trajectories(**{f.name: getattr(paths, f.name) for f in fields(PathSet)}) for paths in pair)
    if even:
        for name, paths in (("real", one), ("generated", two)):
            _check_even(paths, name, metric)
        if isinstance(real, Paths) and isinstance(generated, Paths):
            first, second = one.time_step, two.time_step
            if abs(first - second) > 1e-4 * max(first, second):
                raise ValueError(
                    f"{metric} needs real and generated trajectories with the same time step; "
                    f"got {first:g} and {second:g}"
                )
        elif isinstance(generated, Paths):
            one = replace(one, times=_clock(one.n_times, two.time_step))
        elif isinstance(real, Paths):
            two = replace(two, times=_clock(two.n_times, one.time_step))
    return one, two


def compare(
    name: str,
    value_of: Callable[[Trajectories, Trajectories], float],
    real: Trajectories,
    generated: Trajectories,
    *,
    reference: Trajectories | None,
    seed: Seed,
    n_bootstrap: int,
    bootstrap_size: int = 2**62,
    extra: dict[str, Any] | None = None,
) -> MetricResult:
    """Return a metric with floor and interval; the floor is that against ``reference``, a second real run, where given.

    An infinite value has no interval. ``extra`` holds the numbers of times, on which the metrics of the long run depend
    strongly, as ``times`` and ``floor_times``, and as ``floor_of`` that a floor is that against ``reference``.
    """
    notes = (extra or {}) | {"times": [real.n_times, generated.n_times], "dropped": generated.dropped}
    with np.errstate(invalid="ignore"):
        result = measure(
            name,
            value_of,
            real,
            generated,
            seed=seed,
            n_bootstrap=n_bootstrap,
            bootstrap_size=bootstrap_size,
            extra=notes,
        )
    floor, notes = result.floor, dict(result.extra)
    if reference is not None:
        floor = value_of(real, reference)
        notes |= {"floor_size": len(reference), "floor_times": reference.n_times, "floor_of": "reference"}
    elif floor is not None:
        notes["floor_times"] = real.n_times // 2 if real.single else real.n_times
    bounded = result.low is not None and math.isfinite(result.low)
    ends = (result.low, result.high) if bounded else (None, None)
    return replace(result, floor=floor, low=ends[0], high=ends[1], extra=notes)


def _lifted(source: Trajectory, name: str) -> Paths | Array:
    """Return an array of one trajectory as a set of one."""
    if isinstance(source, Paths):
        return source
    array = as_array(source, f"{name} trajectory")
    if array.ndim == 1:
        return array[None, :, None]
    return array[None] if array.ndim == 2 else array


def _clock(n: int, time_step: float) -> Array:
    return np.arange(n, dtype=np.float64) * time_step


def _check_even(paths: PathSet, name: str, metric: str) -> None:
    gaps = np.diff(np.atleast_2d(paths.times), axis=1)
    if paths.times.ndim == 2 and paths.mask is not None:
        # A path that has ended repeats its last time.
        gaps = np.where(gaps == 0, gaps[:, :1], gaps)
    step = float(np.median(gaps)) if gaps.size else 1.0
    # Times that were float32 once are even only up to its rounding.
    uneven = np.abs(gaps - step) > 1e-3 * abs(step) + 2.5e-7 * float(np.abs(paths.times).max())
    if uneven.any():
        i, k = (int(v) for v in np.argwhere(uneven)[0])
        raise ValueError(
            f"{metric} needs evenly spaced times; the {name} trajectories have a step of {gaps[i, k]:g} at position "
            f"{k + 1} where others have {step:g}: interpolate them to an even grid"
        )
