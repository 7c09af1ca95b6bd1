"""Signatures and the distance of their means against closed forms and iterated sums."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gendyn import Paths
from gendyn.evaluation import polyline, signature, signature_distance
from gendyn.evaluation.signatures import signature_length

CORNER = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]], dtype=torch.float64)


def curves(dim, corners=5, n=3):
    return arrays(np.float64, (n, corners, dim), elements=st.floats(-2, 2, width=32)).map(torch.from_numpy)


def levels(flat, dim, depth):
    return torch.split(flat, [dim**k for k in range(1, depth + 1)], dim=1)


def product(one, two, dim, depth):
    """Chen's product of flat signatures, written out level by level."""
    first = [torch.ones(len(one), 1, dtype=one.dtype), *levels(one, dim, depth)]
    second = [torch.ones(len(two), 1, dtype=two.dtype), *levels(two, dim, depth)]
    return torch.cat(
        [
            sum((first[j][:, :, None] * second[k - j][:, None, :]).flatten(1) for j in range(k + 1))
            for k in range(1, depth + 1)
        ],
        dim=1,
    )


# --- signatures ----------------------------------------------------------------------------------------------


def test_a_corner():
    one, two = levels(signature(CORNER, 2), 2, 2)
    assert one[0].tolist() == [1.0, 2.0]
    assert two.view(2, 2).tolist() == [[0.5, 2.0], [0.0, 2.0]]
    assert float(two.view(2, 2)[0, 1] - two.view(2, 2)[1, 0]) / 2 == 1.0  # Levy area


def test_a_segment_is_the_tensor_exponential():
    v = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
    power, factorial, parts = torch.ones(1, dtype=torch.float64), 1.0, []
    for k in range(1, 6):
        power, factorial = torch.outer(power, v).flatten(), factorial * k
        parts.append(power / factorial)
    line = torch.stack([torch.zeros(3, dtype=torch.float64), v])[None]
    torch.testing.assert_close(signature(line, 5)[0], torch.cat(parts))
    # Corners on the way do not matter, nor where the line begins.
    cut = torch.tensor([0.0, 0.1, 0.7, 1.0], dtype=torch.float64)[:, None] * v + 5
    torch.testing.assert_close(signature(cut[None], 5), signature(line, 5))


@given(curves(2), curves(2, corners=4))
@settings(max_examples=30)
def test_curves_one_after_the_other(x, y):
    joined = torch.cat([x, x[:, -1:] + (y - y[:, :1])[:, 1:]], dim=1)
    expected = product(signature(x, 4), signature(y, 4), 2, 4)
    torch.testing.assert_close(signature(joined, 4), expected, rtol=1e-9, atol=1e-9)
    # There and back is no way at all.
    there = torch.cat([x, x.flip(1)[:, 1:]], dim=1)
    torch.testing.assert_close(signature(there, 4), torch.zeros(3, 30, dtype=torch.float64), atol=1e-8, rtol=0)


@given(curves(3))
@settings(max_examples=20)
def test_products_of_levels_shuffle(x):
    one, two, _ = levels(signature(x, 3), 3, 3)
    matrix = two.view(-1, 3, 3)
    torch.testing.assert_close(matrix + matrix.transpose(1, 2), one[:, :, None] * one[:, None, :], rtol=1e-9, atol=1e-9)


def test_blocks_of_curves_do_not_show():
    x = torch.randn(70, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one_by_one = torch.cat([signature(row[None], 6) for row in x])
    torch.testing.assert_close(signature(x, 6), one_by_one)
    assert signature(x, 6).shape[1] == signature_length(4, 6)


def test_gradients_are_those_of_differences():
    x = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: signature(z, 4), (x,))


def test_brownian_motion():
    steps, n = 40, 40_000
    motion = torch.randn(n, steps, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    motion = torch.nn.functional.pad(motion.cumsum(1), (0, 0, 1, 0)) / np.sqrt(steps)
    all_levels = signature(motion, 4)
    mean, error = all_levels.mean(0), all_levels.std(0) / np.sqrt(n)
    one, _, three, four = (part[0] for part in levels(mean[None], 2, 4))
    expected = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    # Segments are straight: of the (i, i, j, j) entries 1/8 is reached as the grid is refined, exactly where i = j.
    expected[0, 0, 0, 0] = expected[1, 1, 1, 1] = 1 / 8
    straight = 1 / (24 * steps)
    expected[0, 0, 1, 1] = expected[1, 1, 0, 0] = 1 / 8 - 1 / (8 * steps) + straight
    for entry in ((0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 0, 1), (1, 0, 1, 0)):
        expected[entry] = straight
    truth = torch.cat([torch.zeros_like(one), torch.eye(2).flatten() / 2, torch.zeros_like(three), expected.flatten()])
    assert bool(((mean - truth).abs() < 4.5 * error + 1e-12).all())
    assert abs(float(four.view(2, 2, 2, 2)[0, 0, 1, 1]) - 1 / 8) < 0.01


@pytest.mark.parametrize(
    ("paths", "depth", "words"),
    [
        (torch.zeros(3, 2), 2, r"polylines \(n, T, d\) of two corners or more; got \(3, 2\)"),
        (torch.zeros(3, 1, 2), 2, r"got \(3, 1, 2\)"),
        (torch.zeros(3, 4, 2), 0, "depth must be at least 1; got 0"),
    ],
)
def test_what_has_no_signature(paths, depth, words):
    with pytest.raises(ValueError, match=words):
        signature(paths, depth)


# --- polylines -----------------------------------------------------------------------------------------------


def test_time_and_base_point():
    values = torch.arange(6.0).view(2, 3, 1)
    line = polyline(values, torch.tensor([1.0, 2.0, 5.0]))
    assert line[1].tolist() == [[0.0, 0.0], [0.0, 3.0], [0.25, 4.0], [1.0, 5.0]]
    own = polyline(values, torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 4.0]]), basepoint=False)
    assert own[..., 0].tolist() == [[0.0, 0.25, 0.5], [0.0, 0.25, 1.0]]
    assert polyline(values[:, :1], torch.tensor([3.0]))[..., 0].tolist() == [[0.0, 0.0]] * 2


def test_what_is_no_polyline():
    with pytest.raises(ValueError, match=r"times \(T,\) or \(n, T\); got \(2, 3, 1\) and \(4,\)"):
        polyline(torch.zeros(2, 3, 1), torch.arange(4.0))
    with pytest.raises(ValueError, match="times that span an interval; got 1 to 1"):
        polyline(torch.zeros(2, 3, 1), torch.ones(3))


# --- distance of mean signatures -----------------------------------------------------------------------------


def sines(n, seed, length=24, dim=5):
    generator = np.random.default_rng(seed)
    frequency, phase = generator.uniform(0, 0.1, (2, n, 1, dim))
    return (np.sin(frequency * np.arange(length)[:, None] + phase) + 1) / 2


def test_sines_from_other_seeds_lie_at_the_published_floor():
    results = [signature_distance(sines(2000, s), sines(2000, 99 + s), scale=None, n_bootstrap=0) for s in range(4)]
    assert np.mean([r.value for r in results]) == pytest.approx(0.032, abs=0.008)


def test_the_value_is_the_distance_of_means():
    generator = np.random.default_rng(0)
    x, y = generator.random((20, 6, 2)), generator.random((15, 6, 2))
    result = signature_distance(x, y, depth=3, scale=None)
    clock = torch.arange(6.0, dtype=torch.float64)
    means = [signature(polyline(torch.from_numpy(side), clock), 3).mean(0) for side in (x, y)]
    assert result.value == pytest.approx(float((means[0] - means[1]).norm()), rel=1e-12)
    assert np.linalg.norm(result.extra["by_level"]) == pytest.approx(result.value, rel=1e-12)
    assert len(result.extra["by_level"]) == 3
    assert signature_distance(x, x).value < 1e-12


def test_the_level_counts_only_from_a_base_point():
    x = sines(100, 0)
    moved = x + 0.3
    assert signature_distance(x, moved, basepoint=False, scale=None).value < 1e-12
    assert signature_distance(x, moved, scale=None).value > 0.3


def test_times_that_were_not_observed_are_no_corners():
    generator = np.random.default_rng(0)
    x, y = generator.random((12, 6, 2)), generator.random((12, 6, 2))
    whole = signature_distance(x, y, scale=None)
    # Every path with a row of its own put in between and hidden, one with a row hidden in front.
    times = np.sort(
        np.concatenate([np.tile(np.arange(6.0), (12, 1)), generator.uniform(0, 5, (12, 1))], axis=1), axis=1
    )
    values, mask = np.zeros((12, 7, 2)), np.zeros((12, 7, 2), dtype=bool)
    for i in range(12):
        seen = np.isin(times[i], np.arange(6.0))
        values[i, seen], mask[i, seen] = x[i], True
    hidden = Paths(times, values, mask=mask)
    assert signature_distance(hidden, Paths(range(6), y), scale=None).value == pytest.approx(whole.value, rel=1e-12)


def test_paths_that_end_early_and_times_of_their_own():
    x = np.random.default_rng(0).random((4, 3, 1))
    times = np.array([[0.0, 1.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.5, 2.0], [0.5, 1.0, 2.0]])
    ragged = Paths(times, x, lengths=[2, 3, 3, 3])
    means = []
    for rows, corners in (([0], 2), ([1, 2, 3], 3)):
        line = polyline(torch.from_numpy(x[rows, :corners]), torch.from_numpy(times[rows, :corners]), span=(0.0, 2.0))
        means.append(signature(line, 2).sum(0) / 4)
    straight = Paths([0.0, 2.0], np.zeros((2, 2, 1)))
    flat = torch.tensor([1.0, 0.0, 0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    result = signature_distance(ragged, straight, depth=2, scale=None)
    assert result.value == pytest.approx(float((sum(means) - flat).norm()), rel=1e-12)
    # The value that stands behind the end of a path is not read.
    x[0, 2] = 100.0
    again = signature_distance(Paths(times, x, lengths=[2, 3, 3, 3]), straight, depth=2, scale=None)
    assert again.value == result.value


def test_what_has_no_distance_of_signatures():
    x = np.random.default_rng(0).random((4, 3, 2))
    mask = np.ones(x.shape, dtype=bool)
    mask[1, 1, 0] = False
    with pytest.raises(ValueError, match=r"no meaning where only some channels were observed, as in the real paths"):
        signature_distance(Paths(range(3), x, mask=mask), x)
    mask[1] = False
    with pytest.raises(ValueError, match="real path 1 never was: leave it out"):
        signature_distance(Paths(range(3), x, mask=mask), x)
    with pytest.raises(ValueError, match="have 335922 coordinates, too many for 2000 paths"):
        signature_distance(np.zeros((1000, 3, 5)) + np.arange(3)[:, None], np.ones((1000, 3, 5)), depth=7)
