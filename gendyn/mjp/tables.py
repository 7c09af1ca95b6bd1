"""Looks as people have them: paths, tables with a row a look, or lists of times and states."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gendyn.data import Paths, read_paths
from gendyn.mjp.observations import StateObservations
from gendyn.sampling.jumps import JumpPaths

__all__ = ["observe"]


def observe(
    data: Any,
    *,
    n_states: int | None = None,
    entry: Sequence[int | str] = (),
    censored: Mapping[int | str, Sequence[int | str]] | None = None,
    kinds: Any = None,
) -> StateObservations:
    """Return the looks of data in any form.

    Parameters
    ----------
    data
        :class:`~gendyn.Paths`; :class:`~gendyn.sampling.jumps.JumpPaths`; a table with columns ``id``, ``time`` and
        ``state``; or a list of pairs ``(times, states)``, one a path. Looks that repeat the one before at the same time
        are counted once, with a warning.
    n_states, entry, censored, kinds
        As for :meth:`StateObservations.of`; ``kinds`` with paths alone.

    Raises
    ------
    TypeError
        If the data are nothing of the kind.
    ValueError
        If columns are missing, times or states are not finite, times fall, one time has two labels, or labels are
        unfit.

    Examples
    --------
    >>> observe([([0.0, 1.0, 2.0], [0, 1, 1]), ([0.0, 0.5], [1, 1])]).lengths
    tensor([3, 2])
    """
    if kinds is not None and not isinstance(data, Paths):
        raise TypeError(
            f"kinds say what every look of gendyn.Paths means; got {type(data).__name__}: read the data with "
            "gendyn.read_paths, or name states in entry"
        )
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)) and len(data):
        data = _table(data)
    if isinstance(data, pd.DataFrame):
        missing = [name for name in ("id", "time", "state") if name not in data]
        if missing:
            raise ValueError(
                f"a table of looks has the columns id, time and state; {', '.join(missing)} is missing among "
                f"{', '.join(map(str, data.columns))}: rename them, or use gendyn.read_paths(table, id_key=..., "
                "time_key=..., values=['state'])"
            )
        _check_finite(data)
        data = read_paths(_without_repeats(data), id_key="id", time_key="time", values=["state"])
    if not isinstance(data, (Paths, JumpPaths)):
        raise TypeError(
            "a jump process is fitted to gendyn.Paths, JumpPaths, a table with columns id, time and state, or a list "
            f"of (times, states); got {type(data).__name__}"
        )
    return StateObservations.of(data, n_states=n_states, entry=entry, censored=censored, kinds=kinds)


def _table(pairs: Sequence[Any]) -> pd.DataFrame:
    """Return a list of times and states as a table."""
    parts = []
    for k, pair in enumerate(pairs):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"every path of a list is a pair (times, states); got {type(pair).__name__} as path {k}")
        times, states = (np.asarray(torch.as_tensor(v)).reshape(-1) for v in pair)
        if len(times) != len(states):
            raise ValueError(f"path {k} has {len(times)} times and {len(states)} states; give one state a time")
        bad = np.flatnonzero(~np.isfinite(times))
        if len(bad):
            raise ValueError(f"times must be finite; got {times[bad[0]]} at position {bad[0]} of path {k}")
        bad = np.flatnonzero(np.diff(times) < 0)
        if len(bad):
            raise ValueError(
                f"times must not fall along a path; got {times[bad[0] + 1]:g} after {times[bad[0]]:g} at position "
                f"{bad[0] + 1} of path {k}"
            )
        parts.append(pd.DataFrame({"id": k, "time": times, "state": states}))
    return pd.concat(parts, ignore_index=True)


def _check_finite(table: pd.DataFrame) -> None:
    """Refuse rows without a time or a state: a look that is not there has no row."""
    for name in ("time", "state"):
        column = pd.to_numeric(table[name], errors="coerce") if name == "time" else table[name]
        bad = np.flatnonzero(column.isna() | column.isin([np.inf, -np.inf]))
        if len(bad):
            row = table.iloc[bad[0]]
            raise ValueError(
                f"every look needs a finite {name}; got {row[name]} in row {bad[0]} (path {row['id']}): leave out "
                "the rows of looks that were not made"
            )


def _without_repeats(table: pd.DataFrame) -> pd.DataFrame:
    """Drop rows that say the same twice, and refuse those that contradict each other."""
    table = table[["id", "time", "state"]]
    single = table.drop_duplicates()
    twice = single.duplicated(["id", "time"])
    if bool(twice.any()):
        row = single[twice].iloc[0]
        raise ValueError(
            f"path {row['id']} has two states at time {row['time']:g}; keep one, or shift the time of a jump a little"
        )
    if len(single) < len(table):
        warnings.warn(
            f"{len(table) - len(single)} looks repeat another of the same path, time and state; they are counted once",
            UserWarning,
            stacklevel=4,
        )
    return single
