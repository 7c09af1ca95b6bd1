"""The door of the metrics of the long run: one trajectory is a sample of points in time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gendyn import Paths
from gendyn.evaluation.trajectory import compare, trajectories

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 2))


def test_arrays_are_lifted_to_one_trajectory():
    for source, shape in (
        (X[:, 0], (1, 50, 1)),
        (X, (1, 50, 2)),
        (X[None], (1, 50, 2)),
        (torch.from_numpy(X), (1, 50, 2)),
    ):
        one, two = trajectories(source, source, metric="m")
        assert one.values.shape == two.values.shape == shape
        assert len(one) == 50
        assert one.single


def test_several_trajectories_are_rows_of_their_own():
    one, _ = trajectories(RNG.normal(size=(6, 9, 2)), X, metric="m")
    assert len(one) == 6
    first, second = one.halves(np.random.default_rng(0))
    assert len(first) == len(second) == 3
    assert first.n_times == 9


def test_one_trajectory_is_halved_in_time():
    one, _ = trajectories(np.arange(11.0), X[:, 0], metric="m")
    first, second = one.halves(np.random.default_rng(0))
    assert first.values[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert second.values[0, :, 0].tolist() == [6, 7, 8, 9, 10]
    assert first.times.tolist() == [0, 1, 2, 3, 4]
    assert trajectories(np.arange(3.0), X[:, 0], metric="m")[0].halves(np.random.default_rng(0)) is None


@given(st.integers(2, 400), st.integers(0, 100))
def test_resamples_are_made_of_whole_blocks(n, seed):
    one, _ = trajectories(np.arange(float(n)), X[:, 0], metric="m")
    again = one.resample(np.random.default_rng(seed), n).values[0, :, 0]
    block = int(np.ceil(n ** (2 / 3)))
    assert len(again) == n
    jumps = np.flatnonzero(np.diff(again) != 1) + 1
    assert (jumps % block == 0).all()
    assert set(again) <= set(range(n))


def test_states_need_no_order_and_no_completeness():
    mask = np.ones((1, 50, 2), dtype=bool)
    mask[0, 3, 1] = False
    paths = Paths(np.sort(RNG.random(50)), X[None], mask=mask)
    one, _ = trajectories(paths, X, metric="m")
    np.testing.assert_array_equal(one.states, np.delete(X, 3, axis=0))


def test_float32_clocks_are_even():
    times = (torch.arange(5000) * 0.01).float()
    one, two = trajectories(Paths(times, torch.zeros(1, 5000, 1)), np.zeros(50), metric="m", even=True)
    assert one.time_step == pytest.approx(0.01, rel=1e-6)
    assert two.time_step == pytest.approx(0.01, rel=1e-6)


def test_paths_that_ended_have_even_times():
    times = np.array([[0.0, 0.5, 1.0, 1.0], [0.0, 0.5, 1.0, 1.5]])
    one, _ = trajectories(Paths(times, np.zeros((2, 4, 1)), lengths=[3, 4]), np.zeros(9), metric="m", even=True)
    assert one.time_step == 0.5


@pytest.mark.parametrize(
    ("real", "generated", "options", "words"),
    [
        (X, X[:, :1], {}, "same number of channels"),
        (X[:1], X, {}, "m needs at least 2 times; the real paths have 1"),
        (X, np.full_like(X, np.nan), {}, "generated paths must be finite"),
        (X, np.full_like(X, np.nan), {"on_nan": "count"}, "NaN or infinity in 1 of 1 paths"),
        (
            Paths([0.0, 1.0, 3.0, 4.0], np.zeros((1, 4, 2))),
            X,
            {"even": True},
            "evenly spaced times.*step of 2 at position 2",
        ),
        (
            Paths([0.0, 1.0, 2.0], np.zeros((1, 3, 2))),
            Paths([0.0, 2.0, 4.0], np.zeros((1, 3, 2))),
            {"even": True},
            "same time step; got 1 and 2",
        ),
    ],
)
def test_sentences(real, generated, options, words):
    with pytest.raises(ValueError, match=words):
        trajectories(real, generated, metric="m", **options)


def test_a_reference_makes_the_floor_and_an_infinite_value_has_no_interval():
    one, two = trajectories(X, X + 1, metric="m")
    third = trajectories(X, X[:20] + 5, metric="m")[1]
    gap = compare(
        "gap",
        lambda x, y: float(abs(x.states.mean() - y.states.mean())),
        one,
        two,
        reference=third,
        seed=0,
        n_bootstrap=5,
    )
    assert gap.floor == pytest.approx(abs(X.mean() - X[:20].mean() - 5))
    assert (gap.extra["floor_size"], gap.extra["floor_times"]) == (20, 20)
    assert gap.low < gap.value < gap.high
    infinite = compare("gap", lambda x, y: np.inf, one, two, reference=None, seed=0, n_bootstrap=5)
    assert (infinite.value, infinite.low, infinite.high) == (np.inf, None, None)
