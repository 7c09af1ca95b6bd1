"""The classifier: what it learns, what does not matter to it, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import cross_val_score

import gendyn as gd
from gendyn.data import drop_rows

NAN = float("nan")


def waves(n=60, length=40, seed=0):
    """Slow and fast waves of random phase."""
    generator = torch.Generator().manual_seed(seed)
    y = np.array(["slow", "fast"])[np.arange(n) % 2]
    t = torch.linspace(0, 6.28, length)
    x = torch.sin((1 + torch.arange(n) % 2)[:, None] * t + 6.28 * torch.rand(n, 1, generator=generator))
    return (x + 0.1 * torch.randn(n, length, generator=generator))[:, :, None], y


def small(**more):
    return gd.StableSDEClassifier(**{"hidden": 16, "epochs": 40, "n_samples": 4, "step": 1 / 16} | more)


@pytest.mark.parametrize("kind", ["langevin", "linear-noise", "geometric"])
@pytest.mark.parametrize("parametrisation", ["bounded", "exact"])
def test_the_network_alone_tells_waves_apart(kind, parametrisation):
    (x, y), (xt, yt) = waves(200), waves(seed=1)
    model = small(kind=kind, parametrisation=parametrisation, residual=False, patience=None, epochs=60, lr=1e-2)
    with warnings.catch_warnings():
        # Trained drifts are steep; what that does to the guarantee is said, and tested below.
        warnings.filterwarnings("ignore", message="the longest step times")
        model.fit(x, y, progress=False)
    assert model.score(xt, yt) >= 0.95


def test_steps_too_long_for_a_steep_drift_are_told():
    x, y = waves(20)
    with pytest.warns(
        UserWarning, match=r"longest step times the Lipschitz bound of the drift is .* > 1; shorten step"
    ):
        small(parametrisation="exact", step=1.0, epochs=1).fit(x, y, progress=False)


def test_holes_and_unequal_lengths_are_no_obstacle():
    x, y = waves(100)
    holes = drop_rows(gd.Paths(range(40), x, labels=y), 0.5, seed=1)
    ragged = [row[~row.isnan().any(1)].numpy() for row in holes.values]
    times = [np.flatnonzero(~row.isnan().any(1)) for row in holes.values]
    for data, more in ((holes, {}), (ragged, {"times": times})):
        model = small(epochs=20).fit(data, y, **more, progress=False)
        assert model.score(data, y, **more) >= 0.95


def test_the_unit_of_time_does_not_matter():
    (x, y), (xt, _) = waves(), waves(seed=1)
    t = torch.arange(40.0, dtype=torch.float64)
    found = []
    for unit in (1.0, 1000.0):
        model = small(epochs=5, patience=None).fit(x, y, times=t * unit, progress=False)
        found.append(model.predict_proba(xt, times=t * unit))
    assert np.allclose(*found, atol=1e-5)


def test_the_regression_is_where_a_residual_model_begins():
    (x, y), (xt, yt) = waves(), waves(seed=1)
    one, two = (small(epochs=1, lr=1e-9, patience=None, n_samples=n).fit(x, y, progress=False) for n in (1, 3))
    # With a head that is zero there is no noise in the answer.
    assert np.allclose(one.predict_proba(xt), two.predict_proba(xt), atol=1e-5)
    assert one.score(xt, yt) >= 0.95


def test_early_stopping_restores_the_best_weights():
    x, y = waves(40)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    validation = (noise, y)
    model = small(epochs=30, residual=False, patience=5).fit(x, y, validation=validation, progress=False)
    assert len(model.history_) < 30
    again = small(epochs=int(model.history_.validation.argmin()) + 1, residual=False, patience=None)
    assert again.get_params()["patience"] is None
    whole = small(epochs=30, residual=False, patience=None).fit(x, y, validation=validation, progress=False)
    assert len(whole.history_) == 30
    assert whole.history_.validation.notna().all()


def test_static_covariates_are_seen():
    generator = torch.Generator().manual_seed(0)
    y = np.arange(80) % 2
    x = torch.randn(80, 10, 1, generator=generator)
    static = np.where(np.arange(80) % 5 == 0, NAN, y + 0.1 * np.random.default_rng(0).normal(size=80))[:, None]
    for residual in (True, False):
        model = small(residual=residual, patience=None).fit(x, y, static=static, progress=False)
        known = ~np.isnan(static[:, 0])
        assert (model.predict(x, static=static)[known] == y[known]).all()
        with pytest.raises(ValueError, match="fitted with static covariates"):
            model.predict(x)


def test_rare_classes_gain_by_their_weight():
    generator = torch.Generator().manual_seed(0)
    y = (np.arange(120) % 10 == 0).astype(int)
    x = torch.randn(120, 8, 1, generator=generator) + 0.8 * torch.from_numpy(y)[:, None, None]
    plain, balanced, given = (
        small(class_weight=w, patience=None, epochs=3).fit(x, y, progress=False).predict_proba(x)[:, 1].mean()
        for w in (None, "balanced", {0: 1.0, 1: 9.0})
    )
    assert balanced > plain + 0.1
    assert given > plain + 0.1


def test_a_series_that_was_never_observed_has_an_answer():
    x, y = waves()
    model = small(epochs=3).fit(x, y, progress=False)
    odds = model.predict_proba(torch.full((1, 40, 1), NAN))
    assert np.isfinite(odds).all()
    assert odds.sum() == pytest.approx(1.0)


def test_scikit_learn_takes_it_for_its_own():
    x, y = waves(36)
    model = small(epochs=4)
    assert is_classifier(model)
    again = clone(model)
    assert again.get_params() == model.get_params()
    assert again is not model
    assert cross_val_score(model, x.numpy(), y, cv=3).mean() > 0.6
    frame = pd.DataFrame({"id": np.repeat(np.arange(36), 40), "time": np.tile(np.arange(40.0), 36), "x": x.flatten()})
    assert model.fit(frame, y, progress=False).score(frame, y) > 0.6


def test_latent_paths_of_series_can_be_looked_at():
    x, y = waves(10)
    model = small(epochs=2, patience=None).fit(x, y, progress=False)
    paths = model.sample(x[:3], n=5, seed=1)
    assert paths.values.shape == (15, 17, 16)
    assert float(paths.times[-1]) == 39.0
    assert torch.equal(paths.values[0, 0], paths.values[4, 0])
    assert not torch.equal(paths.values[0, -1], paths.values[4, -1])
    assert model.sample(x[:1], [0.0, 10.0, 50.0]).times.tolist() == [0.0, 10.0, 50.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "langwin"}, "kind must be one of langevin"),
        ({"n_samples": 0}, "n_samples must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"control": "spline"}, "control must be one of"),
        ({"control": "rectilinear", "channels": ()}, "needs channels"),
        ({"channels": ("clock",)}, "channels must be some of"),
        ({"step": 0.0}, "step must be positive"),
        ({"solver": "rk4"}, "solver must be one of"),
        ({"pooling": "mean"}, "pooling must be"),
        ({"dropout": 1.0}, "dropout must lie"),
        ({"gaps": 1.0}, r"gaps must lie in \[0, 1\); got 1\.0"),
        ({"degree": -1}, "degree must be at least 0"),
        ({"validation_fraction": 0.0}, "validation_fraction must lie"),
        ({"class_weight": {"slow": 1.0}}, "no weight for 'fast'"),
        ({"parametrisation": "tight"}, "parametrisation must be"),
    ],
)
def test_hyper_parameters_out_of_range_have_a_sentence(options, message):
    x, y = waves(20)
    model = small(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, progress=False)
    assert not hasattr(model, "process_")


def test_what_cannot_be_learned_from_is_refused():
    x, y = waves(20)
    with pytest.raises(ValueError, match="needs labels"):
        small().fit(x, progress=False)
    with pytest.raises(ValueError, match="every label is 'a'"):
        small().fit(x, ["a"] * 20, progress=False)
    with pytest.raises(ValueError, match="class 'rare' has 2 series"):
        small().fit(x, np.array(["rare"] * 2 + ["often"] * 18), progress=False)
    with pytest.raises(TypeError, match="labels must be integers or strings"):
        small().fit(x, np.linspace(0, 1, 20), progress=False)
    with pytest.raises(ValueError, match="classes that the series have not: 'other'"):
        small().fit(x, y, validation=(x, ["other"] * 20), progress=False)
    model = small(epochs=1).fit(x, y, progress=False)
    with pytest.raises(ValueError, match="fitted on 1 channels; the series have 2"):
        model.predict(torch.zeros(3, 10, 2))
    with pytest.raises(ValueError, match="fitted without static"):
        model.predict(x, static=np.zeros(20))


def test_a_gross_outlier_says_no_more_than_a_far_value():
    x, y = waves(60)
    model = gd.StableSDEClassifier(hidden=8, epochs=2).fit(x, y, progress=False)
    told = []
    for value in (100.0, 1e7):
        spoilt = x[:8].clone()
        spoilt[:, 10] = value
        told.append(model.predict_proba(spoilt))
    assert np.array_equal(*told)
    assert not np.allclose(told[0], model.predict_proba(x[:8]))
