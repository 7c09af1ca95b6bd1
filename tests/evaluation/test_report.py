"""One call that scores generated against real: populations, paths, forecasts, long runs."""

import json

import numpy as np
import pytest
import torch

from gendyn import evaluate
from gendyn.data import Paths, Snapshots
from gendyn.evaluation import (
    METRICS,
    MetricResult,
    energy_score,
    marginal_wasserstein,
    metrics_for,
    state_space_divergence,
)
from gendyn.evaluation.measure import known_floor, measure
from gendyn.evaluation.points import points
from gendyn.evaluation.report import table_of


def cloud(n, shift=0.0, seed=0, dim=2):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


def walks(n, seed=0, times=12, dim=2, scale=1.0):
    return np.cumsum(np.random.default_rng(seed).normal(size=(n, times, dim)), axis=1) * scale


def orbit(seed=0, times=3000):
    rng = np.random.default_rng(seed)
    x = np.zeros((times, 2))
    for k in range(1, times):  # a damped rotation driven by noise
        x[k] = 0.98 * np.array([[0.9, -0.43], [0.43, 0.9]]) @ x[k - 1] + rng.normal(size=2)
    return x[None]


REAL = Snapshots([0.0, 1.0, 2.0], [cloud(60, k, k) for k in range(3)])
MADE = Snapshots([1.0, 2.0, 3.0], [cloud(50, k + 0.5, 10 + k) for k in range(1, 4)])
CHEAP = ["marginal W1", "correlational score", "copy ratio"]


def test_common_times_and_their_mean():
    report = evaluate(REAL, MADE)
    assert report.kind == "populations"
    assert set(report.table["metric"]) == set(metrics_for("populations", 2))
    assert sorted(report.table["time"].dropna().unique()) == [1.0, 2.0]
    w1 = report.table[report.table["metric"] == "W1"].set_index("time")["value"]
    assert w1[np.nan] == pytest.approx((w1[1.0] + w1[2.0]) / 2)
    assert (report.table[["low", "value", "high"]].diff(axis=1).iloc[:, 1:] >= 0).all().all()
    assert report.result("W1", 2.0).value == w1[2.0]
    with pytest.raises(ValueError, match="computed at times 1, 2; name one of them"):
        report.result("W1")
    with pytest.raises(ValueError, match="no metric 'W9'; it has W1, W2"):
        report.result("W9")


def test_many_features_bring_the_debiased_distance():
    report = evaluate(cloud(40, dim=6), cloud(40, seed=1, dim=6))
    assert "debiased W2" in set(report.table["metric"])


def test_large_populations_are_thinned_for_exact_transport_and_the_table_says_so():
    report = evaluate(cloud(2300), cloud(2100, seed=1), metrics=["W1", "sliced W2"], options={"W1": {"n_bootstrap": 0}})
    assert report.table["n_real"].tolist() == [2000, 2300]
    assert report.table["note"].tolist() == ["at 2000 of up to 2300 points a side", ""]


def test_paths_beside_snapshots_are_populations():
    values = torch.stack([cloud(40, k, k) for k in range(3)], dim=1)
    report = evaluate(REAL, Paths([0.0, 1.0, 2.0], values), metrics=["W1"])
    both = evaluate(Paths([0.0, 1.0], values[:, :2]), Paths([0.0, 1.0], values[:, :2] + 1), ["W1"], kind="populations")
    assert len(report.table) == 4
    np.testing.assert_allclose(both.table["value"], np.sqrt(2), rtol=1e-5)


def test_equal_populations_are_at_zero():
    report = evaluate(cloud(100), cloud(100), metrics=["W1", "sliced W2"])
    assert report.table["value"].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    assert "time" not in report.display()


def test_sets_of_paths():
    real, made = walks(60), walks(60, 1, scale=1.2)
    report = evaluate(real, made, CHEAP)
    assert report.kind == "paths"
    assert report.table["metric"].tolist() == CHEAP
    direct = marginal_wasserstein(real, made, seed=report.result("marginal W1").seed)
    assert report.result("marginal W1").value == direct.value
    assert "diversity" in report.table["note"].iloc[-1]
    assert len(report.pictures()) == 4
    with pytest.raises(ValueError, match="not computed at single times: leave time out; got 1"):
        report.result("marginal W1", 1.0)


def test_the_whole_default_report_of_paths():
    report = evaluate(walks(300), walks(300, 1, scale=1.3), options={"strong discriminative score": {"iterations": 20}})
    assert set(report.table["metric"]) == set(metrics_for("paths", 2))
    assert {"copy ratio", "strong discriminative score"} <= set(report.table["metric"])
    assert len(report.pictures()) == 5


def test_paths_of_their_own_times_leave_out_what_has_no_meaning_for_them():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.5, 1.5, size=(300, 12)), axis=1)
    real, made = Paths(times, walks(300)), Paths(times, walks(300, 1))
    report = evaluate(real, made, options={"signature MMD^2": {"max_paths": 50}})
    assert set(report.table["metric"]) == {"signature distance", "signature MMD^2"}
    assert "times" in report.left_out["marginal W1"]
    assert any("marginal W1 was left out: " in remark for remark in report.remarks())
    assert len(report.pictures()) == 1
    with pytest.raises(ValueError, match="times"):
        evaluate(real, made, "marginal W1")


def test_held_out_paths_beside_those_of_the_fit():
    train, held = walks(100), walks(100, 1)
    copied = evaluate(held, train, "copy ratio", train=train)
    assert copied.result("copy ratio").extra["copies"]
    assert copied.table["note"].iloc[0].startswith("copies; ")


def test_outcomes_and_their_members():
    rng = np.random.default_rng(0)
    report = evaluate(rng.normal(size=(80, 5, 2)), rng.normal(size=(80, 40, 5, 2)))
    assert report.kind == "forecasts"
    assert report.table["metric"].tolist() == metrics_for("forecasts", 2)
    assert (
        report.result("energy score").value == energy_score(report.comparison.real, report.comparison.generated).value
    )
    assert len(report.pictures()) == 3
    real, members = (
        Paths(range(5), report.comparison.real),
        Paths(range(5), report.comparison.generated.reshape(-1, 5, 2)),
    )
    named = evaluate(real, members, kind="forecasts")
    np.testing.assert_array_equal(named.table["value"], report.table["value"])
    assert evaluate(rng.normal(size=20), rng.normal(size=(20, 30)), "CRPS").kind == "forecasts"


def test_long_runs():
    real, made = orbit(), orbit(1)
    report = evaluate(real, made)
    assert report.kind == "trajectories"
    assert report.table["metric"].tolist() == metrics_for("trajectories", 2)
    assert len(report.pictures()) == 4
    second = evaluate(real, made, "state-space divergence", reference=orbit(2))
    seed = second.result("state-space divergence").seed
    assert second.table["floor"].iloc[0] == state_space_divergence(real, made, reference=orbit(2), seed=seed).floor
    one = evaluate(real[..., :1], made[..., :1], "ordinal distance")
    assert len(one.pictures()) == 3


def test_seeds():
    one, same, other = (evaluate(REAL, MADE, metrics=["W1"], seed=s).table for s in (1, 1, 2))
    np.testing.assert_array_equal(one["floor"], same["floor"])
    assert (one["floor"] != other["floor"]).any()


def test_floors_are_computed_once(tmp_path):
    first, other = evaluate(REAL, MADE, ["W1", "sliced W2"]), Snapshots([1.0, 2.0], [cloud(40), cloud(40, seed=1)])
    again = evaluate(REAL, other, ["W1", "sliced W2", "MMD^2"], floors=first)
    first.to_json(tmp_path / "first.json")
    stored = evaluate(REAL, other, ["W1", "sliced W2", "MMD^2"], floors=tmp_path / "first.json")
    fresh = evaluate(REAL, other, ["W1", "sliced W2", "MMD^2"])
    for report in (again, stored):
        for column in ("value", "low", "high", "floor"):
            np.testing.assert_array_equal(report.table[column], fresh.table[column])


def test_a_known_floor_is_not_computed_again():
    calls = []

    def gap(a, b):
        calls.append(1)
        return 1.0

    with known_floor(0.25, 10):
        result = measure("gap", gap, *points(np.zeros((20, 1)), np.ones((20, 1))), n_bootstrap=0)
    assert (result.floor, len(calls)) == (0.25, 1)


@pytest.mark.parametrize("name", ["power-spectrum distance", "ordinal distance", "state-space divergence"])
def test_a_floor_against_a_second_run_is_not_that_between_halves(name):
    real, made, second = (orbit(k, 600) for k in range(3))
    first = evaluate(real, made, name, reference=second)
    fresh, again = evaluate(real, made, name), evaluate(real, made, name, floors=first)
    assert again.table["floor"].tolist() == fresh.table["floor"].tolist() != first.table["floor"].tolist()
    back = evaluate(real, made, name, reference=second, floors=fresh)
    assert back.table["floor"].tolist() == first.table["floor"].tolist()


def test_a_floor_that_a_short_run_cut_is_computed_anew():
    slow = np.sin(np.arange(3000.0) / 40)[None, :, None] + 0.1 * walks(1, 1, 3000, 1)
    short = evaluate(slow, slow[:, :60], "ordinal distance")
    fresh, again = (evaluate(slow, slow[:, :2000], "ordinal distance", floors=f) for f in (None, short))
    assert again.table["floor"].tolist() == fresh.table["floor"].tolist() != short.table["floor"].tolist()


def test_a_mean_over_times_has_what_every_time_has():
    few = Snapshots([1.0, 2.0], [cloud(3), cloud(60)])
    means = evaluate(few, MADE, "W1").table.iloc[-1]
    assert np.isnan([means["time"], means["floor"]]).all()
    assert means["low"] < means["value"] < means["high"]
    bare = evaluate(REAL, MADE, "W1", options={"W1": {"n_bootstrap": 0}})
    assert bare.table[["low", "high"]].isna().all(axis=None)
    assert bare.table["floor"].notna().all()
    assert bare.plot().axes[0].get_xlabel() == "value / floor"


def test_a_mean_over_some_of_the_times_says_so():
    one, two = (MetricResult("w1", v, floor=1.0, n_real=5, n_generated=5) for v in (1.0, 3.0))
    table = table_of([("W1", 1.0, one), ("W1", 2.0, two), ("W2", 1.0, one)])
    assert table["note"].tolist() == ["", "", "", "", "over 1 of 2 times"]
    assert table["value"].tolist() == [1.0, 3.0, 1.0, 2.0, 1.0]


def test_intervals_of_unequal_sizes_are_not_too_narrow():
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(100, 1)), rng.normal(size=(20_000, 1)) + 5
    for pair in ((few, many), (many, few)):
        gap = measure("gap", lambda a, b: abs(a.values.mean() - b.values.mean()), *points(*pair), n_bootstrap=300)
        assert gap.high - gap.low > 2 * 1.96 * 0.9 * few.std() / np.sqrt(100)


def test_generated_paths_that_were_left_out_are_counted_in_the_report():
    made = walks(30, 1)
    made[:3] = np.nan
    report = evaluate(walks(30), made, ["marginal W1"], on_nan="count")
    assert report.remarks() == ["left out because not finite: 3 generated paths"]
    members = np.random.default_rng(0).normal(size=(20, 30, 4, 1))
    members[0, 0] = np.inf
    scored = evaluate(walks(20, times=4, dim=1), members, "coverage", on_nan="count")
    assert scored.remarks() == ["left out because not finite: 1 forecast"]
    assert scored.table["note"].tolist() == ["promised 90%"]


def test_an_array_is_drawn_and_measured_at_the_times_of_the_other_side():
    real, made = walks(40), walks(40, 1)
    timed = evaluate(real, Paths(np.linspace(0, 1, 12), made), "signature distance")
    both = evaluate(Paths(np.linspace(0, 1, 12), real), Paths(np.linspace(0, 1, 12), made), "signature distance")
    assert timed.table["value"].tolist() == both.table["value"].tolist()
    fans = timed.pictures()[1][0]
    assert fans.axes[0].dataLim.x1 == 1.0


def test_captions_say_what_is_drawn():
    captions = [caption for _, caption in evaluate(walks(40), walks(40, 1, times=8), "signature distance").pictures()]
    assert "Marginal densities of all times together." in captions
    assert "Autocorrelation by lag." not in captions
    x, y = orbit(), orbit(1)
    for step, drawn in ((1.0, True), (0.5, False)):
        pair = Paths(np.arange(3000.0), x), Paths(step * np.arange(3000.0), y)
        pictures = evaluate(*pair, "state-space divergence").pictures()
        assert any("Koopman" in caption for _, caption in pictures) == drawn


def test_floors_of_other_data_are_refused(tmp_path):
    first = evaluate(cloud(30), cloud(30), "W1", seed=3)
    with pytest.raises(ValueError, match="has other real data"):
        evaluate(cloud(30, seed=1), cloud(30), "W1", seed=3, floors=first)
    with pytest.raises(ValueError, match="has seed 3, not 0: give seed=3"):
        evaluate(cloud(30), cloud(30), "W1", floors=first)
    for content in (b'{"rows": []}', b"[]", b"\xff\xfe\x00"):
        (tmp_path / "no.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"no\.json holds none"):
            evaluate(cloud(30), cloud(30), "W1", floors=tmp_path / "no.json")


def test_a_budget_says_what_it_left_out():
    with pytest.warns(UserWarning, match=r"not computed: .*MMD"):
        report = evaluate(REAL, MADE, budget_seconds=1e-9 + 0.01)
    assert 0 < len(report.table) < 12
    assert "used up" in report.left_out["MMD^2 at t=2"]
    with pytest.raises(ValueError, match="before any metric was done"):
        evaluate(REAL, MADE, budget_seconds=-1.0)


def test_forms(tmp_path):
    report = evaluate(REAL, MADE, metrics=["W1", "MMD^2"])
    report.to_html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("<img") == 3
    stored = json.loads(report.to_json(tmp_path / "r.json"))
    assert stored == json.loads((tmp_path / "r.json").read_text())
    assert len(stored["rows"]) == len(report.table)
    assert stored["kind"] == "populations"
    assert stored["results"][0]["result"]["extra"]["floor_size"] == 30
    assert report.to_markdown().count("\n") == len(report.table) + 1
    assert "W1" in str(report)
    assert "<table" in report._repr_html_()
    assert {"row", "metric", "value", "low", "high", "peer", "seconds"} == set(report.rows()[0])


def test_infinite_values_are_valid_json():
    far = evaluate(orbit(), orbit() + 1e6, "state-space divergence")
    assert far.table["value"].iloc[0] == np.inf
    assert json.loads(far.to_json())["rows"][0]["value"] is None


@pytest.mark.parametrize("name", METRICS)
def test_names_are_met_whatever_their_case_and_hyphens(name):
    from gendyn.evaluation.catalogue import chosen

    assert chosen(name.upper().replace(" ", "_").replace("-", " "), METRICS[name].kinds[0], 2) == [name]


@pytest.mark.parametrize(
    ("real", "generated", "more", "error", "message"),
    [
        (REAL, Snapshots([7.0], [cloud(5)]), {}, ValueError, "no time in common"),
        (REAL, cloud(5), {}, TypeError, "must both be Snapshots or Paths, or both arrays"),
        (cloud(5), cloud(5, dim=3), {}, ValueError, "same number of features; got 2 and 3"),
        (cloud(5), cloud(5), {"metrics": ["W3"]}, ValueError, "no metric 'W3'; did you mean 'W2'; for populations"),
        (cloud(5), cloud(5), {"metrics": []}, ValueError, "at least one metric"),
        (cloud(5), cloud(5), {"metrics": "CRPS"}, ValueError, "'CRPS' is a metric for forecasts, and these are popul"),
        (cloud(5), cloud(5), {"kind": "cells"}, ValueError, "kind must be 'auto', 'populations'"),
        (cloud(5), cloud(5), {"on_nan": "drop"}, ValueError, "on_nan must be 'raise' or 'count'"),
        (cloud(5), cloud(5), {"on_nan": "count"}, ValueError, "on_nan='count' is for paths"),
        (cloud(5), cloud(5), {"train": cloud(5)}, ValueError, "train is for paths; these are populations"),
        (
            walks(5),
            walks(5),
            {"train": walks(5, dim=3)},
            ValueError,
            "real and train must have the same number",
        ),
        (walks(5), walks(5), {"train": walks(5) * np.nan}, ValueError, "train paths must be finite"),
        (walks(5), walks(5), {"train": "none"}, TypeError, "train paths must be an array of numbers"),
        (orbit(), orbit(), {"reference": orbit()[..., :1]}, ValueError, "real and reference must have the same number"),
        (walks(5), walks(5), {"reference": walks(5)}, ValueError, "reference is for trajectories; these are paths"),
        (walks(5), cloud(5), {}, TypeError, "got 3 and 2 dimensions"),
        (REAL, REAL, {"kind": "paths"}, TypeError, "paths must be Paths or arrays; got Snapshots as real"),
        (walks(5), walks(5, dim=3), {}, ValueError, "same number of channels"),
        (walks(5), walks(5) * np.nan, {}, ValueError, "generated paths must be finite"),
        (np.zeros((2,) * 5), np.zeros((2,) * 5), {}, ValueError, "got 5 dimensions"),
        (walks(3), walks(3), {"options": {"W1": {}}}, ValueError, "'W1' is a metric for populations"),
    ],
)
def test_sentences(real, generated, more, error, message):
    with pytest.raises(error, match=message):
        evaluate(real, generated, **more)
