"""Sources that are made from the data, between Gaussians, where fields and restored laws are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants.dependent_source import DependentSource
from gendyn.interpolants.ends import ends_from_data
from gendyn.interpolants.schedule import Linear, Schedule, Trigonometric

MEAN, VARIANCE, SLOPE, SHIFT, NOISE = 2.0, 1.5, 0.5, -1.0, 0.8


def halved(x: torch.Tensor) -> torch.Tensor:
    """Return m(x) = x / 2 - 1."""
    return SLOPE * x + SHIFT


def law(schedule: Schedule, t: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return mean and variance of x_t, the mean's rate and half the variance's.

    .. math:: C = (alpha k + beta)^2 v + alpha^2 s^2 + gamma^2
    """
    c = schedule.at(t)
    joint, rate = SLOPE * c.alpha + c.beta, SLOPE * c.alpha_rate + c.beta_rate
    variance = joint**2 * VARIANCE + c.alpha**2 * NOISE**2 + c.gamma**2
    half_rate = joint * rate * VARIANCE + c.alpha * c.alpha_rate * NOISE**2 + c.gamma_product
    return joint * MEAN + c.alpha * SHIFT, variance, rate * MEAN + c.alpha_rate * SHIFT, half_rate


def population(n: int = 2000) -> Snapshots:
    """Return quantiles, so that no error of sampling is in the moments."""
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()[:, None]
    return Snapshots(
        [3.0], [MEAN + math.sqrt(VARIANCE) * z[torch.randperm(n, generator=torch.Generator().manual_seed(0))]]
    )


@pytest.mark.parametrize("schedule", [Linear("zero"), Linear(), Trigonometric("quadratic")])
@pytest.mark.parametrize("time", [0.25, 0.8])
def test_ends_have_the_joint_law(schedule: Schedule, time: float) -> None:
    """The velocity between Gaussians is the regression of the rate of a path on its place."""
    data, source = population(5000), DependentSource(halved, NOISE)
    x = data.samples[0].double()
    draw = ends_from_data(Snapshots([0.0], [x]), source.mean(x), source.draw)
    n, generator = 400_000, torch.Generator().manual_seed(1)
    ends = draw(torch.zeros(n, dtype=torch.int64), generator)
    z = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    t = torch.tensor(time, dtype=torch.float64)
    c = schedule.at(t)
    place = c.alpha * ends.source + c.beta * ends.target + c.gamma * z
    moved = c.alpha_rate * ends.source + c.beta_rate * ends.target + c.gamma_rate * z
    mean, variance, rate, half_rate = (float(v) for v in law(schedule, t))
    assert float(place.mean()) == pytest.approx(mean, abs=0.01)
    assert float(place.var()) == pytest.approx(variance, rel=0.01)
    slope = torch.cov(torch.cat([place, moved], dim=1).T)[0, 1] / place.var()
    assert float(slope) == pytest.approx(half_rate / variance, abs=0.015)
    assert float(moved.mean()) == pytest.approx(rate, abs=0.01)
    # The same ends joined independently would have another law.
    apart = float(c.alpha**2 * (SLOPE**2 * VARIANCE + NOISE**2) + c.beta**2 * VARIANCE + c.gamma**2)
    assert abs(apart - variance) > 0.1


@pytest.mark.parametrize("gamma", ["zero", "brownian"])
def test_learned_fields_and_restored_points(gamma: str) -> None:
    # The latent noise is in scaled units, the noise of the source in those of the data.
    scale = "global" if gamma == "zero" else "none"
    options = {"steps": 1500, "hidden": (48, 48), "lr": 5e-3, "scale": scale}
    model = gendyn.StochasticInterpolant("linear", gamma, source=halved, source_noise=NOISE, **options)
    model.fit(population(), progress=False)
    schedule = model.fields_.schedule
    t = torch.rand(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.9 + 0.05
    mean, variance, rate, half_rate = law(schedule, t)
    x = mean + variance.sqrt() * torch.randn(400, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    velocity = rate + half_rate / variance * (x - mean)
    shift, scale = float(model.scaling_.shift), float(model.scaling_.scale)
    found = scale * model.fields_.velocity(t.float(), (x.float() - shift) / scale)
    assert float((found - velocity).square().mean() / velocity.square().mean()) < 0.01
    points = population(3000).samples[0]
    # Half of m is taken away by the noise: given to m(x), paths end in the law of x.
    for options in [{}] if gamma == "zero" else [{}, {"epsilon": 0.3, "step": 0.005}]:
        made = model.sample(halved(points), [0.0, 0.5, 1.0], seed=3, **options).values[..., 0].double()
        for k, time in enumerate((0.0, 0.5, 1.0)):
            wanted = law(schedule, torch.tensor(time, dtype=torch.float64))
            assert float(made[:, k].mean()) == pytest.approx(float(wanted[0]), abs=0.1)
            assert float(made[:, k].var()) == pytest.approx(float(wanted[1]), rel=0.1)
    own = model.sample(n=3000, seed=4).values[..., 0]
    assert float(own[:, 0].var()) == pytest.approx(SLOPE**2 * VARIANCE + NOISE**2, rel=0.1)
    assert model.score(population(1000)) > -0.15


def test_noise_is_fresh_and_of_the_seed() -> None:
    model = gendyn.StochasticInterpolant(
        "linear", "zero", source="identity", source_noise=0.5, steps=5, hidden=(8,)
    ).fit(population(50), progress=False)
    y = torch.zeros(2000, 1)
    first, again, other = (model.sample(y, [0.0, 1.0], seed=k).values[:, 0] for k in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(0.5, rel=0.05)
    # From later on, and backward from the data, points are what they are.
    assert torch.equal(model.sample(y, [0.5, 1.0]).values[:, 0], y)
    assert torch.equal(model.sample(y, [1.0, 0.0]).values[:, 0], y)


def test_what_is_observed_is_conditioned_on() -> None:
    """Of two correlated features one is seen: paths end in the law of the other given it."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 2, generator=generator)
    x = torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], dim=1) * 3.0
    model = gendyn.StochasticInterpolant(
        "linear",
        "zero",
        source=lambda p: p * torch.tensor([1.0, 0.0]),
        source_noise=(0.0, 3.0),
        observed=True,
        steps=1500,
        hidden=(48, 48),
        lr=5e-3,
    ).fit(Snapshots([0.0], [x]), progress=False)
    for seen in (-3.0, 0.0, 4.0):
        y = torch.tensor([[seen, 0.0]]).expand(1500, 2)
        made = model.sample(y, [0.0, 1.0], seed=1).values[:, -1]
        assert float((made[:, 0] - seen).abs().max()) < 0.3
        assert float(made[:, 1].mean()) == pytest.approx(0.8 * seen, abs=0.25)
        assert float(made[:, 1].std()) == pytest.approx(1.8, rel=0.1)
    with pytest.raises(ValueError, match="give observation="):
        model.log_prob(x[:3], base=lambda p: p.sum(1))
    with pytest.raises(ValueError, match=r"observation must have shape \(3, 2\); got \(2, 2\)"):
        model.log_prob(x[:3], base=lambda p: p.sum(1), observation=x[:2])
    with pytest.raises(ValueError, match="begin at time 0; got 0.5"):
        model.sample(x[:3], [0.5, 1.0])


def test_densities_of_restored_points() -> None:
    """With noise on both features the density given what is seen is known, and its base is the source's."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    x = torch.stack([z[:, 0], 0.8 * z[:, 0] + 0.6 * z[:, 1]], dim=1)
    keep = torch.tensor([0.0, 1.0], dtype=torch.float64)
    model = gendyn.StochasticInterpolant(
        "linear", "zero", source=lambda p: p * keep, source_noise=1.0, steps=1500, hidden=(48, 48), lr=5e-3
    ).fit(Snapshots([0.0], [x]), progress=False)
    covariance = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    base = torch.distributions.MultivariateNormal(keep * 0, covariance * keep[:, None] * keep + torch.eye(2).double())
    truth = torch.distributions.MultivariateNormal(keep * 0, covariance)
    points = truth.mean + z[:200] @ torch.linalg.cholesky(covariance).T
    found = model.log_prob(points, base=base)
    assert float((found - truth.log_prob(points)).abs().mean()) < 0.2
    ends, forward = model.sample_with_log_prob(n=100, base=base, seed=1)
    torch.testing.assert_close(model.log_prob(ends, base=base), forward, rtol=0, atol=1e-4)


def test_weights_labels_and_files(tmp_path) -> None:
    data = Snapshots(
        [0.0],
        [torch.tensor([[-1.0], [1.0]]).repeat(20, 1)],
        weights=[torch.tensor([1.0, 0.0]).repeat(20)],
        obs=[pd.DataFrame({"kind": ["a", "b"] * 20})],
    )
    options = {"source": "identity", "source_noise": 0.1, "steps": 5, "hidden": (8,), "validation_fraction": 0.2}
    model = gendyn.StochasticInterpolant("linear", condition="kind", unconditional=0.0, observed=True, **options)
    model.fit(data, progress=False)
    assert set(model.initial_[:, 0].tolist()) == {-1.0}
    made = model.sample(n=6, condition=["a", "b"] * 3, seed=1)
    model.save(tmp_path / "model.safetensors")
    again = gendyn.load(tmp_path / "model.safetensors")
    assert torch.equal(again.sample(n=6, condition=["a", "b"] * 3, seed=1).values, made.values)
    guided = gendyn.StochasticInterpolant("linear", condition="kind", **options).fit(data, progress=False)
    assert torch.isfinite(guided.sample(n=4, condition="a", guidance=1.0, seed=1).values).all()


def test_guidance_hides_the_label_and_not_what_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=generator)
    data = Snapshots([0.0], [x], obs=[pd.DataFrame({"kind": ["a", "b"] * 30})])
    options = {"source": "identity", "source_noise": 0.5, "observed": True, "condition": "kind"}
    model = gendyn.StochasticInterpolant(unconditional=0.5, steps=50, hidden=(16,), **options).fit(data, progress=False)
    base = torch.distributions.Normal(torch.zeros(2), 1.0)
    told = model.log_prob(x[:5], base=base, observation=x[:5], condition="a")
    assert torch.equal(told, model.log_prob(x[:5], base=base, observation=x[:5], condition="a", guidance=0.0))
    guided = model._flow(5, "a", 2.0, x[:5]).velocity(torch.tensor(0.5), x[:5])
    plain = model._flow(5, "a", 0.0, x[:5]).velocity(torch.tensor(0.5), x[:5])
    untold = model._flow(5, None, 0.0, x[:5]).velocity(torch.tensor(0.5), x[:5])
    torch.testing.assert_close(guided, 3 * plain - 2 * untold)
    elsewhere = model._flow(5, None, 0.0, x[5:10]).velocity(torch.tensor(0.5), x[:5])
    assert not torch.allclose(untold, elsewhere)
    # The rows of training: labels come and go, what is observed stays.
    ends = model._ends(model.scaling_.populations(data), model.fields_.schedule, 0)
    seen = ends(torch.zeros(200, dtype=torch.int64), generator).condition
    hidden = model._objective(ends, None)._hide(seen, generator)
    assert torch.equal(hidden[:, 3:], seen[:, 3:])
    assert 0 < int((hidden[:, 2] == 0).sum()) < 200


def two(n: int = 30) -> Snapshots:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    return Snapshots([0.0, 1.0], [x, x + 1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "blur"}, "source must be 'identity' or a function of points"),
        ({"source": "identity", "source_noise": -1.0}, "source_noise must be zero or positive"),
        ({"source": "identity", "source_noise": (1.0, float("nan"))}, "source_noise must be zero or positive"),
        ({"source": "identity", "source_noise": (1.0, 1.0, 1.0)}, "one for each of 2 features; got 3"),
        ({"source_noise": 1.0}, "belong to a source"),
        ({"observed": True}, "belong to a source"),
        ({"source": lambda x: x[:, :1]}, r"as it is given, \(30, 2\); got \(30, 1\)"),
        ({"source": lambda x: x / torch.tensor([1.0, 0.0])}, "must return finite points; 30 of 30 rows are not"),
        ({"source": "identity", "schedule": "one-sided-linear"}, "has its own source"),
        ({"source": "identity", "coupling": "ot"}, "leave coupling and match out"),
    ],
)
def test_sentences(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gendyn.StochasticInterpolant(**({"steps": 2, "hidden": (4,)} | options)).fit(two().only([0.0]), progress=False)


def test_one_population_is_needed() -> None:
    model = gendyn.StochasticInterpolant(source="identity", source_noise=1.0)
    with pytest.raises(ValueError, match="a source that is made from the data takes one population; got 2 times"):
        model.fit(two(), progress=False)
    plain = gendyn.StochasticInterpolant(steps=2, hidden=(4,)).fit(two(), progress=False)
    with pytest.raises(ValueError, match="sees no observation: fit it with observed=True"):
        plain.log_prob(torch.zeros(2, 2), base=lambda x: x.sum(1), observation=torch.zeros(2, 2))


def test_losses_have_their_least_value() -> None:
    """Learned fields come near -1/2 int E|f|^2, here in units of the data."""
    model = gendyn.StochasticInterpolant(
        source=halved, source_noise=NOISE, scale="none", steps=1500, hidden=(48, 48), lr=5e-3, time_margin=1e-3
    ).fit(population(), progress=False)
    table = model.losses(population(500), seed=1).set_index("field")
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000 * 0.998 + 1e-3
    _, variance, rate, half_rate = law(model.fields_.schedule, t)
    least = {"velocity": -0.5 * (rate**2 + half_rate**2 / variance).mean(), "score": -0.5 * (1 / variance).mean()}
    for name, value in least.items():
        assert table.loc[name, "objective"] == pytest.approx(float(value), rel=0.03)
    assert np.isfinite(table["loss"]).all()
    assert (table["loss"] > 0).all()
