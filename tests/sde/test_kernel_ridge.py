"""Kernel ridge regression with a learned metric: against the normal equations, and where what matters is known."""

from __future__ import annotations

import pytest
import torch

from gendyn.sde.kernel_ridge import KernelRidge
from gendyn.sde.last_observations import last_observations
from gendyn.sde.series import read_series

NAN = float("nan")


def task(n=200, p=6, seed=0):
    """Two groups of targets: a wave along the first feature, and one along the second."""
    x = torch.rand(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y = torch.stack([torch.stack([torch.sin(6 * x[:, k]), torch.cos(6 * x[:, k])], 1) for k in (0, 1)], 1)
    return x, y


def kernel(a, b):
    return torch.exp(-0.5 * (a[:, None] - b[None]).square().sum(-1))


def test_what_is_left_out_is_what_a_fit_without_its_block_says():
    x, y = task()
    ridge, left_out = KernelRidge.fit(x, y, blocks=4, centres=200)
    z = (x - ridge.shift) / ridge.scale
    for k in range(2):
        rows = torch.arange(200).tensor_split(4)[1]
        kept = torch.ones(200, dtype=torch.bool)
        kept[rows] = False
        t = z @ ridge.root[k]
        c = ridge.centres @ ridge.root[k]
        told, among = kernel(t, c), kernel(c, c) + 1e-7 * torch.eye(200, dtype=torch.float64)
        mean = y[:, k].mean(0)
        gaps = []
        for strength in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
            normal = told[kept].T @ told[kept] + strength * among
            weight = torch.linalg.solve(normal, told[kept].T @ (y[kept, k] - mean))
            gaps.append(float((told[rows] @ weight + mean - left_out[rows, k]).abs().max()))
        assert min(gaps) < 1e-4


def test_each_group_looks_at_what_it_depends_on():
    x, y = task(400)
    ridge, _ = KernelRidge.fit(x, y)
    for k in range(2):
        metric = (ridge.root[k] @ ridge.root[k].T).diagonal()
        assert metric[k] > 0.8 * metric.sum()


def test_it_beats_the_kernel_that_looks_at_everything():
    x, y = task(300, 12)
    asked, truth = task(300, 12, seed=1)
    ridge, _ = KernelRidge.fit(x, y)
    z, w = ((part - ridge.shift) / ridge.scale for part in (x, asked))
    best = torch.inf
    for width in (2.0, 4.0, 8.0):
        for strength in (1e-3, 1e-2, 1e-1, 1.0):
            normal = kernel(z / width, z / width) + strength * torch.eye(300, dtype=torch.float64)
            said = kernel(w / width, z / width) @ torch.linalg.solve(normal, (y - y.mean(0)).flatten(1))
            best = min(best, float((said.reshape(y.shape) + y.mean(0) - truth).square().mean()))
    assert (ridge(asked) - truth).square().mean() < best / 4


def test_columns_that_are_the_same_count_as_one():
    x, y = task()
    once, _ = KernelRidge.fit(x, y, blocks=4)
    copied, _ = KernelRidge.fit(torch.cat([x, x[:, :1], x[:, :1]], 1), y, blocks=4)
    asked = task(50, seed=1)[0]
    told = torch.cat([asked, asked[:, :1], asked[:, :1]], 1)
    assert (once(asked) - copied(told)).abs().max() < 0.02


def test_many_columns_of_few_rows_are_told_apart():
    # From 26 columns on, distances by products would say that a column is not the same as itself.
    x = torch.randn(600, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ridge, _ = KernelRidge.fit(x[:100], x[:100, :1, None])
    assert float((ridge(x[100:])[:, 0, 0] - x[100:, 0]).square().mean()) < 0.1


def test_it_comes_back_from_its_state():
    x, y = task()
    ridge, _ = KernelRidge.fit(x, y)
    again = KernelRidge.from_state(ridge.state_dict())
    assert torch.equal(ridge(x), again(x))


def test_too_few_series_are_refused():
    x, y = task(3)
    with pytest.raises(ValueError, match="5 blocks need at least as many series; got 3"):
        KernelRidge.fit(x, y)


def test_last_observations_of_channels_that_are_seen_at_different_times():
    x = torch.tensor(
        [[[1.0, NAN], [NAN, 7.0], [4.0, NAN], [NAN, NAN]], [[NAN, 2.0], [NAN, NAN], [NAN, 8.0], [NAN, 9.0]]]
    )
    series = read_series(x, times=[0.0, 1.0, 3.0, 4.0])
    found = last_observations(series, 1.0).reshape(2, 4, 2)
    assert found[0, 0].tolist() == [4.0, 7.0]
    assert torch.allclose(found[0, 1], torch.tensor([1.0, 3.0]).sqrt())
    # Channel 0 rose by 3 in 3; channel 1 was seen once.
    assert found[0, 2].tolist() == [1.0, 0.0]
    assert torch.allclose(found[0, 3], torch.tensor([3.0, 1.0]).log())
    # A channel that was never seen: as old as the series.
    assert found[1].T[0].tolist() == [0.0, 2.0, 0.0, 0.0]
    assert found[1].T[1].tolist() == [9.0, 0.0, 1.0, 0.0]


def test_last_observations_of_one_row():
    found = last_observations(read_series(torch.tensor([[[3.0]]])), 1.0)
    assert found.tolist() == [[3.0, 0.0, 0.0, 0.0]]
