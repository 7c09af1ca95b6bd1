"""Choosing inside the training times: against sums of hand, without a leak, and where nothing can be chosen."""

import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from gendyn.data import Snapshots
from gendyn.evaluation import InnerHoldOut, Prediction, leave_one_out, mean_shift, ot_interpolant
from gendyn.evaluation.starts import predict_starts
from gendyn.interpolants import FlowMatching


def stay(train, previous, hole, seed):
    return train.population(previous)


def shift(train, previous, hole, seed):
    return mean_shift(train, hole)


def points(*places, times=None):
    """Populations each at one place, so that every distance is that of the places, whoever is drawn."""
    where = [torch.tensor([[float(p), 0.0]]).expand(8, 2) for p in places]
    return Snapshots(range(len(places)) if times is None else times, where)


def circling(n=120, seed=0, gap=0.7):
    generator = torch.Generator().manual_seed(seed)
    angles = [gap * k for k in range(6)]
    return Snapshots(
        range(6),
        [3 * torch.tensor([math.cos(a), math.sin(a)]) + 0.2 * torch.randn(n, 2, generator=generator) for a in angles],
    )


class Pushed:
    """An estimator with noise, which moves every cell one unit to the right per unit of time."""

    process_ = SimpleNamespace(noise_type="additive")

    def clone(self):
        return self

    def fit(self, data, *, seed, progress):
        return self

    def sample(self, x0, times, *, seed):
        moved = x0.samples[0] + torch.tensor([times[-1] - times[0], 0.0]) if isinstance(x0, Snapshots) else None
        if moved is None:
            moved = x0 + torch.tensor([times[-1] - times[0], 0.0])
        return SimpleNamespace(values=torch.stack([moved, moved], dim=1))


def test_scores_are_those_of_hand():
    places, times = (0.0, 1.0, 5.0, 6.0), (0.0, 1.0, 3.0, 4.0)
    table = InnerHoldOut({"stay": stay, "shift": shift}).scores(points(*places, times=times))
    found = {(r.candidate, r.time): r.distance for r in table.itertuples()}
    expected = {
        ("stay", 1.0): 1.0,
        ("stay", 3.0): 4.0,
        # With time 1 out, 1/3 of the way from 0 to 5; with time 3 out, 2/3 of that from 1 to 6.
        ("shift", 1.0): 5 / 3 - 1,
        ("shift", 3.0): 5 - (1 + 10 / 3),
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-5), key
    assert set(table["start"]) == {"restart"}


def test_the_smaller_sum_is_chosen():
    method = InnerHoldOut({"stay": stay, "shift": shift})
    assert method(points(0, 1, 2, 4, times=(0, 1, 2, 4)), 2.0, 3.0, 0).origin == "shift, restart"
    # A jump after long rest: the shift is wrong where nothing moves.
    still = points(0, 0, 0, 9, times=(0, 1, 2, 4))
    assert method(still, 2.0, 3.0, 0).origin == "stay, restart"
    assert torch.equal(method(still, 2.0, 3.0, 0).samples, still.population(2.0))


def test_energy_distance_minds_the_spread_and_w1_does_not_in_many_dimensions():
    generator = torch.Generator().manual_seed(1)
    data = Snapshots(range(3), [torch.randn(200, 50, generator=generator) for _ in range(3)])

    def shrunk(train, previous, hole, seed):
        return 0.6 * train.population(previous)

    chosen = {
        criterion: InnerHoldOut({"stay": stay, "shrunk": shrunk}, criterion=criterion)(data, 0.0, 0.5, 0).origin
        for criterion in ("W1", "energy distance")
    }
    assert chosen == {"W1": "shrunk, restart", "energy distance": "stay, restart"}


def test_nothing_of_the_hole_and_of_the_inner_time_is_seen():
    data = circling(n=20)
    seen = []

    def spy(train, previous, hole, seed):
        seen.append((train.times.tolist(), previous, hole))
        return train.population(previous)

    leave_one_out(data, {"chosen": InnerHoldOut({"spy": spy})}, times=[2.0], protocol="published", scale="none")
    inner, final = seen[:-1], seen[-1]
    assert [hole for _, _, hole in inner] == [1.0, 3.0, 4.0]
    assert all(2.0 not in times and hole not in times for times, _, hole in seen)
    assert final == ([0.0, 1.0, 3.0, 4.0, 5.0], 1.0, 2.0)


def test_a_curve_chooses_splines_and_the_report_says_so():
    settings = {"steps": 250, "hidden": (32, 32), "batch_size": 128, "lr": 5e-3}
    candidates = {name: FlowMatching(name, **settings) for name in ("ot", "spline-ot")}
    method = InnerHoldOut(candidates)
    data = circling()
    report = leave_one_out(data, {"chosen": method, "stay": stay}, times=[2.0])
    row = report.table[(report.table["row"] == "chosen") & (report.table["metric"] == "W1")]
    assert set(row["start"]) == {"selected"}
    assert all(origin.startswith("spline-ot, ") for origin in row["origin"][row["hole"].notna()])
    assert report.mean("chosen", "selected")["skill_low"] > 0
    assert "chosen chose spline-ot, " in str(report)
    assert "by inner hold-out" in "".join(report.choices())
    assert not [line for line in report.choices() if line.startswith("stay")]
    again = pickle.loads(pickle.dumps(method))  # as a process of its own would get it
    row = leave_one_out(data, {"chosen": again}, times=[2.0]).mean("chosen", "selected")
    assert row["value"] == report.mean("chosen", "selected")["value"]


def test_with_two_training_times_the_default_is_used():
    data = points(0, 1, 2)
    method = InnerHoldOut({"stay": stay, "shift": shift}, default=("shift", "restart"))
    report = leave_one_out(data, {"chosen": method}, scale="none", protocol="published")
    assert report.mean("chosen", "selected")["value"] == pytest.approx(0.0, abs=1e-6)
    assert method.scores(data.without(1.0)).empty
    with pytest.raises(ValueError, match="needs three training times or more; got 2: name what to use then"):
        InnerHoldOut({"stay": stay})(data.without(1.0), 0.0, 1.0, 0)


def test_a_choice_is_made_once_for_all_seeds_of_a_hole():
    data = circling(n=20)
    seen = []

    def spy(train, previous, hole, seed):
        seen.append((hole, seed))
        return train.population(previous) + seed % 7

    def run(choose_once, n_seeds):
        seen.clear()
        # A process would not tell what it saw: one job.
        method = InnerHoldOut({"spy": spy, "stay": stay}, choose_once=choose_once)
        report = leave_one_out(data, {"chosen": method}, protocol="published", times=[2.0, 3.0], n_seeds=n_seeds)
        return report.table[report.table["row"] == "chosen"], list(seen)

    (_, every), (_, once), (_, single) = run(False, 3), run(True, 3), run(True, 1)
    finals = {2.0: [1.0, 3.0, 4.0], 3.0: [1.0, 2.0, 4.0]}
    inner = sum(map(len, finals.values()))
    # Each choice looks at all inner times; each seed is fitted once more, if the spy is chosen.
    assert len(every) >= 3 * inner
    assert inner <= len(once) <= inner + 3 * len(finals)
    # The seed that chooses is the first: what one seed alone chooses, three use too.
    assert once[:3] == single[:3]


def test_what_is_kept_belongs_to_its_populations_and_is_not_pickled():
    method = InnerHoldOut({"stay": stay, "shift": shift}, choose_once=True)
    moving, still = points(0, 1, 2, 4, times=(0, 1, 2, 4)), points(0, 0, 0, 9, times=(0, 1, 2, 4))
    for _ in range(2):
        assert method(moving, 2.0, 3.0, 0).origin == "shift, restart"
        assert method(still, 2.0, 3.0, 0).origin == "stay, restart"
    assert pickle.loads(pickle.dumps(method))._kept is None


def test_starts_by_hand():
    data = points(0, 2, 10, times=(0.0, 1.0, 3.0))
    found = predict_starts("pushed", Pushed(), data, 2.0, 0)
    # No way back for a process with noise: there is no two-sided start.
    assert {start: float(p.samples[0, 0]) for start, p in found.items()} == {"restart": 3.0, "rollout": 2.0}
    calm = Pushed()
    calm.process_ = SimpleNamespace(noise_type="none")
    found = predict_starts("pushed", calm, data, 2.0, 0)
    assert float(found["two-sided"].samples[0, 0]) == pytest.approx((3.0 + 9.0) / 2)
    assert float(found["two-sided"].weights.sum()) == pytest.approx(1.0)
    assert list(predict_starts("pushed", calm, data, 2.0, 0, starts=("rollout",))) == ["rollout"]


def test_a_start_that_one_candidate_lacks_is_no_choice_for_it():
    method = InnerHoldOut({"pushed": Pushed()}, starts=("restart", "two-sided"))
    data = points(0, 1, 2, 4, times=(0, 1, 2, 4))
    assert set(method.scores(data)["start"]) == {"restart"}
    assert method(data, 2.0, 3.0, 0).origin == "pushed, restart"
    forced = InnerHoldOut({"pushed": Pushed()}, starts=("two-sided",), default=("pushed", "two-sided"))
    for train in (data, data.only([0.0, 4.0])):
        with pytest.raises(ValueError, match="noise or growth cannot be pushed from both sides"):
            forced(train, float(train.times[-2]), 3.0, 0)


def test_weights_count():
    x = torch.tensor([[0.0], [100.0]]).repeat(10, 1)
    mass = torch.tensor([1.0, 0.0]).repeat(10)
    data = Snapshots(range(4), [x + k for k in range(4)], weights=[mass] * 4)

    def right(train, previous, hole, seed):
        return ot_interpolant(train, hole)

    table = InnerHoldOut({"right": right}).scores(data)
    np.testing.assert_allclose(table["distance"], 0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"candidates": {}}, ValueError, "at least one model; got none"),
        ({"candidates": {"x": FlowMatching}}, TypeError, "candidate 'x' must be an unfitted estimator"),
        ({"starts": ("behind",)}, ValueError, "starts must be of .*; got 'behind'"),
        ({"starts": ()}, ValueError, "starts must be of .*; got 'none'"),
        ({"criterion": "loss"}, ValueError, "criterion must be one of"),
        ({"default": ("y", "restart")}, ValueError, "default must be a candidate and a start"),
        ({"default": ("x", "two-sided"), "starts": ("restart",)}, ValueError, "default must be a candidate"),
        ({"max_cells": 1}, ValueError, "max_cells must be at least 2; got 1"),
    ],
)
def test_sentences(change, error, message):
    arguments = {"candidates": {"x": stay}} | change
    with pytest.raises(error, match=message):
        InnerHoldOut(**arguments)


def test_a_failing_candidate_is_named():
    def broken(train, previous, hole, seed):
        raise RuntimeError("no cells")

    with pytest.raises(RuntimeError, match="method 'broken' failed with time 1 held out: no cells"):
        InnerHoldOut({"broken": broken})(points(0, 1, 2, 3), 2.0, 2.5, 0)
    assert Prediction(torch.zeros(2, 1)).origin == ""
