"""Bridges distilled into networks, against the drift of bridges between normal laws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import gendyn as gd
from gendyn.bridges import DistilledBridge
from gendyn.evaluation import wasserstein_value
from gendyn.sampling import SDE
from gendyn.training import NotFittedError

DOUBLE = torch.float64


def quantiles(mean, variance, n=400):
    levels = (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    return (mean + math.sqrt(2 * variance) * torch.erfinv(2 * levels - 1))[:, None]


def brownian_drift(u, x, start, end, spread):
    """Return the drift of a Brownian bridge between normals at part ``u``, times the length, and points to look at."""
    (m0, a), (m1, b) = start, end
    cross = math.sqrt(a * b + spread**2 / 4) - spread / 2
    variance = (1 - u) ** 2 * a + u**2 * b + 2 * u * (1 - u) * cross + spread * u * (1 - u)
    slope = (-(1 - u) * a + u * b + (1 - 2 * u) * cross - spread * u) / variance
    mean = (1 - u) * m0 + u * m1
    return m1 - m0 + slope * (x - mean), mean + math.sqrt(variance) * torch.linspace(-2, 2, 21, dtype=DOUBLE)[:, None]


def test_the_closed_form_used_here_has_the_slopes_of_the_literature():
    for u, expected in ((0.0, 0.0811388), (0.5, 0.0779754), (0.75, 0.0764845)):
        at = torch.tensor([[0.0], [1.0]], dtype=DOUBLE)
        drift, _ = brownian_drift(u, at, (0.0, 1.0), (3.0, 2.25), 1.0)
        assert float(drift.diff(dim=0)) == pytest.approx(expected, abs=1e-6)


def test_drift_through_three_normals():
    laws, times = [(0.0, 1.0), (3.0, 2.25), (1.0, 0.5)], [0.0, 1.0, 2.5]
    data = gd.Snapshots(times, [quantiles(*law) for law in laws])
    model = gd.SchrodingerBridge(sigma=1.0).fit(data, progress=False)
    process = model.distill(steps=1500, hidden=(64, 64), seed=1, progress=False)
    for k in (0, 1):
        length = times[k + 1] - times[k]
        for u in (0.0, 0.25, 0.5, 0.75):
            nothing = torch.zeros(1, 1, dtype=DOUBLE)
            x = brownian_drift(u, nothing, laws[k], laws[k + 1], length)[1]
            expected = brownian_drift(u, x, laws[k], laws[k + 1], length)[0] / length
            found = process.drift(torch.tensor(times[k] + u * length, dtype=DOUBLE), x)
            # The drift jumps from 3 to -1.3 at time 1; the mean over two standard deviations is off by less than this.
            assert float((found - expected).square().mean().sqrt()) < 0.1
    history = process.history
    assert history["loss"].iloc[-1] < 0.1 * history["loss"].iloc[0]


@pytest.mark.parametrize("exact", [True, False], ids=["linear", "linear-noise"])
def test_drift_of_a_returning_reference(exact):
    """Means and variances of a Gaussian bridge determine its drift; those of the Ornstein-Uhlenbeck one are known."""
    reference = gd.systems.OrnsteinUhlenbeck(rate=1.0, volatility=math.sqrt(2.0))
    if not exact:
        reference = SDE(reference.drift, lambda t, x: torch.full_like(x, math.sqrt(2.0)), 1)
    data = gd.Snapshots([0.0, 1.0], [quantiles(2.0, 0.5), quantiles(-1.0, 0.8)])
    model = gd.SchrodingerBridge(reference).fit(data, progress=False)
    process = model.distill(steps=1500, hidden=(64, 64), progress=False)

    def moments(t):
        """Condition the stationary process, of covariance exp(-|s - t|), on its normal ends."""
        f, cross = math.exp(-1.0), 0.15937658
        ends = torch.tensor([[1.0, f], [f, 1.0]], dtype=DOUBLE)
        gain = torch.linalg.solve(ends, torch.tensor([math.exp(-t), math.exp(t - 1.0)], dtype=DOUBLE))
        joint = torch.tensor([[0.5, cross], [cross, 0.8]], dtype=DOUBLE)
        mean = gain @ torch.tensor([2.0, -1.0], dtype=DOUBLE)
        return float(mean), float(1.0 - gain @ ends @ gain + gain @ joint @ gain)

    assert moments(0.5) == pytest.approx((0.44340944, 0.78038335), abs=1e-6)
    for t in (0.1, 0.5, 0.8):
        (mean, variance), h = moments(t), 1e-4
        (after, wider), (before, narrower) = moments(t + h), moments(t - h)
        slope = ((wider - narrower) / (2 * h) - 2.0) / (2 * variance)
        x = mean + math.sqrt(variance) * torch.linspace(-2, 2, 21, dtype=DOUBLE)[:, None]
        expected = (after - before) / (2 * h) + slope * (x - mean)
        found = process.drift(torch.tensor(t, dtype=DOUBLE), x)
        assert float((found - expected).square().mean().sqrt()) < 0.15


def test_simulated_populations_are_as_near_to_the_truth_as_draws_of_it():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        noise = [torch.randn(300, 2, generator=generator, dtype=DOUBLE) for _ in range(3)]
        ring = noise[1] / noise[1].norm(dim=1, keepdim=True)
        return gd.Snapshots([0.0, 1.0, 2.0], [0.3 * noise[0], 2.0 * ring + 0.2 * noise[0], 0.5 * noise[2] + 3.0])

    model = gd.SchrodingerBridge(sigma=0.7).fit(draw(0), progress=False)
    process = model.distill(progress=False)
    start = draw(1).population(0.0)
    walked = gd.sample(process, start, [0.0, 1.0, 2.0], seed=2).values
    floors = [
        [wasserstein_value(draw(3 + i).population(t), draw(13 + i).population(t)) for i in range(4)] for t in (1.0, 2.0)
    ]
    for k, floor in enumerate(floors, start=1):
        found = wasserstein_value(walked[:, k], draw(30).population(float(k)))
        assert float(found) < 1.15 * float(torch.tensor(floor).mean())


def test_after_the_last_population_it_is_the_reference():
    system = gd.systems.LotkaVolterra()
    data = gd.systems.simulate_snapshots(system, [0.0, 1.0, 2.0], 30, step=0.02)
    process = (
        gd.SchrodingerBridge(system)
        .fit(data, progress=False)
        .distill(steps=5, paths=20, times=4, hidden=(8,), progress=False)
    )
    x = data.population(2.0)
    late = torch.tensor(2.5)
    assert torch.equal(process.drift(late, x), system.drift(late.double(), x.double()).float())
    assert torch.equal(process.diffusion(late, x), system.diffusion(late, x))
    # Each row its own time, and the same as one time for all.
    times = torch.tensor([0.0, 0.5, 1.0, 2.5])
    rows = process.drift(times[:, None], x[:4])
    for i, t in enumerate(times):
        torch.testing.assert_close(rows[i], process.drift(t, x[:4])[i])
    with pytest.raises(ValueError, match="before the first population, at 0"):
        process.drift(torch.tensor(-1.0), x)


def test_networks_of_ones_own_hidden_coordinates_seeds_and_bad_numbers(tmp_path):
    x = torch.randn(40, 1, generator=torch.Generator().manual_seed(0))
    data = gd.Snapshots([0.0, 1.0], [x, x + 2.0])
    model = gd.SchrodingerBridge(sigma=0.5).fit(data, progress=False)
    quick = {"steps": 20, "paths": 30, "times": 5, "progress": False}
    own = nn.Linear(3, 1)
    assert model.distill(own, **quick).network is own
    assert not any("reference" in name for name in model.distill(nn.Linear(3, 1), **quick).state_dict())
    at = (torch.tensor(0.5), x)
    first, again = (model.distill(hidden=(8,), **quick).drift(*at) for _ in range(2))
    other = model.distill(hidden=(8,), **quick, seed=1).drift(*at)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    kept = model.distill(hidden=(8,), **quick, checkpoint=tmp_path / "state").drift(*at)
    assert torch.equal(first, kept)
    assert torch.equal(model.distill(hidden=(8,), **quick, checkpoint=tmp_path / "state").drift(*at), kept)
    smooth = gd.SchrodingerBridge(gd.references.Matern(length=3.0, smoothness=1.5)).fit(data, progress=False)
    whole = smooth.distill(hidden=(8,), **quick)
    assert isinstance(whole, DistilledBridge)
    assert whole.dim == 2
    assert gd.sample(whole, torch.zeros(4, 2), [0.0, 1.0]).values.shape == (4, 2, 2)
    for name in ("paths", "times", "batch_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            model.distill(**quick | {name: 0})
    with pytest.raises(NotFittedError):
        gd.SchrodingerBridge().distill()
