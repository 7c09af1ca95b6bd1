"""Noise: its laws, its identities, and that it can be had again."""

import math

import pytest
import torch
from scipy import stats

from gendyn.sampling import SDE, AlphaStable, BrownianTree, StepGrid, coarsen, sample
from gendyn.sampling.noise import STEPS, BrownianStream

BROWNIAN = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), 1)


def increments(source, counts, rows=4096, columns=1, key=0, dtype=torch.float64, first_row=0):
    grid = StepGrid(torch.arange(len(counts) + 1.0), substeps=1).with_counts(counts)
    driver = source.start(key, grid, (rows, columns), first_row, torch.zeros(1, dtype=dtype), True)
    found = []
    done = 0
    for k, count in enumerate(counts):
        first = 0
        while first < count:
            size = min(count - first, STEPS - done % STEPS)
            found.append(driver.increments(k, first, size))
            first, done = first + size, done + size
    w = torch.cat([f[0] for f in found])
    return w, None if found[0][1] is None else torch.cat([f[1] for f in found])


@pytest.mark.parametrize("source", [BrownianStream(), BrownianTree()])
def test_laws_of_increment_and_area(source):
    w, area = increments(source, [8], rows=40_000)
    h, n = 1 / 8, w.numel()
    assert abs(w.mean()) < 4 * math.sqrt(h / n)
    assert abs(w.var() / h - 1) < 4 * math.sqrt(2 / n)
    assert abs(area.var() / (h / 12) - 1) < 4 * math.sqrt(2 / n)
    assert abs((w * area).mean()) < 4 * math.sqrt(h * h / 12 / n)
    steps = w[:, :, 0].corrcoef() - torch.eye(8)
    assert steps.abs().max() < 5 / math.sqrt(40_000)
    assert stats.kstest(w.flatten().numpy()[:20_000], stats.norm(scale=math.sqrt(h)).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_a_finer_tree_sums_to_the_coarser(dtype, tolerance):
    fine, fine_area = increments(BrownianTree(), [8, 8], rows=300, columns=2, dtype=dtype)
    coarse, coarse_area = increments(BrownianTree(), [2, 2], rows=300, columns=2, dtype=dtype)
    w, area = coarsen(*coarsen(fine, fine_area))
    torch.testing.assert_close(w, coarse, rtol=0, atol=tolerance)
    torch.testing.assert_close(area, coarse_area, rtol=0, atol=tolerance)


def test_the_area_changes_no_increment():
    grid = StepGrid(torch.tensor([0.0, 1.0]), substeps=4)
    like = torch.zeros(1)
    with_area = BrownianStream().start(1, grid, (10, 2), 0, like, True).increments(0, 0, 4)[0]
    without = BrownianStream().start(1, grid, (10, 2), 0, like, False).increments(0, 0, 4)[0]
    assert torch.equal(with_area, without)


@pytest.mark.parametrize("source", [BrownianStream(), BrownianTree(), AlphaStable(1.5, 0.3)])
def test_rows_are_their_own(source):
    counts = [4, 32] if isinstance(source, BrownianTree) else [5, 40]
    whole, _ = increments(source, counts, rows=700)
    part, _ = increments(source, counts, rows=188, first_row=512)
    assert torch.equal(whole[:, 512:], part)
    other, _ = increments(source, counts, rows=700, key=1)
    assert not torch.equal(whole, other)


def test_any_part_can_be_had_again():
    grid = StepGrid(torch.tensor([0.0, 1.0, 2.0]), substeps=50)
    driver = BrownianStream().start(0, grid, (300, 1), 0, torch.zeros(1), False)
    first = driver.increments(0, 0, 32)[0].clone()
    driver.increments(1, 14, 32)
    assert torch.equal(driver.increments(0, 0, 32)[0], first)


def test_neighbouring_seeds_share_nothing():
    draws = [increments(BrownianStream(), [64], rows=512, key=key)[0] for key in (0, 1, 2**32, 2**32 + 1)]
    for i in range(4):
        for j in range(i):
            assert not torch.isin(draws[i].flatten()[:2000], draws[j].flatten()).any()


def test_a_smaller_step_sees_the_same_path():
    x0 = torch.zeros(100, 1)
    ends = [sample(BROWNIAN, x0, [0.0, 1.0, 3.0], step=h, noise="tree", seed=2).values for h in (1.0, 0.3, 0.01)]
    for other in ends[1:]:
        torch.testing.assert_close(other, ends[0], rtol=0, atol=1e-5)


def test_anchors_keep_the_path_at_other_output_times():
    tree = BrownianTree(anchors=[0.0, 2.0, 4.0])
    x0 = torch.zeros(100, 1, dtype=torch.float64)
    few = sample(BROWNIAN, x0, [0.0, 2.0, 4.0], step=0.5, noise=tree, seed=2).values
    many = sample(BROWNIAN, x0, [0.0, 0.5, 1.0, 2.0, 3.5, 4.0], step=0.5, noise=tree, seed=2).values
    torch.testing.assert_close(many[:, [0, 3, 5]], few, rtol=0, atol=1e-12)
    assert float(many[:, 1].var()) == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize(
    ("anchors", "times", "message"),
    [
        ([0.0, 1.0], [0.0, 2.0], "no anchor cell holds the output interval from 0 to 2"),
        ([0.0, 1.0], [0.0, 1 / 3, 1.0], "no binary fraction"),
        ([1.0, 0.0], [0.0, 1.0], "two or more increasing times"),
        ([0.0, 4.0], [[0.0, 1.0]], "times shared by all paths"),
    ],
)
def test_anchors_that_do_not_fit(anchors, times, message):
    with pytest.raises(ValueError, match=message):
        sample(BROWNIAN, torch.zeros(1, 1), times, step=0.5, noise=BrownianTree(anchors))


@pytest.mark.parametrize(("alpha", "beta"), [(1.5, 0.0), (0.8, 0.0), (1.7, 0.5), (1.0, 0.0)])
def test_stable_increments_have_their_law(alpha, beta):
    h = 0.25
    w, _ = increments(AlphaStable(alpha, beta), [4], rows=20_000)
    scaled = w.flatten() / h ** (1 / alpha)
    for u in (0.3, 1.0, 2.0):
        slope = beta * math.tan(math.pi * alpha / 2) if alpha != 1 else 0.0
        real = math.exp(-(u**alpha)) * math.cos(u**alpha * slope)
        imaginary = math.exp(-(u**alpha)) * math.sin(u**alpha * slope)
        assert float((u * scaled).cos().mean()) == pytest.approx(real, abs=0.015)
        assert float((u * scaled).sin().mean()) == pytest.approx(imaginary, abs=0.015)


def test_a_levy_flight():
    paths = sample(BROWNIAN, torch.zeros(2000, 1), [0.0, 1.0], step=0.1, noise=AlphaStable(1.5), seed=0)
    assert paths.info["solver"] == "euler_maruyama"
    assert paths.values[:, -1].abs().max() > 10


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: AlphaStable(0.0), ValueError, r"alpha must lie in \(0, 2\]"),
        (lambda: AlphaStable(1.5, 2.0), ValueError, "beta must lie in"),
        (lambda: AlphaStable(1.0, 0.5), ValueError, "alpha 1 is drawn for beta 0"),
        (lambda: sample(BROWNIAN, torch.zeros(1, 1), [0, 1], step=0.1, noise="pink"), ValueError, "noise must be"),
        (lambda: sample(BROWNIAN, torch.zeros(1, 1), [0, 1], step=0.1, noise=3), TypeError, "noise must be"),
        (
            lambda: sample(BROWNIAN, torch.zeros(1, 1), [0, 1], step=0.1, noise=AlphaStable(1.5), solver="milstein"),
            ValueError,
            "right for Brownian increments alone",
        ),
    ],
)
def test_sentences(call, error, message):
    with pytest.raises(error, match=message):
        call()
