"""Paths: what they hold, how they are cut, and what they refuse."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from gendyn.data import Paths


def made(**changes):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 4, 2, generator=generator)
    return Paths(**({"times": [0.0, 1.0, 2.5, 4.0], "values": values, "names": ["a", "b"]} | changes))


def own():
    times = [[0.0, 1.0, 2.0], [0.5, 0.7, 0.7], [3.0, 3.0, 3.0]]
    return Paths(times, np.arange(9.0).reshape(3, 3), labels=["p", "q", "p"])


def test_what_it_holds():
    paths = made(labels=[0, 1, 0])
    assert (len(paths), paths.n_paths, paths.n_times, paths.dim) == (3, 3, 4, 2)
    assert paths.times.dtype == torch.float64
    assert paths.shared_times
    assert paths.mask is None
    assert paths.lengths is None
    assert repr(paths) == "Paths(3 paths, 4 times from 0 to 4, 2 features)"
    assert repr(own()) == "Paths(3 paths, 3 own times from 0 to 3, 1 features)"
    assert repr(Paths([0, 1], torch.ones(2, 2, 1, dtype=torch.long), states=["s", "t"])) == (
        "Paths(2 paths, 2 times from 0 to 1, 2 states)"
    )


def test_lengths_are_where_own_times_stop():
    assert own().lengths.tolist() == [3, 2, 1]
    assert not own().shared_times


def test_a_graph_is_kept_and_cut_on_demand():
    values = torch.ones(2, 2, 1, requires_grad=True)
    paths = Paths([0.0, 1.0], values * 2)
    paths.snapshots()
    paths.values.sum().backward()
    assert values.grad.sum() == 8.0
    assert not paths.detach().values.requires_grad


def test_arrays_are_copied():
    array = np.zeros((2, 2, 1))
    paths = Paths([0.0, 1.0], array)
    array[:] = 7
    assert paths.values.sum() == 0.0


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64])
def test_integers_are_states(dtype):
    assert Paths([0.0, 1.0], np.ones((2, 2, 1), dtype=dtype)).dtype == torch.int64


def test_float_types():
    assert Paths([0.0], np.ones((2, 1, 1), dtype=np.float16)).dtype == torch.float32
    assert Paths([0.0], np.ones((2, 1, 1))).dtype == torch.float64
    assert Paths([0.0], torch.ones(2, 1, 1, dtype=torch.bfloat16)).dtype == torch.float32


def test_equality_is_of_contents():
    assert made() == made()
    assert made() == copy.deepcopy(made())
    assert made() == pickle.loads(pickle.dumps(made()))
    assert made(info={"seed": 1}) == made(info={"seed": 2})
    assert made(labels=[0, 1, 2]) != made(labels=[0, 1, 1])
    assert made(labels=[0, 1, 2]) != made()
    assert made(names=None) != made()
    assert made(mask=np.ones((3, 4))) != made()
    assert made() != made().to(dtype=torch.float64)
    assert made() != "paths"
    hidden = np.ones((1, 2), dtype=bool)
    hidden[0, 1] = False
    assert Paths([0, 1], [[1.0, np.nan]], hidden) == Paths([0, 1], [[1.0, np.nan]], hidden)
    with pytest.raises(TypeError, match="unhashable"):
        hash(made())


def test_populations_at_shared_times():
    paths = made(labels=["x", "y", "z"])
    one = paths.snapshot(2.5)
    assert torch.equal(one.samples[0], paths.values[:, 2])
    assert one.names == ("a", "b")
    assert one.obs[0]["label"].tolist() == ["x", "y", "z"]
    assert paths.snapshots().times.tolist() == [0.0, 1.0, 2.5, 4.0]
    assert paths.snapshots([4.0, 0.0]).times.tolist() == [0.0, 4.0]
    with pytest.raises(ValueError, match="the paths have no time 3; there are times 0, 1, 2.5, 4"):
        paths.snapshot(3.0)
    with pytest.raises(ValueError, match="times of their own; snapshots need times shared by all paths"):
        own().snapshots()


def test_float32_times_are_found_as_written():
    paths = Paths(torch.linspace(0, 1, 11), torch.zeros(2, 11, 1))
    assert paths.snapshot(0.1).times.tolist() == [0.1]
    assert paths.snapshot(0.7).times.tolist() == [0.7]


def test_what_was_not_observed_is_left_out():
    mask = np.ones((3, 4, 2), dtype=bool)
    mask[0, 1, 0] = False
    mask[:, 3] = False
    paths = made(mask=mask, lengths=[4, 4, 2])
    assert paths.snapshot(1.0).sizes == (2,)
    assert paths.snapshot(2.5).sizes == (2,)
    with pytest.raises(ValueError, match="no path was observed in all features at time 4"):
        paths.snapshot(4.0)


def test_backward_times():
    paths = made(times=[4.0, 2.5, 1.0, 0.0])
    assert paths.snapshots().times.tolist() == [0.0, 1.0, 2.5, 4.0]
    assert torch.equal(paths.snapshot(4.0).samples[0], paths.values[:, 0])


def test_choosing_paths():
    paths = own()
    assert paths.select([2, 0]).labels.tolist() == ["p", "p"]
    assert paths.select([2, 0]).times.tolist() == [[3.0, 3.0, 3.0], [0.0, 1.0, 2.0]]
    assert paths.select([2, 0]).lengths.tolist() == [1, 3]
    assert paths.select(paths.labels == "p") == paths.select([0, 2])
    assert made().select(torch.tensor([1])).values.shape == (1, 4, 2)
    assert made(mask=np.tril(np.ones((3, 4)))).select([2]).mask.sum() == 6


def test_a_long_table_has_no_padding_and_nan_where_not_observed():
    frame = own().to_frame()
    assert frame["path"].tolist() == [0, 0, 0, 1, 1, 2]
    assert frame["time"].tolist() == [0.0, 1.0, 2.0, 0.5, 0.7, 3.0]
    assert frame["label"].tolist() == ["p", "p", "p", "q", "q", "p"]
    mask = np.ones((3, 4, 2), dtype=bool)
    mask[1, 2, 0] = False
    frame = made(mask=mask).to_frame()
    assert list(frame.columns) == ["path", "time", "a", "b"]
    assert frame["a"].isna().sum() == 1
    assert np.isnan(frame["a"][6])
    states = Paths([0, 1], np.array([[0, 1]]), states=["s", "t"])
    assert states.to_frame()["x0"].tolist() == [0, 1]
    assert states.to_frame()["x0"].dtype == np.int64


def test_to_xarray():
    pytest.importorskip("xarray")
    data = made(labels=[1, 2, 3], mask=np.ones((3, 4))).to_xarray()
    assert data["values"].dims == ("path", "time", "feature")
    assert data["values"].sel(time=2.5, feature="b", path=1).item() == made().values[1, 2, 1].item()
    assert data["mask"].all()
    assert data["label"].values.tolist() == [1, 2, 3]
    assert own().to_xarray()["path_time"].dims == ("path", "time")


def test_a_mask_of_times_covers_all_features():
    mask = np.ones((3, 4), dtype=int)
    mask[0, 0] = 0
    assert made(mask=mask).mask.shape == (3, 4, 2)
    assert made(mask=mask).mask.sum() == 22


def test_labels_of_many_kinds():
    assert made(labels=torch.tensor([3, 1, 2])).labels.tolist() == [3, 1, 2]
    assert made(labels=pd.Series(["a", "b", "c"])).labels.tolist() == ["a", "b", "c"]
    assert made(labels=[True, False, True]).labels.tolist() == [True, False, True]


BAD = [
    (ValueError, {"values": np.zeros(3)}, r"values must have shape \(n, T, d\); got \(3,\)"),
    (ValueError, {"values": np.zeros((0, 4, 2))}, "at least one path, time and feature; got shape"),
    (TypeError, {"values": [["a"]]}, "values must be an array of numbers"),
    (ValueError, {"times": [0.0, 1.0]}, r"times must have shape \(4,\) or \(3, 4\) for these values; got \(2,\)"),
    (
        ValueError,
        {"times": [0.0, 1.0, 1.0, 2.0]},
        r"increase strictly \(or fall strictly\); got 1 after 1 at position 2",
    ),
    (ValueError, {"times": [0.0, 2.0, 1.0, 3.0]}, "got 1 after 2 at position 2"),
    (ValueError, {"times": [0.0, np.nan, 1.0, 3.0]}, "times must be finite"),
    (ValueError, {"times": [[0.0, 2.0, 1.0, 3.0]] * 3, "lengths": [4, 4, 4]}, "path 0 has 1 after 2 at position 2"),
    (ValueError, {"times": [[0.0, 1.0, 2.0, 3.0]] * 3, "lengths": [4, 2, 4]}, "path 1 goes from 1 to 2 at position 2"),
    (ValueError, {"mask": np.zeros((3, 4))}, "the mask hides every value; at least one must be observed"),
    (ValueError, {"mask": np.ones((3, 5))}, r"mask must have shape \(3, 4, 2\) or \(3, 4\); got \(3, 5\)"),
    (ValueError, {"mask": np.full((3, 4), 0.5)}, "mask must hold true and false"),
    (ValueError, {"lengths": [4, 4]}, r"lengths must have shape \(3,\); got \(2,\)"),
    (ValueError, {"lengths": [0, 4, 4]}, "lengths must lie in 1 to 4; got 0 to 4"),
    (ValueError, {"lengths": [4, 5, 4]}, "lengths must lie in 1 to 4; got 4 to 5"),
    (ValueError, {"labels": [1, 2]}, r"labels must have shape \(3,\); got \(2,\)"),
    (TypeError, {"labels": [1.5, 2.0, 3.0]}, "labels must be integers or strings; got type float64"),
    (ValueError, {"names": ["a"]}, "names must name each of the 2 features"),
    (TypeError, {"states": ["s", "t"]}, "states name integer values; got values of type torch.float32"),
    (ValueError, {"values": np.full((3, 4), 2), "names": None, "states": ["s", "t"]}, "values must lie in 0 to 1"),
    (
        ValueError,
        {"values": np.full((3, 4), -1), "names": None, "states": ["s", "t"]},
        "one for each of 2 states; got -1",
    ),
]


@pytest.mark.parametrize(("kind", "change", "words"), BAD)
def test_what_cannot_be_paths_is_refused(kind, change, words):
    with pytest.raises(kind, match=words):
        made(**change)


def test_observed_values_must_be_finite():
    values = np.zeros((5, 4, 2))
    values[1, 2, 0], values[3, 3, 1] = np.nan, np.inf
    times = [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r"NaN or infinity in 2 of 5 paths \(first: 1, 3\): give a mask"):
        Paths(times, values)
    with pytest.raises(ValueError, match=r"in 1 of 5 paths \(first: 3\)"):
        Paths(times, values, mask=~np.isnan(values))
    assert Paths(times, values, mask=np.isfinite(values)).mask.sum() == 38
    assert Paths(times, values, mask=~np.isnan(values), lengths=[4, 4, 4, 3, 4]).n_paths == 5


def test_states_of_what_was_not_observed_do_not_count():
    mask = np.array([[True, False]])
    assert Paths([0, 1], np.array([[1, 99]]), mask=mask, states=["s", "t"]).n_paths == 1
    assert Paths([0, 1], np.array([[1, 99]]), lengths=[1], states=["s", "t"]).n_paths == 1
