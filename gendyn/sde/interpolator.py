r"""What irregular series were between the moments at which one looked, with its uncertainty, by a stable neural SDE.

.. math:: x_d(t) = r_d(X, t) + s_d\,\bigl[m_d(z(t), X, t) + e^{v_d(z(t), X, t)} \epsilon\bigr], \qquad
    \epsilon \sim N(0, 1) ,

with the latent path z that the series drives, what a regression on the surroundings of a moment says of each channel,
:math:`r` with left-out error s, and networks that see the surroundings of all channels. One learns from entries
that are hidden, and so never from a point that the control passes through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gendyn.data import ControlMethod, Paths
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sde.asked_times import asked_times
from gendyn.sde.control_channels import ControlChannel
from gendyn.sde.hidden_entries import Hiding, hide
from gendyn.sde.interpolation_inputs import HiddenInputs
from gendyn.sde.interpolation_objective import InterpolationObjective
from gendyn.sde.proper_losses import crps_loss
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import under
from gendyn.sde.spread import right_spread
from gendyn.sde.stable_design import NoiseSharing, Parametrisation
from gendyn.sde.stable_estimator import Solver, StableEstimator
from gendyn.sde.stable_model import ForecastHead
from gendyn.sde.surroundings import SURROUNDINGS, SurroundingsRidge, surroundings
from gendyn.training import fingerprint

__all__ = ["StableSDEInterpolator"]


class StableSDEInterpolator(StableEstimator):
    """Interpolate irregular series.

    Parameters
    ----------
    hiding
        What is hidden to learn from: ``"row"``, all channels of a moment, or ``"channel"``, each channel's own.
    share
        Share that is hidden; best that which will be missing.
    copies
        Different draws of what is hidden of each series.
    kind, hidden, layers, control, channels, degree, step, parametrisation, noise_sharing, solver
        As for :class:`gendyn.StableSDEClassifier`.
    n_samples
        Members of an interpolation.
    residual
        Start from a regression of each channel on its surroundings; without, from the mean.
    epochs, batch_size, lr, weight_decay, clip, dropout
        Training by Adam; ``dropout`` hides surroundings from the networks.
    validation_fraction, patience
        As for :class:`gendyn.StableSDEForecaster`; the spread of each channel's members is chosen on what was held out.

    Attributes
    ----------
    process_ : StableProcess
        The latent process of a series that was never observed.
    history_ : pandas.DataFrame
        Loss by step, with the validation loss.

    References
    ----------
    Oh, Lim, Kim. Stable neural stochastic differential equations in analyzing irregular time series data. 2024.

    Examples
    --------
    >>> t = torch.linspace(0, 12, 60)
    >>> x = torch.stack([torch.sin(t + 0.3 * k) for k in range(40)])
    >>> model = StableSDEInterpolator(share=0.3, hidden=8, epochs=3).fit(x, progress=False)
    >>> holes = x[:2].clone()
    >>> holes[:, 20:22] = torch.nan
    >>> bool((model.impute(holes).values[:, :, 0] - x[:2]).abs().max() < 0.1)
    True
    """

    _estimator_type = "regressor"
    hiding: Hiding
    share: float
    copies: int

    def __init__(
        self,
        hiding: Hiding = "row",
        share: float = 0.5,
        *,
        copies: int = 2,
        kind: str = "langevin",
        hidden: int = 64,
        layers: int = 1,
        control: ControlMethod = "linear",
        channels: Sequence[ControlChannel] = ("time", "delta"),
        degree: int | None = 1,
        step: float | None = 1 / 24,
        parametrisation: Parametrisation = "bounded",
        noise_sharing: NoiseSharing = "diagonal",
        solver: Solver = "auto",
        n_samples: int = 50,
        residual: bool = True,
        epochs: int = 20,
        batch_size: int | None = None,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
        clip: float | None = 1.0,
        dropout: float = 0.1,
        validation_fraction: float = 0.15,
        patience: int | None = 5,
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
        """Learn to say what was hidden of series.

        Parameters
        ----------
        data, times, mask
            Series, see :func:`~gendyn.sde.read_series`.
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
            If there is nothing to hide, or a hyper-parameter is out of range.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        if self.hiding not in get_args(Hiding):
            raise ValueError(f"hiding must be one of {', '.join(get_args(Hiding))}; got {self.hiding!r}")
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie between 0 and 1; got {self.share}")
        self._check_counts("copies")
        series = read_series(data, times=times, mask=mask).to(device)
        static = self._covariates(static, len(series))
        root = self._seed(seed)
        held, held_static = None, None
        if validation is not None:
            held, held_static = self._read_held(validation, series)
        elif self.patience is not None:
            kept, out = self._divide(len(series), root)
            held, series = series.rows(out), series.rows(kept)
            if static is not None:
                static, held_static = static[kept], static[out]
        series = series.rows(torch.arange(len(series)).repeat(self.copies))
        if static is not None:
            static = static.repeat(self.copies, 1)
        rest, asked, outcome = hide(series, self.share, self.hiding, derive_seed(root, "learned"))
        if bool(outcome.isnan().all()):
            raise ValueError("nothing can be hidden to learn from: no series was observed at two times")
        gaps = series.times.diff(dim=1)
        gap = float(gaps[gaps > 0].median())
        scaled, known = self._prepare(rest, static, root)
        self._widths = (2 * gap / self.scaling_.unit, 10 * gap / self.scaling_.unit)
        told = surroundings(scaled, self.scaling_.clock(asked, rest), self._widths)
        target = (outcome - self.scaling_.mean) / self.scaling_.deviation
        at = self.scaling_.clock(asked, rest)
        whose = torch.arange(len(series)) % (len(series) // self.copies)
        self._ridge, start = SurroundingsRidge.fit(told, target, at, near=self._widths[0], series=whose)
        start = start if self.residual else torch.zeros_like(start)
        learned = HiddenInputs.of(self._inputs(scaled, known), at, told, (start, self._width(told)), target)
        watched = None
        if held is not None:
            lacking, when, what = hide(held, self.share, self.hiding, derive_seed(root, "watched"))
            watched = self._asked(lacking, when, self._static_of(held_static, len(held)), what)
        objective = InterpolationObjective(self, learned, watched)
        identity = fingerprint(
            target.nan_to_num(), scaled.values.nan_to_num(), scaled.times, at, model="StableSDEInterpolator",
            seed=root, **self._plain_params(),
        )  # fmt: skip
        options = {"progress": progress, "checkpoint": checkpoint, "resume": resume}
        self._spread = torch.ones_like(self.scaling_.mean)
        self._train(objective, identity, n=len(rest), watched=watched is not None, **options)  # type: ignore[arg-type]
        if watched is not None:
            self._spread = self._best_spread(watched)
        self._finish(learned.inputs)
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
        """Return members of interpolations ``(S, B, Q, D)``.

        Parameters
        ----------
        data, times, mask, static
            As for :meth:`fit`.
        at
            Times ``(Q,)`` or ``(B, Q)``, none before a series; by default its own. What was observed is itself.
        n
            Number of members, by default ``n_samples``.
        seed
            Of the noise.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If channels are not those of the fit, or a time lies before its series.
        """
        batch = self._read_asked(data, at, times, mask, static)
        members, _ = self._members_of(batch, self._count(n), derive_seed(as_seed(seed), "predict"))
        return self.scaling_.inverse(self._spread_out(members)).cpu().numpy()

    def predict(
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
        """Return the mean ``(B, Q, D)``, over noise paths; arguments are those of :meth:`predict_samples`."""
        batch = self._read_asked(data, at, times, mask, static)
        _, mean = self._members_of(batch, self._count(n), derive_seed(as_seed(seed), "predict"))
        return self.scaling_.inverse(mean).cpu().numpy()

    def predict_interval(self, data: Any, at: Any = None, *, level: float = 0.8, **options: Any) -> NDArray[Any]:
        """Return lower and upper bounds ``(2, B, Q, D)`` that hold the truth with a probability.

        Raises
        ------
        ValueError
            If the level does not lie between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        members = self.predict_samples(data, at, **({"n": max(200, self.n_samples)} | options))
        return np.asarray(np.quantile(members, [(1 - level) / 2, (1 + level) / 2], axis=0))

    def impute(
        self,
        data: Any,
        *,
        times: Any = None,
        mask: Any = None,
        static: Any = None,
        n: int | None = None,
        seed: Seed = 0,
    ) -> Paths:
        """Return the series with every hole filled by its mean; what was observed stays as it is."""
        series = self._read(data, None, times, mask)
        found = torch.from_numpy(self.predict(data, times=times, mask=mask, static=static, n=n, seed=seed))
        values = torch.where(series.seen, series.values, found.to(series.values))
        clock = series.times
        shared = bool((clock == clock[0]).all())
        lengths = None if bool((series.lengths == clock.shape[1]).all()) else series.lengths
        return Paths(clock[0] if shared else clock, values, lengths=lengths, labels=series.labels, names=series.names)

    def score(self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None, static: Any = None) -> float:
        """Return minus the mean CRPS of what is hidden of series, in standard deviations; higher is better."""
        series = self._read(data, None, times, mask)
        rest, asked, outcome = hide(series, self.share, self.hiding, derive_seed(self.seed_, "score"))
        batch = self._asked(rest, asked, self._static_of(static, len(series)), outcome)
        members, _ = self._members_of(batch, max(2, self.n_samples), derive_seed(self.seed_, "score noise"))
        return -self._crps(self._spread_out(members), batch)

    # --- inside --------------------------------------------------------------------------------------------

    def _head(self, seed: int) -> nn.Module:
        return ForecastHead(self.hidden, self._dim * (len(SURROUNDINGS) - 1) + 1, self._dim, seed)

    def _read_asked(self, data: Any, at: Any, times: Any, mask: Any, static: Any) -> HiddenInputs:
        series = self._read(data, None, times, mask)
        asked = asked_times(at, series)
        early = torch.nonzero(asked < series.times[:, :1])
        if len(early):
            i, k = early[0].tolist()
            raise ValueError(
                f"series {i} begins at {float(series.times[i, 0]):g}; nothing can be said about the time "
                f"{float(asked[i, k]):g} before it"
            )
        return self._asked(series, asked, self._static_of(static, len(series)), None)

    def _asked(self, series: Series, asked: Tensor, static: Tensor | None, outcome: Tensor | None) -> HiddenInputs:
        """Return what is asked of a fitted model."""
        scaled, at = self.scaling_.transform(series), self.scaling_.clock(asked, series)
        told = surroundings(scaled, at, self._widths)
        start = self._ridge(told) if self.residual else torch.zeros_like(told[..., 0])
        target = None if outcome is None else (outcome - self.scaling_.mean) / self.scaling_.deviation
        return HiddenInputs.of(self._inputs(scaled, static), at, told, (start, self._width(told)), target)

    def _width(self, told: Tensor) -> Tensor:
        """Return the deviation of outcomes from the start ``(B, Q, D)``."""
        return self._ridge.deviations(told) if self.residual else torch.ones_like(told[..., 0])

    def _members(self, batch: HiddenInputs, n: int, seed: int, *, learning: bool = False) -> tuple[Tensor, Tensor]:
        """Return scaled members ``(S, B, Q, D)`` of one block, and the mean over noise paths ``(B, Q, D)``."""
        z = batch.states(self._latent(batch.inputs, seed, n, learning=learning))
        generator = torch_generator(seed, "members")
        # Of the two means the line has the finer one; a channel's mean is in its wide kernel.
        # Gross outliers are no scale.
        far = self._ridge.far[:, None]
        told = torch.cat([batch.told[..., :1], batch.told[..., 2:]], dim=-1).clamp(-far, far).flatten(2)
        if learning and self.dropout > 0:
            kept = torch.rand(told.shape, generator=generator).to(told.device) >= self.dropout
            told = told * kept / (1 - self.dropout)
        told = torch.cat([told, batch.at.to(told)[:, :, None]], dim=2)
        mean, log_deviation = self._model["head"](z, told)
        # What was observed at the moment itself is known, and was never among what was learned.
        centre = torch.where(batch.known, batch.told[..., 0], batch.start + batch.width * mean)
        width = torch.where(batch.known, 0.0, batch.width)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        members: Tensor = centre + width * log_deviation.clamp(-4, 4).exp() * noise
        return members, centre.mean(0)

    @torch.no_grad()
    def _members_of(self, batch: HiddenInputs, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return members and means of any number of series, in blocks."""
        size = max(1, 2048 // n)
        parts = [self._members(part, n, derive_seed(seed, k)) for k, part in enumerate(batch.blocks(size))]
        return torch.cat([part[0] for part in parts], dim=1), torch.cat([part[1] for part in parts])

    def _spread_out(self, members: Tensor) -> Tensor:
        """Return members with deviations from their mean as wide as was found right."""
        centre = members.mean(0)
        return centre + self._spread * (members - centre)

    def _crps(self, members: Tensor, batch: HiddenInputs) -> float:
        outcome = members.mean(0) if batch.outcome is None else batch.outcome
        return float(crps_loss(members, outcome.nan_to_num(), ~outcome.isnan()))

    def _best_spread(self, batch: HiddenInputs) -> Tensor:
        """Return for each channel the factor at which 80 % intervals hold as much of what was held out."""
        if batch.outcome is None:
            return torch.ones_like(self.scaling_.mean)
        members, _ = self._members_of(batch, 50, derive_seed(self.seed_, "spread"))
        outcome = batch.outcome
        return torch.stack([right_spread(members[..., d], outcome[..., d]) for d in range(self._dim)])

    def _more_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {"spread": self._spread}
        tensors |= {f"ridge.{name}": value for name, value in self._ridge.state_dict().items()}
        return tensors, {"widths": list(self._widths)}

    def _restore_more(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._spread = tensors["spread"]
        self._ridge = SurroundingsRidge.from_state(under(tensors, "ridge."))
        near, wide = extra["widths"]
        self._widths = (float(near), float(wide))
