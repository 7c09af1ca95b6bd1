"""Leaving a time out: against the same numbers computed by hand, and without a leak."""

import numpy as np
import pandas as pd
import pytest
import torch

from gendyn.data import Snapshots
from gendyn.evaluation import leave_one_out, wasserstein_value
from gendyn.interpolants import FlowMatching

N = 80


def moving(seed=0, times=(0.0, 1.0, 2.0, 4.0)):
    generator = torch.Generator().manual_seed(seed)
    return Snapshots(
        times, [torch.randn(N, 2, generator=generator) + torch.tensor([3.0 * t, t * t / 2]) for t in times]
    )


def pick(report, row, metric="W1", hole=None, start=None):
    table = report.table[(report.table["row"] == row) & (report.table["metric"] == metric)]
    table = table[table["hole"].isna()] if hole is None else table[table["hole"] == hole]
    return (table if start is None else table[table["start"] == start]).iloc[0]


def stay(train, previous, hole, seed):
    return train.population(previous)


def test_published_rows_are_those_of_hand():
    data = moving()
    report = leave_one_out(data, {"stay": stay}, protocol="published", scale="none")
    before, hole, after = (data.population(t) for t in (1.0, 2.0, 4.0))
    expected = {
        "previous": wasserstein_value(hole, before),
        "next": wasserstein_value(hole, after),
        "union": wasserstein_value(hole, torch.cat([before, after])),
        # Ordinal times: the hole at 2 stands half way between 1 and 4.
        "mean shift": wasserstein_value(hole, before + (after.mean(0) - before.mean(0)) / 2),
        "stay": wasserstein_value(hole, before),
    }
    for row, value in expected.items():
        assert pick(report, row, hole=2.0)["value"] == pytest.approx(value, rel=1e-5), row
    mean = np.mean([pick(report, "stay", hole=t)["value"] for t in (1.0, 2.0)])
    assert report.mean("stay")["value"] == pytest.approx(mean)
    assert "skill" not in report.display()


def test_clean_uses_real_times():
    data = moving()
    report = leave_one_out(data, {"stay": stay}, scale="none", times=[2.0])
    before, hole, after = (data.population(t) for t in (1.0, 2.0, 4.0))
    value = wasserstein_value(hole, before + (after.mean(0) - before.mean(0)) / 3)
    assert pick(report, "mean shift", hole=2.0)["value"] == pytest.approx(value, rel=1e-5)
    assert {"W1", "energy distance", "MMD^2"} <= set(report.table["metric"])


def test_published_scales_with_the_hole_and_clean_without():
    data = moving()
    for protocol, used in (("published", data), ("clean", data.without(2.0))):
        seen = []

        def spy(train, previous, hole, seed, seen=seen):
            seen.append(train)
            return train.population(previous)

        leave_one_out(data, {"spy": spy}, protocol=protocol, scale="whiten", times=[2.0])
        spread = torch.cat(used.samples).double().std(0, unbiased=False)
        ratio = data.population(1.0).double().std(0) / seen[0].samples[1].double().std(0)
        torch.testing.assert_close(ratio, spread, rtol=1e-4, atol=0)


def test_nothing_of_the_hole_reaches_a_method():
    data = moving()
    changed = data.with_samples([x + (100.0 if k == 2 else 0.0) for k, x in enumerate(data.samples)])
    seen = []

    def spy(train, previous, hole, seed):
        seen.append((train, previous, hole, seed))
        return train.population(previous)

    for version in (data, changed):
        leave_one_out(version, {"spy": spy}, times=[2.0])
    assert seen[0][0] == seen[1][0]
    assert seen[0][1:] == seen[1][1:]
    assert 2.0 not in seen[0][0].times.tolist()


def test_skill_is_zero_for_transport_and_near_one_for_the_truth():
    generator = torch.Generator().manual_seed(9)
    curve = [torch.tensor([0.0, 0.0]), torch.tensor([2.0, 3.0]), torch.tensor([4.0, 0.0])]
    data = Snapshots([0.0, 1.0, 2.0], [torch.randn(200, 2, generator=generator) + c for c in curve])

    def oracle(train, previous, hole, seed):
        centre = torch.tensor([2.0, 3.0])
        return (torch.randn(200, 2, generator=torch.Generator().manual_seed(seed)) + centre - shift) / scale

    from gendyn.data import Scaling

    scaling = Scaling.fit(data.without(1.0), "global")
    shift, scale = scaling.shift, scaling.scale
    report = leave_one_out(data, {"oracle": oracle, "stay": stay})
    assert report.mean("OT interpolant")["skill"] == 0.0
    truth = report.mean("oracle")
    assert truth["skill"] == pytest.approx(1.0, abs=0.1)
    assert truth["skill_low"] < truth["skill"] < truth["skill_high"]
    assert report.mean("stay")["skill"] < 0
    assert report.mean("floor")["skill"] == 1.0
    assert "[" in str(report)


def test_estimators_are_cloned_restarted_and_rolled_out():
    model = FlowMatching("ot", steps=20, hidden=(8,))
    report = leave_one_out(moving(), {"flow": model}, times=[2.0])
    assert not hasattr(model, "process_")
    rows = report.table[(report.table["row"] == "flow") & (report.table["metric"] == "W1")]
    assert set(rows["start"]) == {"restart", "rollout", "two-sided"}
    again = leave_one_out(moving(), {"flow": model}, times=[2.0])
    assert again.mean("flow")["value"] == report.mean("flow")["value"]
    other = leave_one_out(moving(), {"flow": model}, times=[2.0], seed=1)
    assert other.mean("flow")["value"] != report.mean("flow")["value"]


def test_processes_do_not_show():
    model = FlowMatching("ot", steps=20, hidden=(8,))
    one, two = (leave_one_out(moving(), {"flow": model, "stay": stay}, n_jobs=n).table for n in (1, 2))
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"), rtol=1e-4)


def test_several_seeds_give_a_spread():
    report = leave_one_out(moving(), {"flow": FlowMatching("ot", steps=5, hidden=(8,))}, times=[2.0], n_seeds=3)
    assert pick(report, "flow", start="restart", hole=2.0)["seed_deviation"] > 0


def test_weights_of_a_method_count():
    def halves(train, previous, hole, seed):
        x = train.population(previous)
        return torch.cat([x, x + 1000.0]), torch.cat([torch.ones(len(x)), torch.zeros(len(x))])

    report = leave_one_out(moving(), {"halves": halves, "stay": stay}, times=[1.0], protocol="published")
    assert report.mean("halves")["value"] == pytest.approx(report.mean("stay")["value"], rel=1e-6)


def test_reports_in_every_form(tmp_path):
    report = leave_one_out(moving(), {"stay": stay}, times=[1.0])
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "data:image/png;base64" in page
    assert "http" not in page.replace("http-equiv", "")
    assert report.to_markdown().startswith("| row |")
    assert "OT interpolant" in report.to_json(tmp_path / "report.json")
    assert {row["row"] for row in report.rows()} >= {"previous", "stay (restart)", "floor"}
    with pytest.raises(ValueError, match="there is no row 'nobody'"):
        report.mean("nobody")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"snapshots": moving().only([0.0, 1.0])}, ValueError, "at least three times; got 2"),
        ({"snapshots": [1, 2]}, TypeError, "needs gendyn.Snapshots"),
        ({"protocol": "quick"}, ValueError, "protocol must be 'clean' or 'published'"),
        ({"scale": "log"}, ValueError, "scale must be"),
        ({"times": [0.0]}, ValueError, "only inner times can be held out"),
        ({"times": [7.0]}, ValueError, "nothing was measured at time 7"),
        ({"n_seeds": 0}, ValueError, "n_seeds must be at least 1"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be the number of processes"),
        ({"methods": [stay]}, TypeError, "mapping of names"),
        ({"methods": {"x": FlowMatching}}, TypeError, "unfitted estimator or a callable"),
        ({"methods": {"x": lambda *a: torch.zeros(3)}}, ValueError, "must return samples"),
        ({"methods": {"x": lambda *a: 1 / 0}}, ZeroDivisionError, "method 'x' failed with time 1 held out"),
    ],
)
def test_sentences(change, error, message):
    arguments = {"snapshots": moving(), "methods": {"stay": stay}} | change
    with pytest.raises(error, match=message):
        leave_one_out(**arguments)
