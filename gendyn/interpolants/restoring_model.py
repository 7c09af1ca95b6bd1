r"""What a model does whose paths start from a source that is made from the data.

Paths restore what the source took away: given :math:`m(x_1)`, of what the data were, they start at
:math:`m(x_1) + s\,\zeta` and end in the law of the data, or, where the fields see :math:`m(x_1)`, in the law of the
data given it. See :mod:`gendyn.interpolants.dependent_source`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gendyn.data import Snapshots
from gendyn.interpolants.coupled_paths import CouplingName, RelaxedCoupling
from gendyn.interpolants.dependent_source import DependentSource, SourceOption
from gendyn.interpolants.ends import DrawEnds, ends_from_data
from gendyn.interpolants.interpolant_model import InterpolantModel
from gendyn.interpolants.schedule import Schedule
from gendyn.randomness import torch_generator

__all__ = ["RestoringModel"]


class RestoringModel(InterpolantModel):
    """A model of populations that may have its source made from one of them.

    Attributes
    ----------
    initial_ : Tensor
        Of such a model the means of sources, of at most 5000 cells.
    """

    condition: str | None
    coupling: CouplingName | RelaxedCoupling | None
    match: str | None
    observed: bool
    source: SourceOption | None
    source_noise: float | Sequence[float]

    @property
    def _source(self) -> DependentSource | None:
        """How the first end is made from the second, if it is."""
        return None if self.source is None else DependentSource(self.source, self.source_noise)

    @property
    def _joins_populations(self) -> bool:
        return super()._joins_populations and self.source is None

    def _check_source(self, schedule: Schedule) -> None:
        """Raise a ValueError for a source that cannot be made from the data, or options of one that is not."""
        if self._source is None:
            if self.observed or self.source_noise != 0.0:
                raise ValueError("source_noise and observed belong to a source; give source='identity' or a function")
            return
        if schedule.sides != "two-sided":
            raise ValueError(f"{schedule} has its own source; leave source out, or take a two-sided schedule")
        if self.coupling is not None or self.match is not None:
            raise ValueError("a source that is made from the data is joined to them; leave coupling and match out")

    def _with_source(self, data: Snapshots, seed: int) -> Snapshots:
        """Return one population together with a draw of the source that is made from it, or the data as they are."""
        if self._source is None:
            return data
        x = data.samples[0]
        made = self._source.draw(self._source.mean(x), torch_generator(seed, "source"))
        weights = None if data.weights is None else [data.weights[0]] * 2
        return Snapshots([0.0, 1.0], [made, x], weights)

    def _ends_from_data(self, data: Snapshots, source: DependentSource, known: Tensor | None) -> DrawEnds:
        """Return what draws scaled points and sources that are made from them."""
        scaling = self.scaling_
        means = scaling.transform(source.mean(scaling.inverse(data.samples[0])))
        if self.observed:
            known = means if known is None else torch.cat([known.to(means), means], dim=1)
        return ends_from_data(data, means, lambda mean, generator: source.draw(mean, generator, scaling.scale), known)

    def _initial_cells(self, data: Snapshots, seed: int) -> Tensor:
        cells = super()._initial_cells(data, seed)
        return cells if self._source is None else self._source.mean(cells)

    def _departure(
        self, x0: Tensor | Snapshots | None, times: Any, n: int | None, seed: int
    ) -> tuple[Tensor | Snapshots | None, int | None, Tensor | None]:
        """Return where paths start: what is given, or kept, at time 0 is the mean of a source, which gets its noise."""
        if self._source is None:
            return super()._departure(x0, times, n, seed)
        means, time, _ = self._start(x0, times)
        if time != 0.0:
            if self.observed:
                raise ValueError(f"fields that see what paths start from need that: begin at time 0; got {time:g}")
            return x0, n, None
        means = (means if n is None else self._resample(means, n, seed)).to(self.process_.shift)
        begun = self._source.draw(means, torch_generator(seed, "source"))
        return Snapshots([0.0], [begun]), None, means if self.observed else None

    def _starting_points(self, x0: Tensor | None, n: int | None, seed: int) -> Tensor:
        points = super()._starting_points(x0, n, seed)
        if self._source is None:
            return points
        return self._source.draw(points.to(self.process_.shift), torch_generator(seed, "source"))

    def _encoded(self, condition: Any, guidance: float, rows: int, observation: Tensor | None = None) -> Tensor | None:
        if not self.observed:
            return super()._encoded(condition, guidance, rows, observation)
        if observation is None:
            raise ValueError("this model sees what its paths start from; give observation=, (B, d)")
        seen = self.scaling_.transform(torch.as_tensor(observation).to(self.process_.shift))
        if seen.shape != (rows, self.process_.dim):
            raise ValueError(f"observation must have shape {(rows, self.process_.dim)}; got {tuple(seen.shape)}")
        told = super()._encoded(condition, guidance, rows)
        return seen if told is None else torch.cat([told.expand(rows, -1), seen], dim=1)
