"""What models of series refuse at the door, in the user's words: what was given, what is needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gendyn as gd
from gendyn.sde.asked_times import asked_times
from gendyn.sde.series import read_series

NAN = float("nan")
SMALL = {"hidden": 4, "epochs": 1, "step": 1 / 4}


def waves(n=24, length=20):
    t = torch.linspace(0, 6.28, length)
    return torch.stack([torch.sin((1 + k % 2) * t + 0.3 * k) for k in range(n)])


X, Y = waves(), np.array(["a", "b"] * 12)


@pytest.fixture(scope="module")
def fitted():
    return {
        "forecaster": gd.StableSDEForecaster(2, **SMALL).fit(X, progress=False),
        "interpolator": gd.StableSDEInterpolator(**SMALL).fit(X, progress=False),
        "GRU-ODE-Bayes": gd.GRUODEBayes(hidden=4, epochs=1).fit(X, progress=False),
        "latent SDE": gd.LatentSDE(hidden=4, epochs=1).fit(X, progress=False),
    }


def ask(model, at):
    return model.predict_normal(X, at)[0] if isinstance(model, gd.GRUODEBayes) else model.predict_samples(X, at, n=2)


@pytest.mark.parametrize("name", ["forecaster", "interpolator", "GRU-ODE-Bayes", "latent SDE"])
def test_times_that_cannot_be_asked_about_are_named(fitted, name):
    for value in (NAN, torch.inf):
        at = torch.full((24, 2), 25.0)
        at[3, 1] = value
        with pytest.raises(ValueError, match=f"at must be finite; series 3 is asked about {value} at position 1"):
            ask(fitted[name], at)
    for at in (5.0, [], np.zeros((3, 2)), np.zeros((24, 0))):
        with pytest.raises(ValueError, match=r"at must hold at least one time and have shape \(Q,\) or \(24, Q\)"):
            ask(fitted[name], at)


def test_times_of_all_series_and_of_each_its_own_are_the_same():
    series = read_series(X)
    assert torch.equal(asked_times([1.0, 3.0], series), asked_times(torch.tensor([[1.0, 3.0]] * 24), series))
    assert asked_times(None, series) is series.times


@pytest.mark.parametrize("verb", ["predict", "impute", "predict_samples", "sample"])
def test_no_members_are_no_answer(fitted, verb):
    for n in (0, -1):
        with pytest.raises(ValueError, match=f"n must be at least 1; got {n}"):
            getattr(fitted["interpolator"], verb)(X, n=n)


MAKERS = {
    "classifier": lambda **more: gd.StableSDEClassifier(**SMALL | more),
    "forecaster": lambda **more: gd.StableSDEForecaster(**{"horizon": 2} | SMALL | more),
    "interpolator": lambda **more: gd.StableSDEInterpolator(**SMALL | more),
    "neural CDE": lambda **more: gd.NeuralCDEClassifier(**more),
    "GRU": lambda **more: gd.GRUClassifier(**more),
    "mTAN": lambda **more: gd.MTANClassifier(**more),
    "GRU-ODE-Bayes": lambda **more: gd.GRUODEBayes(**more),
}
COUNTS = [
    ("classifier", "hidden"), ("classifier", "layers"), ("classifier", "n_samples"), ("classifier", "epochs"),
    ("classifier", "patience"), ("classifier", "batch_size"), ("forecaster", "horizon"), ("forecaster", "recent"),
    ("interpolator", "copies"), ("neural CDE", "inner"), ("GRU", "hidden"), ("mTAN", "heads"),
    ("GRU-ODE-Bayes", "hidden"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "count"), COUNTS)
def test_counts_are_whole_numbers_of_at_least_one(name, count):
    for value, told in ((1.5, "must be a whole number; got 1.5"), (0, "must be at least 1; got")):
        with pytest.raises(ValueError, match=f"{count}.* {told}"):
            MAKERS[name](**{count: value}).fit(X, Y, progress=False)


def test_degrees_are_whole_numbers():
    with pytest.raises(ValueError, match="degree must be a whole number, or None for values; got 1.5"):
        MAKERS["classifier"](degree=1.5).fit(X, Y, progress=False)


@pytest.mark.parametrize("name", ["classifier", "forecaster", "interpolator", "neural CDE"])
def test_covariates_of_other_series_are_refused(name):
    with pytest.raises(ValueError, match=r"static must have shape \(24, S\), a row for each series; got \(23, 2\)"):
        MAKERS[name]().fit(X, Y, static=np.zeros((23, 2)), progress=False)


@pytest.mark.parametrize("more", [{}, {"kind": "geometric"}, {"kind": "linear-noise", "parametrisation": "exact"}])
def test_steps_on_a_logarithm_need_a_state_that_keeps_its_sign(more):
    with pytest.raises(ValueError, match="solver='log_euler'.*kind='geometric' and parametrisation='exact'"):
        MAKERS["classifier"](solver="log_euler", **more).fit(X, Y, progress=False)


@pytest.mark.parametrize("missing", [None, NAN])
def test_a_label_that_is_missing_is_named(missing):
    labels = np.array([*Y[:5], missing, *Y[6:]], dtype=object)
    with pytest.raises(ValueError, match=f"every series needs a label; series 5 has {missing}: drop it"):
        MAKERS["classifier"]().fit(X, labels, progress=False)


@pytest.mark.parametrize("weight", [-1.0, 0.0, NAN, torch.inf])
def test_weights_of_classes_are_positive(weight):
    with pytest.raises(ValueError, match=f"class_weight must be positive and finite; class 'a' has {weight:g}"):
        MAKERS["classifier"](class_weight={"a": weight, "b": 1.0}).fit(X, Y, progress=False)
