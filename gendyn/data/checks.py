"""The door of the containers: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

__all__ = [
    "all_finite",
    "as_tensor",
    "as_times",
    "check_finite",
    "check_names",
    "check_times",
    "exact_times",
    "listed",
    "shortest",
    "warn_user",
]

_BLOCK = 65_536

ArrayLike = Any
"""Anything that NumPy or torch can read as an array: arrays, tensors, nested lists, DataFrames."""


def as_tensor(value: ArrayLike, what: str) -> Tensor:
    """Return a copy of ``value`` as a tensor; float64, integers and bools are kept, other floats become float32."""
    if isinstance(value, Tensor):
        tensor = value.clone()
    else:
        if value is None:
            raise TypeError(f"{what} must be an array of numbers; got None")
        if hasattr(value, "toarray"):
            raise TypeError(f"{what} must be dense numbers; got a sparse {_kind(value)}: pass its toarray()")
        if isinstance(value, (pd.DataFrame, pd.Series)):
            value = value.to_numpy()
        if isinstance(value, np.ma.MaskedArray):
            value = np.where(np.ma.getmaskarray(value), np.nan, np.ma.getdata(value))
        try:
            array = np.array(value)
        except ValueError as error:
            raise TypeError(f"{what} must be a rectangular array of numbers; got rows of different length") from error
        if array.dtype == object:
            try:
                array = array.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError(f"{what} must be an array of numbers; got {_kind(value)}") from error
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{what} must be an array of numbers; got {_kind(value)} of type {array.dtype}")
        if array.dtype == np.longdouble:
            array = array.astype(np.float64)
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        tensor = torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)))
        if array.ndim == 0:
            tensor = tensor.reshape(())
    if tensor.is_complex():
        raise TypeError(f"{what} must be an array of real numbers; got complex ones")
    if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor


def shortest(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return numbers in float64; a float32 that prints as 0.1 becomes 0.1, not 0.10000000149.

    Examples
    --------
    >>> shortest(np.array([0.1, 2.0], dtype=np.float32)).tolist()
    [0.1, 2.0]
    """
    array = np.asarray(numbers)
    if array.dtype.kind != "f" or array.dtype.itemsize >= 8:
        return array.astype(np.float64)
    unique, inverse = np.unique(array, return_inverse=True)
    exact = np.array([float(str(value)) for value in unique], dtype=np.float64)
    return exact[inverse].reshape(array.shape)


def exact_times(times: ArrayLike) -> Tensor:
    """Return times in float64 on the CPU, so that a time written 0.1 in float32 is found as 0.1."""
    tensor = as_tensor(times, "times")
    if tensor.dtype != torch.float32:
        return tensor.detach().cpu().to(torch.float64)
    return torch.from_numpy(shortest(tensor.detach().cpu().numpy()))


def check_times(times: ArrayLike) -> Tensor:
    """Return strictly increasing finite times ``(T,)`` in float64."""
    tensor = exact_times(times)
    if tensor.ndim != 1 or len(tensor) == 0:
        raise ValueError(f"times must be one row of at least one number; got shape {tuple(tensor.shape)}")
    check_finite(tensor, "times")
    falls = torch.nonzero(tensor.diff() <= 0)
    if len(falls):
        k = int(falls[0])
        raise ValueError(
            f"times must increase strictly; got {tensor[k + 1]:g} after {tensor[k]:g} at position {k + 1}: sort "
            "them, and pool what was measured at one time"
        )
    return tensor


def all_finite(values: Tensor) -> bool:
    """Return whether no entry is NaN or infinite.

    Examples
    --------
    >>> all_finite(torch.tensor([1e38, 3e38])), all_finite(torch.tensor([float("inf"), -float("inf")]))
    (True, False)
    """
    values = values.detach()
    # A sum is finite only if every entry is; the entries, slower, where it has overflowed.
    return math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all())


def check_finite(values: Tensor, what: str) -> None:
    """Refuse NaN and infinity, saying how many rows hold them and which come first."""
    if not values.is_floating_point() or math.isfinite(values.detach().sum().item()):
        return
    # In blocks: the test makes temporaries of the size of what it tests.
    rows: list[int] = []
    for start in range(0, len(values), _BLOCK):
        finite = torch.isfinite(values[start : start + _BLOCK])
        if not bool(finite.all()):
            found = torch.nonzero(~finite.reshape(len(finite), -1).all(1)).flatten()
            rows += (found + start).tolist()
    if not rows:
        return
    raise ValueError(
        f"{what} must be finite; got NaN or infinity in {len(rows)} of {len(values)} rows (first: "
        f"{', '.join(map(str, rows[:5]))}): drop or impute them"
    )


def check_names(names: Sequence[str], dim: int) -> tuple[str, ...]:
    """Return ``dim`` different names as a tuple."""
    if isinstance(names, str):
        raise TypeError(f"names must be a sequence of strings; got the one string {names!r}")
    result = tuple(str(name) for name in names)
    if len(result) != dim:
        raise ValueError(f"names must name each of the {dim} features; got {len(result)} names")
    doubles = sorted({name for name in result if result.count(name) > 1}) if len(set(result)) < len(result) else []
    if doubles:
        raise ValueError(f"names must differ; got {', '.join(map(repr, doubles))} more than once")
    return result


def as_times(times: Iterable[float] | float | Tensor) -> list[float]:
    """Return one time or several as a list of floats."""
    if isinstance(times, Tensor):
        return [float(t) for t in times.reshape(-1)]
    if isinstance(times, Iterable):
        return [float(t) for t in times]
    return [float(times)]


def listed(times: Tensor, most: int = 12) -> str:
    """Return times as a short list for a sentence."""
    values = [f"{t:g}" for t in times.tolist()]
    return ", ".join(values if len(values) <= most else [*values[: most - 1], "...", values[-1]])


def warn_user(message: str) -> None:
    """Warn at the line of the user's that called into gendyn."""
    level = 1
    frame: FrameType | None = sys._getframe()
    # A cached property stands between in functools.
    own = ("gendyn", "functools")
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def _kind(value: object) -> str:
    return f"an object of class {type(value).__name__}"
