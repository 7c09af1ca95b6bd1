"""Tables, arrays and folders become snapshots, or a sentence."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn import read_snapshots
from gendyn.data import Snapshots

N = 40
TIMES = np.repeat(["D0", "D2", "D10"], [15, 15, 10])


def table(**changes):
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"day": TIMES, "x": generator.normal(size=N), "y": generator.normal(size=N)})
    return frame.assign(**changes)


def shuffled():
    return table().sample(frac=1, random_state=1, ignore_index=True)


def test_a_table_is_cut_by_its_time():
    frame = shuffled()
    data = read_snapshots(frame)
    assert data.times.tolist() == [0.0, 2.0, 10.0]
    assert data.names == ("x", "y")
    assert data.dtype == torch.float32
    for t, label in ((0.0, "D0"), (2.0, "D2"), (10.0, "D10")):
        rows = frame[frame["day"] == label][["x", "y"]].to_numpy(dtype=np.float32)
        np.testing.assert_array_equal(data.population(t).numpy(), rows)


def test_precision():
    exact = read_snapshots(table(), dtype=torch.float64)
    np.testing.assert_array_equal(exact.samples[0].numpy(), table()[["x", "y"]][:15])
    assert read_snapshots((np.zeros((N, 2)), TIMES)).dtype == torch.float64
    assert read_snapshots((np.zeros((N, 2)), TIMES), dtype=torch.float32).dtype == torch.float32
    assert read_snapshots((np.zeros((N, 2), dtype=np.float32), TIMES)).dtype == torch.float32
    with pytest.raises(ValueError, match="dtype must be torch.float32 or torch.float64; got torch.float16"):
        read_snapshots(table(), dtype=torch.float16)


def test_columns_by_name():
    frame = table(w=np.arange(N) + 1.0, kind=["a", "b"] * 20, extra=1.5)
    data = read_snapshots(frame, values=["y"], weight_key="w", obs_keys=["kind"])
    assert data.names == ("y",)
    assert data.weights[0].tolist() == list(range(1, 16))
    assert data.obs[2]["kind"].tolist() == ["a", "b"] * 5
    assert data.obs[2].index.tolist() == list(range(30, 40))
    assert read_snapshots(frame, values="y", obs_keys="kind", n_dims=1).names == ("y",)
    assert read_snapshots(table(), names=["p", "q"]).names == ("p", "q")
    assert read_snapshots(table(), n_dims=1).names == ("x",)
    numbered = pd.DataFrame(np.zeros((20, 2))).assign(time=0)
    assert read_snapshots(numbered, values=["1"]).names == ("1",)


@pytest.mark.parametrize("name", ["time", "t", "Day", "hours", "TimePoint", "stage", "gendyn_time"])
def test_the_usual_names_of_time(name):
    assert read_snapshots(table().rename(columns={"day": name})).n_times == 3


def test_a_gene_called_t_is_no_time():
    data = read_snapshots(table(T=np.linspace(0, 1, N)))
    assert data.names == ("x", "y", "T")


def test_numeric_times_and_dates():
    assert read_snapshots(table(day=np.repeat([0.1, 0.2], 20).astype(np.float32))).times.tolist() == [0.1, 0.2]
    assert read_snapshots(table(day=pd.array(np.repeat([3, 1], 20), dtype="Int64"))).times.tolist() == [1, 3]
    spans = pd.to_timedelta(np.repeat([12, 36], 20), unit="h")
    assert read_snapshots(table(day=spans)).times.tolist() == [0.5, 1.5]
    assert read_snapshots(table(day=pd.Timestamp("2021-05-01") + spans)).times.tolist() == [0.0, 1.0]
    assert read_snapshots(table(day=pd.Categorical(TIMES, categories=["D10", "D2", "D0"]))).times.tolist() == [0, 2, 10]


def test_labels_said_by_the_user():
    frame = table(day=np.repeat(["control", "treated"], 20))
    assert read_snapshots(frame, times={"treated": 6.0, "control": 0.0}).times.tolist() == [0.0, 6.0]
    with pytest.raises(ValueError, match="no number in 'control'; give times={label: number}"):
        read_snapshots(frame)


def test_rows_without_time_are_left_out_with_a_warning():
    day = pd.Series(TIMES).where(np.arange(N) >= 3)
    with pytest.warns(UserWarning, match="3 of 40 rows have no time and are left out"):
        data = read_snapshots(table(day=day, x=np.where(np.arange(N) < 3, np.nan, 1.0)))
    assert data.sizes == (12, 15, 10)
    with pytest.raises(ValueError, match="no row has a time: every entry of the time column is missing"):
        read_snapshots(table(day=np.nan))


def test_the_warning_points_at_the_users_line():
    with pytest.warns(UserWarning) as caught:
        read_snapshots(table(day=pd.Series(TIMES).where(np.arange(N) >= 3)))
    assert caught[0].filename == __file__


def test_small_populations():
    with pytest.warns(
        UserWarning, match=r"times with fewer than 10 rows: 0 \(2\), 2 \(3\); results there are mostly chance"
    ):
        read_snapshots(table().iloc[[0, 1, 15, 16, 17, *range(30, 40)]])
    with pytest.raises(ValueError, match="at least 2 rows; there is one row only at time 0, 2: leave such times out"):
        read_snapshots(table().iloc[[0, 15, *range(30, 40)]])


def test_bad_values_are_counted_and_found():
    frame = table()
    frame.loc[[3, 7], "x"] = np.nan
    frame.loc[30, "y"] = -np.inf
    with pytest.raises(
        ValueError, match=r"values must be finite; got NaN or infinity in 3 of 40 rows \(first: 3, 7, 30\): drop"
    ):
        read_snapshots(frame)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({}, {"time_key": "week"}, "there is no time column 'week'; columns that look like times: 'day', 'x', 'y'"),
        ({"t": 1}, {}, "several columns could be the time: 'day', 't'; name one with time_key="),
        ({}, {"values": ["z"]}, "values names the column 'z', which is not there; there are 'day', 'x', 'y'"),
        ({}, {"values": ["x", "x"]}, "values must name different columns; got 'x' more than once"),
        ({}, {"values": []}, "values names no column"),
        ({"s": "q"}, {"values": ["x", "s"]}, r"column 's' must hold numbers; got 'q' in row 0 \(40 such rows\)"),
        ({"b": True}, {"values": ["b"]}, "column 'b' must hold numbers; it holds bool"),
        ({"x": ["oops"] + [1.0] * 39}, {}, r"column 'x' should hold numbers, but got 'oops' in row 0 \(1 such rows\)"),
        ({"x": ["1.5"] * 40}, {}, "column 'x' should hold numbers, but it holds them as text"),
        ({}, {"weight_key": "w"}, "weight_key names the column 'w', which is not there"),
        ({"w": -1.0}, {"weight_key": "w"}, "weights must not be negative; got -1 at time 0"),
        ({"w": np.nan}, {"weight_key": "w"}, "weights at time 0 must be finite"),
        ({"w": "q"}, {"weight_key": "w"}, "column 'w' must hold numbers; got 'q'"),
        ({"w": 0}, {"weight_key": "w"}, "all weights at time 0 are zero"),
        ({}, {"obs_keys": ["k"]}, "obs_keys names the column 'k', which is not there"),
        ({}, {"n_dims": 3}, "n_dims must lie in 1 to 2, the number of features there are; got 3"),
        ({}, {"n_dims": 0}, "n_dims must lie in 1 to 2"),
        ({}, {"names": ["a"]}, "names must name each of the 2 features; got 1 names"),
        ({"day": ["D2", "day 2"] * 20}, {}, "'D2', 'day 2' all mean 2"),
        ({"day": ["D2", "48h"] * 20}, {}, "they are in different units"),
        ({"x": 1e300}, {}, "values must be finite"),
    ],
)
def test_what_a_table_must_hold(change, options, words):
    with pytest.raises(ValueError, match=words):
        read_snapshots(table(**change), **options)


def test_text_that_holds_numbers_is_read_when_named():
    data = read_snapshots(table(x=["1.5"] * 40), values=["x"])
    assert data.samples[0].unique().tolist() == [1.5]


def test_no_time_and_no_values():
    with pytest.raises(
        ValueError, match=r"no column is called time, day or the like; name it with time_key= \(columns that"
    ):
        read_snapshots(table().rename(columns={"day": "when"}))
    with pytest.raises(ValueError, match="no column looks like times; there are 'a'"):
        read_snapshots(pd.DataFrame({"a": ["p", "q"]}))
    with pytest.raises(ValueError, match="no column with numbers is left to be the values"):
        read_snapshots(table()[["day"]])
    with pytest.raises(ValueError, match="the table has no rows"):
        read_snapshots(table().iloc[:0])
    with pytest.raises(ValueError, match="columns of the table must have different names; 'x' is there more than once"):
        read_snapshots(table().rename(columns={"y": "x"}))
    with pytest.raises(ValueError, match="names of several levels"):
        read_snapshots(pd.concat({"a": table()}, axis=1))


def test_columns_left_out_are_named():
    with pytest.warns(UserWarning, match="columns without numbers are left out: 'kind'; name them in obs_keys="):
        read_snapshots(table(kind="a"))
    for name in ("Unnamed: 0", "index", "cell"):
        with pytest.warns(
            UserWarning, match=f"columns that only count the rows are left out: '{name}'; name them in values="
        ):
            assert read_snapshots(table(**{name: np.arange(N)})).names == ("x", "y")
    assert read_snapshots(table(number=np.arange(N)), values=["number"]).dim == 1


# --- arrays ------------------------------------------------------------------------------------------------


def test_pairs_of_arrays():
    frame = shuffled()
    expected = read_snapshots(frame, dtype=torch.float64)
    values = frame[["x", "y"]].to_numpy()
    for samples in (values, torch.from_numpy(values), values.tolist(), np.asfortranarray(values)):
        for labels in (frame["day"], frame["day"].to_numpy(), frame["day"].tolist()):
            data = read_snapshots((samples, labels))
            assert data == Snapshots(expected.times, expected.samples)
    assert read_snapshots((frame[["x", "y"]], frame["day"])).names == ("x", "y")
    assert read_snapshots({"X": values, "t": frame["day"]}) == read_snapshots((values, frame["day"]))
    assert read_snapshots((torch.zeros(20), torch.repeat_interleave(torch.tensor([0.1, 0.2]), 10))).times.tolist() == [
        0.1,
        0.2,
    ]


def test_the_users_array_is_not_touched_nor_kept():
    values = np.zeros((20, 1))
    data = read_snapshots((values, np.repeat([0, 1], 10)))
    values[:] = 7
    assert data.samples[0].sum() == 0.0
    data.samples[0][:] = 3
    assert values.min() == 7


def test_mappings_of_time():
    parts = {"D10": np.ones((12, 2)), "D2": np.zeros((11, 2))}
    data = read_snapshots(parts)
    assert data.times.tolist() == [2.0, 10.0]
    assert data.sizes == (11, 12)
    assert read_snapshots({10: parts["D10"], 2.5: parts["D2"]}).times.tolist() == [2.5, 10.0]
    assert read_snapshots({"a": parts["D10"], "b": parts["D2"]}, times={"a": 1, "b": 0}).sizes == (11, 12)
    assert read_snapshots({0: pd.DataFrame({"g": np.zeros(10)})}).names == ("g",)
    assert read_snapshots(parts, n_dims=1).dim == 1


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (({"a": 1}, [1]), TypeError, "samples must be an array of numbers"),
        ((np.zeros((3, 2)), [0, 1]), ValueError, "each row needs one time; got 2 times for 3 rows"),
        ((np.zeros((3, 2, 1)), [0, 1, 2]), ValueError, r"samples must have shape \(n, d\); got \(3, 2, 1\)"),
        ((np.zeros((0, 2)), []), ValueError, "there are no rows"),
        ((np.zeros((2, 0)), [0, 0]), ValueError, "there are no features"),
        ((np.array([["a"]]), [0]), TypeError, "samples must be an array of numbers"),
        ({}, ValueError, "the mapping {time: array} is empty"),
        ({0: np.zeros((10, 2)), 1: np.zeros((10, 3))}, ValueError, r"the same number of features; got \[2, 3\]"),
        ({0: np.zeros((10, 2)), 1: np.zeros((0, 2))}, ValueError, "the population at 1 is empty; leave that time out"),
        ({"control": np.zeros((10, 2))}, ValueError, "no number in 'control'"),
        (
            {0: pd.DataFrame({"a": [1.0]}), 1: pd.DataFrame({"b": [1.0]})},
            ValueError,
            "all populations must have the same columns in the same order",
        ),
        (
            [1, 2, 3],
            TypeError,
            "cannot read snapshots from list; give a file, a folder, a DataFrame, an AnnData object",
        ),
        (None, TypeError, "cannot read snapshots from NoneType"),
    ],
)
def test_arrays_that_are_no_snapshots(source, kind, words):
    with pytest.raises(kind, match=words):
        read_snapshots(source)


def test_snapshots_are_returned_or_cut():
    data = read_snapshots(table())
    assert read_snapshots(data) is data
    assert read_snapshots(data, n_dims=1).names == ("x",)
    assert read_snapshots(data, values=["y"]).names == ("y",)
    moved = read_snapshots(data, times={0: 0, 2: 48, 10: -240})
    assert moved.times.tolist() == [-240.0, 0.0, 48.0]
    assert torch.equal(moved.samples[0], data.samples[2])
    assert read_snapshots(data, dtype=torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match="these snapshots have no names"):
        read_snapshots(Snapshots([0.0], [np.zeros((2, 1))]), values=["x"])


# --- files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "tsv", "tsv.gz", "txt", "parquet"])
def test_a_file_reads_as_its_table(tmp_path, suffix):
    path = tmp_path / f"cells.v2.{suffix}"
    frame = shuffled()
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(
            path, index=False, sep="\t" if "t" in suffix[:2] and suffix != "txt" else ";" if suffix == "txt" else ","
        )
    content = path.read_bytes()
    assert read_snapshots(path) == read_snapshots(frame)
    assert read_snapshots(str(path)) == read_snapshots(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("suffix", ["npz", "csv", "csv.gz", "parquet", "h5ad"])
def test_what_gendyn_wrote_is_read_as_it_was(tmp_path, suffix):
    obs = [pd.DataFrame({"kind": ["a", None]})] * 2
    data = Snapshots([0.25, 2.0], [np.eye(2), np.ones((2, 2))], [np.ones(2)] * 2, obs, ["p", "q"])
    data.save(tmp_path / f"a.{suffix}")
    assert read_snapshots(tmp_path / f"a.{suffix}") == data
    assert read_snapshots(tmp_path / f"a.{suffix}", n_dims=1).names == ("p",)


def test_arrays_in_a_file(tmp_path):
    values, days = np.random.default_rng(0).normal(size=(N, 3)), np.repeat([0, 2], 20).astype(np.int8)
    path = tmp_path / "a.npz"
    np.savez_compressed(
        path, X=values, X_pca=values[:, :2], day=days, w=np.arange(N) + 1, genes=np.array([{}], dtype=object)
    )
    assert read_snapshots(path) == read_snapshots((values[:, :2], days))
    data = read_snapshots(path, rep="X", weight_key="w", obs_keys=["day"], n_dims=2, time_key="day")
    assert data.obs[1]["day"].tolist() == [2] * 20
    assert data.weights[1][0] == 21
    np.savez(path, X=values.reshape(2, 20, 3), t=[0.0, 7.5])
    assert read_snapshots(path) == Snapshots([0.0, 7.5], values.reshape(2, 20, 3))


@pytest.mark.parametrize(
    ("arrays", "options", "words"),
    [
        (
            {"Y": np.zeros((4, 1)), "t": np.zeros(4)},
            {},
            r"needs an array X \(N, d\) of samples; it has 'Y', 't': name one",
        ),
        ({"X": np.zeros((4, 1)), "t": np.zeros(4)}, {"rep": "Z"}, "it has 'X', 't': name one with rep="),
        ({"X": np.zeros((4, 1))}, {}, r"needs one array t \(N,\) of times; it has 'X': name one with time_key="),
        ({"X": np.zeros((4, 1)), "t": np.zeros(4), "day": np.zeros(4)}, {}, "name one with time_key="),
        (
            {"X": np.zeros((4, 1)), "t": np.zeros(4)},
            {"time_key": "day"},
            "time_key names the column 'day', which is not there",
        ),
        ({"X": np.zeros((4, 1)), "t": np.zeros(3)}, {}, r"one time per row; X has shape \(4, 1\) and t \(3,\)"),
        (
            {"X": np.zeros((4, 1)), "t": np.zeros(4), "w": np.ones(3)},
            {"weight_key": "w"},
            r"w of .* must have shape \(4,\)",
        ),
        (
            {"X": np.array([{}, 1], dtype=object), "t": np.zeros(2)},
            {},
            "the array 'X' of .* holds pickled objects, which could run",
        ),
    ],
)
def test_arrays_that_are_missing_or_do_not_fit(tmp_path, arrays, options, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=words):
        read_snapshots(tmp_path / "a.npz", **options)


def test_a_pickle_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code was run')",))

    (tmp_path / "a.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="is not an .npz file: it is a pickle, which could run code"):
        read_snapshots(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", X=np.array([Trap()], dtype=object), t=np.zeros(1))
    with pytest.raises(ValueError, match="holds pickled objects"):
        read_snapshots(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"", "is not an .npz file: it is empty"),
        ("a.npz", b"garbage", "is not an .npz file: it is damaged or of another kind"),
        ("a.csv", b"", "is empty; a table with a first line of column names is needed"),
        ("a.csv", b"\n\n", "is empty"),
        ("a.csv", b"time,x\n", "has no rows; one row per observation is needed"),
        ("a.csv", b"0,1\n0,2\n", "the first line of .* holds numbers; it must name the columns"),
        ("a.csv", b"time,x,x\n0,1,2\n", "columns of .* must have different names; 'x' is there more than once: rename"),
        ("a.csv", b"time,,\n0,1,2\n", "2 columns of .* have no name; name them in the first line"),
        ("a.csv", b"time,x\n0,1\n0,1,2,3\n", "is no table: expected 2 fields in line 3, saw 4"),
        ("a.csv", b"time,x\n0,1,4\n0,1,5\n", "lines have more entries than the first line has names"),
        (
            "a.csv",
            "time,gr\xf6\xdfe\n0,1\n".encode("latin-1"),
            "is no text in UTF-8 .*; save the table as CSV in UTF-8",
        ),
        ("a.csv.gz", b"garbage", r"a\.csv\.gz"),
        ("a.tsv.gz", b"garbage", r"a\.tsv\.gz cannot be read"),
        ("a.parquet", b"garbage", r"a\.parquet is damaged or of another kind"),
        ("a.xlsx", b"garbage", "'a.xlsx' says no format known here; use one of .csv"),
        ("a", b"garbage", "the suffix of 'a' says no format"),
    ],
)
def test_files_that_are_no_snapshots(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_snapshots(tmp_path / name)


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match="there is no file nowhere.csv; check the path"):
        read_snapshots("nowhere.csv")


def test_tables_as_people_write_them(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"D{k % 2},{k}.5,{-k}e-3\r\n" for k in range(20))
    path.write_bytes(("\N{ZERO WIDTH NO-BREAK SPACE}Day, x ,y\r\n" + rows).encode())
    data = read_snapshots(path)
    assert data.names == ("x", "y")
    assert data.samples[0][1].tolist() == pytest.approx([2.5, -0.002])
    table().to_csv(path)
    with pytest.warns(UserWarning, match="only count the rows are left out: 'Unnamed: 0'"):
        assert read_snapshots(path) == read_snapshots(table())


def test_a_folder_of_tables(tmp_path):
    frame = table()
    for label in ("D0", "D2", "D10"):
        frame[frame["day"] == label][["x", "y"]].to_csv(tmp_path / f"{label}.csv", index=False)
    frame[frame["day"] == "D2"][["y", "x"]].to_csv(tmp_path / "D2.csv", index=False)
    (tmp_path / ".hidden.csv").write_text("x\n")
    (tmp_path / "notes.md").write_text("x")
    assert read_snapshots(tmp_path) == read_snapshots(frame)
    assert read_snapshots(tmp_path, times={"D0": 0, "D2": 48, "D10": 240}).times.tolist() == [0, 48, 240]
    assert read_snapshots(tmp_path, n_dims=1, values=["y"]).names == ("y",)
    frame[["x"]].to_csv(tmp_path / "D11.csv", index=False)
    with pytest.raises(ValueError, match="D11.csv and .*D0.csv must have the same columns; 'y' is in one of them only"):
        read_snapshots(tmp_path)
    frame[["x", "y"]].to_csv(tmp_path / "D11.csv", index=False)
    frame[["x", "y"]].to_csv(tmp_path / "D11.csv.gz", index=False)
    with pytest.raises(ValueError, match="several files for one time: 'D11.csv', 'D11.csv.gz'; keep one of them"):
        read_snapshots(tmp_path)


def test_folders_that_hold_no_times(tmp_path):
    with pytest.raises(ValueError, match="holds no .csv files; one file per time, named by the time"):
        read_snapshots(tmp_path)
    table().to_csv(tmp_path / "control.csv", index=False)
    with pytest.raises(ValueError, match="no number in 'control'; give times={label: number}"):
        read_snapshots(tmp_path)
    (tmp_path / "control.csv").rename(tmp_path / "nan.csv")
    with pytest.raises(ValueError, match="the names of 'nan.csv' hold no time"):
        read_snapshots(tmp_path)


# --- properties --------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_no_row_is_lost_and_order_is_kept(labels, random):
    counts = np.bincount(labels, minlength=5)
    source = (np.arange(float(len(labels)))[:, None], labels)
    if bool((counts == 1).any()):
        with pytest.raises(ValueError, match="at least 2 rows"):
            read_snapshots(source)
        return
    with warnings.catch_warnings(action="ignore"):
        data = read_snapshots(source)
        again = read_snapshots(source)
    assert data == again
    assert data.sizes == tuple(counts[counts > 0])
    for t, x in zip(data.times.tolist(), data.samples, strict=True):
        assert x[:, 0].tolist() == [k for k, label in enumerate(labels) if label == t]


def test_a_million_rows_need_no_loop_and_little_memory():
    n = 200_000
    values = np.zeros((n, 20), dtype=np.float32)
    labels = pd.Categorical.from_codes((np.arange(n) % 4).tolist(), ["D0", "D2", "D4", "D10"])
    tracemalloc.start()
    try:
        read_snapshots((values, labels))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.8 * values.nbytes
