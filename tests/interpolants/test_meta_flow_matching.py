"""Meta flow matching: closed forms, unseen populations, conditions, sentences."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import gendyn as gd
from gendyn.evaluation import compare_populations, correlation_agreement
from gendyn.evaluation.frechet import gaussian_frechet
from gendyn.interpolants.condition import MemberConditions
from gendyn.interpolants.meta_objective import PairedClouds, _distinct_rows
from gendyn.sampling import ODE
from gendyn.systems import letters


def gaussians(count, seed, n=300):
    """Populations N(m, c^2 I) blurred by 0.5."""
    generator = torch.Generator().manual_seed(seed)
    members = {}
    for k in range(count):
        mean = 2 * torch.randn(2, generator=generator)
        width = 0.2 + 0.8 * torch.rand((), generator=generator)
        end = mean + width * torch.randn(n, 2, generator=generator)
        members[f"g{seed}-{k}"] = gd.Snapshots([0.0, 1.0], [end + 0.5 * torch.randn(n, 2, generator=generator), end])
    return gd.Cohort(members)


@pytest.mark.slow
def test_unseen_gaussians_move_as_those_that_were_seen():
    train, test = gaussians(64, 1), gaussians(16, 2)
    methods = {
        "FM": gd.MetaFlowMatching("none", coupling="paired", steps=3000),
        "kernel": gd.MetaFlowMatching("kernel", coupling="paired", steps=3000),
    }
    table = compare_populations(train, test, methods).table.set_index(["row", "metric"])["value"]
    assert table["kernel", "W2"] < 0.5 * table["identity", "W2"]
    assert table["FM", "W2"] > 0.5 * table["identity", "W2"]


def test_knowing_the_population_helps_where_it_must():
    """The sign of the displacement is the sign of the population's mean: no field that does not know it can tell."""
    generator = torch.Generator().manual_seed(0)

    def member(sign, k):
        x = torch.randn(60, 1, generator=generator) * 2 + sign
        return gd.Snapshots([0.0, 1.0], [x, x + 3 * sign])

    train = gd.Cohort({f"p{k}": member((-1) ** k, k) for k in range(20)})
    test = gd.Cohort({f"q{k}": member((-1) ** k, k) for k in range(6)})
    options = {"coupling": "paired", "steps": 300, "hidden": (32, 32), "batch_size": 32}
    methods = {name: gd.MetaFlowMatching(name, **options) for name in ("none", "stats")}
    found = compare_populations(train, test, methods, reference="none")
    w1 = found.table[found.table["metric"] == "W1"].set_index("row")
    assert w1.loc["stats", "value"] < 0.5 * w1.loc["none", "value"]
    assert w1.loc["stats", "difference_high"] < 0
    assert list(w1.index) == ["identity", "mean shift", "none", "stats"]
    assert w1.loc["identity", "value"] == pytest.approx(3.0, abs=1e-5)
    assert found.rows()[0]["row"] == "identity"
    assert "stats" in str(found)


def test_contraction_to_the_mean_of_each_population():
    """x1 = m + (x0 - m)/2 has velocity -(x - m)/2 at the start and -(x - m) at the end."""
    generator = torch.Generator().manual_seed(0)

    def member():
        mean = 2 * torch.randn(1, 2, generator=generator)
        x = mean + torch.randn(100, 2, generator=generator)
        return gd.Snapshots([0.0, 1.0], [x, mean + 0.5 * (x - mean)])

    train = gd.Cohort({f"p{k}": member() for k in range(40)})
    model = gd.MetaFlowMatching("stats", coupling="paired", steps=1500, hidden=(64, 64)).fit(train, progress=False)
    fresh = member()
    mean = fresh.samples[0].mean(0)
    process = model.process(fresh)
    x = mean + torch.tensor([[1.0, 0.0], [0.0, -1.0], [-0.5, 0.5]])
    for t, factor in ((0.0, -0.5), (1.0, -1.0)):
        at = x if t == 0 else mean + 0.5 * (x - mean)
        error = process.drift(torch.tensor(t), at) - factor * (at - mean)
        assert float(error.norm(dim=1).mean()) < 0.2


def test_paired_gaussian_noise_is_taken_out_by_a_known_map():
    """x0 = x1 + sigma e: the field is -sigma^2 (1-t) (x-m) / (c^2 + sigma^2 (1-t)^2), which shrinks to the spread c."""
    c = sigma = 0.5
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    field = ODE(lambda t, x: -(sigma**2) * (1 - t) * (x - mean) / (c**2 + sigma**2 * (1 - t) ** 2), dim=2)
    x = mean + torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = gd.sample(field, x, [0.0, 1.0], solver="rk4", step=0.01).values[:, -1]
    torch.testing.assert_close(moved, mean + 0.70710678 * (x - mean), rtol=0, atol=1e-7)
    eye = np.eye(2)
    identity = gaussian_frechet(np.zeros(2), (c**2 + sigma**2) * eye, np.zeros(2), c**2 * eye)
    assert identity**0.5 == pytest.approx(0.29289, abs=5e-6)


def test_deep_fields_with_skips(tmp_path):
    data = gaussians(6, 3, n=60)
    options = {"coupling": "paired", "steps": 400, "hidden": (32,) * 7, "batch_size": 64}
    deep = gd.MetaFlowMatching("stats", skip=True, **options).fit(data, progress=False)
    plain = gd.MetaFlowMatching("stats", **options).fit(data, progress=False)
    last = [model.history_["loss"].iloc[-5:].mean() for model in (deep, plain)]
    assert last[0] < last[1]
    deep.save(tmp_path / "deep.safetensors")
    again = gd.load(tmp_path / "deep.safetensors")
    start = next(iter(data.values()))
    assert torch.equal(again.sample(start).values, deep.sample(start).values)


def test_conditions_and_covariates():
    generator = torch.Generator().manual_seed(0)

    def member(dose):
        x = torch.randn(50, 1, generator=generator)
        kinds = pd.DataFrame({"kind": np.where(np.arange(50) % 2, "T", "B")})
        return gd.Snapshots([0.0, 1.0], [x, x + dose], obs=[kinds, kinds])

    doses = {f"p{k}": float(k % 3) for k in range(9)}
    data = gd.Cohort({name: member(dose) for name, dose in doses.items()}, conditions=doses)
    model = gd.MetaFlowMatching(
        "deepsets",
        covariates="kind",
        coupling="paired",
        mode="alternate",
        steps=600,
        hidden=(32, 32),
        lr=3e-3,
        batch_size=32,
    ).fit(data, progress=False)
    start = member(0.0)
    moved = [float(model.sample(start, condition=d).values[:, -1].mean()) for d in (0.0, 1.0, 2.0)]
    assert moved[1] - moved[0] == pytest.approx(1.0, abs=0.1)
    assert moved[2] - moved[1] == pytest.approx(1.0, abs=0.1)
    with pytest.raises(ValueError, match="was fitted with conditions; give condition="):
        model.sample(member(0.0))
    with pytest.raises(ValueError, match="give Snapshots with obs"):
        model.process(torch.zeros(30, 1), condition=1.0)


def test_alternate_steps_train_one_part_at_a_time():
    data = gaussians(4, 3, n=40)
    model = gd.MetaFlowMatching("stats", coupling="paired", mode="alternate", steps=1, hidden=(8,), ema=None)
    fresh = gd.MetaFlowMatching("stats", coupling="paired", mode="joint", steps=1, hidden=(8,), ema=None)
    one, both = model.fit(data, progress=False), fresh.fit(data, progress=False)
    start = one._network(2, 0)
    assert torch.equal(one.field_.encoder.layer.weight, start.encoder.layer.weight)  # step 0 is the field's
    assert not torch.equal(both.field_.encoder.layer.weight, start.encoder.layer.weight)


def test_letters_are_blurred_glyphs():
    cohort = letters("OX", rotations=2, points=300, seed=1)
    assert list(cohort) == ["O-0", "O-1", "X-0", "X-1"]
    start, end = cohort["O-0"].samples
    assert float((start - end).std()) == pytest.approx(0.5, abs=0.03)
    assert float(end.norm(dim=1).max()) < 3 * math.sqrt(2) + 0.3
    assert float(end.norm(dim=1).min()) > 0.8  # an O has a hole
    assert letters("X", rotations=1, points=300, seed=1)["X-0"] == cohort["X-0"]
    with pytest.raises(ValueError, match="has no area"):
        letters(" ")
    with pytest.raises(ValueError, match="at least 1 rotation and 2 points"):
        letters("A", rotations=0)


def test_rows_are_distinct_and_of_their_population():
    sizes = torch.tensor([5, 9, 7])
    rows = _distinct_rows(sizes, torch.tensor([2, 0]), 6, torch.Generator().manual_seed(0))
    assert rows.shape == (2, 5)
    assert set(rows[0].tolist()) <= set(range(14, 21))
    assert sorted(rows[1].tolist()) == [0, 1, 2, 3, 4]
    assert len(PairedClouds.of([torch.zeros(2, 1)], [torch.zeros(3, 1)])) == 1


def test_member_conditions():
    many = MemberConditions.fit({"a": ("x", 1.0), "b": ("y", 3.0)})
    assert many(("y", 2.0)).tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="must have the same entries; 'b' has"):
        MemberConditions.fit({"a": ("x", 1.0), "b": ("y",)})
    with pytest.raises(ValueError, match="a condition needs the entries condition 0, condition 1"):
        many(("x",))
    with pytest.raises(ValueError, match="as in the fit; got"):
        many(("x", 1.0, 2.0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoder": "magic"}, "encoder must be one of"),
        ({"coupling": "magic"}, "coupling must be 'paired'"),
        ({"mode": "other"}, "mode must be 'joint' or 'alternate'"),
        ({"mode": "alternate"}, "has nothing to train"),
        ({"covariates": "kind"}, "sees no covariates"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"validation_fraction": 0.9}, "validation_fraction must lie"),
        ({"patience": 3}, "there is nothing to watch"),
        ({"encoder": "gcn", "neighbours": 40}, "needs more start cells; 'g3-0' has 40"),
        ({"encoder": "deepsets", "covariates": "kind"}, "a member has none"),
    ],
)
def test_sentences_of_fit(options, words):
    with pytest.raises(ValueError, match=words):
        gd.MetaFlowMatching(**options).fit(gaussians(3, 3, n=40), progress=False)


def test_sentences_about_cohorts():
    x = torch.zeros(5, 1)
    model = gd.MetaFlowMatching("none", coupling="paired", steps=2, hidden=(4,))
    with pytest.raises(ValueError, match="'a' is seen at 1"):
        model.fit(gd.Cohort({"a": gd.Snapshots([0.0], [x])}), progress=False)
    with pytest.raises(ValueError, match="'b' is seen at"):
        members = {"a": gd.Snapshots([0.0, 1.0], [x, x]), "b": gd.Snapshots([0.0, 2.0], [x, x])}
        model.fit(gd.Cohort(members), progress=False)
    with pytest.raises(ValueError, match="paired populations must have equal sizes; 'a' has"):
        model.fit(gd.Cohort({"a": gd.Snapshots([0.0, 1.0], [x, x[:3]])}), progress=False)
    with pytest.raises(ValueError, match=r"at least 2 cells; 'a' has \[1, 5\]"):
        model.fit(gd.Cohort({"a": gd.Snapshots([0.0, 1.0], [x[:1], x])}), progress=False)
    with pytest.raises(ValueError, match="counts every cell of a population alike; 'a' has weights"):
        weights = [torch.arange(5.0)] * 2
        model.fit(gd.Cohort({"a": gd.Snapshots([0.0, 1.0], [x, x], weights)}), progress=False)
    data = gaussians(3, 3, n=40)
    model = model.fit(data, progress=False)
    with pytest.raises(ValueError, match="times must begin at 0 and end by 1"):
        model.sample(times=[0.5, 1.0])
    with pytest.raises(ValueError, match=r"shape \(n, 2\)"):
        model.sample(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="fitted without conditions"):
        model.sample(condition="a")
    with pytest.raises(ValueError, match="is in both cohorts"):
        compare_populations(data, data, {})
    with pytest.raises(ValueError, match="reference must be one of identity, mean shift"):
        compare_populations(data, gaussians(2, 4, n=40), {}, reference="best")


def test_correlation_agreement_leaves_constants_out():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    flat = x.clone()
    flat[:, 0] = 1.0
    assert correlation_agreement(flat, x) == pytest.approx(1.0)
    assert math.isnan(correlation_agreement(x[:, :2], x[:, :2]))


def test_report_of_populations(tmp_path):
    found = compare_populations(gaussians(2, 3, n=30), gaussians(2, 4, n=30), {}, floor=None)
    found.to_html(tmp_path / "report.html")
    assert "identity" in (tmp_path / "report.html").read_text()
