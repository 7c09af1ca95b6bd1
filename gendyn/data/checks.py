"""The door of the containers: what is accepted, and the sentence for what is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

__all__ = ["as_tensor", "as_times", "check_finite", "check_names", "check_times", "listed"]

ArrayLike = Any
"""Anything that NumPy or torch can read as an array: arrays, tensors, nested lists, DataFrames."""


def as_tensor(value: ArrayLike, what: str) -> Tensor:
    """Return a copy of ``value`` as a tensor; float64, integers and bools are kept, other floats become float32."""
    if isinstance(value, Tensor):
        tensor = value.clone()
    else:
        if isinstance(value, (pd.DataFrame, pd.Series)):
            value = value.to_numpy()
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


def check_times(times: ArrayLike) -> Tensor:
    """Return strictly increasing finite times ``(T,)`` in float64."""
    tensor = as_tensor(times, "times").to(torch.float64)
    if tensor.ndim != 1 or len(tensor) == 0:
        raise ValueError(f"times must be one row of at least one number; got shape {tuple(tensor.shape)}")
    check_finite(tensor, "times")
    falls = torch.nonzero(tensor.diff() <= 0)
    if len(falls):
        k = int(falls[0])
        raise ValueError(
            f"times must increase strictly; got {tensor[k + 1]:g} after {tensor[k]:g} at position {k + 1}: "
            "sort them, and pool what was measured at one time"
        )
    return tensor


def check_finite(values: Tensor, what: str) -> None:
    """Refuse NaN and infinity, saying how many rows hold them and which come first."""
    if not values.is_floating_point() or bool(torch.isfinite(values).all()):
        return
    bad = ~torch.isfinite(values)
    rows = torch.nonzero(bad.reshape(len(values), -1).any(1)).flatten().tolist()
    raise ValueError(
        f"{what} must be finite; got NaN or infinity in {len(rows)} of {len(values)} rows "
        f"(first: {', '.join(map(str, rows[:5]))}): drop or impute them"
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


def _kind(value: object) -> str:
    return f"an object of class {type(value).__name__}"
