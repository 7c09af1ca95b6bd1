"""Bridges that may miss their populations: nearer to the truth than few cells are, and plain where that is dear."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.bridges import shared_support
from gendyn.evaluation import wasserstein_value

PROCESS = gd.systems.OrnsteinUhlenbeck(rate=0.5, mean=2.0, volatility=0.7)
TIMES = [0.25 * k for k in range(13)]
TRUTH = gd.systems.simulate_snapshots(PROCESS, TIMES, 2000, seed=99, dtype=torch.float64)


def few_cells(seed=0, n=10):
    return gd.systems.simulate_snapshots(PROCESS, TIMES, n, seed=seed, dtype=torch.float64)


def miss(model):
    """Mean W2 to many cells at the observed times between the first and the last."""
    found = [wasserstein_value(model.interpolate(t, 1000), TRUTH.population(t)) for t in TIMES[1:-1]]
    return sum(map(float, found)) / len(found)


def test_few_cells_are_met_less_than_the_populations_they_are_drawn_from():
    """Ten cells a time: what is between the neighbouring times tells more about a population than its own cells."""
    errors = {}
    for name, options in {
        "met": {},
        "soft": {"marginal_relaxation": 3.0},
        "shared": {"marginal_relaxation": 3.0, "support_width": 0.3},
    }.items():
        models = [gd.SchrodingerBridge(PROCESS, **options).fit(few_cells(k), progress=False) for k in range(3)]
        errors[name] = sum(map(miss, models)) / 3
    # Seen when this was written: 0.22, 0.18 and 0.14, over four seeds.
    assert errors["soft"] < 0.9 * errors["met"]
    assert errors["shared"] < 0.75 * errors["met"]


def test_the_law_is_one_chain_whose_marginals_are_missed_at_a_price():
    data = few_cells()
    model = gd.SchrodingerBridge(PROCESS, marginal_relaxation=3.0, tolerance=1e-9).fit(data, progress=False)
    chain = model.bridge_.chain
    for k, weights in enumerate(model.bridge_.weights):
        torch.testing.assert_close(chain.weights(k), weights, atol=1e-6, rtol=0)
    expected = [float((w * (10 * w).log()).sum()) for w in model.bridge_.weights]
    assert model.marginals_["divergence"].tolist() == pytest.approx(expected, abs=1e-12)
    assert model.marginals_["time"].tolist() == TIMES
    assert (model.marginals_["cells"] < 10).all()
    assert model.kl_ == pytest.approx(model.history_["loss"].sum(), rel=1e-9)
    assert len(model.cost_) == len(data)
    plain = gd.SchrodingerBridge(PROCESS, tolerance=1e-9).fit(data, progress=False)
    assert model.kl_ + 3.0 * sum(expected) < plain.kl_
    assert plain.marginals_.empty
    # The diffusion has the same marginals as the paths.
    x0 = data.samples[0][torch.multinomial(model.bridge_.weights[0], 4000, replacement=True, generator=seeded())]
    walked = gd.sample(model.process_, x0, [0.0, 0.25, 0.5], solver="euler_maruyama", seed=0).values[:, 2, 0]
    drawn = model.interpolate(0.5, 4000)[:, 0]
    assert float(walked.mean() - drawn.mean()) == pytest.approx(0.0, abs=4 * float(drawn.std()) * math.sqrt(2 / 4000))


def seeded():
    return torch.Generator().manual_seed(0)


def test_high_prices_are_the_plain_bridge_and_one_population_alone_may_be_soft():
    data = few_cells()
    plain = gd.SchrodingerBridge(PROCESS, tolerance=1e-9).fit(data, progress=False)
    dear = gd.SchrodingerBridge(PROCESS, marginal_relaxation=1e7, tolerance=1e-9).fit(data, progress=False)
    for one, two in zip(plain.bridge_.plans, dear.bridge_.plans, strict=True):
        torch.testing.assert_close(one.to_dense(), two.to_dense(), atol=1e-6, rtol=0)
    prices = [math.inf] * 13
    prices[6] = 1.0
    one = gd.SchrodingerBridge(PROCESS, marginal_relaxation=prices).fit(data, progress=False)
    missed = one.marginals_["divergence"]
    assert missed[6] > 0.01
    assert missed.drop(6).abs().max() < 1e-6


def test_files_bring_the_weights_back(tmp_path):
    model = gd.SchrodingerBridge(PROCESS, marginal_relaxation=3.0, support_width=0.3).fit(few_cells(), progress=False)
    model.save(tmp_path / "m.safetensors")
    again = gd.load(tmp_path / "m.safetensors")
    assert torch.equal(again.sample(n=30, times=[0.1, 0.5]).values, model.sample(n=30, times=[0.1, 0.5]).values)
    assert again.kl_ == model.kl_
    assert again.marginals_.equals(model.marginals_)


def test_shared_points_keep_the_mass_and_the_mean_near_its_cells():
    data = few_cells(n=40)
    shared = shared_support(data, 0.2)
    assert shared.sizes == (13 * 40,) * 13
    for k, t in enumerate(TIMES):
        weights = shared.weights[k]
        assert float(weights.sum()) == pytest.approx(1.0, abs=1e-9)
        mean = float(weights @ shared.samples[k][:, 0])
        assert mean == pytest.approx(float(data.population(t).mean()), abs=0.1)
    narrow = shared_support(data, 1e-6)
    own = narrow.weights[2].reshape(13, 40)
    torch.testing.assert_close(own[2], torch.full((40,), 1 / 40, dtype=torch.float64))
    assert float(own.sum()) == pytest.approx(1.0)


def test_errors():
    data = few_cells()
    for options, words in (
        ({"marginal_relaxation": -1.0}, "marginal_relaxation must be positive, or infinite"),
        ({"marginal_relaxation": [1.0, 2.0]}, "one for each of 13 populations; got 2"),
        ({"support_width": 0.0}, "width must be positive and finite, in units of the data; got 0.0"),
        ({"marginal_relaxation": 1.0, "relaxation": 2.0}, "marginal_relaxation is for cells that do not multiply"),
        ({"marginal_relaxation": 1.0, "rows_at_once": 3}, "10 and 10 .* rows are coupled in blocks; leave it out"),
    ):
        with pytest.raises(ValueError, match=words):
            gd.SchrodingerBridge(PROCESS, **options).fit(data, progress=False)
    with pytest.raises(ValueError, match="references without hidden coordinates"):
        gd.SchrodingerBridge(gd.references.Matern(1.0), marginal_relaxation=1.0).fit(data, progress=False)
