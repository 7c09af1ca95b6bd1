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
from torch import Tensor

from gendyn.randomness import Seed, derive_seed
from gendyn.sampling.fractional import HurstFamily, Kind, rates_between
from gendyn.sampling.fractional.exact_paths import hurst_indices
from gendyn.sampling.fractional.markov_approximation import Past, Weighting
from gendyn.sde.approach_times import approach_times
from gendyn.sde.channel_checks import check_channels
from gendyn.sde.fractional_guide import Posterior
from gendyn.sde.fractional_model import FractionalModel
from gendyn.sde.fractional_prior import Drift, FractionalPrior
from gendyn.sde.hurst_interval import hurst_interval
from gendyn.sde.lamperti import LampertiTransform
from gendyn.sde.latent_estimator import EvidenceObjective, LatentEstimator
from gendyn.sde.law_errors import hurst_errors
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_estimator import under
from gendyn.training import fingerprint

__all__ = ["FractionalSDE"]

_WATCHED = 4
"""Noise paths behind the validation loss and the score."""

_NEAREST = 1 / 300
"""Gaps shorter than this part of the median one are no scale of their own."""

_KNOTS, _TAIL = 9, 0.005
"""Knots of a diffusion that depends on the state, and the share of the data beyond them on either side."""

Diffusion = Literal["constant", "state"]

_CLUSTER, _LEAST = 3.0, 8
"""How steps of a control cluster before an observation, and how many there are at least."""


class FractionalSDE(LatentEstimator):
    r"""Learn an equation with fractional noise, and its Hurst index, from irregular, noisy series.

    .. math:: dX = f(X)\,dt + \sigma\,dB_H, \qquad y_k = X(t_k) + s\,\varepsilon_k

    with noise of each channel its own. The posterior starts as that of the linear part of f, and a network learns the
    rest. With ``diffusion="state"`` the equation is Stratonovich's,

    .. math:: dX = f(X)\,dt + \sigma(X) \circ dB_H, \qquad U = F(X), \qquad dU = h(U)\,dt + v\,dB_H

    with the transform of :mod:`gendyn.sde.lamperti`, learned too: its noise is additive in U.

    Parameters
    ----------
    hurst
        ``"estimate"``, or the Hurst index :math:`H` of all channels, or of each its own. ``"curve"``: one that moves
        with the time since the start of a series, :math:`H(t)`, the same for all channels; needs ``kind="II"``, and
        takes pathwise weights.
    drift
        ``"network"``: :math:`b - \theta X` plus a network. ``"linear"`` or ``"none"``: without a network, or without a
        drift; the bound is then the evidence itself.
    diffusion
        ``"constant"``, or ``"state"``: of each channel a function of its state, linear between nine quantiles of the
        data and constant beyond. The drift is then told in U: a linear one is :math:`h = b - \theta U`.
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
        H, :math:`\sigma` (state units per time unit to the power H; where it depends on the state, that at the mean of
        the data) and s of each channel, ``(D,)``, float64.
    hurst_error_ : Tensor
        Standard error of :math:`\ln \frac{H}{1-H}`, from the curvature of the bound; 0 where H was given, infinite
        of a curve, of which ``hurst_`` is the mean; see :meth:`hurst_at`.
    process_ : FractionalPrior
        The prior process, in scaled units, of U if the diffusion depends on the state; :func:`gendyn.sample` runs it
        with ``noise=process_.noise()``.
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

    hurst: Literal["estimate", "curve"] | float | Sequence[float]
    drift: Drift
    diffusion: Diffusion
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
    _model: FractionalModel
    hurst_: Tensor
    hurst_error_: Tensor
    volatility_: Tensor
    noise_: Tensor

    def __init__(
        self,
        hurst: Literal["estimate", "curve"] | float | Sequence[float] = "estimate",
        *,
        drift: Drift = "network",
        diffusion: Diffusion = "constant",
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
        series, held = self._hold_out(series, validation, root)
        scaled, _ = self._scale(series, None)
        gaps = scaled.times.diff(dim=1)
        gaps = gaps[gaps > 0]
        self._gap = float(gaps.median())
        self._shortest = max(float(gaps.min()), _NEAREST * self._gap)
        self._build(derive_seed(root, "model"), scaled.values)
        self._begin(scaled)
        objective = EvidenceObjective(self, scaled, None if held is None else self.scaling_.transform(held))
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
            self.hurst_error_ = torch.full_like(self.hurst_, math.inf if self.hurst == "curve" else 0.0)
        return self

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of the Hurst index of each channel, ``(D,)`` each.

        Normal on the logarithm of the odds, so that bounds lie between 0 and 1.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the level is not between 0 and 1, or the index is a curve.
        """
        self._check_fitted()
        if self.hurst == "curve":
            raise ValueError("an index that moves with time has no interval; hurst_at(times) is what was learned")
        return hurst_interval(self.hurst_, self.hurst_error_, level)

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
        return self._members(data, at, times, mask, n=n, observed=observed, seed=seed)

    def hurst_at(self, times: Any) -> NDArray[Any]:
        """Return the Hurst index at times since the start of a series ``(T,)``: ``(T, D)``.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        self._check_fitted()
        clock = torch.as_tensor(times, dtype=torch.float64) / self.scaling_.unit
        return np.asarray(self.process_.hurst_at(clock.to(self.process_.rate.device)).detach().cpu().numpy())

    def volatility(self, x: Any) -> NDArray[Any]:
        r"""Return :math:`\sigma(x)` at states ``(..., D)``, in state units per time unit to the power H.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the last axis is not that of the channels.
        """
        self._check_fitted()
        states = torch.as_tensor(x, dtype=torch.float64)
        if not states.ndim or states.shape[-1] != self._dim:
            raise ValueError(f"x must have shape (..., {self._dim}), the channels last; got {tuple(states.shape)}")
        size, transform = torch.ones_like(states), self._model.transform
        if transform is not None:
            scaling = self.scaling_
            size = transform.size((states.to(scaling.mean.device) - scaling.mean) / scaling.deviation).cpu()
        return np.asarray((self.volatility_.cpu() * size).detach().numpy())

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        self._check_training()
        for name in ("count", "hidden", "context", "n_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name, choices in (
            ("drift", Drift), ("diffusion", Diffusion), ("posterior", Posterior), ("kind", Kind), ("past", Past),
            ("weighting", Weighting),
        ):  # fmt: skip
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(map(repr, get_args(choices)))
                raise ValueError(f"{name} must be one of {known}; got {getattr(self, name)!r}")
        given = self.hurst if isinstance(self.hurst, Sequence) else [self.hurst]
        if self.hurst not in ("estimate", "curve") and not all(not isinstance(h, str) and 0 < h < 1 for h in given):
            raise ValueError(f"hurst must be 'estimate', 'curve', or lie between 0 and 1; got {self.hurst!r}")
        if self.hurst == "curve" and self.kind != "II":
            raise ValueError(
                "hurst='curve' needs kind='II': an index that moves has no stationary increments; got "
                f"kind={self.kind!r}"
            )
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
        curve = self.hurst == "curve"
        family = HurstFamily(rates, horizon, shortest, self.kind, self.past, "pathwise" if curve else self.weighting)
        hurst = None
        if not isinstance(self.hurst, str):
            given = hurst_indices(self.hurst)
            hurst = given * self._dim if len(given) == 1 else given
            if len(hurst) != self._dim:
                raise ValueError(f"{len(hurst)} Hurst indices were given for {self._dim} channels; give one, or each")
        noise = None if isinstance(self.noise, str) else self.noise / self.scaling_.deviation.cpu()
        prior = FractionalPrior(
            self._dim, family, self.drift, self.hidden, gap=self._gap, hurst=hurst, curve=curve,
            unit=float(self.scaling_.unit) if curve else 1.0, seed=derive_seed(seed, "prior"),
        )  # fmt: skip
        transform = None
        if self.diffusion == "state":
            transform = LampertiTransform(torch.linspace(-1, 1, _KNOTS).expand(self._dim, -1))
        model = FractionalModel(prior, noise, self.posterior, self.hidden, self.context, transform=transform, seed=seed)
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
        if self._model.transform is not None:
            self._model.transform.knots.copy_(_knots(values))

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

    def _paths(self, scaled: Series, grid: Tensor, places: Tensor, *, seed: int, n: int) -> Tensor:
        return self._model.paths(scaled, grid, places, seed=seed, n_samples=n)

    def _bounds(self, scaled: Series, seed: int) -> Tensor:
        return self._model.bound(scaled, *self._grid(scaled), seed=seed, n_samples=_WATCHED).value()

    def _training_bounds(self, scaled: Series, seed: int, done: float) -> Tensor:
        return self._model.bound(scaled, *self._grid(scaled), seed=seed, n_samples=self.n_samples).value()

    def _decoded(self, z: Tensor) -> tuple[Tensor, Tensor]:
        transform = self._model.transform
        return (z if transform is None else transform.inverse(z)).to(self.scaling_.mean), self._model.log_noise

    def _first(self) -> tuple[Tensor, Tensor]:
        return self.process_.start_mean, self.process_.start_log_deviation

    def _run(self) -> dict[str, Any]:
        return {"step": self.step, "noise": self.process_.noise()}

    def _adopt(self) -> None:
        """Write what was learned in the units of the data."""
        prior, deviation = self._model.prior, self.scaling_.deviation.to(torch.float64)
        self.process_ = prior
        self.hurst_ = prior.hurst.detach().clone()
        # The volatility of a curve is told in the unit of the data already.
        unit = 1.0 if self.hurst == "curve" else self.scaling_.unit
        self.volatility_ = prior.volatility.detach() * deviation / unit**self.hurst_
        self.noise_ = self._model.log_noise.detach().to(torch.float64).exp() * deviation

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, told = self._model_state()
        return tensors | {"hurst_error": self.hurst_error_}, told | {"shortest": self._shortest, "gap": self._gap}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._restore_scalings(tensors, extra)
        self._shortest, self._gap = float(extra["shortest"]), float(extra["gap"])
        self._build(0, self.scaling_.mean)
        self._model.load_state_dict(under(tensors, "model."))
        self._model.eval().requires_grad_(False)
        self.hurst_error_ = tensors["hurst_error"]
        self._adopt()


def _knots(values: Tensor) -> Tensor:
    """Return quantiles of scaled values ``(B, L, D)``, ``(D, J)``; equal steps where values are too few."""
    flat, found = values.reshape(-1, values.shape[-1]).to("cpu", torch.float64).numpy(), []
    for column in flat.T:
        seen = column[~np.isnan(column)]
        low, high = min(float(seen.min()), 0.0), max(float(seen.max()), 0.0)
        knots = np.quantile(seen, np.linspace(_TAIL, 1 - _TAIL, _KNOTS))
        if np.diff(knots).min() < 1e-3 * (high - low) or not knots[0] < 0 < knots[-1]:
            knots = np.linspace(low, high, _KNOTS)
        found.append(torch.from_numpy(knots))
    return torch.stack(found)
