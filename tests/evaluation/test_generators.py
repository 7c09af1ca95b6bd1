"""Cheap generators, forecasters, judges and utility: their contract, and what each is known to do."""

import numpy as np
import pytest
import torch

from gendyn.data import Paths
from gendyn.evaluation import discriminative_score, predictive_score, strong_discriminative_score, utility
from gendyn.evaluation.forecasters import training_free_forecasts
from gendyn.evaluation.generators import BlockBootstrap, GaussianPaths, IncrementWalk, LocalGaussianMixture


def walks(n, seed, length=12, dim=2):
    rng = np.random.default_rng(seed)
    return Paths(range(length), rng.normal(size=(n, length, dim)).cumsum(1))


GENERATORS = {
    "gaussian": GaussianPaths,
    "bootstrap": BlockBootstrap,
    "walk": IncrementWalk,
    "mixture": LocalGaussianMixture,
}


@pytest.mark.parametrize("kind", GENERATORS.values(), ids=GENERATORS.keys())
def test_a_generator_gives_paths_like_those_it_saw(kind):
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    data = walks(400, 0)
    made = kind().fit(data).sample(500, seed=1)
    assert made.values.shape == (500, 12, 2)
    assert torch.isfinite(made.values).all()
    assert torch.equal(made.values, kind().fit(data).sample(500, seed=1).values)
    assert not torch.equal(made.values, kind().fit(data).sample(500, seed=2).values)
    # A Gaussian random walk has variance k + 1 at step k; every one of them must have learned that.
    expected = torch.arange(1, 13, dtype=torch.float64)[:, None].expand(12, 2)
    torch.testing.assert_close(made.values.double().var(0), expected, rtol=0.35, atol=0.3)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()


def test_equal_laws_are_at_the_floor_and_others_are_told():
    x, y = walks(300, 0).values, walks(300, 1).values
    same = discriminative_score(x, y, strong=False, n_trials=4, iterations=500)
    assert same.extra["signed_low"] < 0 < same.extra["signed_high"]
    far, again = (discriminative_score(x, y + 30, strong=False, n_trials=4, iterations=1500) for _ in range(2))
    assert far.value > 0.4
    assert far.value == again.value


def test_a_replaying_generator_is_flagged_while_no_judge_can_tell():
    series = walks(600, 3).values
    train, held = series[:400], series[400:]
    found = strong_discriminative_score(held, train[:200], train=train, n_trials=1, iterations=60)
    assert found.extra["memorisation"]["copies"]
    assert found.value < 0.15
    fresh = strong_discriminative_score(held, walks(200, 4).values, train=train, n_trials=1, iterations=60)
    assert not fresh.extra["memorisation"]["copies"]


def test_predictors_of_the_truth_do_better_than_those_of_noise():
    x = walks(200, 0).values
    noise = torch.randn(200, 12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    true, wrong = (predictive_score(x, made, protocol="second", iterations=1500, n_trials=2) for made in (x, noise))
    assert true.value < wrong.value
    assert true.extra["ratio"] == pytest.approx(1.0, abs=0.05)


def test_utility_of_labels_that_mean_nothing_is_chance():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    x = rng.normal(size=(80, 8, 1)) + 3.0 * labels[:, None, None]
    real = Paths(range(8), x, labels=labels)
    good = utility(real, Paths(range(8), x, labels=labels), iterations=60)
    bad = utility(real, Paths(range(8), x, labels=rng.permutation(labels)), iterations=60)
    assert good.value > 0.9
    assert bad.value < 0.8


def test_the_best_forecast_of_a_walk_is_its_last_value():
    train, test = walks(500, 0), walks(500, 1)
    made = training_free_forecasts(train, test, known=range(10), wanted=[10, 11])
    truth = test.values[:, 10:]
    error = {name: float((paths.values - truth).square().mean()) for name, paths in made.items()}
    assert error["last value"] == pytest.approx(1.5, rel=0.15)  # one step and two: variances 1 and 2
    assert error["last value"] < 1.05 * min(error.values())
    assert error["climatology"] > 4 * error["last value"]
    assert error["linear"] > error["last value"]
