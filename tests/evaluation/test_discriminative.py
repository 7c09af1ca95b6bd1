"""Judges and the scores they give."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gendyn import Paths
from gendyn.evaluation import discriminative, discriminative_score, strong_discriminative_score
from gendyn.evaluation.judges import (
    STRONG,
    VARIANTS,
    Verdict,
    boosting_accuracies,
    divide,
    evidence,
    network_accuracies,
)
from gendyn.evaluation.path_set import path_sets

RNG = np.random.default_rng(0)


def walks(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 12, 4)).cumsum(1)


def quick(real: object, generated: object, **options: object) -> object:
    return discriminative_score(real, generated, **({"strong": False, "iterations": 150} | options))


def show(real: object, generated: object) -> object:
    return evidence(*path_sets(real, generated, metric="m", needs="shared"), np.random.default_rng(0))


def test_equal_laws_are_at_the_floor() -> None:
    result = quick(walks(600, 0), walks(600, 1))
    assert result.floor == pytest.approx(0.5 * np.sqrt(2 / (np.pi * 240)))
    assert result.value < 3 * result.floor
    assert result.extra["signed_low"] < 0 < result.extra["signed_high"]
    assert result.p_value > 0.05
    assert result.low <= result.value <= result.high
    assert (result.n_real, result.extra["n_learn"], result.extra["n_ask"], result.extra["trials"]) == (
        600,
        960,
        240,
        10,
    )


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_laws_far_apart_are_told_apart(variant: str) -> None:
    x, y = (np.tile(walks(200, seed), 3) for seed in (0, 1))  # 12 channels, so that every judge has several units
    result = quick(x, 0.2 * y + 5, variant=variant, iterations=400)
    assert result.value > 0.45
    assert result.p_value < 1e-9
    assert result.extra["signed_low"] > 0.3
    assert result.metric == f"discriminative score ({variant})"


def test_a_generator_that_replays_is_at_the_floor_and_flagged() -> None:
    """The judge cannot know: what it is shown has the law of the real paths. The check of memorisation does."""
    train, held = walks(600, 0), walks(600, 1)
    replayed = train[np.random.default_rng(2).integers(0, 600, 600)]
    result = quick(held, replayed, train=train, iterations=600)
    assert result.value < 2 * result.floor
    assert result.extra["memorisation"]["copies"]
    assert result.extra["memorisation"]["copy_ratio"] < 1e-6
    honest = quick(held, walks(600, 3), train=train, iterations=600)
    assert honest.value < 2 * honest.floor
    assert not honest.extra["memorisation"]["copies"]


def test_strong_judges_see_what_the_small_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smooth paths with a little noise: the differences tell, which two units do not learn."""
    monkeypatch.setattr(discriminative, "STRONG", dataclasses.replace(STRONG, iterations=30))
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, (2, 400, 1, 4))
    real, smooth = np.sin(0.3 * np.arange(12)[:, None] + phase)
    noisy = smooth + 0.02 * rng.normal(size=smooth.shape)
    result = discriminative_score(real, noisy, iterations=200)
    assert result.value < 2 * result.floor
    boosting = result.extra["strong"]["boosting"]
    assert boosting["signed"] > 0.3
    assert boosting["p_value"] < 1e-12
    assert result.extra["maximum"] == boosting["signed"]
    alone = strong_discriminative_score(real, noisy)
    assert alone.value == pytest.approx(boosting["signed"])
    assert alone.extra["judge"] == "boosting"
    assert set(alone.extra["judges"]) == {"gru", "boosting"}
    assert not alone.extra["memorisation"]["copies"]


def test_a_judge_of_copies_is_wrong_rather_than_right() -> None:
    """Shown every path as both real and generated, trees learn the half they see and answer the opposite."""
    x = walks(200, 0)
    result = strong_discriminative_score(x, x, iterations=5)
    assert result.extra["judges"]["boosting"]["signed"] < -0.2
    assert result.value < 0.1
    assert result.extra["memorisation"]["copies"]


def test_the_score_rises_with_the_share_of_another_law() -> None:
    x, y = walks(400, 0), walks(400, 1)
    other = y[:, ::-1] + 3.0
    results = [quick(x, np.concatenate([other[:share], y[share:]]), iterations=300) for share in (0, 150, 400)]
    signed = [result.extra["signed"] for result in results]
    assert signed == sorted(signed)
    assert results[0].p_value > 0.01
    assert results[-1].p_value < 1e-9


def test_equal_seeds_give_equal_results_and_touch_nothing() -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    x, y = walks(60, 0), walks(60, 1)
    one, two, other = (
        discriminative_score(x, y, seed=seed, iterations=20, n_trials=3).to_dict() | {"seconds": 0}
        for seed in (1, 1, 2)
    )
    assert one == two
    assert one["value"] != other["value"]
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_sizes_are_made_equal() -> None:
    result = quick(walks(150, 0), walks(400, 1), iterations=10)
    assert (result.n_real, result.n_generated) == (150, 150)
    assert abs(result.extra["signed"]) < 0.1  # not the share of the larger set


def test_one_trial_has_no_interval() -> None:
    result = quick(walks(50, 0), walks(50, 1), iterations=5, n_trials=1)
    assert result.low is None
    assert result.extra["signed_low"] is None


def test_gaps_are_copied_to_the_generated_paths() -> None:
    x, mask = walks(80, 0), RNG.random((80, 12, 4)) < 0.7
    shown = show(Paths(range(12), x, mask=mask), walks(80, 1))
    patterns = {pattern.tobytes() for pattern in mask}
    assert all(pattern.tobytes() in patterns for pattern in shown.mask)
    assert (np.isnan(shown.values) == ~shown.mask).all()
    rows = shown.rows()
    assert rows.shape == (160, 12, 8)
    assert torch.equal(rows[..., 4:], torch.from_numpy(shown.mask.astype(np.float32)))
    assert not rows[..., :4][~torch.from_numpy(shown.mask)].any()


def test_the_gaps_themselves_tell_nothing() -> None:
    mask = RNG.random((400, 12)) < 0.5
    result = strong_discriminative_score(Paths(range(12), walks(400, 0), mask=mask), walks(400, 1), iterations=50)
    assert result.p_value > 0.01
    assert abs(result.extra["judges"]["boosting"]["signed"]) < 0.1
    own = Paths(range(12), walks(400, 1), mask=RNG.random((400, 12)) < 0.5)
    assert quick(Paths(range(12), walks(400, 0), mask=mask), own).value < 3 * result.floor


def test_a_mask_that_hides_nothing_is_no_mask() -> None:
    x, y = walks(60, 0), walks(60, 1)
    whole = Paths(range(12), x, mask=np.ones(x.shape, dtype=bool))
    one, two = (quick(real, y, iterations=20).to_dict() | {"seconds": 0} for real in (x, whole))
    assert one == two


def test_features_of_trees() -> None:
    x = walks(5, 0)
    x[0, 3, 1] = np.nan
    shown = show(
        Paths(range(12), np.nan_to_num(x), mask=~np.isnan(x)), Paths(range(12), walks(5, 1), mask=~np.isnan(x))
    )
    found = shown.features()[0]
    flat, steps, mean, deviation, lagged = np.split(found, [48, 92, 96, 100])
    path = x[0]
    np.testing.assert_array_equal(flat, path.ravel())
    np.testing.assert_array_equal(steps, np.diff(path, axis=0).ravel())
    np.testing.assert_allclose(mean, np.nanmean(path, axis=0))
    np.testing.assert_allclose(deviation, np.nanstd(path, axis=0))
    centred = path - np.nanmean(path, axis=0)
    np.testing.assert_allclose(lagged, np.nanmean(centred[1:] * centred[:-1], axis=0) / np.nanvar(path, axis=0))


def test_trees_are_given_paths_that_do_not_vary() -> None:
    x = walks(60, 0)
    x[:30] = 1.0
    shown = show(x, walks(60, 1))
    assert np.isnan(shown.features()[:30, -4:]).all()
    accuracies = boosting_accuracies(shown, divide(shown, "random", 2, np.random.default_rng(0)), 0)
    assert (accuracies > 0.6).all()


@settings(max_examples=40)
@given(st.integers(10, 80), st.integers(1, 7), st.booleans(), st.integers(0, 2**31))
def test_divisions_keep_what_is_learned_from_what_is_asked(n: int, trials: int, joint: bool, seed: int) -> None:
    shown = show(RNG.normal(size=(n, 3, 1)), RNG.normal(size=(n, 3, 1)))
    for division in divide(shown, "random", trials, np.random.default_rng(seed), joint=joint):
        learn = np.concatenate(division.learn)
        assert sorted([*learn, *division.ask]) == list(range(2 * n))
        assert len(learn) == 2 * int(0.8 * n)
        if not joint:
            assert (division.learn[0] < n).all()
            assert (division.learn[1] >= n).all()
            assert (division.ask < n).sum() == (division.ask >= n).sum()


@settings(max_examples=40)
@given(st.integers(60, 150), st.integers(40, 60), st.booleans(), st.integers(0, 2**31))
def test_blocks_share_no_row_with_what_is_learned_from(n: int, m: int, joint: bool, seed: int) -> None:
    length = 6
    shown = show(RNG.normal(size=(n, length, 1)), RNG.normal(size=(m, length, 1)))
    half = shown.half
    asked = []
    for division in divide(shown, "blocked", 5, np.random.default_rng(seed), joint=joint):
        learn = np.concatenate(division.learn)
        learned_places = shown.places[learn[learn < half]]
        asked_places = shown.places[division.ask[division.ask < half]]
        # Windows at stride 1 share a row if fewer than their length apart.
        assert np.abs(learned_places[:, None] - asked_places).min() >= length
        assert not set(learn) & set(division.ask)
        assert (division.ask < half).sum() == (division.ask >= half).sum()
        asked += asked_places.tolist()
    assert sorted(asked) == shown.places.tolist()


def test_blocked_split_of_overlapping_windows() -> None:
    series = RNG.normal(size=(500, 3))
    windows = np.lib.stride_tricks.sliding_window_view(series, 8, axis=0).transpose(0, 2, 1)
    result = quick(windows, walks(400, 1)[:, :8, :3], split="blocked", iterations=20)
    assert result.extra["split"] == "blocked"
    assert result.extra["n_learn"] < 800 * 4 // 5


def test_what_a_verdict_says() -> None:
    """The chance level, the p-value and the interval, against draws of coins."""
    n, trials = 500, 20_000
    accuracies = np.random.default_rng(0).binomial(n, 0.5, trials) / n
    coins = Verdict(accuracies, n_learn=4 * n, n_ask=n)
    assert coins.score == pytest.approx(coins.chance, rel=0.03)
    assert abs(coins.signed) < 4 * accuracies.std() / trials**0.5
    one = Verdict(np.array([0.55, 0.57]), n_learn=4 * n, n_ask=n)
    assert one.p_value == pytest.approx(stats.binom.sf(279, n, 0.5))
    low, high = one.interval(one.accuracies)
    spread = np.std([0.55, 0.57], ddof=1) * np.sqrt(1 / 2 + 1 / 4)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 1) * spread)
    assert (high + low) / 2 == pytest.approx(0.56)


def test_the_number_of_paths_sets_the_floor_of_published_tables() -> None:
    floors = {n: Verdict(np.array([0.5]), 8 * n // 5, 2 * n // 5).chance for n in (3661, 10_000, 19_711, 17_396)}
    for n, expected in {3661: 0.0104, 10_000: 0.0063, 19_711: 0.0045, 17_396: 0.0048}.items():
        assert floors[n] == pytest.approx(expected, abs=5e-5)


def test_sizes_of_the_published_judges() -> None:
    assert [VARIANTS["timegan"].units(d) for d in (1, 5, 6, 28)] == [1, 2, 3, 14]
    assert [VARIANTS["gtgan"].units(d) for d in (1, 28)] == [1, 9]
    assert (VARIANTS["dcgan"].cell, VARIANTS["dcgan"].layers, VARIANTS["dcgan"].joint) == ("lstm", 2, True)
    assert STRONG.units(6) == 32


def test_trials_do_not_depend_on_each_other() -> None:
    """A trial that asks about paths with their labels exchanged is wrong as often as the others are right."""
    x, y = walks(100, 0), walks(100, 1) + 6
    shown = show(x, y)
    good, bad = divide(shown, "random", 2, np.random.default_rng(0))
    exchanged = type(bad)((bad.learn[1], bad.learn[0]), bad.ask)
    accuracies = network_accuracies(shown, [good, exchanged], VARIANTS["timegan"], 0, 1500)
    np.testing.assert_allclose(accuracies, [1, 1], atol=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "best"}, "variant must be one of timegan, gtgan, dcgan; got 'best'"),
        ({"split": "time"}, "split must be one of random, blocked; got 'time'"),
        ({"n_trials": 0}, "n_trials must be at least 1; got 0"),
        ({"iterations": 0}, "at least 1 step; got 0"),
        ({"split": "blocked"}, "blocks of a fifth of 20 windows leave nothing beside gaps of 12 windows"),
    ],
)
def test_options_that_do_not_exist(options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quick(walks(20, 0), walks(20, 1), **options)


def test_what_cannot_be_judged() -> None:
    x = walks(40, 0)
    with pytest.raises(ValueError, match=r"discriminative score \(timegan\) needs at least 10 real paths; got 9"):
        quick(x[:9], x)
    gappy = Paths(range(12), x, mask=RNG.random(x.shape) < 0.5)
    with pytest.raises(ValueError, match="the gaps alone would tell them apart"):
        quick(x, gappy)
    with pytest.raises(ValueError, match="same number of channels"):
        quick(x, x[..., :2])
    broken = x + 0.1
    broken[3, 2, 1] = np.nan
    with pytest.raises(ValueError, match="on_nan='count'"):
        quick(x, broken)
    assert quick(x, broken, on_nan="count", iterations=5).extra["dropped"] == 1
