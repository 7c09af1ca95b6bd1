"""Sliced distances and transport on the line against closed forms and other implementations."""

import numpy as np
import ot
import pytest
from gaussian_pair import FIRST, SECOND, SHIFT, gaussian_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gendyn import Paths
from gendyn.evaluation import (
    marginal_wasserstein,
    max_sliced_wasserstein,
    sliced_wasserstein,
    sliced_wasserstein_value,
    wasserstein_value,
)
from gendyn.evaluation.line_transport import line_powers
from gendyn.evaluation.sliced import _directions


def clouds(dim, most=12):
    size = st.integers(2, most)
    return size.flatmap(lambda n: arrays(np.float64, (n, dim), elements=st.floats(-100, 100, width=32)))


# --- on the line ---------------------------------------------------------------------------------------------


@given(clouds(1), clouds(1), st.sampled_from([1, 2]))
def test_the_line_is_that_of_pot(x, y, p):
    ours = line_powers(x.T, y.T, p=p)[0]
    assert ours == pytest.approx(ot.wasserstein_1d(x[:, 0], y[:, 0], p=p), rel=1e-9, abs=1e-9)


@given(clouds(1), st.integers(0, 2**31))
def test_weights_on_the_line_are_repeated_points(x, seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 4, len(x))
    y = generator.normal(size=(1, 5))
    weighted = line_powers(x.T, y, counts / counts.sum(), p=2)
    assert weighted == pytest.approx(line_powers(np.repeat(x, counts)[None], y, p=2), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("mean", "scale", "w1", "w2_squared"), [(1, 2, 1.166631, 2.0)])
def test_gaussians_by_their_quantiles(mean, scale, w1, w2_squared):
    u = (np.arange(400_000) + 0.5) / 400_000
    x, y = stats.norm.ppf(u)[None], stats.norm.ppf(u, mean, scale)[None]
    assert line_powers(x, y, p=1)[0] == pytest.approx(w1, abs=1e-5)
    assert line_powers(x, y, p=2)[0] == pytest.approx(w2_squared, abs=1e-4)
    exact = stats.foldnorm.mean(mean / abs(scale - 1), scale=abs(scale - 1))
    assert exact == pytest.approx(w1, abs=1e-6)


# --- slices --------------------------------------------------------------------------------------------------


def gaussian_slices(directions):
    """Mean difference and difference of standard deviations of the pair along directions ``(L, 2)``."""
    spread = [np.sqrt(np.einsum("li,ij,lj->l", directions, s, directions)) for s in (FIRST, SECOND)]
    return directions @ SHIFT, spread[1] - spread[0]


def test_the_grid_of_angles_has_the_reference_values():
    shift, spread = gaussian_slices(_directions(256, 2, 0))
    assert np.mean(shift**2 + spread**2) == pytest.approx(1.151970, abs=1e-6)
    assert np.mean(stats.foldnorm.mean(abs(shift / spread), scale=abs(spread))) == pytest.approx(0.921297, abs=1e-6)
    fine = gaussian_slices(_directions(100_000, 2, 0))
    assert np.max(fine[0] ** 2 + fine[1] ** 2) == pytest.approx(2.324876, abs=1e-6)


def test_slices_between_gaussians():
    pairs = [gaussian_pair(1500, s) for s in range(8)]
    for value, truth in (
        (lambda x, y: sliced_wasserstein(x, y, n_bootstrap=0).value ** 2, 1.151970),
        (lambda x, y: sliced_wasserstein_value(x, y, p=1), 0.921297),
        (lambda x, y: max_sliced_wasserstein(x, y, n_bootstrap=0).value ** 2, 2.324876),
    ):
        values = [value(x, y) for x, y in pairs]
        assert np.mean(values) == pytest.approx(truth, abs=4 * np.std(values) / np.sqrt(8))


def test_directions_are_units_and_depend_on_the_seed_in_space_only():
    for dim in (1, 2, 5):
        np.testing.assert_allclose(np.linalg.norm(_directions(50, dim, 0), axis=1), 1.0)
    assert len(_directions(50, 1, 0)) == 1
    assert (_directions(50, 2, 0) == _directions(50, 2, 1)).all()
    assert (_directions(50, 3, 0) != _directions(50, 3, 1)).any()


def test_the_error_of_directions_is_what_other_directions_show():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(300, 8)), generator.normal(size=(300, 8)) * np.linspace(1, 3, 8)
    results = [sliced_wasserstein(x, y, seed=s, n_bootstrap=0) for s in range(40)]
    observed = np.std([r.value for r in results])
    assert np.mean([r.extra["direction_error"] for r in results]) == pytest.approx(observed, rel=0.35)
    assert sliced_wasserstein(x[:, :2], y[:, :2], n_bootstrap=0).extra["direction_error"] < 1e-3


def test_slices_agree_with_pot():
    generator = np.random.default_rng(0)
    for m in (60, 45):
        x, y = generator.normal(size=(60, 5)), generator.normal(size=(m, 5))
        directions = _directions(64, 5, 3)
        theirs = ot.sliced_wasserstein_distance(x, y, projections=directions.T, p=2)
        assert sliced_wasserstein_value(x, y, n_directions=64, seed=3) == pytest.approx(theirs, rel=1e-9)
        most = ot.max_sliced_wasserstein_distance(x, y, projections=directions.T, p=2)
        result = max_sliced_wasserstein(x, y, n_directions=64, seed=3, n_bootstrap=0)
        assert result.value == pytest.approx(most, rel=1e-9)
        assert result.value == sliced_wasserstein(x, y, n_directions=64, seed=3, n_bootstrap=0).extra["max_sliced"]
        along = np.array(result.extra["direction"])
        assert wasserstein_value(x @ along, y @ along, p=2) == pytest.approx(result.value, rel=1e-9)


@given(clouds(3), clouds(3), st.sampled_from([1, 2]))
@settings(max_examples=30)
def test_sliced_is_below_max_sliced_is_below_exact(x, y, p):
    sliced = sliced_wasserstein_value(x, y, p=p, n_directions=32)
    most = max_sliced_wasserstein(x, y, p=p, n_directions=32, n_bootstrap=0).value
    assert sliced <= most + 1e-9
    assert most <= wasserstein_value(x, y, p=p) + 1e-6


def test_sliced_in_one_dimension_is_exact():
    x, y = gaussian_pair(50, 0)
    x, y = x[:, :1], y[:30, :1]
    assert sliced_wasserstein_value(x, y, p=1) == pytest.approx(wasserstein_value(x, y), rel=1e-9)


def test_there_must_be_a_direction():
    with pytest.raises(ValueError, match="n_directions must be at least 1; got 0"):
        sliced_wasserstein(np.zeros((3, 2)), np.zeros((3, 2)), n_directions=0)


# --- marginals of paths --------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 5, 3)), RNG.normal(1, 2, size=(30, 5, 3))


@pytest.mark.parametrize("p", [1, 2])
def test_the_mean_of_marginals_is_that_of_pot(p):
    table = np.array([[ot.wasserstein_1d(X[:, t, k], Y[:, t, k], p=p) ** (1 / p) for k in range(3)] for t in range(5)])
    result = marginal_wasserstein(X, Y, p=p, scale=None)
    assert result.value == pytest.approx(table.mean(), rel=1e-9)
    assert result.extra["by_time"] == pytest.approx(table.mean(1))
    assert list(result.extra["by_channel"].values()) == pytest.approx(table.mean(0))
    assert result.low < result.value < result.high
    assert result.extra["floor_size"] == 20


def test_what_was_not_observed_is_left_out():
    mask = RNG.random(X.shape) < 0.6
    mask[:, 0, 0] = False
    result = marginal_wasserstein(Paths(range(5), X, mask=mask), Y, scale=None)
    table = np.full((5, 3), np.nan)
    for t in range(5):
        for k in range(3):
            if mask[:, t, k].any():
                table[t, k] = stats.wasserstein_distance(X[mask[:, t, k], t, k], Y[:, t, k])
    assert result.value == pytest.approx(np.nanmean(table), rel=1e-9)
    assert result.extra["skipped"] == 1
    whole = Paths(range(5), X, mask=np.ones(X.shape, dtype=bool))
    assert marginal_wasserstein(whole, Y).value == marginal_wasserstein(X, Y).value


def test_marginals_are_in_units_of_the_real_channels():
    units = np.array([1.0, 100.0, 0.01])
    one, two = marginal_wasserstein(X, Y), marginal_wasserstein(X * units, Y * units)
    assert one.value == pytest.approx(two.value, rel=1e-9)
    flat = X * [1.0, 1.0, 0.0]
    with pytest.warns(UserWarning, match="marginal W1 leaves out channel 'x2'"):
        assert list(marginal_wasserstein(flat, Y).extra["by_channel"]) == ["x0", "x1"]
    # In the data's own units a constant is a law like any other.
    assert marginal_wasserstein(flat, flat + 1.0, scale=None).value == pytest.approx(1.0)


def test_marginals_that_never_meet():
    left, right = (np.zeros(X[:4].shape, dtype=bool) for _ in range(2))
    left[:, :2], right[:, 2:] = True, True
    sides = [Paths(range(5), X[:4], mask=mask) for mask in (left, right)]
    with pytest.raises(ValueError, match="no time and channel was observed in both"):
        marginal_wasserstein(*sides)
