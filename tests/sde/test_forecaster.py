"""Proper losses against closed forms, and forecasts: where they begin, how wide they are, what they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import gendyn as gd
from gendyn.evaluation import coverage
from gendyn.sde import crps_loss, energy_loss, read_series
from gendyn.sde.recent_values import last_values, recent_values

NAN = float("nan")


def test_the_crps_of_a_normal_law():
    generator = torch.Generator().manual_seed(0)
    members = torch.randn(64, 200_000 // 64, dtype=torch.float64, generator=generator)
    for outcome, expected in ((0.0, 0.233695), (1.0, 0.602441)):
        found = [float(crps_loss(part, torch.full((250,), outcome).double())) for part in members.split(250, 1)[:12]]
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - expected) < 4 * error
    outcome = torch.randn(members.shape[1], dtype=torch.float64, generator=generator)
    assert float(crps_loss(members, outcome)) == pytest.approx(0.564190, abs=0.03)


@pytest.mark.parametrize("loss", [crps_loss, energy_loss])
def test_a_fair_score_is_its_definition(loss):
    generator = torch.Generator().manual_seed(1)
    members = torch.randn(5, 7, 3, dtype=torch.float64, generator=generator)
    y = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    seen = torch.rand(7, 3, generator=generator) < 0.6
    total, count = 0.0, 0
    for b in range(7):
        keep = seen[b].numpy()
        x, target = members[:, b].numpy()[:, keep], y[b].numpy()[keep]
        parts = [x] if loss is energy_loss else [x[:, k : k + 1] for k in range(x.shape[1])]
        targets = [target] if loss is energy_loss else [target[k : k + 1] for k in range(x.shape[1])]
        for part, goal in zip(parts, targets, strict=True):
            apart = np.mean([np.linalg.norm(a - goal) for a in part])
            spread = sum(np.linalg.norm(a - b) for a, b in itertools.permutations(part, 2)) / (2 * 5 * 4)
            total, count = total + apart - spread, count + 1
    assert float(loss(members, y, seen)) == pytest.approx(total / count, rel=1e-9)
    with pytest.raises(ValueError, match="at least two members; got 1"):
        loss(members[:1], y)


def test_scores_can_be_learned_from_where_members_meet():
    members = torch.zeros(3, 4, 2, requires_grad=True)
    energy_loss(members, torch.zeros(4, 2)).backward()
    assert torch.isfinite(members.grad).all()


def test_the_recent_past_is_on_lines_and_says_where_one_looked():
    series = read_series(torch.tensor([[0.0, NAN, 4.0, 5.0, NAN]]))
    # Times 4, 3, 2, 1: the last is held, 1 lies on a line.
    assert recent_values(series, 1.0, 4).tolist() == [[5.0, 5.0, 4.0, 2.0, 0.0, 1.0, 1.0, 0.0]]
    assert last_values(read_series(torch.tensor([[[1.0, NAN], [NAN, NAN]]]))).tolist() == [[1.0, 0.0]]


def autoregressive(n, length=30, seed=0):
    """Two channels that go back to zero; what comes next has a known law."""
    generator = torch.Generator().manual_seed(seed)
    x = [torch.randn(n, 2, generator=generator)]
    for _ in range(length - 1):
        x.append(0.8 * x[-1] + 0.6 * torch.randn(n, 2, generator=generator))
    return torch.stack(x, 1)


@pytest.fixture(scope="module")
def fitted():
    model = gd.StableSDEForecaster(horizon=3, hidden=16, epochs=6, lr=3e-3)
    return model.fit(autoregressive(500), progress=False)


def test_forecasts_of_a_known_process_are_nearly_as_good_as_its_law(fitted):
    test = autoregressive(2000, seed=1)
    past, future = test[:, :27], test[:, 27:].numpy()
    for k, found in enumerate(fitted.predict(past).swapaxes(0, 1)):
        best = 1 - 0.64 ** (k + 1)
        assert ((found - future[:, k]) ** 2).mean() < 1.1 * best
    low, high = fitted.predict_interval(past, level=0.8)
    assert 0.75 < ((low <= future) & (future <= high)).mean() < 0.85
    # The law of the last lead, and its expected score.
    deviation = np.sqrt(1 - 0.64**3)
    members = fitted.predict_samples(past, n=100)
    score = crps_loss(torch.from_numpy(members[:, :, 2]), torch.from_numpy(future[:, 2]))
    assert 0.98 * 0.564190 * deviation < float(score) < 1.05 * 0.564190 * deviation


def test_the_evaluation_core_judges_its_members(fitted):
    test = autoregressive(500, seed=3)
    members = fitted.predict_samples(test[:, :27], n=200)
    found = coverage(test[:, 27:], members.swapaxes(0, 1), level=0.8)
    low, high = np.quantile(members, [0.1, 0.9], axis=0)
    future = test[:, 27:].numpy()
    assert found.value == pytest.approx(((low <= future) & (future <= high)).mean(), abs=0.01)
    assert 0.75 < found.value < 0.85


def test_controls_do_not_see_the_future(fitted):
    x = autoregressive(5, seed=2)[:, :27]
    later = torch.cat([x, torch.full((5, 1, 2), NAN)], 1)
    # The same past, and a row in which nobody looked, is one step closer to the same times.
    at = np.array([28.0, 29.0])
    assert np.abs(fitted.predict(x, at=at) - fitted.predict(later, at=at)).max() < 0.5
    with pytest.raises(ValueError, match="series 0 ends at 26 and is asked about 5: interpolate instead"):
        fitted.predict(x, at=[5.0])


def test_a_residual_model_begins_at_the_ridge_regression():
    x = autoregressive(200)
    model = gd.StableSDEForecaster(horizon=2, hidden=8, epochs=1, lr=1e-9, patience=None, n_samples=4000)
    model.fit(x, progress=False)
    test = autoregressive(20, seed=1)[:, :28]
    plain = 0.8 ** torch.tensor([1.0, 2.0])[:, None] * test[:, -1:]
    assert float((torch.from_numpy(model.predict(test)) - plain).abs().mean()) < 0.2
    alone = gd.StableSDEForecaster(horizon=2, residual=False, epochs=1, lr=1e-9, patience=None, n_samples=4000)
    alone.fit(x, progress=False)
    assert float(np.abs(alone.predict(test)).mean()) < 0.1


def test_a_start_by_kernels_sees_what_no_line_does(tmp_path):
    def folded(n, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 6, 1, generator=generator)
        return torch.cat([x, x[:, -1:].square() + 0.05 * torch.randn(n, 1, 1, generator=generator)], 1)

    train, test = folded(300, 0), folded(100, 1)
    errors = {}
    for start in ("ridge", "kernel"):
        model = gd.StableSDEForecaster(horizon=1, start=start, hidden=8, epochs=1, lr=1e-9)
        model.fit(train, progress=False)
        errors[start] = np.square(model.predict_start(test[:, :6]) - test[:, 6:].numpy()).mean()
    assert errors["kernel"] < 0.1 * errors["ridge"]
    model.save(tmp_path / "model.safetensors")
    again = gd.load(tmp_path / "model.safetensors")
    assert np.array_equal(again.predict_start(test[:, :6]), model.predict_start(test[:, :6]))
    assert np.array_equal(again.predict(test[:, :6]), model.predict(test[:, :6]))


def test_units_of_time_do_not_matter():
    x, t = autoregressive(60), torch.arange(30.0, dtype=torch.float64)
    found = []
    for unit in (1.0, 1000.0):
        model = gd.StableSDEForecaster(horizon=2, hidden=8, epochs=2, patience=None).fit(
            x, times=unit * t, progress=False
        )
        found.append(model.predict(x[:, :28], times=unit * t[:28]))
    assert np.allclose(*found, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "horizon and recent must be at least 1"),
        ({"horizon": 30}, "series 0 has 30 rows, no more than the horizon of 30"),
        ({"start": "spline"}, "start must be 'ridge' or 'kernel'; got 'spline'"),
        ({"loss": "mse"}, "loss must be one of crps, energy"),
        ({"n_samples": 0}, "n_samples must be at least 1"),
    ],
)
def test_what_is_out_of_range_has_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        gd.StableSDEForecaster(**options).fit(autoregressive(10), progress=False)


def test_levels_and_channels_are_checked(fitted):
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        fitted.predict_interval(autoregressive(2)[:, :27], level=1.0)
    with pytest.raises(ValueError, match="fitted on 2 channels; the series have 1"):
        fitted.predict(torch.zeros(3, 10, 1))
