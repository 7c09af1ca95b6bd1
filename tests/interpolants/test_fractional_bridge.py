"""Bridges of fractional noise against the conditional normal law, and learned ones against pairs of known law."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gendyn as gd
from gendyn.data import Paths
from gendyn.interpolants import FractionalBridgeProcess, PinnedFractional, PinnedSolver
from gendyn.interpolants.fractional_bridge import _spread
from gendyn.interpolants.fractional_bridge_process import expected_end
from gendyn.sampling import SDE
from gendyn.sampling.fractional import fractional_covariance

PUBLISHED = np.geomspace(0.1, 20, 5).tolist()
every_law = pytest.mark.parametrize(
    "law",
    [PinnedFractional(0.2, rates=PUBLISHED), PinnedFractional(0.7, rates=PUBLISHED), PinnedFractional(0.1)],
    ids=["rough", "persistent", "default grid"],
)


def stacked(law: PinnedFractional, times: list[float]) -> Tensor:
    """Return the covariance of (X_t, Y_t) at times and X_1, of unit noise, by integrating kernels numerically."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(1000))
    edges = [0.0, *times, 1.0]
    s = torch.cat([a + (b - a) * (nodes + 1) / 2 for a, b in pairwise(edges)])
    w = torch.cat([(b - a) * weights / 2 for a, b in pairwise(edges)])
    rows = []
    for t in [*times, 1.0]:
        # What a unit of the driver at s has become at t; nothing before it is there.
        lag = t - s
        y = torch.where(lag[:, None] > 0, torch.exp(-lag.clamp_min(0)[:, None] * law.decay_rates), 0.0)
        rows.append((y @ law.weights)[:, None])
        if t < 1:
            rows.append(y)
    impulse = torch.cat(rows, 1)
    return (impulse * w[:, None]).mT @ impulse


@every_law
def test_the_pinned_state_is_the_joint_law_conditioned_on_its_end(law):
    k, t, end, sigma = len(law.weights), 0.37, 1.7, 0.6
    units = torch.tensor([sigma, *[1.0] * k, sigma], dtype=torch.float64)
    joint = units[:, None] * stacked(law, [t]) * units
    gain = joint[:-1, -1] / joint[-1, -1]
    covariance = joint[:-1, :-1] - torch.outer(gain, gain) * joint[-1, -1]
    step = law.step(0.0, t)
    # x0 = 0 and y = 0, thus mu = 0.
    mean, root = step.gain * end / sigma, step.root
    both = torch.cat([sigma * (law.weights @ root)[None], root])
    torch.testing.assert_close(torch.cat([sigma * (law.weights @ mean)[None], mean]), gain * end)
    torch.testing.assert_close(both @ both.mT, covariance, atol=1e-9, rtol=0)


@every_law
def test_many_steps_are_one(law):
    # Along a fixed end, a chain of steps has the law of a long one, and arrives.
    end, sigma, k = 1.7, 0.6, len(law.weights)
    mean, covariance = torch.zeros(k).double(), torch.zeros(k, k).double()
    times = [0.0, 0.1, 0.11, 0.5, 0.99, 1.0]
    for t, after in pairwise(times):
        step = law.step(t, after - t)
        matrix = torch.diag(step.decay) - torch.outer(step.gain, law.expected(t))
        mean = matrix @ mean + step.gain * end / sigma
        covariance = matrix @ covariance @ matrix.mT + step.root @ step.root.mT
        if after == 0.5:
            whole = law.step(0.0, 0.5)
            torch.testing.assert_close(mean, whole.gain * end / sigma)
            torch.testing.assert_close(covariance, whole.root @ whole.root.mT, atol=1e-9, rtol=0)
    assert (sigma * law.weights @ mean).item() == pytest.approx(end, abs=1e-8)
    assert (law.weights @ covariance @ law.weights).item() == pytest.approx(0.0, abs=1e-8)


@every_law
def test_what_is_expected_of_the_end_is_a_brownian_bridge_in_its_own_clock(law):
    t, sigma, start, end = 0.4, 0.8, 0.3, 2.0
    step, ahead = law.step(0.0, t), law.expected(t)
    mean = start + sigma * ahead @ (step.gain * (end - start) / sigma)
    variance = (sigma * ahead @ step.root).square().sum()
    left = law.left(t) / law.left(0.0)
    assert mean.item() == pytest.approx((left * start + (1 - left) * end).item())
    assert variance.item() == pytest.approx((sigma**2 * law.left(0.0) * left * (1 - left)).item(), rel=1e-6)


def test_values_of_the_published_grid():
    for hurst, slope, left, kernel in (
        (0.2, 3.345535, (0.740491, 0.375355, 0.095023), 0.768859),
        (0.7, 0.392458, (0.379095, 0.039575, 0.001837), 1.032277),
    ):
        law = PinnedFractional(hurst, rates=PUBLISHED)
        assert law.weights.sum().item() == pytest.approx(slope, abs=1e-6)
        assert [law.left(1 - tau).item() for tau in (0.5, 0.1, 0.01)] == pytest.approx(left, abs=1e-6)
        assert law.expected(0.5).sum().item() == pytest.approx(kernel, abs=1e-6)
        assert law.left(0.0).item() == pytest.approx(1.0)


def test_at_one_half_it_is_the_brownian_bridge():
    law = PinnedFractional(0.5)
    assert len(law.weights) == 1
    step = law.step(0.2, 0.3)
    assert step.gain.item() == pytest.approx(0.3 / 0.8, abs=1e-5)
    assert step.root.square().item() == pytest.approx(0.3 * 0.5 / 0.8, abs=1e-5)


class Known(nn.Module):
    """A network that knows the end: where the start went."""

    def forward(self, clock: Tensor, mu: Tensor, start: Tensor) -> Tensor:
        return 3.0 - start


def pinned(hurst: float, sigma: float = 0.5, times: tuple[float, float] = (1.0, 3.0)) -> FractionalBridgeProcess:
    zero, one = torch.zeros(2).double(), torch.ones(2).double()
    return FractionalBridgeProcess(Known(), PinnedFractional(hurst), times, zero, one, sigma, zero)


def test_the_drift_is_that_of_the_free_process_and_the_gradient_of_the_end():
    process = pinned(0.3, times=(0.0, 1.0))
    law, k, t = process.law, process.memory, 0.6
    state = torch.randn(5, process.dim, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    x, y = state[:, :2], state[:, 2:].reshape(5, 2, k)
    mu = x + process.sigma * y @ (law.expected(t) - law.weights)
    # The end is fixed while the state moves: the gradient is that of its density.
    with torch.no_grad():
        _, end = process.expectation(t, state)
    log_density = -0.5 * (end - mu).square() / (process.sigma**2 * law.left(t))
    (gradient,) = torch.autograd.grad(log_density.sum(), state)
    g = process.diffusion(torch.tensor(t), state)
    memory = -law.decay_rates * y
    free = torch.cat([process.sigma * memory @ law.weights, memory.flatten(1)], 1)
    torch.testing.assert_close(process.drift(torch.tensor(t, dtype=torch.float64), state), free + gradient @ (g @ g.mT))


@pytest.mark.parametrize("hurst", [0.2, 0.5, 0.8])
def test_paths_of_a_known_end_have_the_conditional_law(hurst):
    process, n = pinned(hurst), 6000
    x0 = torch.tensor([[0.5, -1.0]]).double().expand(n, 2)
    times = [1.0, 1.5, 2.4, 3.0]
    paths = gd.sample(process, process.begin(x0), times, seed=0).values[:, :, :2]
    torch.testing.assert_close(paths[:, -1], 3.0 - x0, atol=1e-7, rtol=0)
    local = torch.tensor([0.25, 0.7]).double()
    noise = process.law.noise
    own, across = noise.covariance(local[:, None], local), noise.covariance(local, 1.0)
    mean = x0[0] + across[:, None] * (3.0 - 2 * x0[0])
    covariance = 0.25 * (own - torch.outer(across, across))
    for d in range(2):
        inner = paths[:, 1:3, d] - mean[:, d]
        error = (covariance.square() + covariance.diagonal()[:, None] * covariance.diagonal()).div(n).sqrt()
        assert ((inner.T @ inner / n - covariance).abs() < 4.5 * error).all()
        assert (inner.mean(0).abs() < 4.5 * (covariance.diagonal() / n).sqrt()).all()
    # And that is nearly fractional Brownian motion.
    exact = fractional_covariance(local[:, None], local, hurst, "II")
    torch.testing.assert_close(own, exact, atol=0.02, rtol=0)


@pytest.mark.parametrize("hurst", [0.3, 0.7])
def test_small_euler_steps_have_the_same_law(hurst):
    process, n = pinned(hurst), 3000
    x0 = torch.zeros(n, 2).double()
    options = {"times": [1.0, 2.0, 2.9], "seed": 1}
    exact = gd.sample(process, process.begin(x0), **options).values[:, 1:, 0]
    euler = gd.sample(process, process.begin(x0), solver="euler_maruyama", step=0.002, **options).values[:, 1:, 0]
    torch.testing.assert_close(exact.mean(0), euler.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(exact.T.cov(), euler.T.cov(), atol=0.02, rtol=0)


def test_the_expectation_is_that_of_a_normal_end():
    # x1 ~ N(f, s^2) given x0: the posterior mean after mu was seen, by conditioning two normals.
    left, mu, start, f = 0.3, torch.tensor([[0.4]]), torch.tensor([[-1.0]]), 2.0
    s, sigma = torch.tensor([0.7]), torch.tensor([0.5])
    found = expected_end(lambda clock, x, x0: torch.full_like(x, f), torch.tensor(left), mu, start, s, sigma)
    seen = (mu - left * start) / (1 - left)
    precision = (1 - left) / (sigma**2 * left)
    expected = (f / s**2 + seen * precision) / (1 / s**2 + precision)
    torch.testing.assert_close(found, expected)


def normal_pairs(n: int, seed: int, spread: float = 0.4) -> Paths:
    draw = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(n, 2, generator=draw)
    end = 1.0 + x @ torch.tensor([[0.0, 0.5], [-0.5, 0.0]]) + spread * torch.randn(n, 2, generator=draw)
    return Paths([0.0, 2.0], torch.stack([x, end], 1), names=["a", "b"])


@pytest.mark.parametrize("hurst", [0.2, 0.5, 0.7])
def test_learned_ends_have_the_law_of_the_pairs(hurst):
    model = gd.FractionalBridge(hurst, sigma=0.5, steps=1500, hidden=(32, 32)).fit(
        normal_pairs(4000, 0), seed=0, progress=False
    )
    assert model.spread_.numpy() == pytest.approx([0.4, 0.4], abs=0.03)
    fresh = normal_pairs(4000, 1)
    starts, ends = fresh.values.unbind(1)
    drawn = model.sample(starts, seed=3)
    assert drawn.names == ("a", "b")
    made = drawn.values[:, -1]
    mean = 1.0 + starts @ torch.tensor([[0.0, 0.5], [-0.5, 0.0]])
    residual = made - mean
    assert residual.mean(0).abs().max() < 0.05
    assert residual.std(0).numpy() == pytest.approx([0.4, 0.4], abs=0.03)
    # The score is near that of the true conditional law, and better than that of its mean.
    noise = 0.4 * torch.randn(8, *mean.shape, generator=torch.Generator().manual_seed(5))
    members = (mean + noise).transpose(0, 1) / model.process_.scale
    gap = (members - (ends / model.process_.scale)[:, None]).norm(dim=2).mean()
    best = -(gap - 0.5 * torch.cdist(members, members).sum((1, 2)).mean() / 56)
    assert model.score(fresh) == pytest.approx(best.item(), abs=0.01)


def test_times_within_the_bridge():
    model = gd.FractionalBridge(steps=2, hidden=(8,)).fit(normal_pairs(50, 0), progress=False)
    paths = model.sample(torch.zeros(3, 2), [0.5, 1.0, 2.0])
    assert paths.times.tolist() == [0.5, 1.0, 2.0]
    assert paths.values.shape == (3, 3, 2)
    assert model.sample(torch.zeros(3, 2), [0.0]).values.tolist() == [[[0.0, 0.0]]] * 3
    assert model.sample(n=120).values.shape == (120, 2, 2)
    again = model.sample(torch.zeros(3, 2), [0.5, 1.0, 2.0], chunk=256)
    torch.testing.assert_close(paths.values, again.values)


def test_the_spread_of_certain_ends_is_small():
    x = torch.rand(5000, 1, generator=torch.Generator().manual_seed(0))
    assert _spread(torch.stack([x, 3 * x], 1), 0).item() < 2e-3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hurst": 1.0}, "Hurst index must lie between 0 and 1"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"rates": (1.0, 1.0)}, "rates must increase"),
        ({"count": 0}, "whole number of at least 1 rate"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_sentences_about_hyper_parameters(options, words):
    with pytest.raises(ValueError, match=words):
        gd.FractionalBridge(**options).fit(normal_pairs(10, 0))


def test_sentences_about_pairs():
    values = torch.zeros(4, 3, 1)
    model = gd.FractionalBridge(steps=2, hidden=(4,))
    with pytest.raises(ValueError, match=r"pairs are paths of two times that all share.*got \[0.0, 1.0, 2.0\]"):
        model.fit(Paths([0.0, 1.0, 2.0], values))
    with pytest.raises(ValueError, match="both ends of every pair must be known"):
        model.fit(Paths([0.0, 1.0], values[:, :2], torch.arange(8).reshape(4, 2, 1) > 0))
    with pytest.raises(ValueError, match="at least 2 pairs"):
        model.fit(Paths([0.0, 1.0], values[:1, :2]))
    with pytest.raises(TypeError, match="pairs are needed as"):
        model.fit(values)
    model.fit(normal_pairs(20, 0), progress=False)
    with pytest.raises(ValueError, match=r"times must increase, from 0 to 2 at most; got \[0.0, 3.0\]"):
        model.sample(times=[0.0, 3.0])
    with pytest.raises(ValueError, match=r"x0 must have shape \(n, 2\); got \(3, 1\)"):
        model.sample(torch.zeros(3, 1))
    with pytest.raises(ValueError, match="fitted on 2 features; the data have 1"):
        model.score(Paths([0.0, 2.0], torch.randn(4, 2, 1, generator=torch.Generator().manual_seed(0))))
    with pytest.raises(ValueError, match="n must be at least 2"):
        model.score(normal_pairs(5, 0), n=1)


def test_the_solver_is_for_bridges_alone():
    free = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(1), dim=1, noise_type="additive")
    with pytest.raises(TypeError, match="for bridges of fractional noise; got SDE"):
        PinnedSolver().step(free, torch.tensor(0.0), 0.1, torch.zeros(1, 1), None)
