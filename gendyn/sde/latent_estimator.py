"""What models share whose paths are seen through noise: members given series, the bound of the evidence, generation.

A child says what grid its steps take, how its paths and bounds are computed, and how a path becomes values.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import Process, sample
from gendyn.sde.asked_times import asked_times
from gendyn.sde.series import Series
from gendyn.sde.series_estimator import SeriesEstimator
from gendyn.sde.series_inputs import epoch_rows

__all__ = ["EvidenceObjective", "LatentEstimator"]

_BLOCK = 256


class LatentEstimator(SeriesEstimator):
    """Base of models of noisy series that are fitted by the bound of their evidence; see the module's docstring."""

    step: float
    n_samples: int

    process_: Process
    _model: nn.Module

    @abstractmethod
    def _grid(self, scaled: Series, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the times of steps, and where those of the series stand among them, then wanted ones."""

    @abstractmethod
    def _paths(self, scaled: Series, grid: Tensor, places: Tensor, *, seed: int, n: int) -> Tensor:
        """Return paths given series, ``(n, B, M, h)``, at the times of a grid."""

    @abstractmethod
    def _bounds(self, scaled: Series, seed: int) -> Tensor:
        """Return the bound of the log evidence of each series ``(B,)``, with the noise paths of a score."""

    @abstractmethod
    def _training_bounds(self, scaled: Series, seed: int, done: float) -> Tensor:
        """Return what a gradient raises, ``(B,)``, when a share of the training is done."""

    @abstractmethod
    def _decoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scaled values of states ``(..., h)``, and the log deviation of the noise of an observation."""

    @abstractmethod
    def _first(self) -> tuple[Tensor, Tensor]:
        """Return mean and log deviation of the state at the start of a new series, ``(h,)``."""

    @abstractmethod
    def _run(self) -> dict[str, Any]:
        """Return the options of :func:`gendyn.sample` by which the prior runs unless others are given."""

    @torch.no_grad()
    def _members(
        self, data: Any, at: Any, times: Any, mask: Any, *, n: int, observed: bool, seed: Seed
    ) -> NDArray[Any]:
        """Return what series may have been at any times, ``(n, B, Q, D)``."""
        series = self._read(data, times=times, mask=mask)
        asked = asked_times(at, series)
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        root = as_seed(seed)
        scaled, clock = self.scaling_.transform(series), self.scaling_.clock(asked, series)
        size, found = max(1, 4 * _BLOCK // n), []
        for k, start in enumerate(range(0, len(series), size)):
            some = slice(start, start + size)
            part = scaled.rows(some)
            grid, places = self._grid(part, clock[some])
            z = self._paths(part, grid, places, seed=derive_seed(root, k), n=n)
            at_these = places[:, part.times.shape[1] :].to(z.device)[None, :, :, None]
            found.append(self._shown(z.gather(2, at_these.expand(n, -1, -1, z.shape[3])), observed, root, k))
        return np.asarray(torch.cat(found, dim=1).cpu().numpy())

    @abstractmethod
    def predict_samples(
        self,
        data: Any,
        at: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        n: int = 100,
        observed: bool = False,
        seed: Seed = 0,
    ) -> NDArray[Any]:
        """Return what series may have been at any times, ``(n, B, Q, D)``: within them, and after their end."""

    def predict(self, data: Any, at: Any = None, **options: Any) -> NDArray[Any]:
        """Return the mean ``(B, Q, D)`` over members; arguments are those of :meth:`predict_samples`."""
        return np.asarray(self.predict_samples(data, at, **({"observed": False} | options)).mean(0))

    def predict_interval(
        self, data: Any, at: Any = None, *, level: float = 0.9, n: int = 400, **options: Any
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return quantiles ``(B, Q, D)`` of members, lower and upper; arguments as of :meth:`predict_samples`.

        Raises
        ------
        ValueError
            If the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        members = self.predict_samples(data, at, n=n, **options)
        low, high = np.quantile(members, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def score(self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None) -> float:
        """Return the bound of the log density for each observed value, in the units of the data."""
        series = self._read(data, times=times, mask=mask)
        seen = series.seen
        widths = torch.where(seen, self.scaling_.deviation.log(), 0.0).sum()
        total = self._total(self.scaling_.transform(series), "score")
        return (total - float(widths)) / max(int(seen.sum()), 1)

    @torch.no_grad()
    def sample(
        self,
        x0: Any = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        observed: bool = False,
        seed: Seed = 0,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Generate series: new ones from the prior, or what given series may have been.

        Parameters
        ----------
        x0
            Series, or ``None`` for new ones.
        times
            Increasing times ``(T,)``; the first is the start of new series. By default 51 over the trained span.
        n
            Number of new series, or members of each given one, those of the first series first; by default 1.
        observed
            With the noise of an observation, or without.
        seed
            Of the noise.
        progress
            Show progress.
        **options
            Further options of :func:`gendyn.sample`, for new series.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        count, clock = 1 if n is None else n, self._clock(times)
        if x0 is not None:
            found = self._members(x0, clock, None, None, n=count, observed=observed, seed=seed)
            return Paths(clock, torch.from_numpy(found).transpose(0, 1).flatten(0, 1), names=self.names_)
        root = as_seed(seed)
        mean, log_deviation = self._first()
        noise = torch.randn(count, len(mean), generator=torch_generator(root, "start"))
        start = mean + log_deviation.exp() * noise.to(mean)
        grid = (clock - clock[0]) / self.scaling_.unit
        path = sample(
            self.process_, start, grid, seed=derive_seed(root, "path"), progress=progress, **(self._run() | options)
        )
        return Paths(clock, self._shown(path.values, observed, root, 0), names=self.names_, info=path.info)

    # --- inside --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _total(self, scaled: Series, purpose: str) -> float:
        """Return the bound of all series together."""
        return sum(
            float(self._bounds(scaled.rows(slice(start, start + _BLOCK)), derive_seed(self.seed_, purpose, k)).sum())
            for k, start in enumerate(range(0, len(scaled), _BLOCK))
        )

    def _shown(self, z: Tensor, observed: bool, root: int, block: int) -> Tensor:
        """Return states ``(..., h)`` in the user's units."""
        values, log_noise = self._decoded(z)
        if observed:
            noise = torch.randn(values.shape, generator=torch_generator(root, "observation", block)).to(values)
            values = values + log_noise.exp() * noise
        return self.scaling_.inverse(values)

    def _model_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return scalings and weights for a file."""
        tensors, told = self._scalings()
        return tensors | {f"model.{key}": value for key, value in self._model.state_dict().items()}, told


class EvidenceObjective:
    """Minus the bound for each observed value, over batches of an epoch.

    Parameters
    ----------
    estimator
        Whose model is trained.
    scaled, held
        Series that are learned from, and those that training is stopped by.
    """

    def __init__(self, estimator: LatentEstimator, scaled: Series, held: Series | None) -> None:
        self.module = estimator._model
        self._estimator, self._scaled, self._held = estimator, scaled, held
        self._size = estimator._batch(len(scaled))
        self._steps = estimator.epochs * math.ceil(len(scaled) / self._size)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one batch."""
        rows = epoch_rows(len(self._scaled), self._size, step, self._estimator.seed_)
        part = self._scaled.rows(rows)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        bounds = self._estimator._training_bounds(part, seed, (step + 1) / self._steps)
        return -bounds.sum() / part.seen.sum().clamp_min(1)

    def validation_loss(self) -> float:
        """Return the loss of what is held out."""
        if self._held is None:
            return math.nan
        return -self._estimator._total(self._held, "validation") / max(int(self._held.seen.sum()), 1)
