"""Populations that are one system: what each feels, what is conserved, and how spreads shrink."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gendyn.sampling import sample
from gendyn.systems import FitzHughNagumo, MeanFieldFitzHughNagumo, OpinionDynamics, simulate_paths

ZERO = torch.zeros((), dtype=torch.float64)


def test_each_opinion_feels_the_mean_pull():
    system = OpinionDynamics()
    x = system.initial(7, 0, dtype=torch.float64)[:, 0].numpy()

    def influence(r):
        return 6 * math.exp(-0.01 / (1 - (r - 0.2) ** 2)) if r < 1.2 else 0.0

    expected = [-sum(influence(abs(a - b)) * (a - b) for b in x) / 7 for a in x]
    np.testing.assert_allclose(system.pull(torch.from_numpy(x)[None])[0], expected, rtol=1e-12)


def test_pulls_cancel_in_any_split_of_the_pairs(monkeypatch):
    system = OpinionDynamics()
    x = system.initial(400, 0, dtype=torch.float64).T
    whole = system.pull(x)
    assert abs(whole.sum().item()) < 1e-10
    monkeypatch.setattr("gendyn.systems.opinion_dynamics._PAIRS", 1000)
    torch.testing.assert_close(system.pull(x), whole)


def test_opinions_close_in_as_published():
    # Standard deviations of the published particles (8192 of them); an even start is nearest to so many.
    system, n = OpinionDynamics(), 400
    x0 = (-2 + 4 * (torch.arange(n, dtype=torch.float64) + 0.5) / n)[None]
    x = sample(system.population(n), x0, [0.0, 0.25, 0.5, 0.75, 1.0], seed=0).values[0]
    np.testing.assert_allclose(x.std(1), [1.15, 1.00, 0.83, 0.58, 0.17], atol=0.02)
    # The mean only diffuses, with the noise of one opinion over the number of them.
    assert abs((x[-1] - x[0]).mean().item()) < 4.5 * 0.1 / math.sqrt(n)


def test_a_population_does_not_fall_apart_into_rows():
    # All particles are one state, so chunks of paths cannot cut the population.
    system = OpinionDynamics(volatility=0.0)
    x0 = system.initial(300, 0).reshape(1, -1)
    whole = sample(system.population(300), x0, [0.0, 0.2], step=0.01).values
    assert torch.equal(whole, sample(system.population(300), x0, [0.0, 0.2], step=0.01, chunk=1).values)
    assert not torch.allclose(
        whole[:, :, :100], sample(system.population(100), x0[:, :100], [0, 0.2], step=0.01).values
    )


def test_the_noise_of_a_particle_is_its_own():
    system = OpinionDynamics(strength=1e-9)
    x0 = [system.initial(n, 0) for n in (300, 1000)]
    assert torch.equal(x0[0], x0[1][:300])
    few, many = (simulate_paths(system, [0.0, 1.0], n=n, seed=3).values for n in (300, 1000))
    torch.testing.assert_close((few[:, 1] - few[:, 0]), (many[:, 1] - many[:, 0])[:300], atol=1e-6, rtol=0)
    moved = (many[:, 1] - many[:, 0]).std().item()
    assert moved == pytest.approx(0.1, rel=0.08)


def test_cells_on_their_own_are_single_cells():
    system = MeanFieldFitzHughNagumo(coupling=0.0, coupling_volatility=0.0)
    single = FitzHughNagumo(volatility=0.5)
    x = system.initial(6, 0, dtype=torch.float64)
    drift, diffusion = system.motion(x[None])
    torch.testing.assert_close(drift[0, :, :2], single.drift(ZERO, x[:, :2]))
    torch.testing.assert_close(diffusion[0, :, 0], torch.full((6,), 0.5).double())
    assert not diffusion[0, :, 1].any()


def test_coupled_cells_feel_the_mean_of_the_channels():
    system = MeanFieldFitzHughNagumo()
    x = system.initial(5, 0, dtype=torch.float64)
    x[0, 2] = -0.1  # the start law reaches below zero
    process = system.population(5)
    drift = process.drift(ZERO, x.reshape(1, -1)).reshape(5, 3).numpy()
    diffusion = process.diffusion(ZERO, x.reshape(1, -1)).reshape(5, 3).numpy()
    mean = x[:, 2].mean().item()
    for i, (v, w, y) in enumerate(x.tolist()):
        opening = 1 / (1 + math.exp(-0.2 * (v - 2)))
        window = 0.1 * math.exp(-0.5 / (1 - (2 * y - 1) ** 2)) if 0 < y < 1 else 0.0
        pull = mean * (v - 1)
        expected = [v - v**3 / 3 - w + 0.5 - pull, 0.08 * (v + 0.7 - 0.8 * w), opening * (1 - y) - y]
        noise = [math.hypot(0.5, 0.2 * pull), 0.0, math.sqrt(max(0.0, opening * (1 - y) + y)) * window]
        np.testing.assert_allclose(drift[i], expected, rtol=1e-12)
        np.testing.assert_allclose(diffusion[i], noise, rtol=1e-12)


def test_the_coupling_draws_cells_together():
    def spread(coupling):
        system = MeanFieldFitzHughNagumo(coupling=coupling, coupling_volatility=0.0, volatility=0.1)
        return simulate_paths(system, [0.0, 1.0], n=400, seed=0, dtype=torch.float64).values[:, -1, 0].std().item()

    assert spread(3.0) < 0.7 * spread(0.0)


def test_start_law_of_the_cells():
    x = MeanFieldFitzHughNagumo().initial(40_000, 0, dtype=torch.float64)
    torch.testing.assert_close(x.mean(0), torch.tensor([0.0, 0.5, 0.3]).double(), atol=0.015, rtol=0)
    torch.testing.assert_close(x.var(0), torch.tensor([0.4, 0.4, 0.05]).double(), rtol=0.04, atol=0)
