"""What an interpolator learns by: the CRPS of hidden entries, over batches of an epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gendyn.randomness import derive_seed
from gendyn.sde.interpolation_inputs import HiddenInputs
from gendyn.sde.proper_losses import crps_loss
from gendyn.sde.series_inputs import epoch_rows

if TYPE_CHECKING:
    from gendyn.sde.interpolator import StableSDEInterpolator

__all__ = ["InterpolationObjective"]

_MEMBERS = 2
"""Noise paths of each series in training, and members of each outcome."""


class InterpolationObjective:
    """The CRPS of hidden entries.

    Parameters
    ----------
    model
        The interpolator, with its networks.
    learned, watched
        What is learned from, and what training is stopped by, if anything.
    """

    def __init__(self, model: StableSDEInterpolator, learned: HiddenInputs, watched: HiddenInputs | None) -> None:
        self.module: nn.Module = model._model
        self._model, self._learned, self._watched = model, learned, watched
        self._size = model._batch(len(learned))

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the score of one batch."""
        rows = epoch_rows(len(self._learned), self._size, step, self._model.seed_)
        part = self._learned.rows(rows.to(self._learned.told.device))
        seed = int(torch.randint(2**62, (1,), generator=generator))
        if part.outcome is None:
            raise ValueError("interpolation is learned from hidden entries")
        members, _ = self._model._members(part, _MEMBERS, seed, learning=True)
        return crps_loss(members, part.outcome.nan_to_num(), ~part.outcome.isnan())

    def validation_loss(self) -> float:
        """Return the score of what is hidden of held-out series."""
        if self._watched is None:
            return math.nan
        members, _ = self._model._members_of(self._watched, 8, derive_seed(self._model.seed_, "validation"))
        return self._model._crps(members, self._watched)
