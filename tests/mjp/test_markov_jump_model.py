"""The model of jump processes: what it finds, its intervals, its doors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import gendyn
from gendyn.data import Paths
from gendyn.mjp import MarkovJumpModel, TransitionSummary, coarse_grain
from gendyn.mjp.network_training import train_rate_network
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.prior import draw_rate_matrices, draw_tasks
from gendyn.mjp.rate_network import rate_features
from gendyn.mjp.shipped_network import shipped_network

RATCHET = gendyn.systems.FlashingRatchet()
OFF = ~torch.eye(6, dtype=torch.bool)


def ratchet_paths(n: int, seed: int = 0, noise: float = 0.0) -> Paths:
    paths = gendyn.sample(RATCHET, RATCHET.initial(n, seed=seed), RATCHET.times, seed=seed)
    rng = np.random.default_rng(seed)
    labels = paths.values[..., 0]
    wrong = torch.from_numpy(rng.random(labels.shape) < noise)
    other = torch.from_numpy(rng.integers(1, 6, labels.shape))
    return Paths(paths.times, torch.where(wrong, (labels + other) % 6, labels))


def error(model: MarkovJumpModel) -> float:
    return float((model.rate_matrix_ - RATCHET.matrix())[OFF].square().mean().sqrt())


@pytest.mark.parametrize(("n", "least"), [(30, 0.276), (300, 0.0874), (3000, 0.0277)])
@pytest.mark.parametrize("shared_rates", ["average", False])
def test_rates_of_the_ratchet(n, least, shared_rates):
    """Against the least error of complete paths; one draw of few rare jumps is up to 1.6 times that."""
    covered = []
    # Bounds of links that share a rate hold or miss together, so that one draw says little of them.
    for seed in range(1 if shared_rates is False else 4):
        model = MarkovJumpModel(shared_rates=shared_rates).fit(ratchet_paths(n, seed=seed), progress=False)
        assert error(model) < 2 * least
        low, high = model.interval(0.9)
        covered.append(float(((RATCHET.matrix() >= low) & (RATCHET.matrix() <= high))[OFF].double().mean()))
        assert bool((low[OFF] >= 0).all())
    assert np.mean(covered) > 0.7


def test_wrong_labels_are_seen_through():
    model = MarkovJumpModel().fit(ratchet_paths(300, noise=0.1), progress=False)
    assert model.noise_ == pytest.approx(0.1, abs=0.01)
    assert error(model) < 0.2
    naive = MarkovJumpModel("em", noise=0).fit(ratchet_paths(300, noise=0.1), progress=False)
    assert error(naive) > 5 * error(model)


@pytest.mark.parametrize("method", ["zero-shot", "em", "auto"])
def test_relabelling_and_the_unit_of_time_carry_over(method):
    paths = ratchet_paths(100)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    one = MarkovJumpModel(method).fit(paths, progress=False).rate_matrix_
    moved = MarkovJumpModel(method).fit(Paths(paths.times, order[paths.values[..., 0]]), progress=False).rate_matrix_
    slow = MarkovJumpModel(method).fit(Paths(paths.times * 1e9, paths.values), progress=False).rate_matrix_
    tight = 1e-5 if method == "zero-shot" else 1e-3
    scale = float(one.abs().max())
    assert (moved[order][:, order] - one).abs().max() < tight * scale
    assert (slow * 1e9 - one).abs().max() < tight * scale


def test_features_know_neither_order_of_paths_nor_unit():
    paths = ratchet_paths(50)
    whole = rate_features(TransitionSummary.of(StateObservations.of(paths)))
    shuffled = paths.select(torch.randperm(50, generator=torch.Generator().manual_seed(0)))
    again = rate_features(TransitionSummary.of(StateObservations.of(shuffled)))
    assert torch.equal(whole.pair, again.pair)


def test_summaries_count_pairs_returns_and_detours():
    found = TransitionSummary.of(StateObservations.of(Paths(torch.arange(6.0), torch.tensor([[0, 1, 0, 2, 2, 1]]))))
    assert found.counts[0, 0].tolist() == [[0, 1, 1], [1, 0, 0], [0, 1, 1]]
    assert found.counts[0, 1].tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert found.returns[0].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert found.detours[0].tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert found.dwell[0].tolist() == [1.5, 1.5, 2.0]
    assert found.unit.item() == 5.0 / 5.0


def test_all_numbers_of_states_are_served():
    rng = np.random.default_rng(0)
    for size in (2, 3, 8, 12):
        truth = gendyn.sampling.jumps.RateMatrix(draw_rate_matrices(1, size, rng)[0])
        paths = gendyn.sample(truth, torch.zeros(50, 1, dtype=torch.int64), np.linspace(0, 3, 30), seed=size)
        model = MarkovJumpModel(n_states=size)
        if size > 10:
            with pytest.warns(UserWarning, match="trained on 2 to 10 states"):
                model.fit(paths, progress=False)
        else:
            model.fit(paths, progress=False)
        assert model.rate_matrix_.shape == (size, size)
        assert torch.isfinite(model.rate_matrix_).all()


def test_a_path_without_a_jump_has_slow_rates_and_wide_intervals():
    model = MarkovJumpModel(n_states=3).fit(Paths(torch.arange(10.0), torch.zeros(1, 10, dtype=torch.int64)))
    low, high = model.interval()
    off = ~torch.eye(3, dtype=torch.bool)
    assert bool((model.rate_matrix_[off] > 0).all())
    assert bool((high[off] > 2 * model.rate_matrix_[off]).all())
    assert bool((low[off] < model.rate_matrix_[off]).all())
    assert not bool(model.identifiable_[1:].any())
    assert "cannot be told" in model.report()


def test_levels_of_a_measurement():
    truth = gendyn.sampling.jumps.RateMatrix([[-1.0, 1.0], [2.0, -2.0]])
    states = gendyn.sample(truth, torch.zeros(60, 1, dtype=torch.int64), np.linspace(0, 20, 200), seed=0).values
    noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    paths = Paths(np.linspace(0, 20, 200), 3.0 * states + 0.8 * noise)
    model = MarkovJumpModel("em", emission="gaussian", n_states=2).fit(paths, progress=False)
    assert model.emission_[:, 0].tolist() == pytest.approx([0.0, 3.0], abs=0.05)
    assert model.emission_[:, 1].exp().tolist() == pytest.approx([0.8, 0.8], abs=0.05)
    assert model.rate_matrix_[0, 1].item() == pytest.approx(1.0, abs=0.15)
    assert model.rate_matrix_[1, 0].item() == pytest.approx(2.0, abs=0.3)
    assert np.isfinite(model.score(paths))
    assert coarse_grain(paths, 2).values.eq(states).double().mean() > 0.95


def test_forms_of_data_agree():
    paths = ratchet_paths(20)
    times = paths.times.tolist()
    rows = [(k, t, s) for k, path in enumerate(paths.values[..., 0].tolist()) for t, s in zip(times, path, strict=True)]
    table = pd.DataFrame(rows, columns=["id", "time", "state"])
    pairs = [(times, path) for path in paths.values[..., 0].tolist()]
    whole = MarkovJumpModel(n_states=6).fit(paths, progress=False).rate_matrix_
    for data in (table, pairs):
        assert torch.allclose(MarkovJumpModel(n_states=6).fit(data, progress=False).rate_matrix_, whole, rtol=1e-6)
    with pytest.warns(UserWarning, match="1 looks repeat"):
        MarkovJumpModel(n_states=6).fit(pd.concat([table, table[:1]]), progress=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: Paths([0.0, 1.0], torch.tensor([[0, -1]])), "whole numbers from 0 on; got -1 at time 1 of path 0"),
        (lambda: Paths([0.0, 1.0], torch.tensor([[0.0, 0.5]])), "whole numbers"),
        (lambda: Paths([0.0, 1.0], torch.tensor([[0, 7]])), "got 7 at time 1 of path 0"),
        (lambda: Paths([0.0], torch.tensor([[0], [1]])), "no path has two looks"),
        (lambda: Paths([0.0, 1.0], torch.zeros(1, 2, 2, dtype=torch.int64)), "one state at a time; got 2 features"),
        (lambda: Paths([1.0, 0.0], torch.tensor([[0, 1]])), "times fall"),
        (lambda: [([0.0, 1.0, 0.5], [0, 1, 0])], "must not fall along a path; got 0.5 after 1 at position 2"),
        (lambda: [([0.0, 1.0, 1.0], [0, 1, 0])], "two states at time 1"),
        (lambda: [([0.0, 1.0], [0, 1, 0])], "2 times and 3 states"),
        (lambda: pd.DataFrame({"id": [0], "time": [0.0]}), "state is missing"),
    ],
)
def test_bad_looks_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        MarkovJumpModel(n_states=6).fit(data(), progress=False)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"noise": 1.5}, "noise must be a probability"),
        ({"noise": "some"}, "noise must be"),
        ({"emission": "gaussian"}, "need n_states"),
        ({"allowed": [[1]]}, r"allowed must have shape \(6, 6\)"),
        ({"initial": [0.5, 0.6]}, "initial must be 6 probabilities"),
        ({"confused": [[1]]}, "give noise='confusion'"),
        ({"entry": (9,)}, "entry names states 0 to 5; got 9"),
        ({"entry": ("death",)}, "no state 'death'"),
        ({"censored": {9: ()}}, "stands for some of the states"),
        ({"censored": {1: (0, 2)}}, "is a state and cannot stand for others"),
        ({"n_states": 1}, "two states or more"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        MarkovJumpModel(**{"n_states": 6, **parameters} if "emission" not in parameters else parameters).fit(
            ratchet_paths(20), progress=False
        )


def test_looks_too_far_apart_are_warned_of():
    truth = gendyn.sampling.jumps.RateMatrix([[-1.0, 1.0], [1.0, -1.0]])
    paths = gendyn.sample(truth, torch.zeros(200, 1, dtype=torch.int64), np.linspace(0, 300, 11), seed=0)
    with pytest.warns(UserWarning, match="further apart than the process remembers"):
        MarkovJumpModel("em", noise=0).fit(paths, progress=False)


def test_priors_are_rate_matrices_and_tasks_repeat():
    one, two = (draw_tasks(8, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one.summary.counts, two.summary.counts)
    assert one.rates.sum(2).abs().max() < 1e-12 * one.rates.abs().max() * 10
    assert bool((one.rates - torch.diag_embed(one.rates.diagonal(dim1=1, dim2=2)) >= 0).all())


def test_a_small_network_trained_for_a_minute_beats_its_anchor():
    state = torch.random.get_rng_state()
    network = train_rate_network(200, width=24, layers=2, batch_size=16, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    rng = np.random.default_rng(11)
    gains = []
    for _ in range(12):
        tasks = draw_tasks(16, rng, size=4)
        features = rate_features(tasks.summary)
        with torch.no_grad():
            found = network(features)
        target = (tasks.rates * tasks.summary.unit[:, None, None]).float()
        off = ~torch.eye(4, dtype=torch.bool)
        guess = found.estimate()
        ours = (guess - target)[:, off].square().mean(1).sqrt()
        gains.append(float((ours / (features.anchor - target)[:, off].square().mean(1).sqrt()).median()))
    assert np.median(gains) < 0.95


def test_the_shipped_network_is_small_and_shared():
    assert shipped_network() is shipped_network()
    assert sum(p.numel() for p in shipped_network().parameters()) * 4 < 5e6
