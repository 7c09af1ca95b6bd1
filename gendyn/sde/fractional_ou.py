r"""The fractional Ornstein-Uhlenbeck process as a model of series: roughness, return, level and noise by likelihood.

.. math:: dX = \theta (\mu - X)\,dt + \sigma\,dB_H, \qquad y_k = X(t_k) + s\,\varepsilon_k

for each channel on its own, stationary, with noisy looks at times that may be irregular and of each series' own. The
likelihood is that of a Kalman filter (:mod:`gendyn.sampling.kalman`) over an approximation whose law is right at every
scale of the data (:mod:`gendyn.sampling.fractional.stationary_relaxation`). Its cost is linear in the length.
Inside, a unit of time is the median gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, as_seed, torch_generator
from gendyn.sampling.fractional import StationaryRelaxation, relaxation_rates, stationary_relaxation
from gendyn.sampling.linear import LinearProcess
from gendyn.sde.channel_checks import check_channels
from gendyn.sde.fractional_likelihood import FractionalLikelihood
from gendyn.sde.fractional_parameters import STILL, FractionalParameters
from gendyn.sde.fractional_posterior import FractionalPosterior
from gendyn.sde.fractional_process import sum_as_process
from gendyn.sde.fractional_search import highest_likelihood, profiles
from gendyn.sde.hurst_interval import hurst_interval
from gendyn.sde.hurst_profile import HurstProfile
from gendyn.sde.series import Series, read_series
from gendyn.training import Checkpoint, Estimator, fingerprint

__all__ = ["FractionalOU"]

_NEAREST = 1 / 300
"""Gaps shorter than this part of the median one are no scale of their own."""


class FractionalOU(Estimator):
    r"""Learn a stationary fractional Ornstein-Uhlenbeck process from noisy, irregular series.

    Parameters
    ----------
    hurst
        ``"estimate"``, or the Hurst index :math:`H`.
    rate
        ``"estimate"``, or the rate of relaxation :math:`\theta`, per time unit. 0 is fractional Brownian motion from an
        unknown level, with ``level="own"``. Slow relaxation and a lower Hurst index are alike in short series.
    noise
        ``"estimate"``, or the standard deviation :math:`s` of the noise of an observation, in the units of the data; 0
        for looks that are exact. White noise and roughness are hard to tell apart in short series: give it if known.
    level
        ``"shared"``: all series return to one level. ``"own"``: each has its own, of which nothing is assumed; for
        paths that start where they happen to, such as fractional Brownian motion.
    rates_per_decade
        Exponentials for each decade of time; 4 keep the covariance to two parts in ten thousand.
    max_iterations, tolerance
        Steps of the search for the highest likelihood, and the rise of it below which a channel is done.

    Attributes
    ----------
    hurst_, rate_, mean_, volatility_, noise_ : Tensor
        :math:`H`, :math:`\theta` (per time unit), :math:`\mu`, :math:`\sigma` (state units per time unit to the power
        H) and :math:`s` of each channel, ``(D,)``, float64.
    level_deviation_ : Tensor
        Standard deviation of levels between series, ``(D,)``; 0 where they share one.
    hurst_error_ : Tensor
        Standard error of :math:`\ln \frac{H}{1-H}`: half the width over which the profile likelihood falls by one
        half; 0 where H was given.
    log_likelihood_ : float
        Of the series that were fitted.
    process_ : LinearProcess
        The approximation as a process of :func:`gendyn.sample`: the first D features are the channels, the others carry
        their memory.
    history_ : pandas.DataFrame
        ``step`` and ``loss``, minus the log-likelihood for each observed value.

    References
    ----------
    Cheridito, Kawaguchi, Maejima. Fractional Ornstein-Uhlenbeck processes. 2003.
    Harms, Stefanovits. Affine representations of fractional processes. 2019.

    Examples
    --------
    >>> from gendyn.systems import FractionalOrnsteinUhlenbeck
    >>> rough = FractionalOrnsteinUhlenbeck(hurst=0.2, rate=1.0, mean=3.0)
    >>> series = rough.paths(torch.arange(0, 10, 0.1), n=20, seed=0)
    >>> model = FractionalOU(noise=0).fit(series)
    >>> round(model.hurst_.item(), 1), round(model.mean_.item())
    (0.2, 3)
    >>> model.predict(series, at=[9.95, 30.0]).shape
    (20, 2, 1)
    """

    process_: LinearProcess
    _profiles: list[HurstProfile]
    hurst_: Tensor
    hurst_error_: Tensor
    rate_: Tensor
    mean_: Tensor
    volatility_: Tensor
    noise_: Tensor
    level_deviation_: Tensor
    log_likelihood_: float

    def __init__(
        self,
        hurst: Literal["estimate"] | float = "estimate",
        *,
        rate: Literal["estimate"] | float = "estimate",
        noise: Literal["estimate"] | float = "estimate",
        level: Literal["shared", "own"] = "shared",
        rates_per_decade: float = 4.0,
        max_iterations: int = 60,
        tolerance: float = 1e-5,
    ) -> None:
        self.hurst = hurst
        self.rate = rate
        self.noise = noise
        self.level = level
        self.rates_per_decade = rates_per_decade
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def fit(
        self,
        data: Any,
        y: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
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
        seed
            Accepted for the sake of all models; nothing is random.
        progress
            Accepted for the sake of all models.
        checkpoint, resume
            File that keeps the search, and whether to go on from it.
        device
            Accepted for the sake of all models; the likelihood is float64 on the CPU.

        Raises
        ------
        TypeError
            If the data are no series.
        ValueError
            If a hyper-parameter is out of range, or a channel has too few values, or does not vary.
        """
        self._check_hyper_parameters()
        series = read_series(data, times=times, mask=mask).to("cpu")
        root, dtype = as_seed(seed), series.values.dtype
        clock, values = series.times, series.values.to(torch.float64)
        check_channels(series)
        gaps = clock.diff(dim=1)
        unit = float(gaps[gaps > 0].median())
        span = float((clock[:, -1] - clock[:, 0]).max())
        shortest = max(float(gaps[gaps > 0].min()), _NEAREST * unit)
        identity = fingerprint(
            values.nan_to_num(), values.isnan(), clock, model="FractionalOU", seed=root, **self.get_params()
        )
        store = None if checkpoint is None else Checkpoint(checkpoint, identity)
        kept = store.read() if store is not None and resume and store.exists() else None
        rates = relaxation_rates(shortest / unit, span / unit, self.rates_per_decade)
        scaled_clock = _since_start(clock) / unit
        channels = [
            FractionalParameters(
                FractionalLikelihood(scaled_clock, values[:, :, d], rates, own_level=self.level == "own"),
                self.hurst,
                self.noise,
                span / unit,
                self.rate if isinstance(self.rate, str) else self.rate * unit,
            )
            for d in range(series.dim)
        ]
        states, history = highest_likelihood(
            channels, store, kept, tolerance=self.tolerance, max_iterations=self.max_iterations
        )
        found_profiles, states = profiles(channels, states, tolerance=self.tolerance)
        found = [channel.found(state.point) for channel, state in zip(channels, states, strict=True)]
        self.seed_, self._unit, self._span, self.names_, self._dtype = root, unit, span, series.names, str(dtype)
        self._rates = rates
        self.hurst_, rate, self.mean_, scaled, ratio, self.level_deviation_ = (
            torch.cat(column) for column in zip(*found, strict=True)
        )
        self.rate_, self.volatility_ = (0 * rate if self.rate == 0 else rate / unit), scaled * unit**-self.hurst_
        self.noise_ = scaled * ratio.sqrt()
        self._profiles = [] if self.hurst != "estimate" else [p for p in found_profiles if p is not None]
        self.hurst_error_ = torch.zeros_like(self.hurst_)
        if self._profiles:
            self.hurst_error_ = torch.tensor([p.error() for p in self._profiles], dtype=torch.float64)
        self.log_likelihood_ = sum(state.value for state in states)
        self.history_ = pd.DataFrame({"step": range(len(history)), "loss": history})
        self._adopt()
        return self

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds of the Hurst index of each channel, ``(D,)`` each.

        By the profile likelihood (:mod:`gendyn.sde.hurst_profile`): every index at which, all else at its best, the
        likelihood is not too far below the highest. Where H was given both bounds are that; a model that was saved
        without its profile has the normal interval of :attr:`hurst_error_` on the logarithm of the odds.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the level is not between 0 and 1, or beyond .9999, which is how far profiles are followed.
        """
        self._check_fitted()
        if not self._profiles:
            return hurst_interval(self.hurst_, self.hurst_error_, level)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        low, high = zip(*(profile.interval(level) for profile in self._profiles), strict=True)
        return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)

    def predict(self, data: Any, at: Any = None, *, times: Any = None, mask: Any = None) -> NDArray[Any]:
        """Return the mean of the process given series, ``(B, Q, D)``, at any times; by default their own.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the channels are not those of the fit, or times are not finite.
        """
        return self._moments(self._read(data, times, mask), at)[0]

    def predict_interval(
        self,
        data: Any,
        at: Any = None,
        *,
        times: Any = None,
        mask: Any = None,
        level: float = 0.9,
        observed: bool = False,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return lower and upper bounds ``(B, Q, D)`` of the process, or of an observation of it.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the level is not between 0 and 1, or for the reasons of :meth:`predict`.
        """
        series = self._read(data, times, mask)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1; got {level}")
        mean, variance = self._moments(series, at)
        noise = self.noise_.square().numpy() if observed else 0.0
        reach = float(ndtri(0.5 + level / 2)) * np.sqrt(variance + noise)
        return mean - reach, mean + reach

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
        """Return paths given series, ``(n, B, Q, D)``: within them, before and after.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If ``n`` is below 1, or for the reasons of :meth:`predict`.
        """
        series = self._read(data, times, mask)
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        root, parts = as_seed(seed), []
        for d in range(len(self.hurst_)):
            drawn = self._posterior(series, at, d).draw(n, torch_generator(root, "path", d))
            parts.append(self.mean_[d] + self._scale[d] * drawn)
        found = torch.stack(parts, -1)
        if observed:
            noise = torch.randn(found.shape, dtype=torch.float64, generator=torch_generator(root, "observation"))
            found = found + self.noise_ * noise
        return np.asarray(found.numpy())

    def score(self, data: Any, y: Any = None, *, times: Any = None, mask: Any = None) -> float:
        """Return the log density for each observed value, in the units of the data; higher is better.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            If the channels are not those of the fit, or nothing was observed.
        """
        series = self._read(data, times, mask)
        total, count = 0.0, int(series.seen.sum())
        if not count:
            raise ValueError("a score needs at least one observed value; none of these series has any")
        clock = _since_start(series.times) / self._unit
        for d in range(series.dim):
            values = (series.values[:, :, d].to(torch.float64) - self.mean_[d]) / self._scale[d]
            rows = FractionalLikelihood(clock, values, self._rates)
            one = torch.zeros(1, dtype=torch.float64)
            found = rows.filter(self._process(d), self._ratio[d : d + 1], mean=one)
            total += float(found.log_density.sum()) - rows.count * math.log(float(self._scale[d]))
        return total / count

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
        """Generate stationary series, or what given series may have been.

        Parameters
        ----------
        x0
            Series, or ``None`` for new ones.
        times
            Increasing times ``(T,)``; by default 101 over the longest series that was fitted.
        n
            Number of new series, or members of each given one, those of the first series first; by default 1.
        observed
            With the noise of an observation, or without.
        seed
            Which paths.
        progress
            Accepted for the sake of all models.
        **options
            None: the steps are exact, whatever their length.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        TypeError
            If there is an option.
        """
        self._check_fitted()
        if options:
            raise TypeError(f"FractionalOU draws exact steps and has no option {', '.join(map(repr, options))}")
        count = 1 if n is None else n
        clock = torch.linspace(0, self._span, 101, dtype=torch.float64) if times is None else torch.as_tensor(times)
        clock = clock.to(torch.float64)
        if x0 is None:
            # A series that nobody looked at, asked about all times.
            blank = torch.full((1, 1, len(self.hurst_)), torch.nan, dtype=torch.float64)
            found = self.predict_samples(blank, clock, times=clock[:1], n=count, observed=observed, seed=seed)
        else:
            found = self.predict_samples(x0, clock, n=count, observed=observed, seed=seed)
        values = torch.from_numpy(found).transpose(0, 1).flatten(0, 1)
        return Paths(clock, values.to(getattr(torch, self._dtype.removeprefix("torch."))), names=self.names_)

    # --- inside --------------------------------------------------------------------------------------------

    def _check_hyper_parameters(self) -> None:
        if not _given(self.hurst, lambda v: 0 < v < 1):
            raise ValueError(f"hurst must be 'estimate' or lie between 0 and 1; got {self.hurst!r}")
        if not _given(self.rate, lambda v: 0 <= v < math.inf):
            raise ValueError(f"rate must be 'estimate' or a rate of at least 0; got {self.rate!r}")
        if not _given(self.noise, lambda v: 0 <= v < math.inf):
            raise ValueError(f"noise must be 'estimate' or a standard deviation of at least 0; got {self.noise!r}")
        if self.level not in ("shared", "own"):
            raise ValueError(f"level must be 'shared' or 'own'; got {self.level!r}")
        if self.rate == 0 and self.level != "own":
            raise ValueError("a process that never relaxes has no level to share; give level='own' with rate=0")
        if not self.rates_per_decade > 0:
            raise ValueError(f"rates_per_decade must be positive; got {self.rates_per_decade}")
        if self.max_iterations < 1:
            raise ValueError(f"max_iterations must be at least 1; got {self.max_iterations}")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive; got {self.tolerance}")

    @property
    def _scale(self) -> Tensor:
        """The volatility over a median gap, ``(D,)``, state units."""
        return self.volatility_ * self._unit**self.hurst_

    @property
    def _ratio(self) -> Tensor:
        return (self.noise_ / self._scale).square()

    def _process(self, d: int) -> StationaryRelaxation:
        rate = self.rate_[d : d + 1].clamp_min(STILL / self._span) * self._unit
        process = stationary_relaxation(self._rates, self.hurst_[d : d + 1], rate)
        spread = (self.level_deviation_[d : d + 1] / self._scale[d]).square()
        # Levels of series differ by what is constant within each, and the process's own slow part is a part of that.
        return process._replace(constant=torch.where(spread > 0, spread, process.constant))

    def _adopt(self) -> None:
        """Write the approximation as a process in the units of the data."""
        weights = torch.cat([self._process(d).weights for d in range(len(self.hurst_))])
        scaled = weights * self._scale[:, None] / self._unit**0.5
        self.process_ = sum_as_process(self._rates / self._unit, scaled, self.mean_)

    def _read(self, data: Any, times: Any, mask: Any) -> Series:
        self._check_fitted()
        series = read_series(data, times=times, mask=mask).to("cpu")
        if series.dim != len(self.hurst_):
            raise ValueError(f"the model was fitted on {len(self.hurst_)} channels; the series have {series.dim}")
        return series

    def _posterior(self, series: Series, at: Any, d: int) -> FractionalPosterior:
        asked = series.times if at is None else torch.as_tensor(at, dtype=torch.float64)
        if asked.ndim not in (1, 2) or not asked.shape[-1] or not bool(torch.isfinite(asked).all()):
            raise ValueError(f"times must be finite, of shape (Q,) or (B, Q); got shape {tuple(asked.shape)}")
        asked = asked.expand(len(series), -1)
        first = series.times[:, :1]
        values = (series.values[:, :, d].to(torch.float64) - self.mean_[d]) / self._scale[d]
        # Differences first: large dates would lose them.
        own, wanted = ((t - first) / self._unit for t in (series.times, asked))
        return FractionalPosterior(own, values, wanted, self._process(d), float(self._ratio[d]))

    def _moments(self, series: Series, at: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        means, variances = [], []
        for d in range(series.dim):
            mean, variance = self._posterior(series, at, d).moments()
            means.append(self.mean_[d] + self._scale[d] * mean)
            variances.append(self._scale[d].square() * variance)
        return np.asarray(torch.stack(means, -1).numpy()), np.asarray(torch.stack(variances, -1).numpy())

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        names = ("hurst_", "hurst_error_", "rate_", "mean_", "volatility_", "noise_", "level_deviation_", "_rates")
        told = {"unit": self._unit, "span": self._span, "names": self.names_, "dtype": self._dtype}
        kept = {name: getattr(self, name) for name in names}
        for d, profile in enumerate(self._profiles):
            kept[f"profile.{d}"] = torch.stack([profile.places, profile.roots])
        return kept, told | {"log_likelihood": self.log_likelihood_}

    def _restore(self, tensors: Mapping[str, Tensor], extra: Mapping[str, Any]) -> None:
        self._profiles = []
        for name, value in tensors.items():
            if not name.startswith("profile."):
                setattr(self, name, value.cpu())
        for d in range(sum(name.startswith("profile.") for name in tensors)):
            places, roots = tensors[f"profile.{d}"].cpu()
            self._profiles.append(HurstProfile(places, roots))
        self._unit, self._span, self._dtype = float(extra["unit"]), float(extra["span"]), str(extra["dtype"])
        self.names_ = None if extra["names"] is None else tuple(extra["names"])
        self.log_likelihood_ = float(extra["log_likelihood"])
        self._adopt()


def _given(value: str | float, fits: Callable[[float], bool]) -> bool:
    """Whether a hyper-parameter is to be estimated, or a number that fits."""
    return value == "estimate" if isinstance(value, str) else fits(float(value))


def _since_start(times: Tensor) -> Tensor:
    return times - times[:, :1]
