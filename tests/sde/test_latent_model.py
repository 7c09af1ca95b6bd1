"""Latent SDEs against closed forms: divergences between path laws, the evidence of an Ornstein-Uhlenbeck process."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gendyn.sde import Series, step_times
from gendyn.sde.latent_model import LatentModel, LatentPrior, StepPart

EVIDENCE = -3.263172
TIMES, SHOWN = [0.3, 0.9, 1.0, 2.0], [0.5, -0.2, 0.1, 1.0]


class Known(LatentPrior):
    """A prior with constant coefficients."""

    def __init__(self, rate: float, sigma: float) -> None:
        super().__init__(1, 4)
        self.rate, self.sigma = rate, sigma

    def drift(self, t: Tensor, z: Tensor) -> Tensor:
        return -self.rate * z

    def diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        return torch.full_like(z, self.sigma)


class Steered(LatentModel):
    """A model whose control is given."""

    def __init__(self, law: str, sigma: float) -> None:
        super().__init__(1, 1, 4, 2)
        self.law, self.prior = law, Known(0.0, sigma)
        with torch.no_grad():
            self.begin.weight.zero_()
            self.begin.bias.copy_(torch.tensor([1.0, -30.0]))

    def steer(self, z: Tensor, g: Tensor, part: StepPart) -> tuple[Tensor, Tensor]:
        return (torch.ones_like(z) if self.law == "constant" else -z) / g, torch.ones_like(z)


def observed(step: float) -> tuple[Series, Tensor, Tensor]:
    """Return the series of the closed form, which begins unobserved at 0, and its grid."""
    times = torch.tensor([[0.0, *TIMES]], dtype=torch.float64)
    values = torch.tensor([[math.nan, *SHOWN]], dtype=torch.float64)[:, :, None]
    series = Series(times, values, torch.tensor([5]))
    grid, places = step_times(times, series.lengths, longest=step, wanted=times)
    assert places is not None
    return series, grid, places


def evidence(grid: list[float], rate: float = 1.0) -> float:
    """Return the evidence of the process in Euler-Maruyama steps, by a Kalman filter written out."""
    mean, variance, total = 0.0, 0.5, 0.0
    for before, after in itertools.pairwise(grid):
        h = after - before
        mean, variance = (1 - rate * h) * mean, (1 - rate * h) ** 2 * variance + h
        for t, y in zip(TIMES, SHOWN, strict=True):
            if abs(t - after) < 1e-9:
                s = variance + 0.01
                total -= 0.5 * (math.log(2 * math.pi * s) + (y - mean) ** 2 / s)
                mean, variance = mean + variance / s * (y - mean), variance * 0.01 / s
    return total


@pytest.mark.parametrize(("law", "sigma", "exact"), [("constant", 0.5, 2.0), ("restoring", 1.0, 0.358083)])
def test_the_divergence_of_paths_is_that_of_girsanov(law: str, sigma: float, exact: float) -> None:
    times = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    series = Series(times, torch.full((1, 2, 1), math.nan, dtype=torch.float64), torch.tensor([2]))
    grid, _ = step_times(times, series.lengths, longest=0.002)
    _, spent = Steered(law, sigma).double().paths(series, grid, seed=0, n_samples=4000)
    error = 4 * float(spent.std()) / 4000**0.5 + 0.002
    assert float(spent.mean()) == pytest.approx(exact, abs=error)


def test_the_filter_written_out_finds_the_evidence() -> None:
    assert evidence(np.union1d(np.linspace(0, 2, 20001), TIMES).tolist()) == pytest.approx(EVIDENCE, abs=1e-3)


def test_a_learned_posterior_comes_within_a_tenth_of_a_nat_of_the_evidence() -> None:
    series, grid, places = observed(0.04)
    model = LatentModel(1, 1, 16, 8, seed=0).double()
    model.prior, model.decoder = Known(1.0, 1.0), nn.Identity()
    with torch.no_grad():
        model.log_noise.fill_(math.log(0.1))
        model.start_log_deviation.fill_(0.5 * math.log(0.5))
    for fixed in (model.log_noise, model.start_mean, model.start_log_deviation):
        fixed.requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=0.03)
    steps = 400
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for k in range(steps):
        optimizer.zero_grad()
        loss = -model.bound(series, grid, places, seed=k, n_samples=8, gradient="backprop").value().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        parts = model.bound(series, grid, places, seed=10_000, n_samples=4000)
    each = parts.log_likelihood - parts.path_divergence - parts.start_divergence
    bound, error = float(each.mean()), 4 * float(each.std()) / 4000**0.5
    assert bound < evidence(grid.tolist()) + error, "a bound lies below the evidence"
    assert bound > EVIDENCE - 0.1


@torch.no_grad()
def test_steps_after_the_last_observation_are_those_of_the_prior() -> None:
    series, _, _ = observed(0.1)
    grid, _ = step_times(series.times, series.lengths, longest=0.1, wanted=torch.tensor([[3.0, 4.0]]))
    model = LatentModel(1, 2, 8, 4, seed=1).double()
    model.extra.weight.normal_(generator=torch.Generator().manual_seed(0))
    last = int((grid <= 2.0).sum()) - 1
    for part in model.plan(series, grid)[last:]:
        u, r = model.steer(torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64), part)
        assert float(u.abs().max()) == 0.0
        assert float((r - 1).abs().max()) == 0.0


def test_a_series_in_a_ragged_batch_has_the_bound_it_has_alone() -> None:
    times = torch.tensor([[0.0, 0.4, 1.0, 1.5], [0.0, 0.7, 0.7, 0.7]], dtype=torch.float64)
    values = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[1, 2:] = math.nan
    model = LatentModel(2, 2, 8, 4, seed=0).double()
    both = Series(times, values, torch.tensor([4, 2]))
    grid, places = step_times(times, both.lengths, longest=0.5, wanted=times)
    assert places is not None
    found = model.encoder(both)
    alone = Series(times[1:, :2], values[1:, :2], torch.tensor([2]))
    assert torch.allclose(found[1:, :2], model.encoder(alone), atol=1e-12)
    parts, own = model.plan(both, grid), model.plan(alone, grid[1:])
    for k, part in enumerate(parts):
        assert torch.allclose(part.narrowing[1:], own[k].narrowing, atol=1e-12)
        assert torch.allclose(part.aim[1:] * part.active[1:], own[k].aim * own[k].active, atol=1e-12)


def adjoint_and_unrolled(longest: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return gradients of the bound of a ragged batch: by the adjoint, and through steps written out on its noise."""
    times = torch.tensor([[0.0, 0.4, 1.0, 1.5], [0.0, 0.7, 0.7, 0.7]], dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(2, 4, 2, generator=draw, dtype=torch.float64)
    values[1, 2:] = math.nan
    series = Series(times, values, torch.tensor([4, 2]))
    grid, places = step_times(times, series.lengths, longest=longest, wanted=times)
    assert places is not None
    model = LatentModel(2, 2, 8, 4, seed=0).double()
    with torch.no_grad():
        model.extra.weight.normal_(std=0.3, generator=draw)
    model.bound(series, grid, places, seed=3, n_samples=16, gradient="adjoint").value().sum().backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    z, spent = (part.detach() for part in model.paths(series, grid, seed=3, n_samples=16, gradient="adjoint"))
    z = z.flatten(0, 1)
    mean, log_deviation = (part.repeat(16, 1) for part in model.start(series))
    x = mean + log_deviation.exp() * ((z[:, 0] - mean) / log_deviation.exp()).detach()
    states, cost = [x], torch.zeros(len(x), dtype=torch.float64)
    for k, part in enumerate(model.plan(series, grid, 16)[:-1]):
        g = model.prior.diffusion(part.time, x)
        u, r = model.steer(x, g, part)
        middle, width = x + (model.prior.drift(part.time, x) + g * u) * part.step, g * r.sqrt() * part.step.sqrt()
        noise = ((z[:, k + 1] - middle) / width.clamp_min(1e-12)).detach()
        cost = cost + 0.5 * (u.square() * part.step + r - 1 - r.log()).sum(1)
        x = middle + width * noise
        states.append(x)
    path = torch.stack(states, dim=1)
    assert torch.allclose(path, z, atol=1e-9)
    assert torch.allclose(cost, spent.flatten(), atol=1e-9)
    at = places.repeat(16, 1)[:, :, None].expand(-1, -1, 2)
    looks = values.repeat(16, 1, 1)
    error = (looks.nan_to_num() - model.decoder(path.gather(1, at))) / model.log_noise.exp()
    density = -0.5 * error.square() - model.log_noise - 0.5 * math.log(2 * math.pi)
    told = torch.where(looks.isfinite(), density, 0.0).sum((1, 2))
    prior = torch.distributions.Normal(model.start_mean, model.start_log_deviation.exp())
    start = torch.distributions.kl_divergence(torch.distributions.Normal(mean, log_deviation.exp()), prior).sum(1)
    ((told - cost - start).sum() / 16).backward()  # type: ignore[no-untyped-call]
    return found, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_the_adjoint_gradient_tends_to_that_through_the_steps() -> None:
    errors = []
    for longest in (0.05, 0.00625):
        found, right = adjoint_and_unrolled(longest)
        assert found.keys() == right.keys()
        # Nothing of the path's equation stands between these and the bound.
        for name in ("start_mean", "start_log_deviation", "decoder.layers.0.weight"):
            assert torch.allclose(found[name], right[name], rtol=1e-9, atol=1e-9)
        errors.append({name: float((found[name] - g).norm() / g.norm()) for name, g in right.items()})
    # Of each parameter, not of all together: what is small would hide behind what is large.
    assert max(errors[1].values()) < 0.1
    assert max(errors[1].values()) < 0.4 * max(errors[0].values())
