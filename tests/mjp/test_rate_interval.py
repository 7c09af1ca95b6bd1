"""Bounds of rates hold the probability that they are asked for, whether or not zero is possible."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import gamma, poisson

from gendyn.mjp.rate_interval import gamma_interval, mixture_interval


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("link", [1e-3, 0.3, 0.94, 0.96, 1.0])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_bounds_hold_their_probability_whether_or_not_zero_is_possible(link, level):
    mean, shape = doubles(2.0), doubles(3.5)
    low, high = mixture_interval(mean, shape, doubles(link), level)
    law = gamma(3.5, scale=2.0 / 3.5)
    held = link * (law.cdf(high.item()) - law.cdf(low.item())) + (1 - link) * (low.item() == 0)
    # Where zero alone is more likely than what is asked for, nothing else is held.
    assert held == pytest.approx(max(level, 1 - link), abs=1e-9)
    if 1 - link < (1 - level) / 2:
        assert link * law.sf(high.item()) == pytest.approx((1 - level) / 2)


def test_a_link_that_never_jumped_is_bounded_by_the_time_spent():
    low, high = gamma_interval(doubles(0.0)[None], doubles(math.inf)[None], doubles(0.0)[None], doubles(8.0), 0.9)
    assert low.item() == 0
    # At the bound, no jump in that time happens once in ten times.
    assert poisson.pmf(0, 8.0 * high.item()) == pytest.approx(0.1)
