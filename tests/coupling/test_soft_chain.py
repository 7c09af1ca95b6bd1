"""Soft marginals on a chain: against the optimum over all tuples, the closed form of normals, and the hard bridge."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from gendyn.coupling import bridge_plan, soft_chain, static_bridge

DOUBLE = torch.float64


def chain_of_three(sizes=(4, 5, 3), sigma=0.8, gaps=(1.0, 0.5)):
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(n, 1, generator=generator, dtype=DOUBLE) for n in sizes]
    weights = [torch.rand(n, generator=generator, dtype=DOUBLE) + 0.2 for n in sizes]
    pairs = [
        torch.distributions.Normal(x, sigma * math.sqrt(gap)).log_prob(y.T)
        for x, y, gap in zip(samples, samples[1:], gaps, strict=False)
    ]
    return pairs, [w / w.sum() for w in weights]


def tuples(solved, pairs):
    """The law of index triples, from the couplings."""
    first, second = (
        bridge_plan(pair, solved.potentials[k], solved.weights[k], solved.weights[k + 1]).to_dense()
        for k, pair in enumerate(pairs)
    )
    return first[:, :, None] * second[None] / solved.weights[1][None, :, None]


@pytest.mark.parametrize("prices", [0.3, 4.0, (2.0, 0.5, math.inf), (math.inf, 1.0, math.inf)])
def test_it_is_the_optimum_over_all_tuples(prices):
    pairs, weights = chain_of_three()
    solved = soft_chain(pairs, weights, relaxation=prices, tolerance=1e-12)
    assert solved.converged
    law = tuples(solved, pairs)
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-10)
    for k, axes in enumerate(((1, 2), (0, 2), (0, 1))):
        torch.testing.assert_close(law.sum(axes), solved.weights[k], atol=1e-10, rtol=0)
    reference = (weights[0].log()[:, None, None] + pairs[0][:, :, None] + pairs[1][None]).numpy()
    each = (prices,) * 3 if isinstance(prices, float) else prices

    def value(joint):
        total = float((joint * (np.log(joint) - reference)).sum())
        for k, axes in enumerate(((1, 2), (0, 2), (0, 1))):
            w, a = joint.sum(axes), weights[k].numpy()
            total += 0.0 if math.isinf(each[k]) else each[k] * float((w * np.log(w / a)).sum())
        return total

    assert value(law.numpy()) == pytest.approx(solved.objective, abs=1e-8)
    # The objective is convex: no small move that keeps the imposed marginals may lower it.
    generator = np.random.default_rng(0)
    for _ in range(200):
        move = generator.normal(size=law.shape) * law.numpy()
        kept = [k for k in range(3) if math.isinf(each[k])]
        for _ in range(60):
            move -= law.numpy() * move.sum()
            for k in kept:
                axes = tuple(j for j in range(3) if j != k)
                shape = [1, 1, 1]
                shape[k] = -1
                move -= law.numpy() * (move.sum(axes) / law.numpy().sum(axes)).reshape(shape)
        assert value(law.numpy() + 0.01 * move) > solved.objective - 1e-9


def test_an_optimiser_over_all_tuples_finds_it():
    pairs, weights = chain_of_three((3, 3, 2))
    reference = (weights[0].log()[:, None, None] + pairs[0][:, :, None] + pairs[1][None]).numpy()

    def value(logits):
        raw = torch.from_numpy(logits).requires_grad_()
        logs = torch.log_softmax(raw, 0).reshape(3, 3, 2)
        joint = logs.exp()
        total = (joint * (logs - torch.from_numpy(reference))).sum()
        for k, axes in enumerate(((1, 2), (0, 2), (0, 1))):
            w = joint.sum(axes)
            total = total + 1.5 * (w * (w.log() - weights[k].log())).sum()
        total.backward()
        return total.item(), raw.grad.numpy()

    best = minimize(value, np.zeros(18), jac=True, method="BFGS", options={"gtol": 1e-9})
    solved = soft_chain(pairs, weights, relaxation=1.5, tolerance=1e-12)
    assert solved.objective == pytest.approx(best.fun, abs=1e-8)
    found = torch.softmax(torch.from_numpy(best.x), 0).reshape(3, 3, 2)
    torch.testing.assert_close(tuples(solved, pairs), found, atol=1e-5, rtol=0)


def test_normal_populations_have_the_moments_of_their_closed_form():
    """On even grids points stand for Lebesgue measure: precisions add up, and only three variances are unknown."""
    grid = torch.linspace(-9, 9, 361, dtype=DOUBLE)[:, None]
    variances, price, noise = (1.0, 0.3, 2.0), 1.7, (0.5, 0.9)
    weights = [torch.softmax(-grid[:, 0].square() / (2 * v), 0) for v in variances]
    pairs = [-(grid - grid.T).square() / (2 * s) for s in noise]
    solved = soft_chain(pairs, weights, relaxation=price, tolerance=1e-10)
    marginal = np.array(variances)
    for _ in range(500):
        precision = np.diag(price * (1 / np.array(variances) - 1 / marginal))
        precision[0, 0] += 1 / variances[0]
        for k, s in enumerate(noise):
            precision[k : k + 2, k : k + 2] += np.array([[1, -1], [-1, 1]]) / s
        # Damped, for the plain iteration overshoots.
        marginal = np.exp(0.8 * np.log(marginal) + 0.2 * np.log(np.diag(np.linalg.inv(precision))))
    covariance = np.linalg.inv(precision)
    assert np.diag(covariance) == pytest.approx(marginal, rel=1e-9)
    for k, w in enumerate(solved.weights):
        assert float(w @ grid[:, 0].square()) == pytest.approx(covariance[k, k], rel=1e-6)
    for k, pair in enumerate(pairs):
        plan = bridge_plan(pair, solved.potentials[k], *solved.weights[k : k + 2]).to_dense()
        assert float(grid[:, 0] @ plan @ grid[:, 0]) == pytest.approx(covariance[k, k + 1], rel=1e-6)


def test_infinite_prices_are_the_bridges_of_the_intervals_and_large_ones_near_to_it():
    pairs, weights = chain_of_three((20, 25, 30))
    hard = [static_bridge(pair, *weights[k : k + 2], tolerance=1e-11) for k, pair in enumerate(pairs)]
    solved = soft_chain(pairs, weights, relaxation=math.inf, tolerance=1e-11)
    assert solved.kl.tolist() == pytest.approx([result.kl for result in hard], abs=1e-9)
    started = soft_chain(
        pairs, weights, relaxation=math.inf, potentials=[result.potentials for result in hard], tolerance=1e-8
    )
    assert started.iterations == 1
    for price, error in ((1e2, 0.05), (1e4, 5e-4), (1e6, 5e-6)):
        near = soft_chain(pairs, weights, relaxation=price, tolerance=1e-10)
        for k, pair in enumerate(pairs):
            plan = bridge_plan(pair, near.potentials[k], *near.weights[k : k + 2]).to_dense()
            met = bridge_plan(pair, hard[k].potentials, *weights[k : k + 2]).to_dense()
            assert float((plan - met).abs().sum()) < error
        assert near.objective < float(solved.kl.sum())
        assert float(near.divergences.sum()) < error


def test_the_start_does_not_matter_and_points_without_weight_stay_out():
    pairs, weights = chain_of_three()
    weights[1][2] = 0
    weights[1] /= weights[1].sum()
    hard = [static_bridge(pair, *weights[k : k + 2], tolerance=1e-9).potentials for k, pair in enumerate(pairs)]
    cold, warm = (
        soft_chain(pairs, weights, relaxation=2.0, potentials=start, tolerance=1e-12) for start in (None, hard)
    )
    for one, two in zip(cold.weights, warm.weights, strict=True):
        torch.testing.assert_close(one, two, atol=1e-10, rtol=0)
    assert float(cold.weights[1][2]) == 0
    assert all(torch.isfinite(part).all() for pair in cold.potentials for part in pair)


def test_errors_and_warnings():
    pairs, weights = chain_of_three()
    with pytest.raises(ValueError, match="marginal_relaxation must be positive, or infinite .*; got 0.0"):
        soft_chain(pairs, weights, relaxation=0.0)
    with pytest.raises(ValueError, match="one number, or one for each of 3 populations; got 2"):
        soft_chain(pairs, weights, relaxation=(1.0, 2.0))
    with pytest.raises(ValueError, match="log_densities of one interval or more; got none"):
        soft_chain([], relaxation=1.0)
    with pytest.raises(ValueError, match="interval 0 ends in 5 points and interval 1 starts from 3"):
        soft_chain([pairs[0], pairs[1].T], relaxation=1.0)
    with pytest.raises(ValueError, match="finite for every pair of points; those of interval 1 are not"):
        soft_chain([pairs[0], pairs[1] / 0.0], relaxation=1.0)
    with pytest.raises(ValueError, match=r"log_densities must have shapes \(n, m\); got \(4,\) at interval 0"):
        soft_chain([pairs[0][:, 0]], relaxation=1.0)
    with pytest.raises(ValueError, match="2 intervals have 3 populations; got weights of 2"):
        soft_chain(pairs, weights[:2], relaxation=1.0)
    with pytest.warns(UserWarning, match="soft marginals still move by .* after 1 sweeps: sigma is small against"):
        assert not soft_chain([30 * pair for pair in pairs], weights, relaxation=50.0, max_iterations=1).converged
