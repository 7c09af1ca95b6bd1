"""Distances against closed forms, other implementations, and the properties that make them distances."""

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gendyn.coupling import TransportError
from gendyn.evaluation import (
    energy_distance,
    energy_value,
    mmd,
    mmd_value,
    sliced_wasserstein,
    sliced_wasserstein_value,
    wasserstein,
    wasserstein_value,
)

FIRST = np.array([[1.0, 0.5], [0.5, 1.0]])
SECOND = np.array([[2.0, -0.3], [-0.3, 0.5]])
SHIFT = np.array([1.0, -1.0])


def gaussian_pair(n, seed):
    generator = np.random.default_rng(seed)
    x = generator.multivariate_normal(np.zeros(2), FIRST, n)
    y = generator.multivariate_normal(SHIFT, SECOND, n)
    return x, y


def clouds(dim, most=12):
    size = st.integers(2, most)
    numbers = st.floats(-100, 100, width=32)
    return size.flatmap(lambda n: arrays(np.float64, (n, dim), elements=numbers))


# --- Wasserstein -------------------------------------------------------------------------------------------


@given(clouds(1), clouds(1))
def test_w1_on_the_line_is_that_of_scipy(x, y):
    assert wasserstein_value(x, y) == pytest.approx(stats.wasserstein_distance(x[:, 0], y[:, 0]), abs=1e-9)


@given(clouds(1), clouds(1), st.sampled_from([1, 2]))
def test_the_line_agrees_with_the_simplex(x, y, p):
    in_plane = [np.concatenate([z, np.zeros_like(z)], axis=1) for z in (x, y)]
    assert wasserstein_value(x, y, p=p) == pytest.approx(wasserstein_value(*in_plane, p=p), abs=1e-6)


@given(clouds(2), clouds(2), clouds(2), st.sampled_from([1, 2]))
@settings(max_examples=50)
def test_it_is_a_distance(x, y, z, p):
    xy, yx = wasserstein_value(x, y, p=p), wasserstein_value(y, x, p=p)
    assert xy == pytest.approx(yx, abs=1e-6)
    assert wasserstein_value(x, x, p=p) == pytest.approx(0.0, abs=1e-6)
    assert xy <= wasserstein_value(x, z, p=p) + wasserstein_value(z, y, p=p) + 1e-6


@given(clouds(3), st.floats(0.1, 10))
def test_it_moves_and_scales_as_a_length(x, c):
    shift = np.array([3.0, 0.0, 4.0])
    assert wasserstein_value(x, x + shift) == pytest.approx(5.0, abs=1e-6)
    assert wasserstein_value(c * x, c * (x + shift)) == pytest.approx(5.0 * c, rel=1e-6)


def test_w1_is_below_w2():
    x, y = gaussian_pair(200, 0)
    assert wasserstein_value(x, y, p=1) <= wasserstein_value(x, y, p=2)


def test_w2_between_gaussians():
    values = [wasserstein_value(*gaussian_pair(1000, seed), p=2) ** 2 for seed in range(4)]
    # Closed form 2.574559; the empirical value at n = 1000 has mean 2.545 and standard deviation .07.
    assert np.mean(values) == pytest.approx(2.545, abs=3 * 0.07 / 2)


@pytest.mark.parametrize(("p", "truth"), [(1, 1.166631), (2, np.sqrt(2.0))])
def test_gaussians_on_the_line(p, truth):
    quantiles = (np.arange(100_000) + 0.5) / 100_000
    x, y = stats.norm.ppf(quantiles)[:, None], stats.norm.ppf(quantiles, loc=1, scale=2)[:, None]
    assert wasserstein_value(x, y, p=p) == pytest.approx(truth, rel=1e-3)


def test_exponentials_on_the_line():
    quantiles = (np.arange(200_000) + 0.5) / 200_000
    x, y = stats.expon.ppf(quantiles)[:, None], stats.expon.ppf(quantiles, scale=0.5)[:, None]
    assert wasserstein_value(x, y, p=1) == pytest.approx(0.5, rel=1e-3)
    assert wasserstein_value(x, y, p=2) ** 2 == pytest.approx(0.5, rel=1e-2)


def test_unequal_sizes_and_weights_are_those_of_repeated_points():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(5, 3)), generator.normal(size=(4, 3))
    counts = np.array([1, 2, 3, 1, 1])
    repeated = np.repeat(x, counts, axis=0)
    value = wasserstein_value(x, y, weights_real=torch.from_numpy(counts.astype(float)))
    assert value == pytest.approx(wasserstein_value(repeated, y), rel=1e-9)
    # 5 against 4 points: not the first four of them.
    assert wasserstein_value(x, y) == pytest.approx(wasserstein_value(np.repeat(x, 4, 0), np.repeat(y, 5, 0)), rel=1e-9)


def test_float32_data_are_measured_in_float64():
    x = torch.tensor([[1e4, 0.0]], dtype=torch.float32)
    y = torch.tensor([[1e4, 1e-3]], dtype=torch.float32)
    assert wasserstein_value(x, y) == pytest.approx(float(y[0, 1]), rel=1e-12)


def test_a_solver_that_stops_early_is_an_error():
    x, y = gaussian_pair(301, 1)
    x = x[:300]
    with pytest.raises(TransportError, match="was not solved"), pytest.warns(UserWarning, match="numItermax"):
        wasserstein_value(x, y, max_iterations=10)


def test_floor_and_interval():
    x, y = gaussian_pair(800, 2)
    result = wasserstein(x, y, p=2, seed=3)
    assert result.value == pytest.approx(np.sqrt(ot.emd2([], [], ot.dist(x, y))), rel=1e-9)
    assert result.low < result.value < result.high
    assert result.low < 1.604543 < result.high
    # Floor of equal laws in the plane at n = 400: between .2 and .3 for unit variance.
    assert 0.1 < result.floor < 0.4
    assert (result.n_real, result.n_generated, result.extra["floor_size"]) == (800, 800, 400)
    again = wasserstein(x, y, p=2, seed=3)
    assert (again.low, again.floor) == (result.low, result.floor)
    assert wasserstein(x, y, p=2, seed=4).floor != result.floor


def test_the_floor_of_equal_laws_is_what_theory_says():
    generator = np.random.default_rng(0)
    floors = [wasserstein(generator.normal(size=(1000, 2)), np.zeros((1, 2)), n_bootstrap=0).floor for _ in range(6)]
    # Two halves of 500: .195 by the reference table.
    assert np.mean(floors) == pytest.approx(0.195, abs=0.02)


def test_threads_do_not_show(monkeypatch):
    x, y = gaussian_pair(300, 5)
    many = wasserstein(x, y, seed=0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = wasserstein(x, y, seed=0)
    assert (one.low, one.high, one.floor, one.value) == (many.low, many.high, many.floor, many.value)


# --- sliced ------------------------------------------------------------------------------------------------


def test_sliced_w2_between_gaussians():
    results = [sliced_wasserstein(*gaussian_pair(4000, s), n_directions=400, seed=s, n_bootstrap=0) for s in range(4)]
    assert np.mean([r.value**2 for r in results]) == pytest.approx(1.151970, abs=0.05)
    assert np.mean([r.extra["max_sliced"] ** 2 for r in results]) == pytest.approx(2.324876, abs=0.1)
    assert all(0 < r.extra["direction_error"] < 0.1 for r in results)


def test_sliced_w1_between_gaussians():
    values = [sliced_wasserstein_value(*gaussian_pair(4000, s), p=1, n_directions=400, seed=s) for s in range(4)]
    assert np.mean(values) == pytest.approx(0.921297, abs=0.04)


@given(clouds(3), clouds(3), st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_sliced_is_below_exact(x, y, p):
    assert sliced_wasserstein_value(x, y, p=p, n_directions=32) <= wasserstein_value(x, y, p=p) + 1e-6


def test_sliced_in_one_dimension_is_exact():
    x, y = gaussian_pair(50, 0)
    x, y = x[:, :1], y[:30, :1]
    assert sliced_wasserstein_value(x, y, p=1) == pytest.approx(wasserstein_value(x, y), rel=1e-9)


# --- energy distance ---------------------------------------------------------------------------------------


@given(clouds(1), clouds(1))
def test_energy_with_diagonals_is_that_of_scipy(x, y):
    root = stats.energy_distance(x[:, 0], y[:, 0])
    # Scipy's is the root of the same V-statistic.
    assert energy_value(x, y, unbiased=False) == pytest.approx(root**2, abs=1e-6)


@pytest.mark.parametrize(("mean", "scale", "truth"), [(1, 1, 0.541807), (0, 2, 0.183111), (1, 2, 0.534105)])
def test_energy_between_gaussians(mean, scale, truth):
    generator = np.random.default_rng(0)
    values = [
        energy_value(generator.normal(size=(1000, 1)), generator.normal(mean, scale, size=(1000, 1))) for _ in range(8)
    ]
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(8) + 1e-3)


def test_unbiased_estimates_average_to_zero_under_equal_laws():
    generator = np.random.default_rng(1)
    pairs = [(generator.normal(size=(60, 2)), generator.normal(size=(60, 2))) for _ in range(200)]
    for value in (energy_value, lambda x, y, unbiased: mmd_value(x, y, bandwidths=(1.0,), unbiased=unbiased)):
        unbiased = np.array([value(x, y, unbiased=True) for x, y in pairs])
        biased = np.array([value(x, y, unbiased=False) for x, y in pairs])
        assert abs(unbiased.mean()) < 4 * unbiased.std() / np.sqrt(200)
        assert biased.mean() > 4 * biased.std() / np.sqrt(200)
        assert (biased >= 0).all()


# --- maximum mean discrepancy ------------------------------------------------------------------------------


def gaussian_mmd(first, second, shift, bandwidth):
    def term(u, s):
        inner = np.eye(len(u)) + s / bandwidth**2
        return np.linalg.det(inner) ** -0.5 * np.exp(-u @ np.linalg.inv(bandwidth**2 * inner) @ u / 2)

    zero = np.zeros(len(shift))
    return term(zero, 2 * first) + term(zero, 2 * second) - 2 * term(shift, first + second)


def test_the_closed_form_of_this_test_has_the_reference_values():
    one = np.eye(1)
    assert gaussian_mmd(one, one, np.ones(1), 1.0) == pytest.approx(0.177268, abs=1e-6)
    assert gaussian_mmd(one, 4 * one, np.zeros(1), 1.0) == pytest.approx(0.094187, abs=1e-6)
    assert gaussian_mmd(FIRST, SECOND, SHIFT, 2.0) == pytest.approx(0.220629, abs=1e-6)


@pytest.mark.parametrize("bandwidth", [1.0, 2.0])
def test_mmd_between_gaussians(bandwidth):
    values = [mmd_value(*gaussian_pair(500, seed), bandwidths=(bandwidth,)) for seed in range(16)]
    truth = gaussian_mmd(FIRST, SECOND, SHIFT, bandwidth)
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / 4)


def test_bandwidths_come_from_the_real_sample_alone():
    x, y = gaussian_pair(300, 0)
    median = np.median(np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))[np.triu_indices(300, 1)])
    result = mmd(x, y, n_bootstrap=0)
    assert result.extra["bandwidths"] == pytest.approx([median / 2, median, 2 * median])
    assert mmd(x, 100 * y, n_bootstrap=0).extra["bandwidths"] == result.extra["bandwidths"]
    mean = np.mean([mmd_value(x, y, bandwidths=(s,)) for s in result.extra["bandwidths"]])
    assert result.value == pytest.approx(mean, rel=1e-9)


def test_chunks_do_not_show():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2500, 2)), generator.normal(size=(3000, 2))
    distances = [np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)) for a, b in ((x, y), (x, x), (y, y))]
    naive = 2 * distances[0].mean() - distances[1].sum() / (2500 * 2499) - distances[2].sum() / (3000 * 2999)
    assert energy_value(x, y) == pytest.approx(naive, rel=1e-9)


# --- permutation tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", [energy_distance, mmd])
def test_the_size_of_the_test_is_its_level(metric):
    generator = np.random.default_rng(0)
    p = [
        metric(
            generator.normal(size=(30, 2)), generator.normal(size=(25, 2)), seed=k, n_bootstrap=0, n_permutations=99
        ).p_value
        for k in range(200)
    ]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09


@pytest.mark.parametrize("metric", [energy_distance, mmd])
def test_different_laws_are_found_out(metric):
    x, y = gaussian_pair(60, 0)
    assert metric(x, y, n_bootstrap=0, n_permutations=199).p_value == pytest.approx(1 / 200)


# --- what it says at the door ------------------------------------------------------------------------------

GOOD = np.zeros((3, 2))


@pytest.mark.parametrize("metric", [wasserstein, sliced_wasserstein, energy_distance, mmd])
@pytest.mark.parametrize(
    ("real", "generated", "more", "message"),
    [
        (GOOD, np.zeros((3, 3)), {}, "same number of features"),
        (np.zeros((0, 2)), GOOD, {}, "at least one row"),
        (np.zeros((2, 2, 2)), GOOD, {}, r"shape \(n, d\)"),
        (np.array([[np.nan, 0.0], [0.0, 0.0]]), GOOD, {}, "NaN or infinity in 1 of 2 rows"),
        (GOOD, GOOD, {"weights_real": torch.ones(2)}, r"weights_real must have shape \(3,\)"),
        (GOOD, GOOD, {"weights_generated": torch.tensor([1.0, -1.0, 1.0])}, "non-negative"),
        (GOOD, GOOD, {"weights_real": torch.zeros(3)}, "not all zero"),
    ],
)
def test_unfit_samples(metric, real, generated, more, message):
    with pytest.raises(ValueError, match=message):
        metric(real, generated, **more)


def test_other_sentences():
    with pytest.raises(ValueError, match="refused above 5000: subsample them, use sliced_wasserstein"):
        wasserstein(np.zeros((5001, 2)), GOOD)
    with pytest.raises(ValueError, match="n_directions must be at least 1"):
        sliced_wasserstein(GOOD, GOOD, n_directions=0)
    with pytest.raises(ValueError, match="median distance is zero; give bandwidths"):
        mmd(GOOD, GOOD)
    with pytest.raises(ValueError, match="at least two real points"):
        mmd(GOOD[:1], GOOD)
