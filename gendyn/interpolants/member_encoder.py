"""What a field is told of a member of a cohort besides its cells: conditions, its number, covariates of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from gendyn.data import Cohort, Snapshots
from gendyn.interpolants.condition import ConditionEncoder, MemberConditions

__all__ = ["MemberEncoder"]


class MemberEncoder:
    """Conditions and covariates of the members of a cohort, as numbers that a network can read.

    Parameters
    ----------
    names
        Members that the model is trained on.
    conditions
        Encodes what is done to a member; ``None`` if the cohort has no conditions.
    cells
        Encodes a column of ``obs`` of start cells; ``None`` for none.
    numbered
        Whether a member is told by its number; one that is not known is the mean of all.

    Examples
    --------
    >>> members = MemberEncoder(["p1", "p2"], numbered=True)
    >>> members(None, "p2").tolist(), members(None, "new").tolist()
    ([0.0, 1.0], [0.5, 0.5])
    """

    def __init__(
        self,
        names: Sequence[str],
        conditions: MemberConditions | None = None,
        cells: ConditionEncoder | None = None,
        *,
        numbered: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.conditions = conditions
        self.cells = cells
        self.numbered = numbered

    @classmethod
    def fit(cls, data: Cohort, covariates: str | None = None, *, numbered: bool = False) -> Self:
        """Read conditions and covariates off a cohort.

        Raises
        ------
        ValueError
            If members have other conditions, or no such column, or an entry is missing or not finite.
        """
        conditions = None if data.conditions is None else MemberConditions.fit(data.conditions)
        cells = None
        if covariates is not None:
            starts = Snapshots(
                range(len(data)), [m.samples[0] for m in data.values()], obs=[_obs(m) for m in data.values()]
            )
            cells = ConditionEncoder.fit(covariates, starts)
        return cls(list(data), conditions, cells, numbered=numbered)

    @property
    def width(self) -> int:
        """Entries of what is told of a member."""
        told = 0 if self.conditions is None else self.conditions.width
        return told + (len(self.names) if self.numbered else 0)

    @property
    def cell_width(self) -> int:
        """Entries of what is told of a cell."""
        return 0 if self.cells is None else self.cells.width

    def __call__(self, condition: Any, member: str | None) -> Tensor | None:
        """Return what is told of a member ``(width,)``; ``None`` for nothing.

        Raises
        ------
        ValueError
            If a condition is missing where there are some, given where there are none, or was not seen in the fit.
        """
        parts = []
        if self.conditions is not None:
            if condition is None:
                raise ValueError("this model was fitted with conditions; give condition=")
            parts.append(self.conditions(condition))
        elif condition is not None:
            raise ValueError("this model was fitted without conditions; leave condition out")
        if self.numbered:
            count = len(self.names)
            number = torch.full((count,), 1.0 / count)
            if member in self.names:
                number = torch.nn.functional.one_hot(torch.tensor(self.names.index(member)), count).float()
            parts.append(number)
        return torch.cat(parts) if parts else None

    def of(self, name: str, data: Cohort) -> Tensor | None:
        """Return what is told of a member of a cohort."""
        known = data.conditions
        return self(None if known is None else known[name], name)

    def covariates(self, population: Snapshots) -> Tensor | None:
        """Return what is told of the start cells ``(n, cell_width)``; ``None`` for nothing."""
        return None if self.cells is None else self.cells.encode(population)[0].to(population.samples[0])

    def to_dict(self) -> dict[str, Any]:
        """Return what :meth:`from_dict` needs, for a file's header."""
        return {
            "members": list(self.names),
            "conditions": None if self.conditions is None else [c.to_dict() for c in self.conditions.columns],
            "cells": None if self.cells is None else self.cells.to_dict(),
            "numbered": self.numbered,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_dict`."""
        conditions, cells = stored["conditions"], stored["cells"]
        return cls(
            stored["members"],
            None if conditions is None else MemberConditions([ConditionEncoder.from_dict(c) for c in conditions]),
            None if cells is None else ConditionEncoder.from_dict(cells),
            numbered=stored["numbered"],
        )


def _obs(member: Snapshots) -> Any:
    if member.obs is None:
        raise ValueError("covariates are columns of the members' obs; a member has none")
    return member.obs[0]
