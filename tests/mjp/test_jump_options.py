"""Options of the jump model: what counts as seen before, what looks mean, and looks that no process has."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from scipy.optimize import minimize

import gendyn
from gendyn.data import Paths
from gendyn.mjp import MarkovJumpModel, NotEmbeddable, PanelLikelihood, StateObservations
from gendyn.mjp.rate_prior import PriorLikelihood
from gendyn.sampling.jumps import sample_events

RATCHET = gendyn.systems.FlashingRatchet()


def pairs(counts: list[list[int]], lag: float = 1.0) -> Paths:
    """One path for every pair of looks that was counted."""
    rows = [[a, b] for a, row in enumerate(counts) for b, n in enumerate(row) for _ in range(n)]
    return Paths([0.0, lag], torch.tensor(rows))


def test_two_states_at_one_interval_have_the_closed_form():
    model = MarkovJumpModel("em", noise=0.0).fit(pairs([[80, 20], [15, 85]]), progress=False)
    assert model.rate_matrix_[0, 1].item() == pytest.approx(0.2461617, abs=2e-6)
    assert model.rate_matrix_[1, 0].item() == pytest.approx(0.1846212, abs=2e-6)


def test_what_no_process_has_is_said_and_bounded(tmp_path):
    with pytest.warns(NotEmbeddable, match="not above 1"):
        model = MarkovJumpModel("em", noise=0.0).fit(pairs([[20, 80], [70, 30]]), progress=False)
    assert bool(torch.isfinite(model.rate_matrix_).all())
    assert not model.embeddable_
    assert "No jump process has the transitions" in model.report()
    model.save(tmp_path / "jumps.safetensors")
    assert not MarkovJumpModel.load(tmp_path / "jumps.safetensors").embeddable_
    # Looks as far apart as can be told: the law of occupation, at least, is right.
    law = model.process_.stationary()
    assert law[1].item() == pytest.approx(0.55, abs=0.1)


def test_three_states_that_cycle_backwards_in_sign_are_not_embeddable():
    with pytest.warns(NotEmbeddable, match="determinant"):
        MarkovJumpModel("em", noise=0.0).fit(pairs([[1, 20, 1], [20, 1, 1], [1, 1, 20]]), progress=False)


@pytest.mark.parametrize("case", ["embeddable", "two intervals", "noise"])
def test_what_a_process_may_have_is_not_warned_of(case):
    data = pairs([[80, 20], [15, 85]])
    if case == "two intervals":
        times = torch.tensor([[0.0, 1.0], [0.0, 2.0]]).repeat(100, 1)
        data = Paths(times, pairs([[20, 80], [70, 30]]).values[..., 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotEmbeddable)
        MarkovJumpModel("em", noise=0.02 if case == "noise" else 0.0).fit(data, progress=False)


def test_jumps_and_time_of_the_prior_are_added_to_those_of_complete_paths():
    events = sample_events(RATCHET, RATCHET.initial(20, seed=0), 5.0, seed=0)
    plain = MarkovJumpModel("em", noise=0.0).fit(events, progress=False)
    model = MarkovJumpModel("em", noise=0.0, prior_jumps=0.3, prior_time=0.7).fit(events, progress=False)
    off = ~torch.eye(6, dtype=torch.bool)
    expected = (plain.jumps_ + 0.3) / (plain.exposure_[:, None] + 0.7)
    torch.testing.assert_close(model.rate_matrix_[off], expected[off], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.jumps_, plain.jumps_)


def test_the_largest_a_posteriori_rates_are_those_of_another_search():
    data = pairs([[8, 2], [1, 9]])
    seen = StateObservations.of(data)

    def cost(logs):
        a, b = math.exp(logs[0]), math.exp(logs[1])
        shrunk = math.exp(-(a + b))
        p01, p10 = a / (a + b) * (1 - shrunk), b / (a + b) * (1 - shrunk)
        value = 8 * math.log(1 - p01) + 2 * math.log(p01) + math.log(p10) + 9 * math.log(1 - p10)
        return -(value + 0.5 * (logs[0] + logs[1]) - 2.0 * (a + b))

    truth = minimize(cost, [-1.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    model = MarkovJumpModel("em", noise=0.0, prior_jumps=0.5, prior_time=2.0).fit(data, progress=False)
    assert model.rate_matrix_[0, 1].log().item() == pytest.approx(truth[0], abs=1e-3)
    assert model.rate_matrix_[1, 0].log().item() == pytest.approx(truth[1], abs=1e-3)
    # What is reported is the likelihood of the looks alone.
    free = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    assert model.log_likelihood_ == pytest.approx(PanelLikelihood(seen).value(model.rate_matrix_, *free))


def test_expectations_hold_the_prior():
    panel = PanelLikelihood(StateObservations.of(pairs([[8, 2], [1, 9]])))
    rates = torch.tensor([[-0.4, 0.4], [0.2, -0.2]], dtype=torch.float64)
    free = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    prior = PriorLikelihood(panel, 0.2, 0.3)
    found, without = prior.expected(rates, *free), panel.expected(rates, *free)
    torch.testing.assert_close(found.dwell, without.dwell + 0.3)
    torch.testing.assert_close(found.jumps, without.jumps + 0.2 * (1 - torch.eye(2, dtype=torch.float64)))
    assert found.log_likelihood == pytest.approx(prior.value(rates, *free))
    slopes = prior.slopes(rates, *free).rates
    off = ~torch.eye(2, dtype=torch.bool)
    torch.testing.assert_close((rates * slopes)[off], found.jumps[off])


def test_kinds_say_what_entry_says():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (40, 4), generator=generator)
    labels[::2, -1] = 2
    data = Paths([0.0, 1.0, 2.5, 3.0], labels)
    kinds = torch.zeros(40, 4, dtype=torch.int64)
    kinds[::2, -1] = 1
    allowed = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 0, 0]])
    one = MarkovJumpModel("em", noise=0.0, entry=[2], allowed=allowed).fit(data, progress=False)
    two = MarkovJumpModel("em", noise=0.0, allowed=allowed).fit(data, kinds=kinds, progress=False)
    torch.testing.assert_close(one.rate_matrix_, two.rate_matrix_)
    assert two.score(data, kinds=kinds) == pytest.approx(one.score(data))
    with pytest.raises(TypeError, match=r"kinds say what every look of gendyn.Paths means; got list"):
        MarkovJumpModel("em").fit([([0.0, 1.0], [0, 1])], kinds=kinds, progress=False)


@pytest.mark.parametrize("options", [{"prior_jumps": -1.0}, {"prior_time": math.nan}, {"prior_jumps": math.inf}])
def test_a_prior_that_is_none_is_refused(options):
    with pytest.raises(ValueError, match="prior_jumps and prior_time"):
        MarkovJumpModel(**options).fit(pairs([[8, 2], [1, 9]]), progress=False)


def few_jumps() -> Paths:
    times = torch.linspace(0.0, 2.5, 100)
    return gendyn.sample(RATCHET, RATCHET.initial(40, seed=3), times, seed=3)


def test_polish_says_how_much_of_the_rates_is_the_likelihoods(tmp_path):
    data = few_jumps()
    fits = {polish: MarkovJumpModel(noise=0.0, polish=polish).fit(data, progress=False) for polish in (False, True)}
    network = MarkovJumpModel("zero-shot", noise=0.0).fit(data, progress=False)
    torch.testing.assert_close(fits[False].rate_matrix_, network.rate_matrix_)
    for bound, other in zip(fits[False].interval(0.8), network.interval(0.8), strict=True):
        torch.testing.assert_close(bound, other, equal_nan=True)
    # All of it is the likeliest among the links that were opened, as the likelihood alone finds it.
    whole = fits[True]
    assert whole.log_likelihood_ > network.log_likelihood_
    likely = MarkovJumpModel("em", noise=0.0, allowed=whole.rate_matrix_ > 0).fit(data, progress=False)
    torch.testing.assert_close(whole.rate_matrix_, likely.rate_matrix_, rtol=1e-3, atol=1e-4)
    low, high = whole.interval(0.9)
    off = ~torch.eye(6, dtype=torch.bool)
    assert bool((low[off] <= whole.rate_matrix_[off] + 1e-9).all())
    assert bool((high[off] >= whole.rate_matrix_[off] - 1e-9).all())
    whole.save(tmp_path / "jumps.safetensors")
    again = MarkovJumpModel.load(tmp_path / "jumps.safetensors")
    for bound, other in zip(again.interval(0.9), (low, high), strict=True):
        torch.testing.assert_close(bound, other, equal_nan=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"polish": "always"}, "'auto', True or False"),
        ({"polish": 0}, "'auto', True or False"),
        ({"polish": 1}, "'auto', True or False"),
        ({"method": "em", "polish": False}, "contradict"),
        ({"method": "zero-shot", "polish": True}, "contradict"),
    ],
)
def test_polish_that_means_nothing_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        MarkovJumpModel(**options).fit(pairs([[8, 2], [1, 8]]), progress=False)
