"""Tables of coupled tuples: who is joined to whom by labels, by price and by parts, and what models make of it."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
import torch

import gendyn
from gendyn.coupling import exact_plan, partial_plan, sinkhorn_plan
from gendyn.data import Snapshots
from gendyn.interpolants import couple
from gendyn.interpolants.ends import Ends, HeldEnds

SMALL = {"hidden": (32, 32), "steps": 400, "batch_size": 256}


def cloud(n: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) + shift


def labelled(n0: int = 60, n1: int = 60) -> Snapshots:
    """Two clusters that change places, and say so."""
    frames = [pd.DataFrame({"kind": ["a", "b"] * (n // 2), "depth": torch.linspace(0, 9, n).numpy()}) for n in (n0, n1)]
    samples = []
    for k, n in enumerate((n0, n1)):
        x = 0.2 * cloud(n, k)
        sides = torch.where(torch.arange(n) % 2 == 0, -1.0, 1.0) * (1 if k == 0 else -1)
        x[:, 0] += 3 * sides
        x[:, 1] += torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)
        samples.append(x)
    return Snapshots([0.0, 1.0], samples, obs=frames)


@pytest.mark.parametrize("block", [None, 20])
@pytest.mark.parametrize(("coupling", "weight"), [("ot", None), ("ot", 100.0), ("sinkhorn", 100.0)])
def test_matched_labels_stay_together(coupling: str, weight: float | None, block: int | None) -> None:
    data = labelled()
    table = couple(data, coupling, match="kind", match_weight=weight, block=block, n_paths=500)
    kinds = [frame["kind"].to_numpy()[table[:, k].numpy()] for k, frame in enumerate(data.obs)]
    same = float((kinds[0] == kinds[1]).mean())
    assert same == 1.0 if block is None else same > 0.8
    plain = couple(data, coupling, block=block, n_paths=500)
    kinds = [frame["kind"].to_numpy()[plain[:, k].numpy()] for k, frame in enumerate(data.obs)]
    assert (kinds[0] == kinds[1]).mean() < 0.2


def test_matched_numbers_pay_for_their_difference() -> None:
    data = labelled()
    table = couple(data, match="depth", match_weight=1e6, n_paths=500)
    assert torch.equal(table[:, 0], table[:, 1])


def test_tables_follow_the_plans() -> None:
    x, y = cloud(12, 0), cloud(15, 1, 1.0)
    data = Snapshots([0.0, 1.0], [x, y])
    plans = {
        ("partial", 0.5): partial_plan(x, y, 0.5),
        ("unbalanced", 1.0): sinkhorn_plan(x, y, 0.3, relaxation=1.0).plan,
    }
    for coupling, plan in plans.items():
        table = couple(data, coupling, regularisation=0.3, n_paths=100_000)
        counts = torch.zeros(12, 15, dtype=torch.float64)
        counts.index_put_((table[:, 0], table[:, 1]), torch.ones(len(table), dtype=torch.float64), accumulate=True)
        assert float((counts / len(table) - plan.to_dense()).abs().sum()) < 0.05
    euclidean = couple(data, cost="euclidean", n_paths=50_000)
    cost = float((x[euclidean[:, 0]] - y[euclidean[:, 1]]).norm(dim=1).mean())
    assert cost == pytest.approx(exact_plan(x, y, cost="euclidean").cost(x, y, "euclidean"), rel=0.02)


@pytest.mark.parametrize(
    ("coupling", "block"), [(("partial", 0.5), None), (("unbalanced", 3.0), None), (("unbalanced", 3.0), 100)]
)
def test_flow_matching_leaves_strangers_out(coupling: tuple[str, float], block: int | None) -> None:
    """Half of the cells of either time are strangers, far away on either side: the flow of the rest is a shift."""
    x = 0.3 * cloud(100, 2)
    shift = torch.tensor([1.0, 0.0])
    strangers = 0.3 * cloud(100, 3)
    data = Snapshots([0.0, 1.0], [torch.cat([x, strangers - 20.0]), torch.cat([x + shift, strangers + 20.0])])
    options = SMALL | {"sigma": 0.01, "scale": "none", "regularisation": 0.1}
    model = gendyn.FlowMatching(coupling, block=block, **options).fit(data, progress=False)
    moved = model.sample(x, [0.0, 1.0]).values[:, -1] - x
    assert ((moved - shift).mean(0).abs() < 0.15).all()
    plain = gendyn.FlowMatching("ot", **options).fit(data, progress=False)
    assert (plain.sample(x, [0.0, 1.0]).values[:, -1] - x).norm(dim=1).mean() > 10


def test_flow_matching_takes_matched_cells_where_their_label_went() -> None:
    data = labelled(100, 120)
    x = data.samples[0]
    for match, moved in (("kind", True), (None, False)):
        model = gendyn.FlowMatching("ot", match=match, sigma=0.05, **SMALL).fit(data, progress=False)
        end = model.sample(data.only([0.0]), [1.0]).values[:, -1]
        crossed = (end[:, 0].sign() != x[:, 0].sign()).double().mean()
        assert crossed > 0.95 if moved else crossed < 0.05


def test_conditions_that_transport_ignores_are_warned_of() -> None:
    data = labelled()
    options = {"condition": "kind", "steps": 2, "hidden": (4,)}
    with pytest.warns(UserWarning, match="transport that ignores 'kind' gives each of its values a source of its own"):
        gendyn.StochasticInterpolant(**options).fit(data, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for more in ({"match": "kind"}, {"coupling": "independent"}):
            gendyn.StochasticInterpolant(**options, **more).fit(data, progress=False)


def test_held_ends_are_the_same_pairs_in_another_order() -> None:
    solved = []

    def draw(gap: torch.Tensor, generator: torch.Generator) -> Ends:
        solved.append(len(gap))
        return Ends(torch.randn(len(gap), 1, generator=generator), torch.arange(len(gap))[:, None].float())

    def at(held: HeldEnds, step: int) -> Ends:
        return held.at(step)(torch.zeros(9, dtype=torch.int64), torch.Generator().manual_seed(step))

    held = HeldEnds(draw, 3, seed=1)
    ends = [at(held, step) for step in range(6)]
    assert solved == [9, 9]
    for one, two in ((0, 1), (0, 2), (3, 5)):
        first, second = (e.target[:, 0].argsort() for e in (ends[one], ends[two]))
        assert torch.equal(ends[one].source[first], ends[two].source[second])
        assert not torch.equal(ends[one].target, ends[two].target)
    assert not torch.equal(ends[0].source.sort(0).values, ends[3].source.sort(0).values)
    # A fit that is resumed in the middle sees what the undisturbed one sees.
    again = at(HeldEnds(draw, 3, seed=1), 4)
    assert torch.equal(again.source, ends[4].source)
    assert torch.equal(again.target, ends[4].target)


def test_reused_pairs_learn_as_well() -> None:
    """Noise to N(3, 1/4): b of the exact coupling moves z to 3 + z / 2."""
    x = 3 + 0.5 * cloud(2000, 5)
    model = gendyn.StochasticInterpolant("one-sided-linear", coupling="ot", reuse=4, **SMALL).fit(
        Snapshots([0.0], [x]), progress=False
    )
    made = model.sample(n=2000, seed=0).values[:, -1]
    assert ((made.mean(0) - 3).abs() < 0.1).all()
    assert ((made.std(0) - 0.5).abs() < 0.1).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coupling": ("partial", 2.0)}, r"mass must lie in \(0, 1\]"),
        ({"coupling": ("unbalanced", -1.0)}, "relaxation must be positive"),
        ({"coupling": ("partly", 0.5)}, "a coupling that leaves cells out is"),
        ({"coupling": "independent", "match": "kind"}, "has no cost that match='kind' could enter"),
        ({"coupling": "sinkhorn", "match": "kind"}, "needs a finite match_weight"),
        ({"match": "kind", "match_weight": -1.0}, "match_weight must be positive and finite"),
        ({"match_weight": 1.0}, "give match= a column of obs"),
        ({"match": "sort"}, "'sort' must be a column"),
        ({"match": "depth"}, "holds numbers, which are rarely equal: give a match_weight"),
        ({"cost": "city"}, "cost must be 'sqeuclidean'"),
    ],
)
def test_sentences(options: dict, words: str) -> None:
    for kind in (gendyn.FlowMatching, gendyn.StochasticInterpolant):
        with pytest.raises(ValueError, match=words):
            kind(**options, steps=2, hidden=(4,)).fit(labelled(), progress=False)


def test_sentences_of_one_and_of_many_populations() -> None:
    x = cloud(10, 0)
    many = Snapshots([0.0, 1.0, 2.0], [x, x, x])
    with pytest.raises(ValueError, match=r"joins two populations and got 3: fit each gap by itself"):
        gendyn.FlowMatching(("partial", 0.5)).fit(many, progress=False)
    one = Snapshots([0.0], [x])
    for options, words in (
        ({"coupling": ("partial", 0.5)}, "joins two populations; .* has one"),
        ({"match": "kind"}, "give condition= to join noise to data within each label"),
        ({"reuse": 0}, "reuse must be at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            gendyn.StochasticInterpolant("one-sided-linear", **options).fit(one, progress=False)
    with pytest.raises(ValueError, match="above it for one-sided schedules alone"):
        gendyn.StochasticInterpolant(reuse=2).fit(many, progress=False)
