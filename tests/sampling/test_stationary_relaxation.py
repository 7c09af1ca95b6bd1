"""The stationary fractional Ornstein-Uhlenbeck process as a sum of exponentials, against its exact covariance."""

from __future__ import annotations

import math

import pytest
import torch

from gendyn.sampling.fractional import relaxation_rates, stationary_relaxation
from gendyn.systems import FractionalOrnsteinUhlenbeck

HURST = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
LAGS = torch.tensor([0.0, 0.01, 0.03, 0.1, 0.5, 1.0, 5.0], dtype=torch.float64)


@pytest.mark.parametrize("rate", [0.02, 1.0, 10.0])
def test_covariance_and_variogram_at_every_scale(rate):
    rates = relaxation_rates(0.01, 5.0)
    found = stationary_relaxation(rates, HURST, torch.full_like(HURST, rate)).autocovariance(LAGS)
    for h, row in zip(HURST.tolist(), found, strict=True):
        exact = FractionalOrnsteinUhlenbeck(hurst=h, rate=rate).autocovariance(LAGS)
        assert ((row - exact).abs() / exact[0]).max() < 3e-4
        variogram = 2 * (exact[0] - exact[1:])
        assert ((2 * (row[0] - row[1:]) - variogram).abs() / variogram).max() < 6e-4


def test_more_rates_come_nearer():
    exact = FractionalOrnsteinUhlenbeck(hurst=0.3, rate=1.0).autocovariance(LAGS)
    one = torch.ones(1, dtype=torch.float64)
    errors = [
        float(
            (
                stationary_relaxation(relaxation_rates(0.01, 5.0, density), 0.3 * one, one).autocovariance(LAGS)[0]
                - exact
            )
            .abs()
            .max()
        )
        for density in (1.0, 2.0, 4.0)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_the_slow_part_of_long_memory_is_constant():
    # At H = .9 a twentieth of the variance is far slower than the horizon.
    one = torch.ones(1, dtype=torch.float64)
    found = stationary_relaxation(relaxation_rates(0.01, 5.0), 0.9 * one, one)
    variance = math.gamma(2.8) / 2
    assert 0.03 < found.constant.item() / variance < 0.07
    assert found.autocovariance(torch.tensor(0.0)).item() == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: relaxation_rates(2.0, 1.0), "shortest gap must lie above 0 and up to the horizon 1"),
        (lambda: relaxation_rates(0.1, math.inf), "horizon must be a positive time"),
        (lambda: relaxation_rates(0.1, 1.0, 0.0), "per_decade must be positive; got 0"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()
