r"""Long tables, one row per path and time, as padded paths.

Rows are sorted by path (in the order in which paths first appear) and time. Paths with the same times share them;
otherwise each has its own, padded at the end by repeating the last time and values. A missing value is not observed,
and 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn.data.checks import warn_user
from gendyn.data.columns import check_table, find_column, numbers_of, path_column, time_column, value_columns
from gendyn.data.paths import Paths
from gendyn.data.rows import few
from gendyn.data.time_labels import parse_times

__all__ = ["States", "observed", "paths_of_table", "state_numbers"]

States = Sequence[str] | Mapping[Any, str]
"""Names of discrete states, in order; or the name of each entry of the data."""


@dataclass(frozen=True)
class _Order:
    """Where the rows of a table stand in the padded array."""

    rows: NDArray[np.intp]
    path: NDArray[np.intp]
    position: NDArray[np.intp]
    counts: NDArray[np.intp]
    times: NDArray[np.float64]
    names: pd.Index[Any]


def paths_of_table(
    frame: pd.DataFrame,
    *,
    id_key: str | None = None,
    time_key: str | None = None,
    values: Any = None,
    label_key: str | None = None,
    states: States | None = None,
    times: Mapping[Any, float] | None = None,
    dtype: type[np.floating[Any]] = np.float32,
) -> Paths:
    """Return the paths in a table; see :func:`gendyn.data.readers.read_paths` for the arguments.

    Raises
    ------
    ValueError
        If columns are not there or unclear, a path has two rows at one time, a value is no number or infinite, a label
        changes within a path, or a state has no name.
    """
    check_table(frame)
    key = time_column(list(frame.columns), time_key, frame.__getitem__)
    identity = path_column(frame, id_key)
    label = None if label_key is None else find_column(frame.columns, label_key, "label_key")
    columns = value_columns(frame, values, [key, identity, label])
    order = _order(frame, identity, key, times)
    used = frame.iloc[order.rows]
    n, length = len(order.counts), int(order.counts.max())
    if states is None:
        hint = "; for discrete states give their names in states="
        matrix = numbers_of(used, columns, dtype, hint)
        if np.isinf(matrix).any():
            bad = order.rows[np.isinf(matrix).any(1)]
            raise ValueError(f"values must be finite or missing; got infinity in {len(bad)} rows (first: {bad.min()})")
        seen = ~np.isnan(matrix)
        names = None
        matrix = np.where(seen, matrix, np.zeros((), dtype))
    else:
        matrix, names = state_numbers(used, columns, states)
        seen = matrix >= 0
        matrix = np.where(seen, matrix, 0)
    block = np.zeros((n, length, len(columns)), dtype=matrix.dtype)
    mask = np.zeros(block.shape, dtype=bool)
    block[order.path, order.position] = matrix
    mask[order.path, order.position] = seen
    # After its end a path repeats its last row, as it repeats its last time.
    last = np.minimum(np.arange(length), order.counts[:, None] - 1)
    block = np.take_along_axis(block, last[:, :, None], axis=1)
    grid = np.zeros((n, length))
    grid[order.path, order.position] = order.times
    grid = np.take_along_axis(grid, last, axis=1)
    equal = bool((order.counts == length).all())
    shared = equal and bool((grid == grid[0]).all())
    return Paths(
        grid[0] if shared else grid,
        block,
        mask=None if bool(seen.all()) else mask,
        lengths=None if equal else order.counts,
        labels=None if label is None else _labels(used[label], order, str(label)),
        names=[str(name) for name in columns],
        states=names,
        info={"ids": [name if isinstance(name, (int, float)) else str(name) for name in order.names.tolist()]},
    )


def observed(values: NDArray[Any], lengths: Any = None) -> tuple[NDArray[np.bool_] | None, Any]:
    """Return which entries of an array ``(n, T, d)`` are not NaN, and the lengths of paths that end in NaN.

    Examples
    --------
    >>> mask, lengths = observed(np.array([[[1.0], [2.0]], [[3.0], [np.nan]]]))
    >>> mask is None, lengths.tolist()
    (True, [2, 1])
    """
    if values.dtype.kind != "f":
        return None, lengths
    mask = ~np.isnan(values)
    if bool(mask.all()):
        return None, lengths
    anything = mask.any(2)
    if lengths is None and bool(anything.any(1).all()):
        ends = values.shape[1] - anything[:, ::-1].argmax(1)
        lengths = None if bool((ends == values.shape[1]).all()) else ends
    inside = np.ones(anything.shape, dtype=bool)
    if lengths is not None:
        inside = np.arange(values.shape[1]) < np.asarray(lengths)[:, None]
    return None if bool(mask[inside].all()) else mask, lengths


def state_numbers(frame: pd.DataFrame, columns: Sequence[Any], states: States) -> tuple[NDArray[np.int64], list[str]]:
    """Return discrete states as their numbers ``(N, d)``, with -1 for what is missing, and their names.

    Raises
    ------
    ValueError
        If an entry is none of the states.

    Examples
    --------
    >>> state_numbers(pd.DataFrame({"s": ["open", "shut"]}), ["s"], ["shut", "open"])[0].ravel().tolist()
    [1, 0]
    """
    if isinstance(states, str):
        raise TypeError(
            f"states must be a sequence of names or a mapping {{entry: name}}; got the one string {states!r}"
        )
    names = [str(name) for name in (states.values() if isinstance(states, Mapping) else states)]
    numbers = np.empty((len(frame), len(columns)), dtype=np.int64)
    for k, column in enumerate(columns):
        codes, unique = pd.factorize(frame[column])
        places = [_state(entry, states, names, str(column)) for entry in unique]
        numbers[:, k] = np.array([*places, -1], dtype=np.int64)[codes]
    return numbers, names


def _state(entry: Any, states: States, names: Sequence[str], column: str) -> int:
    number = isinstance(entry, (int, float, np.integer, np.floating)) and not isinstance(entry, bool)
    whole = int(entry) if number and float(entry).is_integer() else None
    if isinstance(states, Mapping):
        texts = [str(known) for known in states]
        for text in (str(entry), str(whole)):
            if text in texts:
                return texts.index(text)
        raise ValueError(f"column {column!r} holds {entry!r}, which states does not name; it names {few(texts)}")
    if str(entry) in names:
        return list(names).index(str(entry))
    if whole is not None and 0 <= whole < len(names):
        return whole
    raise ValueError(
        f"column {column!r} holds {entry!r}, which is neither one of the states {few(names)} nor their number (0 to "
        f"{len(names) - 1}); give states={{entry: name}}"
    )


def _order(frame: pd.DataFrame, identity: Any, key: Any, times: Mapping[Any, float] | None) -> _Order:
    numbers, _ = parse_times(frame[key], times)
    known = ~np.isnan(numbers)
    if not known.any():
        raise ValueError(
            f"no row has a time: every entry of column {str(key)!r} is missing; name another with time_key="
        )
    if not known.all():
        warn_user(f"{int((~known).sum())} of {len(known)} rows have no time and are left out")
    rows = np.flatnonzero(known)
    if identity is None:
        codes, found = np.zeros(len(rows), dtype=np.intp), pd.Index([0], dtype=object)
    else:
        whose = frame[identity].iloc[rows]
        codes, unique = pd.factorize(whose)
        found = pd.Index(unique, dtype=object)
        if bool((codes < 0).any()):
            raise ValueError(
                f"column {str(identity)!r} is missing in {int((codes < 0).sum())} rows; each row must say which path "
                "it belongs to"
            )
    by_path = np.lexsort((numbers[rows], codes))
    rows, codes = rows[by_path], codes[by_path]
    numbers = numbers[rows]
    double = np.flatnonzero((np.diff(codes) == 0) & (np.diff(numbers) == 0))
    if len(double):
        if identity is None:
            raise ValueError(
                f"several rows have the time {numbers[double[0]]:g}, and no column is called id, path or the like; "
                "name the column that says which path a row belongs to with id_key="
            )
        which = ", ".join(f"{found[codes[k]]} at {numbers[k]:g}" for k in double[:5])
        raise ValueError(
            f"a path must have one row at each time; {len(double)} more than that ({which}): merge or drop them, or "
            f"check that {str(identity)!r} is the right id_key"
        )
    counts = np.bincount(codes)
    position = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return _Order(rows, codes, position, counts, numbers, found)


def _labels(column: pd.Series[Any], order: _Order, name: str) -> NDArray[Any]:
    """Return the one label of each path."""
    codes, unique = pd.factorize(column)
    if bool((codes < 0).any()):
        path = order.names[order.path[int(np.flatnonzero(codes < 0)[0])]]
        raise ValueError(f"path {path} has no label in column {name!r}; give each row of a path its label")
    first = codes[np.cumsum(order.counts) - order.counts]
    changed = np.flatnonzero(codes != first[order.path])
    if len(changed):
        path = order.names[order.path[changed[0]]]
        raise ValueError(f"the label {name!r} changes within path {path}; one label per path is needed")
    labels = pd.Series(list(unique)).to_numpy()[first]
    if labels.dtype.kind == "f" and bool((labels == np.round(labels)).all()):
        return np.asarray(labels.astype(np.int64))
    return np.asarray(labels.astype(str)) if labels.dtype.kind not in "iub" else np.asarray(labels)
