"""Noise: its laws, its identities, and that it can be had again."""

import math
import zlib

import numpy as np
import pytest
import torch
from scipy import stats

from gendyn.sampling import SDE, AlphaStable, BrownianTree, StepGrid, coarsen, sample
from gendyn.sampling.noise import BrownianStream
from gendyn.sampling.tiles import STEPS, Tiles

BROWNIAN = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), 1)
SOURCES = [BrownianStream(), BrownianStream(rng="philox"), BrownianTree(), BrownianTree(rng="philox")]


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


@pytest.mark.parametrize("source", SOURCES)
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
@pytest.mark.parametrize("rng", ["torch", "philox"])
@pytest.mark.parametrize("levels", [(3, 1), (8, 6)])
def test_a_finer_tree_sums_to_the_coarser(dtype, tolerance, rng, levels):
    fine, coarse = levels
    w, area = increments(BrownianTree(rng=rng), [2**fine] * 2, rows=300, columns=2, dtype=dtype)
    coarse, coarse_area = increments(BrownianTree(rng=rng), [2**coarse] * 2, rows=300, columns=2, dtype=dtype)
    w, area = coarsen(*coarsen(w, area))
    torch.testing.assert_close(w, coarse, rtol=0, atol=tolerance)
    torch.testing.assert_close(area, coarse_area, rtol=0, atol=tolerance)


@pytest.mark.parametrize("source", SOURCES)
def test_the_area_changes_no_increment(source):
    grid = StepGrid(torch.tensor([0.0, 1.0]), substeps=4)
    like = torch.zeros(1)
    with_area = source.start(1, grid, (10, 2), 0, like, True).increments(0, 0, 4)[0]
    without = source.start(1, grid, (10, 2), 0, like, False).increments(0, 0, 4)[0]
    assert torch.equal(with_area, without)


@pytest.mark.parametrize("columns", [1, 3, 5])
@pytest.mark.parametrize("source", SOURCES[:2])
def test_a_longer_run_begins_like_a_shorter_one(source, columns):
    # Torch fills in groups of 16: 500 + 500 normals are not 1000. Whole blocks of 256 rows are never cut within one.
    torch_alone = [torch.randn(n, generator=torch.Generator().manual_seed(0)) for n in (500, 1000)]
    assert not torch.equal(torch_alone[0], torch_alone[1][:500])
    long, long_area = increments(source, [45], rows=300, columns=columns)
    short, short_area = increments(source.__class__(rng=source.rng), [37], rows=5, columns=columns)
    scale = (37 / 45) ** 0.5
    torch.testing.assert_close(long[:37, :5], short * scale, rtol=1e-12, atol=0)
    torch.testing.assert_close(long_area[:37, :5], short_area * scale, rtol=1e-12, atol=0)


@pytest.mark.parametrize("source", SOURCES)
def test_threads_do_not_show(source):
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(increments(source, [64, 64], rows=2000, columns=3, dtype=torch.float32))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("source", [*SOURCES, AlphaStable(1.5, 0.3)])
def test_rows_are_their_own(source):
    counts = [4, 128] if isinstance(source, BrownianTree) else [5, 40]
    whole, _ = increments(source, counts, rows=700)
    part, _ = increments(source, counts, rows=188, first_row=512)
    assert torch.equal(whole[:, 512:], part)
    other, _ = increments(source, counts, rows=700, key=1)
    assert not torch.equal(whole, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_of_other_lengths_have_the_same_normals(dtype):
    # Equal steps are drawn to scale, unequal ones are scaled afterwards, those of each path's own one by one.
    like = torch.zeros(1, dtype=dtype)
    grids = [
        StepGrid(torch.tensor([0.0, 2.0]), substeps=8),
        StepGrid(torch.tensor([0.0, 0.5, 3.0]), substeps=4),
        StepGrid(torch.tensor([0.0, 0.5, 3.0]).expand(300, 3), substeps=4),
    ]
    even, uneven, own = (BrownianStream().start(0, grid, (300, 2), 0, like, True) for grid in grids)
    for k in range(2):
        root = grids[1].root(k, like)
        for a, b, c in zip(
            even.increments(0, 4 * k, 4), uneven.increments(k, 0, 4), own.increments(k, 0, 4), strict=True
        ):
            torch.testing.assert_close(a / 0.5 * root, b)
            torch.testing.assert_close(b, c)


@pytest.mark.parametrize("source", SOURCES)
def test_any_part_can_be_had_again(source):
    grid = StepGrid(torch.tensor([0.0, 1.0, 2.0]), substeps=64)
    driver = source.start(0, grid, (300, 1), 0, torch.zeros(1), True)
    first = [part.clone() for part in driver.increments(0, 0, 32)]
    driver.increments(1, 32, 32)
    again = driver.increments(0, 0, 32)
    assert torch.equal(again[0], first[0])
    assert torch.equal(again[1], first[1])


@pytest.mark.parametrize("source", SOURCES)
def test_neighbouring_seeds_share_nothing(source):
    # Torch's own generator reads the low 32 bits alone, so that 0 and 2**32 would be one seed.
    assert torch.equal(*(torch.randn(5, generator=torch.Generator().manual_seed(s)) for s in (1, 1 + 2**32)))
    draws = [increments(source, [64], rows=512, key=key)[0] for key in (0, 1, 2**32, 2**32 + 1, -1)]
    for i in range(len(draws)):
        blocks = draws[i][:32, :256], draws[i][32:, :256], draws[i][:32, 256:]
        for j in range(i):
            assert not torch.isin(draws[i].flatten()[:2000], draws[j].flatten()).any()
        for one in range(3):
            assert not any(torch.isin(blocks[one].flatten()[:2000], blocks[k].flatten()).any() for k in range(one))


@pytest.mark.parametrize("labels", [(0,), (5,), (5, 1, 0), (5, 1, 1), (5, 2, 1), (6, 1, 1), (2**40, 24, 2**20)])
def test_philox_is_keyed_as_it_says(labels):
    # The seed and the purpose are the key; row block and labels are the upper words of the counter: one to one.
    found = Tiles(17, "noise", 3, 2, 512, torch.zeros(1), rng="philox", dtype=torch.float64).draw(labels, 4)
    cell, depth, block = (*labels, 0, 0)[:3]
    words = [(2 << 64) + (cell << 128) + ((depth << 56 | block) << 192), 17 + (zlib.crc32(b"noise") << 64)]
    generator = np.random.Generator(np.random.Philox(counter=words[0], key=words[1]))
    truth = torch.from_numpy(generator.standard_normal((4, 256, 2)))[:, :3]
    torch.testing.assert_close(found, truth.float(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [BrownianStream, BrownianTree])
@pytest.mark.parametrize("rng", ["torch", "philox"])
def test_noise_drawn_in_single_precision(kind, rng):
    process = SDE(lambda t, x: torch.sin(x), lambda t, x: torch.ones_like(x), 1)
    run = {"step": 1 / 64, "seed": 3}
    x0 = torch.zeros(500, 1)
    single = sample(process, x0, [0.0, 1.0], noise=kind(rng=rng), **run).values
    double = sample(process, x0.double(), [0.0, 1.0], noise=kind(rng=rng, dtype=torch.float32), **run).values
    other = sample(process, x0.double(), [0.0, 1.0], noise=kind(rng=rng), **run).values
    torch.testing.assert_close(double, single.double(), rtol=0, atol=1e-5)
    assert (other - double).abs().mean() > 0.1


def test_a_tree_of_a_hundred_thousand_steps_holds_little():
    tree = BrownianTree().cells(0, StepGrid(torch.tensor([0.0, 1.0]), substeps=1), (10, 1), 0, torch.zeros(1))
    w, _ = tree.between(0, 17, 2**16 + 5, 40)
    assert w.shape == (40, 10, 1)
    assert sum(part[2].shape[0] for part in tree._held.values()) <= 32 * 18
    # The sum over a whole level is the increment of the cell, wherever one begins.
    level = torch.cat([tree.between(0, 10, k, 48)[0] for k in range(0, 1008, 48)] + [tree.between(0, 10, 1008, 16)[0]])
    torch.testing.assert_close(level.sum(0, keepdim=True), tree.between(0, 0, 0, 1)[0], rtol=0, atol=1e-5)


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
        ([0.0], [0.0, 1.0], "two or more increasing times"),
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
        (lambda: BrownianStream(rng="mersenne"), ValueError, "rng must be one of torch, philox; got 'mersenne'"),
        (lambda: BrownianTree(rng="mersenne"), ValueError, "rng must be one of torch, philox"),
        (lambda: BrownianStream(dtype=torch.float16), ValueError, "must be torch.float32 or torch.float64"),
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
