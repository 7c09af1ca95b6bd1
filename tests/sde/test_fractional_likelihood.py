"""The likelihood of fractional Ornstein-Uhlenbeck processes: one factor for all series against the filter."""

from __future__ import annotations

import math

import pytest
import torch

from gendyn.sampling.fractional import relaxation_rates
from gendyn.sde.fractional_likelihood import FractionalLikelihood

HURST, RATE, RATIO = (
    torch.tensor(v, dtype=torch.float64)
    for v in ([0.15, 0.5, 0.85, 0.85, 0.85], [0.1, 1.0, 1e-4, 0.3, 0.3], [0.0, 0.2, 1e-3, 0.0, 5.0])
)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("regular", [False, True])
def test_one_factor_of_all_series_is_what_the_filter_finds(own: bool, regular: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    gaps = torch.ones(29) if regular else 0.3 + torch.rand(29, generator=draw)
    times = torch.cat([torch.zeros(1), gaps.cumsum(0)]).double()
    values = torch.randn(7, 30, generator=draw).double().cumsum(1)
    values[:, 4:6] = math.nan
    one = FractionalLikelihood(times.expand(7, -1), values, relaxation_rates(0.3, 30.0), own_level=own)
    assert one._rows is not None
    filtered = FractionalLikelihood(times.expand(7, -1), values, relaxation_rates(0.3, 30.0), own_level=own)
    filtered._rows = None
    for squared in (None, torch.full((5,), 0.7).double()):
        pairs = (f.profile(HURST, RATE, RATIO, squared) for f in (one, filtered))
        for a, b in zip(*pairs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)


def test_series_of_their_own_times_or_of_many_are_filtered() -> None:
    times, values = torch.arange(8.0).double().repeat(2, 1), torch.randn(2, 8).double()
    values[1, 3] = math.nan
    assert FractionalLikelihood(times, values, relaxation_rates(1.0, 8.0))._rows is None
    times, values = torch.arange(301.0).double()[None], torch.randn(1, 301).double()
    assert FractionalLikelihood(times, values, relaxation_rates(1.0, 301.0))._rows is None
