"""The loop, on problems whose answer is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gendyn.training import SCHEDULES, TrainingDiverged, WeightAverage, fingerprint, fit


class Regression:
    """Least squares against a plane, with a validation loss."""

    steps_per_epoch = 10

    def __init__(self, noise=0.0, dtype=torch.float64):
        self.module = nn.Linear(3, 1, dtype=dtype)
        nn.init.zeros_(self.module.weight)
        nn.init.zeros_(self.module.bias)
        self.noise = noise
        self.seen = []

    def loss(self, step, generator):
        x = torch.randn(64, 3, generator=generator, dtype=torch.float64)
        y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 3.0
        y = y + self.noise * torch.randn(64, 1, generator=generator, dtype=torch.float64)
        self.seen.append(step)
        return (self.module(x) - y).square().mean()


class Watched(Regression):
    """Gets worse on held-out data after a while."""

    def __init__(self, turn):
        super().__init__()
        self.turn, self.calls, self.states = turn, 0, []

    def validation_loss(self):
        self.calls += 1
        self.states.append(self.module.weight.detach().clone())
        return abs(self.calls - self.turn)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_it_finds_the_plane(optimizer):
    problem = Regression()
    result = fit(problem, steps=600, lr=0.05, optimizer=optimizer, progress=False)
    torch.testing.assert_close(
        problem.module.weight[0].detach(), torch.tensor([1.0, -2.0, 0.5]).double(), atol=1e-2, rtol=0
    )
    assert result.stopped == "steps"
    assert result.steps == 600 == len(problem.seen)
    assert len(result.history) == 200
    assert result.history["loss"].iloc[-1] < 1e-3
    assert not problem.module.training


def test_epochs_are_counted_in_steps():
    assert fit(Regression(), epochs=2.5, progress=False).steps == 25


def test_the_average_of_weights_is_the_exponential_one():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = WeightAverage(module, 0.9)
    for k in range(200):
        with torch.no_grad():
            module.weight.fill_(1.0)
        average.update(k)
    average.swap()
    assert float(module.weight) == pytest.approx(1.0, abs=1e-6)
    average.swap()
    assert float(module.weight) == 1.0


def test_early_stopping_restores_the_best_weights():
    problem = Watched(turn=4)
    result = fit(problem, steps=400, patience=3, progress=False)
    assert result.stopped == "early"
    assert problem.calls == 7
    assert torch.equal(problem.module.weight, problem.states[3])
    assert result.best_step == int(result.history["step"][result.history["validation"].eq(0.0)].iloc[0])


def test_validation_can_be_watched_without_stopping():
    result = fit(Watched(turn=2), steps=100, validate_every=10, progress=False)
    assert result.steps == 100
    assert result.history["validation"].notna().sum() == 10


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_schedules_start_at_one_or_warm_up_and_stay_within(name):
    values = [SCHEDULES[name](k / 100) for k in range(100)]
    assert max(values) <= 1.0 + 1e-12
    assert min(values) >= 0.0


def test_cosine_is_the_cosine():
    assert [SCHEDULES["cosine"](s) for s in (0.0, 0.5)] == pytest.approx([1.0, 0.5])


def test_clipping_bounds_the_step():
    problem = Regression()
    fit(problem, steps=1, lr=1.0, optimizer="sgd", clip=0.1, schedule="constant", progress=False)
    norm = torch.cat([problem.module.weight.flatten(), problem.module.bias]).norm()
    assert float(norm) == pytest.approx(0.1, rel=1e-5)


def test_randomness_belongs_to_the_step():
    # The k-th step sees the same numbers however many came before it.
    def numbers(start):
        seen = {}

        class Spy(Regression):
            def loss(self, step, generator):
                seen[step] = torch.rand(1, generator=generator).item() if step >= start else None
                return super().loss(step, torch.Generator().manual_seed(0))

        fit(Spy(), steps=20, seed=5, progress=False)
        return seen

    full, late = numbers(0), numbers(10)
    assert [full[k] for k in range(10, 20)] == [late[k] for k in range(10, 20)]
    assert len(set(full.values())) == 20


@pytest.mark.parametrize("how", ["loss", "weight"])
def test_a_loss_that_is_not_finite_stops_the_fit(how):
    class Bad(Regression):
        def loss(self, step, generator):
            value = super().loss(step, generator)
            if step == 50:
                if how == "loss":
                    return value * math.nan
                with torch.no_grad():
                    self.module.weight[0, 0] = math.inf
            return value

    problem = Bad()
    with pytest.raises(TrainingDiverged, match="stopped being finite before step .*last good") as caught:
        fit(problem, steps=200, progress=False)
    assert torch.isfinite(problem.module.weight).all()
    assert caught.value.history["step"].iloc[-1] <= 50
    assert np.isfinite(caught.value.history["loss"]).all()


def test_ctrl_c_ends_with_the_weights_so_far():
    class Stopped(Regression):
        def loss(self, step, generator):
            if step == 37:
                raise KeyboardInterrupt
            return super().loss(step, generator)

    with pytest.warns(UserWarning, match="interrupted after 37 of 100 steps"):
        result = fit(Stopped(), steps=100, progress=False)
    assert (result.stopped, result.steps) == ("interrupted", 37)


def test_callbacks_hear_of_every_row():
    heard = []
    result = fit(Regression(), steps=40, record_every=10, callbacks=[lambda k, v: heard.append((k, v))], progress=False)
    assert [k for k, _ in heard] == [10, 20, 30, 40]
    assert [v for _, v in heard] == result.history["loss"].tolist()


def test_fingerprints_see_every_change():
    x = torch.zeros(3)
    base = fingerprint(x, seed=0, lr=0.1)
    assert base == fingerprint(x.clone(), seed=0, lr=0.1)
    others = {
        fingerprint(x + 1, seed=0, lr=0.1),
        fingerprint(x, seed=1, lr=0.1),
        fingerprint(x, seed=0, lr=0.2),
        fingerprint(x.double(), seed=0, lr=0.1),
        fingerprint(x.reshape(3, 1), seed=0, lr=0.1),
    }
    assert len(others) == 5
    assert base not in others


@pytest.mark.parametrize("spoil", [b"", b"not a checkpoint", None])
def test_a_spoilt_checkpoint_is_said_and_kept(tmp_path, spoil):
    path = tmp_path / "state"
    if spoil is None:
        fit(Regression(), steps=5, checkpoint=path, fingerprint="other", progress=False)
    else:
        path.write_bytes(spoil)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="resume=False to start anew"):
        fit(Regression(), steps=5, checkpoint=path, progress=False)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either steps or epochs"),
        ({"steps": 1, "epochs": 1}, "either steps or epochs"),
        ({"steps": 0}, "at least 1 step"),
        ({"steps": 1, "lr": -1.0}, "lr must be positive"),
        ({"steps": 1, "lr": math.inf}, "lr must be positive"),
        ({"steps": 1, "clip": 0.0}, "clip must be positive"),
        ({"steps": 1, "patience": 0}, "patience must be at least 1"),
        ({"steps": 1, "patience": 2}, "patience needs an objective with validation_loss"),
        ({"steps": 1, "optimizer": "magic"}, "optimizer must be one of adam"),
        ({"steps": 1, "schedule": "magic"}, "schedule"),
        ({"steps": 1, "ema": 1.5}, "decay|ema"),
    ],
)
def test_sentences(options, message):
    with pytest.raises(ValueError, match=message):
        fit(Regression(), progress=False, **options)


def test_other_sentences(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it first"):
        fit(Regression(), steps=1, checkpoint=tmp_path / "no" / "state", progress=False)
    with pytest.raises(ValueError, match="is a folder"):
        fit(Regression(), steps=1, checkpoint=tmp_path, progress=False)
    frozen = Regression()
    frozen.module.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        fit(frozen, steps=1, progress=False)
