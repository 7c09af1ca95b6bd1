"""Densities of flows and diffusions, and the last step of a path from noise."""

from __future__ import annotations

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
from gendyn.interpolants.schedule import Linear, OneSidedLinear, Schedule
from gendyn.sampling import diffusion_log_prob, flow_log_prob

ONE, TWO = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
STANDARD = GaussianMixture.gaussian([0.0], 1.0)
MODES = GaussianMixture([0.4, 0.6], [[-2.0], [1.0]], [0.3, 0.1])
UNIT = Scaling(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
KNOTS = torch.tensor([0.0, 1.0], dtype=torch.float64)


class Exact(nn.Module):
    """An exact field in place of a network."""

    def __init__(self, interpolant: GaussianMixtureInterpolant, name: str) -> None:
        super().__init__()
        self.interpolant, self.name = interpolant, name

    def forward(self, s, x, condition=None):
        return getattr(self.interpolant.fields(s, x), self.name)


def exact(source: GaussianMixture, target: GaussianMixture, schedule: Schedule, *names: str) -> InterpolantFields:
    interpolant = GaussianMixtureInterpolant(source, target, schedule)
    mean = (target.weights @ target.means)[None]
    return InterpolantFields({name: Exact(interpolant, name) for name in names}, schedule, KNOTS, mean)


def populations(n: int = 300) -> Snapshots:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Snapshots([0.0, 3.0], [x, 0.3 * x + torch.tensor([5.0, -1.0])])


BASE = torch.distributions.Normal(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))

MODELS = {
    "FlowMatching": (gendyn.FlowMatching, {}, populations()),
    "two-sided": (gendyn.StochasticInterpolant, {}, populations()),
    "one-sided": (gendyn.StochasticInterpolant, {"schedule": "one-sided-linear"}, populations().only([3.0])),
}


@pytest.mark.parametrize("name", MODELS)
def test_forward_and_backward_give_the_same_density(name: str) -> None:
    kind, options, data = MODELS[name]
    model = kind(**options, steps=100, hidden=(16, 16)).fit(data, progress=False)
    base = None if name == "one-sided" else BASE
    points, forward = model.sample_with_log_prob(n=50, base=base, seed=3)
    assert points.shape == (50, 2)
    torch.testing.assert_close(model.log_prob(points, base=base), forward, rtol=0, atol=1e-4)
    again, _ = model.sample_with_log_prob(n=50, base=base, seed=3)
    assert torch.equal(again, points)
    with torch.no_grad():
        torch.testing.assert_close(model.log_prob(points, base=base), forward, rtol=0, atol=1e-4)
    x = points[:5].clone().requires_grad_()
    model.log_prob(x, base=base, gradient="backprop").sum().backward()
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().max()) > 0


def test_a_density_in_the_units_of_the_data_integrates_to_one() -> None:
    """The scaling of the positions, which is not one here, is part of the change of variables."""
    z = torch.randn(500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = gendyn.FlowMatching("ot", steps=200, hidden=(16, 16)).fit(
        Snapshots([0.0, 1.0], [10 * z, 40 + 30 * z]), progress=False
    )
    grid = torch.linspace(-150.0, 230.0, 801, dtype=torch.float64)[:, None]
    wide = torch.distributions.Normal(torch.zeros(1, dtype=torch.float64), 10 * torch.ones(1, dtype=torch.float64))
    log = model.log_prob(grid, base=wide)
    assert float(torch.trapezoid(log.exp(), grid[:, 0])) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("gamma", "end"), [("zero", (2.96266596, -2.66853389)), ("brownian", (2.99259307, -2.61237134))]
)
def test_the_flow_of_two_gaussians_in_the_plane(gamma: str, end: tuple[float, float]) -> None:
    first = GaussianMixture.gaussian([0.0, 0.0], [[1.0, 0.6], [0.6, 0.5]])
    second = GaussianMixture.gaussian([2.0, -1.0], [[0.4, -0.3], [-0.3, 1.2]])
    fields = exact(first, second, Linear(gamma), "velocity")
    unit = Scaling(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    flow = InterpolantProcess(fields, unit, KNOTS)
    start = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    moved = gendyn.sample(flow, start, [0.0, 1.0], solver="rk4", step=0.005).values[:, -1]
    np.testing.assert_allclose(moved[0].numpy(), end, atol=5e-7)
    density = flow_log_prob(flow, moved, [0.0, 1.0], first.log_prob, step=0.005)
    assert density.item() == pytest.approx(-2.98492994, abs=1e-6)
    assert second.log_prob(moved).item() == pytest.approx(-2.98492994, abs=1e-6)
    assert (first.log_prob(start) - density).item() == pytest.approx(0.51225216, abs=1e-6)


def test_the_density_of_a_diffusion_with_exact_fields_is_that_of_the_data() -> None:
    fields = exact(ONE, TWO, Linear(), "velocity", "score")
    x = torch.tensor([[2.0], [0.5], [4.0]], dtype=torch.float64)
    process = InterpolantProcess(fields, UNIT, KNOTS, epsilon=0.5, margin=0.0)
    found = diffusion_log_prob(process, x, [0.0, 1.0], ONE.log_prob, paths=4000, step=0.005, seed=1)
    truth = TWO.log_prob(x)
    torch.testing.assert_close(found.estimate, truth, rtol=0, atol=0.05)
    assert (found.bound < truth).all()


class Shifted(Exact):
    """An exact velocity with a constant error."""

    def forward(self, s, x, condition=None):
        return super().forward(s, x, condition) + 0.3


def test_the_likelihood_finds_the_epsilon_that_repairs_the_drift() -> None:
    """With a drift that is wrong by 0.3 the divergence from the data falls with epsilon as it is known to."""
    z = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)[:, None]
    data = Snapshots([0.0, 1.0], [0.5 * z - 1, z + 2])
    model = gendyn.StochasticInterpolant(scale="none", steps=1, hidden=(2,)).fit(data, progress=False)
    model.fields_ = exact(ONE, TWO, Linear(), "velocity", "score")
    model.fields_.networks["velocity"] = Shifted(GaussianMixtureInterpolant(ONE, TWO, Linear()), "velocity")
    model.process_ = InterpolantProcess(model.fields_, UNIT, KNOTS)
    table = model.suggest_epsilon(data, (0.0, 0.25), criterion="NLL", base=ONE.log_prob, paths=400)
    assert table.columns.tolist() == ["epsilon", "NLL"]
    assert table["epsilon"].tolist() == [0.25, 0.0]
    divergence = table["NLL"].to_numpy() + float(TWO.log_prob(data.samples[1]).mean())
    np.testing.assert_allclose(divergence, [0.05669173, 0.08648154], atol=0.015)
    with pytest.raises(ValueError, match="log-density of the first population is needed"):
        model.suggest_epsilon(data, criterion="NLL")
    with pytest.raises(ValueError, match=r"criterion must be one of \('W2', 'NLL'\); got 'KL'"):
        model.suggest_epsilon(data, criterion="KL")


def test_bounds_of_a_fitted_model() -> None:
    model = gendyn.StochasticInterpolant("one-sided-linear", steps=200, hidden=(16, 16)).fit(
        populations().only([3.0]), progress=False
    )
    points = model.sample(n=10, seed=1).values[:, -1]
    found = model.log_prob_bound(points, epsilon=0.3, paths=40, seed=2)
    assert (found.bound < found.estimate).all()
    flow = model.log_prob_bound(points, epsilon=vanishing(1e-9), paths=2, step=0.002, seed=2)
    torch.testing.assert_close(flow.estimate, model.log_prob(points), rtol=0, atol=0.05)
    data = Snapshots(
        [0.0],
        [torch.randn(40, 1, generator=torch.Generator().manual_seed(0))],
        obs=[pd.DataFrame({"kind": ["a", "b"] * 20})],
    )
    told = gendyn.StochasticInterpolant("one-sided-linear", condition="kind", steps=5, hidden=(8,)).fit(
        data, progress=False
    )
    both = told.log_prob_bound(torch.zeros(2, 1), epsilon=0.1, paths=8, condition=["a", "b"], seed=0)
    assert both.bound.shape == (2,)
    one = told.log_prob_bound(torch.zeros(2, 1), epsilon=0.1, paths=8, condition="a", seed=0)
    assert both.bound[0] == one.bound[0]
    assert both.bound[1] != one.bound[1]
    pair = told.sample_with_log_prob(n=2, condition=["a", "b"], seed=1)[1]
    assert torch.isfinite(pair).all()


def from_noise() -> gendyn.StochasticInterpolant:
    """Return a model whose fields are exact."""
    x = MODES.sample(20)
    model = gendyn.StochasticInterpolant("one-sided-linear", fields=("noise",), scale="none", steps=1, hidden=(4,))
    model.fit(Snapshots([0.0], [x]), progress=False)
    model.fields_ = exact(STANDARD, MODES, OneSidedLinear(), "noise")
    return model


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_the_denoising_step_goes_to_the_mean_of_the_data(epsilon: float) -> None:
    model = from_noise()
    options = {"n": 400, "epsilon": epsilon, "margin": 0.05, "seed": 3, "step": 0.01}
    before = model.sample(times=[0.0, 0.5, 0.95], **options).values
    made = model.sample(times=[0.0, 0.5, 1.0], denoise=True, **options)
    assert made.times.tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(made.values[:, :-1], before[:, :-1])
    x = before[:, -1]
    truth = GaussianMixtureInterpolant(STANDARD, MODES, OneSidedLinear()).fields(0.95, x).target
    torch.testing.assert_close(made.values[:, -1], truth, rtol=0, atol=1e-9)
    # For straight lines it is (x - (1 - t) eta) / t, as published.
    noise = model.fields_.networks["noise"](torch.tensor(0.95, dtype=torch.float64), x)
    torch.testing.assert_close(made.values[:, -1], (x - 0.05 * noise) / 0.95, rtol=0, atol=1e-9)
    assert made.values[:, -1].mean().item() == pytest.approx(-0.2, abs=4 * 1.5 / math.sqrt(400))


@pytest.mark.parametrize(
    "model",
    [
        gendyn.ActionMatching(steps=400, hidden=(32, 32), batch_size=128),
        gendyn.BarycentricInterpolant("ot", steps=400, hidden=(32, 32)),
    ],
    ids=lambda model: type(model).__name__,
)
def test_other_flows_have_densities_too(model: gendyn.ActionMatching | gendyn.BarycentricInterpolant) -> None:
    """A normal population that translates: its density moves with it, and forward and backward agree."""
    x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    model = model.clone().fit(Snapshots([0.0, 2.0], [x, x + 3.0]), progress=False)
    base = torch.distributions.Normal(torch.zeros(1), 1.0)
    points = torch.linspace(2.0, 4.0, 9)[:, None]
    truth = torch.distributions.Normal(torch.tensor(3.0), 1.0).log_prob(points[:, 0])
    assert float((model.log_prob(points, base=base) - truth).abs().mean()) < 0.1
    ends, forward = model.sample_with_log_prob(points - 3.0, base=base)
    torch.testing.assert_close(model.log_prob(ends, base=base), forward, rtol=0, atol=1e-4)
    start = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.log_prob(start, base=base, gradient="backprop").sum(), start)
    assert float((slope - (3.0 - points)).abs().mean()) < 0.3


def test_a_population_that_was_never_seen_has_a_density() -> None:
    generator = torch.Generator().manual_seed(0)
    members = {}
    for k in range(8):
        x = torch.randn(80, 1, generator=generator) + k
        members[f"p{k}"] = Snapshots([0.0, 1.0], [x, x + 2.0])
    model = gendyn.MetaFlowMatching("stats", coupling="paired", steps=400, hidden=(32, 32), batch_size=32)
    model.fit(gendyn.Cohort(members), progress=False)
    new = torch.randn(80, 1, generator=generator) + 3.5
    law = torch.distributions.Normal(3.5, 1.0)
    points = torch.linspace(5.0, 6.0, 5)[:, None]
    found = flow_log_prob(model.process(new), points, model.times_, lambda x: law.log_prob(x[:, 0]))
    assert float((found - law.log_prob(points[:, 0] - 2.0)).abs().mean()) < 0.15


def test_no_density_where_there_is_noise_or_growth() -> None:
    data = populations(40)
    noisy = gendyn.ActionMatching(0.5, steps=2, hidden=(4,)).fit(data, progress=False)
    with pytest.raises(ValueError, match="this model has noise: fit it with sigma=0"):
        noisy.log_prob(data.samples[0], base=BASE)
    growing = gendyn.ActionMatching(unbalanced=True, steps=2, hidden=(4,)).fit(data, progress=False)
    with pytest.raises(ValueError, match="log_prob_weighted and sample_weighted, or fit it with unbalanced=False"):
        growing.log_prob(data.samples[0], base=BASE)
    still = gendyn.FlowMatching(steps=2, hidden=(4,)).fit(data, progress=False)
    with pytest.raises(TypeError, match="base must be a function .*; got str"):
        still.log_prob(data.samples[0], base="normal")


def test_sentences() -> None:
    model = from_noise()
    with pytest.raises(ValueError, match="ends at time 1 of a one-sided schedule"):
        model.sample(n=3, times=[0.0, 0.5], denoise=True)
    with pytest.raises(ValueError, match="a margin above 0, and no other time beyond 0.99"):
        model.sample(n=3, times=[0.0, 0.995, 1.0], denoise=True)
    with pytest.raises(ValueError, match="a denoising step needs room"):
        model.sample(n=3, margin=0.0, denoise=True)
    with pytest.raises(ValueError, match="leave out to="):
        model.sample(n=3, denoise=True, to="paths.npz")
    two = gendyn.StochasticInterpolant(steps=2, hidden=(4,)).fit(populations(), progress=False)
    with pytest.raises(ValueError, match="ends at time 1 of a one-sided schedule"):
        two.sample(n=3, denoise=True)
    with pytest.raises(ValueError, match="log-density of the first population is needed"):
        two.sample_with_log_prob(n=3)
    many = gendyn.FlowMatching("independent", steps=1, hidden=(4,)).fit(
        Snapshots([0.0, 1.0], [torch.randn(3, 1001, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]),
        progress=False,
    )
    with pytest.raises(ValueError, match="exact divergence in 1001 dimensions takes 1001 passes a step; use 'hutch"):
        many.log_prob(torch.zeros(1, 1001), base=lambda x: x.sum(1), divergence="exact")
    flat = gendyn.StochasticInterpolant("linear", "zero", steps=2, hidden=(4,)).fit(populations(), progress=False)
    with pytest.raises(ValueError, match="no score is defined for Linear"):
        flat.log_prob_bound(torch.zeros(1, 2), epsilon=0.5, base=BASE)


def test_noise_that_does_not_vanish_where_gamma_does_is_warned_about() -> None:
    model = gendyn.StochasticInterpolant("linear", "quadratic", fields=("velocity", "noise"), steps=2, hidden=(4,))
    model.fit(populations(), progress=False)
    with pytest.warns(UserWarning, match="epsilon / gamma reaches 2e.03, .*vanishing"):
        model.sample(n=3, epsilon=2.0, margin=0.0)
