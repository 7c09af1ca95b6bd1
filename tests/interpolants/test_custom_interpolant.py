"""An interpolant of one's own against one that is known, moved aside."""

from __future__ import annotations

import pytest
import torch

import gendyn
from gendyn.data import Snapshots
from gendyn.interpolants import CustomInterpolant
from gendyn.interpolants.analytic import GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.schedule import Linear

HEIGHT = 3.0


def detour(t, x0, x1):
    return torch.lerp(x0, x1, t) + 4 * t * (1 - t) * HEIGHT


def detour_rate(t, x0, x1):
    return x1 - x0 + 4 * (1 - 2 * t) * HEIGHT


def test_the_rate_is_the_derivative() -> None:
    t = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    x0, x1 = torch.randn(2, 9, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    taken, given = (CustomInterpolant(detour, rate, dim=1) for rate in (None, detour_rate))
    c = taken.at(t)
    for mine, theirs in zip(taken.path(t, c, x0, x1), given.path(t, c, x0, x1), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_velocity_and_score_of_a_detour() -> None:
    """A mean that is moved aside by a function of time moves the law, and adds that function's rate to the velocity."""
    z = torch.special.ndtri((torch.arange(600, dtype=torch.float64) + 0.5) / 600).float()[:, None]
    generator = torch.Generator().manual_seed(0)
    first, second = (z[torch.randperm(600, generator=generator)] for _ in range(2))
    data = Snapshots([0.0, 1.0], [-1 + 0.5 * first, 2 + second])
    options = {"coupling": "independent", "steps": 1500, "hidden": (48, 48), "lr": 5e-3, "scale": "none"}
    schedule = CustomInterpolant(detour, dim=1)
    model = gendyn.StochasticInterpolant(schedule, **options).fit(data, progress=False)
    ends = GaussianMixture.gaussian([-1.0], 0.25), GaussianMixture.gaussian([2.0], 1.0)
    exact = GaussianMixtureInterpolant(*ends, Linear())
    t = torch.rand(400, 1, generator=generator, dtype=torch.float64) * 0.9 + 0.05
    c = Linear().at(t)
    spread = (0.25 * c.alpha**2 + c.beta**2 + c.gamma**2).sqrt()
    x = -c.alpha + 2 * c.beta + spread * torch.randn(400, 1, generator=generator, dtype=torch.float64)
    truth = exact.fields(t, x)
    aside = 4 * t * (1 - t) * HEIGHT
    velocity = truth.velocity + 4 * (1 - 2 * t) * HEIGHT
    found = model.fields_.velocity(t.float(), (x + aside).float())
    assert float((found - velocity).square().mean() / velocity.square().mean()) < 0.01
    found = model.fields_.score(t.float(), (x + aside).float())
    assert float((found - truth.score).square().mean() / truth.score.square().mean()) < 0.05
    made = model.sample(data.samples[0], [0.0, 0.5, 1.0], epsilon=0.2, seed=1, step=0.0025).values[..., 0]
    assert made.mean(0).tolist() == pytest.approx([-1.0, 0.5 + HEIGHT, 2.0], abs=0.15)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CustomInterpolant(lambda t, x0, x1: x1), "must be its first end at t=0; it is"),
        (lambda: CustomInterpolant(lambda t, x0, x1: x0 + 0 * t), "must be its second end at t=1; it is"),
        (lambda: CustomInterpolant(lambda t, x0, x1: t), r"must return shape \(B, 2\); got \(16, 1\)"),
        (lambda: CustomInterpolant(detour, lambda t, x0, x1: x1 - x0), "rate must be the derivative of the mean"),
        (
            lambda: fit(fields=("source", "target")),
            "do not determine the velocity of CustomInterpolant.*; learn 'veloc",
        ),
        (lambda: fit(fields=("velocity", "source", "target")).sample(n=2, epsilon=0.1), "do not determine the score"),
        (
            lambda: GaussianMixtureInterpolant(*[GaussianMixture.gaussian([0.0], 1.0)] * 2, CustomInterpolant(detour)),
            "its mean is not linear in the ends",
        ),
        (lambda: exact().fields(1.5, torch.zeros(1, 1)), r"times of an interpolant lie in \[0, 1\]; got 1.5 to 1.5"),
        (lambda: exact().sample(-0.1, 3), r"lie in \[0, 1\]; got -0.1"),
    ],
)
def test_sentences(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def exact() -> GaussianMixtureInterpolant:
    return GaussianMixtureInterpolant(*[GaussianMixture.gaussian([0.0], 1.0)] * 2)


def fit(**options) -> gendyn.StochasticInterpolant:
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    data = Snapshots([0.0, 1.0], [x, x + 1])
    return gendyn.StochasticInterpolant(CustomInterpolant(detour), steps=2, hidden=(4,), **options).fit(
        data, progress=False
    )


def test_a_mean_that_is_not_checked_is_taken_as_it_is() -> None:
    unchecked = CustomInterpolant(lambda t, x0, x1: t * x1, lambda t, x0, x1: x0, validate=False)
    t, x0, x1 = torch.tensor([[0.5]]), torch.tensor([[1.0]]), torch.tensor([[4.0]])
    assert [v.item() for v in unchecked.path(t, unchecked.at(t), x0, x1)] == [2.0, 1.0]
