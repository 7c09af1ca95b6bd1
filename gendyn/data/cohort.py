"""Populations of several patients, wells or conditions, each with its own times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from gendyn.data.snapshots import Snapshots

__all__ = ["Cohort"]


class Cohort(Mapping[str, Snapshots]):
    """Snapshots by the name of the patient, well or condition they come from.

    Parameters
    ----------
    members
        Snapshots by name, all with the same features.
    conditions
        What was done to each member: one string or number, one row of them or one mapping a name; or ``None``. Rows
        are kept as tuples.

    Raises
    ------
    TypeError
        If a member is not :class:`Snapshots`, or a condition holds something else.
    ValueError
        If there is no member, features differ, or conditions do not name each member.

    Examples
    --------
    >>> import torch
    >>> data = Snapshots([0.0], [torch.zeros(3, 2)])
    >>> cohort = Cohort({"patient-1": data, "patient-2": data}, conditions={"patient-1": "A", "patient-2": "B"})
    >>> list(cohort), cohort.dim, cohort.conditions["patient-2"]
    (['patient-1', 'patient-2'], 2, 'B')
    """

    __slots__ = ("_conditions", "_members")

    def __init__(
        self, members: Mapping[str, Snapshots], conditions: Mapping[str, Any] | pd.DataFrame | None = None
    ) -> None:
        if not isinstance(members, Mapping):
            raise TypeError(f"a cohort needs a mapping of names to Snapshots; got {type(members).__name__}")
        if not members:
            raise ValueError("a cohort needs at least one member; got none")
        for name, member in members.items():
            if not isinstance(name, str):
                raise TypeError(f"names of members must be strings; got {name!r}")
            if not isinstance(member, Snapshots):
                raise TypeError(f"member {name!r} must be Snapshots; got {type(member).__name__}")
        dims = {name: member.dim for name, member in members.items()}
        if len(set(dims.values())) > 1:
            raise ValueError(f"all members must have the same number of features; got {dims}")
        if isinstance(conditions, pd.DataFrame):
            conditions = {str(name): row.to_dict() for name, row in conditions.iterrows()}
        if conditions is not None and set(conditions) != set(members):
            missing = sorted(set(members) - set(conditions)) or sorted(set(conditions) - set(members))
            raise ValueError(f"conditions must name each member once; {missing[0]!r} is missing or unknown")
        self._members = dict(members)
        self._conditions = (
            None if conditions is None else {name: _condition(conditions[name], name) for name in members}
        )

    @property
    def conditions(self) -> dict[str, Any] | None:
        """The condition of each member, or ``None``."""
        return None if self._conditions is None else dict(self._conditions)

    @property
    def dim(self) -> int:
        """Number of features."""
        return next(iter(self._members.values())).dim

    def __getitem__(self, name: str) -> Snapshots:
        if name not in self._members:
            raise KeyError(f"there is no member {name!r}; there are {', '.join(self._members)}")
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Cohort({len(self)} members, {self.dim} features)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cohort):
            return NotImplemented
        return self._members == other._members and self._conditions == other._conditions

    __hash__ = None  # type: ignore[assignment]

    def only(self, names: Iterable[str]) -> Cohort:
        """Return the cohort of these members alone."""
        chosen = {name: self[name] for name in names}
        conditions = None if self._conditions is None else {name: self._conditions[name] for name in chosen}
        return Cohort(chosen, conditions)

    def without(self, names: Iterable[str]) -> Cohort:
        """Return the cohort of all other members: the way to hold populations out."""
        out = set(names)
        unknown = sorted(out - set(self._members))
        if unknown:
            raise KeyError(f"there is no member {unknown[0]!r}; there are {', '.join(self._members)}")
        return self.only(name for name in self._members if name not in out)

    def to_frame(self) -> pd.DataFrame:
        """Return one long table with a first column ``member``."""
        frames = []
        for name, member in self._members.items():
            frame = member.to_frame()
            frame.insert(0, "member", name)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def save(self, path: str | Path) -> None:
        """Write to ``.npz``, atomically and without loss."""
        from gendyn.data.storage import save_cohort

        save_cohort(self, path)

    @staticmethod
    def load(path: str | Path) -> Cohort:
        """Read back what :meth:`save` wrote."""
        from gendyn.data.storage import load_cohort

        return load_cohort(path)


def _condition(value: Any, name: str) -> Any:
    """Return a condition in plain Python, so that it can be compared and saved."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return _condition(value.tolist(), name)
    if isinstance(value, pd.Series):
        return _condition(value.to_dict(), name)
    if isinstance(value, Mapping):
        return {str(key): _condition(entry, name) for key, entry in value.items()}
    if isinstance(value, Sequence):
        return tuple(_condition(entry, name) for entry in value)
    raise TypeError(
        f"the condition of {name!r} must be of strings, numbers, rows or mappings; got {type(value).__name__}"
    )
