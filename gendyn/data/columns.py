"""Which column of a table is what: times, values, paths, labels; and the sentence where that is unclear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn.data.checks import warn_user
from gendyn.data.rows import few
from gendyn.data.time_labels import looks_like_times

__all__ = ["TIME_NAMES", "check_table", "find_column", "numbers_of", "path_column", "time_column", "value_columns"]

TIME_NAMES = (
    "time",
    "times",
    "timepoint",
    "time_point",
    "time point",
    "day",
    "days",
    "hour",
    "hours",
    "week",
    "weeks",
    "age",
    "stage",
    "gendyn_time",
)
"""What columns of time are called, in any case; and ``t``, in lower case only, for ``T`` is a gene."""

_PATH_NAMES = ("id", "path", "path_id", "trajectory", "series", "subject", "patient", "unit")


def check_table(frame: pd.DataFrame, where: str = "the table") -> None:
    """Refuse a table without rows, or with columns of one name.

    Raises
    ------
    ValueError
        If there are no rows, column names have several levels, or a name is there more than once.
    """
    if isinstance(frame.columns, pd.MultiIndex):
        raise ValueError(f"the columns of {where} have names of several levels; give each one name")
    names = pd.Index([str(name) for name in frame.columns])
    if not names.is_unique:
        double = names[names.duplicated()].unique()
        raise ValueError(f"columns of {where} must have different names; {few(double)} is there more than once: rename")
    if len(frame) == 0:
        raise ValueError(f"{where} has no rows; one row per observation is needed")


def find_column(names: Iterable[Any], name: Any, argument: str) -> Any:
    """Return the column that is called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.

    Examples
    --------
    >>> find_column(["day", 0], "0", "values")
    0
    """
    known = list(names)
    for column in known:
        if column == name:
            return column
    for column in known:
        if str(column) == str(name):
            return column
    raise ValueError(f"{argument} names the column {str(name)!r}, which is not there; there are {few(known)}")


def time_column(
    names: Sequence[Any], key: Any, look: Callable[[Any], pd.Series[Any]], argument: str = "time_key"
) -> Any:
    """Return the column with the times: the one named, or the only one called so.

    Raises
    ------
    ValueError
        If it is not there, or cannot be told; the message lists the columns that look like times.

    Examples
    --------
    >>> frame = pd.DataFrame({"Day": ["D0", "D2"], "T": [1.0, 2.0]})
    >>> time_column(list(frame), None, frame.__getitem__)
    'Day'
    """
    if key is not None and any(str(name) == str(key) for name in names):
        return find_column(names, key, argument)
    usual = [name for name in names if str(name) == "t" or str(name).strip().lower() in TIME_NAMES]
    if key is None and len(usual) == 1:
        return usual[0]
    if key is None and usual:
        raise ValueError(f"several columns could be the time: {few(usual)}; name one with {argument}=")
    likely = [name for name in names if looks_like_times(look(name))]
    hint = (
        f"columns that look like times: {few(likely)}"
        if likely
        else f"no column looks like times; there are {few(names)}"
    )
    if key is None:
        raise ValueError(f"no column is called time, day or the like; name it with {argument}= ({hint})")
    raise ValueError(f"there is no time column {str(key)!r}; {hint}")


def path_column(frame: pd.DataFrame, key: Any) -> Any:
    """Return the column that says which path a row belongs to, or ``None`` where none is named or called so.

    Raises
    ------
    ValueError
        If the one named is not there, or several are called so.
    """
    if key is not None:
        return find_column(frame.columns, key, "id_key")
    usual = [name for name in frame.columns if str(name).strip().lower() in _PATH_NAMES]
    if len(usual) > 1:
        raise ValueError(f"several columns could say which path a row belongs to: {few(usual)}; name one with id_key=")
    return usual[0] if usual else None


def value_columns(frame: pd.DataFrame, values: Any, used: Iterable[Any]) -> list[Any]:
    """Return the columns with values: those named, or all that hold numbers and are not used otherwise.

    Left out with a warning are columns without numbers, and columns that only count the rows.

    Raises
    ------
    ValueError
        If a named column is not there or named twice, a column holds numbers but for a few entries, or none is left.

    Examples
    --------
    >>> frame = pd.DataFrame({"day": [0, 0], "x": [0.5, 1.0], "y": [1.0, 2.0]})
    >>> value_columns(frame, None, ["day"])
    ['x', 'y']
    """
    if values is not None:
        wanted = [values] if isinstance(values, (str, int)) else list(values)
        chosen = [find_column(frame.columns, name, "values") for name in wanted]
        if not chosen:
            raise ValueError("values names no column; name at least one, or leave it out to take all that hold numbers")
        double = [name for name in chosen if chosen.count(name) > 1] if len(set(chosen)) < len(chosen) else []
        if double:
            raise ValueError(f"values must name different columns; got {str(double[0])!r} more than once")
        return chosen
    taken = {str(name) for name in used if name is not None}
    rest = [name for name in frame.columns if str(name) not in taken]
    chosen = [name for name in rest if _holds_numbers(frame[name])]
    for name in rest:
        if name not in chosen:
            _check_not_spoilt(frame[name], name)
    counting = [name for name in chosen if _counts_rows(frame[name], name)]
    chosen = [name for name in chosen if name not in counting]
    if not chosen:
        raise ValueError(
            f"no column with numbers is left to be the values (there are {few(frame.columns)}); give values="
        )
    text = [name for name in rest if name not in chosen and name not in counting]
    if counting:
        warn_user(f"columns that only count the rows are left out: {few(counting)}; name them in values= to keep them")
    if text:
        warn_user(f"columns without numbers are left out: {few(text)}; name them in obs_keys= to keep them as labels")
    return chosen


def numbers_of(
    frame: pd.DataFrame, columns: Sequence[Any], dtype: type[np.floating[Any]], hint: str = ""
) -> NDArray[Any]:
    """Return columns as a matrix ``(N, d)`` of their own; what is missing is NaN.

    Raises
    ------
    ValueError
        If a column holds something else than numbers; the message says what, and in which row.

    Examples
    --------
    >>> numbers_of(pd.DataFrame({"x": [1, 2]}), ["x"], np.float32).tolist()
    [[1.0], [2.0]]
    """
    matrix = np.empty((len(frame), len(columns)), dtype=dtype)
    for k, name in enumerate(columns):
        column = frame[name]
        if not _holds_numbers(column):
            column = _as_numbers(column, name, hint)
        with np.errstate(over="ignore"):
            # Too large for float32 becomes infinite, which the check for finite values reports.
            matrix[:, k] = (
                column.to_numpy()
                if isinstance(column.dtype, np.dtype)
                else column.to_numpy(np.float64, na_value=np.nan)
            )
    return matrix


def _holds_numbers(column: pd.Series[Any]) -> bool:
    dtype = column.dtype
    return (
        pd.api.types.is_numeric_dtype(dtype)
        and not pd.api.types.is_bool_dtype(dtype)
        and getattr(dtype, "kind", "f") != "c"
    )


def _as_numbers(column: pd.Series[Any], name: Any, hint: str) -> pd.Series[Any]:
    """Return a column of objects as numbers if each is one."""
    if pd.api.types.is_bool_dtype(column.dtype) or getattr(column.dtype, "kind", "O") in "mMc":
        raise ValueError(f"column {str(name)!r} must hold numbers; it holds {column.dtype}: convert it first{hint}")
    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    odd = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if len(odd):
        raise ValueError(
            f"column {str(name)!r} must hold numbers; got {column.iloc[odd[0]]!r} in row {odd[0]} ({len(odd)} such "
            f"rows): correct them, or leave the column out{hint}"
        )
    return numbers


def _check_not_spoilt(column: pd.Series[Any], name: Any) -> None:
    """Refuse a column of numbers in which a few entries are none: left out silently it would be missed."""
    if column.dtype != np.dtype(object):
        return
    numbers = pd.to_numeric(column, errors="coerce").notna().to_numpy()
    present = column.notna().to_numpy()
    if 2 * int(numbers.sum()) > int(present.sum()):
        odd = np.flatnonzero(present & ~numbers)
        where = (
            f"got {column.iloc[odd[0]]!r} in row {odd[0]} ({len(odd)} such rows)"
            if len(odd)
            else "it holds them as text"
        )
        raise ValueError(
            f"column {str(name)!r} should hold numbers, but {where}: correct it, or name the columns in values="
        )


def _counts_rows(column: pd.Series[Any], name: Any) -> bool:
    """Return whether a column is the number of the row, as spreadsheets and pandas write it."""
    if str(name).startswith("Unnamed:") or str(name) == "":
        return True
    if getattr(column.dtype, "kind", "f") not in "iu" or len(column) < 3:
        return False
    numbers = column.to_numpy()
    return int(numbers[0]) in (0, 1) and bool((np.diff(numbers) == 1).all())
