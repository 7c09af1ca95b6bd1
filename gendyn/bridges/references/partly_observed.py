"""A reference of which the data show only some coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gendyn.bridges.references.family import ReferenceFamily
from gendyn.bridges.references.fixed import check_process, describe_reference
from gendyn.bridges.references.lifted import LiftedReference
from gendyn.data import Snapshots
from gendyn.sampling import Process

__all__ = ["PartlyObserved"]


@dataclass(frozen=True, eq=False)
class PartlyObserved:
    r"""A process of more coordinates than the data have features, such as messengers and proteins.

    .. math:: h_{t_0} \sim \mathcal N(\text{hidden\_mean},\; \operatorname{diag}(\text{hidden\_scale}^2))

    at every first point; from then on the hidden coordinates follow from the process and the populations.

    Parameters
    ----------
    process
        The process of the whole state, in the Ito sense, with noise that reaches every coordinate; or, for
        :class:`gendyn.ReferenceRefinement`, a family of such.
    observed
        Indices of the observed coordinates, in the order of the data's features; by default the leading ones, as many
        as the data have.
    hidden_mean
        Mean of the hidden coordinates at the first time, in their own order: a number, or one each.
    hidden_scale
        Their standard deviation, not negative: a number, or one each.

    Raises
    ------
    ValueError
        If a number is not finite, a scale is negative, or an index is used twice.

    Examples
    --------
    >>> import gendyn as gd
    >>> ring = gd.systems.ProteinRepressilator()
    >>> reference = PartlyObserved(ring, hidden_mean=0.05, hidden_scale=0.03)
    >>> data = Snapshots([0.0, 1.0], [torch.ones(5, 3), torch.ones(5, 3)])
    >>> reference.lift(data).hidden
    [3, 4, 5]
    """

    process: Process | ReferenceFamily
    observed: Sequence[int] | None = None
    hidden_mean: float | Sequence[float] = 0.0
    hidden_scale: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        for name in ("hidden_mean", "hidden_scale"):
            value = getattr(self, name)
            values = list(value) if isinstance(value, Sequence) else [value]
            low = 0.0 if name == "hidden_scale" else -math.inf
            if not all(math.isfinite(v) and v >= low for v in values):
                raise ValueError(f"{name} must be finite{' and not negative' if low == 0 else ''}; got {value}")
        if self.observed is not None and len(set(self.observed)) != len(self.observed):
            raise ValueError(f"observed must name different coordinates; got {list(self.observed)}")

    def lift(self, data: Snapshots) -> LiftedReference:
        """Return the reference as a bridge through these populations takes it.

        Raises
        ------
        ValueError
            If the process has no noise, or its coordinates do not fit the data.
        """
        if isinstance(self.process, ReferenceFamily):
            raise TypeError(
                f"{type(self.process).__name__} is a family, whose parameters are to be learned: give it to "
                "gendyn.ReferenceRefinement, or take a process"
            )
        return self.around(check_process(self.process, self.process.dim), data.dim)

    def around(self, process: Process, features: int) -> LiftedReference:
        """Return the same around a process in place of one's own."""
        observed = list(range(features)) if self.observed is None else [int(k) for k in self.observed]
        if len(observed) != features or not all(0 <= k < process.dim for k in observed):
            raise ValueError(
                f"observed must name {features} of the {process.dim} coordinates of {type(process).__name__}, one a "
                f"feature of the data; got {observed}"
            )
        hidden = process.dim - features
        return LiftedReference(
            process,
            observed,
            self._spread(self.hidden_mean, "hidden_mean", hidden),
            torch.zeros(hidden, features, dtype=torch.float64),
            torch.diag(self._spread(self.hidden_scale, "hidden_scale", hidden).square()),
        )

    def describe(self) -> dict[str, Any]:
        """Return the reference as JSON can hold it.

        Raises
        ------
        TypeError
            If the process is one that only code can make.
        """
        plain = {name: getattr(self, name) for name in ("observed", "hidden_mean", "hidden_scale")}
        lists = {name: list(value) if isinstance(value, Sequence) else value for name, value in plain.items()}
        whole = self.process
        process = whole.describe() if isinstance(whole, ReferenceFamily) else describe_reference(whole)
        return {"partly_observed": {"process": process, **lists}}

    @staticmethod
    def _spread(value: float | Sequence[float], name: str, hidden: int) -> Tensor:
        values = torch.as_tensor(value, dtype=torch.float64)
        if values.ndim and len(values) != hidden:
            raise ValueError(f"{name} must be a number or {hidden} numbers, one a hidden coordinate; got {len(values)}")
        return values.expand(hidden).clone()
