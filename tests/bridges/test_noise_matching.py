"""The noise by matched characteristic functions: the right mean where sources are sparse, and the variance it says."""

from __future__ import annotations

import math

import pytest
import torch

import gendyn as gd
from gendyn.bridges.descent import quasi_newton
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.noise_matching import NoiseMatch
from gendyn.bridges.parameter_intervals import parameter_influences
from gendyn.bridges.pushforward import PushforwardObjective

DOUBLE = torch.float64
SIGMA = 0.1


def brownian(seed, n=200, spread=0.2):
    """Return independent points at five times of planar Brownian motion that starts from a normal law."""
    generator = torch.Generator().manual_seed(seed)
    scales = [math.sqrt(spread**2 + k * SIGMA**2) for k in range(5)]
    return gd.Snapshots(
        [float(k) for k in range(5)], [s * torch.randn(n, 2, generator=generator, dtype=DOUBLE) for s in scales]
    )


def both(data):
    """Return the noise by likelihood, by the match, and the standard error of the latter's logarithm."""
    objective = PushforwardObjective(Marginals.of(data))
    reference = gd.references.Brownian(sigma=0.2).start(data)
    parameters = [reference.log_sigma]
    quasi_newton(parameters, lambda: objective.value(reference), 30)
    likeliest = float(reference.log_sigma.detach().exp())
    influences = parameter_influences(objective, reference, parameters)
    match = NoiseMatch(reference, objective.marginals, seed=0)
    assert match.match(reference)
    error = float(match.influences(reference, parameters, influences).covariance().sqrt())
    return likeliest, float(reference.log_sigma.detach().exp()), error


def test_it_is_right_on_average_where_likelihood_is_not_and_knows_its_error():
    found = torch.tensor([both(brownian(seed)) for seed in range(30)], dtype=DOUBLE)
    likeliest, matched, errors = found.unbind(1)
    assert float(likeliest.mean()) > 1.25 * SIGMA
    logs = (matched / SIGMA).log()
    # The logarithm of an unbiased square has half its variance of bias; 4 standard errors of the mean besides.
    spread = float(logs.std())
    assert abs(float(logs.mean())) < 4 * spread / math.sqrt(30) + spread**2
    # The standard deviation of 30 numbers is itself known to 13 %.
    assert float(errors.median()) == pytest.approx(spread, rel=0.45)
    covered = (logs.abs() < 1.645 * errors).sum()
    assert 22 <= int(covered) <= 30


def test_the_distance_leaves_out_pairs_of_a_source_with_itself():
    data = brownian(0, n=6).only([0.0, 1.0])
    reference = gd.references.Brownian(sigma=0.3).start(data)
    marginals = Marginals.of(data)
    match = NoiseMatch(reference, marginals, seed=1)
    (omega,), (x, y) = match.frequencies, marginals.samples
    damping = torch.exp(-0.5 * 0.3**2 * omega.square().sum(1))
    total = torch.zeros(len(omega), dtype=DOUBLE)
    for i in range(6):
        for j in range(6):
            if i != j:
                total += damping.square() * (omega @ (x[i] - x[j])).cos() / 30
            total -= 2 * damping * (omega @ (x[i] - y[j])).cos() / 36
    assert float(match.value(reference).detach()) == pytest.approx(6 * float(total.mean()), abs=1e-10)


def test_frequencies_have_half_the_inverse_scale_of_the_laws():
    data = brownian(0, n=20).only([0.0, 4.0])
    reference = gd.references.Brownian(sigma=0.3).start(data)
    (omega,) = NoiseMatch(reference, Marginals.of(data), seed=1).frequencies
    assert omega.square().mean().sqrt().item() == pytest.approx(0.5 / (0.3 * 2.0), rel=0.1)


def test_it_stays_where_nothing_is_within_reach():
    data = brownian(0, n=50)
    reference = gd.references.Brownian(sigma=3.0).start(data)
    before = reference.log_sigma.detach().clone()
    assert not NoiseMatch(reference, Marginals.of(data), seed=0).match(reference)
    assert torch.equal(reference.log_sigma, before)


@pytest.mark.parametrize("seed", [300, 301])
def test_refinement_of_a_mechanism_matches_its_noise(seed):
    system = gd.systems.LotkaVolterra(growth=1.2, predation=0.5, death=0.5, reproduction=0.12, volatility=0.03)
    data = gd.systems.simulate_snapshots(system, [0.0, 1.0, 2.0, 3.0, 4.0], 80, seed=seed, step=0.01)
    model = gd.ReferenceRefinement("lotka-volterra", gradient_steps=60).fit(data, progress=False)
    row = model.parameters_.set_index("parameter").loc["sigma"]
    assert float(model.reference_.log_sigma.exp()) == pytest.approx(row["value"])
    assert row["value"] < model.history_["sigma"].iloc[-1]
    assert abs(math.log(row["value"] / 0.03)) < 2.6 * math.log(row["high"] / row["value"]) / 1.645


def test_given_noise_is_not_matched():
    data = gd.systems.simulate_snapshots(gd.systems.LotkaVolterra(), [0.0, 1.0, 2.0], 30, step=0.02)
    model = gd.ReferenceRefinement("lotka-volterra", sigma=0.05, gradient_steps=10).fit(data, progress=False)
    assert float(model.reference_.log_sigma.exp()) == pytest.approx(0.05)
