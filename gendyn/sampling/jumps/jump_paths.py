r"""Paths of a jump process, event by event.

A path is :math:`X_t = s_k` for :math:`\tau_k \le t < \tau_{k+1}`, with event times :math:`\tau_1 < \tau_2 < \dots`
and the states :math:`s_0, s_1, \dots` between them: piecewise constant, continuous from the right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, as_tensor, check_finite, exact_times

__all__ = ["JumpPaths"]


class JumpPaths:
    """Every event of every path up to a time.

    Parameters
    ----------
    event_times
        ``(B, E)``, float64, increasing along a row and padded with infinity.
    event_states
        ``(B, E + 1, d)``, integers: the start state, then the state after each event; padding repeats the last.
    counts
        ``(B,)`` number of events of each path.
    start, end
        The time of the first state, and the time up to which the paths are known.
    names
        Names of the components, or ``None``.
    states
        Names of the states, or ``None``.
    info
        How the paths were made.

    Raises
    ------
    ValueError
        If shapes do not fit, states are not whole numbers, or times fall, lie outside ``start`` to ``end``, or are not
        padded with infinity after the last event.

    Examples
    --------
    >>> paths = JumpPaths([[0.5, 2.0], [1.0, float("inf")]], [[[0], [1], [0]], [[1], [0], [0]]], [2, 1], end=3.0)
    >>> paths
    JumpPaths(2 paths, 3 events from 0 to 3, 1 component)
    >>> paths.at([0.0, 0.5, 1.0]).values[..., 0].tolist()
    [[0, 1, 1], [1, 1, 0]]
    """

    __slots__ = ("_counts", "_end", "_info", "_names", "_start", "_state_names", "_states", "_times")

    def __init__(
        self,
        event_times: ArrayLike,
        event_states: ArrayLike,
        counts: ArrayLike,
        *,
        start: float = 0.0,
        end: float = math.inf,
        names: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        times = as_tensor(event_times, "event_times").to(torch.float64)
        values, number = as_tensor(event_states, "event_states"), as_tensor(counts, "counts")
        if times.ndim != 2 or len(times) == 0:
            raise ValueError(f"event_times must have shape (B, E), a row per path; got {tuple(times.shape)}")
        n, most = times.shape
        if values.ndim != 3 or values.shape[:2] != (n, most + 1) or values.shape[2] == 0:
            raise ValueError(
                f"event_states must have shape ({n}, {most + 1}, d), one more state than events; got "
                f"{tuple(values.shape)}"
            )
        if number.shape != (n,):
            raise ValueError(f"counts must have shape ({n},), one number per path; got {tuple(number.shape)}")
        for what, tensor in (("event_states", values), ("counts", number)):
            if tensor.is_floating_point() and not bool((tensor == tensor.round()).all()):
                raise ValueError(f"{what} must hold whole numbers; got fractions: jump processes live on integers")
        if not start < end:
            raise ValueError(f"end must come after start; got {end:g} after {start:g}")
        self._times, self._states = times, values.to(torch.int64)
        self._counts = number.to(torch.int64)
        self._start, self._end = float(start), float(end)
        self._names = None if names is None else tuple(names)
        self._state_names = None if states is None else tuple(states)
        self._info = dict(info or {})
        self._check()

    def _check(self) -> None:
        times, counts = self._times, self._counts
        if bool((counts < 0).any()) or bool((counts > times.shape[1]).any()):
            raise ValueError(
                f"counts must lie in 0 to {times.shape[1]}, the columns of event_times; got {int(counts.min())} to "
                f"{int(counts.max())}"
            )
        if times.shape[1] == 0:
            return
        inside = torch.arange(times.shape[1]) < counts[:, None]
        wrong = torch.nonzero(torch.where(inside, ~torch.isfinite(times), times != math.inf))
        if len(wrong):
            i, k = wrong[0].tolist()
            raise ValueError(
                f"event_times must be finite for the first counts[i] events of path i and infinite after; got "
                f"{float(times[i, k]):g} in row {i}, column {k}, of {int(counts[i])} events"
            )
        falls = torch.nonzero(times[:, 1:] < times[:, :-1])
        if len(falls):
            i, k = falls[0].tolist()
            raise ValueError(
                f"event_times must increase along a row; got {float(times[i, k + 1]):g} after {float(times[i, k]):g} "
                f"in row {i}: sort the events"
            )
        outside = torch.nonzero(inside & ((times < self._start) | (times > self._end)))
        if len(outside):
            i, k = outside[0].tolist()
            raise ValueError(
                f"event_times must lie in {self._start:g} to {self._end:g}; got {float(times[i, k]):g} in row {i}: set "
                "start and end"
            )

    @property
    def event_times(self) -> Tensor:
        """Times of the events ``(B, E)``, padded with infinity."""
        return self._times

    @property
    def event_states(self) -> Tensor:
        """The start state and the state after each event, ``(B, E + 1, d)``."""
        return self._states

    @property
    def counts(self) -> Tensor:
        """Number of events of each path ``(B,)``."""
        return self._counts

    @property
    def start(self) -> float:
        """The time of the first state."""
        return self._start

    @property
    def end(self) -> float:
        """The time up to which the paths are known."""
        return self._end

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the components, or ``None``."""
        return self._names

    @property
    def states(self) -> tuple[str, ...] | None:
        """Names of the states, or ``None``."""
        return self._state_names

    @property
    def info(self) -> Mapping[str, Any]:
        """How the paths were made."""
        return MappingProxyType(self._info)

    @property
    def n_paths(self) -> int:
        """Number of paths ``B``."""
        return int(self._times.shape[0])

    @property
    def n_events(self) -> int:
        """Number of events of all paths."""
        return int(self._counts.sum())

    @property
    def dim(self) -> int:
        """Number of components ``d``."""
        return int(self._states.shape[2])

    def __len__(self) -> int:
        return self.n_paths

    def __repr__(self) -> str:
        kind = f"{self.dim} component{'s' if self.dim > 1 else ''}"
        if self._state_names is not None:
            kind = f"{len(self._state_names)} states"
        return f"JumpPaths({self.n_paths} paths, {self.n_events} events from {self._start:g} to {self._end:g}, {kind})"

    def at(self, times: ArrayLike) -> Paths:
        """Return the states at given times; at the time of an event, the state after it.

        Parameters
        ----------
        times
            ``(T,)`` shared, or ``(B, T)`` of each path's own, increasing, within ``start`` to ``end``.

        Returns
        -------
        Paths
            Integer values ``(B, T, d)``, with the names of components and states.

        Raises
        ------
        ValueError
            If times do not increase or lie outside ``start`` to ``end``.
        """
        wanted = exact_times(times)
        wanted = wanted[None] if wanted.ndim == 0 else wanted
        check_finite(wanted, "times")
        if wanted.ndim not in (1, 2) or (wanted.ndim == 2 and len(wanted) != len(self)) or wanted.numel() == 0:
            raise ValueError(f"times must have shape (T,) or ({len(self)}, T); got {tuple(wanted.shape)}")
        low, high = float(wanted.min()), float(wanted.max())
        if low < self._start or high > self._end:
            raise ValueError(
                f"times must lie in {self._start:g} to {self._end:g}, where the paths are known; got {low:g} to "
                f"{high:g}"
            )
        query = wanted.expand(len(self), wanted.shape[-1]).contiguous()
        index = torch.searchsorted(self._times, query, right=True)
        values = self._states.gather(1, index[..., None].expand(*index.shape, self.dim))
        return Paths(wanted, values, names=self._names, states=self._state_names, info=self._info)
