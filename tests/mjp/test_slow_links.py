"""Links that the network thinks absent and the likelihood does not; and who is believed about a rate."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import nbinom

import gendyn
from gendyn.data import Paths
from gendyn.mjp import MarkovJumpModel
from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.maximum_likelihood import JumpParameters, anchor_rates, likelihood_of, maximise_likelihood
from gendyn.mjp.network_belief import NetworkBelief
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.polish import polish
from gendyn.mjp.rate_estimate import RateEstimate, _log_negative_binomial
from gendyn.sampling.jumps import RateMatrix
from gendyn.sampling.jumps.rate_quantities import relaxation_times

SLOW = RateMatrix([[-1.01, 1.0, 0.01, 0.0], [2.0, -2.0, 0.0, 0.0], [0.0, 0.0, -1.0, 1.0], [0.004, 0.0, 2.0, -2.004]])
"""Two pairs of states that change quickly within and rarely between."""


def looks(process: RateMatrix, n: int, end: float = 10.0, every: float = 0.1, seed: int = 0) -> Paths:
    start = torch.arange(n)[:, None] % len(process.matrix())
    return gendyn.sample(process, start, torch.arange(0, end, every), seed=seed)


def test_a_slow_link_is_heard_where_there_are_many_jumps():
    model = MarkovJumpModel().fit(looks(SLOW, 3000), progress=False)
    assert model.link_probability_ is not None
    truth = relaxation_times(SLOW)[0]
    # About a hundred slow jumps either way: a tenth of error.
    assert float(relaxation_times(model.process_)[0] / truth) == pytest.approx(1.0, abs=0.25)
    assert model.rate_matrix_[0, 2].item() == pytest.approx(0.01, rel=0.35)
    assert model.rate_matrix_[3, 0].item() == pytest.approx(0.004, rel=0.5)


def test_rates_over_almost_four_decades_keep_their_slowest_time():
    truth = gendyn.systems.AlanineDipeptide()
    paths = gendyn.sample(truth, truth.initial(5000, seed=3), truth.times, seed=3)
    model = MarkovJumpModel(n_states=6).fit(paths, progress=False)
    ratio = float(relaxation_times(model.process_)[0] / relaxation_times(truth)[0])
    assert ratio == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("noise", ["none", "uniform"])
def test_the_likelihood_opens_links_that_pay_and_no_others(noise):
    seen = StateObservations.of(looks(SLOW, 400))
    law = torch.full((4,), 0.25, dtype=torch.float64)
    emission = LabelNoise.fixed(seen.meaning) if noise == "none" else LabelNoise.uniform(seen.meaning, 0.01)
    start = JumpParameters(anchor_rates(seen), emission, law)
    # The fast way back, and the slow way over, are thought absent.
    absent = torch.zeros(4, 4, dtype=torch.bool)
    absent[1, 0] = absent[0, 2] = absent[1, 3] = absent[2, 1] = True
    found = polish(seen, start, absent=absent)
    links = found.parameters.rates > 0
    assert (links & absent).nonzero().tolist() == [[0, 2], [1, 0]]
    whole = maximise_likelihood(likelihood_of(seen, found.parameters.noise), start)
    # What is left out is worth less than its price.
    assert found.history[-1] > whole.history[-1] - math.log(5000)
    assert found.parameters.rates[1, 0].item() == pytest.approx(whole.parameters.rates[1, 0].item(), rel=0.02)


def test_an_opened_link_goes_on_from_where_it_was_stopped(tmp_path):
    paths, file = looks(SLOW, 1500), tmp_path / "steps.safetensors"
    whole = MarkovJumpModel(noise=0.0).fit(paths, progress=False)
    first = MarkovJumpModel(noise=0.0).fit(paths, progress=False, checkpoint=file)
    again = MarkovJumpModel(noise=0.0).fit(paths, progress=False, checkpoint=file)
    torch.testing.assert_close(first.rate_matrix_, whole.rate_matrix_)
    torch.testing.assert_close(again.rate_matrix_, whole.rate_matrix_, rtol=1e-3, atol=1e-5)


def test_jumps_of_a_rate_of_gamma_law_are_negative_binomial():
    jumps = torch.tensor([0.0, 1.0, 7.0, 40.0], dtype=torch.float64)
    mean = torch.tensor([0.3, 2.0, 7.5, 60.0], dtype=torch.float64)
    found = _log_negative_binomial(jumps, mean, 2.5) - torch.lgamma(jumps + 1)
    expected = nbinom.logpmf(jumps.numpy(), 2.5, 2.5 / (2.5 + mean.numpy()))
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-10)


@pytest.mark.parametrize(("jumps", "low", "high"), [(50.0, 0.5, 0.6), (400.0, 0.99, 1.0), (3.0, 0.99, 1.0)])
def test_the_likelihood_is_believed_where_the_network_cannot_be_right(jumps, low, high):
    """The network expects 50 jumps of the link."""
    exposure = torch.tensor([50.0, 100.0], dtype=torch.float64)
    counts = torch.tensor([[0.0, jumps], [100.0, 0.0]], dtype=torch.float64)
    likely = counts / exposure[:, None]
    believed = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    belief = NetworkBelief(believed, 40 * torch.ones(2, 2, dtype=torch.float64), believed, believed)
    weight = RateEstimate(likely, counts, exposure, 1000, belief).weight()
    assert low <= float(weight[0, 1]) <= high
