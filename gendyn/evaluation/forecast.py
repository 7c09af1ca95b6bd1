r"""Forecasts: for each outcome, an ensemble drawn from what a model thought possible.

Outcome :math:`y_i(t_k) \in \mathbb{R}^d`, :math:`i = 1 \dots n`, has members :math:`x_i^{(1)}, \dots, x_i^{(M)}` at the
same times. Wherever real stands beside generated, the outcome is real and the members are generated:

- arrays: outcomes ``(n, T, d)`` and members ``(n, M, T, d)``; with one feature ``(n, T)`` and ``(n, M, T)``; at one
  time ``(n,)`` and ``(n, M)``;
- :class:`~gendyn.Paths`: n outcomes and :math:`n M` members, those of the first outcome first, as
  ``sample(process, x0.repeat_interleave(M, 0), times)`` gives them.

Outcomes may have gaps and times of their own: what was not observed does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.path_set import PathSet, Scale, path_sets, rescale
from gendyn.evaluation.points import Array, as_array, broken, what_is_broken

__all__ = ["Block", "Forecasts", "Members", "forecasts"]

Members = Paths | Tensor | Array

_BLOCK = 4_000_000
"""Member values in float64 at once."""


@dataclass(frozen=True)
class Block:
    """Some of the forecasts in float64: ``rows``, outcomes ``(b, T, d)``, what was observed, members ``(b, M, T, d)``.

    Outcomes and members are 0 where nothing was observed.
    """

    rows: slice
    outcome: Array
    observed: np.ndarray[Any, np.dtype[np.bool_]]
    members: Array


@dataclass(frozen=True)
class Forecasts:
    """Outcomes beside their members.

    Attributes
    ----------
    outcome
        ``n`` observed paths.
    members
        ``(n, M, T, d)`` in the type in which they were given.
    dropped
        Forecasts left out because a member was not finite.

    Examples
    --------
    >>> one = forecasts(np.zeros((5, 3)), np.ones((5, 10, 3)), metric="score")
    >>> len(one), one.n_members, one.members.shape
    (5, 10, (5, 10, 3, 1))
    """

    outcome: PathSet
    members: np.ndarray[Any, Any]
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def n_members(self) -> int:
        """Number of members ``M`` of each forecast."""
        return int(self.members.shape[1])

    def blocks(self, width: int = 1, scale: Scale = None) -> Iterator[Block]:
        """Return the forecasts a few at a time.

        Parameters
        ----------
        width
            How many numbers a caller makes of each member value; blocks are the smaller.
        scale
            Of the channels, see :func:`~gendyn.evaluation.path_set.rescale`; its statistics are those of all outcomes.
        """
        n, m, length, dim = self.members.shape
        outcome, unit = rescale(self.outcome, _unit(dim), scale)
        shift, size = unit.values[0, 0], unit.values[0, 1] - unit.values[0, 0]
        step = max(1, _BLOCK // (m * length * dim * width))
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            observed = self.outcome.observed[rows]
            members = self.members[rows].astype(np.float64) * size + shift
            yield Block(
                rows,
                np.where(observed, outcome.values[rows], 0.0),
                observed,
                np.where(observed[:, None], members, 0.0),
            )


def forecasts(
    real: Paths | Tensor | Array,
    generated: Members,
    *,
    metric: str,
    on_nan: Literal["raise", "count"] = "raise",
) -> Forecasts:
    """Return outcomes beside their members, or say what is wrong.

    Parameters
    ----------
    real
        Outcomes, see the module.
    generated
        Members, at least two of each outcome.
    metric
        Its name, for the sentences.
    on_nan
        ``"count"`` leaves out forecasts with a member that is not finite where its outcome was observed, and counts
        them.

    Raises
    ------
    TypeError
        If an argument is neither paths nor an array.
    ValueError
        If shapes or times do not fit, there are fewer than two members, or values are not finite.

    Examples
    --------
    >>> forecasts(np.zeros((5, 3)), np.ones((4, 10, 3)), metric="score")
    Traceback (most recent call last):
    ValueError: score needs members (5, M, 3, 1) for outcomes (5, 3, 1); got (4, 10, 3, 1)
    """
    if on_nan not in ("raise", "count"):
        raise ValueError(f"on_nan must be 'raise' or 'count'; got {on_nan!r}")
    lifted = real if isinstance(real, Paths) else _lifted(real)
    outcome, _ = path_sets(lifted, lifted, metric=metric, needs="any", minimum=1)
    members = _members(real, generated, outcome, metric)
    n, m, *rest = members.shape
    if n != len(outcome) or tuple(rest) != outcome.values.shape[1:]:
        raise ValueError(
            f"{metric} needs members ({len(outcome)}, M, {outcome.n_times}, {outcome.dim}) for outcomes "
            f"{outcome.values.shape}; got {members.shape}"
        )
    if m < 2:
        raise ValueError(f"{metric} needs at least two members of each forecast; got {m}")
    finite = np.empty(n, dtype=bool)
    for start in range(0, n, step := max(1, _BLOCK // members[0].size)):
        part = slice(start, start + step)
        bad = broken(members[part]) & outcome.observed[part, None]
        finite[part] = ~bad.any(axis=(1, 2, 3))
    if finite.all():
        return Forecasts(outcome, members)
    if on_nan == "raise" or not finite.any():
        raise ValueError(
            "members must be finite where their outcome was observed; got "
            f"{what_is_broken(np.where(outcome.observed[:, None], members, 0))} in {int((~finite).sum())} of {n} "
            "forecasts: count them with on_nan='count'"
        )
    return Forecasts(outcome.take(np.flatnonzero(finite)), members[finite], int((~finite).sum()))


def _lifted(real: Any) -> Array:
    array = as_array(real, "real outcomes")
    return array[:, None, None] if array.ndim == 1 else array


def _members(real: Any, generated: Members, outcome: PathSet, metric: str) -> np.ndarray[Any, Any]:
    """Return members ``(n, M, T, d)``; NaN where a path was not observed."""
    if isinstance(generated, Paths):
        n = len(outcome)
        if len(generated) % n:
            raise ValueError(
                f"{metric} needs as many generated paths for each of the {n} outcomes, those of the first outcome "
                f"first; got {len(generated)} paths"
            )
        values = generated.values.detach().cpu().numpy()
        if isinstance(real, Paths):
            _check_times(real, generated, outcome, metric)
        if generated.mask is not None or generated.lengths is not None:
            values = path_sets(generated, generated, metric=metric, needs="any", minimum=1)[0].values
        return values.reshape(n, -1, *values.shape[1:])
    members = as_array(generated, "generated members")
    if not isinstance(real, Paths) and np.ndim(real) == 1 and members.ndim == 2:
        return members[:, :, None, None]
    if members.ndim == 3 and outcome.dim == 1:
        members = members[..., None]
    if members.ndim != 4:
        raise ValueError(f"{metric} needs members (n, M, T, d) for outcomes (n, T, d); got shape {members.shape}")
    return members


def _check_times(real: Paths, generated: Paths, outcome: PathSet, metric: str) -> None:
    n, length = outcome.values.shape[:2]
    if generated.n_times != length:
        raise ValueError(
            f"{metric} needs members at the times of their outcomes; got {generated.n_times} and {length} times"
        )
    first = np.broadcast_to(outcome.times, (n, length))[:, None]
    theirs = generated.times.cpu().numpy()
    second = theirs if theirs.ndim == 1 else theirs.reshape(n, -1, length)
    tolerance = 1e-6 * max(1.0, float(np.abs(outcome.times).max()))
    seen = np.asarray(outcome.observed.any(axis=2))[:, None]
    apart = np.argwhere(np.where(seen, np.abs(first - second), 0.0) > tolerance)
    if len(apart):
        i, j, k = (int(v) for v in apart[0])
        other = second[k] if second.ndim == 1 else second[i, j, k]
        raise ValueError(
            f"{metric} needs members at the times of their outcomes; outcome {i} has {first[i, 0, k]:g} and a member "
            f"{other:g} at position {k}"
        )


def _unit(dim: int) -> PathSet:
    """Return the points 0 and 1 of every channel, by which a change of scale is read off."""
    values = np.stack([np.zeros(dim), np.ones(dim)])[None]
    return PathSet(values, np.arange(2.0), None, tuple(f"x{i}" for i in range(dim)))
