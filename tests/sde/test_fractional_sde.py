"""Fractional SDEs given series: exact evidences and posteriors, learned Hurst indices, nonlinear drifts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gendyn as gd
from gendyn.sampling import FractionalNoise, MarkovApproximation, sample, sample_fractional_brownian_motion
from gendyn.sampling.fractional import HurstFamily, rates_between
from gendyn.sampling.process import SDE
from gendyn.sde import FractionalModel, FractionalPrior, read_series
from gendyn.sde.approach_times import approach_times
from gendyn.sde.series import Series

NOISE = 0.1


def rough(hurst: float, n: int = 64, length: int = 128, noise: float = 0.05, seed: int = 0) -> tuple[Tensor, Tensor]:
    times = torch.linspace(0, 1, length, dtype=torch.float64)
    x = sample_fractional_brownian_motion(hurst, times, n, seed=seed)
    return times, x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()


def holes(batch: int = 3) -> Series:
    """Series of two channels with times of their own and holes."""
    draw = torch.Generator().manual_seed(1)
    times = torch.rand(batch, 6, generator=draw, dtype=torch.float64).cumsum(1)
    times = (times - times[:, :1]) / (times[:, -1:] - times[:, :1])
    values = torch.randn(batch, 6, 2, generator=draw, dtype=torch.float64)
    values[torch.rand(values.shape, generator=draw) < 0.3] = math.nan
    return read_series(values, times=times)


def model_of(kind: Any = "I", past: Any = "stationary", drift: Any = "none", dim: int = 2, **options: Any) -> Any:
    family = HurstFamily(rates_between(0.05, 1.0, 5), 1.0, kind=kind, past=past)
    prior = FractionalPrior(dim, family, drift, 8, hurst=[0.3, 0.7][:dim])
    return FractionalModel(prior, torch.full((dim,), NOISE), hidden=8, context=4, **options).double()


def evidence(model: Any, series: Series, d: int, hurst: float) -> Tensor:
    """Return the log density of a channel of each series under the joint normal law, without a drift."""
    prior, found = model.prior, []
    noise = MarkovApproximation(
        hurst, 1.0, rates=model.rates, kind=prior.family.kind, past=prior.family.past, weighting="law", ridge=1e-6
    )
    start = float(prior.start_log_deviation.detach().exp()[d]) ** 2
    for b in range(len(series)):
        seen = ~series.values[b, :, d].isnan()
        t, y = series.times[b, seen], series.values[b, seen, d]
        cov = noise.covariance(t[:, None], t) + start + NOISE**2 * torch.eye(len(t)).double()
        law = torch.distributions.MultivariateNormal(prior.start_mean[d].expand(len(t)), cov)
        found.append(law.log_prob(y))
    return torch.stack(found)


@pytest.mark.parametrize(("kind", "past"), [("I", "stationary"), ("I", "modes"), ("II", "modes")])
def test_without_a_drift_the_bound_is_the_evidence(kind: str, past: str) -> None:
    model, series = model_of(kind, past), holes()
    exact = evidence(model, series, 0, 0.3) + evidence(model, series, 1, 0.7)
    for longest in (math.inf, 0.1):
        grid, places = approach_times(series.times, series.lengths, longest=longest)
        bound = model.bound(series, grid, places, seed=0).value()
        torch.testing.assert_close(bound, exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("posterior", ["guided", "control"])
def test_paths_have_the_moments_of_the_bound(posterior: str) -> None:
    """Sampled and expected bounds agree, where the networks still are zero."""
    model, series = model_of(drift="network", posterior=posterior), holes()
    with torch.no_grad():
        model.prior.rate.fill_(1.5)
        model.prior.offset.fill_(0.3)
        grid, places = approach_times(series.times, series.lengths, least=3, power=3.0)
        batch = model._prepare(series, grid, places)
        sampled, expected = model._sampled(batch, 0, 4000), model._expected(batch)
        for a, b in zip(sampled, expected, strict=True):
            spread = a.std(0) / 4000**0.5 if a.ndim == 2 else 0 * a
            assert bool(((a.mean(0) if a.ndim == 2 else a) - b).abs().le(4 * spread + 1e-9).all())


def test_the_bound_has_the_slope_of_the_evidence() -> None:
    model, series = model_of(drift="linear"), holes()
    grid, places = approach_times(series.times, series.lengths)
    for p in model.parameters():
        p.requires_grad_(True)

    def bound() -> Tensor:
        return model.bound(series, grid, places, seed=0).value().sum()

    names = ["prior.logit_hurst", "prior.log_deviation", "prior.rate", "prior.offset", "log_noise", "prior.start_mean"]
    parameters = dict(model.named_parameters())
    slopes = torch.autograd.grad(bound(), [parameters[name] for name in names])
    for name, slope in zip(names, slopes, strict=True):
        with torch.no_grad():
            parameters[name][0] += 1e-3
            above = bound()
            parameters[name][0] -= 2e-3
            below = bound()
            parameters[name][0] += 1e-3
        assert float(slope[0]) == pytest.approx(float((above - below) / 2e-3), rel=2e-3, abs=1e-3), name


@pytest.mark.parametrize(
    ("hurst", "variance"), [(0.1, 0.715303), (0.3, 0.623554), (0.5, 0.502488), (0.7, 0.342737), (0.9, 0.131942)]
)
@pytest.mark.parametrize("past", ["stationary", "modes"])
def test_the_posterior_has_the_variance_of_fractional_brownian_motion(hurst: float, variance: float, past: Any) -> None:
    """Kind I from 0, seen once at T = 2 with deviation .1: how far it spreads at t = 1."""
    family = HurstFamily(rates_between(2e-3, 2.0, 9), 2.0, kind="I", past=past)
    prior = FractionalPrior(1, family, "none", hurst=[hurst])
    model = FractionalModel(prior, torch.tensor([NOISE])).double()
    with torch.no_grad():
        prior.start_log_deviation.fill_(-12.0)
        series = read_series(torch.tensor([[math.nan, math.nan, 0.0]]).double(), times=[0.0, 1.0, 2.0])
        grid, places = approach_times(series.times, series.lengths)
        batch = model._prepare(series, grid, places)
        found = model.paths(series, grid, places, seed=0, n_samples=20000)[:, 0, 1, 0].var()
        assert len(batch.steps.gaps) == 2
    assert float(found) == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("hurst", [0.15, *(pytest.param(hurst, marks=pytest.mark.slow) for hurst in (0.5, 0.85))])
def test_the_hurst_index_of_fractional_brownian_motion_is_learned(hurst: float) -> None:
    times, x = rough(hurst)
    model = gd.FractionalSDE(drift="none", noise=0.05, epochs=150, lr=0.1).fit(x, times=times, progress=False)
    assert float(model.hurst_) == pytest.approx(hurst, abs=0.05)
    assert float(model.volatility_) == pytest.approx(1.0, rel=0.25)
    low, high = model.interval(0.99)
    assert float(low) < hurst < float(high)
    assert 0.002 < float(model.hurst_error_) < 0.3


def test_predictions_are_those_of_the_likelihood_model() -> None:
    """Between looks, against a Kalman smoother over another approximation of the same law."""
    times, x = rough(0.3, n=12, length=40)
    x[:, 10:14] = math.nan
    mine = gd.FractionalSDE(hurst=0.3, drift="none", noise=0.05, epochs=40, count=9).fit(x, times=times, progress=False)
    other = gd.FractionalOU(hurst=0.3, rate=0.0, level="own", noise=0.05).fit(x, times=times)
    at = [float(times[11]), 0.5037, 1.1]
    a, b = mine.predict(x, at=at, times=times, n=2000), other.predict(x, at=at, times=times)
    spread = mine.predict_samples(x, at=at, times=times, n=2000).std(0)
    assert float(np.abs((a - b) / spread).max()) < 0.2
    low, high = other.predict_interval(x, at=at, times=times, level=0.6827)
    np.testing.assert_allclose(spread, (high - low) / 2, rtol=0.15)


def test_a_drift_that_is_not_linear_is_learned() -> None:
    """Two wells, driven by rough noise: a network says more than a line, and new series have two modes."""
    wells = SDE(lambda t, x: 6 * (x - x**3), lambda t, x: torch.full_like(x, 0.7), dim=1, noise_type="diagonal")
    start = torch.tensor([-1.0, 1.0])[torch.arange(120) % 2][:, None]
    paths = sample(wells, start, torch.linspace(0, 3, 31), step=0.01, noise=FractionalNoise(0.4), seed=0)
    x = paths.values + 0.05 * torch.randn(paths.values.shape, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"noise": 0.05, "step": 1 / 30, "epochs": 60, "lr": 0.03}
    fits = {
        drift: gd.FractionalSDE(drift=drift, **options).fit(x[:90], times=paths.times, progress=False)
        for drift in ("linear", "network")
    }
    scores = {name: model.score(x[90:], times=paths.times) for name, model in fits.items()}
    assert scores["network"] > scores["linear"] + 0.02
    made = fits["network"].sample(times=torch.linspace(0, 3, 31), n=400).values[:, -1, 0]
    assert float((made.abs() - 1).abs().median()) < 0.3
    assert 0.2 < float((made > 0).double().mean()) < 0.8


def test_steps_that_cluster_make_a_control_better() -> None:
    series = read_series(torch.tensor([[0.0, 0.4]]).double(), times=[0.0, 1.0])
    model = model_of(dim=1, posterior="control")
    with torch.no_grad():
        bounds = [
            float(model.bound(series, *approach_times(series.times, series.lengths, least=40, power=p), seed=0).value())
            for p in (1.0, 3.0)
        ]
        guided = model_of(dim=1)
        best = float(guided.bound(series, *approach_times(series.times, series.lengths), seed=0).value())
    assert bounds[0] < bounds[1] < best


def test_the_unit_of_time_does_not_matter() -> None:
    times, x = rough(0.3, n=8, length=20)
    fits = [
        gd.FractionalSDE(drift="linear", epochs=4).fit(x, times=unit * times, progress=False) for unit in (1.0, 1000.0)
    ]
    torch.testing.assert_close(fits[0].hurst_, fits[1].hurst_)
    assert fits[0].score(x, times=times) == pytest.approx(fits[1].score(x, times=1000 * times), abs=1e-6)
    torch.testing.assert_close(fits[0].volatility_, fits[1].volatility_ * 1000 ** fits[1].hurst_)


def test_single_precision_is_within_a_percent() -> None:
    times, x = rough(0.1, n=8, length=40)
    found = []
    for dtype in (torch.float32, torch.float64):
        model = gd.FractionalSDE(epochs=5, count=8, hidden=8).fit(x.to(dtype), times=times, progress=False)
        found.append((float(model.hurst_), model.score(x.to(dtype), times=times)))
    assert found[0] == pytest.approx(found[1], rel=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hurst": 1.0}, "hurst must be"),
        ({"hurst": float("nan")}, "hurst must be"),
        ({"noise": 0.0}, "seen exactly has no density to bound"),
        ({"kind": "III"}, "kind must be one of 'I', 'II'"),
        ({"posterior": "free"}, "posterior must be one of"),
        ({"drift": "cubic"}, "drift must be one of"),
        ({"count": 0}, "count must be at least 1"),
        ({"step": 0.0}, "step must be positive"),
        ({"horizon": -1.0}, "horizon must be positive"),
    ],
)
def test_hyper_parameters_out_of_range_are_named(options: dict[str, Any], said: str) -> None:
    times, x = rough(0.3, n=4, length=10)
    with pytest.raises(ValueError, match=said):
        gd.FractionalSDE(**options).fit(x, times=times, progress=False)


def test_series_of_which_nothing_can_be_learned_are_refused() -> None:
    with pytest.raises(ValueError, match="channel 0 is constant"):
        gd.FractionalSDE().fit(torch.ones(4, 10), progress=False)
    times, x = rough(0.3, n=4, length=10)
    model = gd.FractionalSDE(drift="none", epochs=1).fit(x, times=times, progress=False)
    with pytest.raises(ValueError, match="fitted on 1 channels"):
        model.predict(torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match="nothing can be said about the time -1"):
        model.predict(x, at=[-1.0], times=times)
