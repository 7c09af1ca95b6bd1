"""What bridges refuse, one by one: every sentence says what was given, what is needed and what to do."""

from __future__ import annotations

import re

import pytest
import torch

import gendyn as gd
from gendyn.sampling import SDE, LinearProcess

X = torch.rand(6, 2, generator=torch.Generator().manual_seed(0)) + 1
DATA = gd.Snapshots([0.0, 1.0], [X, X + 1])
BELOW = gd.Snapshots([0.0, 1.0], [X, X - 3])
NAN, HOLE = float("nan"), X.clone().index_fill(0, torch.tensor(2), float("nan"))
SILENT = LinearProcess(torch.zeros(2, 2), torch.zeros(2), [[1.0], [0.0]])
EXPLOSIVE = SDE(lambda t, x: 5 * x**3, lambda t, x: 0.1 + 0 * x, 2)


def bridge(data=DATA, reference="brownian", **options):
    options = options if options or reference != "brownian" else {"sigma": 1.0}
    return gd.SchrodingerBridge(reference, **options).fit(data, progress=False)


def refinement(data=DATA, family="linear", **options):
    return gd.ReferenceRefinement(family, intervals=None, iterations=2, **options).fit(data, progress=False)


# What is done; what the sentence needs, what it was given, and what it advises.
REFUSED = {
    "one population, bridge": (
        lambda: bridge(gd.Snapshots([0.0], [X])),
        ("SchrodingerBridge needs populations at two times or more", "got 1", "add a population"),
    ),
    "one population, refinement": (
        lambda: refinement(gd.Snapshots([0.0], [X])),
        ("ReferenceRefinement needs populations at two times or more", "got 1", "add a population"),
    ),
    "falling times": (
        lambda: gd.Snapshots([0.0, 2.0, 1.0], [X, X, X]),
        ("times must increase strictly", "got 1 after 2 at position 2", "sort them"),
    ),
    "equal times": (
        lambda: gd.Snapshots([0.0, 1.0, 1.0], [X, X, X]),
        ("times must increase strictly", "got 1 after 1 at position 2", "pool what was measured at one time"),
    ),
    "other features": (
        lambda: gd.Snapshots([0.0, 1.0], [X, X[:, :1]]),
        ("same number of features", r"got \[2, 1\]", "at time 1 keep those of the first"),
    ),
    "holes": (
        lambda: gd.Snapshots([0.0, 1.0], [X, HOLE]),
        ("samples at time 1 must be finite", r"in 1 of 6 rows \(first: 2\)", "drop or impute them"),
    ),
    "infinity": (
        lambda: gd.Snapshots([0.0, 1.0], [X / 0.0, X]),
        ("samples at time 0 must be finite", "in 6 of 6 rows", "drop or impute them"),
    ),
    "empty population": (
        lambda: gd.Snapshots([0.0, 1.0], [X, X[:0]]),
        ("population at time 1 is empty", r"shape \(0, 2\)", "leave that time out"),
    ),
    "negative weight": (
        lambda: gd.Snapshots([0.0, 1.0], [X, X], [torch.ones(6), torch.tensor([1.0, 1, -2, 1, 1, 1])]),
        ("weights must not be negative", "got -2 at time 1, row 2", "leave out what does not count"),
    ),
    "no weight": (
        lambda: gd.Snapshots([0.0, 1.0], [X, X], [torch.ones(6), torch.zeros(6)]),
        ("at least one must be positive", "all weights at time 1 are zero", "leave that time out"),
    ),
    "weights of other rows": (
        lambda: gd.Snapshots([0.0, 1.0], [X, X], [torch.ones(6), torch.ones(5)]),
        (r"must have shape \(6,\)", r"weights at time 1.*got \(5,\)", "give one a row"),
    ),
    "no noise, bridge": (
        lambda: bridge(sigma=0.0),
        ("sigma must be positive and finite", "got 0.0", "may be left out, and is estimated"),
    ),
    "no noise, refinement": (
        lambda: refinement(sigma=-1.0),
        ("sigma must be positive", "got -1.0", "leave it out to have it learned"),
    ),
    "no noise, family": (
        lambda: gd.references.LotkaVolterra(sigma=NAN),
        ("sigma must be positive and finite", "got nan", "leave it out to start from data"),
    ),
    "before the first, bridge": (
        lambda: bridge().interpolate(-0.5),
        ("from 0 to 1", "time -0.5 lies outside", "use forecast for what comes after the last"),
    ),
    "after the last, bridge": (
        lambda: bridge().interpolate(2.0),
        ("from 0 to 1", "time 2 lies outside", "use forecast"),
    ),
    "after the last, refinement": (
        lambda: refinement().interpolate(3.0),
        ("from 0 to 1", "time 3 lies outside", "use forecast"),
    ),
    "a forecast of what is known": (
        lambda: refinement().forecast([0.5]),
        ("a forecast needs times after 1", r"got \[0.5\]", "where it starts"),
    ),
    "a feature without noise": (
        lambda: bridge(reference=SILENT),
        ("no transition density", "noise does not reach feature 1", "give every feature noise.*PartlyObserved"),
    ),
    "proportional noise below 0, bridge": (
        lambda: bridge(BELOW, sigma=0.1, volatility="proportional"),
        (
            "proportional noise vanishes at 0",
            r"feature 0 of row 0 at time 1 is -",
            "raise the values to at least 1e-06",
        ),
    ),
    "proportional noise below 0, refinement": (
        lambda: refinement(BELOW, gd.references.LotkaVolterra()),
        ("proportional noise vanishes at 0", "feature 0 of row 0 at time 1 is -", "or take volatility='constant'"),
    ),
    "an explosive reference": (
        lambda: bridge(reference=EXPLOSIVE),
        ("the reference moves too fast for its substeps", r"rates of .* with steps of", "take .* as many substeps"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_sentence(case):
    act, words = REFUSED[case]
    with pytest.raises(ValueError, match=words[0]) as caught:
        act()
    for part in words:
        assert re.search(part, str(caught.value)), (part, str(caught.value))


def test_a_coupling_that_did_not_converge_is_warned_of():
    far = gd.Snapshots([0.0, 2.0], [torch.linspace(0, 1, 30), torch.linspace(50, 51, 30)])
    with pytest.warns(UserWarning) as caught:
        bridge(far, sigma=0.01, max_iterations=3)
    said = str(caught[0].message)
    for part in ("between times 0 and 2 misses its populations by", "sigma is small against the displacement", "raise"):
        assert part in said


@pytest.mark.parametrize("model", [bridge, refinement])
def test_single_points_and_equal_rows_are_fine(model):
    for samples in ([X[:1], X, X[1:2]], [X[:1].expand(5, 2), X, X], [X[[0, 0, 1, 1]], X[[2, 2, 2]], X[[3, 3]]]):
        fitted = model(gd.Snapshots([0.0, 1.0, 2.0], samples))
        assert torch.isfinite(fitted.interpolate(0.5, 20)).all()
        for k, t in enumerate((0.0, 1.0, 2.0)):
            points = fitted.interpolate(t, 20)
            assert (points[:, None] == samples[k]).all(-1).any(1).all()


@pytest.mark.parametrize("model", [bridge, refinement])
def test_weights_need_not_sum_to_one(model):
    weights = [torch.linspace(1, 2, 6), torch.linspace(3, 1, 6)]
    plain, scaled = (
        model(gd.Snapshots([0.0, 1.0], [X, X + 1], [factor * w for w in weights])) for factor in (1.0, 7.0)
    )
    assert plain.kl_ == pytest.approx(scaled.kl_, abs=1e-5)
