"""Cheap forecasters against numpy, least squares, and the laws of their ensembles."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from gendyn import Paths
from gendyn.evaluation import (
    FORECASTERS,
    Climatology,
    LastValue,
    LinearInterpolation,
    RidgeRegression,
    coverage,
    crps,
    training_free_forecasts,
)

TIMES = [0.0, 1.0, 2.5, 3.0, 4.0, 6.0]


def walks(n, seed, dim=2):
    return np.random.default_rng(seed).normal(size=(n, len(TIMES), dim)).cumsum(1)


def masked(x, share, seed=0):
    return Paths(TIMES, x, mask=np.random.default_rng(seed).random(x.shape) >= share)


KNOWN, WANTED = [0.0, 1.0, 3.0], [2.5, 4.0, 6.0]


def test_the_last_value_is_the_last_that_was_seen():
    x = walks(50, 0)
    source = masked(x, 0.4)
    found = LastValue().fit(Paths(TIMES, walks(20, 1)), KNOWN, WANTED).predict(source).values.numpy()
    mean = walks(20, 1)[:, [2, 4, 5]].mean(0)
    seen = source.mask.numpy()
    for i in range(50):
        for k in range(2):
            known = [t for t in (0, 1, 3) if seen[i, t, k]]
            for w, at in enumerate((2, 4, 5)):
                before, after = [t for t in known if t < at], [t for t in known if t > at]
                expected = x[i, before[-1], k] if before else x[i, after[0], k] if after else mean[w, k]
                assert found[i, w, k] == pytest.approx(expected)


def test_lines_are_those_of_numpy_inside_and_go_on_outside():
    x = walks(30, 0)
    found = LinearInterpolation().fit(x_of(x), KNOWN, WANTED).predict(x_of(x)).values.numpy()
    expected = 0.25 * x[:, 1] + 0.75 * x[:, 3]
    np.testing.assert_allclose(found[:, 0], expected)
    slope = (x[:, 3] - x[:, 1]) / 2.0
    np.testing.assert_allclose(found[:, 1], x[:, 3] + slope)
    np.testing.assert_allclose(found[:, 2], x[:, 3] + 3 * slope)


def x_of(x):
    return Paths(TIMES, x)


def test_one_observation_is_continued_as_it_is_and_none_by_the_mean():
    x = np.ones((3, 6, 1)) * [[[1.0]], [[5.0]], [[9.0]]]
    mask = np.zeros((3, 6, 1), dtype=bool)
    mask[0, 1], mask[1, 3] = True, True
    found = LinearInterpolation().fit(x_of(walks(9, 0, 1) + 4), KNOWN, WANTED).predict(Paths(TIMES, x, mask=mask))
    assert found.values[0, :, 0].tolist() == [1.0, 1.0, 1.0]
    assert found.values[1, :, 0].tolist() == [5.0, 5.0, 5.0]
    np.testing.assert_allclose(found.values[2], (walks(9, 0, 1) + 4)[:, [2, 4, 5]].mean(0))


def test_of_many_paths_ridge_is_least_squares():
    train, test = walks(3000, 0), walks(100, 1)
    found = RidgeRegression().fit(x_of(train), KNOWN, WANTED).predict(x_of(test)).values.numpy()
    known, wanted = [0, 1, 3], [2, 4, 5]
    plain = LinearRegression().fit(train[:, known].reshape(3000, -1), train[:, wanted].reshape(3000, -1))
    expected = plain.predict(test[:, known].reshape(100, -1)).reshape(100, 3, 2)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_of_few_paths_ridge_is_better_than_least_squares():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(12, 12, 1)), rng.normal(size=(500, 12, 1))
    for x in (train, test):
        x[:, -1] += x[:, 0]
    found = RidgeRegression().fit(train, range(11), [11]).predict(test).values.numpy()[:, 0, 0]
    plain = LinearRegression().fit(train[:, :11, 0], train[:, 11, 0]).predict(test[:, :11, 0])
    assert ((found - test[:, 11, 0]) ** 2).mean() < ((plain - test[:, 11, 0]) ** 2).mean()


def test_the_climatology_is_the_mean():
    train = walks(40, 0)
    found = Climatology().fit(x_of(train), KNOWN, WANTED).predict(x_of(walks(5, 1)))
    np.testing.assert_allclose(found.values[3], train[:, [2, 4, 5]].mean(0))


@pytest.mark.parametrize("name", FORECASTERS)
def test_ensembles_are_calibrated_where_the_law_is_that_of_training(name):
    train, test = x_of(walks(2000, 0)), x_of(walks(400, 1))
    forecaster = FORECASTERS[name]().fit(train, KNOWN, [4.0, 6.0])
    members = forecaster.members(test, 60, seed=2)
    assert torch.equal(members.values, forecaster.members(test, 60, seed=2).values)
    truth = Paths([4.0, 6.0], test.values[:, 4:])
    result = coverage(truth, members, level=0.9)
    assert result.low - 0.02 < 0.9 < result.high + 0.02
    # Ensembles are centred on the forecast, up to the mean of the errors of training.
    centre = members.values.view(400, 60, 2, 2).mean(1)
    assert float((centre - forecaster.predict(test).values).abs().mean()) < 0.5
    assert (
        crps(truth, members).value
        < crps(truth, Climatology().fit(train, KNOWN, [4.0, 6.0]).members(test, 60)).value * 1.05
    )


def test_types_names_and_gaps_are_carried_over():
    train = Paths(TIMES, walks(50, 0).astype(np.float32), names=["a", "b"])
    for made in training_free_forecasts(train, masked(walks(20, 1).astype(np.float32), 0.3), KNOWN, WANTED).values():
        assert made.dtype == torch.float32
        assert made.names == ("a", "b")
        assert made.times.tolist() == WANTED
        assert torch.isfinite(made.values).all()


@pytest.mark.parametrize("name", FORECASTERS)
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda f, x: f.fit(x, [0, 1], [1, 2]), ValueError, "a time is known or wanted; 1 is both"),
        (lambda f, x: f.fit(x, [], [1]), ValueError, "known must hold at least one time; got none"),
        (lambda f, x: f.fit(x, [0], []), ValueError, "wanted must hold at least one time; got none"),
        (lambda f, x: f.fit(x, [0, 9], [1]), ValueError, "the paths have no known time 9; there are 0, 1"),
        (lambda f, x: f.fit(x, [0], [1.5]), ValueError, "the paths have no wanted time 1.5; there are"),
        (lambda f, x: f.fit(x[:1], [0], [1]), ValueError, "needs at least 2 real paths; got 1"),
        (
            lambda f, x: f.fit(Paths(range(3), x, mask=np.arange(3)[None] != 2 + np.zeros((4, 1))), [0], [2]),
            ValueError,
            "channel 'x0' was never observed at the wanted time 2 in training",
        ),
        (lambda f, x: f.predict(x), RuntimeError, r"was not fitted; call fit\(train, known, wanted\) first"),
        (lambda f, x: f.fit(x, [0], [1]).predict(x[..., :1]), ValueError, "fitted on 2 channels; got paths with 1"),
        (lambda f, x: f.fit(x, [1], [2]).predict(x[:, :1]), ValueError, "the paths have no known time 1; there are 0"),
        (lambda f, x: f.fit(x, [0], [1]).members(x, 0), ValueError, "n must be at least 1; got 0"),
    ],
)
def test_sentences(name, call, error, words):
    with pytest.raises(error, match=words):
        call(FORECASTERS[name](), np.random.default_rng(0).normal(size=(4, 3, 2)))
