"""Predictive scores: what can be predicted is, protocols, and what is refused."""

import numpy as np
import pytest
import torch

from gendyn import Paths
from gendyn.evaluation import predictive_score
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.predictive import _Predictors

RNG = np.random.default_rng(0)
X = RNG.random((60, 5, 3))
QUICK = {"iterations": 5, "n_trials": 2}


def copied(n, seed):
    """Return paths of which the last channel is the first one a step later: a perfect prediction exists."""
    z = np.random.default_rng(seed).random((n, 9, 1))
    return np.concatenate([z[:, 1:], z[:, :-1]], axis=2)


def test_what_can_be_predicted_is_and_what_cannot_is_not():
    real = copied(300, 0)
    good = predictive_score(real, copied(300, 1), iterations=2000, n_trials=2)
    blind = predictive_score(real, np.random.default_rng(2).random(real.shape), iterations=500, n_trials=2)
    # A constant has error 1/4 at best; one unit on its way to the truth has much less.
    assert good.value < 0.2
    assert good.extra["ratio"] == pytest.approx(1.0, abs=0.1)
    assert blind.value == pytest.approx(0.25, abs=0.02)
    assert blind.value > 1.25 * good.value


@pytest.mark.parametrize("protocol", ["first", "second"])
def test_errors_are_those_of_torch(protocol):
    real, _ = path_sets(X, X, metric="gap")
    predictors = _Predictors([real], protocol, 2, 0)
    (weight,) = predictors._bank.weights
    inputs = X[:, :-1, :-1] if protocol == "first" else X[:, :-1]
    targets = X[:, 1:, -1:] if protocol == "first" else X[:, 1:]
    dim, hidden = inputs.shape[2], max(1, X.shape[2] // 2)
    expected = []
    for k in range(2):
        gru = torch.nn.GRU(dim, hidden, batch_first=True)
        r, z, n, q = weight.detach()[k].view(4, hidden, -1).unbind(0)
        with torch.no_grad():
            gru.weight_ih_l0.copy_(torch.cat([part[:, :dim] for part in (r, z, n)]))
            gru.weight_hh_l0.copy_(torch.cat([part[:, dim:-1] for part in (r, z, q)]))
            gru.bias_ih_l0.copy_(torch.cat([part[:, -1] for part in (r, z, n)]))
            gru.bias_hh_l0.copy_(torch.cat([torch.zeros(2 * hidden), q[:, -1]]))
            states = gru(torch.from_numpy(inputs).float())[0]
            said = (states @ predictors._bank.readout[k].T + predictors._bank.offset[k, :, 0]).sigmoid()
        expected.append(float((said - torch.from_numpy(targets)).abs().mean()))
    np.testing.assert_allclose(predictors.errors(real), expected, rtol=1e-5)


def test_scale_floor_and_sizes():
    one = predictive_score(100 * X + 7, 100 * X[:40] + 7, **QUICK)
    two = predictive_score(X, X[:40], **QUICK)
    assert one.value == pytest.approx(two.value, rel=1e-4)
    assert one.floor == pytest.approx(two.floor, rel=1e-4)
    assert (one.n_real, one.n_generated) == (60, 40)
    held = predictive_score(X, X[:40], train=X[40:], **QUICK)
    assert held.floor != two.floor
    assert predictive_score(X, 3 * X, **QUICK).extra["outside"] > 0.5
    alone = predictive_score(X, X, iterations=5, n_trials=1)
    assert (alone.low, alone.high, alone.extra["sd"]) == (None, None, None)


def test_equal_seeds_give_equal_results():
    one, two, other = (predictive_score(X, X, seed=s, **QUICK).value for s in (1, 1, 2))
    assert one == two != other


def test_one_channel_has_the_second_protocol():
    assert 0 < predictive_score(X[..., 0], X[..., 0], protocol="second", **QUICK).value < 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: predictive_score(X, X, protocol="third"), "protocol must be one of first, second; got 'third'"),
        (lambda: predictive_score(X, X, n_trials=0), "n_trials must be at least 1; got 0"),
        (
            lambda: predictive_score(X[..., :1], X[..., :1]),
            "predicts the last channel from the others, and there is one",
        ),
        (lambda: predictive_score(X[:, :1], X[:, :1]), "needs at least 2 times; the real paths have 1"),
        (lambda: predictive_score(X, X[:, :4]), "at the same times; got 5 and 4 times"),
        (lambda: predictive_score(X, X[..., :2]), "must have the same number of channels"),
        (
            lambda: predictive_score(2 * X, X, scale=None),
            r"must lie in \[0, 1\]; real paths reach from .*scale='minmax'",
        ),
        (lambda: predictive_score(X, X - 1, scale=None), r"must lie in \[0, 1\]; generated paths reach from -"),
        (lambda: predictive_score(X, X, train=X + 1, scale=None), r"must lie in \[0, 1\]; train paths reach"),
        (lambda: predictive_score(X, X, scale="log"), "scale must be 'real-std', 'minmax'"),
        (
            lambda: predictive_score(Paths(range(5), X, mask=X > 0.5), X),
            "needs complete paths; of the real paths .* of the values are missing",
        ),
        (lambda: predictive_score(X, np.where(X > 0.99, np.nan, X)), "generated paths must be finite"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_broken_generated_paths_are_counted():
    broken = X.copy()
    broken[3, 1] = np.nan
    result = predictive_score(X, broken, on_nan="count", **QUICK)
    assert (result.extra["dropped"], result.n_generated) == (1, 59)
