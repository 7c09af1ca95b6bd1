"""Fields, processes and the estimator of stochastic interpolants against exact fields."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import gendyn
from gendyn.data import Scaling, Snapshots
from gendyn.interpolants import InterpolantFields, InterpolantProcess, vanishing
from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.ends import Ends
from gendyn.interpolants.fields import check_fields
from gendyn.interpolants.interpolant_objective import InterpolantObjective
from gendyn.interpolants.schedule import (
    EncodeDecode,
    Linear,
    Mirror,
    OneSidedLinear,
    OneSidedTrigonometric,
    OneSidedVariancePreserving,
    Trigonometric,
)
from gendyn.interpolants.time_sampler import BetaTimes, LogitNormalTimes, UniformTimes
from gendyn.sampling import sample

ONE, TWO = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
LEFT = GaussianMixture([0.5, 0.5], [[-3.0], [3.0]], [0.25, 0.25])
RIGHT = GaussianMixture([1 / 3, 1 / 3, 1 / 3], [[-6.0], [0.0], [6.0]], [0.5, 0.33, 0.5])
STANDARD = GaussianMixture.gaussian([0.0], 1.0)
UNIT = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
KNOTS = torch.tensor([0.0, 1.0], dtype=torch.float64)


class Exact(nn.Module):
    """An exact field in place of a network."""

    def __init__(self, interpolant: GaussianMixtureInterpolant, name: str, error: float = 0.0) -> None:
        super().__init__()
        self.interpolant, self.name, self.error = interpolant, name, error

    def forward(self, s, x, condition=None):
        return getattr(self.interpolant.fields(s, x), self.name) + self.error


def exact_fields(interpolant: GaussianMixtureInterpolant, *names: str, error: float = 0.0) -> InterpolantFields:
    networks = {name: Exact(interpolant, name, error if name == "velocity" else 0.0) for name in names}
    mean = (interpolant.target.weights @ interpolant.target.means)[None]
    return InterpolantFields(networks, interpolant.schedule, KNOTS, mean)


def process(interpolant: GaussianMixtureInterpolant, *names: str, error: float = 0.0, **options) -> InterpolantProcess:
    return InterpolantProcess(exact_fields(interpolant, *names, error=error), UNIT, KNOTS, **options)


TWO_SIDED = [
    ("velocity", "score"),
    ("velocity", "noise"),
    ("mean_velocity", "score"),
    ("mean_velocity", "noise"),
    ("source", "target"),
    ("source", "noise"),
    ("target", "score"),
]
ONE_SIDED = [("velocity",), ("noise",), ("target",), ("score",), ("source",)]
COMBINATIONS = [
    *itertools.product((Linear(), Trigonometric("sin2")), TWO_SIDED),
    *itertools.product((OneSidedLinear(), OneSidedTrigonometric(), OneSidedVariancePreserving()), ONE_SIDED),
    (EncodeDecode(), ("target", "noise")),
    (EncodeDecode(), ("mean_velocity", "score")),
    (Mirror(), ("noise",)),
    (Mirror(), ("score",)),
]


@pytest.mark.parametrize(("schedule", "names"), COMBINATIONS, ids=lambda v: str(v))
def test_every_set_of_fields_gives_velocity_and_score(schedule, names) -> None:
    source = {"one-sided": STANDARD, "mirror": RIGHT}.get(schedule.sides, LEFT)
    exact = GaussianMixtureInterpolant(source, RIGHT, schedule)
    fields = exact_fields(exact, *names)
    t = torch.tensor([[0.05], [0.3], [0.6], [0.97]], dtype=torch.float64)
    x = torch.tensor([[0.3], [-2.0], [1.0], [5.0]], dtype=torch.float64)
    truth = exact.fields(t, x)
    torch.testing.assert_close(fields.velocity(t, x), truth.velocity, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(fields.score(t, x), truth.score, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("names", [("noise",), ("target",)])
def test_a_one_sided_velocity_starts_with_the_mean_of_the_data(names) -> None:
    exact = GaussianMixtureInterpolant(STANDARD, TWO, OneSidedLinear())
    x = torch.tensor([[0.7]], dtype=torch.float64)
    zero = torch.tensor(0.0, dtype=torch.float64)
    assert exact_fields(exact, *names).velocity(zero, x).item() == pytest.approx(2.0 - 0.7, abs=2e-3)


@pytest.mark.parametrize(
    ("epsilon", "steps", "variance"),
    [
        (0.5, 10, 0.983405),
        (0.5, 50, 0.996522),
        (0.5, 100, 0.998252),
        (2.0, 10, 1.081431),
        (2.0, 50, 1.014699),
        (2.0, 100, 1.007262),
    ],
)
def test_variance_after_euler_steps(epsilon: float, steps: int, variance: float) -> None:
    """For Gaussians a step is affine: its slopes and added variances make the final variance without sampling."""
    diffusion = process(GaussianMixtureInterpolant(ONE, TWO, Linear()), "velocity", "score", epsilon=epsilon, margin=0)
    h, v = 1 / steps, 0.25
    for k in range(steps):
        t = torch.tensor(k * h, dtype=torch.float64)
        low, high = diffusion.drift(t, torch.tensor([[0.0], [1.0]], dtype=torch.float64))[:, 0].tolist()
        v = (1 + h * (high - low)) ** 2 * v + h * float(diffusion.diffusion(t, torch.zeros(1, 1))[0, 0]) ** 2
    assert v == pytest.approx(variance, abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0, vanishing(4.0)])
@pytest.mark.parametrize("backward", [False, True])
def test_marginals_do_not_depend_on_epsilon(epsilon, backward: bool) -> None:
    exact = GaussianMixtureInterpolant(LEFT, RIGHT, Linear())
    made = process(exact, "velocity", "score", epsilon=epsilon, margin=0.0, backward=backward and epsilon != 0.0)
    n, grid = 2000, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    start = exact.sample(1.0 if backward else 0.0, n, seed=1)
    run = grid.flip(0) if backward else grid
    run = -run if made.backward else run
    solver = "heun" if made.noise_type == "none" else "shark"
    values = sample(made, start, run, solver=solver, step=0.02, seed=2).values[..., 0]
    for k, t in enumerate((0.5, 0.0) if backward else (0.5, 1.0), start=1):
        law, x = exact.sample(t, 200_000, seed=3)[:, 0], values[:, k]
        for power in (1, 2):
            spread = float(law.pow(power).std()) / math.sqrt(n)
            assert float(x.pow(power).mean()) == pytest.approx(float(law.pow(power).mean()), abs=5 * spread)


def test_the_flow_in_one_dimension_is_the_quantile_map() -> None:
    exact = GaussianMixtureInterpolant(LEFT, RIGHT, Linear())
    start = torch.tensor([[-3.0], [-2.5], [3.3]], dtype=torch.float64)
    end = sample(process(exact, "velocity", "score"), start, [0.0, 1.0], solver="dopri5", rtol=1e-9, atol=1e-9).values
    np.testing.assert_allclose(end[:, -1, 0].numpy(), [-5.52306372, -0.36600855, 6.15839006], atol=2e-6)


@pytest.mark.parametrize(
    ("epsilon", "divergence"),
    [(0.0, 0.08648154), (0.25, 0.05669173), (0.5, 0.03865679), (1.0, 0.02000833), (2.0, 0.00751213), (4.0, 0.00226841)],
)
def test_noise_repairs_an_error_of_the_drift(epsilon: float, divergence: float) -> None:
    """A velocity that is wrong by 0.3 everywhere: KL of the final Gaussian, from moments that are integrated finely."""
    diffusion = process(
        GaussianMixtureInterpolant(ONE, TWO, Linear()), "velocity", "score", error=0.3, epsilon=epsilon, margin=0
    )
    steps = 1000
    h, m, v = 1 / steps, -1.0, 0.25
    for k in range(steps):
        t = torch.tensor((k + 0.5) * h, dtype=torch.float64)
        low, high = diffusion.drift(t, torch.tensor([[0.0], [1.0]], dtype=torch.float64))[:, 0].tolist()
        slope = high - low
        # The exact step of a linear equation with coefficients frozen in the middle of the step.
        grown = math.exp(slope * h)
        m = grown * m + low * math.expm1(slope * h) / slope
        v = grown**2 * v + 2 * epsilon * math.expm1(2 * slope * h) / (2 * slope)
    kl = 0.5 * (1 / v + (2 - m) ** 2 / v - 1 + math.log(v))
    assert kl == pytest.approx(divergence, abs=3e-6)
    if epsilon > 0:
        assert kl <= 0.3**2 / (4 * epsilon)


def test_guidance_of_zero_is_the_condition_itself() -> None:
    model = gendyn.StochasticInterpolant("one-sided-linear", condition="kind", steps=20, hidden=(16,)).fit(
        labelled(), progress=False
    )
    plain = model.sample(n=5, condition="a", seed=1).values
    assert torch.equal(plain, model.sample(n=5, condition="a", guidance=0.0, seed=1).values)
    assert not torch.equal(plain, model.sample(n=5, condition="a", guidance=2.0, seed=1).values)
    assert not torch.equal(plain, model.sample(n=5, condition="b", seed=1).values)
    assert not torch.equal(plain, model.sample(n=5, seed=1).values)


def labelled(n: int = 400) -> Snapshots:
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0)) * 0.3
    kind = np.repeat(["a", "b"], n // 2)
    return Snapshots(
        [1.0], [x + torch.tensor(np.where(kind == "a", -2.0, 2.0))[:, None].float()], obs=[pd.DataFrame({"kind": kind})]
    )


@pytest.mark.parametrize("coupling", [None, "ot"])
def test_conditions_tell_populations_apart(coupling) -> None:
    model = gendyn.StochasticInterpolant(
        "one-sided-linear", condition="kind", steps=500, hidden=(32, 32), batch_size=256, coupling=coupling
    ).fit(labelled(), progress=False)
    made = model.sample(n=200, condition=["a", "b"] * 100, seed=0).values[:, -1, 0]
    assert float(made[::2].mean()) == pytest.approx(-2.0, abs=0.3)
    assert float(made[1::2].mean()) == pytest.approx(2.0, abs=0.3)


def test_log_density_integrates_to_one_and_matches_the_law() -> None:
    x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0)).double() * 0.5 + 1.0
    model = gendyn.StochasticInterpolant("one-sided-linear", steps=600, hidden=(32, 32)).fit(
        Snapshots([0.0], [x]), progress=False
    )
    grid = torch.linspace(-2.0, 4.0, 301, dtype=torch.float64)[:, None]
    log = model.log_prob(grid)
    assert float(log.exp().sum() * 0.02) == pytest.approx(1.0, abs=0.01)
    truth = torch.distributions.Normal(1.0, 0.5).log_prob(grid[:, 0])
    inside = truth > -3
    assert float((log - truth)[inside].abs().mean()) < 0.15
    noisy = model.log_prob(grid[::30], divergence="hutchinson", probes=4, seed=1)
    torch.testing.assert_close(noisy, log[::30])  # in one dimension a Rademacher probe is exact
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(grid[::30]), log[::30])


def test_base_densities() -> None:
    model = fitted()
    x = torch.zeros(3, 1)
    base = torch.distributions.Normal(torch.zeros(1), torch.ones(1))
    torch.testing.assert_close(model.log_prob(x, base=base), model.log_prob(x, base=lambda z: base.log_prob(z).sum(1)))
    with pytest.raises(ValueError, match="give base="):
        model.log_prob(x)


def pair(n: int = 200) -> Snapshots:
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(0))
    return Snapshots([0.0, 2.0], [x, 0.5 * x + 3])


def fitted(**options) -> gendyn.StochasticInterpolant:
    return gendyn.StochasticInterpolant(steps=20, hidden=(16,), **options).fit(pair(), progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"schedule": "trigonometric", "gamma": ("brownian", 2.0)},
        {"schedule": "encode-decode"},
        {"gamma": "zero"},
        {"fields": ("mean_velocity", "noise"), "antithetic": True},
        {"fields": ("source", "target"), "times": ("beta", 0.7, 0.7)},
        {"coupling": "paired", "times": ("logit-normal", 0.0, 1.0)},
        {"coupling": "sinkhorn", "energy": True},
        {"coupling": "independent", "validation_fraction": 0.2, "patience": 3},
    ],
)
def test_options_that_make_sense_work_together(options: dict) -> None:
    model = fitted(**options)
    assert torch.isfinite(model.sample(n=7, seed=0).values).all()
    if options.get("gamma") != "zero":
        made = model.sample(n=7, epsilon=vanishing(), seed=0)
        assert torch.isfinite(made.values).all()
        back = model.sample(made.values[:, -1], [2.0, 0.0], epsilon=0.5, seed=0)
        assert back.times.tolist() == [2.0, 0.0]
        assert torch.equal(back.values[:, 0], made.values[:, -1])


def test_forth_and_back_along_the_flow() -> None:
    model = fitted()
    x = pair().samples[0]
    end = model.sample(x, [0.0, 2.0], solver="rk4", step=0.02).values[:, -1]
    again = model.sample(end, [2.0, 0.0], solver="rk4", step=0.02).values[:, -1]
    assert float((again - x).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "bent"}, "there is no schedule 'bent'"),
        ({"coupling": "magic"}, "coupling must be one of"),
        ({"fields": ("velocity", "spin")}, "different names of velocity"),
        ({"fields": ("source",)}, "do not determine the velocity"),
        ({"gamma": "zero", "fields": ("velocity", "score")}, "'score' is not defined"),
        ({"unconditional": 1.0}, r"unconditional must lie in \[0, 1\)"),
        ({"time_margin": 0.7}, "time_margin must lie"),
        ({"antithetic": "often"}, "antithetic must be"),
        ({"times": "often"}, "there are no times 'often'"),
        ({"condition": "kind"}, "must be a column of the populations' obs; there are none"),
        ({"schedule": "one-sided-linear"}, "takes one population; got 2 times"),
        ({"schedule": "mirror", "coupling": "paired"}, "joins two populations"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_sentences_of_fit(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gendyn.StochasticInterpolant(**options).fit(pair(), progress=False)


def test_sentences_of_use() -> None:
    model = fitted()
    with pytest.raises(ValueError, match="epsilon must be zero or positive"):
        model.sample(n=3, epsilon=-1.0)
    with pytest.raises(ValueError, match=r"margin must lie in \[0, 0.5\)"):
        model.sample(n=3, epsilon=1.0, margin=0.5)
    with pytest.raises(ValueError, match="takes no condition"):
        model.sample(n=3, condition="a")
    with pytest.raises(ValueError, match="runs backward needs x0"):
        model.sample(times=[2.0, 0.0], epsilon=1.0)
    with pytest.raises(ValueError, match="no score is defined for Linear"):
        fitted(gamma="zero").sample(n=3, epsilon=1.0)
    with pytest.raises(ValueError, match="do not determine the score"):
        fitted(fields=("velocity",)).sample(n=3, epsilon=1.0)
    one_sided = gendyn.StochasticInterpolant("one-sided-linear", steps=5, hidden=(8,)).fit(
        pair().only([2.0]), progress=False
    )
    with pytest.raises(ValueError, match="starts at time 0"):
        one_sided.sample(n=3, times=[0.5, 1.0])
    with pytest.raises(ValueError, match="n must be at least 1"):
        one_sided.sample(n=0)
    joined = gendyn.StochasticInterpolant("one-sided-linear", coupling="ot", steps=5, hidden=(8,))
    joined.fit(pair().only([2.0]), progress=False).sample(n=3)
    with pytest.raises(ValueError, match="gives no score, and so no diffusion"):
        joined.sample(n=3, epsilon=1.0)
    kinds = gendyn.StochasticInterpolant("one-sided-linear", condition="kind", unconditional=0.0, steps=5, hidden=(8,))
    kinds.fit(labelled(), progress=False)
    with pytest.raises(ValueError, match="needs a condition: a value of 'kind'"):
        kinds.sample(n=2)
    with pytest.raises(ValueError, match="was fitted with a, b; got 'c'"):
        kinds.sample(n=2, condition="c")
    with pytest.raises(ValueError, match="one for each of 2 rows; got 3"):
        kinds.sample(n=2, condition=["a", "b", "a"])
    with pytest.raises(ValueError, match="unconditional above 0"):
        kinds.sample(n=2, condition="a", guidance=1.0)
    with pytest.raises(ValueError, match="run at once; leave out chunk"):
        kinds.sample(n=2, condition=["a", "b"], chunk=256)


def test_suggested_epsilon_is_the_best_of_the_grid() -> None:
    table = fitted().suggest_epsilon(pair(100), (0.0, 1.0), n=50)
    assert table.columns.tolist() == ["epsilon", "W2"]
    assert table["W2"].is_monotonic_increasing
    assert sorted(table["epsilon"]) == [0.0, 1.0]


def test_fields_that_do_not_determine_anything() -> None:
    with pytest.raises(ValueError, match="different names"):
        check_fields((), Linear())
    with pytest.raises(ValueError, match="do not determine the velocity of Mirror"):
        check_fields(("target",), Mirror())


@pytest.mark.parametrize(("time", "row", "pair"), [(1e-2, 391.0, 36.7), (1e-4, 39825.0, 39.7)])
def test_antithetic_pairs_tame_the_variance_near_the_ends(time: float, row: float, pair: float) -> None:
    """How much the loss of an exact score varies from row to row, and from pair to pair."""

    class AtOneTime(UniformTimes):
        def draw(self, u, margin=0.0):
            return torch.full_like(u, time), torch.ones_like(u)

    exact = GaussianMixtureInterpolant(ONE, TWO, Linear())
    fields = exact_fields(exact, "velocity", "score")
    del fields.networks["velocity"]

    def ends(gap, generator) -> Ends:
        return Ends(ONE.sample(len(gap), seed=generator), TWO.sample(len(gap), seed=generator))

    found, n = {}, 64
    for antithetic in (False, True):
        objective = InterpolantObjective(
            fields,
            ends,
            validation=None,
            times=AtOneTime(),
            margin=0.0,
            antithetic=antithetic,
            unconditional=0.0,
            batch_size=2 * n if antithetic else n,
        )
        losses = []
        for k in range(600):
            generator = torch.Generator().manual_seed(k)
            whole = float(objective.loss(0, generator))
            # The constant E|z|^2 / gamma^2 is no part of the gradient: it is taken out with the noise that was drawn.
            generator.manual_seed(k)
            torch.rand(n, generator=generator, dtype=torch.float64)
            ends(torch.zeros(n), generator)
            z = torch.randn(n, 1, generator=generator, dtype=torch.float64)
            losses.append(whole - 0.5 * float(z.square().mean()) / (time * (1 - time)))
        found[antithetic] = n * np.var(losses)
    assert found[False] == pytest.approx(row, rel=0.2)
    assert found[True] == pytest.approx(pair, rel=0.2)


@pytest.mark.parametrize("law", [UniformTimes(), LogitNormalTimes(0.3, 1.2), BetaTimes(0.6, 0.8), BetaTimes(1.3, 1.4)])
def test_importance_weights_keep_expectations(law) -> None:
    u = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    t, weight = law.draw(u)
    assert float((weight * t.square()).mean()) == pytest.approx(1 / 3, abs=3e-3)
    edges = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    step = 1e-6
    slope = (law.quantile(edges + step) - law.quantile(edges - step)) / (2 * step)
    torch.testing.assert_close(
        law.density(law.quantile(edges)) * slope, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0
    )
