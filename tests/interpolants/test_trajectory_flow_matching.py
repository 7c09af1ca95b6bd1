"""Series that follow linear laws, with and without noise, whole and with holes, against their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import gendyn
from gendyn.data import Paths, Scaling
from gendyn.interpolants.observed_series import ObservedSeries
from gendyn.interpolants.trajectory_process import GapProcess

SMALL = {"hidden": (64, 64), "steps": 1500, "batch_size": 256, "clock": False}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def irregular(n: int, length: int, seed: int = 0) -> torch.Tensor:
    """Times of each path's own, gaps between 0.2 and 1."""
    gaps = 0.2 + 0.8 * torch.rand(n, length - 1, generator=generator(seed), dtype=torch.float64)
    return torch.cat([torch.zeros(n, 1, dtype=torch.float64), gaps.cumsum(1)], dim=1)


def spiral(x0: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """Solve dx/dt = [[-0.2, -1], [1, -0.2]] x."""
    c, s, decay = times.cos(), times.sin(), (-0.2 * times).exp()
    x, y = x0[:, :1].double(), x0[:, 1:].double()
    return (torch.stack([c * x - s * y, s * x + c * y], dim=-1) * decay[..., None]).float()


def test_a_linear_flow_is_continued_at_any_times() -> None:
    start = torch.randn(300, 2, generator=generator(1))
    times = irregular(300, 8)
    model = gendyn.TrajectoryFlowMatching(**SMALL).fit(Paths(times, spiral(start, times)), progress=False)
    fresh = torch.randn(200, 2, generator=generator(2))
    grid = torch.tensor([0.0, 0.4, 1.3, 1.6, 2.5, 3.2], dtype=torch.float64)
    made = model.sample(fresh, grid)
    truth = spiral(fresh, grid.expand(200, -1))
    assert torch.equal(made.times, grid)
    error = (made.values - truth).square().mean((0, 2)).sqrt()
    assert error[0] < 1e-6
    assert error.max() < 0.1
    late = irregular(100, 6, seed=3)
    later = Paths(late, spiral(fresh[:100], late))
    assert model.score(later) > -0.06
    predicted = model.predict(later)
    assert not predicted.mask[:, 0].any()
    assert predicted.mask[:, 1:].all()
    assert torch.allclose(predicted.times, late)
    assert (predicted.values[:, 1:] - later.values[:, 1:]).square().mean().sqrt() < 0.06


def test_given_series_go_on_with_what_is_known_of_them() -> None:
    """Of a wave that is seen at equal steps, x_{k+1} = 2 cos(w) x_k - x_{k-1}: one observation does not do."""
    phase = 2 * math.pi * torch.rand(400, 1, generator=generator(4))
    angle = 0.9
    waves = torch.cos(phase + angle * torch.arange(10.0))
    past, future = Paths(torch.arange(6.0), waves[:, :6]), waves[:, 6:]
    errors = {}
    for history in (1, 2):
        model = gendyn.TrajectoryFlowMatching(history=history, **SMALL).fit(past, progress=False)
        made = model.sample(past, torch.arange(6.0, 10.0))
        assert made.values.shape == (400, 4, 1)
        errors[history] = float((made.values[..., 0] - future).square().mean().sqrt())
    assert errors[2] < 0.15
    assert errors[1] > 0.5


def test_the_next_observation_has_the_law_of_the_process() -> None:
    """Of an Ornstein-Uhlenbeck process it is Gaussian with mean x e^-d and variance (1 - e^-2d) after a gap d."""
    times = irregular(8000, 6, seed=5)
    gaps = times.diff(dim=1)
    x = [torch.randn(8000, generator=generator(6), dtype=torch.float64)]
    noise = torch.randn(8000, 5, generator=generator(7), dtype=torch.float64)
    for k in range(5):
        x.append(x[-1] * (-gaps[:, k]).exp() + (1 - (-2 * gaps[:, k]).exp()).sqrt() * noise[:, k])
    data = Paths(times, torch.stack(x, dim=1)[..., None].float())
    model = gendyn.TrajectoryFlowMatching(1.0, **SMALL).fit(data, progress=False)
    start = torch.full((4000, 1), 1.5)
    made = model.sample(start, [0.0, 0.5, 1.5], seed=1).values[..., 0]
    for k, elapsed in ((1, 0.5), (2, 1.5)):
        assert float(made[:, k].mean()) == pytest.approx(1.5 * math.exp(-elapsed), abs=0.12)
        assert float(made[:, k].var()) == pytest.approx(1 - math.exp(-2 * elapsed), abs=0.12)
    # The mean of one observation does not know the noise: what cannot be foreseen stays.
    unforeseen = math.sqrt(float((1 - (-2 * gaps).exp()).mean()))
    scale = float(model.process_.scale)
    assert model.score(data) == pytest.approx(-unforeseen / scale, rel=0.08)


class _ExactBridge(torch.nn.Module):
    """The drift of a bridge from 0 to N(mean, variance) with diffusion sigma."""

    def __init__(self, mean: float, variance: float, sigma: float) -> None:
        super().__init__()
        self.mean, self.variance, self.sigma = mean, variance, sigma

    def forward(self, t: torch.Tensor, z: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        gain = self.variance / (t * self.variance + self.sigma**2 * (1 - t))
        return (self.mean + gain * (z - t * self.mean) - z) / (1 - t)


@pytest.mark.parametrize(("variance", "sigma", "gap"), [(1.0, 1.0, 1.0), (0.25, 1.0, 0.5), (2.0, 0.7, 2.0)])
def test_an_exact_bridge_ends_in_the_law_it_was_given(variance: float, sigma: float, gap: float) -> None:
    network = _ExactBridge(3.0, variance, sigma * math.sqrt(gap))
    scaling = Scaling(torch.tensor([1.0]), torch.tensor([2.0]))
    process = GapProcess(network, scaling, sigma, torch.zeros(1), torch.tensor(gap))
    start = torch.full((20_000, 1), 1.0)
    errors = []
    for step in (0.02, 0.004):
        end = gendyn.sample(process, start, [0.0, 1.0], solver="euler_maruyama", step=step, seed=2).values[:, -1]
        assert float(end.mean()) == pytest.approx(7.0, abs=0.06)
        errors.append(abs(float(end.var()) / (4 * variance) - 1))
    assert errors[0] < 0.1
    assert errors[1] < 0.05


def test_what_was_not_seen_is_neither_learned_nor_mistaken() -> None:
    """Hidden entries may hold anything; models of the same series with other rubbish in the holes are equal."""
    start = torch.randn(60, 2, generator=generator(8))
    times = irregular(60, 6, seed=9)
    values = spiral(start, times)
    mask = torch.rand(values.shape, generator=generator(10)) < 0.7
    mask[:, 0, 0] = True
    one = Paths(times, torch.where(mask, values, torch.nan), mask)
    two = Paths(times, torch.where(mask, values, 1e6), mask)
    small = SMALL | {"steps": 20}
    models = [gendyn.TrajectoryFlowMatching(history=2, **small).fit(data, progress=False) for data in (one, two)]
    assert torch.equal(models[0].process_.network.mlp.layers[0].weight, models[1].process_.network.mlp.layers[0].weight)
    assert models[0].score(one) == models[1].score(two)


def test_series_are_pushed_together_and_filled_as_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 7, 3)).astype(np.float32)
    mask = rng.random((5, 7, 3)) < 0.4
    mask[:, 2] = True
    lengths = [7, 5, 3, 6, 7]
    paths = Paths(np.arange(7.0), values, mask, lengths)
    series = ObservedSeries(paths, Scaling(torch.zeros(3), torch.ones(3)), unit=2.0, origin=1.0)
    for i in range(5):
        rows = [k for k in range(lengths[i]) if mask[i, k].any()]
        assert int(series.counts[i]) == len(rows)
        last = np.zeros(3, dtype=np.float32)
        for place, k in enumerate(rows):
            last = np.where(mask[i, k], values[i, k], last)
            assert np.allclose(series.values[i, place].numpy(), last)
            assert (series.seen[i, place].numpy() == mask[i, k]).all()
            assert float(series.times[i, place]) == (k - 1.0) / 2.0
    gaps = {tuple(gap) for gap in series.gaps.tolist()}
    assert gaps == {(i, k) for i in range(5) for k in range(int(series.counts[i]) - 1)}
    path, row = torch.tensor([0, 0]), torch.tensor([0, 2])
    told = series.known(path, row, 2).context(torch.tensor([0.5, 0.5]), history=2, clock=True, label=None)
    assert told.shape == (2, 2 * 7 + 2)
    assert torch.equal(told[0, :3], series.values[0, 0])
    assert not told[0, 3:6].any(), "there was nothing before the first"
    assert torch.equal(told[1, 3:6], series.values[0, 1])
    assert float(told[1, 13]) == pytest.approx(float(series.times[0, 2] - series.times[0, 1]))


def test_labels_tell_series_apart() -> None:
    """Half of the series rise by one a step and half fall, from one start."""
    signs = torch.where(torch.arange(100) % 2 == 0, 1.0, -1.0)
    data = Paths(
        torch.arange(4.0), signs[:, None] * torch.arange(4.0), labels=["up" if s > 0 else "down" for s in signs]
    )
    model = gendyn.TrajectoryFlowMatching(labels=True, **(SMALL | {"steps": 600})).fit(data, progress=False)
    start = torch.zeros(2, 1)
    ends = model.sample(start, [0.0, 1.0, 2.0], label=["up", "down"]).values[:, -1, 0]
    assert torch.allclose(ends, torch.tensor([2.0, -2.0]), atol=0.2)
    on = model.sample(Paths([0.0], start[:, None], labels=["down", "up"]), [1.0]).values[:, 0, 0]
    assert torch.allclose(on, torch.tensor([-1.0, 1.0]), atol=0.2)
    assert model.sample(n=3).values.shape == (3, 4, 1)
    with pytest.raises(ValueError, match="give label= one of down, up"):
        model.sample(start, [0.0, 1.0])
    with pytest.raises(ValueError, match="was fitted with down, up; got 'flat'"):
        model.sample(start, [0.0, 1.0], label="flat")
    with pytest.raises(ValueError, match="the series have none"):
        model.score(Paths(torch.arange(4.0), torch.zeros(3, 4)))


def test_watched_series_end_a_fit_early() -> None:
    times = irregular(60, 5)
    data = Paths(times, spiral(torch.randn(60, 2, generator=generator(11)), times))
    model = gendyn.TrajectoryFlowMatching(hidden=(16,), steps=400, validation_fraction=0.2, patience=2)
    assert model.fit(data, progress=False).history_["validation"].notna().any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sigma": -1.0}, "sigma must be zero or positive"),
        ({"history": -1}, "history must be zero or a number"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"labels": True}, "labels=True needs paths with labels"),
        ({"validation_fraction": 0.5}, "leaves no gap to learn from or to watch"),
    ],
)
def test_sentences_of_fit(options: dict, words: str) -> None:
    data = Paths([0.0, 1.0], torch.zeros(1, 2, 1))
    with pytest.raises(ValueError, match=words):
        gendyn.TrajectoryFlowMatching(**options).fit(data, progress=False)


def test_sentences_of_data_and_use() -> None:
    model = gendyn.TrajectoryFlowMatching(steps=2, hidden=(4,))
    with pytest.raises(ValueError, match="no path was observed at two times"):
        model.fit(Paths([0.0], torch.zeros(3, 1, 1)), progress=False)
    with pytest.raises(TypeError, match="series of real values are needed"):
        model.fit(Paths([0.0, 1.0], torch.zeros(3, 2, dtype=torch.int64)), progress=False)
    with pytest.raises(ValueError, match="the times of these series fall"):
        model.fit(Paths([1.0, 0.0], torch.zeros(3, 2)), progress=False)
    data = Paths([0.0, 1.0, 2.0], torch.randn(9, 3, 1, generator=generator()))
    model.fit(data, progress=False)
    for call, words in (
        (lambda: model.sample(data, [2.0]), "must come after the last observation of every series; 2 does not"),
        (lambda: model.sample(data, [5.0]), r"time 5 lies outside the trained range \[0, 2\]"),
        (lambda: model.sample(torch.zeros(2, 3), [0.0, 1.0]), r"x0 must have shape \(B, 1\)"),
        (lambda: model.sample(torch.zeros(2, 1), [1.0, 0.0]), "times must increase strictly"),
        (lambda: model.sample(n=0), "n must be at least 1"),
        (lambda: model.sample(n=2, chunk=1), "leave out chunk"),
        (lambda: model.sample(n=2, label="up"), "this model knows no labels"),
        (lambda: model.score(Paths([0.0], torch.zeros(3, 1, 1))), "there is nothing to predict"),
        (lambda: model.score(Paths([0.0, 1.0], torch.zeros(3, 2, 2))), "fitted on 1 features; the data have 2"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    assert model.sample(data, [5.0], extrapolate=True).values.shape == (9, 1, 1)
