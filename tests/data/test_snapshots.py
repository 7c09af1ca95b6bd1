"""Snapshots: what they hold, how they are cut and joined, and what they refuse."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gendyn.data import Snapshots


def made(sizes=(3, 4, 5), dim=2, *, dtype=torch.float32, weighted=True, labelled=True):
    generator = torch.Generator().manual_seed(0)
    samples = [torch.randn(n, dim, generator=generator, dtype=dtype) for n in sizes]
    weights = [torch.rand(n, generator=generator, dtype=dtype) + 0.1 for n in sizes] if weighted else None
    obs = (
        [pd.DataFrame({"kind": [f"k{i % 2}" for i in range(n)], "row": range(n)}) for n in sizes] if labelled else None
    )
    return Snapshots([0.0, 2.0, 10.0][: len(sizes)], samples, weights, obs, [f"g{i}" for i in range(dim)])


def test_what_it_holds():
    data = made()
    assert data.times.tolist() == [0.0, 2.0, 10.0]
    assert data.times.dtype == torch.float64
    assert (data.dim, data.n_times, len(data), data.sizes) == (2, 3, 3, (3, 4, 5))
    assert data.names == ("g0", "g1")
    assert data.dtype == torch.float32
    assert data.device.type == "cpu"
    assert repr(data) == "Snapshots(3 times from 0 to 10, 3 to 5 rows each, 2 features)"
    assert repr(data.at(2.0)) == "Snapshots(time 2, 4 rows each, 2 features)"


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones((2, 2)), torch.float64),
        (np.ones((2, 2), dtype=np.float32), torch.float32),
        (np.ones((2, 2), dtype=np.float16), torch.float32),
        (np.ones((2, 2), dtype=">f8"), torch.float64),
        (np.ones((2, 2), dtype=np.int64), torch.float32),
        (np.ones((2, 2), dtype=np.uint16), torch.float32),
        (np.ones((2, 2), dtype=bool), torch.float32),
        (torch.ones(2, 2, dtype=torch.bfloat16), torch.float32),
        (torch.ones(2, 2, requires_grad=True), torch.float32),
        ([[1.0, 1.0], [1.0, 1.0]], torch.float64),
        (pd.DataFrame(np.ones((2, 2), dtype=np.float32)), torch.float32),
        (np.asfortranarray(np.ones((2, 2))), torch.float64),
        (np.ones((4, 4))[::2, ::-2], torch.float64),
    ],
)
def test_float64_is_kept_and_all_else_float32(array, dtype):
    data = Snapshots([0.0], [array])
    assert data.dtype == dtype
    assert not data.samples[0].requires_grad
    assert data.samples[0].tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_one_float64_makes_all_float64():
    assert Snapshots([0.0, 1.0], [torch.ones(2, 1), torch.ones(2, 1, dtype=torch.float64)]).dtype == torch.float64


def test_the_users_arrays_are_copied():
    array, weight, frame, times = np.zeros((2, 1)), np.ones(2), pd.DataFrame({"a": [1, 2]}), np.array([0.0])
    data = Snapshots(times, [array], [weight], [frame])
    array[:], weight[:], times[:] = 7, 7, 7
    frame["a"] = 7
    data.obs[0]["a"] = 7
    assert data == Snapshots([0.0], [np.zeros((2, 1))], [np.ones(2)], [pd.DataFrame({"a": [1, 2]})])


def test_it_cannot_be_changed_or_hashed():
    data = made()
    with pytest.raises(AttributeError):
        data.times = torch.zeros(3)
    with pytest.raises(AttributeError):
        data.other = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(data)


def test_equality_is_of_contents():
    data = made()
    assert data == made()
    assert data == copy.deepcopy(data)
    assert data == pickle.loads(pickle.dumps(data))
    assert data != made(dtype=torch.float64)
    assert data != made(weighted=False)
    assert data != made(labelled=False)
    assert data != data.without(0.0)
    assert data != Snapshots(data.times, data.samples, data.weights, data.obs)
    assert data != "data"
    none, nan = (Snapshots([0.0], [np.zeros((2, 1))], obs=[pd.DataFrame({"a": ["x", v]})]) for v in (None, np.nan))
    assert none == nan


def test_a_column_and_names_are_read_from_what_is_given():
    assert Snapshots([0.0], [[1.0, 2.0]]).samples[0].shape == (2, 1)
    assert Snapshots([0.0], [pd.DataFrame({"a": [1.0], "b": [2.0]})]).names == ("a", "b")
    assert Snapshots([0.0, 1.0], np.zeros((2, 5, 3))).sizes == (5, 5)
    assert Snapshots(torch.tensor([0.1, 0.2]), [np.zeros((2, 1))] * 2).at(0.1).times.tolist() == [0.1]


def test_times_are_found_to_a_relative_billionth():
    data = Snapshots([0.1 + 0.2, 1e6], [np.zeros((2, 1)), np.ones((3, 1))])
    assert data.at(0.3).sizes == (2,)
    assert data.population(1e6 + 1e-5).shape == (3, 1)
    with pytest.raises(ValueError, match=r"nothing was measured at time 0.4; there are times 0.3, 1e\+06"):
        data.at(0.4)
    with pytest.raises(ValueError, match="nothing was measured at time nan"):
        data.at(float("nan"))


def test_cutting_by_time():
    data = made()
    assert data.only([10.0, 0.0]).times.tolist() == [0.0, 10.0]
    assert data.only(2.0) == data.at(2.0)
    assert data.without(2.0) == data.only([0.0, 10.0])
    assert data.without([0.0, 2.0]) == data.at(10.0)
    assert data.between(0.0, 2.0) == data.without(10.0)
    assert data.without([]) == data
    with pytest.raises(ValueError, match="leaves no time at all; keep at least one"):
        data.without(data.times)
    with pytest.raises(ValueError, match=r"no time lies in \[3, 4\]; there are times 0, 2, 10"):
        data.between(3, 4)
    with pytest.raises(ValueError, match="nothing was measured at time 5"):
        data.without(5.0)


def test_masses_sum_to_one():
    data = made()
    torch.testing.assert_close(data.mass(2.0), data.weights[1] / data.weights[1].sum())
    assert made(weighted=False).mass(2.0).tolist() == [0.25] * 4


def test_subsampling_keeps_order_and_rows_together():
    data = made((50, 3, 60))
    part = data.subsample(10, seed=1)
    assert part.sizes == (10, 3, 10)
    for k in (0, 2):
        rows = part.obs[k]["row"].tolist()
        assert rows == sorted(rows)
        assert len(set(rows)) == 10
        assert torch.equal(part.samples[k], data.samples[k][rows])
        assert torch.equal(part.weights[k], data.weights[k][rows])
    assert part == data.subsample(10, seed=1)
    assert part != data.subsample(10, seed=2)
    state = torch.random.get_rng_state()
    data.subsample(10)
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        data.subsample(0)


def test_choosing_rows():
    data = made()
    chosen = data.rows([torch.tensor([2, 0]), torch.tensor([1]), torch.tensor([4])])
    assert chosen.sizes == (2, 1, 1)
    assert torch.equal(chosen.samples[0], data.samples[0][[2, 0]])
    assert chosen.obs[0]["row"].tolist() == [2, 0]
    with pytest.raises(ValueError, match="one index tensor per time; got 1 for 3 times"):
        data.rows([torch.tensor([0])])


def test_other_values_at_the_same_times():
    data = made()
    doubled = data.with_samples([2 * x for x in data.samples])
    assert doubled.names == data.names
    assert torch.equal(doubled.samples[1], 2 * data.samples[1])
    narrow = data.with_samples([x[:, :1] for x in data.samples], ["only"])
    assert (narrow.dim, narrow.names) == (1, ("only",))
    assert data.with_samples([x[:, :1] for x in data.samples]).names is None
    with pytest.raises(ValueError, match="the new samples must have .3, 4, 5. rows, as the old ones; got .2, 3, 4."):
        data.with_samples([x[1:] for x in data.samples])


def test_another_precision():
    data = made().to(dtype=torch.float64)
    assert data.dtype == torch.float64
    assert data.weights[0].dtype == torch.float64
    assert data.to(device="cpu") == data


def test_joining_pools_equal_times():
    first, second = made(), made()
    joined = Snapshots.concatenate(first, second.at(2.0), Snapshots.concatenate(second.at(10.0)))
    assert joined.times.tolist() == [0.0, 2.0, 10.0]
    assert joined.sizes == (3, 8, 10)
    assert torch.equal(joined.samples[1], torch.cat([first.samples[1], second.samples[1]]))
    assert torch.equal(joined.weights[1], torch.cat([first.weights[1], second.weights[1]]))
    assert list(joined.obs[1].columns) == ["kind", "row"]
    assert Snapshots.concatenate(first.at(10.0), first.at(0.0), first.at(2.0)) == first


def test_joining_meets_rounding_and_partial_labels():
    one = Snapshots([0.1 + 0.2], [np.zeros((2, 1))], obs=[pd.DataFrame({"a": [1, 2], "b": [1, 2]})])
    two = Snapshots([0.3], [np.ones((1, 1))], obs=[pd.DataFrame({"b": [3], "c": [4]})])
    joined = Snapshots.concatenate(one, two)
    assert joined.sizes == (3,)
    assert joined.obs[0]["b"].tolist() == [1, 2, 3]
    assert Snapshots.concatenate(one, Snapshots([1.0], [np.ones((1, 1))])).obs is None
    assert Snapshots.concatenate(made(), made(weighted=False)).weights is None


def test_joining_refuses_other_features():
    with pytest.raises(ValueError, match="at least one Snapshots; got none"):
        Snapshots.concatenate()
    with pytest.raises(ValueError, match=r"the same number of features; got \[2, 3\]"):
        Snapshots.concatenate(made(dim=2), made(dim=3))
    with pytest.raises(ValueError, match="must name their features alike"):
        Snapshots.concatenate(made(), made().with_samples(made().samples, ["p", "q"]))


def test_one_long_table():
    frame = made().to_frame()
    assert list(frame.columns) == ["time", "weight", "g0", "g1", "kind", "row"]
    assert len(frame) == 12
    assert frame["time"].tolist() == [0.0] * 3 + [2.0] * 4 + [10.0] * 5
    clash = Snapshots([0.0], [np.zeros((2, 2))], obs=[pd.DataFrame({"a": [1, 2]})], names=["time", "a"])
    assert list(clash.to_frame().columns) == ["time", "x.time", "a", "a_label"]
    assert list(made(weighted=False, labelled=False).with_samples(made().samples, ["weight", "b"]).to_frame()) == [
        "time",
        "weight",
        "b",
    ]


def test_labels_get_one_type_at_all_times():
    categories = [pd.DataFrame({"c": pd.Categorical(values)}) for values in (["a", "b"], ["b", "z"])]
    data = Snapshots([0.0, 1.0], [np.zeros((2, 1))] * 2, obs=categories)
    assert data.obs[0]["c"].cat.categories.tolist() == ["a", "b", "z"]
    assert data.obs[1]["c"].tolist() == ["b", "z"]
    numbers = [pd.DataFrame({"n": [1, 2]}), pd.DataFrame({"n": [0.5, 1.5]}, index=["p", "q"])]
    data = Snapshots([0.0, 1.0], [np.zeros((2, 1))] * 2, obs=numbers)
    assert [frame["n"].dtype for frame in data.obs] == [np.float64, np.float64]
    assert data.obs[1].index.tolist() == ["p", "q"]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([0.0, 2.0, 2.0], "times must increase strictly; got 2 after 2 at position 2"),
        ([2.0, 1.0, 3.0], "times must increase strictly; got 1 after 2 at position 1"),
        ([0.0, float("nan"), 2.0], "times must be finite; got NaN or infinity in 1 of 3 rows"),
        ([[0.0, 1.0, 2.0]], "one row of at least one number"),
        ([], "one row of at least one number"),
    ],
)
def test_times_that_do_not_increase_are_refused(times, words):
    with pytest.raises(ValueError, match=words):
        Snapshots(times, [np.zeros((2, 1))] * 3)


BAD = [
    (TypeError, {"times": ["a"]}, "times must be an array of numbers"),
    (TypeError, {"times": None}, "times must be an array of numbers; got None"),
    (TypeError, {"samples": 5}, "samples must be a sequence with one entry per time; got int"),
    (TypeError, {"samples": "ab"}, "samples must be a sequence"),
    (ValueError, {"samples": [np.zeros((2, 2))] * 2}, "samples must hold one entry per time; got 2 for 1 times"),
    (ValueError, {"samples": [np.zeros((0, 2))]}, "the population at time 1 is empty .*; leave that time out"),
    (ValueError, {"samples": [np.zeros((2, 0))]}, "the population at time 1 is empty"),
    (ValueError, {"samples": [np.zeros((2, 2, 2))]}, r"samples at time 1 must have shape \(n, d\); got \(2, 2, 2\)"),
    (TypeError, {"samples": [["a", "b"]]}, "samples at time 1 must be an array of numbers"),
    (TypeError, {"samples": [[[1.0], [1.0, 2.0]]]}, "rectangular array of numbers; got rows of different length"),
    (TypeError, {"samples": [np.ones((2, 2)) * 1j]}, "array of"),
    (TypeError, {"samples": [torch.ones(2, 2) * 1j]}, "real numbers; got complex"),
    (
        ValueError,
        {"samples": [np.array([[0.0], [np.nan], [np.inf]])]},
        r"NaN or infinity in 2 of 3 rows \(first: 1, 2\)",
    ),
    (ValueError, {"samples": [np.ma.masked_equal([[1.0], [2.0]], 2.0)]}, "NaN or infinity in 1 of 2 rows"),
    (ValueError, {"weights": [np.ones(3)]}, r"weights at time 1 must have shape \(2,\); got \(3,\)"),
    (ValueError, {"weights": [np.array([1.0, -0.5])]}, "weights must not be negative; got -0.5 at time 1"),
    (ValueError, {"weights": [np.zeros(2)]}, "all weights at time 1 are zero; at least one must be positive"),
    (ValueError, {"weights": [np.array([1.0, np.nan])]}, "weights at time 1 must be finite"),
    (ValueError, {"weights": []}, "weights must hold one entry per time; got 0 for 1 times"),
    (TypeError, {"weights": 1.0}, "weights must be a sequence with one entry per time"),
    (TypeError, {"obs": [{"a": [1, 2]}]}, "obs at time 1 must be a DataFrame; got dict"),
    (ValueError, {"obs": [pd.DataFrame({"a": [1]})]}, "obs at time 1 must have one row for each of 2 samples; got 1"),
    (
        ValueError,
        {"obs": [pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"])]},
        "columns of obs must have different names; got 'a' more than once",
    ),
    (ValueError, {"names": ["a"]}, "names must name each of the 2 features; got 1 names"),
    (ValueError, {"names": ["a", "a"]}, "names must differ; got 'a' more than once"),
    (TypeError, {"names": "ab"}, "names must be a sequence of strings; got the one string 'ab'"),
]


@pytest.mark.parametrize(("kind", "change", "words"), BAD)
def test_what_cannot_be_snapshots_is_refused(kind, change, words):
    with pytest.raises(kind, match=words):
        Snapshots(**({"times": [1.0], "samples": [np.zeros((2, 2))]} | change))


def test_populations_must_agree():
    with pytest.raises(ValueError, match=r"all times must have the same number of features; got \[1, 2\]"):
        Snapshots([0.0, 1.0], [np.zeros((2, 1)), np.zeros((2, 2))])
    with pytest.raises(ValueError, match="obs must have the same columns at every time; 'b' is not there at all"):
        Snapshots(
            [0.0, 1.0],
            [np.zeros((1, 1))] * 2,
            obs=[pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1], "b": [2]})],
        )


def test_bad_rows_are_found_in_large_arrays():
    array = np.zeros((200_000, 1), dtype=np.float32)
    array[[70_000, 150_000]] = np.inf
    with pytest.raises(ValueError, match=r"in 2 of 200000 rows \(first: 70000, 150000\)"):
        Snapshots([0.0], [array])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_holding_out_and_putting_back_is_the_identity(data):
    number = data.draw(st.integers(2, 5))
    times = sorted(data.draw(st.lists(st.integers(-99, 99), min_size=number, max_size=number, unique=True)))
    dim = data.draw(st.integers(1, 3))
    numbers = hnp.from_dtype(np.dtype(np.float32), allow_nan=False, allow_infinity=False)
    samples = [data.draw(hnp.arrays(np.float32, (data.draw(st.integers(1, 4)), dim), elements=numbers)) for _ in times]
    whole = Snapshots(times, samples)
    held = data.draw(st.sampled_from(times))
    assert Snapshots.concatenate(whole.at(held), whole.without(held)) == whole
    assert sum(whole.sizes) == len(whole.to_frame())
