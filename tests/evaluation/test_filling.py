"""Gaps filled by tied walks: what was seen stays, and what is put in has the law of a bridge."""

import numpy as np
import pytest
import torch

from gendyn import Paths
from gendyn.evaluation import bridge_gaps
from gendyn.evaluation.filling import interpolated, observed_around

TIMES = np.array([0.0, 1.0, 1.5, 4.0, 5.0, 6.0])


def walks(n, seed=0, dim=2, times=TIMES):
    """Return Brownian paths at the times."""
    steps = np.random.default_rng(seed).normal(size=(n, len(times), dim))
    return (steps * np.sqrt(np.diff(times, prepend=0.0))[:, None]).cumsum(1)


def hidden(shape, share, seed=1):
    return np.random.default_rng(seed).random(shape) >= share


def test_what_was_observed_stays():
    x = walks(200)
    mask = hidden(x.shape, 0.4)
    source = Paths(TIMES, x, mask=mask, labels=np.arange(200), names=["a", "b"], info={"from": "here"})
    filled = bridge_gaps(source, seed=3)
    assert filled.mask is None
    assert torch.equal(filled.values[source.mask], source.values[source.mask])
    assert torch.isfinite(filled.values).all()
    assert (filled.names, filled.info["from"], filled.dtype) == (("a", "b"), "here", torch.float64)
    assert np.array_equal(filled.labels, source.labels)
    assert torch.equal(filled.values, bridge_gaps(source, seed=3).values)
    assert not torch.equal(filled.values, bridge_gaps(source, seed=4).values)
    whole = Paths(TIMES, x)
    assert bridge_gaps(whole) is whole


def test_inner_gaps_have_the_law_of_a_brownian_bridge():
    x = walks(20_000, dim=1)
    mask = np.ones(x.shape, dtype=bool)
    mask[:10_000, 2:4] = False  # tied at 1 and at 5
    filled = bridge_gaps(Paths(TIMES, x, mask=mask)).values.numpy()[:10_000, :, 0]
    line = x[:10_000, 1] + (TIMES - 1.0) / 4.0 * (x[:10_000, 4] - x[:10_000, 1])
    gap = (filled - line)[:, 2:4]
    covariance = [[0.5 * 3.5 / 4, 0.5 * 1.0 / 4], [0.5 * 1.0 / 4, 3.0 * 1.0 / 4]]
    np.testing.assert_allclose(gap.mean(0), 0.0, atol=0.04)
    np.testing.assert_allclose(np.cov(gap.T), covariance, atol=0.03)


def test_an_open_end_is_a_free_walk():
    x = walks(20_000, dim=1)
    mask = np.ones(x.shape, dtype=bool)
    mask[:10_000, 4:] = False
    filled = bridge_gaps(Paths(TIMES, x, mask=mask)).values.numpy()[:10_000, :, 0]
    np.testing.assert_allclose((filled[:, 4:] - filled[:, 3:4]).var(0), [1.0, 2.0], rtol=0.06)


def test_channels_that_move_together_still_do():
    x = walks(3000, dim=1)
    x = np.concatenate([x, -2.0 * x], axis=2)
    mask = np.repeat(hidden((*x.shape[:2], 1), 0.4), 2, axis=2)
    filled = bridge_gaps(Paths(TIMES, x, mask=mask)).values[:, 1:]
    seen = torch.from_numpy(mask.any(axis=(1, 2)))
    torch.testing.assert_close(filled[seen][..., 1].diff(dim=1), -2.0 * filled[seen][..., 0].diff(dim=1))


def test_logarithms_keep_values_positive():
    x = np.exp(3 * walks(300))
    source = Paths(TIMES, x, mask=hidden(x.shape, 0.5))
    filled = bridge_gaps(source, log=True)
    assert float(filled.values.min()) > 0
    assert torch.equal(filled.values[source.mask], source.values[source.mask])
    assert float(bridge_gaps(source).values.min()) < 0


def test_a_channel_that_a_path_never_showed_starts_at_one_of_another():
    x = np.array([[[1.0], [2.0], [3.0]], [[9.0], [9.0], [9.0]]])
    mask = np.array([[[1], [1], [1]], [[0], [0], [0]]], dtype=bool)
    filled = bridge_gaps(Paths(range(3), x, mask=mask)).values.numpy()[1, :, 0]
    assert filled[0] in (1.0, 2.0, 3.0)
    np.testing.assert_allclose(np.diff(filled), 1.0)  # all steps seen are 1


def test_lines_are_those_of_numpy():
    x = walks(30)
    x[~hidden(x.shape, 0.3)] = np.nan
    found = interpolated(x, TIMES)
    before, after = observed_around(~np.isnan(x))
    for i in range(30):
        for k in range(2):
            seen = ~np.isnan(x[i, :, k])
            inside = (before[i, :, k] >= 0) & (after[i, :, k] < len(TIMES))
            if seen.any():
                expected = np.interp(TIMES, TIMES[seen], x[i, seen, k])
                np.testing.assert_allclose(found[i, inside, k], expected[inside])


@pytest.mark.parametrize(
    ("source", "more", "words"),
    [
        (Paths(range(2), -np.ones((2, 2, 1)), mask=[[1, 0], [1, 1]]), {"log": True}, "logarithms need positive values"),
        (Paths(range(2), np.ones((2, 2, 2)), mask=[[[0, 1]] * 2] * 2), {}, "channel 'x0' of the real paths was never"),
        (
            Paths(np.array([[0.0, 1.0], [0.0, 2.0]]), np.ones((2, 2, 1)), mask=[[1, 0], [1, 1]]),
            {},
            "bridge_gaps has no meaning for times of each path's own",
        ),
    ],
)
def test_sentences(source, more, words):
    with pytest.raises(ValueError, match=words):
        bridge_gaps(source, **more)
