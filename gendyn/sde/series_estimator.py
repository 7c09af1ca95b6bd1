"""What every model of irregular series shares: its door, its batches, its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gendyn.randomness import Seed, as_seed, torch_generator
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_scaling import SeriesScaling, StaticScaling, read_static
from gendyn.training import Estimator, Objective, TrainingDiverged, fit

__all__ = ["SeriesEstimator", "under"]


class SeriesEstimator(Estimator):
    """Base of the models that are fitted to series; see the module's docstring."""

    epochs: int
    batch_size: int | None
    lr: float
    weight_decay: float
    clip: float | None
    validation_fraction: float
    patience: int | None

    names_: tuple[str, ...] | None
    scaling_: SeriesScaling
    _dim: int
    _static: StaticScaling | None

    def _keep(self, given: Mapping[str, Any]) -> None:
        """Set the hyper-parameters that a constructor was given, and nothing else."""
        for name in self._defaults():
            setattr(self, name, given[name])

    def _seed(self, seed: Seed) -> int:
        """Take the root of all randomness of a fit."""
        self.seed_ = as_seed(seed)
        return self.seed_

    def _check_training(self) -> None:
        """Raise a ValueError for the first hyper-parameter of the training that is out of range."""
        self._check_counts("epochs", "batch_size", "patience")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must be at least 0; got {self.weight_decay}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1; got {self.validation_fraction}")

    def _check_counts(self, *names: str) -> None:
        """Raise a ValueError for the first of these hyper-parameters that is no whole number of at least 1."""
        for name in names:
            value = getattr(self, name)
            if value is None and name in ("batch_size", "patience"):
                continue
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ValueError(f"{name} must be a whole number; got {value!r}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")

    def _scale(self, series: Series, static: Any) -> tuple[Series, Tensor | None]:
        """Fit scalings on what is trained on, and return scaled series and covariates."""
        self._dim, self.names_ = series.dim, series.names
        self.scaling_ = SeriesScaling.fit(series)
        self._static = None
        known = None
        if static is not None:
            values = read_static(static, len(series)).to(series.values)
            self._static = StaticScaling.fit(values)
            known = self._static.transform(values)
        return self.scaling_.transform(series), known

    def _read(self, data: Any, y: Any = None, times: Any = None, mask: Any = None) -> Series:
        """Return series for a fitted model."""
        self._check_fitted()
        series = read_series(data, y, times=times, mask=mask)
        if series.dim != self._dim:
            raise ValueError(f"the model was fitted on {self._dim} channels; the series have {series.dim}")
        return series.to(self.scaling_.mean.device, self.scaling_.mean.dtype)

    def _static_of(self, static: Any, n: int) -> Tensor | None:
        """Return scaled static covariates for a fitted model."""
        if (static is None) != (self._static is None):
            told = "without" if self._static is None else "with"
            raise ValueError(f"the model was fitted {told} static covariates; predict {told} them too")
        if static is None or self._static is None:
            return None
        values = read_static(static, n).to(self._static.mean)
        if values.shape[1] != len(self._static.mean):
            raise ValueError(
                f"the model was fitted on {len(self._static.mean)} static covariates; got {values.shape[1]}"
            )
        return self._static.transform(values)

    def _covariates(self, static: Any, n: int) -> Tensor | None:
        """Return static covariates of the series of a fit, as they were given but checked ``(n, S)``."""
        return None if static is None else read_static(static, n).cpu()

    def _divide(self, n: int, root: int) -> tuple[Tensor, Tensor]:
        """Return the rows of series to learn from and of those to stop by, at random."""
        if n < 2:
            raise ValueError("one series cannot be divided; give validation=, or patience=None")
        order = torch.randperm(n, generator=torch_generator(root, "validation split"))
        out = min(max(1, round(self.validation_fraction * n)), n - 1)
        return order[out:].sort().values, order[:out].sort().values

    def _hold_out(self, series: Series, validation: Any, root: int) -> tuple[Series, Series | None]:
        """Return series to learn from and those to stop by: given ones, a share, or none without early stopping."""
        if validation is not None:
            held = read_series(validation).to(series.values.device, series.values.dtype)
            if held.dim != series.dim:
                raise ValueError(f"validation must have the {series.dim} channels of the series; got {held.dim}")
            return series, held
        if self.patience is None:
            return series, None
        kept, out = self._divide(len(series), root)
        return series.rows(kept), series.rows(out)

    def _clock(self, times: Tensor | Sequence[float] | None) -> Tensor:
        """Return given times, float64, or 51 over the trained span."""
        if times is None:
            return torch.linspace(0, self.scaling_.unit, 51, dtype=torch.float64)
        return torch.as_tensor(times, dtype=torch.float64)

    def _batch(self, n: int) -> int:
        """Return the batch size: by default 16, doubled while there are two batches, at most 128."""
        if self.batch_size is not None:
            return min(self.batch_size, n)
        size = 16
        while 2 * size <= min(n / 2, 128):
            size *= 2
        return min(size, n)

    def _train(
        self,
        objective: Objective,
        identity: str,
        *,
        n: int,
        watched: bool,
        progress: bool,
        checkpoint: str | Path | None,
        resume: bool,
    ) -> None:
        """Train; with early stopping keep the best weights, which may be those it began with."""
        per_epoch = math.ceil(n / self._batch(n))
        validate: Callable[[], float] = objective.validation_loss  # type: ignore[attr-defined]
        module = objective.module
        initial = {name: value.clone() for name, value in module.state_dict().items()}
        before = validate() if watched and self.patience is not None else math.inf
        try:
            result = fit(
                objective,
                steps=self.epochs * per_epoch,
                lr=self.lr,
                optimizer="adamw" if self.weight_decay else "adam",
                weight_decay=self.weight_decay,
                clip=self.clip,
                record_every=per_epoch,
                validate_every=per_epoch if watched else None,
                patience=self.patience if watched else None,
                seed=self.seed_,
                progress=progress,
                checkpoint=checkpoint,
                resume=resume,
                fingerprint=identity,
            )
        except TrainingDiverged as error:
            self.history_ = error.history
            raise
        finally:
            module.eval().requires_grad_(False)
        self.history_ = result.history
        if not result.history["validation"].min() < before and math.isfinite(before):
            module.load_state_dict(initial)

    def _scalings(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the scalings for a file."""
        tensors = {f"scaling.{key}": value for key, value in self.scaling_.state_dict().items()}
        if self._static is not None:
            tensors |= {f"static.{key}": value for key, value in self._static.state_dict().items()}
        return tensors, {"dim": self._dim, "names": self.names_}

    def _restore_scalings(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        """Put back what :meth:`_scalings` gave."""
        self._dim = int(extra["dim"])
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
        self.scaling_ = SeriesScaling.from_state(under(tensors, "scaling."))
        static = under(tensors, "static.")
        self._static = StaticScaling.from_state(static) if static else None


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it.

    Examples
    --------
    >>> under({"a.x": torch.zeros(1), "b": torch.ones(1)}, "a.")
    {'x': tensor([0.])}
    """
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
