"""The door of the metrics between sets of paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gendyn import Paths
from gendyn.evaluation.path_set import drop_constant, path_sets, rescale

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4, 2))


def test_arrays_take_the_times_of_the_other_side() -> None:
    paths = Paths([0.0, 0.5, 2.0, 3.0], X)
    one, two = path_sets(paths, X + 1, metric="m")
    assert two.times.tolist() == one.times.tolist() == [0.0, 0.5, 2.0, 3.0]
    for pair in ((paths, X + 1), (X + 1, paths)):
        one, two = path_sets(*pair, metric="m", needs="any")
        assert two.times.tolist() == one.times.tolist() == [0.0, 0.5, 2.0, 3.0]
    shorter, _ = path_sets(X[:, :3], paths, metric="m", needs="any")
    assert shorter.times.tolist() == [0.0, 1.0, 2.0]


def test_types_that_numpy_does_not_know_and_complex_numbers() -> None:
    exact = torch.tensor(X).bfloat16()
    one, _ = path_sets(exact.requires_grad_(), X, metric="m")
    np.testing.assert_array_equal(one.values, exact.detach().double().numpy())
    with pytest.raises(TypeError, match="generated paths must be an array of real numbers; got complex ones"):
        path_sets(X, torch.tensor(X) + 1j, metric="m")


def test_what_is_not_observed_is_nan_and_masked() -> None:
    mask = np.ones(X.shape, dtype=bool)
    mask[0, 1, 0] = False
    one, two = path_sets(Paths(range(4), X, mask=mask), X, metric="m", needs="shared")
    assert np.isnan(one.values[0, 1, 0])
    assert one.mask is not None
    assert not one.observed[0, 1, 0]
    assert two.mask is None
    assert two.observed.all()


def test_a_mask_that_hides_nothing_is_no_mask() -> None:
    one, _ = path_sets(Paths(range(4), X, mask=np.ones(X.shape, dtype=bool)), X, metric="m")
    assert one.mask is None


def test_unequal_lengths_are_gaps() -> None:
    times = np.array([[0.0, 1.0, 2.0, 2.0], [0.0, 1.0, 3.0, 4.0]])
    one, _ = path_sets(Paths(times, X[:2], lengths=[3, 4]), X, metric="m", needs="any")
    assert one.observed[0, :, 0].tolist() == [True, True, True, False]


def test_integers_float32_and_strided_input() -> None:
    one, two = path_sets(np.arange(24).reshape(2, 4, 3)[:, ::2], torch.zeros(2, 2, 3), metric="m")
    assert one.values.dtype == two.values.dtype == np.float64
    assert one.values[0, 1].tolist() == [6.0, 7.0, 8.0]


def test_broken_generated_paths_can_be_counted_but_real_ones_cannot() -> None:
    broken = X.copy()
    broken[2, 1, 1] = np.nan
    _, two = path_sets(X, broken, metric="m", on_nan="count")
    assert (len(two), two.dropped) == (5, 1)
    with pytest.raises(ValueError, match="real paths must be finite; got NaN or infinity in 1 of 6"):
        path_sets(broken, X, metric="m", on_nan="count")
    with pytest.raises(ValueError, match="generated paths must be finite.*on_nan='count'"):
        path_sets(X, broken, metric="m")
    with pytest.raises(ValueError, match="in 6 of 6 paths"):
        path_sets(X, np.full_like(X, np.nan), metric="m", on_nan="count")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((X, X[:, :, :1]), {}, "same number of channels; got"),
        ((X, X[:, :3]), {}, "m needs real and generated paths at the same times; got 4 and 3 times"),
        ((Paths(range(4), X), Paths([0, 1, 2, 5], X)), {}, "got 3 and 5 at position 3"),
        ((X[:1], X), {}, "m needs at least 2 real paths; got 1"),
        ((X, X), {"minimum_times": 9}, "m needs at least 9 times; the real paths have 4"),
        ((X[0, 0], X), {}, "needs real paths"),
        ((X, X), {"on_nan": "ignore"}, "on_nan must be 'raise' or 'count'; got 'ignore'"),
    ],
)
def test_what_does_not_fit_is_said(arguments: tuple, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        path_sets(*arguments, metric="m", **options)


def test_gaps_and_own_times_are_refused_where_they_mean_nothing() -> None:
    mask = RNG.random(X.shape) < 0.5
    with pytest.raises(ValueError, match="m needs complete paths; of the real paths"):
        path_sets(Paths(range(4), X, mask=mask), X, metric="m")
    own = Paths(np.arange(24.0).reshape(6, 4), X)
    with pytest.raises(ValueError, match="no meaning for times of each path's own; the generated paths"):
        path_sets(X, own, metric="m", needs="shared")
    hidden = np.ones(X.shape, dtype=bool)
    hidden[..., 1] = False
    with pytest.raises(ValueError, match="channel 'x1' of the real paths was never observed"):
        path_sets(Paths(range(4), X, mask=hidden), X, metric="m", needs="shared")


def test_constant_channels() -> None:
    flat = X * [1.0, 0.0]
    with pytest.warns(UserWarning, match="m leaves out channel 'x1'"):
        one, two = drop_constant(*path_sets(flat, X, metric="m"), "m")
    assert one.dim == two.dim == 1
    with pytest.raises(ValueError, match="all real channels"):
        drop_constant(*path_sets(flat * 0, X, metric="m"), "m")


def test_scale_comes_from_real_paths_only() -> None:
    pair = path_sets(X, 5 * X + 3, metric="m")
    one, two = rescale(*pair, "real-std")
    np.testing.assert_allclose(one.values.reshape(-1, 2).std(0), 1.0)
    np.testing.assert_allclose(
        (two.values.reshape(-1, 2) * X.reshape(-1, 2).std(0)).std(0), 5 * X.reshape(-1, 2).std(0)
    )
    assert rescale(*pair, None) == pair
    other = rescale(*pair, "minmax", train=10 * X)[0].values
    np.testing.assert_allclose(np.ptp(other.reshape(-1, 2), axis=0), 0.1)
    np.testing.assert_allclose(rescale(*pair, (1.0, [2.0, 4.0]))[0].values, (X - 1) / [2.0, 4.0])
    with pytest.raises(ValueError, match="scale must be 'real-std'"):
        rescale(*pair, "sd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive for every channel; got 0"):
        rescale(*pair, (0.0, 0.0))


@given(arrays(np.float64, (5, 3, 2), elements=st.floats(-1e6, 1e6)), st.integers(0, 2**31))
def test_halves_are_disjoint_and_resamples_are_drawn(values: np.ndarray, seed: int) -> None:
    values[:, 0, 0] = np.arange(5)  # so that paths can be told apart
    one, _ = path_sets(values, values, metric="m")
    halves = one.halves(np.random.default_rng(seed))
    assert halves is not None
    first, second = (set(half.values[:, 0, 0]) for half in halves)
    assert len(first) == len(second) == 2
    assert not first & second
    again = one.resample(np.random.default_rng(seed), 7)
    assert len(again) == 7
    assert set(again.values[:, 0, 0]) <= set(range(5))


def test_too_few_paths_have_no_halves() -> None:
    one, _ = path_sets(X[:3], X, metric="m")
    assert one.halves(np.random.default_rng(0)) is None
