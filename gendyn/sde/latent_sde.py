r"""The latent SDE as a model of series: fitted by the bound of their evidence, it smooths, forecasts and generates.

See :mod:`gendyn.sde.latent_model` for the equations. Values are standardised, and 1 is the longest series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator, torch_generator
from gendyn.sampling import sample
from gendyn.sde.latent_model import LatentModel, LatentPrior
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import under
from gendyn.sde.series_inputs import epoch_rows
from gendyn.sde.series_scaling import SeriesScaling
from gendyn.sde.step_times import step_times
from gendyn.training import Estimator, TrainingDiverged, fingerprint, fit

__all__ = ["LatentSDE"]

_BLOCK = 256
_WATCHED = 4
"""Noise paths behind the validation loss and the score."""


class LatentSDE(Estimator):
    """Learn the process behind irregular, partly observed series.

    Parameters
    ----------
    latent
        Number of features of the latent path.
    hidden, context
        Width of the networks, and number of features a series is told by.
    step
        Longest step, where 1 is the longest series; steps end on observations too.
    n_samples
        Noise paths of each series behind a gradient, and at prediction unless ``n`` is given.
    annealing
        Share of the epochs over which the divergence from the prior comes to count fully.
    gradient
        ``"backprop"``, or ``"checkpoint"``, which remembers less and computes more.
    epochs, batch_size, lr, weight_decay, clip
        Training by Adam.
    validation_fraction, patience
        Share that is held out where no validation is given, and epochs without improvement after which training stops;
        ``patience=None`` holds out nothing, trains all epochs and keeps the last weights.

    Attributes
    ----------
    process_ : LatentPrior
        The prior process, in scaled time.
    history_ : pandas.DataFrame
        Loss by step, minus the bound for each observed value.

    References
    ----------
    Li, Wong, Chen, Duvenaud. Scalable gradients for stochastic differential equations. 2020.

    Examples
    --------
    >>> t = torch.linspace(0, 6.28, 20)
    >>> x = torch.stack([torch.sin(t + 0.3 * k) for k in range(20)])
    >>> model = LatentSDE(latent=2, hidden=8, epochs=2, step=0.1).fit(x, progress=False)
    >>> model.predict_samples(x[:3], at=[1.5, 25.0], n=7).shape
    (7, 3, 2, 1)
    >>> model.sample(n=4, times=[0.0, 10.0]).values.shape
    torch.Size([4, 2, 1])
    """

    process_: LatentPrior
    scaling_: SeriesScaling

    def __init__(
        self,
        latent: int = 4,
        *,
        hidden: int = 64,
        context: int = 32,
        step: float = 1 / 50,
        n_samples: int = 1,
        annealing: float = 0.2,
        gradient: Literal["backprop", "checkpoint"] = "backprop",
        epochs: int = 100,
        batch_size: int = 64,
        lr: float = 1e-2,
        weight_decay: float = 0.0,
        clip: float | None = 10.0,
        validation_fraction: float = 0.2,
        patience: int | None = None,
    ) -> None:
        self.latent = latent
        self.hidden = hidden
        self.context = context
        self.step = step
        self.n_samples = n_samples
        self.annealing = annealing
        self.gradient = gradient
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.validation_fraction = validation_fraction
        self.patience = patience

    def fit(
        self,
        data: Any,
        y: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        validation: Any = None,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn from series.

        Parameters
        ----------
        data, times, mask
            Series, see :func:`~gendyn.sde.read_series`.
        y
            Accepted for the sake of scikit-learn.
        validation
            Series that training is stopped by; by default a share of the series.
        seed
            Root of all randomness.
        progress
            Show a progress bar.
        checkpoint, resume
            File for the state of the fit, and whether to go on from it.
        device
            Where to train; by default where the data are.

        Raises
        ------
        TypeError
            If the data are no series.
        ValueError
            If a hyper-parameter is out of range, or there are too few series to hold some out.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        series = read_series(data, times=times, mask=mask).to(device)
        self.seed_ = as_seed(seed)
        held = None
        if validation is not None:
            held = read_series(validation).to(series.values.device, series.values.dtype)
            if held.dim != series.dim:
                raise ValueError(f"validation must have the {series.dim} channels of the series; got {held.dim}")
        elif self.patience is not None:
            count = max(1, round(self.validation_fraction * len(series)))
            if count >= len(series):
                raise ValueError(f"{len(series)} series are too few to hold one out; give validation or patience=None")
            order = torch.from_numpy(numpy_generator(self.seed_, "validation split").permutation(len(series)))
            series, held = series.rows(order[count:].sort().values), series.rows(order[:count].sort().values)
        self._dim, self.names_ = series.dim, series.names
        self.scaling_ = SeriesScaling.fit(series)
        scaled = self.scaling_.transform(series)
        self._build(derive_seed(self.seed_, "model"), scaled.values)
        objective = _Bound(self, scaled, None if held is None else self.scaling_.transform(held))
        identity = fingerprint(
            scaled.values.nan_to_num(), scaled.times, model="LatentSDE", seed=self.seed_, **self._plain_params()
        )
        watched = held is not None and self.patience is not None
        try:
            result = fit(
                objective, steps=self.epochs * objective.per_epoch, lr=self.lr, clip=self.clip,
                optimizer="adamw" if self.weight_decay else "adam", weight_decay=self.weight_decay,
                record_every=objective.per_epoch, validate_every=objective.per_epoch if held is not None else None,
                patience=self.patience if watched else None, seed=self.seed_, progress=progress,
                checkpoint=checkpoint, resume=resume, fingerprint=identity,
            )  # fmt: skip
        except TrainingDiverged as error:
            self.history_ = error.history
            raise
        finally:
            self._model.eval().requires_grad_(False)
        self.history_ = result.history
        self.process_ = self._model.prior
        return self

    @torch.no_grad()
    def predict_samples(
        self,
        data: Any,
        at: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        n: int | None = None,
        observed: bool = True,
        seed: Seed = 0,
    ) -> NDArray[Any]:
        """Return what series may have been at any times ``(S, B, Q, D)``: within them, and after their end.

        Parameters
        ----------
        data, times, mask
            Series, as for :meth:`fit`.
        at
            Times ``(Q,)`` or ``(B, Q)``, none before the first of their series; by default their own.
        n
            Number of members, by default ``n_samples``.
        observed
            With the noise of an observation, or without.
        seed
            Of the noise.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels are not those of the fit, or a time lies before its series.
        """
        series = self._read(data, times, mask)
        asked = series.times if at is None else torch.as_tensor(at, dtype=torch.float64)
        count, root = self.n_samples if n is None else n, as_seed(seed)
        if count < 1:
            raise ValueError(f"n must be at least 1; got {count}")
        scaled, clock = self.scaling_.transform(series), self.scaling_.clock(asked, series)
        size, found = max(1, 4 * _BLOCK // count), []
        for k, start in enumerate(range(0, len(series), size)):
            some = slice(start, start + size)
            part = scaled.rows(some)
            wanted = torch.cat([part.times, clock[some]], dim=1)
            grid, places = step_times(part.times, part.lengths, longest=self.step, wanted=wanted)
            z, _ = self._model.paths(part, grid, seed=derive_seed(root, k), n_samples=count)
            if places is None:
                raise ValueError("no times are asked about")
            at_these = places[:, part.times.shape[1] :].to(z.device)[None, :, :, None]
            found.append(self._shown(z.gather(2, at_these.expand(count, -1, -1, z.shape[3])), observed, root, k))
        return np.asarray(torch.cat(found, dim=1).cpu().numpy())

    def predict(self, data: Any, at: Any = None, **options: Any) -> NDArray[Any]:
        """Return the mean ``(B, Q, D)`` over members; arguments are those of :meth:`predict_samples`."""
        return np.asarray(self.predict_samples(data, at, **({"observed": False} | options)).mean(0))

    def score(self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None) -> float:
        """Return the bound of the log density for each observed value, in the units of the data."""
        series = self._read(data, times, mask)
        scaled = self.scaling_.transform(series)
        seen = series.seen
        widths = torch.where(seen, self.scaling_.deviation.log(), 0.0).sum()
        total = sum(float(self._bounds(part, derive_seed(self.seed_, "score", k)).sum()) for k, part in _blocks(scaled))
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
        count = 1 if n is None else n
        if times is None:
            clock = torch.linspace(0, self.scaling_.unit, 51, dtype=torch.float64)
        else:
            clock = torch.as_tensor(times, dtype=torch.float64)
        if x0 is not None:
            found = self.predict_samples(x0, clock, n=count, observed=observed, seed=seed)
            values = torch.from_numpy(found).transpose(0, 1).flatten(0, 1)
            return Paths(clock, values, names=self.names_)
        root, model = as_seed(seed), self._model
        noise = torch.randn(count, self.latent, generator=torch_generator(root, "start"))
        start = model.start_mean + model.start_log_deviation.exp() * noise.to(model.start_mean)
        run: dict[str, Any] = {"step": self.step, "solver": "euler_maruyama"} | options
        grid = (clock - clock[0]) / self.scaling_.unit
        path = sample(model.prior, start, grid, seed=derive_seed(root, "path"), progress=progress, **run)
        shown = self._shown(path.values, observed, root, 0)
        return Paths(clock, shown, names=self.names_, info=path.info)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        for name in ("latent", "hidden", "context", "n_samples", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.step > 0:
            raise ValueError(f"step must be positive; got {self.step}")
        if not 0 <= self.annealing <= 1:
            raise ValueError(f"annealing must lie in [0, 1]; got {self.annealing}")
        if self.gradient not in ("backprop", "checkpoint"):
            raise ValueError(f"gradient must be 'backprop' or 'checkpoint'; got {self.gradient!r}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must lie between 0 and 1; got {self.validation_fraction}")

    def _build(self, seed: int, like: Tensor) -> None:
        self._model = LatentModel(self._dim, self.latent, self.hidden, self.context, seed=seed).to(like)

    def _read(self, data: Any, times: Any, mask: Any) -> Series:
        self._check_fitted()
        series = read_series(data, times=times, mask=mask)
        if series.dim != self._dim:
            raise ValueError(f"the model was fitted on {self._dim} channels; the series have {series.dim}")
        return series.to(self.scaling_.mean.device, self.scaling_.mean.dtype)

    def _shown(self, z: Tensor, observed: bool, root: int, block: int) -> Tensor:
        """Return values of latent states ``(..., h)`` in the user's units."""
        values = self._model.decoder(z)
        if observed:
            noise = torch.randn(values.shape, generator=torch_generator(root, "observation", block)).to(values)
            values = values + self._model.log_noise.exp() * noise
        return self.scaling_.inverse(values)

    @torch.no_grad()
    def _bounds(self, scaled: Series, seed: int) -> Tensor:
        grid, places = _grid(scaled, self.step)
        return self._model.bound(scaled, grid, places, seed=seed, n_samples=_WATCHED).value()

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"model.{key}": value for key, value in self._model.state_dict().items()}
        tensors |= {f"scaling.{key}": value for key, value in self.scaling_.state_dict().items()}
        return tensors, {"dim": self._dim, "names": self.names_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._dim = int(extra["dim"])
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
        self.scaling_ = SeriesScaling.from_state(under(tensors, "scaling."))
        self._build(0, self.scaling_.mean)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        self.process_ = self._model.prior


class _Bound:
    """Minus the bound for each observed value, over batches of an epoch."""

    def __init__(self, model: LatentSDE, scaled: Series, held: Series | None) -> None:
        self.module = model._model
        self._model, self._scaled, self._held = model, scaled, held
        self._size = min(model.batch_size, len(scaled))
        self.per_epoch = math.ceil(len(scaled) / self._size)

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one batch."""
        model = self._model
        rows = epoch_rows(len(self._scaled), self._size, step, model.seed_)
        part = self._scaled.rows(rows)
        grid, places = _grid(part, model.step)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        parts = self.module.bound(part, grid, places, seed=seed, n_samples=model.n_samples, gradient=model.gradient)
        rise = model.annealing * model.epochs * self.per_epoch
        beta = min(1.0, (step + 1) / rise) if rise > 0 else 1.0
        return -parts.value(beta).sum() / part.seen.sum().clamp_min(1)

    def validation_loss(self) -> float:
        """Return the loss of what is held out."""
        if self._held is None:
            return math.nan
        total = sum(
            float(self._model._bounds(part, derive_seed(self._model.seed_, "validation", k)).sum())
            for k, part in _blocks(self._held)
        )
        return -total / max(int(self._held.seen.sum()), 1)


def _grid(scaled: Series, step: float) -> tuple[Tensor, Tensor]:
    grid, places = step_times(scaled.times, scaled.lengths, longest=step, wanted=scaled.times)
    if places is None:
        raise ValueError("a series needs at least one time")
    return grid, places


def _blocks(series: Series) -> list[tuple[int, Series]]:
    starts = range(0, len(series), _BLOCK)
    return [(k, series.rows(slice(start, start + _BLOCK))) for k, start in enumerate(starts)]
