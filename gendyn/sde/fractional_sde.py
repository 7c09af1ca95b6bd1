r"""An equation with fractional noise as a model of series, fitted by the bound of their evidence.

See :mod:`gendyn.sde.fractional_model` for the equations. Values are standardised, and 1 is the longest series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import sample
from gendyn.sampling.fractional import HurstFamily, Kind, rates_between
from gendyn.sampling.fractional.markov_approximation import Past, Weighting
from gendyn.sde.approach_times import approach_times
from gendyn.sde.channel_checks import check_channels
from gendyn.sde.fractional_guide import Posterior
from gendyn.sde.fractional_model import FractionalModel
from gendyn.sde.fractional_prior import Drift, FractionalPrior
from gendyn.sde.law_errors import hurst_errors
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import SeriesEstimator, under
from gendyn.sde.series_inputs import epoch_rows
from gendyn.training import fingerprint

__all__ = ["FractionalSDE"]

_BLOCK = 256
_WATCHED = 4
"""Noise paths behind the validation loss and the score."""

_NEAREST = 1 / 300
"""Gaps shorter than this part of the median one are no scale of their own."""

_CLUSTER, _LEAST = 3.0, 8
"""How steps of a control cluster before an observation, and how many there are at least."""


class FractionalSDE(SeriesEstimator):
    r"""Learn an equation with fractional noise, and its Hurst index, from irregular, noisy series.

    .. math:: dX = f(X)\,dt + \sigma\,dB_H, \qquad y_k = X(t_k) + s\,\varepsilon_k

    with noise of each channel its own. The posterior starts as that of the linear part of f, and a network learns the
    rest.

    Parameters
    ----------
    hurst
        ``"estimate"``, or the Hurst index :math:`H` of all channels.
    drift
        ``"network"``: :math:`b - \theta X` plus a network. ``"linear"`` or ``"none"``: without a network, or without a
        drift; the bound is then the evidence itself.
    noise
        ``"estimate"``, or the standard deviation :math:`s` of the noise of an observation, in the units of the data.
        White noise and roughness are hard to tell apart in short series: give it if known.
    posterior
        ``"guided"``: steps narrow as those of a bridge do, and may be long. ``"control"``: as published, a shift of the
        driver, held over steps that cluster before observations; its bound is worse the rougher the noise is.
    kind
        ``"I"`` has stationary increments, ``"II"`` begins with each series.
    past
        How kind I remembers what was before: ``"stationary"`` or ``"modes"``; either has a posterior.
    weighting
        ``"law"`` or ``"pathwise"``, see :class:`~gendyn.sampling.MarkovApproximation`.
    count
        Number of rates of the approximation, from the length of the series to their shortest gap.
    horizon
        Time up to which the noise is right, in the unit of the data; by default the longest series.
    step
        Longest step where there is a network or a control, where 1 is the longest series.
    hidden, context
        Width of the networks, and number of features by which a series is told.
    n_samples
        Noise paths of each series behind a gradient.
    epochs, batch_size, lr, weight_decay, clip
        Training by Adam.
    validation_fraction, patience
        Share that is held out, and epochs without improvement after which training stops; ``patience=None`` holds out
        nothing, trains all epochs and keeps the last weights.

    Attributes
    ----------
    hurst_, volatility_, noise_ : Tensor
        H, :math:`\sigma` (state units per time unit to the power H) and s of each channel, ``(D,)``, float64.
    hurst_error_ : Tensor
        Standard error of :math:`\ln \frac{H}{1-H}`, from the curvature of the bound; 0 where H was given.
    process_ : FractionalPrior
        The prior process, in scaled units; :func:`gendyn.sample` runs it with ``noise=process_.noise()``.
    history_ : pandas.DataFrame
        Loss by step, minus the bound for each observed value.

    References
    ----------
    Daems, Opper, Crevecoeur, Birdal. Variational inference for SDEs driven by fractional noise. 2024.

    Examples
    --------
    >>> from gendyn.sampling import sample_fractional_brownian_motion
    >>> times = torch.linspace(0, 1, 50)
    >>> x = sample_fractional_brownian_motion(0.2, times, n=20)
    >>> x = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    >>> model = FractionalSDE(drift="none", noise=0.05, epochs=60).fit(x, times=times, progress=False)
    >>> round(model.hurst_.item(), 1)
    0.2
    >>> model.predict_samples(x[:3], at=[0.415, 1.2], times=times, n=7).shape
    (7, 3, 2, 1)
    """

    hurst: Literal["estimate"] | float
    drift: Drift
    noise: Literal["estimate"] | float
    posterior: Posterior
    kind: Kind
    past: Past
    weighting: Weighting
    count: int
    horizon: float | None
    step: float
    hidden: int
    context: int
    n_samples: int

    process_: FractionalPrior
    hurst_: Tensor
    hurst_error_: Tensor
    volatility_: Tensor
    noise_: Tensor

    def __init__(
        self,
        hurst: Literal["estimate"] | float = "estimate",
        *,
        drift: Drift = "network",
        noise: Literal["estimate"] | float = "estimate",
        posterior: Posterior = "guided",
        kind: Kind = "I",
        past: Past = "stationary",
        weighting: Weighting = "law",
        count: int = 7,
        horizon: float | None = None,
        step: float = 1 / 50,
        hidden: int = 32,
        context: int = 16,
        n_samples: int = 1,
        epochs: int = 200,
        batch_size: int | None = 64,
        lr: float = 5e-2,
        weight_decay: float = 0.0,
        clip: float | None = 10.0,
        validation_fraction: float = 0.2,
        patience: int | None = None,
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
            If a hyper-parameter is out of range, a channel has too few values or does not vary, or there are too few
            series to hold some out.
        TrainingDiverged
            If the loss stops being finite.
        """
        self._check_hyper_parameters()
        series = read_series(data, times=times, mask=mask).to(device)
        check_channels(series)
        root = self._seed(seed)
        held = None
        if validation is not None:
            held = read_series(validation).to(series.values.device, series.values.dtype)
            if held.dim != series.dim:
                raise ValueError(f"validation must have the {series.dim} channels of the series; got {held.dim}")
        elif self.patience is not None:
            learnt, out = self._divide(len(series), root)
            series, held = series.rows(learnt), series.rows(out)
        scaled, _ = self._scale(series, None)
        gaps = scaled.times.diff(dim=1)
        gaps = gaps[gaps > 0]
        self._gap = float(gaps.median())
        self._shortest = max(float(gaps.min()), _NEAREST * self._gap)
        self._build(derive_seed(root, "model"), scaled.values)
        self._begin(scaled)
        objective = _Bound(self, scaled, None if held is None else self.scaling_.transform(held))
        identity = fingerprint(
            scaled.values.nan_to_num(), scaled.values.isnan(), scaled.times, model="FractionalSDE", seed=root,
            **self._plain_params(),
        )  # fmt: skip
        self._train(
            objective, identity, n=len(scaled), watched=held is not None, progress=progress, checkpoint=checkpoint,
            resume=resume,
        )  # fmt: skip
        self._adopt()
        if self.hurst == "estimate":
            self.hurst_error_ = hurst_errors(self._model, scaled, self._grid, derive_seed(root, "errors"))
        else:
            self.hurst_error_ = torch.zeros_like(self.hurst_)
        return self

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of the Hurst index of each channel, ``(D,)`` each.

        Normal on the logarithm of the odds, so that bounds lie between 0 and 1.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the level is not between 0 and 1.
        """
        self._check_fitted()
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        middle, reach = torch.logit(self.hurst_), float(ndtri(0.5 + level / 2)) * self.hurst_error_
        return torch.sigmoid(middle - reach), torch.sigmoid(middle + reach)

    @torch.no_grad()
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
        """Return what series may have been at any times ``(n, B, Q, D)``: within them, and after their end.

        Parameters
        ----------
        data, times, mask
            Series, as for :meth:`fit`.
        at
            Times ``(Q,)`` or ``(B, Q)``, none before the first of their series; by default their own.
        n
            Number of members.
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
        series = self._read(data, times=times, mask=mask)
        asked = series.times if at is None else torch.as_tensor(at, dtype=torch.float64)
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        root = as_seed(seed)
        scaled, clock = self.scaling_.transform(series), self.scaling_.clock(asked, series)
        size, found = max(1, 4 * _BLOCK // n), []
        for k, start in enumerate(range(0, len(series), size)):
            some = slice(start, start + size)
            part = scaled.rows(some)
            grid, places = self._grid(part, clock[some])
            x = self._model.paths(part, grid, places, seed=derive_seed(root, k), n_samples=n)
            at_these = places[:, part.times.shape[1] :].to(x.device)[None, :, :, None]
            found.append(self._shown(x.gather(2, at_these.expand(n, -1, -1, x.shape[3])), observed, root, k))
        return np.asarray(torch.cat(found, dim=1).cpu().numpy())

    def predict(self, data: Any, at: Any = None, **options: Any) -> NDArray[Any]:
        """Return the mean ``(B, Q, D)`` over members; arguments are those of :meth:`predict_samples`."""
        return np.asarray(self.predict_samples(data, at, **options).mean(0))

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
        scaled = self.scaling_.transform(series)
        return (self._total(scaled, "score") - float(widths)) / max(int(seen.sum()), 1)

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
            return Paths(clock, torch.from_numpy(found).transpose(0, 1).flatten(0, 1), names=self.names_)
        root, prior = as_seed(seed), self.process_
        noise = torch.randn(count, self._dim, generator=torch_generator(root, "start"))
        start = prior.start_mean + prior.start_log_deviation.exp() * noise.to(prior.start_mean)
        run: dict[str, Any] = {"step": self.step, "noise": prior.noise()} | options
        grid = (clock - clock[0]) / self.scaling_.unit
        path = sample(prior, start, grid, seed=derive_seed(root, "path"), progress=progress, **run)
        return Paths(clock, self._shown(path.values, observed, root, 0), names=self.names_, info=path.info)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        self._check_training()
        for name in ("count", "hidden", "context", "n_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name, choices in (
            ("drift", Drift), ("posterior", Posterior), ("kind", Kind), ("past", Past), ("weighting", Weighting),
        ):  # fmt: skip
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(map(repr, get_args(choices)))
                raise ValueError(f"{name} must be one of {known}; got {getattr(self, name)!r}")
        if not (self.hurst == "estimate" if isinstance(self.hurst, str) else 0 < self.hurst < 1):
            raise ValueError(f"hurst must be 'estimate' or lie between 0 and 1; got {self.hurst!r}")
        if not (self.noise == "estimate" if isinstance(self.noise, str) else 0 < self.noise < math.inf):
            raise ValueError(
                f"noise must be 'estimate' or a positive standard deviation; got {self.noise!r}: a path that is seen "
                "exactly has no density to bound, so give a small one, or take FractionalOU(noise=0)"
            )
        if not self.step > 0:
            raise ValueError(f"step must be positive; got {self.step}")
        if self.horizon is not None and not self.horizon > 0:
            raise ValueError(f"horizon must be positive; got {self.horizon}")

    def _build(self, seed: int, like: Tensor) -> None:
        horizon = 1.0 if self.horizon is None else self.horizon / self.scaling_.unit
        shortest = min(self._shortest, horizon)
        rates = rates_between(shortest, horizon, self.count)
        family = HurstFamily(rates, horizon, shortest, self.kind, self.past, self.weighting)
        hurst = None if isinstance(self.hurst, str) else [float(self.hurst)] * self._dim
        noise = None if isinstance(self.noise, str) else self.noise / self.scaling_.deviation.cpu()
        prior = FractionalPrior(
            self._dim, family, self.drift, self.hidden, gap=self._gap, hurst=hurst, seed=derive_seed(seed, "prior")
        )
        model = FractionalModel(prior, noise, self.posterior, self.hidden, self.context, seed=seed)
        self._model = model.to(like.device, like.dtype)

    @torch.no_grad()
    def _begin(self, scaled: Series) -> None:
        """Start from the size of increments and of first values."""
        values, clock = scaled.values, scaled.times.to(scaled.values)[..., None]
        both = ~(values[:, 1:] - values[:, :-1]).isnan()
        squares = torch.where(both, values.diff(dim=1).square(), 0.0).sum((0, 1))
        spent = torch.where(both, clock.diff(dim=1), 0.0).sum((0, 1)).clamp_min(1e-12)
        prior = self._model.prior
        prior.log_deviation.copy_(0.5 * (self._gap * squares / spent).clamp(1e-6, 1e6).log())
        first = values[:, 0]
        told = ~first.isnan()
        number = told.sum(0).clamp_min(1)
        mean = torch.where(told, first, 0.0).sum(0) / number
        spread = (torch.where(told, first - mean, 0.0).square().sum(0) / number).sqrt()
        prior.start_mean.copy_(mean)
        prior.start_log_deviation.copy_(spread.clamp(1e-3, 1e3).log())

    def _grid(self, scaled: Series, wanted: Tensor | None = None) -> tuple[Tensor, Tensor]:
        controlled = self.posterior == "control"
        return approach_times(
            scaled.times,
            scaled.lengths,
            longest=self.step if controlled or self.drift == "network" else math.inf,
            least=_LEAST if controlled else 1,
            power=_CLUSTER if controlled else 1.0,
            wanted=wanted,
        )

    @torch.no_grad()
    def _total(self, scaled: Series, purpose: str) -> float:
        """Return the bound of all series together."""
        total = 0.0
        for k, start in enumerate(range(0, len(scaled), _BLOCK)):
            part, seed = scaled.rows(slice(start, start + _BLOCK)), derive_seed(self.seed_, purpose, k)
            total += float(self._model.bound(part, *self._grid(part), seed=seed, n_samples=_WATCHED).value().sum())
        return total

    def _shown(self, x: Tensor, observed: bool, root: int, block: int) -> Tensor:
        """Return states in the user's units."""
        values = x.to(self.scaling_.mean)
        if observed:
            noise = torch.randn(values.shape, generator=torch_generator(root, "observation", block)).to(values)
            values = values + self._model.log_noise.exp() * noise
        return self.scaling_.inverse(values)

    def _adopt(self) -> None:
        """Write what was learned in the units of the data."""
        prior, deviation = self._model.prior, self.scaling_.deviation.to(torch.float64)
        self.process_ = prior
        self.hurst_ = prior.hurst.detach().clone()
        self.volatility_ = prior.volatility.detach() * deviation / self.scaling_.unit**self.hurst_
        self.noise_ = self._model.log_noise.detach().to(torch.float64).exp() * deviation

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, told = self._scalings()
        tensors |= {f"model.{key}": value for key, value in self._model.state_dict().items()}
        return tensors | {"hurst_error": self.hurst_error_}, told | {"shortest": self._shortest, "gap": self._gap}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._restore_scalings(tensors, extra)
        self._shortest, self._gap = float(extra["shortest"]), float(extra["gap"])
        self._build(0, self.scaling_.mean)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        self.hurst_error_ = tensors["hurst_error"]
        self._adopt()


class _Bound:
    """Minus the bound for each observed value, over batches of an epoch."""

    def __init__(self, model: FractionalSDE, scaled: Series, held: Series | None) -> None:
        self.module = model._model
        self._model, self._scaled, self._held = model, scaled, held
        self._size = model._batch(len(scaled))

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the loss of one batch."""
        rows = epoch_rows(len(self._scaled), self._size, step, self._model.seed_)
        part = self._scaled.rows(rows)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        bound = self.module.bound(part, *self._model._grid(part), seed=seed, n_samples=self._model.n_samples)
        return -bound.value().sum() / part.seen.sum().clamp_min(1)

    def validation_loss(self) -> float:
        """Return the loss of what is held out."""
        if self._held is None:
            return math.nan
        return -self._model._total(self._held, "validation") / max(int(self._held.seen.sum()), 1)
