"""What a cohort must be to learn from it how populations move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendyn.data import Cohort, Snapshots

__all__ = ["check_cohort"]


def check_cohort(data: Any, *, paired: bool, neighbours: int, embedded: int) -> Tensor:
    """Return the two times at which all members are seen.

    Parameters
    ----------
    data
        The cohort.
    paired
        Whether row i at the second time is row i at the first.
    neighbours, embedded
        Of the graph of start cells, and how many of them an encoder sees.

    Returns
    -------
    Tensor
        ``(2,)``.

    Raises
    ------
    TypeError
        If ``data`` is not a :class:`~gendyn.Cohort`.
    ValueError
        If members are seen at other times, have too few cells or weights, or rows do not pair.

    Examples
    --------
    >>> x = torch.zeros(3, 1)
    >>> cohort = Cohort({"a": Snapshots([0.0, 2.0], [x, x])})
    >>> check_cohort(cohort, paired=True, neighbours=0, embedded=300).tolist()
    [0.0, 2.0]
    """
    if not isinstance(data, Cohort):
        raise TypeError(f"meta flow matching needs a gendyn.Cohort of populations; got {type(data).__name__}")
    times: Tensor | None = None
    for name, member in data.items():
        if len(member) != 2:
            raise ValueError(f"every member must be seen at two times; {name!r} is seen at {len(member)}")
        if times is not None and not torch.equal(times, member.times.cpu()):
            raise ValueError(
                f"all members must be seen at the same two times; {name!r} is seen at {member.times.tolist()}, "
                f"the first at {times.tolist()}"
            )
        times = member.times.cpu()
        _check_cells(name, member)
        if paired and member.sizes[0] != member.sizes[1]:
            raise ValueError(f"paired populations must have equal sizes; {name!r} has {list(member.sizes)}")
        if min(member.sizes[0], embedded) <= neighbours:
            raise ValueError(
                f"a graph of {neighbours} neighbours needs more start cells; {name!r} has {member.sizes[0]} "
                f"(embedded={embedded})"
            )
    if times is None:
        raise ValueError("a cohort needs at least one member")
    return times


def _check_cells(name: str, member: Snapshots) -> None:
    """Refuse a member of too few cells, or of cells that are not to count alike."""
    if min(member.sizes) < 2:
        raise ValueError(f"every population needs at least 2 cells; {name!r} has {list(member.sizes)}")
    if any(bool((w != w[0]).any()) for w in member.weights or ()):
        raise ValueError(
            f"meta flow matching counts every cell of a population alike; {name!r} has weights: draw its cells by "
            "weight first (torch.multinomial), and give those without weights"
        )
