"""What a batch of series tells the networks, computed once, and the order in which an epoch goes through it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from gendyn.randomness import torch_generator

__all__ = ["BLOCK", "Inputs", "epoch_rows"]

BLOCK = 256
"""Series that are run at once where no gradient is wanted."""


@dataclass(frozen=True)
class Inputs:
    """What a batch of series tells the networks, computed once.

    Attributes
    ----------
    grid
        ``(M,)`` or ``(B, M)``, scaled times.
    controls
        ``(B, M, d_x)``.
    static
        ``(B, S)`` or ``None``.
    start
        What a regression said already ``(B, ...)``, or ``None``.
    places
        Where wanted times stand in the grid ``(B, Q)``, or ``None``.
    """

    grid: Tensor
    controls: Tensor
    static: Tensor | None = None
    start: Tensor | None = None
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.controls)

    def rows(self, index: Tensor | slice) -> Inputs:
        """Return some of the series."""
        kept: dict[str, Any] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            shared = value is None or (part.name == "grid" and value.ndim == 1)
            kept[part.name] = value if shared else value[index]
        return Inputs(**kept)

    def blocks(self, size: int = BLOCK) -> Iterator[Inputs]:
        """Return the series in blocks."""
        for start in range(0, len(self), size):
            yield self.rows(slice(start, start + size))


def epoch_rows(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Return the rows of a step: every epoch deals all rows anew into batches of nearly equal size.

    Examples
    --------
    >>> sorted(torch.cat([epoch_rows(5, 2, step, seed=0) for step in range(3)]).tolist())
    [0, 1, 2, 3, 4]
    """
    per_epoch = math.ceil(n / batch_size)
    epoch, k = divmod(step, per_epoch)
    order = torch.randperm(n, generator=torch_generator(seed, "epoch", epoch))
    return order.tensor_split(per_epoch)[k]
