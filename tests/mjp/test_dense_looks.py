"""Recordings that are denser than what the network was trained on."""

from __future__ import annotations

import numpy as np
import torch

import gendyn
from gendyn.data import Paths
from gendyn.mjp import MarkovJumpModel, StateObservations
from gendyn.mjp.network_belief import NetworkBelief, _as_trained
from gendyn.mjp.prior import draw_rate_matrices
from gendyn.sampling.jumps import RateMatrix


def recording(seed: int, looks: int, part: float, n: int = 4) -> tuple[RateMatrix, Paths]:
    """Return a random process, looked at every so many mean holding times."""
    rng = np.random.default_rng([seed, 91])
    process = RateMatrix(draw_rate_matrices(1, 3, rng)[0])
    holding = 1 / float((process.stationary() * -process.matrix().diagonal()).sum())
    start = torch.from_numpy(rng.choice(3, n, p=process.stationary().numpy()))[:, None]
    return process, gendyn.sample(process, start, torch.arange(looks).double() * part * holding, seed=seed)


def test_looks_apart_are_every_so_manieth_of_a_grid():
    labels = torch.arange(200).reshape(2, 100) % 3
    # Times whose differences are off by rounding.
    times = torch.arange(100.0).double() * 0.1 + 7.3
    seen = StateObservations.of(Paths(times, labels))
    apart = seen.apart(3 * seen.median_lag)
    assert torch.equal(apart.labels, labels[:, ::3])
    torch.testing.assert_close(apart.times, times[::3].expand(2, -1))
    assert apart.lengths.tolist() == [34, 34]


def test_ends_of_paths_and_what_they_mean_are_kept():
    times = torch.tensor([[0.0, 0.4, 0.5, 1.1, 1.15], [0.0, 0.05, 0.1, 0.1, 0.1]]).double()
    labels = torch.tensor([[0, 1, 0, 1, 2], [1, 0, 2, 0, 0]])
    seen = StateObservations.of(Paths(times, labels, lengths=torch.tensor([5, 3])), entry=[2])
    apart = seen.apart(0.5)
    assert apart.lengths.tolist() == [4, 2]
    assert apart.labels.tolist() == [[0, 0, 1, 2], [1, 2, 2, 2]]
    assert apart.kinds.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    assert torch.equal(apart.times[0], times[0, [0, 2, 3, 4]])


def test_looks_like_those_of_the_training_are_all_read():
    _, paths = recording(0, 400, 0.1)
    seen = StateObservations.of(paths, n_states=3)
    assert _as_trained(seen) is seen


def test_short_paths_keep_their_looks():
    still = StateObservations.of(Paths(torch.arange(20.0), torch.zeros(50, 20, dtype=torch.int64)), n_states=2)
    assert _as_trained(still) is still
    longer = StateObservations.of(Paths(torch.arange(480.0), torch.zeros(5, 480, dtype=torch.int64)), n_states=2)
    assert int(_as_trained(longer).lengths.min()) >= 25


def test_the_network_knows_as_much_of_a_dense_recording_as_counting():
    ours, counted = [], []
    for seed in range(8):
        process, paths = recording(seed, 4000, 0.005, 20)
        belief, summary, _, _ = NetworkBelief.read(StateObservations.of(paths, n_states=3), None)
        whole = MarkovJumpModel("em", n_states=3, noise=0.0, em_steps=1, max_iterations=0).fit(paths, progress=False)
        truth = process.matrix().fill_diagonal_(0.0)
        ours.append(float((belief.estimate.fill_diagonal_(0.0) - truth).square().mean().sqrt() / truth.max()))
        found = whole.rate_matrix_.clone().fill_diagonal_(0.0)
        counted.append(float((found - truth).square().mean().sqrt() / truth.max()))
        assert 0.02 < summary.elapsed[0, 0] / summary.counts[0, 0].sum() / summary.unit[0] < 0.1
    assert np.mean(ours) < 1.2 * np.mean(counted)
