"""Diffusions that depend on the state: the transform, the limit of Stratonovich's calculus, and fractional SDEs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gendyn as gd
from gendyn.sampling import FractionalNoise, MarkovApproximation, sample, sample_fractional_brownian_motion
from gendyn.sampling.fractional import HurstFamily, rates_between
from gendyn.sampling.process import SDE
from gendyn.sde import FractionalModel, FractionalPrior, LampertiTransform, read_series
from gendyn.sde.approach_times import approach_times
from gendyn.sde.series import Series

SLOPE = 0.5


def geometric(low: float = -1.6, high: float = 8.0) -> LampertiTransform:
    """g(x) = 1 + x / 2."""
    knots = torch.cat([torch.linspace(low, 0.3, 4), torch.linspace(0.8, high, 5)])[None].double()
    transform = LampertiTransform(knots).double()
    with torch.no_grad():
        transform.log_size.copy_((1 + SLOPE * knots).log() + 0.7)
    return transform


def test_the_transform_of_geometric_noise_is_the_logarithm() -> None:
    transform = geometric()
    x = torch.linspace(-1.5, 7.9, 50, dtype=torch.float64)[:, None]
    torch.testing.assert_close(transform(x), torch.log1p(SLOPE * x) / SLOPE)
    torch.testing.assert_close(transform.size(x), 1 + SLOPE * x)


def test_the_transform_is_undone_and_its_slope_is_one_over_the_diffusion() -> None:
    knots = torch.tensor([[-1.0, 0.2, 0.9, 2.0], [-3.0, -1.0, 0.5, 0.6]]).double()
    transform = LampertiTransform(knots).double()
    with torch.no_grad():
        transform.log_size.copy_(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).double())
        transform.log_size[1, 2] = transform.log_size[1, 1]
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)[:, None].repeat(1, 2).requires_grad_(True)
    u = transform(x)
    back, size = transform.inverse_with_size(u)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(size, transform.size(x))
    torch.testing.assert_close(torch.autograd.grad(u.sum(), x)[0], 1 / transform.size(x))
    torch.testing.assert_close(transform(torch.zeros(1, 2)), torch.zeros(1, 2).double())
    torch.testing.assert_close(transform.size(torch.zeros(1, 2)), torch.ones(1, 2).double())


@pytest.mark.filterwarnings("ignore:the fastest rate")  # the noise is held while steps shrink
@pytest.mark.parametrize("hurst", [0.35, 0.7])
def test_the_equation_in_its_own_coordinates_is_that_of_stratonovich(hurst: float) -> None:
    """Of the same path of noise, Heun's steps come to the transform of the additive equation as they shrink."""
    transform, found = geometric(), []
    noise = FractionalNoise(hurst, rates=rates_between(0.05, 1.0, 5))
    drift, own = (lambda t, x: 0.2 - x), (lambda t, x: torch.full_like(x, 0.6))
    start = torch.full((20, 1), 0.5, dtype=torch.float64)
    with torch.no_grad():
        for steps in (50, 400):
            grid, run = torch.linspace(0, 1, steps + 1), {"noise": noise, "step": 1.0, "seed": 0}
            additive = SDE(drift, own, dim=1, noise_type="diagonal")
            u = sample(additive, transform(start), grid, solver="euler_maruyama", **run)
            bent = SDE(
                lambda t, x: transform.size(x) * drift(t, transform(x)), lambda t, x: 0.6 * transform.size(x), dim=1,
                noise_type="diagonal", calculus="stratonovich",
            )  # fmt: skip
            x = sample(bent, start, grid, solver="heun", **run).values
            found.append(float((x - transform.inverse(u.values)).abs().max()))
    assert found[1] < 0.01
    assert found[1] < 0.3 * found[0]


def looks(noise: float, count: int = 4) -> Series:
    times, draw = torch.linspace(0, 1, 16).double(), torch.Generator().manual_seed(3)
    u = sample_fractional_brownian_motion(0.3, times, count, seed=0) + 0.3
    x = torch.expm1(SLOPE * u) / SLOPE + noise * torch.randn(u.shape, generator=draw).double()
    x[0, 3:5] = math.nan
    return read_series(x, times=times)


def model_of(noise: float, transform: LampertiTransform | None, **options: Any) -> FractionalModel:
    prior = FractionalPrior(1, HurstFamily(rates_between(0.05, 1.0, 5), 1.0), "none", hurst=[0.3])
    return FractionalModel(prior, torch.tensor([noise]), transform=transform, **options).double()


def bound(model: FractionalModel, series: Series) -> Tensor:
    return model.bound(series, *approach_times(series.times, series.lengths), seed=0).value()


@pytest.mark.parametrize("posterior", ["guided", "control"])
def test_the_identity_changes_nothing(posterior: Any) -> None:
    series, flat = looks(0.1), LampertiTransform(torch.tensor([[-1.0, 0.0, 2.0]]))
    with torch.no_grad():
        plain, transformed = (bound(model_of(0.1, t, posterior=posterior), series) for t in (None, flat))
    torch.testing.assert_close(plain, transformed, rtol=1e-9, atol=1e-9)


def test_the_bound_of_geometric_noise_is_the_log_normal_density() -> None:
    """The change of variables, exact as the noise of a look vanishes."""
    noise, series, transform = 0.01, looks(0.01), geometric()
    model = model_of(noise, transform)
    law = MarkovApproximation(0.3, 1.0, rates=model.rates, past="stationary", weighting="law", ridge=1e-6)
    with torch.no_grad():
        found = bound(model, series)
        for row, value in enumerate(found.tolist()):
            seen = series.seen[row, :, 0]
            t, y = series.times[0][seen], series.values[row, seen]
            size = transform.size(y)[:, 0]
            cov = law.covariance(t[:, None], t) + 1.0 + torch.diag((noise / size).square())
            normal = torch.distributions.MultivariateNormal(torch.zeros(len(t)).double(), cov)
            exact = float(normal.log_prob(transform(y)[:, 0]) - size.log().sum())
            assert exact - 0.02 < value < exact + 0.005


def test_the_bound_has_its_slope_at_every_knot() -> None:
    series, model = looks(0.05), model_of(0.05, geometric())
    assert model.transform is not None
    slope = torch.autograd.grad(bound(model, series).sum(), [model.transform.log_size, model.prior.log_deviation])
    for parameter, found in zip((model.transform.log_size, model.prior.log_deviation), slope, strict=True):
        entries = parameter.data.view(-1)
        for k in range(0, len(entries), 2):
            with torch.no_grad():
                entries[k] += 1e-3
                above = bound(model, series).sum()
                entries[k] -= 2e-3
                below = bound(model, series).sum()
                entries[k] += 1e-3
            assert float(found.view(-1)[k]) == pytest.approx(float((above - below) / 2e-3), rel=5e-3, abs=5e-3)


def test_a_diffusion_that_grows_with_the_state_is_learned(tmp_path: Path) -> None:
    times, draw = torch.linspace(0, 1, 9).double(), torch.Generator().manual_seed(3)
    x = torch.exp(0.5 * sample_fractional_brownian_motion(0.3, times, 72, seed=0))
    x = x * torch.exp(0.7 * torch.randn(72, 1, 1, generator=draw)) + 0.02 * torch.randn(x.shape, generator=draw)
    fits = {
        diffusion: gd.FractionalSDE(drift="none", diffusion=diffusion, noise=0.02, epochs=50, lr=0.1).fit(
            x[:64], times=times, progress=False
        )
        for diffusion in ("constant", "state")
    }
    model = fits["state"]
    assert float(model.hurst_) == pytest.approx(0.3, abs=0.06)
    states = torch.tensor([[0.6], [1.0], [1.6]])
    assert torch.from_numpy(model.volatility(states)).div(states).sub(0.5).abs().max() < 0.1
    scores = {name: fit.score(x[64:], times=times) for name, fit in fits.items()}
    assert scores["state"] > scores["constant"] + 0.05
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    assert again.score(x[64:], times=times) == pytest.approx(scores["state"], abs=1e-9)
    assert model.predict_samples(x[:2], at=[0.52, 1.2], times=times, n=5).min() > 0


@pytest.mark.parametrize(
    ("knots", "said"),
    [
        ([[0.0]], "2 or more"),
        ([[0.0, 0.0]], "increase"),
        ([[1.0, 2.0]], "0 must lie between"),
    ],
)
def test_knots_that_are_none_are_named(knots: list[list[float]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LampertiTransform(torch.tensor(knots))


def test_states_of_other_channels_are_refused() -> None:
    times = torch.linspace(0, 1, 10)
    model = gd.FractionalSDE(drift="none", epochs=1).fit(torch.randn(4, 10), times=times, progress=False)
    with pytest.raises(ValueError, match=r"x must have shape \(..., 1\)"):
        model.volatility(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="diffusion must be one of 'constant', 'state'"):
        gd.FractionalSDE(diffusion="free").fit(torch.randn(4, 10), times=times, progress=False)  # type: ignore[arg-type]
