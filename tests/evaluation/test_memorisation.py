"""Copies and collapse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from gendyn import Paths
from gendyn.evaluation import memorisation
from gendyn.evaluation.memorisation import nearest
from gendyn.evaluation.path_set import path_sets

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 8, 2)).cumsum(1)
TRAIN, HELD, NEW = X[:200], X[200:400], X[400:]


def test_new_paths_of_the_true_law_are_no_copies() -> None:
    result = memorisation(HELD, NEW, train=TRAIN)
    assert result.low < 1 < result.high
    assert abs(result.value - 1) < 0.1
    assert 0.9 < result.floor < 1.1
    assert not result.extra["copies"]
    assert not result.extra["collapsed"]
    assert abs(result.extra["diversity"] - 1) < 0.1
    assert result.extra["share_near"] < 0.05
    assert result.extra["reference"] == "held-out"


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_copies_are_flagged(noise: float) -> None:
    copies = TRAIN[RNG.integers(0, 200, 300)] + noise * RNG.normal(size=(300, 8, 2))
    for arguments in ({"train": TRAIN, "real": HELD}, {"real": TRAIN}):
        result = memorisation(generated=copies, **arguments)
        assert result.extra["copies"]
        assert result.value < 0.6
        assert result.extra["share_near"] > 0.9
    assert result.extra["reference"] == "leave-one-out"
    if noise == 0:
        assert result.value < 1e-6


def test_more_copies_lower_the_ratio() -> None:
    ratios = []
    for share in (0, 60, 120, 180):
        mixed = np.concatenate([TRAIN[:share], NEW[: 200 - share]]) + 0.01 * RNG.normal(size=(200, 8, 2))
        result = memorisation(HELD, mixed, train=TRAIN)
        ratios.append((result.extra["inward"], -result.extra["share_near"]))
    assert ratios == sorted(ratios, reverse=True)


def test_collapse_is_flagged() -> None:
    result = memorisation(HELD, NEW[RNG.integers(0, 3, 200)] + 0.1 * RNG.normal(size=(200, 8, 2)), train=TRAIN)
    assert result.extra["collapsed"]
    assert not result.extra["copies"]
    assert result.extra["outward"] > result.extra["inward"]


def test_distances_are_those_of_scipy() -> None:
    one, two = path_sets(HELD, TRAIN, metric="m")
    flat = (HELD.reshape(200, -1), TRAIN.reshape(200, -1))
    np.testing.assert_allclose(nearest(one, two), cdist(*flat).min(1))
    inner = cdist(flat[1], flat[1])
    np.fill_diagonal(inner, np.inf)
    np.testing.assert_allclose(nearest(two, two, leave_out=True), inner.min(1))
    result = memorisation(HELD, NEW, train=TRAIN, scale=None)
    expected = pdist(NEW.reshape(200, -1)).mean() / pdist(flat[0]).mean()
    assert result.extra["diversity"] == pytest.approx(expected, rel=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_gaps_leave_what_was_seen_in_both(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, mask = rng.normal(size=(2, 6, 3, 2)), rng.random((2, 6, 3, 2)) < 0.7
    mask[:, 0] = True
    one, two = path_sets(*(Paths(range(3), values[k], mask=mask[k]) for k in (0, 1)), metric="m", needs="shared")
    x, y = (np.where(mask[k], values[k], np.nan)[(slice(None), None) if k == 0 else None] for k in (0, 1))
    square = (x - y) ** 2
    with np.errstate(invalid="ignore"):
        means = np.nansum(square, axis=(2, 3)) / (~np.isnan(square)).sum((2, 3))
    expected = np.sqrt(6 * np.nanmin(means, axis=1))
    np.testing.assert_allclose(nearest(one, two), expected, atol=1e-12)


def test_gaps_do_not_hide_copies() -> None:
    mask = RNG.random(TRAIN.shape) < 0.6
    train, held = Paths(range(8), TRAIN, mask=mask), Paths(range(8), HELD, mask=mask)
    assert memorisation(held, TRAIN, train=train).extra["copies"]
    assert not memorisation(held, NEW, train=train).extra["copies"]


def test_a_constant_channel_is_kept() -> None:
    flat = np.concatenate([X, np.ones((600, 8, 1))], axis=2)
    moved = flat[400:] + np.array([0.0, 0.0, 9.0])
    assert memorisation(flat[200:400], moved, train=flat[:200]).value > 3


def test_same_seed_same_result() -> None:
    one, two = (memorisation(HELD, NEW, train=TRAIN, seed=3).to_dict() | {"seconds": 0} for _ in range(2))
    assert one == two


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="more than half of the real paths lie among the training paths"):
        memorisation(TRAIN, NEW, train=TRAIN)
    with pytest.raises(ValueError, match="equal to another one"):
        memorisation(np.concatenate([TRAIN, TRAIN]), NEW)
    with pytest.raises(ValueError, match="same number of channels"):
        memorisation(HELD, NEW, train=TRAIN[..., :1])
    broken = NEW.copy()
    broken[0, 0, 0] = np.nan
    assert memorisation(HELD, broken, train=TRAIN, on_nan="count").extra["dropped"] == 1
