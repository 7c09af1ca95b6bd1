"""Exact transport against closed forms, other implementations, and the properties that make it a distance."""

import numpy as np
import ot
import pytest
import torch
from gaussian_pair import FIRST, SECOND, SHIFT, gaussian_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gendyn.coupling import TransportError
from gendyn.evaluation import debiased_wasserstein, gaussian_frechet, wasserstein, wasserstein_value


def clouds(dim, most=12):
    size = st.integers(2, most)
    numbers = st.floats(-100, 100, width=32)
    return size.flatmap(lambda n: arrays(np.float64, (n, dim), elements=numbers))


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
    one, again, other = (wasserstein(x[:100], y[:100], p=2, seed=seed) for seed in (3, 3, 4))
    assert (again.low, again.floor) == (one.low, one.floor)
    assert other.floor != one.floor


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


# --- what theory says ----------------------------------------------------------------------------------------


@given(clouds(3), clouds(3), st.integers(0, 2**31), st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_turning_both_samples_changes_nothing(x, y, seed, p):
    turn = stats.ortho_group.rvs(3, random_state=seed)
    assert wasserstein_value(x @ turn, y @ turn, p=p) == pytest.approx(wasserstein_value(x, y, p=p), abs=1e-5)


def test_the_closed_form_between_gaussians():
    assert gaussian_frechet(np.zeros(2), FIRST, SHIFT, SECOND) == pytest.approx(2.574559, abs=1e-6)
    assert np.sqrt(2.574559) == pytest.approx(1.604543, abs=1e-6)


# The distance of two independent samples of N(0, I) by dimension and size, (W2, W1).
FLOORS = {
    (2, 500): (0.249, 0.195),
    (2, 1000): (0.198, 0.159),
    (5, 500): (1.015, 0.940),
    (5, 1000): (0.880, 0.814),
    (10, 500): (2.22, 2.16),
    (10, 1000): (2.05, 1.99),
    (50, 500): (7.78, None),
    (50, 1000): (7.60, None),
}


@pytest.mark.parametrize(("dim", "size"), FLOORS)
def test_floors_of_equal_laws(dim, size):
    generator = np.random.default_rng(dim * size)
    pairs = [(generator.normal(size=(size, dim)), generator.normal(size=(size, dim))) for _ in range(3)]
    for p, reference in zip((2, 1), FLOORS[dim, size], strict=True):
        if reference is not None:
            mean = np.mean([wasserstein_value(x, y, p=p) for x, y in pairs])
            assert mean == pytest.approx(reference, rel=0.25 if dim == 2 else 0.03)


def test_the_bias_is_gone_where_laws_are_equal():
    generator = np.random.default_rng(0)
    values = [
        debiased_wasserstein(generator.normal(size=(120, 10)), generator.normal(size=(100, 10)), n_bootstrap=0)
        for _ in range(40)
    ]
    found = np.array([v.value for v in values])
    # Raw, W2^2 is about 8 here.
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(40)
    assert found.min() < 0 < found.max()
    assert values[0].extra == {"p": 2, "root": False, "half": 50, "floor_size": 60}


def test_the_debiased_value_is_the_truth_where_laws_differ():
    values = [debiased_wasserstein(*gaussian_pair(600, seed), n_bootstrap=0).value for seed in range(6)]
    assert np.mean(values) == pytest.approx(2.574559, abs=4 * np.std(values) / np.sqrt(6))


def test_on_the_line_there_is_no_limit_of_size():
    x = np.linspace(0, 1, 20_000)
    assert wasserstein(x, x + 2, n_bootstrap=0).value == pytest.approx(2.0, abs=1e-9)


def test_what_does_not_fit():
    good = np.zeros((9, 2))
    with pytest.raises(ValueError, match="refused above 5000: subsample them, use sliced_wasserstein"):
        wasserstein(np.zeros((5001, 2)), good)
    with pytest.raises(ValueError, match="at least 8 points a side to halve; got 9 and 7"):
        debiased_wasserstein(good, good[:7])
    weights = np.zeros(9)
    weights[0] = 1.0
    with pytest.raises(ValueError, match="one half carries no weight"):
        debiased_wasserstein(good, good, weights_real=weights)
