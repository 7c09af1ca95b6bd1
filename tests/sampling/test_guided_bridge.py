"""Guided bridges: Brownian and Ornstein-Uhlenbeck bridges in closed form, and transition densities."""

import math

import numpy as np
import pytest
import torch

from gendyn.sampling import ODE, SDE
from gendyn.sampling.guided_bridge import guided_bridge
from gendyn.sampling.likelihood import effective_sample_size
from gendyn.sampling.linear import LinearProcess
from gendyn.systems import GeometricBrownianMotion, OrnsteinUhlenbeck

SPREAD = [[0.8, 0.0], [0.5, 0.6]]
BROWNIAN = LinearProcess(torch.zeros(2, 2), [0.3, -0.2], SPREAD)
RETURN = LinearProcess([[-1.5, 0.6], [0.0, -1.0]], [0.5, -0.5], SPREAD)
START, END = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([1.0, 0.5], dtype=torch.float64)


def bridge_moments(process, s, total, x0, v, deviation=0.0):
    """Mean and covariance at s of a linear process given its start and an observation at the end."""
    first, rest, whole = process.transition(s), process.transition(total - s), process.transition(total)
    seen = whole.covariance + deviation**2 * torch.eye(len(v), dtype=torch.float64)
    gain = first.covariance @ rest.matrix.T @ torch.linalg.inv(seen)
    mean = first.mean(x0[None])[0] + gain @ (v - whole.mean(x0[None])[0])
    return mean, first.covariance - gain @ rest.matrix @ first.covariance


def weighted_moments(values, log_weights):
    weights = torch.softmax(log_weights, 0)
    mean = weights @ values
    return mean, (values - mean).T @ (weights[:, None] * (values - mean))


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 0.05), (torch.float64, 2.0)])
def test_brownian_motion_guided_by_itself_is_the_brownian_bridge(dtype, step):
    n = 40_000
    x0 = START.to(dtype).expand(n, 2)
    paths, log_weights = guided_bridge(BROWNIAN, x0, END, [1.0, 2.0, 3.0], auxiliary=BROWNIAN, step=step, seed=1)
    assert torch.equal(log_weights, torch.zeros(n, dtype=torch.float64))
    assert torch.equal(paths.values[:, 0], x0)
    assert torch.equal(paths.values[:, 2], END.to(dtype).expand(n, 2))
    # Halfway between, whatever the drift, with covariance a T / 4; exact at any step.
    middle = paths.values[:, 1].double()
    torch.testing.assert_close(middle.mean(0), (START + END) / 2, rtol=0, atol=0.02)
    torch.testing.assert_close(middle.T.cov(), BROWNIAN.noise_covariance * 2 / 4, rtol=0, atol=0.02)


def test_ornstein_uhlenbeck_guided_by_itself_needs_no_weights():
    paths, log_weights = guided_bridge(
        RETURN, START.expand(20_000, 2), END, [0.0, 0.3, 1.0], auxiliary=RETURN, step=0.01, seed=1
    )
    assert torch.equal(log_weights, torch.zeros_like(log_weights))
    mean, covariance = bridge_moments(RETURN, 0.3, 1.0, START, END)
    torch.testing.assert_close(paths.values[:, 1].mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(paths.values[:, 1].T.cov(), covariance, rtol=0, atol=0.02)


@pytest.mark.parametrize("deviation", [0.0, 0.4])
def test_ornstein_uhlenbeck_bridge_by_reweighted_brownian_guides(deviation):
    paths, log_weights = guided_bridge(
        RETURN, START.expand(30_000, 2), END, [0.0, 0.5, 1.0], step=0.01, seed=2, observation_deviation=deviation
    )
    assert effective_sample_size(log_weights) > 3000
    for k, s in ((1, 0.5), (2, 1.0)):
        found = weighted_moments(paths.values[:, k], log_weights)
        for value, truth in zip(found, bridge_moments(RETURN, s, 1.0, START, END, deviation), strict=True):
            torch.testing.assert_close(value, truth, rtol=0, atol=0.03)
    # Without the weights it is another law.
    unweighted = paths.values[:, 1].mean(0)
    assert (unweighted - bridge_moments(RETURN, 0.5, 1.0, START, END, deviation)[0]).abs().max() > 0.03


def test_the_system_is_the_linear_process():
    system = OrnsteinUhlenbeck(rate=2.0, mean=1.0, volatility=0.5)
    linear = LinearProcess([[-2.0]], [2.0], [[0.5]])
    x0 = torch.zeros(300, 1, dtype=torch.float64)
    ours, theirs = (guided_bridge(p, x0, [0.7], [0.0, 1.0, 2.0], step=0.05, seed=3) for p in (linear, system))
    torch.testing.assert_close(ours[0].values, theirs[0].values)
    torch.testing.assert_close(ours[1], theirs[1])


def test_weights_estimate_the_transition_density():
    system = OrnsteinUhlenbeck(rate=1.2, mean=0.5, volatility=0.7)
    x0, end = torch.full((20_000, 1), -0.2, dtype=torch.float64), torch.tensor([[0.9]], dtype=torch.float64)
    _, log_weights = guided_bridge(system, x0, end[0], [0.0, 0.8], step=0.01, seed=0)
    brownian = LinearProcess([[0.0]], [0.0], [[0.7]]).log_density(0.8, x0[:1], end).item()
    found = brownian + math.log(log_weights.exp().mean().item())
    assert found == pytest.approx(system.transition_log_density(0.8, x0[:1], end).item(), abs=0.02)


def geometric(noise_type):
    system = GeometricBrownianMotion(growth=0.1, volatility=0.3)
    if noise_type == "diagonal":
        return system
    return SDE(system.drift, lambda t, x: system.diffusion(t, x)[:, :, None], dim=1, noise_type="general")


@pytest.mark.parametrize("noise_type", ["diagonal", "general"])
def test_noise_that_depends_on_the_state(noise_type):
    # The bridge of geometric Brownian motion is the exponential of a Brownian bridge; its density is log-normal.
    n, total, v = 20_000, 1.0, 1.3
    x0 = torch.ones(n, 1, dtype=torch.float64)
    paths, log_weights = guided_bridge(geometric(noise_type), x0, [v], [0.0, 0.5, total], step=0.01, seed=5)
    logs = paths.values[:, 1].log()
    mean, covariance = weighted_moments(logs, log_weights)
    assert mean.item() == pytest.approx(math.log(v) / 2, abs=0.006)
    assert covariance.item() == pytest.approx(0.09 / 4, abs=0.0015)
    guide = LinearProcess([[0.0]], [0.0], [[0.3 * v]]).log_density(total, x0[:1], torch.tensor([[v]])).item()
    z = (math.log(v) - (0.1 - 0.045)) / 0.3
    truth = -0.5 * z**2 - math.log(v * 0.3 * math.sqrt(2 * math.pi))
    assert guide + math.log(log_weights.exp().mean().item()) == pytest.approx(truth, abs=0.02)


def test_end_points_of_each_paths_own():
    ends = torch.linspace(-1.0, 1.0, 600, dtype=torch.float64)[:, None].expand(600, 2)
    x0 = START.expand(600, 2)
    paths, log_weights = guided_bridge(RETURN, x0, ends, [0.0, 0.5, 1.0], substeps=20, seed=0)
    assert torch.equal(paths.values[:, -1], ends)
    one, its_weights = guided_bridge(RETURN, x0[:1], ends[0], [0.0, 0.5, 1.0], substeps=20, seed=0)
    torch.testing.assert_close(paths.values[:1], one.values)
    torch.testing.assert_close(log_weights[:1], its_weights)


def test_steps_end_on_every_time_and_shrink():
    times = []

    def drift(t, x):
        times.append(float(t))
        return -x

    process = SDE(drift, lambda t, x: torch.ones_like(x), dim=1)
    guided_bridge(process, torch.zeros(2, 1, dtype=torch.float64), [0.0], [0.0, 0.7, 2.0], step=0.1)
    steps = np.diff([*sorted(set(times)), 2.0])
    assert any(abs(t - 0.7) < 1e-12 for t in times)
    assert steps.max() <= 0.1 + 1e-9
    assert steps[-1] < 0.1 * steps[0]


def test_the_default_step_resolves_the_bridge():
    # Brownian motion may take any step; its bridge may not.
    paths, _ = guided_bridge(BROWNIAN, START.expand(4, 2), END, [0.0, 1.0])
    assert paths.info["n_steps"] == 100


def test_one_seed_one_bridge():
    state = torch.random.get_rng_state()
    x0 = START.expand(20, 2)
    one, same, other = (guided_bridge(RETURN, x0, END, [0.0, 0.5, 1.0], seed=s)[0].values[:, 1] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_it_refuses():
    x0, grid = START.expand(3, 2), [0.0, 1.0]
    ones = torch.ones(3, 1, dtype=torch.float64)
    blind = LinearProcess(torch.zeros(2, 2), [0.0, 0.0], [[1.0], [1.0]])
    scalar = SDE(lambda t, x: -x, lambda t, x: torch.ones_like(x), dim=2, noise_type="scalar")
    strat = SDE(lambda t, x: -x, lambda t, x: torch.ones_like(x), dim=2, calculus="stratonovich")
    plain = SDE(lambda t, x: -x, lambda t, x: torch.ones_like(x), dim=2)
    louder = LinearProcess(torch.zeros(2, 2), [0.0, 0.0], torch.eye(2))
    for refused, message in (
        (lambda: guided_bridge(RETURN, START, END, grid), r"x0 must have shape \(n, d\)"),
        (lambda: guided_bridge(RETURN, x0, END[:1], grid), "x1 must have shape"),
        (lambda: guided_bridge(RETURN, x0, END, [0.0]), "T at least 2"),
        (lambda: guided_bridge(RETURN, x0, END, [0.0, 2.0, 1.0]), "increase strictly; got 1 after 2"),
        (lambda: guided_bridge(RETURN, x0, END, grid, step=0.1, substeps=3), "not both"),
        (lambda: guided_bridge(RETURN, x0, END, grid, step=-0.1), "step must be positive"),
        (lambda: guided_bridge(RETURN, x0, END, grid, substeps=0), "substeps must be"),
        (lambda: guided_bridge(RETURN, x0, END, grid, observation_deviation=-1.0), "observation_deviation must be"),
        (lambda: guided_bridge(plain, x0, END, grid), "needs a step"),
        (lambda: guided_bridge(ODE(lambda t, x: -x, dim=2), x0, END, grid), "got none noise"),
        (lambda: guided_bridge(scalar, x0, END, grid, step=0.1), "got scalar noise"),
        (lambda: guided_bridge(strat, x0, END, grid, step=0.1), "needs Ito form"),
        (lambda: guided_bridge(blind, x0, END, grid), "direction without noise"),
        (lambda: guided_bridge(RETURN, x0, END, grid, auxiliary=louder), "own g g"),
        (
            lambda: guided_bridge(geometric("diagonal"), ones, ones * START[:1], grid, auxiliary=louder),
            "has 2 features",
        ),
        (
            lambda: guided_bridge(geometric("diagonal"), ones[:2], [[1.0], [2.0]], grid, step=0.1),
            "one bridge at a time",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
