"""Interpolations: what lies around a moment, what is hidden, how good and how wide they are, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gendyn as gd
from gendyn.sde import read_series
from gendyn.sde.hidden_entries import hide
from gendyn.sde.interpolation_inputs import HiddenInputs
from gendyn.sde.series_inputs import Inputs
from gendyn.sde.surroundings import SURROUNDINGS, SurroundingsRidge, surroundings

NAN = float("nan")


def bridges(n=300, length=40, seed=0):
    """Two stationary channels, the second a noisy copy of the first; what lies between has a known law."""
    generator = torch.Generator().manual_seed(seed)
    x = [torch.randn(n, generator=generator)]
    for _ in range(length - 1):
        x.append(0.9 * x[-1] + 0.19**0.5 * torch.randn(n, generator=generator))
    first = torch.stack(x, 1)
    return torch.stack([first, first + 0.3 * torch.randn(first.shape, generator=generator)], 2)


def test_surroundings_are_their_definitions():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 12, 2, dtype=torch.float64, generator=generator)
    values[torch.rand(values.shape, generator=generator) < 0.5] = NAN
    values[2, :, 1] = NAN
    times = torch.rand(3, 12, dtype=torch.float64, generator=generator).sort(1).values
    at = times[:, :1] + torch.rand(3, 5, dtype=torch.float64, generator=generator) * (1 - times[:, :1])
    found = surroundings(read_series(values, times=times), at, (0.1, 0.4))
    for b in range(3):
        for d in range(2):
            seen = ~values[b, :, d].isnan()
            s, x = times[b, seen].numpy(), values[b, seen, d].numpy()
            for q, t in enumerate(at[b].tolist()):
                told = dict(zip(SURROUNDINGS, found[b, q, d].tolist(), strict=True))
                assert told["count"] == pytest.approx(np.log1p(len(s)))
                if not len(s):
                    assert [told[k] for k in ("line", "mean", "near", "wide", "before", "after")] == [0, 0, 0, 0, 1, 1]
                    continue
                assert told["line"] == pytest.approx(np.interp(t, s, x))
                assert told["mean"] == pytest.approx(x.mean())
                for name, width in (("near", 0.1), ("wide", 0.4)):
                    assert told[name] == pytest.approx(np.average(x, weights=np.exp(-np.abs(t - s) / width)))
                assert told["before"] == pytest.approx(t - s[s <= t].max() if (s <= t).any() else 1)
                assert told["after"] == pytest.approx(s[s >= t].min() - t if (s >= t).any() else 1)


def test_what_hardly_ever_differed_does_not_lead_away():
    generator = torch.Generator().manual_seed(0)
    told = torch.randn(2000, 1, 2, 7, generator=generator)
    # Counts and gaps are not negative.
    told[..., 4:] = torch.rand(2000, 1, 2, 3, generator=generator)
    told[:, :, 1, :4] = 1e-7 * torch.randn(2000, 1, 4, generator=generator)
    outcome = told[..., 0].clone()
    ridge, _ = SurroundingsRidge.fit(told, outcome, torch.rand(2000, 1, generator=generator), near=0.02)
    asked = told.clone()
    asked[:, :, 1, :4] = 1.0
    assert (ridge(asked)[..., 0] - outcome[..., 0]).abs().max() < 0.01


@pytest.mark.parametrize("hiding", ["row", "channel"])
def test_what_is_hidden_and_what_is_left_are_the_series(hiding):
    x = bridges(20)
    x[0, 5:] = NAN
    x[1, :, 1] = NAN
    x[2] = NAN
    series = read_series(x)
    rest, asked, outcome = hide(series, 0.4, hiding, seed=3)
    whole = rest.values.clone()
    for b in range(20):
        for q in range(asked.shape[1]):
            for d in range(2):
                if not outcome[b, q, d].isnan():
                    k = int(asked[b, q])
                    assert whole[b, k, d].isnan()
                    whole[b, k, d] = outcome[b, q, d]
    assert torch.equal(whole.nan_to_num(9.0), x.nan_to_num(9.0))
    hidden = (series.seen & ~rest.seen).sum(1)
    assert hidden[3:].tolist() == [[16, 16]] * 17
    assert hidden[0].tolist() == [2, 2]
    assert hidden[2].tolist() == [0, 0]
    if hiding == "row":
        assert not (rest.seen[3:] & ~rest.seen[3:].all(2, keepdim=True)).any()
    assert torch.equal(hide(series, 0.4, hiding, seed=3)[0].seen, rest.seen)
    assert not torch.equal(hide(series, 0.4, hiding, seed=4)[0].seen, rest.seen)


def test_states_are_on_lines_between_steps():
    grid = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.25, 0.25]], dtype=torch.float64)
    paths = torch.tensor([[[0.0], [1.0], [4.0]], [[0.0], [1.0], [1.0]]])[None]
    at = torch.tensor([[0.25, 0.5, 0.75, 2.0], [0.0, 0.125, 0.25, 0.5]], dtype=torch.float64)
    told, start = torch.zeros(2, 4, 1, 7), torch.zeros(2, 4, 1)
    batch = HiddenInputs.of(Inputs(grid, torch.zeros(2, 3, 1)), at, told, (start, start), None)
    assert batch.states(paths)[0, :, :, 0].tolist() == [[0.5, 1.0, 2.5, 4.0], [0.0, 0.5, 1.0, 1.0]]


@pytest.fixture(scope="module")
def fitted():
    model = gd.StableSDEInterpolator("channel", 0.3, hidden=16, epochs=15, batch_size=64, lr=5e-3)
    return model.fit(bridges(), progress=False)


def test_interpolations_are_nearly_as_good_as_the_law(fitted):
    whole = bridges(400, seed=1)
    rest, asked, outcome = hide(read_series(whole), 0.3, "channel", seed=5)
    found = torch.from_numpy(fitted.predict(rest.values, asked))
    times = torch.arange(40.0, dtype=torch.float64)
    prior = 0.9 ** (times[:, None] - times).abs()
    # Both channels jointly: the copy has noise of variance .09.
    full = prior.repeat(2, 2)
    full[40:, 40:] += 0.09 * torch.eye(40, dtype=torch.float64)
    errors, best = [], []
    for b in range(400):
        x = rest.values[b].T.flatten().double()
        seen = ~x.isnan()
        law = full[:, seen] @ torch.linalg.solve(full[seen][:, seen], x[seen])
        for q in range(asked.shape[1]):
            for d in range(2):
                if not outcome[b, q, d].isnan():
                    k, truth = int(asked[b, q]), float(outcome[b, q, d])
                    errors.append((float(found[b, q, d]) - truth) ** 2)
                    best.append((float(law[d * 40 + k]) - truth) ** 2)
    told = surroundings(rest, asked, (1.0, 2.0))
    there = ~outcome.isnan()
    line = float((told[..., 0] - outcome)[there].square().mean())
    assert np.mean(errors) < 1.15 * np.mean(best)
    assert np.mean(errors) < 0.8 * line
    low, high = fitted.predict_interval(rest.values, asked, n=200)
    inside = (low <= outcome.numpy()) & (outcome.numpy() <= high)
    assert 0.76 < inside[there.numpy()].mean() < 0.84


def test_imputation_keeps_what_was_observed(fitted):
    holes = bridges(5, seed=2)
    holes[torch.rand(holes.shape, generator=torch.Generator().manual_seed(0)) < 0.4] = NAN
    filled = fitted.impute(holes)
    seen = ~holes.isnan()
    assert torch.equal(filled.values[seen], holes[seen])
    assert torch.isfinite(filled.values).all()
    low, high = fitted.predict_interval(holes)
    observed = holes[seen].numpy()
    assert np.allclose(low[seen.numpy()], observed, atol=1e-5)
    assert np.allclose(high[seen.numpy()], observed, atol=1e-5)
    assert (high - low)[~seen.numpy()].min() > 0.05
    assert np.allclose(filled.values.numpy()[~seen.numpy()], fitted.predict(holes)[~seen.numpy()])


def test_a_series_that_was_never_observed_has_an_answer(fitted):
    found = fitted.predict_samples(torch.full((2, 7, 2), NAN), n=400)
    assert np.isfinite(found).all()
    assert abs(found.mean()) < 0.5
    assert 0.5 < found.std() < 2.0


def test_a_batch_is_each_series_alone(fitted):
    whole = [row.numpy() for row in bridges(3, seed=3)]
    ragged = [whole[0], whole[1][:25], whole[2][:10]]
    times = [np.arange(len(row)) * 1.0 for row in ragged]
    together = fitted.predict(ragged, at=np.array([[3.5, 7.25]] * 3), times=times, n=4000)
    for b, row in enumerate(ragged):
        alone = fitted.predict([row], at=np.array([[3.5, 7.25]]), times=[times[b]], n=4000)
        # Noise differs; it moves means little.
        assert np.abs(alone[0] - together[b]).max() < 0.02


def test_units_of_time_do_not_matter():
    x, t = bridges(60), torch.arange(40.0, dtype=torch.float64)
    found = []
    for unit in (1.0, 1000.0):
        model = gd.StableSDEInterpolator(hidden=8, epochs=2, patience=None, copies=1)
        model.fit(x, times=unit * t, progress=False)
        found.append(model.predict(x[:, ::2], at=unit * t[1:38:2], times=unit * t[::2]))
    assert np.allclose(*found, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiding": "rows"}, "hiding must be one of row, channel; got 'rows'"),
        ({"share": 1.0}, r"share must lie between 0 and 1; got 1\.0"),
        ({"copies": 0}, "copies must be at least 1; got 0"),
        ({"n_samples": 0}, "n_samples must be at least 1"),
        ({"kind": "levy"}, "kind must be one of langevin"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        gd.StableSDEInterpolator(**options).fit(bridges(10), progress=False)


def test_what_cannot_be_asked_is_refused(fitted):
    with pytest.raises(ValueError, match="series 0 begins at 0; nothing can be said about the time -1 before it"):
        fitted.predict(bridges(2), at=[-1.0])
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        fitted.predict_interval(bridges(2), level=0.0)
    with pytest.raises(ValueError, match="fitted on 2 channels; the series have 1"):
        fitted.impute(torch.zeros(3, 10, 1))
    with pytest.raises(ValueError, match="no series was observed at two times"):
        gd.StableSDEInterpolator(patience=None).fit(torch.zeros(4, 1, 1), progress=False)
    with pytest.raises(ValueError, match="validation must have the 2 channels"):
        gd.StableSDEInterpolator().fit(bridges(4), validation=torch.zeros(3, 10, 1), progress=False)
