"""Utility of generated paths with labels, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from gendyn import Paths
from gendyn.datasets import load
from gendyn.evaluation import utility

QUICK = {"iterations": 40, "n_trials": 2}


def classes(n, seed, gap=3.0, length=8):
    """Return paths of two classes whose levels lie apart."""
    labels = np.arange(n) % 2
    x = np.random.default_rng(seed).normal(size=(n, length, 1)) + gap * labels[:, None, None]
    return Paths(range(length), x, labels=labels)


def relabelled(paths, labels):
    return Paths(paths.times, paths.values, labels=labels)


def test_the_truth_is_as_useful_as_itself():
    result = utility(classes(80, 0), classes(80, 1), train=classes(80, 2), n_trials=4)
    assert result.value == pytest.approx(1.0, abs=0.03)
    assert result.low <= result.value <= result.high
    assert result.extra["TRTR"]["mean"] > 0.95
    assert result.extra["TRTS"]["mean"] > 0.95
    assert (result.floor, result.extra["chance"], result.extra["classes"]) == (1.0, 0.5, 2)


def test_a_generator_of_typical_paths_is_easy_to_ask_about_and_poor_to_learn_from():
    real = classes(200, 0, gap=1.0)
    typical = classes(200, 1, gap=1.0)
    typical = relabelled(
        Paths(range(8), typical.values.numpy() * 0.05 + 1.0 * typical.labels[:, None, None]), typical.labels
    )
    result = utility(real, typical, n_trials=2)
    assert result.extra["TRTS"]["mean"] > result.extra["TRTR"]["mean"] + 0.02


def test_wrong_labels_teach_the_wrong_thing():
    real, made = classes(80, 0), classes(80, 1)
    assert utility(real, relabelled(made, 1 - made.labels), **QUICK).extra["TSTR"]["mean"] < 0.2
    one, two = (utility(real, made, seed=5, **QUICK) for _ in range(2))
    assert (one.value, one.extra) == (two.value, two.extra)


def test_gaps_lengths_and_strings():
    x = classes(60, 0)
    words = np.where(x.labels == 1, "up", "down")
    mask = np.random.default_rng(0).random(x.values.shape) < 0.6
    mask[:, 0] = True
    gaps = Paths(range(8), x.values, mask=mask, labels=words)
    short = Paths(range(8), x.values, lengths=np.arange(60) % 6 + 3, labels=words)
    assert utility(gaps, short, n_trials=2).value > 0.9


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: utility(x.values, x), TypeError, "utility needs gendyn.Paths with labels; got Tensor"),
        (
            lambda x: utility(x, Paths(x.times, x.values)),
            ValueError,
            r"needs paths with labels; give Paths\(\.\.\., labels",
        ),
        (
            lambda x: utility(x, relabelled(x, x.labels + 1)),
            ValueError,
            r"all sets must have the same classes; got \[0, 1\] and \[1, 2\]",
        ),
        (
            lambda x: utility(*2 * [relabelled(x, np.zeros(20, dtype=int))]),
            ValueError,
            "needs at least two classes; all paths are of 0$",
        ),
        (
            lambda x: utility(relabelled(x, np.arange(20) // 19), relabelled(x, np.arange(20) // 19)),
            ValueError,
            "every class of the real paths needs two of them",
        ),
        (lambda x: utility(x, x, n_trials=0), ValueError, "n_trials must be at least 1; got 0"),
        (lambda x: utility(x, classes(20, 0, length=7)), ValueError, "at the same times; got 8 and 7 times"),
        (
            lambda x: utility(x, x, train=relabelled(x, 1 - x.labels), iterations=80, n_trials=1),
            ValueError,
            "networks trained on real paths were never right about the 20 that they were asked about",
        ),
    ],
)
def test_sentences(call, error, words):
    with pytest.raises(error, match=words):
        call(classes(20, 0, gap=9.0))


@pytest.mark.skipif(
    not (Path(os.environ.get("GENDYN_DATA", "/nowhere")) / "stable_sde" / "BasicMotions.npz").is_file(),
    reason="BasicMotions.npz of the UEA archive is not in $GENDYN_DATA",
)
def test_motions_are_learned_from_their_own_training_set():
    train, test = (load("basic-motions", split=part) for part in ("train", "test"))
    result = utility(test, train, train=train, n_trials=2)
    assert result.extra["TRTR"]["mean"] > 0.8
    assert result.value == pytest.approx(1.0, abs=0.15)
