"""Pooling predictions: masses of hand, convexity, sizes, starts, and what is refused."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn.data import Snapshots
from gendyn.evaluation import Ensemble, InnerHoldOut, Prediction, leave_one_out, wasserstein_value
from gendyn.evaluation.starts import predict_starts
from gendyn.interpolants import FlowMatching


def at(place, n=8, weights=None):
    """A member that predicts one place, whatever it sees."""
    samples = torch.full((n, 1), float(place))
    return lambda train, previous, hole, seed: Prediction(samples, weights)


def line(n=8):
    return Snapshots([0.0, 1.0, 2.0], [torch.linspace(0, 1, n)[:, None] + k for k in range(3)])


def mass_at(prediction, place):
    weights = torch.full((len(prediction.samples),), 1 / len(prediction.samples))
    weights = weights if prediction.weights is None else prediction.weights
    return float(weights[prediction.samples[:, 0] == place].sum())


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 5.0), min_size=2, max_size=5).filter(lambda w: sum(w) > 0.1), st.booleans())
def test_every_member_has_its_mass(weights, same_size):
    members = {str(k): at(k, n=100) for k in range(len(weights))}
    pool = Ensemble(members, weights=weights, same_size=same_size)
    found = pool(line(), 0.0, 1.0, 0)
    for k, weight in enumerate(weights):
        assert mass_at(found, k) == pytest.approx(weight / sum(weights), abs=1e-6)
    # A weight may be too small to be left when all are scaled.
    used = sum(weight > 0 for weight in pool.weights)
    assert len(found.samples) == 100 * used if not same_size else abs(len(found.samples) - 100) <= used


def test_members_of_other_sizes_and_weights_keep_their_mass():
    one = at(0, n=10, weights=torch.tensor([0.5, 0.5] + [0.0] * 8))
    found = Ensemble({"few": one, "many": at(1, n=1000)})(line(), 0.0, 1.0, 3)
    assert mass_at(found, 0) == pytest.approx(0.5)
    assert mass_at(found, 1) == pytest.approx(0.5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_the_pool_is_not_worse_than_its_members_on_average(seed, weight):
    generator = torch.Generator().manual_seed(seed)
    clouds = [torch.randn(30, 2, generator=generator) + k for k in range(2)]
    truth = torch.randn(40, 2, generator=generator) + 0.5
    members = {str(k): lambda train, previous, hole, seed, c=c: c for k, c in enumerate(clouds)}
    data = Snapshots([0.0, 2.0], [torch.zeros(3, 2), torch.ones(3, 2)])
    pool = Ensemble(members, weights=[weight, 1 - weight], same_size=False)(data, 0.0, 1.0, 0)
    alone = [wasserstein_value(truth, cloud) for cloud in clouds]
    value = wasserstein_value(truth, pool.samples, weights_generated=pool.weights)
    assert value <= weight * alone[0] + (1 - weight) * alone[1] + 1e-6


def test_starts_are_those_that_every_member_has():
    data, model = line(), FlowMatching("ot", steps=2, hidden=(4,))
    train = data.without([1.0])
    both = predict_starts("pool", Ensemble({"a": model, "b": model}), train, 1.0, 0)
    assert set(both) == {"restart", "rollout", "two-sided"}
    alone = predict_starts("pool", Ensemble({"a": model, "fixed": at(0)}), train, 1.0, 0)
    assert set(alone) == {"restart"}


def test_members_have_seeds_of_their_own_and_the_pool_repeats():
    seen = []

    def member(train, previous, hole, seed):
        seen.append(seed)
        return torch.randn(20, 1, generator=torch.Generator().manual_seed(seed))

    pool = Ensemble({"one": member, "two": member})
    first, again = pool(line(), 0.0, 1.0, 5), pool(line(), 0.0, 1.0, 5)
    assert len(set(seen)) == 2
    torch.testing.assert_close(first.samples, again.samples)
    assert not torch.equal(first.samples, pool(line(), 0.0, 1.0, 6).samples)


def test_a_member_without_mass_is_not_fitted():
    def never(train, previous, hole, seed):
        raise AssertionError

    found = Ensemble({"a": at(3), "b": never}, weights=[2.0, 0.0])(line(), 0.0, 1.0, 0)
    assert mass_at(found, 3) == pytest.approx(1.0)


def test_it_is_a_row_of_the_hold_out_and_a_candidate_of_a_choice():
    data = Snapshots(range(4), [torch.linspace(0, 1, 12)[:, None] + k for k in range(4)])
    pool = Ensemble({"low": at(0, n=12), "high": at(9, n=12)})
    right = InnerHoldOut({"pool": pool, "middle": lambda train, previous, hole, seed: train.population(previous) + 1.0})
    report = leave_one_out(data, {"pool": pool, "chosen": right}, scale="none")
    table = report.table[report.table.metric == "W1"]
    assert set(table[table.row == "pool"].start) == {"restart"}
    assert table[table.row == "chosen"].origin[lambda o: o != ""].str.startswith("middle").all()


def test_it_goes_to_other_processes():
    pool = pickle.loads(
        pickle.dumps(Ensemble({"a": FlowMatching("ot"), "b": FlowMatching("spline-ot")}, weights=[1, 3]))
    )
    assert pool.weights == (0.25, 0.75)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="weights must be 2 finite numbers"):
        Ensemble({"a": at(0), "b": at(1)}, weights=weights)


def test_members_are_named_in_errors():
    with pytest.raises(ValueError, match="got none"):
        Ensemble({})
    with pytest.raises(TypeError, match="member 'class'"):
        Ensemble({"class": FlowMatching})
    wrong = Ensemble({"flat": lambda train, previous, hole, seed: torch.zeros(3)})
    with pytest.raises(ValueError, match="pool, flat"):
        predict_starts("pool", wrong, line(), 1.5, 0)
