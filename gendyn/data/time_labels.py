r"""Labels of times, read by the number in them and never sorted as strings.

``D0``, ``day 2``, ``E8.25``, ``48h``, ``D10.5``: each holds exactly one number, and at most one unit, which must be the same in all
labels. As strings ``"D10"`` would come before ``"D2"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["parse_times"]

_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")

_UNITS = {
    "s": {"s", "sec", "secs", "second", "seconds"},
    "min": {"min", "mins", "minute", "minutes"},
    "h": {"h", "hr", "hrs", "hour", "hours", "hpf", "hpi"},
    "day": {"d", "day", "days", "dpi", "dpf", "dpt"},
    "embryonic day": {"e"},
    "week": {"w", "wk", "wks", "week", "weeks"},
    "month": {"mo", "month", "months"},
    "year": {"y", "yr", "yrs", "year", "years"},
}


def parse_times(
    labels: Iterable[Any], times: Mapping[Any, float] | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], str | None]:
    """Return the number of every label, and the unit they share.

    Parameters
    ----------
    labels
        Numbers, labels, dates or durations. Dates become days since the first of them, durations days.
    times
        What each label means; then nothing is guessed.

    Returns
    -------
    tuple
        Numbers ``(n,)`` in float64 (NaN where a label is missing), and the unit or ``None``.

    Raises
    ------
    ValueError
        If a label has no number or several, units differ, two labels mean the same number, or ``times`` lacks a label;
        the message names the labels and asks for ``times={label: number}``.

    Examples
    --------
    >>> parse_times(["D10", "D2", "D0"])
    (array([10.,  2.,  0.]), 'day')
    """
    column = pd.Series(list(labels)) if not isinstance(labels, pd.Series) else labels.reset_index(drop=True)
    if times is not None:
        return _mapped(column, times), None
    if pd.api.types.is_bool_dtype(column):
        raise ValueError("times must be numbers or labels; got true and false")
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), None
    if pd.api.types.is_datetime64_any_dtype(column):
        return ((column - column.min()) / pd.Timedelta(days=1)).to_numpy(dtype=np.float64), "day"
    if pd.api.types.is_timedelta64_dtype(column):
        return (column / pd.Timedelta(days=1)).to_numpy(dtype=np.float64), "day"
    codes, found = pd.factorize(column)
    parsed = [_parse(label) for label in found]
    _check(list(found), parsed)
    numbers = np.array([number if number is not None else np.nan for number, _ in parsed] + [np.nan])
    units = {unit for _, unit in parsed if unit is not None}
    return numbers[codes], next(iter(units), None)


def _mapped(column: pd.Series[Any], times: Mapping[Any, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    by_text = {str(label): float(number) for label, number in times.items()}
    codes, found = pd.factorize(column)
    missing = [str(label) for label in found if str(label) not in by_text]
    if missing:
        raise ValueError(f"times says nothing about the label {missing[0]!r}; it must name each of {_few(found)}")
    numbers = [by_text[str(label)] for label in found]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"times gives one number to several of the labels {_few(found)}; each time needs its own")
    return np.array([*numbers, np.nan])[codes]


def _parse(label: Any) -> tuple[float | None, str | None]:
    """Return the one number of a label and its unit; (None, ...) where that is not possible."""
    if isinstance(label, (int, float, np.integer, np.floating)):
        return float(label), None
    text = str(label).strip()
    # The unit "E" of embryonic days stands before the number and must not be taken for an exponent.
    numbers = list(_NUMBER.finditer(text))
    if len(numbers) != 1:
        return None, None
    match = numbers[0]
    rest = (text[: match.start()] + " " + text[match.end() :]).strip(" _-:=()[].").lower()
    rest = re.sub(r"^(time|t|timepoint|tp|at|post|stage)\b[\s_=:-]*", "", rest).strip()
    number = float(match.group().replace(",", "."))
    # In "day-2" the sign is a hyphen: no number of a label is negative unless it starts with the sign.
    if number < 0 and match.start() > 0:
        number = -number
    if not rest:
        return number, None
    for unit, spellings in _UNITS.items():
        if rest in spellings:
            return number, unit
    return number, rest


def _check(labels: list[Any], parsed: list[tuple[float | None, str | None]]) -> None:
    advice = "say what they mean with times={label: number}"
    unread = [label for label, (number, _) in zip(labels, parsed, strict=True) if number is None]
    if unread:
        raise ValueError(f"the time label {unread[0]!r} does not hold exactly one number (labels: {_few(labels)}); {advice}")
    units = {unit for _, unit in parsed}
    if len(units) > 1:
        names = " and ".join(sorted("no unit" if u is None else repr(u) for u in units))
        raise ValueError(f"the time labels {_few(labels)} have different units ({names}); {advice}")
    numbers = [number for number, _ in parsed]
    if len(set(numbers)) < len(numbers):
        double = next(n for n in numbers if numbers.count(n) > 1)
        same = [label for label, (number, _) in zip(labels, parsed, strict=True) if number == double]
        raise ValueError(f"the time labels {_few(same)} all mean {double:g}; rename them, or {advice}")


def _few(labels: Iterable[Any]) -> str:
    texts = [repr(str(label)) for label in labels]
    return ", ".join(texts if len(texts) <= 6 else [*texts[:5], f"... ({len(texts)} in all)"])
