"""What losses must come to, densities from fitted mixtures, and the sentences that a user of the models meets first."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants import InterpolantFields, InterpolantProcess
from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.gamma import Brownian
from gendyn.interpolants.schedule import Linear, Trigonometric

ONE, TWO = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
KNOTS = torch.tensor([0.0, 1.0], dtype=torch.float64)


class Exact(nn.Module):
    """An exact field in place of a network."""

    def __init__(self, interpolant: GaussianMixtureInterpolant, name: str) -> None:
        super().__init__()
        self.interpolant, self.name = interpolant, name

    def forward(self, s, x, condition=None):
        return getattr(self.interpolant.fields(s, x), self.name)


def populations(n: int = 2000) -> Snapshots:
    """Return quantiles of N(-1, 1/4) and N(2, 1), so that no error of sampling is in the moments."""
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]
    return Snapshots([0.0, 1.0], [-1 + 0.5 * z, 2 + z])


def exact_model(schedule, *names: str, **options) -> gendyn.StochasticInterpolant:
    """Return a fitted model whose fields are then made exact."""
    options = {"coupling": "independent", "scale": "none", "steps": 1, "hidden": (2,)} | options
    model = gendyn.StochasticInterpolant(schedule, fields=names, **options).fit(populations(50), progress=False)
    exact = GaussianMixtureInterpolant(ONE, TWO, schedule)
    networks = {name: Exact(exact, name) for name in names}
    model.fields_ = InterpolantFields(networks, schedule, KNOTS, torch.full((1, 1), 2.0, dtype=torch.float64))
    model.process_ = InterpolantProcess(model.fields_, model.scaling_, KNOTS)
    return model


@pytest.mark.parametrize(
    ("schedule", "velocity", "score", "noise"),
    [
        (Linear(), -0.5 * 9.25, -0.5 * 2.0, -0.15888308),
        (Linear(Brownian(2.0)), -0.5 * 9.39051899, -0.5 * 1.52069199, -0.22994025),
        (Linear("quadratic"), -0.5 * 9.38494322, -0.5 * 2.80452174, -0.04644228),
        (Trigonometric("quadratic"), None, None, None),
    ],
    ids=str,
)
def test_the_least_objective_of_each_field(schedule, velocity, score, noise) -> None:
    """Without what no field can change an objective is at least -1/2 int E|f|^2, and its exact field is there."""
    model = exact_model(schedule, "velocity", "score", "noise", antithetic=True)
    table = model.losses(populations(), n=400_000, seed=1).set_index("field")
    for name, wanted in (("velocity", velocity), ("score", score), ("noise", noise)):
        least = table.loc[name, "objective"]
        if wanted is not None:
            assert least == pytest.approx(wanted, rel=0.02, abs=2e-3)
        # Any other field is above it by half its mean square distance from the exact one.
        away = exact_model(schedule, "velocity", "score", "noise", antithetic=True)
        away.fields_.networks[name] = _Shifted(away.fields_.networks[name])
        shifted = away.losses(populations(), n=400_000, seed=1).set_index("field")
        assert shifted.loc[name, "objective"] - least == pytest.approx(0.5 * 0.3**2, abs=0.02)
        assert shifted.loc[name, "loss"] - table.loc[name, "loss"] == pytest.approx(
            shifted.loc[name, "objective"] - least, rel=1e-6
        )


class _Shifted(nn.Module):
    def __init__(self, field: nn.Module) -> None:
        super().__init__()
        self.field = field

    def forward(self, s, x, condition=None):
        return self.field(s, x, condition) + 0.3


def test_losses_are_those_of_the_trained_times() -> None:
    model = exact_model(Linear(), "velocity", "score")
    with pytest.raises(ValueError, match=r"losses need the trained times \[0.0, 1.0\]; got \[0.0\]"):
        model.losses(populations(10).only([0.0]))
    one_sided = gendyn.StochasticInterpolant("one-sided-linear", steps=2, hidden=(4,))
    one_sided.fit(populations(20).only([1.0]), progress=False)
    assert one_sided.losses(populations(20).only([1.0]), n=500)["field"].tolist() == ["velocity"]
    with pytest.raises(ValueError, match="this model takes one population; got 2 times"):
        one_sided.losses(populations(20))


@pytest.mark.parametrize("components", [1, 3])
def test_a_mixture_is_a_base(components: int) -> None:
    """The flow is exact, and so is what it makes of a mixture: x_1 = 2 + 2 (x_0 + 1)."""
    model = exact_model(Linear("zero"), "velocity")
    base = GaussianMixture.fit(ONE.sample(4000, seed=1), components, seed=2)
    x = torch.tensor([[1.0], [2.0], [3.5]], dtype=torch.float64)
    found = model.log_prob(x, base=base)
    torch.testing.assert_close(found, base.log_prob((x - 2) / 2 - 1) - math.log(2), rtol=0, atol=1e-5)
    if components == 1:
        torch.testing.assert_close(found, TWO.log_prob(x), rtol=0, atol=0.1)
    torch.testing.assert_close(found, model.log_prob(x, base=base.log_prob))
    with pytest.raises(ValueError, match="components must lie between 1 and the 4 points; got 5"):
        GaussianMixture.fit(x.repeat(2, 1)[:4], 5)
    with pytest.raises(ValueError, match=r"or GaussianMixture.fit\(cells, components\)"):
        model.log_prob(x)


def test_likelihoods_have_gradients_by_the_parameters() -> None:
    """Maximum likelihood through the flow, also for callers who have switched gradients off for their own work."""
    model = gendyn.FlowMatching("independent", steps=5, hidden=(8,)).fit(populations(50), progress=False)
    network = model.process_.network.requires_grad_(True)
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    for divergence in ("exact", "hutchinson", "hutchinson-gaussian"):
        network.zero_grad()
        model.log_prob(x, base=ONE, divergence=divergence, gradient="backprop", step=0.1).sum().backward()
        gradients = [p.grad for p in network.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert any(float(g.abs().max()) > 0 for g in gradients)
    with torch.no_grad():
        assert torch.isfinite(model.log_prob(x, base=ONE)).all()


def gaussian(n: int = 60, dim: int = 2, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(n, dim, generator=torch.Generator().manual_seed(0))


def spoilt() -> torch.Tensor:
    x = gaussian()
    x[[3, 7], 0] = math.nan
    return x


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Snapshots([0.0, 1.0], [gaussian(), gaussian(dim=3)]), r"same number of features; got \[2, 3\]"),
        (lambda: Snapshots([0.0, 1.0], [gaussian(), spoilt()]), r"in 2 of 60 rows \(first: 3, 7\)"),
        (lambda: Snapshots([0.0, 0.0], [gaussian(), gaussian()]), "increase strictly; got 0 after 0"),
        (lambda: Snapshots([1.0, 0.0], [gaussian(), gaussian()]), "increase strictly; got 0 after 1"),
        (lambda: gendyn.preset("fm").fit(two(mean=1.0)), r"a shrinking path starts from standard Gaussian noise.*icfm"),
        (lambda: gendyn.preset("fm").fit(two(scale=2.0)), r"covariance up to .* from the unit matrix.*'icfm'"),
        (lambda: gendyn.preset("sf2m", sigma=-0.5), "must be positive and finite numbers; got"),
        (lambda: gendyn.preset("cfm"), "there is no preset 'cfm'; there are icfm, otcfm, fm, vp, sbcfm"),
        (
            lambda: flat().process_.score(torch.tensor(0.5), gaussian()),
            "give gamma above zero, or a one-sided schedule",
        ),
        (lambda: flat().sample(gaussian(), [0.0, 1.0], epsilon=0.1), "give gamma above zero, or a one-sided schedule"),
        (lambda: flat().sample(gaussian(), [0.0, 1.5]), r"time 1.5 lies outside the trained range \[0, 1\]"),
        (
            lambda: gendyn.StochasticInterpolant(coupling="paired").fit(
                Snapshots([0.0, 1.0], [gaussian(5), gaussian(6)]), progress=False
            ),
            r"paired populations must have equal sizes; got \[5, 6\]",
        ),
        (lambda: gendyn.StochasticInterpolant("encode-decode", "zero").fit(two()), "collapses to a point at t=0.5"),
    ],
)
def test_sentences(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def two(mean: float = 0.0, scale: float = 1.0) -> Snapshots:
    return Snapshots([0.0, 1.0], [scale * gaussian(mean=mean / scale), gaussian(mean=3.0)])


def flat() -> gendyn.StochasticInterpolant:
    return gendyn.StochasticInterpolant("linear", "zero", steps=1, hidden=(2,)).fit(two(), progress=False)


def test_standard_noise_is_taken_for_what_it_is() -> None:
    x = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400).float()[:, None]
    model = gendyn.preset("fm", steps=2, hidden=(4,)).fit(Snapshots([0.0, 1.0], [x, x + 3]), progress=False)
    assert np.isfinite(model.history_["loss"]).all()
