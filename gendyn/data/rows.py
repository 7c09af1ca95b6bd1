r"""Rows with a time each, cut into populations.

Every source of snapshots (a table, an AnnData object, a pair of arrays) becomes the same thing on its way in: a matrix
:math:`(N, d)`, a label of time for each row, and perhaps weights and labels. One stable sort by time cuts it, so
that rows keep their order within a time, and no step takes one row after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data.checks import as_tensor, warn_user
from gendyn.data.snapshots import Snapshots
from gendyn.data.time_labels import parse_times

__all__ = ["Rows", "as_matrix", "check_dims", "few"]

_BLOCK = 65_536
_FEW_ROWS = 10


@dataclass(frozen=True)
class Rows:
    """A matrix of rows and what is known of each.

    Parameters
    ----------
    values
        ``(N, d)`` numbers.
    labels
        ``(N,)`` times, or labels of times.
    weights
        ``(N,)``, or ``None``.
    obs
        A table with ``N`` rows, or ``None``.
    names
        ``d`` names, or ``None``.
    owned
        Whether nobody else holds ``values``, so that they need not be copied.

    Examples
    --------
    >>> rows = Rows(np.arange(8.0).reshape(4, 2), np.array(["D10", "D2", "D2", "D10"]))
    >>> import warnings
    >>> with warnings.catch_warnings(action="ignore"):
    ...     rows.snapshots().samples[1].tolist()
    [[0.0, 1.0], [6.0, 7.0]]
    """

    values: NDArray[Any]
    labels: Any
    weights: Any = None
    obs: pd.DataFrame | None = None
    names: Sequence[str] | None = None
    owned: bool = False

    def snapshots(self, times: Mapping[Any, float] | None = None, dtype: torch.dtype | None = None) -> Snapshots:
        """Cut the rows by their time.

        Rows without a time are left out with a warning, and so is told of times with few rows.

        Raises
        ------
        ValueError
            If times cannot be read, no row has one, a time has a single row, or values are not finite.
        """
        values = self.values
        numbers, _ = parse_times(self.labels, times)
        if len(numbers) != len(values):
            raise ValueError(f"each row needs one time; got {len(numbers)} times for {len(values)} rows")
        if len(values) == 0:
            raise ValueError("there are no rows; one row per observation is needed")
        if values.shape[1] == 0:
            raise ValueError("there are no features; at least one column of values is needed")
        known = int((~np.isnan(numbers)).sum())
        if known == 0:
            raise ValueError("no row has a time: every entry of the time column is missing; name another column")
        if known < len(numbers):
            warn_user(f"{len(numbers) - known} of {len(numbers)} rows have no time and are left out")
        self._check_finite(numbers)
        # Missing times are NaN, which is sorted last.
        order = np.argsort(numbers, kind="stable")[:known]
        ordered = numbers[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        stops = np.r_[starts[1:], known]
        found = torch.from_numpy(ordered[starts])
        _check_counts(found.tolist(), (stops - starts).tolist())
        target = np.float64 if (dtype or _kept(values.dtype)) == torch.float64 else np.float32
        in_order = known == len(numbers) and bool((np.diff(order) == 1).all())
        chosen = [slice(a, b) if in_order else order[a:b] for a, b in zip(starts, stops, strict=True)]
        populations = [self._population(rows, target) for rows in chosen]
        weights = None if self.weights is None else [_weights(self.weights)[rows] for rows in chosen]
        obs = None if self.obs is None else [self.obs.iloc[rows] for rows in chosen]
        return Snapshots._adopt(found, populations, weights, obs, self.names)

    def _population(self, rows: slice | NDArray[np.intp], target: type[np.floating[Any]]) -> Tensor:
        part = self.values[rows]
        whole = part.astype(target, order="C", copy=isinstance(rows, slice) and not self.owned)
        return torch.from_numpy(np.ascontiguousarray(whole))

    def _check_finite(self, numbers: NDArray[np.float64]) -> None:
        """Refuse NaN and infinity in rows that have a time, saying where they are in the source."""
        if self.values.dtype.kind != "f":
            return
        rows: list[int] = []
        for start in range(0, len(numbers), _BLOCK):
            finite = np.isfinite(self.values[start : start + _BLOCK]).all(1)
            rows += (np.flatnonzero(~finite & ~np.isnan(numbers[start : start + _BLOCK])) + start).tolist()
        if rows:
            raise ValueError(
                f"values must be finite; got NaN or infinity in {len(rows)} of {len(numbers)} rows (first: "
                f"{', '.join(map(str, rows[:5]))}): drop or impute them"
            )


def as_matrix(values: Any, what: str = "samples") -> tuple[NDArray[Any], list[str] | None, bool]:
    """Return numbers as ``(N, d)``, the names of their columns if there are any, and whether they were copied.

    Raises
    ------
    TypeError
        If they are not numbers.
    ValueError
        If they are not a matrix.

    Examples
    --------
    >>> as_matrix([1.0, 2.0])[0].shape
    (2, 1)
    """
    names = [str(name) for name in values.columns] if isinstance(values, pd.DataFrame) else None
    plain = (
        type(values) is np.ndarray and values.dtype.kind == "f" and values.dtype.isnative and values.itemsize in (4, 8)
    )
    matrix = values if plain else as_tensor(values, what).detach().cpu().numpy()
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2:
        raise ValueError(f"{what} must have shape (n, d); got {matrix.shape}")
    return matrix, names, not plain


def check_dims(n_dims: int | None, width: int) -> int:
    """Return how many leading features to keep.

    Raises
    ------
    ValueError
        If that is less than one, or more than there are.
    """
    if n_dims is None:
        return width
    if not 1 <= n_dims <= width:
        raise ValueError(f"n_dims must lie in 1 to {width}, the number of features there are; got {n_dims}")
    return int(n_dims)


def few(names: Any, most: int = 12) -> str:
    """Return names as a short list for a sentence."""
    texts = [repr(str(name)) for name in names]
    shown = texts if len(texts) <= most else [*texts[: most - 1], f"... ({len(texts)} in all)"]
    return ", ".join(shown) or "none"


def _kept(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.float64 if dtype == np.float64 else torch.float32


def _weights(weights: Any) -> Tensor:
    return as_tensor(weights, "weights")


def _check_counts(times: Sequence[float], counts: Sequence[int]) -> None:
    single = [t for t, count in zip(times, counts, strict=True) if count < 2]
    if single:
        listed = ", ".join(f"{t:g}" for t in single[:8]) + (", ..." if len(single) > 8 else "")
        raise ValueError(
            f"a population needs at least 2 rows; there is one row only at time {listed}: leave such times out, "
            "or check that the time column is the right one"
        )
    small = [f"{t:g} ({count})" for t, count in zip(times, counts, strict=True) if count < _FEW_ROWS]
    if small:
        warn_user(f"times with fewer than {_FEW_ROWS} rows: {', '.join(small[:8])}; results there are mostly chance")
