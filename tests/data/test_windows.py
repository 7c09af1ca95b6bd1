"""Windows of a long series, blocks of time, and the preparation behind the published tables."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn.data import Paths, blocked_split, table_windows, windows
from gendyn.data.windows import as_paths


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), length=st.integers(1, 12), stride=st.integers(1, 7), features=st.integers(1, 3))
def test_windows_are_the_slices_of_the_series(rows, length, stride, features):
    series = np.random.default_rng(rows).normal(size=(rows, features))
    if length > rows:
        with pytest.raises(ValueError, match=f"a window of {length} rows is longer than the series, which has {rows}"):
            windows(series, length, stride)
        return
    expected = np.stack([series[k : k + length] for k in range(0, rows - length + 1, stride)])
    found = windows(series, length, stride)
    assert np.array_equal(found.values.numpy(), expected)
    assert found.times.tolist() == list(range(length))
    assert len(found) == (rows - length) // stride + 1


def test_windows_keep_what_belongs_to_a_path():
    values = torch.arange(24.0).reshape(2, 6, 2)
    mask = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0)) < 0.7
    paths = Paths(np.arange(6) * 0.5 + 3.0, values, mask=mask, labels=["a", "b"], names=["u", "v"])
    cut = windows(paths, 3, stride=2)
    assert cut.times.tolist() == [0.0, 0.5, 1.0]
    assert cut.labels.tolist() == ["a", "a", "b", "b"]
    assert cut.names == ("u", "v")
    assert torch.equal(cut.values[3], values[1, 2:5])
    assert torch.equal(cut.mask[3], mask[1, 2:5])
    assert cut.info == {"window": 3, "stride": 2}


def test_windows_of_ragged_and_irregular_paths():
    times = [[0.0, 1.0, 3.0, 6.0], [0.0, 2.0, 4.0, 4.0]]
    paths = Paths(times, np.arange(8.0).reshape(2, 4, 1))
    cut = windows(paths, 3)
    assert cut.values[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 3], [4, 5, 6]]
    assert cut.times.tolist() == [[0, 1, 3], [0, 2, 5], [0, 2, 4]]
    with pytest.raises(ValueError, match="no path has the 4 rows of a window; the longest has 3"):
        windows(Paths([[0.0, 1.0, 2.0, 2.0]], np.zeros((1, 4, 1))), 4)


def test_windows_of_states_stay_states():
    paths = Paths([0, 1, 2], torch.tensor([[0, 1, 1]]), states=["off", "on"])
    cut = windows(paths, 2)
    assert cut.states == ("off", "on")
    assert cut.values.dtype == torch.int64


def test_what_is_missing_in_an_array_is_masked():
    paths = as_paths([[1.0, np.nan], [2.0, 3.0]])
    assert paths.mask.tolist() == [[[True, False], [True, True]]]
    assert as_paths(np.arange(3)).values.shape == (1, 3, 1)
    assert as_paths(np.zeros((2, 3, 1))).mask is None


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(60, 300),
    gap=st.integers(0, 10),
    shares=st.sampled_from([(0.7, 0.1, 0.2), (0.5, 0.5), (0.8, 0.2), (0.25, 0.25, 0.25, 0.25)]),
)
def test_blocks_are_consecutive_with_gaps(rows, gap, shares):
    blocks = blocked_split(np.arange(float(rows)), shares, gap=gap)
    for before, after in pairwise(blocks):
        assert after.times[0] - before.times[-1] == gap + 1
    assert blocks[0].times[0] == 0
    assert blocks[-1].times[-1] == rows - 1
    used = rows - gap * (len(shares) - 1)
    for block, share in zip(blocks, shares, strict=True):
        assert abs(block.n_times - share * used) <= 1
        assert torch.equal(block.values[0, :, 0].double(), block.times)


def test_blocks_of_own_times_and_masks():
    times = np.arange(10.0) + np.array([[0.0], [0.5]])
    paths = Paths(times, np.zeros((2, 10, 1)), mask=np.arange(10) % 2 == np.zeros((2, 1)), labels=[0, 1])
    train, test = blocked_split(paths, (0.5, 0.5), gap=2)
    assert train.times.tolist() == times[:, :4].tolist()
    assert torch.equal(test.mask, paths.mask[:, 6:])
    assert test.labels.tolist() == [0, 1]


def test_the_preparation_behind_the_tables():
    series = np.random.default_rng(0).normal(size=(100, 3)).cumsum(0)
    found = table_windows(series, 24)
    low, high = series.min(0), series.max(0)
    scaled = ((series - low) / (high - low + 1e-7))[::-1]
    expected = np.stack([scaled[k : k + 24] for k in range(100 - 24)])
    np.testing.assert_allclose(found.values.numpy(), expected, rtol=1e-12)
    series[3, 1] = np.nan
    holed = table_windows(series, 24)
    assert (~holed.mask).sum((0, 1)).tolist() == [0, 3, 0]  # row 96 of 99 from behind lies in the last three windows
    assert float(holed.values[holed.mask].max()) <= 1.0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: windows(np.zeros(5), 0), ValueError, "length must be at least 1; got 0"),
        (lambda: windows(np.zeros(5), 2, 0), ValueError, "stride must be at least 1; got 0"),
        (lambda: windows(np.zeros(5), 2.0), TypeError, "length must be a whole number; got float"),
        (lambda: windows(np.zeros((1, 1, 1, 1)), 1), ValueError, r"shape \(T,\), \(T, d\) or \(n, T, d\)"),
        (lambda: blocked_split(np.zeros(9), (0.5, 0.4), gap=0), ValueError, "positive numbers that sum to 1"),
        (lambda: blocked_split(np.zeros(9), (1.0,), gap=0), ValueError, "at least two positive numbers"),
        (lambda: blocked_split(np.zeros(9), gap=-1), ValueError, "gap must be at least 0; got -1"),
        (lambda: blocked_split(np.zeros(9), gap=4), ValueError, "9 rows are too few for 3 blocks with gaps of 4"),
        (
            lambda: blocked_split(Paths([[0.0, 1.0, 1.0], [0.0, 1.0, 2.0]], np.zeros((2, 3, 1))), gap=0),
            ValueError,
            "paths of different lengths have no common blocks",
        ),
        (lambda: table_windows(np.zeros((2, 30, 1))), ValueError, "windows of one series; got 2"),
        (lambda: table_windows(np.zeros(24)), ValueError, "need a series of at least 25; got 24"),
    ],
)
def test_sentences(call, error, words):
    with pytest.raises(error, match=words):
        call()
