r"""GRU-ODE-Bayes as a model of sporadic series: fitted by what it expects of each next observation.

See :mod:`gendyn.sde.gru_ode` for the equations. Over observations :math:`x` with what was expected just before,
:math:`N(\mu, e^v)`, and just after, :math:`N(\mu', e^{v'})`, the loss is the mean of

.. math:: -\log N(x; \mu, e^v) + \lambda\, \mathrm{KL}\bigl(N(\mu', e^{v'}) \,\|\, N(x, \varepsilon^2)\bigr) .

Values are standardised, and 1 is the longest series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sde.asked_times import asked_times
from gendyn.sde.gru_ode import FilteredStates, GRUFlow, GRUODEModel
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import SeriesEstimator, under
from gendyn.sde.series_inputs import BLOCK, Inputs, epoch_rows
from gendyn.sde.step_times import step_times
from gendyn.training import fingerprint

__all__ = ["GRUODEBayes"]

_NEAR = 1e-2
"""Deviation of an observation around its value, in the divergence after a jump."""


class GRUODEBayes(SeriesEstimator):
    """Learn to expect the next observation of sporadic series.

    Parameters
    ----------
    hidden, inner
        Features of the state, and width of the layer between the state and what it expects.
    step
        Longest Euler step, where 1 is the longest series; steps end on observations.
    mixing
        Weight of the divergence after a jump.
    epochs, batch_size, lr, weight_decay, clip
        Training by Adam; by default batches of 16, doubled while there are two, at most 128.
    validation_fraction, patience
        Share that is held out where no validation is given, and epochs without improvement after which training stops;
        the best weights are restored. ``patience=None`` holds out nothing, trains all epochs and keeps the last ones.

    Attributes
    ----------
    process_ : GRUFlow
        The flow of the state between observations, in scaled time.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    De Brouwer, Simm, Arany, Moreau. GRU-ODE-Bayes: continuous modeling of sporadically-observed time series. 2019.

    Examples
    --------
    >>> t = torch.linspace(0, 6.28, 10)
    >>> x = torch.stack([torch.sin(t + 0.3 * k) for k in range(20)])
    >>> model = GRUODEBayes(hidden=6, inner=4, step=0.1, epochs=2).fit(x, progress=False)
    >>> mean, deviation = model.predict_normal(x[:3], at=[4.5, 12.0])
    >>> mean.shape, deviation.shape
    ((3, 2, 1), (3, 2, 1))
    """

    hidden: int
    inner: int
    step: float
    mixing: float
    process_: GRUFlow

    def __init__(
        self,
        hidden: int = 50,
        *,
        inner: int = 25,
        step: float = 1 / 100,
        mixing: float = 1e-4,
        epochs: int = 50,
        batch_size: int | None = None,
        lr: float = 1e-3,
        weight_decay: float = 5e-4,
        clip: float | None = 1.0,
        validation_fraction: float = 0.2,
        patience: int | None = 10,
    ) -> None:
        self._keep(locals())

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
        self._check_counts("hidden", "inner")
        if not self.step > 0:
            raise ValueError(f"step must be positive; got {self.step}")
        if not self.mixing >= 0:
            raise ValueError(f"mixing must be at least 0; got {self.mixing}")
        self._check_training()
        series = read_series(data, times=times, mask=mask).to(device)
        root = self._seed(seed)
        series, held = self._hold_out(series, validation, root)
        scaled, _ = self._scale(series, None)
        self._build(derive_seed(root, "model"))
        objective = _NextObservation(self, scaled, None if held is None else self.scaling_.transform(held))
        identity = fingerprint(
            scaled.values.nan_to_num(), scaled.times, model="GRUODEBayes", seed=root, **self._plain_params()
        )
        self._train(
            objective, identity, n=len(series), watched=held is not None, progress=progress, checkpoint=checkpoint,
            resume=resume,
        )  # fmt: skip
        self.process_ = self._model.flow
        return self

    @torch.no_grad()
    def predict_normal(
        self, data: Any, at: Any = None, *, times: Any = None, mask: Any = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return mean and deviation ``(B, Q, D)`` of what would be observed, after all seen up to and including then.

        Parameters
        ----------
        data, times, mask
            Series, as for :meth:`fit`.
        at
            Times ``(Q,)`` or ``(B, Q)``, none before the first of their series; by default their own.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels are not those of the fit, or a time lies before its series.
        """
        series = self._read(data, None, times, mask)
        asked = asked_times(at, series)
        scaled, clock = self.scaling_.transform(series), self.scaling_.clock(asked, series)
        means, deviations = [], []
        for start in range(0, len(series), BLOCK):
            some = slice(start, start + BLOCK)
            grid, values, places = _on_grid(scaled.rows(some), clock[some])
            h = self._model.states(grid, values, self.step).after
            h = h.gather(1, places.to(h.device)[:, :, None].expand(-1, -1, self.hidden))
            mean, log_variance = self._model.expect(h)
            means.append(self.scaling_.inverse(mean))
            deviations.append((log_variance / 2).exp() * self.scaling_.deviation)
        return torch.cat(means).cpu().numpy(), torch.cat(deviations).cpu().numpy()

    def predict(self, data: Any, at: Any = None, **options: Any) -> NDArray[Any]:
        """Return the mean ``(B, Q, D)``; arguments are those of :meth:`predict_normal`."""
        return self.predict_normal(data, at, **options)[0]

    def predict_samples(
        self, data: Any, at: Any = None, *, n: int = 50, seed: Seed = 0, **options: Any
    ) -> NDArray[Any]:
        """Return members ``(S, B, Q, D)``: each time by itself, as the model knows no dependence between times.

        Parameters
        ----------
        data, at, **options
            As for :meth:`predict_normal`.
        n
            Number of members.
        seed
            Of the draws.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        mean, deviation = self.predict_normal(data, at, **options)
        noise = torch.randn((n, *mean.shape), generator=torch_generator(as_seed(seed), "members"), dtype=torch.float64)
        return np.asarray((mean + deviation * noise.numpy()).astype(mean.dtype))

    def score(self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None) -> float:
        """Return the log density of each observation given those before, mean over values, in the units of the data."""
        series = self._read(data, None, times, mask)
        scaled = self.scaling_.transform(series)
        widths = torch.where(series.seen, self.scaling_.deviation.log(), 0.0).sum()
        total, count = self._next_losses(_told(scaled), mixing=0.0)
        return -(total + float(widths)) / max(count, 1)

    @torch.no_grad()
    def sample(
        self,
        x0: Any = None,
        times: Tensor | Sequence[float] | None = None,
        *,
        n: int | None = None,
        seed: Seed = 0,
        progress: bool = False,
        **options: Any,
    ) -> Paths:
        """Draw what would be observed of series, or of one that was never observed; each time by itself.

        Parameters
        ----------
        x0
            Series; by default one that was never observed, of the longest trained span.
        times
            Increasing times ``(T,)``, none before the first of a series; by default 51 over the trained span.
        n
            Draws of each series, those of the first series first; by default 1.
        seed
            Of the draws.
        progress
            Accepted for the sake of other models.
        **options
            None are known.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        TypeError
            If there are options.
        """
        self._check_fitted()
        if options:
            raise TypeError(f"GRU-ODE-Bayes takes no options to sample; got {', '.join(options)}")
        clock, span = self._clock(times), None
        if x0 is None:
            x0 = self.scaling_.mean.new_full((1, 2, self._dim), torch.nan)
            span = clock[0] + torch.tensor([0.0, self.scaling_.unit], dtype=torch.float64)
        drawn = torch.from_numpy(self.predict_samples(x0, clock, times=span, n=1 if n is None else n, seed=seed))
        return Paths.of_checked(clock, drawn.transpose(0, 1).flatten(0, 1), names=self.names_, info={"solver": "euler"})

    # --- inside --------------------------------------------------------------------------------------------

    def _build(self, seed: int) -> None:
        self._model = GRUODEModel(self._dim, self.hidden, self.inner, seed=seed).to(self.scaling_.mean)

    @torch.no_grad()
    def _next_losses(self, told: Inputs, mixing: float) -> tuple[float, int]:
        """Return the sum of losses over observed values, and how many these are."""
        total, count = 0.0, 0
        for part in told.blocks():
            states = self._model.states(part.grid, part.controls, self.step)
            total += float(_loss(self._model, states, part.controls, mixing).double().sum())
            count += int((~part.controls.isnan()).sum())
        return total, count

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, extra = self._scalings()
        return tensors | {f"model.{key}": value for key, value in self._model.state_dict().items()}, extra

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._restore_scalings(tensors, extra)
        self._build(0)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        self.process_ = self._model.flow


class _NextObservation:
    """The loss of the module's docstring, over batches of an epoch."""

    def __init__(self, model: GRUODEBayes, scaled: Series, held: Series | None) -> None:
        self.module: nn.Module = model._model
        self._model, self._told = model, _told(scaled)
        self._held = None if held is None else _told(held)
        self._size = model._batch(len(scaled))

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one batch."""
        rows = epoch_rows(len(self._told), self._size, step, self._model.seed_)
        part, model = self._told.rows(rows), self._model._model
        states = model.states(part.grid, part.controls, self._model.step)
        seen = (~part.controls.isnan()).sum().clamp_min(1)
        return _loss(model, states, part.controls, self._model.mixing).sum() / seen

    def validation_loss(self) -> float:
        """Return minus the mean log density of what was held out."""
        if self._held is None:
            return math.nan
        total, count = self._model._next_losses(self._held, mixing=0.0)
        return total / max(count, 1)


def _loss(model: GRUODEModel, states: FilteredStates, values: Tensor, mixing: float) -> Tensor:
    """Return the loss of every value ``(B, M, D)``, zero where there is none."""
    seen = ~values.isnan()
    x = torch.where(seen, values, 0.0)
    mean, log_variance = model.expect(states.before)
    loss = ((x - mean).square() * torch.exp(-log_variance) + log_variance + math.log(2 * math.pi)) / 2
    if mixing > 0:
        mean, log_variance = model.expect(states.after)
        spread = (log_variance.exp() + (x - mean).square()) / (2 * _NEAR**2)
        loss = loss + mixing * (math.log(_NEAR) - log_variance / 2 + spread - 0.5)
    return torch.where(seen, loss, 0.0)


def _told(scaled: Series) -> Inputs:
    """Return the rows of series; those after an end were not observed."""
    return Inputs(scaled.times, scaled.values)


def _on_grid(scaled: Series, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a grid that holds wanted times too, observations ``(B, M, D)`` on it, and where the wanted ones stand."""
    rows = scaled.times.shape[1]
    grid, places = step_times(scaled.times, scaled.lengths, wanted=torch.cat([scaled.times, wanted], dim=1))
    if places is None:
        raise ValueError("no times are asked about")
    own = places[:, :rows].to(scaled.values.device)
    # Padding stands where the last row does: it must not overwrite it.
    inside = (torch.arange(rows) < scaled.lengths[:, None]).to(own.device)
    # One slot more, which takes the padding.
    slots = torch.where(inside, own, grid.shape[-1])[:, :, None].expand(-1, -1, scaled.dim)
    values = scaled.values.new_full((len(scaled), grid.shape[-1] + 1, scaled.dim), torch.nan)
    return grid, values.scatter(1, slots, scaled.values)[:, :-1], places[:, rows:]
