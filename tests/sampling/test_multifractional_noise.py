"""Equations driven by noise whose Hurst index changes with time."""

from __future__ import annotations

import math

import pytest
import torch

from gendyn.sampling import SDE, StepGrid, sample
from gendyn.sampling.fractional import HurstCurve, MultifractionalNoise

FREE = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(2).to(x), dim=2, noise_type="additive")


def falling(t):
    return 0.8 - 0.3 * (t - 1)


@pytest.mark.parametrize("definition", ["evaluated", "integrated"])
def test_increments_add_up_to_the_motion(definition):
    # The run begins at time 1, of which the index knows and the memory of the noise does not; 42 steps are two blocks.
    n, times = 6000, torch.tensor([1.0, 1.4, 2.0, 2.25], dtype=torch.float64)
    noise = MultifractionalNoise(falling, definition)
    paths = sample(FREE, torch.zeros(n, 2, dtype=torch.float64), times, step=0.03, noise=noise, seed=2).values
    grid = StepGrid(times, step=0.03)
    motion = noise.motion(grid)
    torch.testing.assert_close(motion.hurst, falling(motion.times + 1))
    places = torch.tensor(grid.offsets)[1:]
    exact = motion.covariance[places[:, None], places]
    for feature in (0, 1):
        x = paths[:, 1:, feature]
        error = (exact.square() + exact.diagonal()[:, None] * exact.diagonal()).div(n).sqrt()
        assert ((x.T @ x / n - exact).abs() <= 4.5 * error).all()
    assert abs((paths[:, -1, 0] * paths[:, -1, 1]).mean()) < 4.5 * exact[-1, -1] / math.sqrt(n)
    few = sample(FREE, torch.zeros(3, 2, dtype=torch.float64), times, step=0.03, noise=noise, seed=2).values
    torch.testing.assert_close(few, paths[:3])


def test_stratonovich_equations_obey_the_chain_rule():
    growth = SDE(lambda t, x: 0 * x, lambda t, x: x, dim=1, calculus="stratonovich")
    free = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(1).to(x), dim=1, noise_type="additive")
    options = {"step": 0.002, "noise": MultifractionalNoise(lambda t: 0.6 + 0.3 * t), "seed": 3}
    x0 = torch.ones(200, 1, dtype=torch.float64)
    grown = sample(growth, x0, [0.0, 1.0], **options).values[:, 1]
    noise = sample(free, 0 * x0, [0.0, 1.0], **options).values[:, 1]
    torch.testing.assert_close(grown.log(), noise, atol=4e-3, rtol=0)


def test_a_curve_that_begins_at_one_half_is_brownian_motion():
    paths = sample(FREE, torch.zeros(4000, 2), [0.0, 0.5, 1.0], step=0.02, noise=MultifractionalNoise(HurstCurve()))
    rises = paths.values.diff(dim=1)
    assert rises.var(0).flatten().tolist() == pytest.approx([0.5] * 4, rel=4.5 * math.sqrt(2 / 4000))
    assert not paths.values.requires_grad


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MultifractionalNoise(falling, "half"), "definition must be 'evaluated' or 'integrated'; got 'half'"),
        (
            lambda: sample(
                FREE, torch.zeros(1, 2), [0.0, 9.0], step=0.1, noise=MultifractionalNoise(lambda t: 0.5 + t)
            ),
            "the Hurst index must stay between 0 and 1, both excluded; got 1 at time 0.5",
        ),
        (
            lambda: sample(
                FREE, torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), step=0.1, noise=MultifractionalNoise(falling)
            ),
            "times that all paths share",
        ),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()
