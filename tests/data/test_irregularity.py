"""Ways to lose values: how many, where, and that nothing else changes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn.data import Paths
from gendyn.data.irregularity import (
    drop_blocks,
    drop_high_values,
    drop_published_rows,
    drop_rows,
    drop_values,
    jitter_times,
    keep_sporadic,
)

RANDOM = {
    "rows": lambda p, r, s: drop_rows(p, r, seed=s),
    "values": lambda p, r, s: drop_values(p, r, seed=s),
    "blocks": lambda p, r, s: drop_blocks(p, r, seed=s),
    "published": lambda p, r, s: drop_published_rows(p, r, seed=s),
}


def made(n=4, length=20, dim=3, **changes):
    values = torch.randn(n, length, dim, generator=torch.Generator().manual_seed(0))
    return Paths(**({"times": np.arange(length) * 0.5, "values": values, "labels": list(range(n))} | changes))


def ragged():
    times = [[0.0, 1.0, 2.0, 4.0, 5.0, 6.0], [0.0, 1.0, 2.0, 3.0, 3.0, 3.0]]
    return Paths(times, np.arange(12.0).reshape(2, 6, 1))


@pytest.mark.parametrize("way", RANDOM)
@settings(max_examples=25, deadline=None)
@given(rate=st.floats(0.0, 0.95), length=st.integers(2, 30), seed=st.integers(0, 100))
def test_the_share_is_exact_and_what_is_left_is_unchanged(way, rate, length, seed):
    paths = made(length=length)
    state = torch.random.get_rng_state()
    thin = RANDOM[way](paths, rate, seed)
    hidden = ~thin.mask
    assert (hidden.sum(1) == int(np.floor(length * rate))).all()
    assert torch.equal(thin.values[thin.mask], paths.values[thin.mask])
    assert thin.values[hidden].isnan().all()
    assert torch.equal(thin.times, paths.times)
    assert thin.labels.tolist() == paths.labels.tolist()
    assert paths.mask is None
    assert torch.equal(torch.random.get_rng_state(), state)
    assert thin == RANDOM[way](paths, rate, seed)


@pytest.mark.parametrize("way", ["rows", "blocks", "published"])
def test_rows_are_hidden_in_all_features(way):
    mask = RANDOM[way](made(), 0.5, 1).mask
    assert torch.equal(mask, mask[:, :, :1].expand(mask.shape))
    assert not torch.equal(mask[0], mask[1])


def test_values_are_hidden_feature_by_feature():
    mask = drop_values(made(n=50), 0.5).mask
    assert not torch.equal(mask[..., 0], mask[..., 1])
    # Completely at random: hidden together as often as by chance.
    together = (~mask[..., 0] & ~mask[..., 1]).double().mean().item()
    assert together == pytest.approx(0.25, abs=0.06)


def test_the_published_rows_are_those_of_the_generator():
    generator = torch.Generator().manual_seed(56789)
    thin = drop_published_rows(made(n=3, length=24), 0.7)
    for row in range(3):
        expected = sorted(torch.randperm(24, generator=generator)[:16].tolist())
        assert torch.nonzero(~thin.mask[row, :, 0]).flatten().tolist() == expected
    assert int((~drop_published_rows(made(n=1, length=3661), 0.5).mask[0, :, 0]).sum()) == 1830


@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_blocks_are_separate_stretches_of_equal_length(blocks):
    hidden = ~drop_blocks(made(n=200, length=30), 0.4, blocks=blocks, seed=3).mask[:, :, 0]
    for row in hidden:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.int().numpy(), [0]])))
        sizes = edges[1::2] - edges[::2]
        assert len(sizes) == blocks
        assert sizes.sum() == 12
        assert sizes.max() - sizes.min() <= 1


def test_a_stretch_is_as_likely_in_every_place():
    hidden = ~drop_blocks(made(n=4000, length=30), 0.4).mask[:, :, 0]
    # Of 19 places for twelve rows among thirty, so many cover a row.
    rows = np.arange(30)
    share = np.minimum(np.minimum(rows + 1, 12), 30 - rows) / 19
    error = np.sqrt(share * (1 - share) / 4000)
    assert (np.abs(hidden.double().mean(0).numpy() - share) < 4.5 * error).all()


def test_the_highest_values_are_hidden():
    paths = made(n=10)
    thin = drop_high_values(paths, 0.3)
    for feature in range(3):
        shown, lost = (paths.values[..., feature][m] for m in (thin.mask[..., feature], ~thin.mask[..., feature]))
        assert len(lost) == 60
        assert shown.max() < lost.min()
    again = drop_high_values(thin, 0.5)
    assert (~again.mask).sum((0, 1)).tolist() == [130, 130, 130]
    assert not (again.mask & ~thin.mask).any()
    assert drop_high_values(paths, 0.0).mask.all()


def test_ragged_paths_lose_their_own_share():
    for way in (drop_rows, drop_values, drop_blocks):
        mask = way(ragged(), 0.5).mask
        assert mask[0].sum() == 3
        assert mask[1, :4].sum() == 2
        assert not mask[1, 4:].any()


def test_what_was_missing_stays_missing():
    before = made(mask=np.random.default_rng(0).random((4, 20, 3)) < 0.5)
    after = drop_rows(before, 0.5)
    assert not (after.mask & ~before.mask).any()


def test_states_are_hidden_too():
    paths = Paths(range(10), torch.ones(2, 10, dtype=torch.long), states=["off", "on"])
    thin = drop_rows(paths, 0.4)
    assert thin.values.dtype == torch.int64
    assert thin.mask.sum(1).tolist() == [[6], [6]]
    with pytest.raises(TypeError, match="hidden of real values; these paths hold discrete states"):
        drop_high_values(paths, 0.5)


def test_sporadic_looks():
    seen = keep_sporadic(made(n=4000, length=201, dim=2), 16, 23, together=0.2, seed=0).mask
    looks = seen.any(-1).sum(1)
    counts = torch.bincount(looks, minlength=24)[16:]
    assert counts.sum() == 4000
    assert (counts - 500).abs().max() < 110
    kinds = torch.stack([seen.all(-1), seen[..., 0] & ~seen[..., 1], seen[..., 1] & ~seen[..., 0]]).sum((1, 2))
    np.testing.assert_allclose(kinds / kinds.sum(), [0.2, 0.4, 0.4], atol=0.01)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 0.99), seed=st.integers(0, 50))
def test_jitter_keeps_the_order_and_the_values(scale, seed):
    times = np.cumsum(np.random.default_rng(seed).random(15) + 1e-3)
    paths = Paths(times, np.zeros((3, 15, 1)))
    moved = jitter_times(paths, scale, seed)
    assert torch.equal(moved.values, paths.values)
    assert not moved.shared_times
    gaps = paths.times.diff()
    nearest = torch.minimum(torch.cat([gaps[:1], gaps]), torch.cat([gaps, gaps[-1:]]))
    assert ((moved.times - paths.times).abs() <= scale / 2 * nearest + 1e-12).all()


def test_jitter_of_ragged_paths():
    moved = jitter_times(ragged(), 0.9, seed=1)
    assert moved.lengths.tolist() == [6, 4]
    assert (moved.times[1, 3:] == moved.times[1, 3]).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: drop_rows(made(), 1.0), ValueError, "rate must be at least 0 and below 1; got 1"),
        (lambda: drop_values(made(), -0.1), ValueError, "rate must be at least 0 and below 1"),
        (lambda: drop_published_rows(ragged(), 0.5), ValueError, "for paths of one length; use drop_rows"),
        (lambda: drop_blocks(made(), 0.5, blocks=0), ValueError, "blocks must be a whole number of at least 1"),
        (
            lambda: drop_blocks(made(length=4), 0.5, blocks=4),
            ValueError,
            "4 stretches .* do not fit on a path of 4 rows",
        ),
        (lambda: keep_sporadic(made(), 5, 21, 0.2), ValueError, "must lie in 1 to 20"),
        (lambda: keep_sporadic(made(), 5, 6, 1.2), ValueError, "together must be a probability"),
        (lambda: jitter_times(made(), 1.0), ValueError, "scale must lie between 0 and 1, both excluded"),
        (lambda: jitter_times(made(length=1), 0.5), ValueError, "a path with one time has no gap"),
        (lambda: jitter_times(Paths([2.0, 1.0], torch.zeros(1, 2, 1)), 0.5), ValueError, "times that fall"),
    ],
)
def test_sentences(call, error, words):
    with pytest.raises(error, match=words):
        call()
