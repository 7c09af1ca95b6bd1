"""The noise head of trajectories against laws whose conditional standard deviation is known."""

from __future__ import annotations

import pytest
import torch

import gendyn
from gendyn.data import Paths
from gendyn.interpolants.observation_noise import NoiseObjective, ObservationNoise
from gendyn.training import fit

SMALL = {"hidden": (64, 64), "steps": 1500, "batch_size": 512, "clock": False}


def straying(n: int, length: int = 4, seed: int = 0, noise: float = 1.0) -> Paths:
    """Half-way to zero, with a standard deviation of 0.1 + 0.3 |x| in the first feature and 0.2 in the second."""
    generator = torch.Generator().manual_seed(seed)
    x = [2 * torch.rand(n, 2, generator=generator) - 1]
    for _ in range(length - 1):
        spread = torch.stack([0.1 + 0.3 * x[-1][:, 0].abs(), torch.full((n,), 0.2)], dim=1)
        x.append(0.5 * x[-1] + noise * spread * torch.randn(n, 2, generator=generator))
    return Paths(torch.arange(float(length)), torch.stack(x, dim=1))


@pytest.fixture(scope="module")
def model() -> gendyn.TrajectoryFlowMatching:
    return gendyn.TrajectoryFlowMatching(noise_head=True, **SMALL).fit(straying(4000), progress=False)


def test_standard_deviations_are_those_of_the_law(model) -> None:
    fresh = straying(2000, seed=1)
    found = model.predict_std(fresh)
    assert not found.mask[:, 0].any()
    assert found.mask[:, 1:].all()
    before = fresh.values[:, :-1, 0].abs()
    first, second = found.values[:, 1:].unbind(-1)
    inside = before < 0.9
    means = model.predict(fresh).values[:, 1:] - 0.5 * fresh.values[:, :-1]
    assert float(means.abs()[inside].mean()) < 0.02
    assert float((first - (0.1 + 0.3 * before))[inside].abs().mean()) < 0.02
    assert float((second - 0.2)[inside].abs().mean()) < 0.02


def test_samples_stray_as_the_law_does(model) -> None:
    start = torch.tensor([[0.8, 0.0]]).expand(4000, 2)
    ends = model.sample(start, [0.0, 1.0], seed=3).values[:, 1]
    torch.testing.assert_close(ends.mean(0), torch.tensor([0.4, 0.0]), atol=0.03, rtol=0)
    torch.testing.assert_close(ends.std(0), torch.tensor([0.34, 0.2]), atol=0.025, rtol=0)
    again = model.sample(start, [0.0, 1.0], seed=3).values[:, 1]
    assert torch.equal(ends, again)


def test_it_is_saved_with_the_model(model, tmp_path) -> None:
    model.save(tmp_path / "model.safetensors")
    loaded = gendyn.TrajectoryFlowMatching.load(tmp_path / "model.safetensors")
    fresh = straying(50, seed=2)
    assert torch.equal(loaded.predict_std(fresh).values, model.predict_std(fresh).values)
    start = fresh.values[:, 0]
    assert torch.equal(loaded.sample(start, [0.0, 1.0]).values, model.sample(start, [0.0, 1.0]).values)


def test_what_was_not_seen_is_not_learned() -> None:
    """A feature that is hidden at random, and nonsense where it is hidden, has the deviation of what was seen."""
    data = straying(4000, seed=5)
    hidden = torch.rand(data.values.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.3
    hidden[:, 0] = False
    values, mask = data.values.clone(), torch.ones_like(data.values, dtype=torch.bool)
    values[..., 1] = torch.where(hidden, 1e6, values[..., 1])
    mask[..., 1] = ~hidden
    model = gendyn.TrajectoryFlowMatching(noise_head=True, **SMALL)
    model.fit(Paths(data.times, values, mask), progress=False)
    found = model.predict_std(straying(500, length=2, seed=6)).values[:, 1, 1]
    assert float(found.mean()) == pytest.approx(0.2, abs=0.02)


def test_the_objective_is_least_at_the_standard_deviation() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(20_000, 1)
    residuals = 0.3 * torch.randn(20_000, 1, generator=generator)
    noise = ObservationNoise(1, (8,), "silu", context_dim=1)
    objective = NoiseObjective(noise, x, x, residuals, torch.ones_like(x, dtype=torch.bool), batch_size=2000)
    fit(objective, steps=400, lr=1e-2, progress=False)
    assert noise(x[:1], x[:1])[1].item() == pytest.approx(float(residuals.square().mean().sqrt()), rel=0.02)


def test_noise_on_the_way_and_at_the_end_are_refused_together() -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        gendyn.TrajectoryFlowMatching(0.1, noise_head=True).fit(straying(10), progress=False)
    plain = gendyn.TrajectoryFlowMatching(steps=2, hidden=(4,)).fit(straying(10), progress=False)
    with pytest.raises(ValueError, match="noise_head=True"):
        plain.predict_std(straying(10))
    with pytest.raises(Exception, match="fit"):
        gendyn.TrajectoryFlowMatching().predict_std(straying(10))
