r"""Forecasts of irregular series with their uncertainty, by a stable neural SDE.

.. math:: y_q = r_q(X) + m(z(t_q)) + s(z(t_q))\, \epsilon, \qquad \epsilon \sim N(0, 1) ,

with the latent path z that the past drives, and goes on after it, and what is said without it, :math:`r`: the last
observation and, where all series are asked about equally many rows, a ridge regression of the change since then on the
recent past. Members differ by the noise of the latent path and by :math:`\epsilon`, and are trained by a proper score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendyn.data import ControlMethod
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sde.asked_times import asked_times
from gendyn.sde.control_channels import ControlChannel
from gendyn.sde.forecast_inputs import AskedInputs, cut
from gendyn.sde.forecast_objective import ForecastObjective
from gendyn.sde.forecast_start import ForecastStart, Start
from gendyn.sde.proper_losses import crps_loss, energy_loss
from gendyn.sde.recent_values import last_values, recent_values
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import under
from gendyn.sde.series_inputs import Inputs
from gendyn.sde.spread import relative_error, right_spread
from gendyn.sde.stable_design import NoiseSharing, Parametrisation
from gendyn.sde.stable_estimator import Solver, StableEstimator
from gendyn.sde.stable_model import ForecastHead
from gendyn.training import fingerprint

__all__ = ["StableSDEForecaster"]

Loss = Literal["crps", "energy"]


class StableSDEForecaster(StableEstimator):
    """Forecast irregular series.

    Parameters
    ----------
    horizon
        Rows at the end of each series that are held back to learn to forecast them.
    kind, hidden, layers, control, channels, degree, step, parametrisation, noise_sharing, solver
        As for :class:`gendyn.StableSDEClassifier`. Controls see nothing after the end of the given past.
    n_samples
        Members of a forecast.
    residual
        Start from a regression of the change since the last observation; without, from the mean.
    start
        ``"ridge"``: linear in the recent past; ``"kernel"``: in what was seen last of each channel, how long ago
        and how fast it changed, by a kernel that learns what to look at. Series that are alike should follow each
        other.
    recent
        Times before the end that regression and head are told of.
    loss
        ``"crps"``, of every channel and time, or ``"energy"``, of whole forecasts, which sees dependence.
    epochs, batch_size, lr, weight_decay, clip, dropout
        Training by Adam; ``dropout`` hides entries of the recent past from the head.
    validation_fraction, patience
        Share of the series that is held out where no validation is given, and epochs without improvement after which
        training stops; the best weights are restored, which may be those of the start. The spread of members is then
        chosen on what was held out, and by how much harder all series are than these. ``patience=None`` holds out
        nothing, and keeps last weights and spread.

    Attributes
    ----------
    lead_ : Tensor
        Times from the end of a past to the rows that were held back ``(horizon,)``, medians over the series.
    process_ : StableProcess
        The latent process of a series that was never observed.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    Oh, Lim, Kim. Stable neural stochastic differential equations in analyzing irregular time series data. 2024.
    Gneiting, Raftery. Strictly proper scoring rules, prediction, and estimation. 2007.

    Examples
    --------
    >>> t = torch.linspace(0, 20, 60)
    >>> x = torch.stack([torch.sin(t + 0.3 * k) for k in range(40)])
    >>> model = StableSDEForecaster(horizon=5, hidden=8, epochs=3).fit(x, progress=False)
    >>> found = model.predict(x[:2, :55])
    >>> bool((torch.from_numpy(found[:, :, 0]) - x[:2, 55:]).abs().max() < 0.1)
    True
    """

    _estimator_type = "regressor"
    horizon: int
    start: Start
    recent: int
    loss: Loss
    lead_: Tensor

    def __init__(
        self,
        horizon: int = 1,
        *,
        kind: str = "langevin",
        hidden: int = 64,
        layers: int = 1,
        control: ControlMethod = "linear",
        channels: Sequence[ControlChannel] = ("time", "delta"),
        degree: int | None = 2,
        step: float | None = 1 / 24,
        parametrisation: Parametrisation = "bounded",
        noise_sharing: NoiseSharing = "diagonal",
        solver: Solver = "auto",
        n_samples: int = 50,
        residual: bool = True,
        start: Start = "ridge",
        recent: int = 8,
        loss: Loss = "crps",
        epochs: int = 40,
        batch_size: int | None = None,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        clip: float | None = 1.0,
        dropout: float = 0.0,
        validation_fraction: float = 0.15,
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
        static: Any = None,
        validation: Any = None,
        seed: Seed = 0,
        progress: bool = True,
        checkpoint: str | Path | None = None,
        resume: bool = True,
        device: torch.device | str | None = None,
    ) -> Self:
        """Learn to forecast the last rows of series from those before.

        Parameters
        ----------
        data, times, mask
            Whole series, see :func:`~gendyn.sde.read_series`; what of the last rows was not observed is not asked.
        y
            Accepted for the sake of scikit-learn; the series are their own targets.
        static
            Static covariates ``(B, S)``, NaN where unknown.
        validation
            Series, or a mapping with ``data``, ``times``, ``mask`` and ``static``, by which training is stopped; by
            default a share of the series.
        seed, progress, checkpoint, resume, device
            As for :meth:`gendyn.StableSDEClassifier.fit`.

        Raises
        ------
        TypeError
            If the data are no series.
        ValueError
            If a series has not more rows than the horizon, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        if self.horizon < 1 or self.recent < 1:
            raise ValueError(f"horizon and recent must be at least 1; got {self.horizon} and {self.recent}")
        self._check_counts("horizon", "recent")
        if self.start not in get_args(Start):
            raise ValueError(f"start must be 'ridge' or 'kernel'; got {self.start!r}")
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss must be one of {', '.join(get_args(Loss))}; got {self.loss!r}")
        series = read_series(data, times=times, mask=mask).to(device)
        static = self._covariates(static, len(series))
        root = self._seed(seed)
        past, asked, target = cut(series, self.horizon)
        held = None
        if validation is not None:
            given, held_static = self._read_held(validation, series)
            held = (*cut(given, self.horizon), held_static)
        elif self.patience is not None:
            kept, out = self._divide(len(series), root)
            held = (past.rows(out), asked[out], target[out], None if static is None else static[out])
            past, asked, target = past.rows(kept), asked[kept], target[kept]
            static = None if static is None else static[kept]
        gaps = past.times.diff(dim=1)
        self._gap = float(gaps[gaps > 0].median()) if bool((gaps > 0).any()) else 1.0
        self.lead_ = (asked - past.times[:, -1:]).median(0).values
        scaled, known = self._prepare(past, static, root)
        self._gap /= self.scaling_.unit
        inputs, told = self._asked(past, scaled, known, asked)
        outcome = (target - self.scaling_.mean) / self.scaling_.deviation
        self._start, start = ForecastStart.fit(
            self.start if self.residual else None, scaled, told, outcome, lead=self.lead_ / self.scaling_.unit,
            gap=self._gap, seed=derive_seed(root, "start"),
        )  # fmt: skip
        inputs = Inputs(inputs.grid, inputs.controls, inputs.static, start, inputs.places)
        learned = AskedInputs(inputs, told, self._leads(past, asked), outcome, last_values(scaled)[:, None])
        watched = None
        if held is not None:
            watched = self._batch_of(held[0], held[1], self._static_of(held[3], len(held[0])), held[2])
        objective = ForecastObjective(self, learned, watched)
        identity = fingerprint(
            outcome.nan_to_num(), scaled.values.nan_to_num(), scaled.times, asked, model="StableSDEForecaster",
            seed=root, **self._plain_params(),
        )  # fmt: skip
        options = {"progress": progress, "checkpoint": checkpoint, "resume": resume}
        self._spread = torch.ones_like(self.lead_)
        self._train(objective, identity, n=len(past), watched=held is not None, **options)  # type: ignore[arg-type]
        if watched is not None:
            self._spread = self._best_spread(watched) * self._harder(learned, watched)
        self._finish(inputs)
        return self

    def predict_samples(
        self,
        data: Any,
        at: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        static: Any = None,
        n: int | None = None,
        seed: Seed = 0,
    ) -> NDArray[Any]:
        """Return members of forecasts ``(S, B, Q, D)``.

        Parameters
        ----------
        data, times, mask, static
            The pasts, as for :meth:`fit`.
        at
            Times ``(Q,)`` or ``(B, Q)``, none before the end of the past; by default :attr:`lead_` after it. A
            regression knows its own leads alone: at other times a model with one goes along the lines between them.
        n
            Number of members, by default ``n_samples``.
        seed
            Of the noise.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels are not those of the fit, or a time lies before the end of a past.
        """
        batch = self._read_asked(data, at, times, mask, static)
        with torch.no_grad():
            members = self._members_of(batch, self._count(n), derive_seed(as_seed(seed), "predict"))
            members = self.scaling_.inverse(self._spread_out(members, batch.leads))
        return members.cpu().numpy()

    def predict_start(
        self, data: Any, at: Any = None, *, times: Any = None, mask: Any = None, static: Any = None
    ) -> NDArray[Any]:
        """Return what the network starts from ``(B, Q, D)``; arguments are those of :meth:`predict_samples`."""
        batch = self._read_asked(data, at, times, mask, static)
        start = batch.last if batch.inputs.start is None else batch.inputs.start
        return np.asarray(self.scaling_.inverse(start).cpu().numpy())

    def predict(self, data: Any, at: Any = None, **options: Any) -> NDArray[Any]:
        """Return the mean forecast ``(B, Q, D)``; arguments are those of :meth:`predict_samples`."""
        return np.asarray(self.predict_samples(data, at, **options).mean(0))

    def predict_interval(self, data: Any, at: Any = None, *, level: float = 0.8, **options: Any) -> NDArray[Any]:
        """Return lower and upper bounds ``(2, B, Q, D)`` that hold the outcome with a probability.

        Raises
        ------
        ValueError
            If the level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        members = self.predict_samples(data, at, **({"n": max(200, self.n_samples)} | options))
        return np.asarray(np.quantile(members, [(1 - level) / 2, (1 + level) / 2], axis=0))

    def score(self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None, static: Any = None) -> float:
        """Return minus the mean CRPS of the last rows of whole series, in standard deviations; higher is better."""
        series = self._read(data, None, times, mask)
        past, asked, target = cut(series, self.horizon)
        batch = self._batch_of(past, asked, self._static_of(static, len(past)), target)
        return -self._crps(batch, max(2, self.n_samples), derive_seed(self.seed_, "score"))

    # --- inside --------------------------------------------------------------------------------------------

    def _read_asked(self, data: Any, at: Any, times: Any, mask: Any, static: Any) -> AskedInputs:
        series = self._read(data, None, times, mask)
        ends = series.times[:, -1:]
        asked = ends + self.lead_ if at is None else asked_times(at, series)
        early = torch.nonzero(asked < ends).tolist()
        if early:
            i, k = early[0]
            raise ValueError(
                f"a forecast lies after its past; series {i} ends at {float(ends[i, 0]):g} and is asked about "
                f"{float(asked[i, k]):g}: interpolate instead"
            )
        return self._batch_of(series, asked, self._static_of(static, len(series)), None)

    def _head(self, seed: int) -> nn.Module:
        return ForecastHead(self.hidden, 2 * self.recent * self._dim + 1, self._dim, seed)

    def _leads(self, past: Series, asked: Tensor) -> Tensor:
        """Return scaled times since the end of each past ``(B, Q)``."""
        return ((asked - past.times[:, -1:]) / self.scaling_.unit).to(past.values)

    def _asked(self, past: Series, scaled: Series, known: Tensor | None, asked: Tensor) -> tuple[Inputs, Tensor]:
        """Return inputs with places of the asked times, and the recent past."""
        inputs = self._inputs(scaled, known, self.scaling_.clock(asked, past))
        return inputs, recent_values(scaled, self._gap, self.recent)

    def _batch_of(self, past: Series, asked: Tensor, static: Tensor | None, target: Tensor | None) -> AskedInputs:
        """Return what is asked of a fitted model."""
        scaled = self.scaling_.transform(past)
        inputs, told = self._asked(past, scaled, static, asked)
        leads = self._leads(past, asked)
        start = self._start(scaled, told, leads)
        outcome = None if target is None else (target - self.scaling_.mean) / self.scaling_.deviation
        inputs = Inputs(inputs.grid, inputs.controls, inputs.static, start, inputs.places)
        return AskedInputs(inputs, told, leads, outcome, last_values(scaled)[:, None])

    def _members(self, batch: AskedInputs, n: int, seed: int, *, learning: bool = False) -> Tensor:
        """Return scaled members ``(S, B, Q, D)`` of one block."""
        inputs = batch.inputs
        if inputs.places is None or inputs.start is None:
            raise ValueError("a forecast needs times that are asked about")
        z = self._latent(inputs, seed, n, learning=learning)
        at = inputs.places[None, :, :, None].expand(n, -1, -1, z.shape[3])
        told = batch.told
        generator = torch_generator(seed, "members")
        if learning and self.dropout > 0:
            kept = torch.rand(told.shape, generator=generator) >= self.dropout
            told = told * kept.to(told) / (1 - self.dropout)
        known = torch.cat([told[:, None].expand(-1, batch.leads.shape[1], -1), batch.leads[:, :, None]], dim=2)
        mean, log_deviation = self._model["head"](z.gather(2, at), known)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        found: Tensor = inputs.start + self._start.along(self._start.deviation, batch.leads) * (
            mean + log_deviation.clamp(-4, 4).exp() * noise
        )
        return found

    def _members_of(self, batch: AskedInputs, n: int, seed: int) -> Tensor:
        """Return members of any number of series, in blocks."""
        size = max(1, 4096 // n)
        return torch.cat(
            [self._members(part, n, derive_seed(seed, k)) for k, part in enumerate(batch.blocks(size))], dim=1
        )

    def _score_of(self, members: Tensor, outcome: Tensor) -> Tensor:
        seen = ~outcome.isnan()
        return (crps_loss if self.loss == "crps" else energy_loss)(members, outcome.nan_to_num(), seen)

    def _spread_out(self, members: Tensor, leads: Tensor) -> Tensor:
        """Return members ``(S, B, Q, D)`` with deviations from their mean as wide as was found right."""
        factor = self._start.along(self._spread.to(leads)[:, None], leads)
        centre = members.mean(0)
        return centre + factor * (members - centre)

    @torch.no_grad()
    def _crps(self, batch: AskedInputs, n: int, seed: int) -> float:
        members = self._spread_out(self._members_of(batch, n, seed), batch.leads)
        outcome = members.mean(0) if batch.outcome is None else batch.outcome
        return float(crps_loss(members, outcome.nan_to_num(), ~outcome.isnan()))

    @torch.no_grad()
    def _best_spread(self, batch: AskedInputs) -> Tensor:
        """Return for each lead the factor at which 80 % intervals hold as much of what was held out."""
        members = self._members_of(batch, 100, derive_seed(self.seed_, "spread"))
        if batch.outcome is None:
            return torch.ones_like(self.lead_)
        return torch.stack([right_spread(members[:, :, k], batch.outcome[:, k]) for k in range(members.shape[2])]).to(
            "cpu", torch.float64
        )

    def _harder(self, learned: AskedInputs, watched: AskedInputs) -> Tensor:
        """Return for each lead how much wider errors are of all series than of the few that were held out."""
        if self._start.regression is None or learned.outcome is None or watched.outcome is None:
            return torch.ones_like(self.lead_)
        return relative_error(
            learned.told, learned.outcome - learned.last, watched.told, watched.outcome - watched.last
        )

    def _more_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, about = self._start.state()
        own = {"lead": self.lead_, "spread": self._spread}
        return own | {f"start.{name}": value for name, value in tensors.items()}, {"start": about}

    def _restore_more(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._start = ForecastStart.from_state(under(tensors, "start."), extra["start"])
        self.lead_, self._spread, self._gap = tensors["lead"].cpu(), tensors["spread"].cpu(), self._start.gap
