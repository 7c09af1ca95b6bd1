"""Conditions: a label or a covariate of every row, as numbers that a network can read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data import Snapshots

__all__ = ["ConditionEncoder", "MemberConditions"]


class ConditionEncoder:
    """One column of labels, one-hot, or one of numbers, standardised; a last entry says that it is known.

    An unknown condition is a row of zeros.

    Parameters
    ----------
    column
        Name of the column of ``obs``.
    categories
        Its labels, sorted; ``None`` for numbers.
    mean, deviation
        Of the numbers.

    Examples
    --------
    >>> encoder = ConditionEncoder("type", categories=("B", "T"))
    >>> encoder(["T", "B"], rows=2).tolist()
    [[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]
    """

    def __init__(
        self, column: str, categories: Sequence[str] | None = None, mean: float = 0.0, deviation: float = 1.0
    ) -> None:
        self.column = column
        self.categories = None if categories is None else tuple(categories)
        self.mean = mean
        self.deviation = deviation

    @classmethod
    def fit(cls, column: str, data: Snapshots) -> Self:
        """Read the labels, or mean and standard deviation, off the populations.

        Raises
        ------
        ValueError
            If there is no such column, or an entry is missing or not finite.
        """
        values = pd.concat([_column(column, frame) for frame in data.obs or ()]) if data.obs else _column(column, None)
        return cls.of(column, values)

    @classmethod
    def of(cls, column: str, values: pd.Series[Any]) -> Self:
        """Read the labels, or mean and standard deviation, off a column.

        Raises
        ------
        ValueError
            If an entry is missing or not finite.
        """
        if values.isna().any():
            raise ValueError(
                f"condition {column!r} must be known for every row; {int(values.isna().sum())} are missing"
            )
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            numbers = values.to_numpy(dtype=np.float64)
            if not np.isfinite(numbers).all():
                raise ValueError(f"condition {column!r} must be finite; got infinity")
            return cls(column, None, float(numbers.mean()), float(numbers.std()) or 1.0)
        return cls(column, sorted({str(v) for v in values}))

    @property
    def width(self) -> int:
        """Entries of an encoded row."""
        return (1 if self.categories is None else len(self.categories)) + 1

    def encode(self, data: Snapshots) -> list[Tensor]:
        """Return one ``(n_k, width)`` a population."""
        return [self(_column(self.column, frame).tolist(), rows=len(frame)) for frame in data.obs or ()]

    def __call__(self, value: Any, *, rows: int) -> Tensor:
        """Return ``(rows, width)`` for one value per row, or ``(width,)`` for a single value.

        Raises
        ------
        ValueError
            If a label was not seen in the fit, a number is not finite, or there are not as many values as rows.
        """
        single = isinstance(value, (str, bytes)) or not isinstance(value, (Sequence, np.ndarray, pd.Series, Tensor))
        entries = [value] if single else [v.item() if hasattr(v, "item") else v for v in value]
        if not single and len(entries) != rows:
            raise ValueError(f"condition must be one value, or one for each of {rows} rows; got {len(entries)}")
        known = torch.ones(len(entries), 1)
        if self.categories is None:
            numbers = (torch.tensor([float(v) for v in entries], dtype=torch.float64) - self.mean) / self.deviation
            if not bool(torch.isfinite(numbers).all()):
                raise ValueError(f"condition {self.column!r} must be finite; got NaN or infinity")
            encoded = torch.cat([numbers[:, None].float(), known], dim=1)
        else:
            unknown = [v for v in entries if str(v) not in self.categories]
            if unknown:
                raise ValueError(
                    f"condition {self.column!r} was fitted with {', '.join(self.categories)}; got {unknown[0]!r}"
                )
            index = torch.tensor([self.categories.index(str(v)) for v in entries])
            encoded = torch.cat([torch.nn.functional.one_hot(index, len(self.categories)).float(), known], dim=1)
        return encoded[0] if single else encoded

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` needs, for a file's header."""
        return {
            "column": self.column,
            "categories": None if self.categories is None else list(self.categories),
            "mean": self.mean,
            "deviation": self.deviation,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        return cls(**stored)


def _column(name: str, frame: pd.DataFrame | None) -> pd.Series[Any]:
    columns = [] if frame is None else list(frame.columns)
    if frame is None or name not in columns:
        known = ", ".join(map(str, columns)) or "none"
        raise ValueError(f"condition {name!r} must be a column of the populations' obs; there are {known}")
    return frame[name]


class MemberConditions:
    """The conditions of a cohort's members as rows of numbers: one :class:`ConditionEncoder` a column.

    A single label or number is one column, a row of them has a column each, a mapping a column a key.

    Parameters
    ----------
    columns
        Encoders in order.

    Examples
    --------
    >>> conditions = MemberConditions.fit({"p1": {"drug": "A", "dose": 1.0}, "p2": {"drug": "B", "dose": 3.0}})
    >>> conditions({"drug": "B", "dose": 1.0}).tolist()
    [-1.0, 1.0, 0.0, 1.0, 1.0]
    """

    def __init__(self, columns: Sequence[ConditionEncoder]) -> None:
        self.columns = tuple(columns)

    @classmethod
    def fit(cls, conditions: Mapping[str, Any]) -> Self:
        """Read the columns off the conditions of all members.

        Raises
        ------
        ValueError
            If members have other columns, or an entry is missing or not finite.
        """
        table = [_row(condition) for condition in conditions.values()]
        names = list(table[0])
        for member, row in zip(conditions, table, strict=True):
            if list(row) != names:
                raise ValueError(
                    f"conditions of all members must have the same entries; {member!r} has {', '.join(row)}, "
                    f"the first has {', '.join(names)}"
                )
        return cls([ConditionEncoder.of(name, pd.Series([row[name] for row in table])) for name in names])

    @property
    def width(self) -> int:
        """Entries of an encoded condition."""
        return sum(column.width for column in self.columns)

    def __call__(self, condition: Any) -> Tensor:
        """Return one condition as ``(width,)``.

        Raises
        ------
        ValueError
            If an entry is missing or one too many, or was not seen in the fit.
        """
        row = _row(condition)
        names = [column.column for column in self.columns]
        if set(row) != set(names):
            raise ValueError(f"a condition needs the entries {', '.join(names)}, as in the fit; got {condition!r}")
        return torch.cat([column(row[column.column], rows=1) for column in self.columns])


def _row(condition: Any) -> dict[str, Any]:
    if isinstance(condition, Mapping):
        return {str(key): condition[key] for key in sorted(condition, key=str)}
    if isinstance(condition, (tuple, list)):
        return {f"condition {k}": value for k, value in enumerate(condition)}
    return {"condition": condition}
