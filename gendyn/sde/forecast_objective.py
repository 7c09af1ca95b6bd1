"""What a forecaster learns by: a proper score of its members, over batches of an epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gendyn.randomness import derive_seed
from gendyn.sde.forecast_inputs import AskedInputs
from gendyn.sde.series_inputs import epoch_rows

if TYPE_CHECKING:
    from gendyn.sde.forecaster import StableSDEForecaster

__all__ = ["ForecastObjective"]

_MEMBERS = 4
"""Members of each forecast in training."""


class ForecastObjective:
    """A proper score of members of forecasts.

    Parameters
    ----------
    model
        The forecaster, with its networks.
    learned, watched
        What is learned from, and what training is stopped by, if anything.
    """

    def __init__(self, model: StableSDEForecaster, learned: AskedInputs, watched: AskedInputs | None) -> None:
        self.module: nn.Module = model._model
        self._model, self._learned, self._watched = model, learned, watched
        self._size = model._batch(len(learned.inputs))

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the score of one batch."""
        rows = epoch_rows(len(self._learned.inputs), self._size, step, self._model.seed_)
        part = self._learned.rows(rows.to(self._learned.told.device))
        seed = int(torch.randint(2**62, (1,), generator=generator))
        outcome = part.outcome
        if outcome is None:
            raise ValueError("a forecast is learned from outcomes")
        return self._model._score_of(self._model._members(part, _MEMBERS, seed, learning=True), outcome)

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the score of what was held out."""
        if self._watched is None or self._watched.outcome is None:
            return math.nan
        members = self._model._members_of(self._watched, 16, derive_seed(self._model.seed_, "validation"))
        return float(self._model._score_of(members, self._watched.outcome))
