"""Kernel distances and their tests against closed forms and other implementations."""

import numpy as np
import pytest
from gaussian_pair import FIRST, SECOND, SHIFT, gaussian_pair
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gendyn.evaluation import energy_distance, energy_value, kernels, mmd, mmd_value, permutation_test
from gendyn.evaluation.pooled import discrepancy, pooled_rows


def clouds(dim, most=12):
    size = st.integers(2, most)
    return size.flatmap(lambda n: arrays(np.float64, (n, dim), elements=st.floats(-100, 100, width=32)))


@given(clouds(1), clouds(1))
def test_energy_with_diagonals_is_that_of_scipy(x, y):
    root = stats.energy_distance(x[:, 0], y[:, 0])
    # Scipy's is the root of the same V-statistic.
    assert energy_value(x, y, unbiased=False) == pytest.approx(root**2, abs=1e-6)


# Of N(0, 1) from N(mean, scale^2).
ENERGIES = [(1, 1, 0.541807), (0, 2, 0.183111), (1, 2, 0.534105)]


@pytest.mark.parametrize(("mean", "scale", "truth"), ENERGIES)
def test_energy_between_gaussians(mean, scale, truth):
    def mean_distance(m, s):
        return stats.foldnorm.mean(abs(m) / s, scale=s)

    exact = 2 * mean_distance(mean, np.hypot(1, scale)) - mean_distance(0, np.sqrt(2)) * (1 + scale)
    assert exact == pytest.approx(truth, abs=1e-6)
    u = (np.arange(3000) + 0.5) / 3000
    x, y = stats.norm.ppf(u)[:, None], stats.norm.ppf(u, mean, scale)[:, None]
    assert energy_value(x, y, unbiased=False) == pytest.approx(truth, abs=1e-3)
    generator = np.random.default_rng(0)
    values = [
        energy_value(generator.normal(size=(1000, 1)), generator.normal(mean, scale, size=(1000, 1))) for _ in range(8)
    ]
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(8))


def test_unbiased_estimates_average_to_zero_under_equal_laws():
    generator = np.random.default_rng(1)
    pairs = [(generator.normal(size=(60, 2)), generator.normal(size=(60, 2))) for _ in range(200)]
    for value in (energy_value, lambda x, y, unbiased: mmd_value(x, y, bandwidths=(1.0,), unbiased=unbiased)):
        unbiased = np.array([value(x, y, unbiased=True) for x, y in pairs])
        biased = np.array([value(x, y, unbiased=False) for x, y in pairs])
        assert abs(unbiased.mean()) < 4 * unbiased.std() / np.sqrt(200)
        assert biased.mean() > 4 * biased.std() / np.sqrt(200)
        assert (biased >= 0).all()


def gaussian_mmd(first, second, shift, bandwidth):
    def term(u, s):
        inner = np.eye(len(u)) + s / bandwidth**2
        return np.linalg.det(inner) ** -0.5 * np.exp(-u @ np.linalg.inv(bandwidth**2 * inner) @ u / 2)

    zero = np.zeros(len(shift))
    return term(zero, 2 * first) + term(zero, 2 * second) - 2 * term(shift, first + second)


def shift_in(dim):
    return np.eye(dim)[0]


CLOSED = [
    (np.eye(1), np.eye(1), shift_in(1), 1.0, 0.177268),
    (np.eye(1), 4 * np.eye(1), 0 * shift_in(1), 1.0, 0.094187),
    (np.eye(2), np.eye(2), shift_in(2), 1.0, 0.102346),
    (np.eye(2), 4 * np.eye(2), 0 * shift_in(2), 1.0, 0.111111),
    (np.eye(5), np.eye(5), shift_in(5), np.sqrt(5), 0.059452),
    (np.eye(5), 4 * np.eye(5), 0 * shift_in(5), np.sqrt(5), 0.169389),
    (FIRST, SECOND, SHIFT, 1.0, 0.227437),
    (FIRST, SECOND, SHIFT, 2.0, 0.220629),
]


@pytest.mark.parametrize(("first", "second", "shift", "bandwidth", "truth"), CLOSED)
def test_mmd_is_the_closed_form(first, second, shift, bandwidth, truth):
    assert gaussian_mmd(first, second, shift, bandwidth) == pytest.approx(truth, abs=1e-6)
    generator = np.random.default_rng(0)
    dim = len(shift)
    values = [
        mmd_value(
            generator.multivariate_normal(np.zeros(dim), first, 400),
            generator.multivariate_normal(shift, second, 400),
            bandwidths=(bandwidth,),
        )
        for _ in range(12)
    ]
    assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(12))


def test_both_estimators_at_five_hundred_points():
    pairs = [gaussian_pair(500, seed) for seed in range(24)]
    for unbiased, mean in ((False, 0.2296), (True, 0.2270)):
        values = [mmd_value(x, y, bandwidths=(1.0,), unbiased=unbiased) for x, y in pairs]
        assert np.mean(values) == pytest.approx(mean, abs=4 * 0.016 / np.sqrt(24))
        assert np.std(values) == pytest.approx(0.016, rel=0.5)


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


def test_one_matrix_says_what_the_blocks_say(monkeypatch):
    x, y = gaussian_pair(90, 0)
    y = y[:70]
    weights = np.random.default_rng(0).random(90)
    for metric in (energy_distance, mmd):
        for unbiased in (True, False):
            results = []
            for most in (8000, 10):
                monkeypatch.setattr(kernels, "_LARGEST_GRAM", most)
                results.append(metric(x, y, weights_real=weights, unbiased=unbiased, n_bootstrap=20))
            one, two = results
            assert one.value == pytest.approx(two.value, rel=1e-9)
            assert one.floor == pytest.approx(two.floor, rel=1e-9)
            assert one.high - one.low == pytest.approx(two.high - two.low, rel=0.5)


def test_a_test_of_many_points_takes_some(monkeypatch):
    x, y = gaussian_pair(120, 0)
    monkeypatch.setattr(kernels, "_LARGEST_GRAM", 60)
    result = energy_distance(x, y[:25], n_bootstrap=0, n_permutations=99)
    assert result.p_value == pytest.approx(0.01)
    assert result.extra["permutation"] == {"permutations": 99, "real": 30, "generated": 25}


def test_permutations_are_those_of_a_plain_loop():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(17, 2))
    gram = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1))
    gram += np.diag(generator.random(17))  # the diagonal must not matter
    test = permutation_test(gram, 7, n_permutations=50, seed=3)

    def statistic(order):
        k = gram[np.ix_(order, order)]
        x, y = k[:7, :7], k[7:, 7:]
        within = [(side.sum() - np.trace(side)) / (len(side) * (len(side) - 1)) for side in (x, y)]
        return sum(within) - 2 * k[:7, 7:].mean()

    assert test.statistic == pytest.approx(statistic(np.arange(17)), rel=1e-12)
    sides = pooled_rows(np.full(7, 1 / 7), np.full(10, 1 / 10))
    assert test.statistic == pytest.approx(discrepancy(gram, *sides), rel=1e-12)
    loop = [statistic(generator.permutation(17)) for _ in range(4000)]
    assert stats.ks_2samp(test.null, loop).pvalue > 1e-3
    assert test.p_value == (1 + (test.null >= test.statistic).sum()) / 51


def test_blocks_of_permutations_do_not_show(monkeypatch):
    import gendyn.evaluation.permutation as permutation

    x = np.random.default_rng(0).normal(size=30)
    gram = -np.abs(x[:, None] - x)
    whole = permutation_test(gram, 12, n_permutations=40)
    monkeypatch.setattr(permutation, "_BLOCK", 100)
    np.testing.assert_allclose(permutation_test(gram, 12, n_permutations=40).null, whole.null, rtol=1e-9, atol=1e-12)


def test_ties_count_against_a_difference():
    assert permutation_test(np.ones((10, 10)), 5, n_permutations=20).p_value == 1.0


@pytest.mark.parametrize(
    ("gram", "n", "more", "words"),
    [
        (np.zeros((4, 3)), 2, {}, r"square kernel matrix of the pooled sample; got shape \(4, 3\)"),
        (np.zeros((4, 4)), 1, {}, "at least two rows a side; got 1 real and 3 others"),
        (np.full((4, 4), np.nan), 2, {}, "gram must be finite"),
        (np.triu(np.ones((4, 4))), 2, {}, "gram must be symmetric"),
        (np.zeros((4, 4)), 2, {"n_permutations": 0}, "n_permutations must be at least 1; got 0"),
    ],
)
def test_what_a_test_cannot_take(gram, n, more, words):
    with pytest.raises(ValueError, match=words):
        permutation_test(gram, n, **more)


def test_what_kernels_cannot_take():
    good = np.zeros((3, 2))
    with pytest.raises(ValueError, match="median distance is zero; give bandwidths"):
        mmd(good, good)
    with pytest.raises(ValueError, match="at least two real points"):
        mmd(good[:1], good)
    with pytest.raises(ValueError, match=r"positive numbers; got \(1.0, -1.0\)"):
        mmd(good, good, bandwidths=(1.0, -1.0))
    with pytest.raises(ValueError, match="no meaning for weighted points; draw points by their weights"):
        energy_distance(good, good, weights_real=np.array([1.0, 2.0, 3.0]), n_permutations=9)
