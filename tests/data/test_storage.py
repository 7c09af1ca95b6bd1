"""What is saved comes back: every value, type, name and missing entry, in every format."""

import builtins
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gendyn.data import Cohort, Paths, Snapshots, path_checks
from gendyn.data.storage import PathsWriter
from gendyn.data.storage import paths as storage
from gendyn.data.storage.formats import damaged, from_json_bytes, json_bytes, open_npz, optional, plain
from gendyn.data.storage.labels import decode, describe, encode, escape, unescape
from gendyn.data.storage.mapped import StoredValues

SUFFIXES = ["npz", "parquet", "csv", "csv.gz", "h5ad"]
PATHS = ["npz", "parquet", "zarr"]

few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
words = st.sampled_from(
    ["", "a", "NA", "nan", "None", "é", "a,b", 'q"q', "line\nline", "cr\r", "\\n", "\\", "\\e", " x "]
)


def floats(dtype):
    return hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)


@st.composite
def columns(draw, n):
    kind = draw(
        st.sampled_from(
            ["text", "words", "int", "float", "half", "bool", "cat", "ordered", "number cat", "date", "zone", "Int64"]
        )
    )
    if kind in ("text", "words"):
        return pd.Series(
            draw(st.lists(st.none() | (text if kind == "text" else words), min_size=n, max_size=n)), dtype=object
        )
    if kind == "int":
        return pd.Series(draw(hnp.arrays(draw(st.sampled_from([np.int64, np.uint8, np.int32, np.uint64])), n)))
    if kind in ("float", "half"):
        return pd.Series(draw(hnp.arrays({"float": np.float64, "half": np.float16}[kind], n)))
    if kind == "bool":
        return pd.Series(draw(hnp.arrays(bool, n)))
    if kind == "date":
        return pd.Series(
            pd.to_datetime(draw(st.lists(st.none() | st.datetimes(), min_size=n, max_size=n)), errors="coerce")
        )
    if kind == "zone":
        return pd.Series(pd.to_datetime(["2024-03-31 00:30:00"] * n, utc=True)).dt.tz_convert("Europe/Berlin")
    if kind == "Int64":
        return pd.Series(
            draw(st.lists(st.none() | st.integers(-(2**62), 2**62), min_size=n, max_size=n)), dtype="Int64"
        )
    categories = [3, 1, 2] if kind == "number cat" else draw(st.lists(words, min_size=1, max_size=4, unique=True))
    chosen = draw(st.lists(st.none() | st.sampled_from(categories), min_size=n, max_size=n))
    return pd.Series(pd.Categorical(chosen, categories=categories, ordered=kind == "ordered"))


@st.composite
def snapshots(draw):
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    times = sorted(draw(st.lists(floats(np.float64), min_size=1, max_size=3, unique=True)))
    sizes = [draw(st.integers(1, 4)) for _ in times]
    dim = draw(st.integers(1, 3))
    names = st.lists(
        words | st.sampled_from(["time", "weight", "x.0", "obs", "index"]), min_size=dim, max_size=dim, unique=True
    )
    samples = [draw(hnp.arrays(dtype, (n, dim), elements=floats(dtype))) for n in sizes]
    positive = st.floats(0.125, 1e6, width=32)
    weights = [draw(hnp.arrays(dtype, n, elements=positive)) for n in sizes] if draw(st.booleans()) else None
    obs = None
    if draw(st.booleans()):
        labels = draw(st.lists(words | st.sampled_from(["time", "weight", "a/b", "index"]), max_size=3, unique=True))
        total = sum(sizes)
        whole = pd.DataFrame({name: draw(columns(total)) for name in labels}, index=range(total))
        index = draw(st.sampled_from(["counted", "names", "numbers"]))
        ends = np.cumsum(sizes)
        obs = [whole.iloc[end - n : end] for n, end in zip(sizes, ends, strict=True)]
        if index == "counted":
            obs = [frame.reset_index(drop=True) for frame in obs]
        if index == "names":
            obs = [frame.set_axis([f"cell-{i}" for i in frame.index]) for frame in obs]
    return Snapshots(times, samples, weights, obs, draw(st.none() | names))


@pytest.mark.parametrize("suffix", SUFFIXES)
@few
@given(data=snapshots())
def test_snapshots_come_back(tmp_path, suffix, data):
    path = tmp_path / f"data.{suffix}"
    data.save(path)
    again = Snapshots.load(path)
    assert again == data
    assert again.dtype == data.dtype
    if data.obs is not None:
        for one, two in zip(again.obs, data.obs, strict=True):
            pd.testing.assert_frame_equal(one, two, check_index_type=False, check_column_type=False)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_holds_what_people_expect(tmp_path, suffix):
    """Formats that other programs read hold readable columns."""
    obs = [pd.DataFrame({"kind": ["a", None]}, index=["c1", "c2"]), pd.DataFrame({"kind": ["b"]}, index=["c3"])]
    data = Snapshots([0.0, 2.5], [np.eye(2), np.ones((1, 2))], [np.ones(2), np.ones(1)], obs, ["g1", "g2"])
    path = tmp_path / f"data.{suffix}"
    data.save(path)
    if suffix == "npz":
        arrays = np.load(path, allow_pickle=False)
        assert arrays["X"].shape == (3, 2)
        assert arrays["t"].tolist() == [0.0, 0.0, 2.5]
        return
    if suffix == "h5ad":
        adata = pytest.importorskip("anndata").read_h5ad(path)
        assert adata.var_names.tolist() == ["g1", "g2"]
        frame = adata.obs
    else:
        frame = pd.read_parquet(path) if suffix == "parquet" else pd.read_csv(path, skiprows=1)
        assert list(frame.columns) == ["time", "weight", "g1", "g2", "kind", "index"]
    assert frame["time"].tolist() == [0.0, 0.0, 2.5]
    assert frame["kind"].dropna().tolist() == ["a", "b"]
    assert frame["index"].tolist() == ["c1", "c2", "c3"]


@st.composite
def paths(draw):
    n, length, dim = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    discrete = draw(st.booleans())
    dtype = np.int64 if discrete else draw(st.sampled_from([np.float32, np.float64]))
    elements = st.integers(0, 2) if discrete else floats(dtype)
    values = draw(hnp.arrays(dtype, (n, length, dim), elements=elements))
    mask = draw(st.none() | hnp.arrays(bool, (n, length, dim)).filter(lambda m: bool(m.any())))
    if mask is not None and not discrete:
        values = np.where(mask, values, np.nan)
    grid = np.array(
        sorted(draw(st.lists(floats(np.float32), min_size=length, max_size=length, unique=True))), dtype=np.float64
    )
    own = draw(st.booleans())
    lengths = draw(st.none() | hnp.arrays(np.int64, n, elements=st.integers(1, length)))
    if own:
        grid = np.repeat(grid[None], n, 0) + np.arange(n)[:, None]
        ends = np.full(n, length) if lengths is None else lengths
        grid = np.where(np.arange(length) < ends[:, None], grid, grid[np.arange(n), ends - 1][:, None])
        if bool((np.diff(grid, axis=1)[np.arange(1, length) < ends[:, None]] <= 0).any()):
            own, grid = False, np.arange(length, dtype=np.float64)
    labels = draw(st.none() | st.lists(words, min_size=n, max_size=n) | hnp.arrays(np.int64, n) | hnp.arrays(bool, n))
    names = draw(
        st.none()
        | st.lists(words | st.sampled_from(["path", "time", "observed.a"]), min_size=dim, max_size=dim, unique=True)
    )
    return Paths(
        grid,
        values,
        mask,
        lengths,
        labels,
        names,
        ["open", "shut", "é"] if discrete else None,
        {"seed": 3, "grid": np.arange(2), "nested": {"a": (1, 2.5, None)}},
    )


@pytest.mark.parametrize("suffix", PATHS)
@few
@given(data=paths())
def test_paths_come_back(tmp_path, suffix, data):
    path = tmp_path / f"data.{suffix}"
    data.save(path)
    again = Paths.load(path)
    assert again == data
    assert again.dtype == data.dtype
    assert again.info == {"seed": 3, "grid": [0, 1], "nested": {"a": [1, 2.5, None]}}


def test_a_table_of_paths_holds_text_labels(tmp_path):
    Paths([0.0, 1.0], np.zeros((2, 2, 1)), labels=["sick", "well"], names=["x"]).save(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert list(frame.columns) == ["path", "time", "x", "labels"]
    assert frame["labels"].tolist() == ["sick", "sick", "well", "well"]


def test_an_old_group_is_replaced_whole(tmp_path):
    first, second = (Paths([0.0, 1.0], np.full((2, 2, 1), value)) for value in (1.0, 2.0))
    first.save(tmp_path / "a.zarr")
    second.save(tmp_path / "a.zarr")
    assert Paths.load(tmp_path / "a.zarr") == second
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]


@pytest.fixture
def all_is_large(monkeypatch):
    """Leave even small values in their file."""
    monkeypatch.setattr(storage, "MAPPED_FROM", 1)


@pytest.mark.usefixtures("all_is_large")
@pytest.mark.parametrize("suffix", PATHS)
@few
@given(data=paths())
def test_large_paths_come_back(tmp_path, suffix, data):
    data.save(tmp_path / f"data.{suffix}")
    again = Paths.load(tmp_path / f"data.{suffix}")
    assert again == data
    assert again.dtype == data.dtype
    # What lies beside the file while its values are mapped has no name.
    assert [entry.name for entry in tmp_path.iterdir()] == [f"data.{suffix}"]


@pytest.mark.usefixtures("all_is_large")
@pytest.mark.parametrize("suffix", PATHS)
def test_large_values_are_looked_at_in_blocks(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(path_checks, "_BLOCK", 4)
    read = []
    real = StoredValues.rows
    monkeypatch.setattr(StoredValues, "rows", lambda self, rows: read.append(rows) or real(self, rows))
    values = torch.zeros(5, 2, 1)
    values[3, 1] = torch.nan
    mask = values.isfinite()
    Paths([0.0, 1.0], values, mask=mask).save(tmp_path / f"a.{suffix}")
    assert torch.equal(Paths.load(tmp_path / f"a.{suffix}").mask, mask)
    assert read == [slice(0, 2), slice(2, 4), slice(4, 5)]


@pytest.mark.usefixtures("all_is_large")
def test_large_files_of_others_are_checked(tmp_path):
    target = tmp_path / "a.npz"
    Paths([0.0, 1.0], torch.zeros(5, 2, 1)).save(target)
    arrays = dict(np.load(target))
    arrays["values"][3, 1] = np.nan
    np.savez(target, **arrays)
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 5 paths .first: 3"):
        Paths.load(target)
    Paths([0.0], torch.zeros(5, 1, 1, dtype=torch.int64), states=["open"]).save(target)
    arrays = dict(np.load(target))
    arrays["values"][2] = 3
    np.savez(target, **arrays)
    with pytest.raises(ValueError, match="values must lie in 0 to 0, one for each of 1 states; got 0 to 3"):
        Paths.load(target)


@pytest.mark.usefixtures("all_is_large")
@pytest.mark.parametrize("suffix", PATHS)
def test_what_was_just_written_is_not_read(tmp_path, suffix, monkeypatch):
    monkeypatch.delattr(StoredValues, "rows")
    values = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    with PathsWriter(tmp_path / f"a.{suffix}", torch.arange(3.0), (7, 3, 2), torch.float32) as writer:
        for part in values.split(3):
            writer.append(part)
    assert writer.paths() == Paths([0.0, 1.0, 2.0], values)


@pytest.mark.usefixtures("all_is_large")
def test_large_values_are_mapped_not_read(tmp_path):
    data = Paths([0.0, 1.0], torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(0)), labels=np.arange(50))
    data.save(tmp_path / "a.npz")
    again = Paths.load(tmp_path / "a.npz")
    assert again == data
    again.values[0] = 7.0
    assert Paths.load(tmp_path / "a.npz") == data
    # A file that is replaced while it is mapped stays readable.
    Paths([0.0], np.zeros((1, 1, 1))).save(tmp_path / "a.npz")
    assert torch.equal(again.values[1:], data.values[1:])


def test_paths_are_written_in_chunks(tmp_path):
    values = torch.randn(7, 3, 2, generator=torch.Generator().manual_seed(0))
    with PathsWriter(tmp_path / "a.npz", torch.tensor([0.0, 1.0, 2.0]), (7, 3, 2), torch.float32, ["a", "b"]) as writer:
        writer.info["seed"] = np.int64(3)
        for part in values.split(3):
            writer.append(part)
    again = Paths.load(tmp_path / "a.npz")
    assert again == Paths([0.0, 1.0, 2.0], values, names=["a", "b"])
    assert again.info == {"seed": 3}


def test_chunks_that_do_not_fit_leave_nothing(tmp_path):
    times = torch.tensor([0.0])
    with (
        pytest.raises(ValueError, match="1 paths were written to .*a.npz, where 2 are needed"),
        PathsWriter(tmp_path / "a.npz", times, (2, 1, 1), torch.float32) as writer,
    ):
        writer.append(torch.zeros(1, 1, 1))
    with (
        pytest.raises(ValueError, match=r"a chunk must have shape \(rows, 1, 1\); got \(1, 2, 1\)"),
        PathsWriter(tmp_path / "a.npz", times, (2, 1, 1), torch.float32) as writer,
    ):
        writer.append(torch.zeros(1, 2, 1))
    with (
        pytest.raises(TypeError, match="info must hold numbers, strings"),
        PathsWriter(tmp_path / "a.npz", times, (1, 1, 1), torch.float32) as writer,
    ):
        writer.info["bad"] = {1}
        writer.append(torch.zeros(1, 1, 1))
    with (
        pytest.raises(ValueError, match="the values from path 1 on must be finite; got NaN or infinity in 1 of 2 rows"),
        PathsWriter(tmp_path / "a.npz", times, (3, 1, 1), torch.float32) as writer,
    ):
        writer.append(torch.zeros(1, 1, 1))
        writer.append(torch.tensor([0.0, torch.inf]).reshape(2, 1, 1))
    with pytest.raises(ValueError, match="use one of .npz"):
        PathsWriter(tmp_path / "a.csv", times, (1, 1, 1), torch.float32)
    assert list(tmp_path.iterdir()) == []


# --- errors ------------------------------------------------------------------------------------------------

DATA = Snapshots([0.0, 1.0], [np.zeros((2, 1)), np.ones((2, 1))], obs=[pd.DataFrame({"a": ["x", "y"]})] * 2)
MOVES = Paths([0.0, 1.0], np.zeros((2, 2, 1)))


def test_unknown_suffixes_are_refused(tmp_path):
    for call in (lambda: DATA.save(tmp_path / "a.xlsx"), lambda: Snapshots.load(tmp_path / "a.xlsx")):
        with pytest.raises(
            ValueError, match="'a.xlsx' says no format known here; use one of .npz, .parquet, .csv, .csv.gz, .h5ad"
        ):
            call()
    for call in (lambda: MOVES.save(tmp_path / "a.csv"), lambda: Paths.load(tmp_path / "a.csv")):
        with pytest.raises(ValueError, match="use one of .npz, .parquet, .zarr"):
            call()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_places_that_cannot_be_written(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        DATA.save(tmp_path / "no" / f"a.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder; give the name of a file in it"):
        DATA.save(tmp_path / f"folder.{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_save_that_fails_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    DATA.save(path)

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        Snapshots([5.0], [np.ones((9, 1))]).save(path)
    assert Snapshots.load(path) == DATA
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_snapshots_have_a_sentence(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Snapshots.load(path)
    DATA.save(path)
    content = path.read_bytes()
    for broken in (b"", b"garbage", content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.(npz|parquet|csv|csv\.gz|h5ad)"):
            Snapshots.load(path)


@pytest.mark.parametrize("suffix", PATHS)
def test_damaged_paths_have_a_sentence(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Paths.load(path)
    MOVES.save(path)
    if suffix == "zarr":
        for entry in path.iterdir():
            if entry.name.startswith((".z", "zarr")):
                entry.unlink()
        with pytest.raises(ValueError, match="is damaged or of another kind"):
            Paths.load(path)
        return
    content = path.read_bytes()
    for broken in (b"", b"garbage", content[: len(content) // 2]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.(npz|parquet)"):
            Paths.load(path)


def test_one_container_is_not_another(tmp_path):
    DATA.save(tmp_path / "s.npz")
    MOVES.save(tmp_path / "p.npz")
    with pytest.raises(ValueError, match="holds snapshots, where paths are needed"):
        Paths.load(tmp_path / "s.npz")
    with pytest.raises(ValueError, match="holds paths, where snapshots are needed"):
        Snapshots.load(tmp_path / "p.npz")
    np.savez(tmp_path / "f.npz", X=np.zeros((2, 1)), t=np.zeros(2))
    with pytest.raises(ValueError, match="not written by gendyn's save; read foreign files with gendyn.read_snapshots"):
        Snapshots.load(tmp_path / "f.npz")
    with pytest.raises(ValueError, match="not written by gendyn's save; read foreign files with gendyn.read_paths"):
        Paths.load(tmp_path / "f.npz")
    np.savez(tmp_path / "h.npz", gendyn=np.array("{"))
    with pytest.raises(ValueError, match=r"h\.npz is damaged"):
        Snapshots.load(tmp_path / "h.npz")
    np.savez(tmp_path / "k.npz", gendyn=np.array(json.dumps({"kind": "snapshots"})))
    with pytest.raises(ValueError, match=r"k\.npz is damaged .* is missing"):
        Snapshots.load(tmp_path / "k.npz")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([{1}, {2}], "the column 'a' of labels holds objects of class set; only numbers, text"),
        ([1, "b"], "objects of class int"),
        (np.array([1j, 2j]), "values of type complex128"),
        (pd.Categorical([(1, 2), (3, 4)]), "values of type category"),
        (pd.PeriodIndex(["2020-01", "2020-02"], freq="M"), "values of type period"),
    ],
)
def test_labels_that_no_file_can_hold_are_refused(tmp_path, column, words):
    data = Snapshots([0.0], [np.zeros((2, 1))], obs=[pd.DataFrame({"a": column})])
    with pytest.raises(TypeError, match=words):
        data.save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_zero_characters(tmp_path):
    data = Snapshots([0.0], [np.zeros((2, 1))], obs=[pd.DataFrame({"a": ["x\0", "\0"]})])
    for suffix in ("npz", "csv", "parquet"):
        data.save(tmp_path / f"a.{suffix}")
        assert Snapshots.load(tmp_path / f"a.{suffix}") == data
    with pytest.raises(ValueError, match=r"a zero character, which .h5ad cannot store; remove it, or save as .npz"):
        data.save(tmp_path / "a.h5ad")


@pytest.mark.parametrize(
    ("module", "extra", "call"),
    [
        ("anndata", "bio", lambda folder: DATA.save(folder / "a.h5ad")),
        ("pyarrow", "io", lambda folder: DATA.save(folder / "a.parquet")),
        ("pyarrow", "io", lambda folder: MOVES.save(folder / "a.parquet")),
        ("zarr", "io", lambda folder: MOVES.save(folder / "a.zarr")),
        ("xarray", "io", lambda _folder: MOVES.to_xarray()),
    ],
)
def test_a_missing_package_names_its_extra(tmp_path, monkeypatch, module, extra, call):
    real = builtins.__import__

    def importer(name, *args, **kwargs):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", importer)
    with pytest.raises(ImportError, match=rf'this needs the package {module}; pip install "gendyn\[{extra}\]"'):
        call(tmp_path)


def test_a_broken_package_is_not_called_missing(monkeypatch):
    def importer(name):
        raise ModuleNotFoundError("No module named 'deep'", name="deep")

    monkeypatch.setattr("importlib.import_module", importer)
    with pytest.raises(ModuleNotFoundError, match="deep"):
        optional("anndata", "bio")


def test_pickles_are_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="the array 'X' of .* holds pickled objects, which could run code"):
        open_npz(tmp_path / "a.npz")


# --- parts -------------------------------------------------------------------------------------------------


@given(st.lists(st.none() | st.text(max_size=6) | words, max_size=6))
def test_escaping_is_undone(texts):
    array = np.array([*texts, None], dtype=object)
    escaped = escape(array)
    assert not any(mark in written for written in escaped for mark in "\n\r\0")
    assert unescape(escaped).tolist() == array.tolist()


@given(st.integers(1, 5).flatmap(columns))
def test_columns_are_restored(column):
    meta = json.loads(json.dumps(describe(column, "a")))
    again = decode(encode(column, meta), meta, column.index)
    pd.testing.assert_series_equal(again, column)


@pytest.mark.parametrize("dtype", ["string", "Float64", "boolean", "timedelta64[s]", "datetime64[ms]", "float32"])
def test_rarer_columns_are_restored(dtype):
    values = {"string": ["a", None], "boolean": [True, None], "Float64": [0.1, None], "float32": [0.1, np.nan]}
    column = pd.Series(values.get(dtype, np.array([5, 7])), dtype=dtype if dtype in values else None)
    column = column.astype(dtype)
    meta = describe(column, "a")
    pd.testing.assert_series_equal(decode(encode(column, meta), meta, column.index), column)


def test_plain_values():
    assert plain({"a": torch.arange(2), 1: (np.float64(0.5),)}, "info") == {"a": [0, 1], "1": [0.5]}
    assert from_json_bytes(json_bytes(["é\0", "\ud800"])) == ["é\0", "\ud800"]
    with pytest.raises(TypeError, match="info must hold numbers, strings, lists and mappings only; got object"):
        plain([object()], "info")


def test_sentences_are_not_wrapped_twice(tmp_path):
    path = tmp_path / "a"
    path.touch()
    with pytest.raises(ValueError, match=f"^{path} is odd$"), damaged(path):
        raise ValueError(f"{path} is odd")


def test_a_cohort_that_is_damaged(tmp_path):
    path = tmp_path / "c.npz"
    Cohort({"a": DATA}).save(path)
    arrays = dict(np.load(path))
    del arrays["0.X"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="damaged .* '0.X' is missing|damaged .* 'X' is missing"):
        Cohort.load(path)
