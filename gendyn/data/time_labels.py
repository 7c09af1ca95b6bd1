r"""Numbers out of the labels that people write on time points.

A label holds one number and, perhaps, a unit: ``"D10.5"``, ``"day 2"``, ``"E8.25"``, ``"48h"``, ``"0"``. The number
is the time, in the unit that the labels share; nothing is converted, so ``"48h"`` is 48. Labels are never sorted as
strings, for then ``"D10"`` would come before ``"D2"``. Where labels do not say one number in one unit, the
user says it: ``times={label: number}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data.checks import shortest

__all__ = ["looks_like_times", "parse_times"]

Numbers = NDArray[np.float64]

_UNITS = {
    "day": ("d", "day", "days"),
    "hour": ("h", "hr", "hrs", "hour", "hours"),
    "minute": ("min", "mins", "minute", "minutes"),
    "second": ("s", "sec", "secs", "second", "seconds"),
    "week": ("w", "wk", "wks", "week", "weeks"),
    "month": ("mo", "month", "months"),
    "year": ("y", "yr", "yrs", "year", "years"),
    "embryonic day": ("e",),
    "postnatal day": ("p",),
}
_CANONICAL = {word: unit for unit, words in _UNITS.items() for word in words}
_NEUTRAL = {"t", "time", "timepoint", "tp", "at"}
_MISSING = {"", "nan", "na", "n/a", "none", "null", "nat", "<na>"}
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_WORD = re.compile(r"[^\W\d_]+")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_times(
    labels: Sequence[Any] | NDArray[Any] | pd.Series[Any] | pd.Index[Any] | pd.Categorical | Tensor,
    times: Mapping[Any, float] | None = None,
) -> tuple[Numbers, str | None]:
    """Turn labels of time points into numbers.

    Parameters
    ----------
    labels
        ``(N,)``: numbers are taken as they are; strings and categories by the one number in each; time
        differences in days, from their own zero; dates (``datetime64`` or text that starts with year-month-day) in
        days since the earliest of them. Missing entries stay missing.
    times
        The number that each label stands for, where the label does not say it. Labels with the same number are pooled.

    Returns
    -------
    numbers
        ``(N,)`` float64; NaN where the label is missing.
    unit
        The unit that the labels share, in words, or ``None`` where they name none.

    Raises
    ------
    TypeError
        If labels are true and false.
    ValueError
        If a label holds no number or several, labels are in different units, two labels mean the same number, a
        number is infinite, or ``times`` leaves a label out.

    Examples
    --------
    >>> parse_times(["D10.5", "D2", "D2"])
    (array([10.5,  2. ,  2. ]), 'day')
    >>> parse_times(["control", "late"], times={"control": 0.0, "late": 6.0})
    (array([0., 6.]), None)
    """
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    column = pd.Series(labels).reset_index(drop=True)
    if times is None and _is_number(column.dtype):
        return _finite(_as_numbers(column)), None
    codes, found = pd.factorize(column)
    unique = pd.Series(list(found)) if len(found) else pd.Series([], dtype=np.float64)
    numbers, unit = (_parse_unique(unique), None) if times is None else (_mapped(unique, times), None)
    if isinstance(numbers, tuple):
        numbers, unit = numbers
    return np.append(_finite(numbers), np.nan)[codes], unit


def looks_like_times(labels: pd.Series[Any], most: int = 1000) -> bool:
    """Return whether a column of a table could be one of times: numbers, dates, or labels that can be read.

    Examples
    --------
    >>> looks_like_times(pd.Series(["D0", "D2"])), looks_like_times(pd.Series(["left", "right"]))
    (True, False)
    """
    if pd.api.types.is_bool_dtype(labels.dtype):
        return False
    if _is_number(labels.dtype):
        return True
    known = labels.dropna().unique()
    if not 0 < len(known) <= most:
        return False
    try:
        parse_times(known)
    except (TypeError, ValueError):
        return False
    return True


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _as_numbers(column: pd.Series[Any]) -> Numbers:
    # A float32 column that says 10.1 means 10.1, not 10.100000381.
    plain = isinstance(column.dtype, np.dtype)
    return shortest(column.to_numpy() if plain else column.to_numpy(dtype=np.float64, na_value=np.nan))


def _finite(numbers: Numbers) -> Numbers:
    wrong = np.flatnonzero(np.isinf(numbers))
    if len(wrong):
        raise ValueError(
            f"times must be finite; got infinity in {len(wrong)} rows (first: {wrong[0]}): correct or leave out "
            "those rows"
        )
    return numbers


def _parse_unique(unique: pd.Series[Any]) -> Numbers | tuple[Numbers, str | None]:
    """Return the numbers of different labels, and their unit."""
    if pd.api.types.is_bool_dtype(unique.dtype):
        raise TypeError("times must be numbers, dates or labels with a number in them; got true and false")
    if _is_number(unique.dtype):
        return _as_numbers(unique)
    if pd.api.types.is_timedelta64_dtype(unique.dtype):
        return _in_days(unique), "day"
    if pd.api.types.is_datetime64_any_dtype(unique.dtype):
        return _days(unique), "day"
    texts = [_text(label) for label in unique]
    present = [text for text in texts if text.casefold() not in _MISSING]
    if present and all(_DATE.match(text) for text in present):
        try:
            dates = pd.to_datetime(pd.Series(texts).where(pd.Series(texts).isin(present)), format="ISO8601", utc=True)
        except (ValueError, OverflowError) as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"the times look like dates, but one is none ({first}): correct it") from error
        return _days(dates), "day"
    return _parse_texts(texts)


def _text(label: object) -> str:
    text = label.decode("utf-8", errors="replace") if isinstance(label, bytes) else str(label)
    return text.strip().replace("\N{MINUS SIGN}", "-")


def _days(dates: pd.Series[Any]) -> Numbers:
    return _in_days(dates - dates.min())


def _in_days(spans: pd.Series[Any]) -> Numbers:
    days: Numbers = spans.dt.total_seconds().to_numpy(dtype=np.float64) / 86_400.0
    return days


def _parse_texts(texts: list[str]) -> tuple[Numbers, str | None]:
    numbers = np.full(len(texts), np.nan)
    units: dict[str | None, str] = {}
    dashed: dict[bool, str] = {}
    for k, text in enumerate(texts):
        if text.casefold() in _MISSING:
            continue
        number, unit, dash = _parse_text(text, texts)
        numbers[k] = number
        units.setdefault(unit, text)
        dashed.setdefault(dash, text)
    if len(units) > 1:
        pairs = ", ".join(f"{text!r} ({unit or 'no unit'})" for unit, text in units.items())
        raise ValueError(_ask(texts, f"they are in different units: {pairs}"))
    if len(dashed) > 1:
        raise ValueError(_ask(texts, f"the hyphen in {dashed[True]!r} may be a dash or a minus sign"))
    known = numbers[~np.isnan(numbers)]
    if len(np.unique(known)) < len(known):
        values, counts = np.unique(known, return_counts=True)
        double = float(values[counts > 1][0])
        same = [text for text, number in zip(texts, numbers.tolist(), strict=True) if number == double]
        raise ValueError(_ask(texts, f"{_quoted(same)} all mean {double:g}, and may or may not be one time point"))
    return numbers, next(iter(units), None)


def _parse_text(text: str, texts: list[str]) -> tuple[float, str | None, bool]:
    """Return the number and the unit of one label, and whether a dash stands between word and number."""
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        if not np.isfinite(number):
            raise ValueError(f"times must be finite; got the label {text!r}: correct or leave out those rows")
        return number, None, False
    found = list(_NUMBER.finditer(text))
    if len(found) != 1:
        count = "is no number" if not found else f"are {len(found)} numbers"
        raise ValueError(_ask(texts, f"there {count} in {text!r}"))
    match = found[0]
    before = text[: match.start()]
    number = float(match.group())
    signed = before.endswith(("-", "+"))
    dash = signed and bool(before[:-1]) and (before[-2].isalnum() or before[-2] in "_.")
    if signed and not dash and before[-1] == "-":
        number = -number
    words = [word.casefold() for word in _WORD.findall(before + " " + text[match.end() :])]
    words = [_CANONICAL.get(word, word) for word in words if word not in _NEUTRAL]
    return number, " ".join(words) or None, dash


def _mapped(unique: pd.Series[Any], times: Mapping[Any, float]) -> Numbers:
    """Return the number that the user gave for each label."""
    if not isinstance(times, Mapping):
        raise TypeError(f"times must be a mapping {{label: number}}; got {type(times).__name__}")
    by_text = {str(label).strip(): number for label, number in times.items()}
    by_number = {}
    for label, number in times.items():
        try:
            by_number[float(label)] = number
        except (TypeError, ValueError):
            continue
    numbers, unknown = np.full(len(unique), np.nan), []
    for k, label in enumerate(unique):
        text = _text(label)
        if text in by_text:
            numbers[k] = _given(text, by_text[text])
        elif _is_number(type(label)) and float(label) in by_number:
            numbers[k] = _given(text, by_number[float(label)])
        elif text.casefold() not in _MISSING:
            unknown.append(text)
    if unknown:
        raise ValueError(
            f"times has no number for {_quoted(unknown)}; give one for every label in the data, or leave those rows out"
        )
    return numbers


def _given(label: str, number: object) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)):
        raise TypeError(f"times must give a number for each label; got {number!r} for {label!r}")
    if not np.isfinite(number):
        raise ValueError(f"times must give a finite number for each label; got {float(number):g} for {label!r}")
    return float(number)


def _ask(texts: list[str], why: str) -> str:
    example = next(text for text in texts if text.casefold() not in _MISSING)
    advice = f"give times={{label: number}}, as in times={{{example!r}: 0.0, ...}}"
    return f"times cannot be read from the labels {_quoted(texts)}: {why}; {advice}"


def _quoted(texts: Iterable[str], most: int = 8) -> str:
    shown = [repr(text) for text in texts]
    return ", ".join(shown if len(shown) <= most else [*shown[: most - 1], "...", shown[-1]])
