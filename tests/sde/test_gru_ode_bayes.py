"""GRU-ODE-Bayes: the published equations written out for one series in NumPy, the invariant, the density by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

import gendyn as gd
from gendyn.sde.gru_ode import GRUFlow, GRUODEModel

NAN = float("nan")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class ByHand:
    """The state of one series, moved step by step."""

    def __init__(self, model):
        self.w = {name: p.detach().numpy() for name, p in model.named_parameters()}
        self.dim, self.h = model.dim, np.tanh(self.w["start"])

    def expect(self):
        w = self.w
        inner = np.maximum(w["expected.layers.0.weight"] @ self.h + w["expected.layers.0.bias"], 0)
        both = w["expected.layers.2.weight"] @ inner + w["expected.layers.2.bias"]
        return both[: self.dim], both[self.dim :]

    def flow(self, span, steps):
        w = self.w
        for _ in range(steps):
            r, z = np.split(sigmoid(w["flow.gates.weight"] @ self.h + w["flow.gates.bias"]), 2)
            c = np.tanh(w["flow.candidate.weight"] @ (r * self.h) + w["flow.candidate.bias"])
            self.h = self.h + span / steps * (1 - z) * (c - self.h)

    def jump(self, x):
        if np.isnan(x).all():
            return
        w, (mean, log_variance) = self.w, self.expect()
        told = np.zeros((self.dim, w["prepare"].shape[2]))
        for d in range(self.dim):
            if not np.isnan(x[d]):
                error = (x[d] - mean[d]) / np.exp(log_variance[d] / 2)
                features = np.array([x[d], mean[d], log_variance[d], error])
                told[d] = np.maximum(features @ w["prepare"][d] + w["prepare_from"][d], 0)
        a = w["told.weight"] @ told.ravel() + w["told.bias"]
        ar, az, ac = np.split(a, 3)
        ur, uz = np.split(w["gates.weight"], 2)
        r, z = sigmoid(ar + ur @ self.h), sigmoid(az + uz @ self.h)
        self.h = (1 - z) * np.tanh(ac + w["candidate.weight"] @ (r * self.h)) + z * self.h


def series(n=3, length=7, dim=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, length, dim, generator=generator, dtype=torch.float64)
    x[torch.rand(x.shape, generator=generator) < 0.4] = NAN
    return x, torch.rand(n, length, generator=generator, dtype=torch.float64).add(0.05).cumsum(1)


def test_states_are_those_of_the_published_equations():
    x, times = series(1)
    model = GRUODEModel(2, 5, 4).double()
    with torch.no_grad():
        model.start.copy_(torch.linspace(-1, 1, 5))
    found = model.states(times, x, step=0.1)
    told = ByHand(model)
    for k, (t, row) in enumerate(zip(times[0].tolist(), x[0].numpy(), strict=True)):
        if k:
            span = t - float(times[0, k - 1])
            told.flow(span, int(np.ceil(span / 0.1)))
        assert np.abs(found.before[0, k].detach().numpy() - told.h).max() < 1e-12
        told.jump(row)
        assert np.abs(found.after[0, k].detach().numpy() - told.h).max() < 1e-12


def test_the_state_never_leaves_its_cube():
    x, times = series(20, 12)
    for seed in range(3):
        model = GRUODEModel(2, 6, 4, seed=seed).double()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(10)
        # Steps up to the longest of which a state is still a mean of points of the cube.
        for part in model.states(times, 100 * x, step=1.0):
            assert bool((part.abs() <= 1).all())


def test_a_series_of_a_ragged_batch_runs_as_if_alone():
    lengths = [7, 4, 1]
    x, times = series()
    for k, n in enumerate(lengths):
        x[k, n:], times[k, n:] = NAN, times[k, n - 1]
    model = GRUODEModel(2, 5, 4).double()
    together = model.states(times, x, step=0.001)
    for k, n in enumerate(lengths):
        alone = model.states(times[k : k + 1, :n], x[k : k + 1, :n], step=0.001)
        # A step of a batch is as short as its longest interval needs; a finer step shows how little that matters.
        assert torch.allclose(together.after[k, :n], alone.after[0], atol=1e-3)
        assert torch.equal(together.after[k, n - 1 :], together.after[k, n - 1].expand(8 - n, -1))


def test_gradients_reach_every_parameter():
    x, times = series()
    model = GRUODEModel(2, 5, 4).double()
    states = model.states(times, x, step=0.2)
    mean, log_variance = model.expect(states.after)
    (mean.square().sum() + log_variance.square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def waves(n=60, length=30, seed=0):
    """Waves of random phase, looked at here and there."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.linspace(0, 6.28, length)
    x = 3 + 2 * torch.sin(t + 6.28 * torch.rand(n, 1, generator=generator))
    x = x + 0.05 * torch.randn(n, length, generator=generator)
    x[torch.rand(n, length, generator=generator) < 0.5] = NAN
    return x[:, :, None]


def small(**more):
    return gd.GRUODEBayes(**{"hidden": 16, "inner": 8, "step": 0.05, "lr": 1e-2} | more)


def test_the_score_is_the_density_of_each_observation_given_those_before():
    x = waves(20)
    model = small(epochs=2).fit(x, progress=False)
    asked, total, count = x[:4], 0.0, 0
    for k in range(30):
        past = asked.clone()
        past[:, k:] = NAN
        mean, deviation = model.predict_normal(past, at=[float(k)], times=torch.arange(30.0))
        seen = ~asked[:, k, 0].isnan().numpy()
        total += norm.logpdf(asked[:, k, 0].numpy(), mean[:, 0, 0], deviation[:, 0, 0])[seen].sum()
        count += seen.sum()
    assert model.score(asked) == pytest.approx(total / count, abs=1e-4)


def test_it_expects_better_than_a_normal_law_that_knows_no_past():
    x, asked = waves(150), waves(50, seed=1)
    model = small(epochs=30).fit(x, progress=False)
    seen = asked[~asked.isnan()].numpy()
    trivial = norm.logpdf(seen, seen.mean(), seen.std()).mean()
    assert model.score(asked) > trivial + 0.5
    members = model.predict_samples(asked, at=[10.5], n=400)
    mean, deviation = model.predict_normal(asked, at=[10.5])
    assert np.abs((members.mean(0) - mean) / deviation).max() < 5 / 20
    assert np.abs(members.std(0) / deviation - 1).max() < 0.2


def test_the_unit_of_time_does_not_matter():
    x, asked = waves(), waves(5, seed=1)
    t = torch.arange(30.0, dtype=torch.float64)
    found = [
        small(epochs=2, patience=None).fit(x, times=t * u, progress=False).predict(asked, at=[40.0 * u], times=t * u)
        for u in (1.0, 1000.0)
    ]
    assert np.allclose(*found, atol=1e-4)


def test_nothing_observed_has_an_answer_and_the_flow_is_a_process():
    model = small(epochs=1).fit(waves(20), progress=False)
    assert np.isfinite(model.predict(torch.full((2, 30, 1), NAN), at=[3.0, 50.0])).all()
    assert isinstance(model.process_, GRUFlow)
    assert gd.sample(model.process_, torch.zeros(2, 16), [0.0, 1.0]).values.shape == (2, 2, 16)
    assert model.sample(n=3, times=[5.0, 6.0]).times.tolist() == [5.0, 6.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"inner": 0}, "inner must be at least 1"),
        ({"step": 0.0}, "step must be positive"),
        ({"mixing": -1.0}, "mixing must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_hyper_parameters_out_of_range_have_a_sentence(options, message):
    model = small(**options)
    with pytest.raises(ValueError, match=message):
        model.fit(waves(10), progress=False)
    assert not hasattr(model, "process_")


def test_what_cannot_be_answered_is_refused():
    model = small(epochs=1).fit(waves(10), progress=False)
    with pytest.raises(ValueError, match="begins at 0; nothing can be said about the time"):
        model.predict(waves(2), at=[-3.0])
    with pytest.raises(ValueError, match="fitted on 1 channels; the series have 2"):
        model.predict(torch.zeros(2, 5, 2))
    with pytest.raises(ValueError, match="n must be at least 1"):
        model.predict_samples(waves(2), n=0)
    with pytest.raises(TypeError, match="no options to sample; got solver"):
        model.sample(solver="euler")
