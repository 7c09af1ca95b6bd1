"""Gated recurrent units: the published equations written out for one series in NumPy, and what they imply."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier

import gendyn as gd
from gendyn.data import drop_rows
from gendyn.sde import GatedRecurrence
from gendyn.sde.gated_recurrence import observed_rows
from gendyn.sde.series import read_series

NAN = float("nan")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(cell, times, values):
    """The state after each row of one series, row by row and channel by channel."""
    weights = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    h, last, before = np.zeros(cell.hidden), np.zeros(cell.dim), np.full(cell.dim, times[0])
    states = []
    for t, x in zip(times, values, strict=True):
        seen, since = ~np.isnan(x), t - before
        mask = seen.astype(float)
        if cell.kind == "gru-d":
            gone = np.exp(-np.maximum(weights["fading"] * since + weights["fading_from"], 0))
            told = np.concatenate([np.where(seen, x, gone * last), mask])
            h = h * np.exp(-np.maximum(weights["forgetting.weight"] @ since + weights["forgetting.bias"], 0))
            last = np.where(seen, x, last)
        else:
            last = np.where(seen, x, last)
            told = np.concatenate([last, mask, since])
        before = np.where(seen, t, before)
        (wr, wu, wc), (br, bu, bc) = np.split(weights["told.weight"], 3), np.split(weights["told.bias"], 3)
        ur, uu = np.split(weights["gates.weight"], 2)
        r, u = sigmoid(wr @ told + ur @ h + br), sigmoid(wu @ told + uu @ h + bu)
        h = (1 - u) * h + u * np.tanh(wc @ told + weights["candidate.weight"] @ (r * h) + bc)
        states.append(h)
    return np.stack(states)


def with_holes(n=4, length=9, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, dim, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.4] = NAN
    times = torch.rand(n, length, generator=generator, dtype=torch.float64).add(0.05).cumsum(1)
    return x, times


@pytest.mark.parametrize("kind", ["gru-d", "gru-dt"])
def test_states_are_those_of_the_published_equations(kind):
    x, times = with_holes()
    cell = GatedRecurrence(3, 5, kind).double()
    if kind == "gru-d":
        with torch.no_grad():
            cell.fading_from.add_(0.1)
    ours = cell(observed_rows(read_series(x, times=times))).detach().numpy()
    for k in range(len(x)):
        assert np.abs(ours[k] - by_hand(cell, times[k].numpy(), x[k].numpy())).max() < 1e-12


@pytest.mark.parametrize("kind", ["gru-d", "gru-dt"])
def test_a_series_of_a_ragged_batch_runs_as_if_alone(kind):
    x, times = with_holes()
    lengths = [9, 6, 3, 1]
    series = [row[:n].numpy() for row, n in zip(x, lengths, strict=True)]
    clocks = [t[:n].numpy() for t, n in zip(times, lengths, strict=True)]
    cell = GatedRecurrence(3, 5, kind).double()
    batch = read_series(series, times=clocks)
    inside = torch.arange(9) < batch.lengths[:, None]
    together = cell(observed_rows(batch), inside)
    for row, one, t in zip(together, series, clocks, strict=True):
        alone = cell(observed_rows(read_series([one], times=[t])))
        assert torch.allclose(row[len(t) - 1], alone[0, -1], atol=1e-12)
        assert torch.equal(row[-1], row[len(t) - 1])


def test_the_state_of_a_gru_d_stays_in_the_unit_cube_and_fades_when_nobody_looks():
    x, times = with_holes()
    cell = GatedRecurrence(3, 5).double()
    assert bool((cell(observed_rows(read_series(100 * x, times=times))).abs() <= 1).all())
    with torch.no_grad():
        cell.forgetting.weight.fill_(50.0)
        cell.told.bias.zero_()
    silent = read_series(torch.tensor([[[1.0] * 3, [NAN] * 3, [NAN] * 3]], dtype=torch.float64), times=[0.0, 1.0, 9.0])
    with torch.no_grad():
        cell.fading.fill_(50.0)
        cell.fading_from.zero_()
    after = cell(observed_rows(silent)).detach()
    assert bool((after[0, 0].abs() > 1e-3).any())
    # Both the value and the state are gone: what is left is what the biases say, nothing.
    assert float(after[0, 1].abs().max()) < 1e-12


@pytest.mark.parametrize("kind", ["gru-d", "gru-dt"])
def test_gradients_reach_every_parameter(kind):
    x, times = with_holes()
    cell = GatedRecurrence(3, 5, kind).double()
    if kind == "gru-d":
        with torch.no_grad():
            cell.fading_from.add_(0.1)
            cell.forgetting.bias.abs_()
    cell(observed_rows(read_series(x, times=times)))[:, -1].square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in cell.parameters())


def waves(n=60, length=40, seed=0):
    """Slow and fast waves of random phase."""
    generator = torch.Generator().manual_seed(seed)
    y = np.array(["slow", "fast"])[np.arange(n) % 2]
    t = torch.linspace(0, 6.28, length)
    x = torch.sin((1 + torch.arange(n) % 2)[:, None] * t + 6.28 * torch.rand(n, 1, generator=generator))
    return (x + 0.1 * torch.randn(n, length, generator=generator))[:, :, None], y


def small(**more):
    return gd.GRUClassifier(**{"hidden": 16, "lr": 1e-2} | more)


@pytest.mark.parametrize("kind", ["gru-d", "gru-dt"])
def test_the_classifier_tells_waves_apart_with_holes(kind):
    (x, y), (xt, yt) = waves(120), waves(seed=1)
    holes, asked = (drop_rows(gd.Paths(range(40), v), 0.3, seed=1) for v in (x, xt))
    model = small(kind=kind, epochs=80).fit(holes, y, progress=False)
    assert model.score(asked, yt) >= 0.9
    end = model.sample(asked).values[:, -1]
    assert np.allclose(model._model.readout(end).softmax(1).numpy(), model.predict_proba(asked), atol=1e-6)
    assert model.sample(asked.select(range(2)), [0.0, 20.5, 99.0]).values.shape == (2, 3, 16)
    with pytest.raises(ValueError, match="time -1, before a series begins"):
        model.sample(asked, [-1.0, 2.0])
    with pytest.raises(TypeError, match="takes no options; got solver"):
        model.sample(asked, solver="euler")


@pytest.mark.parametrize("kind", ["gru-d", "gru-dt"])
def test_the_unit_of_time_does_not_matter(kind):
    (x, y), (xt, _) = waves(), waves(seed=1)
    t = torch.arange(40.0, dtype=torch.float64)
    found = []
    for unit in (1.0, 1000.0):
        model = small(kind=kind, epochs=2, patience=None).fit(x, y, times=t * unit, progress=False)
        found.append(model.predict_proba(xt, times=t * unit))
    assert np.allclose(*found, atol=1e-5)


def test_it_is_a_classifier_of_scikit_learn_and_has_an_answer_when_nobody_looked():
    x, y = waves(20)
    model = small(epochs=1)
    assert is_classifier(model)
    assert clone(model).get_params() == model.get_params()
    model.fit(x, y, static=np.arange(20.0), progress=False)
    odds = model.predict_proba(torch.full((1, 40, 1), NAN), static=[NAN])
    assert np.isfinite(odds).all()
    assert odds.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1; got 0"),
        ({"kind": "plain"}, "kind must be 'gru-d' or 'gru-dt'; got 'plain'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"lr": 0.0}, "lr must be positive"),
    ],
)
def test_hyper_parameters_out_of_range_have_a_sentence(options, message):
    x, y = waves(20)
    model = small(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, progress=False)
    assert not hasattr(model, "process_")


def test_a_unit_of_another_kind_or_size_is_refused():
    with pytest.raises(ValueError, match="kind must be one of gru-d, gru-dt, plain; got 'lstm'"):
        GatedRecurrence(1, 2, "lstm")
    with pytest.raises(ValueError, match="dim and hidden must be at least 1; got 0 and 2"):
        GatedRecurrence(0, 2)
