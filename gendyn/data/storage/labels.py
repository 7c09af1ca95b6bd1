r"""Tables of labels as plain columns, and back: every value, type and missing entry is kept.

A column is *described* by a small mapping (it goes into the header), *encoded* as numbers or as text with ``None`` for
what is missing, and *decoded* again:

======== ==================================== =============================
kind     the column holds                     encoded as
======== ==================================== =============================
number   integers, floating-point numbers     themselves
bool     true and false                       themselves
date     dates, with or without zone, spans   integers since the epoch
string   text, perhaps missing                text
category categories that are text or numbers  the text of the category
nullable pandas' nullable numbers and bools   the text of the number
======== ==================================== =============================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["decode", "describe", "encode", "escape", "is_text", "unescape"]

Meta = dict[str, Any]
"""How a column is to be restored; plain enough for JSON."""

_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\0", "\\0"))


def describe(column: pd.Series[Any], name: str) -> Meta:
    """Return what is needed to restore a column.

    Raises
    ------
    TypeError
        If the column holds objects that no file can hold.

    Examples
    --------
    >>> describe(pd.Series([1, 2]), "batch")
    {'name': 'batch', 'kind': 'number', 'dtype': 'int64'}
    """
    dtype = column.dtype
    meta: Meta = {"name": name, "kind": _kind(column, name), "dtype": str(dtype)}
    if isinstance(dtype, pd.CategoricalDtype):
        meta |= {
            "ordered": bool(dtype.ordered),
            "categories": dtype.categories.tolist(),
            "category_dtype": str(dtype.categories.dtype),
        }
    return meta


def is_text(meta: Mapping[str, Any]) -> bool:
    """Return whether a column is encoded as text."""
    return meta["kind"] in ("string", "category", "nullable")


def encode(column: pd.Series[Any], meta: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return a column as an array of numbers, or of text and ``None``."""
    if meta["kind"] == "date":
        whole = column.dt.tz_convert("UTC").dt.tz_localize(None) if hasattr(column.dtype, "tz") else column
        return np.asarray(whole.to_numpy().astype(np.int64))
    if not is_text(meta):
        array = np.asarray(column.to_numpy())
        # Not every format has half floats; the header remembers them.
        return array.astype(np.float32) if array.dtype == np.float16 else array
    codes, unique = pd.factorize(column)
    texts = np.array([*(str(value) for value in unique), None], dtype=object)
    return texts[codes]


def decode(encoded: Any, meta: Mapping[str, Any], index: pd.Index[Any]) -> pd.Series[Any]:
    """Return the column that :func:`encode` and :func:`describe` made."""
    kind, dtype = meta["kind"], meta["dtype"]
    if kind == "date":
        return _dates(np.asarray(encoded).astype(np.int64), dtype, index)
    if not is_text(meta):
        return pd.Series(np.asarray(encoded).astype(dtype), index=index)
    text = pd.Series(np.asarray(pd.Series(encoded).astype(object)), index=index, dtype=object)
    codes, unique = pd.factorize(text)
    if kind == "category":
        categories = pd.Index(meta["categories"], dtype=meta["category_dtype"])
        place = {str(category): k for k, category in enumerate(categories)}
        places = np.array([*(place[value] for value in unique), -1], dtype=np.int64)[codes]
        known = pd.CategoricalDtype(categories, ordered=meta["ordered"])
        return pd.Series(pd.Categorical.from_codes(places.tolist(), dtype=known), index=index)
    values = np.array([*map(_reader(kind, dtype), unique), None], dtype=object)[codes]
    if dtype == "object":
        return pd.Series(values, index=index, dtype=object)
    if dtype == "str":  # pandas 3 infers its own strings; older ones read objects
        return pd.Series(values.tolist(), index=index)
    return pd.Series(pd.array(values.tolist(), dtype=dtype), index=index)


def escape(encoded: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return text so that one line of a ``.csv`` holds it and nothing looks like something missing."""
    return _over_unique(encoded, _escape, "")


def unescape(texts: Any) -> np.ndarray[Any, Any]:
    """Read back what :func:`escape` made."""
    column = pd.Series(texts).astype(object)
    return _over_unique(np.asarray(column.where(column != "")), _unescape, None)


def _over_unique(texts: Any, change: Callable[[str], str], missing: str | None) -> np.ndarray[Any, Any]:
    codes, unique = pd.factorize(pd.Series(texts, dtype=object))
    return np.array([*map(change, unique), missing], dtype=object)[codes]


def _escape(text: str) -> str:
    for character, written in _ESCAPES:
        text = text.replace(character, written)
    return text or "\\e"


def _unescape(text: str) -> str:
    if text == "\\e":
        return ""
    parts = text.split("\\\\")
    for character, written in _ESCAPES[1:]:
        parts = [part.replace(written, character) for part in parts]
    return "\\".join(parts)


def _reader(kind: str, dtype: str) -> Callable[[str], Any]:
    if kind == "string":
        return str
    if dtype == "boolean":
        return lambda text: text == "True"
    return float if dtype.lower().startswith("float") else int


def _dates(numbers: np.ndarray[Any, Any], dtype: str, index: pd.Index[Any]) -> pd.Series[Any]:
    target = pd.api.types.pandas_dtype(dtype)
    if isinstance(target, pd.DatetimeTZDtype):
        plain = pd.Series(numbers.view(f"datetime64[{target.unit}]"), index=index)
        return plain.dt.tz_localize("UTC").dt.tz_convert(target.tz)
    return pd.Series(numbers.view(dtype), index=index)


def _kind(column: pd.Series[Any], name: str) -> str:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        categories = dtype.categories
        if (categories.dtype.kind in "iufb" and categories.dtype != object) or _all_strings(categories):
            return "category"
    elif isinstance(dtype, np.dtype) and dtype.kind in "iuf" and dtype.itemsize <= 8:
        return "number"
    elif dtype == np.bool_:
        return "bool"
    elif isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "mM"):
        return "date"
    elif str(dtype).lower() in _NULLABLE:
        return "nullable"
    elif isinstance(dtype, pd.StringDtype) or (dtype == np.dtype(object) and _all_strings(column)):
        return "string"
    raise TypeError(
        f"the column {name!r} of labels holds {_example(column)}; only numbers, text, true and false, dates and "
        "categories of numbers or text can be saved: convert it, or drop it"
    )


_NULLABLE = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)} | {"float32", "float64", "boolean"}


def _all_strings(values: pd.Series[Any] | pd.Index[Any]) -> bool:
    return pd.api.types.infer_dtype(values, skipna=True) in ("string", "empty")


def _example(column: pd.Series[Any]) -> str:
    if column.dtype == np.dtype(object):
        odd = next(value for value in column.dropna() if not isinstance(value, str))
        return f"objects of class {type(odd).__name__}"
    return f"values of type {column.dtype}"
