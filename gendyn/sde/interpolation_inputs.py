"""What an interpolator is asked: series of which something is hidden, and the moments asked about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from gendyn.sde.series_inputs import Inputs
from gendyn.sde.surroundings import SURROUNDINGS

__all__ = ["HiddenInputs"]


@dataclass(frozen=True)
class HiddenInputs:
    """Inputs of some series and what is asked about them.

    Attributes
    ----------
    inputs
        Of the series.
    at
        Scaled times ``(B, Q)``.
    step, part
        The solver's step in which each time lies ``(B, Q)``, and how far into it.
    told
        Surroundings ``(B, Q, D, F)``.
    start
        What is said without a network ``(B, Q, D)``.
    width
        Deviation from that ``(B, Q, D)``.
    outcome
        ``(B, Q, D)``, NaN where not observed, or ``None``.
    """

    inputs: Inputs
    at: Tensor
    step: Tensor
    part: Tensor
    told: Tensor
    start: Tensor
    width: Tensor
    outcome: Tensor | None

    @classmethod
    def of(cls, inputs: Inputs, at: Tensor, told: Tensor, start: tuple[Tensor, Tensor], outcome: Tensor | None) -> Self:
        """Return the same with the places of times in the solver's grid; after its end stands the last state."""
        grid = inputs.grid.expand(len(inputs), -1).contiguous()
        right = torch.searchsorted(grid, at.contiguous()).clamp(1, grid.shape[1] - 1)
        before, after = grid.gather(1, right - 1), grid.gather(1, right)
        part = ((at - before) / (after - before).clamp_min(1e-300)).clamp(0, 1)
        return cls(inputs, at, (right - 1).to(told.device), part.to(told), told, *start, outcome)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def known(self) -> Tensor:
        """Which entries were observed at the very moment ``(B, Q, D)``."""
        before, after = (self.told[..., SURROUNDINGS.index(name)] for name in ("before", "after"))
        return (before == 0) & (after == 0)

    def rows(self, index: Tensor | slice) -> HiddenInputs:
        """Return some of the series."""
        kept: dict[str, Any] = {"inputs": self.inputs.rows(index)}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "inputs":
                kept[field.name] = value if value is None else value[index]
        return HiddenInputs(**kept)

    def blocks(self, size: int) -> Iterator[HiddenInputs]:
        """Return the series in blocks."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))

    def states(self, paths: Tensor) -> Tensor:
        """Return latent paths ``(S, B, M, h)`` at the times that are asked about ``(S, B, Q, h)``, on their lines."""
        place = self.step[None, :, :, None].expand(len(paths), -1, -1, paths.shape[3])
        left, right = paths.gather(2, place), paths.gather(2, place + 1)
        return left + self.part[:, :, None] * (right - left)
