"""One call that scores generated against real."""

import json

import numpy as np
import pytest
import torch

from gendyn import evaluate
from gendyn.data import Paths, Snapshots
from gendyn.evaluation import METRICS


def cloud(n, shift=0.0, seed=0, dim=2):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)) + shift


REAL = Snapshots([0.0, 1.0, 2.0], [cloud(60, k, k) for k in range(3)])
MADE = Snapshots([1.0, 2.0, 3.0], [cloud(50, k + 0.5, 10 + k) for k in range(1, 4)])


def test_common_times_and_their_mean():
    report = evaluate(REAL, MADE)
    assert set(report.table["metric"]) == set(METRICS)
    assert sorted(report.table["time"].dropna().unique()) == [1.0, 2.0]
    w1 = report.table[report.table["metric"] == "W1"].set_index("time")["value"]
    assert w1[np.nan] == pytest.approx((w1[1.0] + w1[2.0]) / 2)
    assert (report.table[["low", "value", "high"]].diff(axis=1).iloc[:, 1:] >= 0).all().all()


def test_paths_are_compared_at_their_times():
    values = torch.stack([cloud(40, k, k) for k in range(3)], dim=1)
    report = evaluate(REAL, Paths([0.0, 1.0, 2.0], values).snapshots(), metrics=["W1"])
    both = evaluate(Paths([0.0, 1.0], values[:, :2]), Paths([0.0, 1.0], values[:, :2] + 1), metrics=["W1"])
    assert len(report.table) == 4
    np.testing.assert_allclose(both.table["value"], np.sqrt(2), rtol=1e-5)


def test_equal_populations_are_at_zero():
    report = evaluate(cloud(100), cloud(100), metrics=["W1", "sliced W2"])
    assert report.table["value"].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)


def test_seeds():
    one, same, other = (evaluate(REAL, MADE, metrics=["W1"], seed=s).table for s in (1, 1, 2))
    np.testing.assert_array_equal(one["floor"], same["floor"])
    assert (one["floor"] != other["floor"]).any()


def test_a_budget_says_what_it_left_out():
    with pytest.warns(UserWarning, match="not computed: .*MMD"):
        report = evaluate(REAL, MADE, budget_seconds=1e-9 + 0.01)
    assert 0 < len(report.table) < 12
    with pytest.raises(ValueError, match="before any metric was done"):
        evaluate(REAL, MADE, budget_seconds=-1.0)


def test_forms(tmp_path):
    report = evaluate(REAL, MADE, metrics=["W1", "MMD^2"])
    report.to_html(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("<img") == 3
    stored = json.loads(report.to_json(tmp_path / "r.json"))
    assert stored == json.loads((tmp_path / "r.json").read_text())
    assert len(stored["rows"]) == len(report.table)
    assert report.to_markdown().count("\n") == len(report.table) + 1
    assert "W1" in str(report)
    assert "<table" in report._repr_html_()
    assert {"row", "metric", "value", "low", "high", "peer", "seconds"} == set(report.rows()[0])


@pytest.mark.parametrize(
    ("real", "generated", "more", "error", "message"),
    [
        (REAL, Snapshots([7.0], [cloud(5)]), {}, ValueError, "no time in common"),
        (REAL, cloud(5), {}, TypeError, "must both be Snapshots, Paths or arrays"),
        (cloud(5), cloud(5, dim=3), {}, ValueError, "same number of features; got 2 and 3"),
        (cloud(5), cloud(5), {"metrics": ["W3"]}, ValueError, "there is no metric 'W3'; there are W1"),
        (cloud(5), cloud(5), {"metrics": []}, ValueError, "at least one metric"),
    ],
)
def test_sentences(real, generated, more, error, message):
    with pytest.raises(error, match=message):
        evaluate(real, generated, **more)
