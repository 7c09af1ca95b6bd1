"""Hurst indices that move with time, and indices of each channel, in fractional SDEs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gendyn as gd
from gendyn.sampling.fractional import (
    HurstFamily,
    MultifractionalMotion,
    rates_between,
    sample_fractional_brownian_motion,
    sample_multifractional,
)
from gendyn.sde import FractionalModel, FractionalPrior, read_series
from gendyn.sde.approach_times import approach_times

TIMES = torch.linspace(0, 1, 12).double()


class Falling(torch.nn.Module):
    def forward(self, t: Tensor) -> Tensor:
        return falling(t)


def falling(t: Tensor) -> Tensor:
    return 0.3 + 0.4 * torch.sigmoid(6 * (0.5 - t))


def model_of(drift: Any, noise: float = 0.1, **options: Any) -> FractionalModel:
    family = HurstFamily(rates_between(0.05, 1.0, 5), 1.0, kind="II", weighting="pathwise")
    model = FractionalModel(FractionalPrior(1, family, drift, 8, gap=0.1, **options), torch.tensor([noise])).double()
    if drift == "linear":
        with torch.no_grad():
            model.prior.rate.fill_(1.5)
            model.prior.offset.fill_(0.4)
    return model


def bound(model: FractionalModel, values: Tensor) -> Tensor:
    series = read_series(values[..., None], times=TIMES)
    return model.bound(series, *approach_times(series.times, series.lengths), seed=0).value()


@pytest.mark.parametrize("drift", ["none", "linear"])
def test_a_curve_that_does_not_move_is_a_constant_index(drift: str) -> None:
    values = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).double()
    curved, constant = model_of(drift, curve=True, unit=3.0), model_of(drift, hurst=[0.3])
    with torch.no_grad():
        assert curved.prior.curve is not None
        list(curved.prior.curve.parameters())[-1].fill_(math.log(0.3 / 0.7))
        # The volatility of a curve is told in another unit of time, and comes to the same.
        torch.testing.assert_close(curved.prior.volatility * 3.0**0.3, constant.prior.volatility)
        torch.testing.assert_close(bound(curved, values), bound(constant, values), rtol=1e-8, atol=1e-8)


def test_the_bound_is_the_evidence_of_multifractional_motion() -> None:
    values = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).double()
    model = model_of("none", curve=True, unit=2.0)
    model.prior.curve = Falling()  # type: ignore[assignment]
    with torch.no_grad():
        motion = MultifractionalMotion(TIMES, falling, rates=model.rates, unit=2.0)
        cov = model.prior.volatility**2 * motion.covariance + 1.0 + 0.01 * torch.eye(12)
        exact = torch.distributions.MultivariateNormal(torch.zeros(12).double(), cov).log_prob(values)
        torch.testing.assert_close(bound(model, values), exact, rtol=1e-5, atol=1e-4)


def test_the_unit_of_time_is_told_of_a_variance() -> None:
    double = MultifractionalMotion(2 * TIMES, falling(TIMES), count=5).covariance
    torch.testing.assert_close(MultifractionalMotion(TIMES, falling, count=5, unit=2.0).covariance, double)
    with pytest.raises(ValueError, match="unit must be a positive number"):
        MultifractionalMotion(TIMES, falling, unit=0.0)


def test_an_index_that_falls_with_time_is_learned(tmp_path: Path) -> None:
    times = torch.linspace(0, 2, 21).double()
    x = 0.5 * sample_multifractional(MultifractionalMotion(times, lambda t: falling(t / 2), count=9), 80, seed=0)
    x = x + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    model = gd.FractionalSDE("curve", kind="II", drift="none", noise=0.01, epochs=30, lr=0.1)
    model.fit(x[..., None], times=times, progress=False)
    missed = np.abs(model.hurst_at(times)[1:, 0] - falling(times / 2)[1:].numpy())
    assert missed.mean() < 0.06
    assert float(model.volatility_) == pytest.approx(0.5, rel=0.15)
    made = model.sample(times=times, n=1000).values[:, :, 0].var(0)
    assert float((made / x.var(0))[5:].log().abs().max()) < 0.4
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    np.testing.assert_allclose(again.hurst_at(times), model.hurst_at(times))
    with pytest.raises(ValueError, match=r"has no interval; hurst_at\(times\)"):
        model.interval()


def test_each_channel_may_have_an_index_that_is_given() -> None:
    times = torch.linspace(0, 1, 20).double()
    x = sample_fractional_brownian_motion([0.2, 0.8], times, 8, seed=0)
    options: dict[str, Any] = {"drift": "none", "noise": 0.05, "epochs": 3, "clip": None}
    both = gd.FractionalSDE([0.2, 0.8], **options).fit(x, times=times, progress=False)
    torch.testing.assert_close(both.hurst_, torch.tensor([0.2, 0.8]).double())
    alone = [
        gd.FractionalSDE(h, **options).fit(x[:, :, d : d + 1], times=times, progress=False)
        for d, h in enumerate((0.2, 0.8))
    ]
    single = [model.score(x[:, :, d : d + 1], times=times) for d, model in enumerate(alone)]
    assert both.score(x, times=times) == pytest.approx(sum(single) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hurst": "curve"}, "hurst='curve' needs kind='II'"),
        ({"hurst": "free"}, "hurst must be 'estimate', 'curve'"),
        ({"hurst": [0.2, 0.8]}, "2 Hurst indices were given for 1 channels"),
        ({"hurst": [0.2, 1.8]}, "hurst must"),
    ],
)
def test_indices_that_are_none_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gd.FractionalSDE(**options).fit(torch.randn(4, 10), times=torch.linspace(0, 1, 10), progress=False)


def test_a_curve_needs_weights_that_follow_it() -> None:
    family = HurstFamily(rates_between(0.05, 1.0, 5), 1.0, kind="II", weighting="law")
    with pytest.raises(ValueError, match="needs kind='II' and weighting='pathwise'"):
        FractionalPrior(1, family, curve=True)
