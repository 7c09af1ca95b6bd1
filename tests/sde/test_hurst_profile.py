"""Profiles of the Hurst index against closed forms, and against the profile of an exact likelihood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz
from scipy.optimize import minimize
from scipy.special import ndtri

import gendyn as gd
from gendyn.sampling import sample_fractional_brownian_motion
from gendyn.sampling.fractional import noise_autocovariance
from gendyn.sde.hurst_interval import hurst_interval
from gendyn.sde.hurst_profile import hurst_profile
from gendyn.sde.quadratic_search import SearchState

LOW, HIGH = torch.tensor([-4.5, -12.0]).double(), torch.tensor([4.5, 6.0]).double()


def test_a_quadratic_profile_is_normal_on_the_odds():
    def hill(x):
        return -2 * (x[:, 0] - 0.5) ** 2 - (x[:, 1] - x[:, 0]) ** 2

    best = SearchState(torch.tensor([0.5, 0.5]).double(), 0.0)
    profile, top = hurst_profile(hill, LOW, HIGH, best, [[-3.0, 3.0]])
    assert top is best
    assert profile.error() == pytest.approx(0.5, abs=2e-3)
    for level in (0.5, 0.9, 0.99, 0.9999):
        low, high = profile.interval(level)
        reach = 0.5 * float(ndtri(0.5 + level / 2))
        assert math.log(low / (1 - low)) == pytest.approx(0.5 - reach, abs=0.01)
        assert math.log(high / (1 - high)) == pytest.approx(0.5 + reach, abs=0.01)


def test_a_level_beyond_the_profile_is_refused():
    best = SearchState(torch.tensor([0.5]).double(), 0.0)
    profile, _ = hurst_profile(lambda x: -200 * (x[:, 0] - 0.5) ** 2, LOW[:1], HIGH[:1], best, [])
    low, high = profile.interval(0.9999)  # of a long series: narrow
    assert 0.57 < low < high < 0.67
    with pytest.raises(ValueError, match=r"followed to a level of 0.9999\d*; got 0.9999999: give a level below that"):
        profile.interval(0.9999999)


def test_a_second_hill_over_the_other_coordinate_is_found():
    # The higher hill lies where the other coordinate is -6; between them it is flat.
    def two(x):
        near = -2 * (x[:, 0] - 0.5) ** 2 - (x[:, 1] - 2) ** 2
        far = 1.0 - 2 * (x[:, 0] + 0.5) ** 2 - (x[:, 1] + 6) ** 2
        return torch.logaddexp(torch.logaddexp(near, far), torch.full_like(near, -20.0))

    best = SearchState(torch.tensor([0.5, 2.0]).double(), float(two(torch.tensor([[0.5, 2.0]]).double())))
    _, top = hurst_profile(two, LOW, HIGH, best, [[-6.0, 2.0]])
    assert top.value > best.value + 0.8
    assert top.point[1].item() == pytest.approx(-6, abs=0.1)


def test_where_nothing_is_told_the_interval_is_everything():
    def plain(x):
        return 0 * x[:, 0]

    profile, _ = hurst_profile(plain, LOW[:1], HIGH[:1], SearchState(torch.zeros(1).double(), 0.0), [])
    assert profile.interval(0.9) == (0.0, 1.0)
    assert profile.error() == math.inf


@pytest.mark.parametrize("seed", [0, 5])
def test_the_interval_is_that_of_the_exact_profile(seed, tmp_path):
    # Of noisy paths whose best fit may well have no noise: there the curvature at the maximum knows nothing of it.
    paths, length = 24, 48
    times = torch.arange(1, length + 1, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    x = sample_fractional_brownian_motion(0.3, times, paths, seed=seed)
    x = x + 0.3 * torch.randn(x.shape, generator=draw, dtype=torch.float64)
    model = gd.FractionalOU(rate=0, level="own").fit(x, times=times)
    rises = x[..., 0].diff(dim=1).numpy()
    n = rises.shape[1]
    squares = rises.T @ rises / paths
    white = toeplitz([2.0, -1.0] + [0.0] * (n - 2))

    def exact(z, log_ratio):
        index = 1 / (1 + math.exp(-z))
        cov = toeplitz(noise_autocovariance(torch.arange(n), index).numpy()) + math.exp(log_ratio) * white
        scale = np.trace(np.linalg.solve(cov, squares)) / n
        return -0.5 * paths * (n * math.log(2 * math.pi * scale) + n + np.linalg.slogdet(cov)[1])

    ratios = np.linspace(-9, 3, 61)

    def profile(z):
        start = max(ratios, key=lambda r: exact(z, r))
        found = minimize(lambda p: -exact(z, p[0]), [start], method="L-BFGS-B", bounds=[(-18, 6)])
        return max(-found.fun, exact(z, start))

    places = np.linspace(-2.5, 1.0, 141)
    heights = np.array([profile(z) for z in places])
    assert model.log_likelihood_ == pytest.approx(heights.max(), abs=0.02)
    for level in (0.5, 0.9):
        inside = places[heights >= heights.max() - 0.5 * float(ndtri(0.5 + level / 2)) ** 2]
        low, high = (v.item() for v in model.interval(level))
        assert math.log(low / (1 - low)) == pytest.approx(inside[0], abs=0.04)
        assert math.log(high / (1 - high)) == pytest.approx(inside[-1], abs=0.04)
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    assert again.interval(0.9) == model.interval(0.9)
    # A file without profiles still knows how exact its indices are.
    tensors, extra = model._state()
    again._restore({name: v for name, v in tensors.items() if not name.startswith("profile.")}, extra)
    for bound, normal in zip(again.interval(0.9), hurst_interval(model.hurst_, model.hurst_error_, 0.9), strict=True):
        torch.testing.assert_close(bound, normal)
