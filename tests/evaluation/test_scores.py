"""Proper scores against closed forms, plain sums, and what makes them proper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.special import gamma
from scipy.stats import norm

from gendyn.evaluation import (
    crps,
    crps_gaussian,
    crps_scores,
    energy_score,
    energy_scores,
    score_difference,
    variogram_score,
    variogram_scores,
)

RNG = np.random.default_rng(0)
NUMBERS = st.floats(-100, 100)


# --- continuous ranked probability score -------------------------------------------------------------------


def test_a_gaussian_forecast():
    assert crps_gaussian(0.5, 0.0, 1.0) == pytest.approx(0.331404, abs=1e-6)
    for mu, sigma, y in ((0.3, 2.0, -1.0), (-4.0, 0.1, -3.8)):
        below = quad(lambda x, m=mu, s=sigma: norm.cdf(x, m, s) ** 2, mu - 12 * sigma, y)[0]
        above = quad(lambda x, m=mu, s=sigma: norm.sf(x, m, s) ** 2, y, mu + 12 * sigma)[0]
        assert crps_gaussian(y, mu, sigma) == pytest.approx(below + above, abs=1e-7)


@pytest.mark.parametrize(
    ("mu", "sigma", "expected"), [(0, 1, 0.564190), (0, 2, 0.655745), (0, 0.5, 0.609967), (1, 1, 0.835093)]
)
def test_the_mean_score_under_the_standard_normal(mu, sigma, expected):
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    mean = weights @ crps_gaussian(nodes, mu, sigma) / weights.sum()
    assert mean == pytest.approx(expected, abs=2e-4)
    y, x = RNG.normal(size=20_000), RNG.normal(mu, sigma, size=(20_000, 10))
    result = crps(y, x)
    error = (result.high - result.low) / (2 * 1.96)
    assert result.value == pytest.approx(expected, abs=4 * error)


def test_the_plain_form_is_biased_by_what_fairness_takes_away():
    # 10 members: .620609 in the plain form, .564190 in the fair one.
    y, x = RNG.normal(size=40_000), RNG.normal(size=(40_000, 10))
    plain = np.abs(x - y[:, None]).mean(1) - np.abs(x[:, :, None] - x[:, None]).mean((1, 2)) / 2
    assert plain.mean() == pytest.approx(0.620609, abs=0.01)
    assert crps(y, x).value == pytest.approx(0.564190, abs=0.01)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 7)), elements=NUMBERS), st.data())
@settings(deadline=None)
def test_it_is_the_sum_over_all_pairs(x, data):
    y = data.draw(arrays(np.float64, len(x), elements=NUMBERS))
    m = x.shape[1]
    expected = np.abs(x - y[:, None]).mean(1) - np.abs(x[:, :, None] - x[:, None]).sum((1, 2)) / (2 * m * (m - 1))
    np.testing.assert_allclose(crps_scores(y, x), expected, atol=1e-9)
    np.testing.assert_allclose(crps_scores(y + 5, x + 5), expected, atol=1e-9)
    np.testing.assert_allclose(crps_scores(-3 * y, -3 * x), 3 * expected, atol=1e-9)


@given(st.floats(-3, 3), st.floats(0.05, 5))
@settings(deadline=None)
def test_no_other_gaussian_scores_better_than_the_truth(mu, sigma):
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    mean = weights @ crps_gaussian(nodes, mu, sigma) / weights.sum()
    assert mean >= 1 / np.sqrt(np.pi) - 2e-4


def test_expected_score_climatology_and_skill():
    y = RNG.normal(size=(4000, 3, 1)) * [[1.0], [2.0], [3.0]]
    x = RNG.normal(size=(4000, 20, 3, 1)) * [[1.0], [2.0], [3.0]]
    result = crps(y, x)
    assert result.extra["expected"] == pytest.approx(result.value, rel=0.03)
    assert result.extra["climatology"] == pytest.approx(2 / np.sqrt(np.pi), rel=0.03)
    assert result.extra["skill"] == pytest.approx(0.0, abs=0.03)
    np.testing.assert_allclose(result.extra["by_time"], np.arange(1, 4) / np.sqrt(np.pi), rtol=0.08)
    sharp = crps(y, y[:, None] + 0.1 * RNG.normal(size=(4000, 20, 3, 1)))
    assert sharp.extra["skill"] > 0.9
    narrow = crps(y, 0.5 * x)
    assert narrow.extra["expected"] < 0.8 * narrow.value


def test_climatology_is_the_forecast_by_all_others():
    y = RNG.normal(size=30)
    by_hand = [crps_scores(y[i : i + 1], np.delete(y, i)[None])[0] for i in range(30)]
    assert crps(y, RNG.normal(size=(30, 5))).extra["climatology"] == pytest.approx(np.mean(by_hand), rel=1e-9)


def test_one_forecast_has_no_interval():
    result = crps([0.3], [[0.0, 1.0, 2.0]])
    assert (result.low, result.high) == (None, None)


# --- energy score ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "expected"), [(1, 0.5642), (2, 0.8862), (5, 1.5045), (10, 2.1809), (24, 3.4282)])
def test_the_energy_score_of_the_truth(dim, expected):
    assert gamma((dim + 1) / 2) / gamma(dim / 2) == pytest.approx(expected, abs=1e-4)
    result = energy_score(RNG.normal(size=(4000, dim, 1)), RNG.normal(size=(4000, 12, dim, 1)), scale=None)
    error = (result.high - result.low) / (2 * 1.96)
    assert result.value == pytest.approx(expected, abs=4 * error)
    assert result.extra["expected"] == pytest.approx(expected, rel=0.02)


def test_in_one_dimension_it_is_the_crps():
    y, x = RNG.normal(size=50), RNG.normal(size=(50, 8))
    np.testing.assert_allclose(energy_scores(y, x, scale=None), crps_scores(y, x), atol=1e-12)


def test_it_is_a_length_and_knows_no_direction():
    y, x = RNG.normal(size=(20, 3, 2)), RNG.normal(size=(20, 6, 3, 2))
    q, _ = np.linalg.qr(RNG.normal(size=(2, 2)))
    # The same rotation at each time turns the whole vector.
    turned = energy_scores(3 * y @ q + 1, 3 * x @ q + 1, scale=None)
    np.testing.assert_allclose(turned, 3 * energy_scores(y, x, scale=None), rtol=1e-9)


def test_channels_are_put_on_the_scale_of_the_outcomes():
    y, x = RNG.normal(size=(300, 3, 2)), RNG.normal(size=(300, 6, 3, 2))
    size = np.array([1e3, 1e-3])
    for score in (energy_score, variogram_score):
        assert score(y * size + 5, x * size + 5).value == pytest.approx(score(y, x).value, rel=1e-6)
    explicit = energy_score(y, x, scale=(0.0, 2.0)).value
    assert explicit == pytest.approx(energy_score(y, x, scale=None).value / 2)


# --- variogram score ---------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=20, deadline=None)
def test_the_variogram_score_is_the_sum_over_pairs(seed, order):
    rng = np.random.default_rng(seed)
    y, x = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 5, 4, 2))
    weights = rng.random((8, 8))
    weights = weights + weights.T
    flat_y, flat_x = y.reshape(3, 8), x.reshape(3, 5, 8)
    own = np.abs(flat_y[:, :, None] - flat_y[:, None]) ** order
    theirs = np.abs(flat_x[:, :, :, None] - flat_x[:, :, None]) ** order
    terms = (own - theirs.mean(1)) ** 2 - theirs.var(1, ddof=1) / 5
    expected = (weights * terms).sum((1, 2))
    np.testing.assert_allclose(
        variogram_scores(y, x, order=order, weights=weights, scale=None), expected, rtol=1e-9, atol=1e-9
    )


def test_its_mean_does_not_depend_on_the_number_of_members():
    y = RNG.normal(size=(3000, 4, 1))
    few = variogram_scores(y, RNG.normal(size=(3000, 3, 4, 1)))
    many = variogram_scores(y, RNG.normal(size=(3000, 60, 4, 1)))
    error = np.sqrt(few.var() / 3000 + many.var() / 3000)
    assert few.mean() == pytest.approx(many.mean(), abs=4 * error)


def test_it_sees_dependence_better_than_the_energy_score():
    walk = RNG.normal(size=(800, 10)).cumsum(1)
    right = RNG.normal(size=(800, 30, 10)).cumsum(2)
    wrong = RNG.normal(size=(800, 30, 10)) * np.sqrt(np.arange(1, 11))
    gain = {
        name: score_difference(f(walk, right), f(walk, wrong), seed=0)
        for name, f in (("energy", energy_scores), ("variogram", variogram_scores))
    }
    assert gain["variogram"].low > 0
    ratio = {
        "energy": gain["energy"].value / energy_scores(walk, right).mean(),
        "variogram": gain["variogram"].value / variogram_scores(walk, right).mean(),
    }
    assert ratio["variogram"] > 3 * ratio["energy"]


# --- differences -------------------------------------------------------------------------------------------


def test_the_difference_of_scores_has_the_size_of_its_test():
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        p.append(score_difference(rng.normal(size=80), rng.normal(size=80), seed=seed, n_bootstrap=400).p_value)
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


def test_pairs_share_their_difficulty():
    hard = RNG.exponential(size=300) * 10
    one, two = hard + 0.1 * RNG.normal(size=300), hard + 0.1 + 0.1 * RNG.normal(size=300)
    result = score_difference(one, two)
    assert result.value == pytest.approx(0.1, abs=0.03)
    assert 0 < result.low < result.value < result.high
    assert result.p_value < 0.01
    assert score_difference(two, one).value == pytest.approx(-result.value)
    assert score_difference(one, two).low == result.low


def test_blocks_widen_the_interval_of_overlapping_windows():
    noise = RNG.normal(size=2000)
    overlapping = np.convolve(noise, np.ones(20), mode="valid")
    zero = np.zeros(len(overlapping))
    alone, blocks = (score_difference(zero, overlapping, block=b) for b in (1, 40))
    assert blocks.high - blocks.low > 2.5 * (alone.high - alone.low)
    # The mean of a moving sum of 20 has a standard deviation of 20 / sqrt(n).
    assert (blocks.high - blocks.low) / (2 * 1.96) == pytest.approx(20 / np.sqrt(2000), rel=0.3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: crps_gaussian(0.0, 0.0, 0.0), "deviations must be positive; got 0"),
        (lambda: score_difference(np.zeros(3), np.zeros(4)), r"\(n,\) each; got \(3,\) and \(4,\)"),
        (
            lambda: score_difference(np.zeros(3), np.zeros(3), block=2),
            "at least two blocks; got 3 pairs and blocks of 2",
        ),
        (lambda: score_difference(np.zeros(3), np.zeros(3), n_bootstrap=1), "n_bootstrap must be at least 2"),
        (
            lambda: variogram_score(np.zeros((3, 2)), np.zeros((3, 4, 2)), order=0.0, scale=None),
            "order must be positive",
        ),
        (
            lambda: variogram_score(np.zeros((3, 2)), np.zeros((3, 4, 2)), weights=np.ones((3, 3)), scale=None),
            r"symmetric, non-negative and of shape \(2, 2\)",
        ),
        (lambda: energy_score(np.zeros((3, 2)), np.zeros((3, 4, 2))), "channel 'x0' is constant"),
    ],
)
def test_sentences(call, words):
    with pytest.raises(ValueError, match=words):
        call()
