"""Calibration: what is calibrated is found to be, what is not is found out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from gendyn.evaluation import coverage, pit, pit_histogram, rank_histogram

RNG = np.random.default_rng(0)


def test_a_calibrated_gaussian_is_covered_within_three_errors():
    result = coverage(RNG.normal(size=4000), RNG.normal(size=(4000, 99)))
    for level, share in zip(result.extra["levels"], result.extra["shares"], strict=True):
        assert share == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 4000))
    widths = result.extra["widths"]["x0"]
    np.testing.assert_allclose(widths, [2 * norm.ppf((1 + p) / 2) for p in (0.5, 0.8, 0.9, 0.95)], rtol=0.05)


@pytest.mark.parametrize("members", [3, 9, 19])
def test_coverage_is_exact_for_few_members(members):
    # At M + 1 = 4, 10, 20 the ends of the widest interval are the extreme members.
    level = (members - 1) / (members + 1)
    y, x = RNG.normal(size=20_000), RNG.normal(size=(20_000, members))
    result = coverage(y, x, level=level, levels=())
    assert result.value == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 20_000))


def test_narrow_and_wide_forecasts():
    y, x = RNG.normal(size=2000), RNG.normal(size=(2000, 49))
    assert coverage(y, 0.5 * x).high < 0.9
    assert coverage(y, 2.0 * x).low > 0.9
    u = {k: rank_histogram(y, k * x, bins=10).extra["counts"] for k in (0.5, 2.0)}
    assert min(u[0.5][0], u[0.5][-1]) > 2 * max(u[0.5][4:6])
    assert max(u[2.0][0], u[2.0][-1]) < min(u[2.0][4:6])
    biased = rank_histogram(y, x - 1.0)
    assert biased.extra["mean"] > 0.7
    assert biased.p_value < 1e-6


def test_wilsons_interval():
    # 90 of 100: the textbook interval.
    y = np.concatenate([np.zeros(90), np.full(10, 9.0)])
    result = coverage(y, np.tile([-1.0, -0.5, 0.5, 1.0], (100, 1)), level=0.5, levels=())
    assert (result.value, result.low, result.high) == pytest.approx((0.9, 0.8256, 0.9448), abs=1e-4)


def test_intervals_hold_the_truth_as_often_as_they_say_with_dependent_values():
    hits, p = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(200, 20, 5)).cumsum(2)  # values of a path are far from independent
        result = coverage(z[:, 0], z[:, 1:], level=0.8, levels=())
        hits.append(result.low < 0.8 < result.high)
        p.append(rank_histogram(z[:, 0], z[:, 1:], seed=seed).p_value)
    assert np.mean(hits) >= 0.91
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


@given(st.integers(2, 30), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_every_outcome_is_counted_once(members, seed):
    rng = np.random.default_rng(seed)
    y, x = rng.normal(size=(40, 3)), rng.normal(size=(40, members, 3))
    result = rank_histogram(y, x, bins=members + 1, seed=seed)
    ranks = (x < y[:, None]).sum(1)
    assert result.extra["counts"] == np.bincount(ranks.ravel(), minlength=members + 1).tolist()
    assert 0 <= result.value <= 1 - 1 / (members + 1)


def test_ties_are_broken_at_random():
    y, x = RNG.integers(0, 3, size=5000).astype(float), RNG.integers(0, 3, size=(5000, 7)).astype(float)
    result = rank_histogram(y, x)
    assert result.p_value > 0.001
    assert all(c > 0 for c in result.extra["counts"])
    again = rank_histogram(y, x)
    assert again.extra["counts"] == result.extra["counts"]
    assert rank_histogram(y, x, seed=1).extra["counts"] != result.extra["counts"]


def test_the_transform_of_a_calibrated_forecast_is_uniform():
    u = pit(RNG.normal(size=(500, 2)), RNG.normal(size=(500, 12, 2)))
    assert u.shape == (500, 2, 1)
    assert kstest(u.ravel(), "uniform").pvalue > 0.001
    closed_form = pit_histogram(norm.cdf(RNG.normal(size=(2000, 2))))
    assert closed_form.p_value > 0.001
    assert closed_form.value < 2 * closed_form.floor


def test_the_floor_is_what_chance_makes():
    values = [pit_histogram(RNG.random(500), bins=10) for _ in range(200)]
    assert np.mean([r.value for r in values]) == pytest.approx(values[0].floor, rel=0.05)


def test_whole_rows_of_one_case_count_as_one():
    u = np.repeat(RNG.random((200, 1)), 50, axis=1)
    result = pit_histogram(u, bins=10)
    assert result.extra["design_effect"] == pytest.approx(50, rel=0.1)
    assert result.p_value > 0.001
    assert pit_histogram(u[:, :1], bins=10).p_value == pytest.approx(result.p_value, abs=0.1)


def test_cells_are_fewer_where_cases_are():
    assert rank_histogram(RNG.normal(size=60), RNG.normal(size=(60, 99))).extra["bins"] == 6
    assert rank_histogram(RNG.normal(size=2000), RNG.normal(size=(2000, 99))).extra["bins"] == 100


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda y, x: coverage(y, x, level=0.95), "an interval of 95% needs at least 39 members; got 10: draw more"),
        (lambda y, x: coverage(y, x, level=1.0), "levels must lie between 0 and 1; got 1"),
        (lambda y, x: pit_histogram([0.5, 1.5]), "values must lie in 0 to 1; got 0.5 to 1.5"),
        (lambda y, x: pit_histogram([np.nan]), "no outcome was observed"),
        (lambda y, x: pit_histogram(y, bins=1), "bins must be at least 2"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call(RNG.normal(size=20), RNG.normal(size=(20, 10)))
