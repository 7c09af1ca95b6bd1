r"""Gaps in paths, filled by walks whose steps are observed ones.

Between observed values :math:`x(a)` and :math:`x(b)` a gap is filled by a random walk :math:`S` tied to both ends,

.. math:: x(t) = x(a) + S(t) - S(a) + \frac{t - a}{b - a} \bigl( x(b) - x(a) - S(b) + S(a) \bigr),

with steps drawn from those between neighbouring observations and scaled by the root of their length: a Brownian bridge
that need not be Gaussian. Before the first and after the last observation the walk is tied to that one end. Steps of
all channels are drawn together where enough were observed together, so that channels that move together still do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gendyn.data import Paths
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["bridge_gaps", "interpolated", "observed_around"]

Bools = np.ndarray[Any, np.dtype[np.bool_]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

_TOGETHER = 100
"""Steps observed in all channels at once from which on those of all channels are drawn together."""


def bridge_gaps(paths: Paths, *, log: bool = False, seed: Seed = 0) -> Paths:
    """Return paths with every gap filled by a tied random walk of resampled steps.

    Parameters
    ----------
    paths
        Paths at shared times, with gaps or without.
    log
        Walk on logarithms, for positive quantities whose steps grow with their size.
    seed
        Root of the randomness of the steps.

    Returns
    -------
    Paths
        Complete. A channel of which a path has no observation starts from an observed value of another path.

    Raises
    ------
    ValueError
        If paths have times of their own, a channel was never observed, or ``log`` meets a value that is not positive.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 9.0, 9.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    >>> seen = torch.tensor([[True, False, False, True], [True] * 4])
    >>> bridge_gaps(Paths(range(4), x, mask=seen)).values[0, :, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    known, _ = path_sets(paths, paths, metric="bridge_gaps", needs="shared", minimum=1)
    if known.mask is None:
        return paths
    values = known.values
    if log:
        if not np.nanmin(values) > 0:
            raise ValueError(f"logarithms need positive values; got {np.nanmin(values):g}: use log=False")
        values = np.log(values)
    rng = numpy_generator(derive_seed(as_seed(seed), "gaps"))
    filled = _fill(values, known.times, rng)
    filled = np.exp(filled) if log else filled
    dtype = paths.dtype if paths.values.is_floating_point() else torch.float32
    result = torch.from_numpy(np.where(known.mask, known.values, filled)).to(paths.device, dtype)
    return Paths(paths.times, result, labels=paths.labels, names=paths.names, info=paths.info)


def observed_around(seen: Bools) -> tuple[Integers, Integers]:
    """Return the places of the last observation up to each time and of the first from it on, ``(n, T, d)``.

    Where there is none they are -1 and T.

    Examples
    --------
    >>> before, after = observed_around(np.array([False, True, False, True, False]).reshape(1, 5, 1))
    >>> before.ravel().tolist(), after.ravel().tolist()
    ([-1, 1, 1, 3, 3], [1, 1, 3, 3, 5])
    """
    length = seen.shape[1]
    index = np.arange(length)[None, :, None]
    before = np.maximum.accumulate(np.where(seen, index, -1), axis=1)
    after = np.minimum.accumulate(np.where(seen, index, length)[:, ::-1], axis=1)[:, ::-1]
    return before, after


def interpolated(values: Array, times: Array) -> Array:
    """Return values ``(n, T, d)`` with NaN filled along the line between observations, and held beyond them.

    Where a path was not observed in a channel at all, NaN stays.

    Examples
    --------
    >>> x = np.array([np.nan, 1.0, np.nan, 4.0, np.nan]).reshape(1, 5, 1)
    >>> interpolated(x, np.array([0.0, 1.0, 3.0, 4.0, 5.0])).ravel().tolist()
    [1.0, 1.0, 3.0, 4.0, 4.0]
    """
    length = len(times)
    before, after = observed_around(~np.isnan(values))
    left, right = np.where(before < 0, after, before), np.where(after >= length, before, after)
    clock = np.broadcast_to(times[None, :, None], values.shape)

    def at(place: Integers, of: Array) -> Array:
        return np.take_along_axis(of, np.clip(place, 0, length - 1), axis=1)

    start, span = at(left, clock), at(right, clock) - at(left, clock)
    part = np.divide(clock - start, span, out=np.zeros_like(values), where=span != 0)
    return np.asarray(at(left, values) + part * (at(right, values) - at(left, values)))


def _fill(values: Array, times: Array, rng: np.random.Generator) -> Array:
    """Return the values ``(n, T, d)`` of tied walks."""
    start = _starts(values, rng)
    walk = _walk(values, times, rng)
    tied = interpolated(values, times) + walk - interpolated(np.where(np.isnan(values), np.nan, walk), times)
    return np.asarray(np.where(np.isnan(tied), start + walk, tied))


def _walk(values: Array, times: Array, rng: np.random.Generator) -> Array:
    """Return free walks from zero ``(n, T, d)`` of steps drawn from those observed."""
    n, length, dim = values.shape
    gaps = np.sqrt(np.abs(np.diff(times)))[:, None]
    steps = (np.diff(values, axis=1) / gaps).reshape(-1, dim)
    together = steps[~np.isnan(steps).any(1)]
    if len(together) >= (_TOGETHER if dim > 1 else 1):
        drawn = together[rng.integers(0, len(together), (n, length - 1))]
    else:
        pools = [_steps(values[..., k], steps[:, k], times) for k in range(dim)]
        drawn = np.stack([rng.choice(pool, (n, length - 1)) for pool in pools], axis=2)
    return np.concatenate([np.zeros((n, 1, dim)), (drawn * gaps).cumsum(1)], axis=1)


def _steps(values: Array, neighbours: Array, times: Array) -> Array:
    """Return the steps of one channel between neighbouring times or, if none was observed, across gaps."""
    pool = neighbours[~np.isnan(neighbours)]
    if len(pool):
        return pool
    path, place = np.nonzero(~np.isnan(values))
    same = np.diff(path) == 0
    steps, gaps = np.diff(values[path, place])[same], np.abs(np.diff(times[place]))[same]
    return np.asarray(steps / np.sqrt(gaps)) if len(steps) else np.zeros(1)


def _starts(values: Array, rng: np.random.Generator) -> Array:
    """Return an observed value of each channel for each path ``(n, 1, d)``."""
    columns = [column[~np.isnan(column)] for column in np.moveaxis(values, 2, 0)]
    return np.stack([rng.choice(column, (len(values), 1)) for column in columns], axis=2)
