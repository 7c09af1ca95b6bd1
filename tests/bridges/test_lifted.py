"""Bridges of references with hidden coordinates, against Gaussian processes, the Markov engine and individuals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve
from scipy.special import ndtri

import gendyn as gd
from gendyn.bridges import LiftedBridge, MultiMarginalBridge
from gendyn.bridges.interval_laws import interval_log_densities
from gendyn.bridges.lifted import lifted_log_densities
from gendyn.bridges.references import Matern, PartlyObserved
from gendyn.data import Snapshots
from gendyn.sampling import LinearProcess


def quantiles(mean, variance, n=200):
    z = torch.from_numpy(ndtri((np.arange(n) + 0.5) / n))
    return mean + math.sqrt(variance) * (z / z.std(correction=0))[:, None]


def crossing(n=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    v = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    return Snapshots([0.0, 0.4, 0.9, 1.5], [x + t * v for t in (0.0, 0.4, 0.9, 1.5)])


@pytest.mark.parametrize(
    ("smoothness", "covariance"),
    [
        (0.5, lambda r: math.exp(-r)),
        (1.5, lambda r: (1 + r) * math.exp(-r)),
        (2.5, lambda r: (1 + r + r * r / 3) * math.exp(-r)),
        (3.5, lambda r: (1 + r + 0.4 * r * r + r**3 / 15) * math.exp(-r)),
    ],
)
def test_matern_covariance(smoothness, covariance):
    lifted = Matern(length=1.7, scale=1.3, smoothness=smoothness).lift(crossing())
    mean, stationary = lifted.process.stationary()
    assert float(mean[0]) == pytest.approx(float(torch.cat(crossing().samples).mean()), abs=1e-9)
    for h in (0.0, 0.3, 2.0):
        across = lifted.process.transition(h).matrix @ stationary
        expected = 1.69 * covariance(math.sqrt(2 * smoothness) * h / 1.7)
        assert float(across[0, 0]) == pytest.approx(expected, rel=1e-9)
    # The start is the stationary law, given the features.
    hidden, seen = lifted.hidden, lifted.observed
    gain = stationary[hidden][:, seen] / stationary[0, 0]
    assert torch.allclose(lifted.gain, gain, atol=1e-9)
    assert torch.allclose(
        lifted.covariance, stationary[hidden][:, hidden] - gain @ stationary[seen][:, hidden], atol=1e-9
    )


def test_sweeps_converge_to_the_gaussian_solution():
    times, means, variances = [0.0, 1.0, 2.5], np.array([0.0, 1.0, 0.5]), np.array([1.0, 1.5, 0.6])
    data = Snapshots(times, [quantiles(m, v) for m, v in zip(means, variances, strict=True)])
    lift = Matern(length=2.0, scale=1.3).lift(data)

    def kernel(t):
        r = math.sqrt(3) * abs(t) / 2.0
        return 1.69 * (1 + r) * math.exp(-r)

    prior = np.array([[kernel(s - t) for s in times] for t in times])

    def posterior(tilts):
        return np.linalg.inv(np.linalg.inv(prior) + np.diag(tilts))

    exact = posterior(fsolve(lambda tilts: np.diag(posterior(tilts)) - variances, np.zeros(3), xtol=1e-12))
    errors = []
    for sweeps in (0, 1, 3):
        bridge, _ = LiftedBridge.solve(lift, data, backward_sweeps=sweeps, tolerance=1e-9)
        across = [
            float((x - m).T @ bridge.plan(k).to_dense() @ (y - n))
            for k, (x, y, m, n) in enumerate(zip(data.samples, data.samples[1:], means, means[1:], strict=False))
        ]
        errors.append(max(abs(across[0] / exact[0, 1] - 1), abs(across[1] / exact[1, 2] - 1)))
    assert errors[2] < 1e-3
    assert errors[2] < errors[1] < 0.02 < errors[0]


def test_hidden_coordinates_without_influence_do_nothing():
    data = crossing()
    rate = torch.tensor([[-0.4, 0.0], [0.7, -1.0]])
    both = LinearProcess(rate, torch.tensor([0.2, 0.0]), torch.diag(torch.tensor([0.8, 0.5])))
    alone = LinearProcess(rate[:1, :1], torch.tensor([0.2]), torch.tensor([[0.8]]))
    markov, _ = MultiMarginalBridge.solve(alone, data, tolerance=1e-9)
    lifted, _ = LiftedBridge.solve(PartlyObserved(both).lift(data), data, tolerance=1e-9)
    for k in range(3):
        assert torch.allclose(lifted.plan(k).to_dense(), markov.chain.plans[k].to_dense(), atol=1e-8)
    assert torch.allclose(lifted.kl, markov.kl, atol=1e-7)
    x = data.samples[1]
    states = lifted.complete(x, 0.4)
    t = torch.tensor(0.4)
    assert torch.allclose(lifted.process.drift(t, states)[:, 0], markov.process.drift(t, x)[:, 0], atol=1e-6)
    likelihoods = zip(
        lifted_log_densities(lifted.reference, lifted.samples, lifted.times, lifted.weights),
        interval_log_densities(alone, lifted.samples, lifted.times),
        strict=True,
    )
    assert all(torch.allclose(one, other, atol=1e-9) for one, other in likelihoods)


def test_nothing_hidden_is_the_markov_engine():
    data = crossing()
    lift = Matern(length=2.0, scale=1.0, smoothness=0.5).lift(data)
    lifted, _ = LiftedBridge.solve(lift, data, tolerance=1e-9)
    markov, _ = MultiMarginalBridge.solve(lift.process, data, tolerance=1e-9)
    assert torch.allclose(lifted.plan(1).to_dense(), markov.chain.plans[1].to_dense(), atol=1e-9)


def test_smooth_paths_tell_individuals_apart():
    # Ten straight ways in space that meet in its middle.
    generator = torch.Generator().manual_seed(1)
    speed = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    start = -speed + 0.1 * torch.randn(10, 3, generator=generator, dtype=torch.float64)
    times = [0.25 * k for k in range(9)]
    data = Snapshots(times, [start + t * speed for t in times])
    model = gd.SchrodingerBridge(Matern(length=10.0, scale=10.0, smoothness=2.5)).fit(data, progress=False)
    matched = [float(model.bridge_.plan(k).to_dense().diagonal().sum()) for k in range(8)]
    brownian = gd.SchrodingerBridge().fit(data, progress=False)
    rivals = [float(plan.to_dense().diagonal().sum()) for plan in brownian.bridge_.chain.plans]
    assert min(matched) > 0.99
    assert min(rivals) < 0.5


def test_model_draws_scores_and_keeps(tmp_path):
    data = crossing()
    model = gd.SchrodingerBridge(Matern(length=3.0)).fit(data, progress=False)
    paths = model.sample(n=30, times=[0.0, 0.2, 0.4], hidden=True)
    assert paths.values.shape == (30, 3, 2)
    rows = model.sample(n=40, times=[0.4]).values[:, 0]
    assert torch.cdist(rows, data.samples[1]).amin(1).max() < 1e-12
    assert model.interpolate(0.65, 50).shape == (50, 1)
    assert model.forecast([2.0], 20).values.shape == (20, 1, 1)
    assert model.velocity(data)[1].shape == (40, 1)
    assert -0.5 < model.score(data) < 0
    walked = model.sample(n=200, times=[0.0, 0.9], solver="euler_maruyama", step=0.01).values[:, -1]
    assert float(walked.mean()) == pytest.approx(float(data.samples[2].mean()), abs=0.2)
    model.save(tmp_path / "model.gendyn")
    again = gd.load(tmp_path / "model.gendyn")
    assert torch.equal(again.sample(n=20, seed=3).values, model.sample(n=20, seed=3).values)
    assert again.kl_ == model.kl_


def test_proteins_follow_from_messengers(tmp_path):
    ring = gd.systems.ProteinRepressilator()
    whole = gd.sample(ring, ring.initial(100, seed=1), [0.0, 1.0, 2.0, 3.0], seed=1)
    data = Snapshots([0.0, 2.0, 3.0], [whole.values[:, k, :3] for k in (0, 2, 3)])
    reference = PartlyObserved(ring, hidden_mean=0.05, hidden_scale=0.03)
    model = gd.SchrodingerBridge(reference).fit(data, progress=False)
    states = model.sample(n=100, times=[1.0], hidden=True).values[:, 0]
    truth = whole.values[:, 1]
    assert torch.allclose(states.mean(0), truth.mean(0).to(states), rtol=0.03)
    model.save(tmp_path / "model.gendyn")
    assert torch.equal(gd.load(tmp_path / "model.gendyn").interpolate(1.0, 10), model.interpolate(1.0, 10))


def test_errors_say_what_to_do():
    data = crossing()
    with pytest.raises(ValueError, match="smoothness must be 0.5, 1.5, 2.5 or 3.5; got 2"):
        Matern(1.0, smoothness=2.0)
    with pytest.raises(ValueError, match="length of a Matern reference must be positive"):
        Matern(0.0)
    with pytest.raises(ValueError, match="PartlyObserved"):
        gd.SchrodingerBridge(gd.systems.LotkaVolterra()).fit(data, progress=False)
    with pytest.raises(ValueError, match="observed must name 1 of the 2 coordinates"):
        PartlyObserved(gd.systems.LotkaVolterra(), observed=[0, 1]).lift(data)
    with pytest.raises(ValueError, match="hidden_scale must be finite and not negative"):
        PartlyObserved(gd.systems.LotkaVolterra(), hidden_scale=-1.0)
    with pytest.raises(ValueError, match="backward_sweeps must not be negative"):
        gd.SchrodingerBridge(Matern(1.0), backward_sweeps=-1).fit(data, progress=False)
