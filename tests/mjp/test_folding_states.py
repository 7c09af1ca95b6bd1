"""From a continuous coordinate to states: the folding toy, by a mixture and by levels of the hidden process."""

from __future__ import annotations

import pytest
import torch

from gendyn.data import Paths
from gendyn.mjp import MarkovJumpModel, coarse_grain
from gendyn.systems import TwoStateFolding, simulate_paths


@pytest.fixture(scope="module")
def radii() -> Paths:
    paths = simulate_paths(TwoStateFolding(), n=1000, seed=0, dtype=torch.float64)
    return Paths(paths.times, paths.values.norm(dim=-1, keepdim=True))


def test_a_mixture_finds_both_states_and_the_published_rates(radii):
    states = coarse_grain(radii, 2)
    assert float((states.values == 0).double().mean()) == pytest.approx(0.71, abs=0.03)
    # Recrossings of the boundary count as jumps where every label is right.
    plain = MarkovJumpModel("em", noise=0.0).fit(states, progress=False)
    assert plain.rate_matrix_[0, 1].item() == pytest.approx(0.06, abs=0.01)
    assert plain.rate_matrix_[1, 0].item() == pytest.approx(0.15, abs=0.02)
    # NeuralMJP found .028 and .085, and the law .74, .26.
    model = MarkovJumpModel().fit(states, progress=False)
    assert model.rate_matrix_[0, 1].item() == pytest.approx(0.030, abs=0.005)
    assert model.rate_matrix_[1, 0].item() == pytest.approx(0.083, abs=0.008)
    assert model.noise_ == pytest.approx(0.002, abs=0.001)
    assert model.process_.stationary()[0].item() == pytest.approx(0.735, abs=0.02)


def test_levels_without_labels_come_nearer_to_the_truth(radii):
    some = Paths(radii.times, radii.values[:300])
    model = MarkovJumpModel("em", emission="gaussian", n_states=2).fit(some, progress=False)
    truth = TwoStateFolding().rate_matrix()
    assert model.process_.stationary()[0].item() == pytest.approx(truth.stationary()[0].item(), abs=0.05)
    # Two Gaussians are not quite what the states look like: the decay is up to half too fast.
    ratio = float(model.process_.exit_rates.sum() / truth.exit_rates.sum())
    assert 0.8 < ratio < 1.6
