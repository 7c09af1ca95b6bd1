"""The door of the forecasts: members beside outcomes, as arrays and as paths."""

import numpy as np
import pytest
import torch

from gendyn import Paths
from gendyn.evaluation import coverage, crps, crps_scores, energy_scores, rank_histogram, variogram_scores
from gendyn.evaluation.forecast import forecasts

RNG = np.random.default_rng(0)
Y = RNG.normal(size=(6, 4, 2))
X = RNG.normal(size=(6, 10, 4, 2))


def test_paths_and_arrays_are_the_same():
    times = [0.0, 1.0, 2.5, 3.0]
    outcome, members = Paths(times, Y), Paths(times, X.reshape(60, 4, 2))
    for real in (Y, outcome, torch.from_numpy(Y)):
        for generated in (X, members, torch.from_numpy(X)):
            made = forecasts(real, generated, metric="m")
            np.testing.assert_array_equal(made.members, X)
            np.testing.assert_array_equal(crps_scores(real, generated), crps_scores(Y, X))


def test_fewer_axes():
    for y, x in ((Y[:, 0, 0], X[:, :, 0, 0]), (Y[:, :, 0], X[:, :, :, 0]), (Y[:, :, :1], X[:, :, :, 0])):
        made = forecasts(y, x, metric="m")
        assert made.members.shape == (6, 10, *made.outcome.values.shape[1:])
    np.testing.assert_array_equal(crps_scores(Y[:, 0, 0], X[:, :, 0, 0]), crps_scores(Y[:, :1, :1], X[:, :, :1, :1]))


def test_blocks_do_not_show(monkeypatch):
    mask = RNG.random(Y.shape) < 0.7
    real = Paths(range(4), Y, mask=mask)
    whole = [f(real, X) for f in (crps_scores, energy_scores, variogram_scores)]
    monkeypatch.setattr("gendyn.evaluation.forecast._BLOCK", 200)
    for f, expected in zip((crps_scores, energy_scores, variogram_scores), whole, strict=True):
        np.testing.assert_allclose(f(real, X), expected, rtol=1e-12)


def test_a_mask_that_hides_nothing_is_no_mask():
    real = Paths(range(4), Y, mask=np.ones(Y.shape, dtype=bool))
    for f in (crps_scores, energy_scores, variogram_scores):
        np.testing.assert_array_equal(f(real, X), f(Y, X))


def test_what_was_not_observed_does_not_count():
    mask = RNG.random(Y.shape) < 0.6
    mask[0] = False
    wild_y, wild_x = np.where(mask, Y, np.nan), np.where(mask[:, None], X, np.nan)
    real = Paths(range(4), wild_y, mask=mask)
    for f in (crps_scores, energy_scores, variogram_scores):
        np.testing.assert_array_equal(f(real, wild_x), f(Paths(range(4), Y, mask=mask), X))
        assert np.isnan(f(real, wild_x)[0])
    kept = crps(real, wild_x)
    assert kept.n_real == 5
    with pytest.warns(UserWarning, match="10 members are too few for intervals of 90%, 95%"):
        assert coverage(real, wild_x, level=0.5).value <= 1.0
    assert sum(rank_histogram(real, wild_x).extra["counts"]) == mask.sum()


def test_times_of_their_own_and_unequal_lengths():
    times = np.array([[0.0, 1.0, 2.0, 2.0], [0.0, 0.5, 3.0, 4.0]])
    real = Paths(times, Y[:2], lengths=[3, 4])
    members = Paths(np.repeat(times, 5, 0), X[:2, :5].reshape(10, 4, 2), lengths=[3] * 5 + [4] * 5)
    scores = crps_scores(real, members)
    assert scores[0] == pytest.approx(crps_scores(Y[:1, :3], X[:1, :5, :3])[0])
    assert scores[1] == pytest.approx(crps_scores(Y[1:2], X[1:2, :5])[0])


def test_broken_members_are_refused_or_counted():
    broken = X.copy()
    broken[2, 3, 1, 0] = np.inf
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 6 forecasts: count them with on_nan='count'"):
        crps(Y, broken)
    result = crps(Y, broken, on_nan="count")
    assert result.extra["dropped"] == 1
    keep = np.arange(6) != 2
    assert result.value == pytest.approx(crps(Y[keep], X[keep]).value)


def test_float32_members_are_scored_in_float64():
    y = np.full((3, 1, 1), 1e4)
    x = (1e4 + np.array([-0.001, 0.001, 0.002]) * np.ones((3, 1)))[:, :, None, None].astype(np.float32)
    expected = crps_scores(y, x.astype(np.float64))
    np.testing.assert_array_equal(crps_scores(y, x), expected)


@pytest.mark.parametrize(
    ("real", "generated", "words"),
    [
        (Y, X[:5], r"m needs members \(6, M, 4, 2\) for outcomes \(6, 4, 2\); got \(5, 10, 4, 2\)"),
        (Y, X[:, :1], "at least two members of each forecast; got 1"),
        (Y, X[0], r"needs members \(n, M, T, d\)"),
        (
            Paths(range(4), Y),
            Paths(range(4), X.reshape(60, 4, 2)[:59]),
            "those of the first outcome first; got 59 paths",
        ),
        (Paths(range(4), Y), Paths(range(3), X.reshape(60, 4, 2)[:, :3]), "got 3 and 4 times"),
        (
            Paths(range(4), Y),
            Paths([0.0, 1.0, 2.0, 3.5], X.reshape(60, 4, 2)),
            "outcome 0 has 3 and a member 3.5 at position 3",
        ),
        (np.where(Y > 9, Y, np.nan), X, "real paths must be finite"),
    ],
)
def test_sentences(real, generated, words):
    with pytest.raises(ValueError, match=words):
        forecasts(real, generated, metric="m")
    with pytest.raises(ValueError, match="on_nan must be"):
        forecasts(Y, X, metric="m", on_nan="drop")
