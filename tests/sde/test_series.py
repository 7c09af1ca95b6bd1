"""Series as users have them, their units, the solver's grid, and what the drift is told within a step."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from gendyn.data import ControlPath, Paths
from gendyn.sde import ControlChannels, Ridge, SeriesScaling, read_series, step_times

NAN = float("nan")


def some(n=5, length=8, dim=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, dim, generator=generator)
    x[torch.rand(x.shape, generator=generator) < 0.4] = NAN
    return x


def test_every_form_of_the_same_series_is_the_same():
    x = some()
    t = torch.rand(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).add(0.1).cumsum(1)
    array = read_series(x, times=t)
    rows = read_series(list(x.numpy()), times=list(t.numpy()))
    paths = read_series(Paths(t, x, mask=~x.isnan()))
    masked = read_series(x.nan_to_num(7.0), times=t, mask=~x.isnan())
    i, k, d = np.nonzero(~np.isnan(x.numpy()))
    table = pd.DataFrame(
        {"id": i, "time": t.numpy()[i, k], "channel": [f"c{j}" for j in d], "value": x.numpy()[i, k, d]}
    )
    for other in (rows, paths, masked):
        assert torch.equal(other.times, array.times)
        assert torch.equal(other.values.nan_to_num(9.0), array.values.nan_to_num(9.0))
    long = read_series(table)
    # A table has no rows in which nothing was observed.
    for row in range(5):
        there = array.seen[row].any(1)
        n = int(long.lengths[row])
        assert torch.allclose(long.times[row, :n], array.times[row][there])
        assert torch.equal(long.values[row, :n].nan_to_num(9.0), array.values[row][there].nan_to_num(9.0))


def test_series_of_unequal_length():
    series = read_series([[1.0, 2.0, 3.0], [4.0]], times=[[0.0, 0.5, 2.0], [7.0]])
    assert series.lengths.tolist() == [3, 1]
    assert series.times.tolist() == [[0.0, 0.5, 2.0], [7.0, 7.0, 7.0]]
    assert series.values[1, 1:].isnan().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((some(), {"times": [0.0, 1, 2, 3, 3, 5, 6, 7]}), "series 0 has 3 after 3 at row 4"),
        ((some(), {"times": [0.0, 1, 2, NAN, 4, 5, 6, 7]}), "series 0 has nan at row 3"),
        ((some(), {"times": [0.0, 1.0]}), r"times must have shape \(8,\) or \(5, 8\)"),
        ((some(), {"mask": torch.ones(5, 7)}), "mask must have the shape of the series"),
        ((some(), {"y": [1, 2]}), "y must have one entry for each of 5 series"),
        ((torch.tensor([[[1.0], [float("inf")]]]), {}), "series 0 has inf in channel 0 at row 1"),
        (([[[1.0, 2.0]], [[1.0]]], {}), "same channels"),
        (([[1.0, 2.0]], {"times": [[0.0]]}), "series 0 has 2 rows and times of shape"),
        ((Paths([0.0, 1.0], torch.zeros(1, 2)), {"times": [0.0, 1.0]}), "times and a mask of their own"),
    ],
)
def test_what_is_wrong_has_a_sentence(arguments, message):
    data, more = arguments
    with pytest.raises(ValueError, match=message):
        read_series(data, **more)


@pytest.mark.parametrize("data", [None, 3, "x", [1, 2, 3], {"a": 1}, torch.zeros(3)])
def test_what_is_no_series_is_refused(data):
    with pytest.raises(TypeError, match="series must be"):
        read_series(data)


def test_units_and_origins_of_time_do_not_matter():
    x = some(dtype := 6)
    del dtype
    t = torch.rand(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).add(0.1).cumsum(1)
    found = []
    for times in (t, 1000 * t, t + 1.7e9):
        series = read_series(x, times=times)
        scaled = SeriesScaling.fit(series).transform(series)
        grid, _ = step_times(scaled.times, scaled.lengths, longest=0.1)
        found.append(ControlChannels(channels=("time", "intensity", "delta")).fit(scaled, grid)(scaled, grid))
    assert torch.allclose(found[0], found[1], atol=1e-6)
    # Seconds since 1970 in double precision keep seven digits of a step.
    assert torch.allclose(found[0], found[2], atol=1e-5)


def test_moments_within_a_step_are_integrals_against_legendre_polynomials():
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    x = torch.stack([t.sin(), 3 * t**2 - t], dim=1)[None]
    series = read_series(x, times=t)
    grid = torch.tensor([0.0, 0.3, 0.7, 1.0], dtype=torch.float64)
    found = ControlChannels("natural", (), degree=3)(series, grid).unflatten(2, (2, 4))
    path = ControlPath(series.times, series.values, method="natural")
    for k in range(3):
        u = torch.linspace(-1, 1, 4001, dtype=torch.float64)
        at = grid[k] + (u + 1) / 2 * (grid[k + 1] - grid[k])
        values = path(at)[0]
        for j in range(4):
            basis = torch.from_numpy(np.polynomial.legendre.legval(u.numpy(), np.eye(4)[j])) * (2 * j + 1) ** 0.5 / 2
            expected = torch.trapezoid(values * basis[:, None], u, dim=0)
            assert torch.allclose(found[0, k, :, j], expected, atol=1e-5)
    # The last time begins no step: its moments are those of a constant.
    assert torch.allclose(found[0, 3, :, 0], x[0, -1])
    assert found[0, 3, :, 1:].abs().max() < 1e-12


def test_channels_say_how_often_and_how_long_ago():
    x = torch.tensor([[1.0, NAN, NAN, 2.0]])
    series = read_series(x, times=[0.0, 1.0, 2.0, 4.0])
    control = ControlChannels("linear", ("time", "intensity", "delta"), degree=None, count=2.0)
    found = control(series, torch.tensor([0.0, 0.5, 3.0, 4.0]))[0]
    assert found.tolist() == [[0.0, 0.5, 0.0, 1.0], [0.5, 0.5, 0.5, 1.125], [3.0, 0.5, 3.0, 1.75], [4.0, 1.0, 0.0, 2.0]]
    assert control.width(1) == 4


def test_a_series_that_was_never_observed_has_a_control():
    series = read_series(torch.full((2, 3, 2), NAN))
    found = ControlChannels(channels=("time", "intensity", "delta"))(series, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.isfinite(found).all()


def test_the_grid_holds_what_is_wanted():
    times = torch.tensor([[0.0, 0.2, 1.0], [0.5, 0.9, 0.9]], dtype=torch.float64)
    grid, places = step_times(times, torch.tensor([3, 2]), longest=0.3, wanted=torch.tensor([[0.5, 1.0], [0.5, 3.0]]))
    assert (grid.diff(dim=1) >= 0).all()
    assert torch.allclose(grid.gather(1, places), torch.tensor([[0.5, 1.0], [0.5, 3.0]], dtype=torch.float64))
    assert float(grid[0].diff().max()) <= 0.3
    with pytest.raises(ValueError, match=r"series 1 begins at 0.5; nothing can be said about the time 0.1"):
        step_times(times, torch.tensor([3, 2]), wanted=torch.tensor([0.1]))


@pytest.mark.parametrize(("n", "p"), [(30, 4), (20, 60)])
def test_left_out_predictions_are_those_of_fits_without_the_row(n, p):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, p, dtype=torch.float64, generator=generator)
    y = x[:, :2] + 0.3 * torch.randn(n, 2, dtype=torch.float64, generator=generator)
    w = torch.rand(n, dtype=torch.float64, generator=generator) + 0.5
    ridge, left_out = Ridge.fit(x, y, w)
    z, w = (x - ridge.shift) / ridge.scale, w / w.mean()

    def solve(rows, strength):
        root = w[rows].sqrt()[:, None]
        centre = [(v[rows] * w[rows, None]).sum(0) / w[rows].sum() for v in (z, y)]
        a, b = ((v[rows] - c) * root for v, c in zip((z, y), centre, strict=True))
        weight = torch.linalg.solve(a.T @ a + strength * torch.eye(p, dtype=a.dtype), a.T @ b)
        return weight, centre[1] - centre[0] @ weight

    everything = torch.ones(n, dtype=torch.bool)
    strengths = torch.logspace(-4, 5, 28, dtype=torch.float64).tolist()
    errors = [float((solve(everything, s)[0] - ridge.weight).abs().max()) for s in strengths]
    strength = strengths[int(np.argmin(errors))]
    assert min(errors) < 1e-8
    for i in (0, 7, n - 1):
        rows = everything.clone()
        rows[i] = False
        weight, bias = solve(rows, strength)
        assert torch.allclose(z[i] @ weight + bias, left_out[i], atol=1e-7)


def test_copies_are_left_out_together():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, dtype=torch.float64, generator=generator)
    x[20:] = x[:20] + 0.1 * x[20:]
    y = (x[:20] @ torch.randn(6, 2, dtype=torch.float64, generator=generator)).repeat(2, 1)
    y = y + torch.randn(20, 2, dtype=torch.float64, generator=generator).repeat(2, 1)
    w = (torch.rand(20, dtype=torch.float64, generator=generator) + 0.5).repeat(2)
    ridge, left_out = Ridge.fit(x, y, w, copies=2)
    z, w = (x - ridge.shift) / ridge.scale, w / w.mean()
    best = torch.inf
    for strength in torch.logspace(-4, 5, 28, dtype=torch.float64).tolist():
        found = torch.zeros_like(y)
        for i in range(20):
            rows = torch.arange(40) % 20 != i
            root = w[rows].sqrt()[:, None]
            a_mean, b_mean = ((v[rows] * w[rows, None]).sum(0) / w[rows].sum() for v in (z, y))
            a, b = (z[rows] - a_mean) * root, (y[rows] - b_mean) * root
            weight = torch.linalg.solve(a.T @ a + strength * torch.eye(6, dtype=a.dtype), a.T @ b)
            found[[i, i + 20]] = (z[[i, i + 20]] - a_mean) @ weight + b_mean
        error = float(((y - found).square() * w[:, None]).sum())
        if error < best:
            best, expected = error, found
    assert torch.allclose(left_out, expected, atol=1e-6)
