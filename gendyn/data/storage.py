r"""How the containers are stored: whole rows, a JSON header, no pickle, written atomically.

Snapshots are one matrix of all rows with their times: ``X (N, d)``, ``t (N,)`` in ``.npz``; one table in ``.csv``,
``.csv.gz`` and ``.parquet``; an AnnData object in ``.h5ad``. Paths are ``values (n, T, d)`` and ``times`` in ``.npz``, one long
table in ``.parquet``, a group in ``.zarr``. What a format cannot say for itself (floating type, names, order
of labels) stands in the header, so that reading gives back what was written.
"""

from __future__ import annotations

import importlib
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data.files import atomic_path

if TYPE_CHECKING:
    from gendyn.data.paths import Paths
    from gendyn.data.snapshots import Cohort, Snapshots

__all__ = [
    "PathsWriter",
    "load_cohort",
    "load_paths",
    "load_snapshots",
    "optional",
    "open_npz",
    "save_cohort",
    "save_paths",
    "save_snapshots",
]

Arrays = dict[str, np.ndarray[Any, Any]]

_COMMENT = "# gendyn "


def optional(module: str, extra: str) -> Any:
    """Import an optional package, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'this needs the package {module}; pip install "gendyn[{extra}]"') from error


def suffix_of(path: Path, known: Sequence[str]) -> str:
    """Return the suffix of a path if it is one of those known."""
    for suffix in sorted(known, key=len, reverse=True):
        if path.name.endswith(suffix):
            return suffix
    raise ValueError(f"the suffix of {path.name!r} says no format; use one of {', '.join(known)}")


def check_exists(path: Path) -> None:
    """Refuse a path where nothing is."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path")


def open_npz(path: Path) -> Arrays:
    """Read all arrays of an ``.npz`` file; pickled objects are refused."""
    check_exists(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("it holds one bare array, not named ones")
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        reason = "it holds pickled objects, which could run code" if "pickle" in str(error).lower() else str(error)
        raise ValueError(f"{path} cannot be read as .npz with plain arrays: {reason}") from error


# --- snapshots ---------------------------------------------------------------------------------------------


def save_snapshots(snapshots: Snapshots, path: str | Path) -> None:
    """Write snapshots in the format that the suffix names."""
    target = Path(path)
    suffix = suffix_of(target, (".npz", ".csv", ".csv.gz", ".parquet", ".h5ad"))
    values, rows, header = _pack(snapshots)
    if suffix == ".npz":
        arrays: Arrays = {"X": values, "t": rows.pop("time").to_numpy()}
        if header["weighted"]:
            arrays["weights"] = rows.pop("weight").to_numpy()
        arrays |= _columns_to_arrays(rows, header) if header["obs"] is not None else {}
        _write_npz(target, arrays, header)
        return
    frame = _wide(values, rows, header)
    if suffix == ".h5ad":
        anndata = optional("anndata", "bio")
        variables = pd.DataFrame(index=pd.Index(header["columns"], dtype=str))
        labels = frame.drop(columns=header["columns"])
        if header["index"] is None:
            labels.index = labels.index.astype(str)
        adata = anndata.AnnData(values, obs=labels, var=variables, uns={"gendyn": json.dumps(header)})
        with atomic_path(target) as temporary:
            adata.write_h5ad(temporary)
        return
    if suffix == ".parquet":
        optional("pyarrow", "io")
        frame.attrs["gendyn"] = json.dumps(header)
        with atomic_path(target) as temporary:
            frame.to_parquet(temporary)
        return
    text = _COMMENT + json.dumps(header) + "\n" + frame.to_csv(index=header["index"] is not None, lineterminator="\n")
    with atomic_path(target) as temporary:
        pd.Series([text])  # one string, written whole
        _write_text(temporary, text, compressed=suffix == ".csv.gz")


def load_snapshots(path: str | Path) -> Snapshots:
    """Read snapshots that :func:`save_snapshots` wrote."""
    source = Path(path)
    suffix = suffix_of(source, (".npz", ".csv", ".csv.gz", ".parquet", ".h5ad"))
    check_exists(source)
    if suffix == ".npz":
        arrays = open_npz(source)
        header = _header(arrays, source, "snapshots")
        rows = pd.DataFrame({"time": arrays["t"]})
        if header["weighted"]:
            rows["weight"] = arrays["weights"]
        if header["obs"] is not None:
            rows = pd.concat([rows, _arrays_to_columns(arrays, header, len(rows))], axis=1)
        return _unpack(arrays["X"], rows, header)
    if suffix == ".h5ad":
        adata = optional("anndata", "bio").read_h5ad(source)
        header = _parse_header(adata.uns.get("gendyn"), source, "snapshots")
        return _unpack(np.asarray(adata.X), adata.obs, header)
    if suffix == ".parquet":
        optional("pyarrow", "io")
        frame = pd.read_parquet(source)
        header = _parse_header(frame.attrs.get("gendyn"), source, "snapshots")
    else:
        header = _parse_header(comment_of(source), source, "snapshots")
        types = {name: "float64" for name in header["columns"]} | {"time": "float64"}
        strings = {c["name"]: str for c in header["obs"] or [] if c["kind"] in ("string", "categorical", "datetime")}
        frame = pd.read_csv(
            source,
            skiprows=1,
            dtype=types | strings,
            index_col=0 if header["index"] is not None else None,
            float_precision="round_trip",
            keep_default_na=True,
            na_values=[""],
        )
    values = frame[header["columns"]].to_numpy()
    return _unpack(values, frame.drop(columns=header["columns"]), header)


def comment_of(path: Path) -> str | None:
    """Return the header that stands in the first line of a table gendyn wrote, or ``None``."""
    import gzip

    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        line = file.readline()
    return line[len(_COMMENT) :] if line.startswith(_COMMENT) else None


def _pack(snapshots: Snapshots) -> tuple[np.ndarray[Any, Any], pd.DataFrame, dict[str, Any]]:
    """Return the matrix of all rows, a table with their times, weights and labels, and the header."""
    values = np.concatenate([x.cpu().numpy() for x in snapshots.samples])
    rows = pd.DataFrame({"time": np.repeat(snapshots.times.cpu().numpy(), snapshots.sizes)})
    header: dict[str, Any] = {
        "kind": "snapshots",
        "dtype": str(values.dtype),
        "names": list(snapshots.names) if snapshots.names else None,
        "weighted": snapshots.weights is not None,
        "obs": None,
        "index": None,
    }
    if snapshots.weights is not None:
        rows["weight"] = np.concatenate([w.cpu().numpy() for w in snapshots.weights])
    if snapshots.obs is not None:
        labels = pd.concat(snapshots.obs)
        header["obs"] = [{"name": str(name), "kind": _kind(labels[name]), "dtype": str(labels[name].dtype)} for name in labels]
        if not labels.columns.is_unique:
            raise ValueError("columns of obs must have different names")
        if labels.index.dtype == object or not labels.index.equals(pd.RangeIndex(len(labels))):
            header["index"] = "string" if labels.index.dtype == object else str(labels.index.dtype)
            rows.index = labels.index
        labels.columns = [f"obs.{name}" for name in labels.columns]
        rows = pd.concat([rows, labels.set_index(rows.index)], axis=1)
    header["columns"] = [f"x.{name}" for name in header["names"] or range(values.shape[1])]
    if header["names"] and not {"time", "weight"} & set(header["names"]):
        header["columns"] = list(header["names"])
    return values, rows, header


def _wide(values: np.ndarray[Any, Any], rows: pd.DataFrame, header: Mapping[str, Any]) -> pd.DataFrame:
    matrix = pd.DataFrame(values, columns=header["columns"], index=rows.index)
    return pd.concat([rows[["time"]], matrix, rows.drop(columns="time")], axis=1)


def _unpack(values: np.ndarray[Any, Any], rows: pd.DataFrame, header: Mapping[str, Any]) -> Snapshots:
    from gendyn.data.snapshots import Snapshots

    times = rows["time"].to_numpy(dtype=np.float64)
    starts = np.flatnonzero(np.r_[True, times[1:] != times[:-1]])
    bounds = [*starts.tolist(), len(times)]
    parts = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    values = np.ascontiguousarray(values).astype(header["dtype"], copy=False)
    obs = None
    if header["obs"] is not None:
        labels = pd.DataFrame({c["name"]: _restore(rows[f"obs.{c['name']}"], c) for c in header["obs"]}, index=rows.index)
        if header["index"] is None:
            labels = labels.reset_index(drop=True)
        else:
            labels.index = labels.index.astype(str if header["index"] == "string" else header["index"])
            labels.index.name = None
        obs = [labels.iloc[p] for p in parts]
    weights = None
    if header["weighted"]:
        weight = rows["weight"].to_numpy().astype(header["dtype"])
        weights = [weight[p] for p in parts]
    return Snapshots(times[starts], [values[p] for p in parts], weights, obs, header["names"])


def _kind(column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categorical"
    if pd.api.types.is_bool_dtype(column) and column.dtype == np.bool_:
        return "bool"
    if pd.api.types.is_datetime64_any_dtype(column) or pd.api.types.is_timedelta64_dtype(column):
        return "datetime"
    if pd.api.types.is_numeric_dtype(column):
        return "number"
    known = column.dropna()
    if known.map(lambda v: isinstance(v, str)).all():
        return "string"
    raise TypeError(
        f"column {column.name!r} of obs holds {type(known.iloc[0]).__name__} objects; only numbers, strings, bools, dates and "
        "categories can be saved"
    )


def _restore(column: pd.Series[Any], meta: Mapping[str, Any]) -> pd.Series[Any]:
    """Give a column of labels its type back."""
    if meta["kind"] == "categorical":
        text = column.astype(object)
        text = text.where(column.notna(), None)
        if "categories" in meta:
            known = {str(c): c for c in meta["categories"]}
            mapped = text.map(lambda v: None if v is None else known.get(str(v)))
            return pd.Series(pd.Categorical(mapped, categories=meta["categories"], ordered=meta.get("ordered", False)), index=column.index)
        return text.astype("category")
    if meta["kind"] == "string":
        return column.astype(object).where(column.notna(), None)
    if meta["kind"] == "bool":
        return column.map(lambda v: v if isinstance(v, (bool, np.bool_)) else str(v) == "True").astype(bool)
    return column.astype(meta["dtype"])


def _columns_to_arrays(rows: pd.DataFrame, header: dict[str, Any]) -> Arrays:
    """Return labels as plain arrays: strings and categories as codes into a list, everything else as it is."""
    arrays: Arrays = {}
    if header["index"] is not None:
        index = rows.index
        arrays["obs_index"] = index.to_numpy(dtype=np.str_) if header["index"] == "string" else index.to_numpy()
    for meta in header["obs"]:
        column = rows[f"obs.{meta['name']}"]
        key = f"obs.{meta['name']}"
        if meta["kind"] == "categorical":
            arrays[key] = column.cat.codes.to_numpy(dtype=np.int32)
            arrays[f"{key}.categories"] = _plain_array(column.cat.categories)
            meta["ordered"] = bool(column.cat.ordered)
        elif meta["kind"] == "string":
            codes, known = pd.factorize(column)
            arrays[key] = codes.astype(np.int32)
            arrays[f"{key}.categories"] = np.asarray(known, dtype=np.str_)
        elif meta["kind"] == "datetime":
            arrays[key] = column.to_numpy().astype(np.int64)
        elif isinstance(column.dtype, np.dtype):
            arrays[key] = column.to_numpy()
        else:
            arrays[key] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return arrays


def _plain_array(index: pd.Index[Any]) -> np.ndarray[Any, Any]:
    return index.to_numpy() if index.dtype != object else index.to_numpy(dtype=np.str_)


def _arrays_to_columns(arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any], n: int) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for meta in header["obs"]:
        key = f"obs.{meta['name']}"
        codes = arrays[key]
        if meta["kind"] == "categorical":
            categories = arrays[f"{key}.categories"]
            known = categories.astype(object) if categories.dtype.kind == "U" else categories
            columns[key] = pd.Categorical.from_codes(codes, categories=known, ordered=meta["ordered"])
            meta["categories"] = known.tolist()
        elif meta["kind"] == "string":
            known = np.append(arrays[f"{key}.categories"].astype(object), None)
            columns[key] = known[codes]
        elif meta["kind"] == "datetime":
            columns[key] = pd.Series(codes).astype(meta["dtype"])
        else:
            columns[key] = codes
    frame = pd.DataFrame(columns, index=pd.RangeIndex(n))
    if header["index"] is not None:
        index = arrays["obs_index"]
        frame.index = pd.Index(index.astype(object) if header["index"] == "string" else index)
    return frame


# --- cohorts -----------------------------------------------------------------------------------------------


def save_cohort(cohort: Cohort, path: str | Path) -> None:
    """Write a cohort to one ``.npz`` file."""
    target = Path(path)
    suffix_of(target, (".npz",))
    arrays: Arrays = {}
    members = []
    for number, (name, member) in enumerate(cohort.items()):
        values, rows, header = _pack(member)
        part: Arrays = {"X": values, "t": rows.pop("time").to_numpy()}
        if header["weighted"]:
            part["weights"] = rows.pop("weight").to_numpy()
        part |= _columns_to_arrays(rows, header) if header["obs"] is not None else {}
        arrays |= {f"{number}/{key}": array for key, array in part.items()}
        members.append({"name": name, "header": header})
    _write_npz(target, arrays, {"kind": "cohort", "members": members, "conditions": cohort.conditions})


def load_cohort(path: str | Path) -> Cohort:
    """Read a cohort that :func:`save_cohort` wrote."""
    from gendyn.data.snapshots import Cohort

    source = Path(path)
    suffix_of(source, (".npz",))
    arrays = open_npz(source)
    header = _header(arrays, source, "cohort")
    members = {}
    for number, entry in enumerate(header["members"]):
        part = {k.removeprefix(f"{number}/"): v for k, v in arrays.items() if k.startswith(f"{number}/")}
        rows = pd.DataFrame({"time": part["t"]})
        if entry["header"]["weighted"]:
            rows["weight"] = part["weights"]
        if entry["header"]["obs"] is not None:
            labels = _arrays_to_columns(part, entry["header"], len(rows))
            rows = pd.concat([rows.set_index(labels.index), labels], axis=1)
        members[entry["name"]] = _unpack(part["X"], rows, entry["header"])
    return Cohort(members, header["conditions"])


# --- paths -------------------------------------------------------------------------------------------------


def save_paths(paths: Paths, path: str | Path) -> None:
    """Write paths in the format that the suffix names."""
    target = Path(path)
    suffix = suffix_of(target, (".npz", ".parquet", ".zarr"))
    arrays, header = _pack_paths(paths)
    if suffix == ".npz":
        _write_npz(target, arrays, header)
    elif suffix == ".zarr":
        zarr = optional("zarr", "io")
        with atomic_path(target.with_suffix(".zarr.part")) as temporary:
            temporary.unlink()
            group = zarr.open_group(str(temporary), mode="w")
            for name, array in arrays.items():
                group.create_array(name, data=_codes(array))
            group.attrs["gendyn"] = json.dumps(header)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            temporary.touch()
        target.with_suffix(".zarr.part").unlink(missing_ok=True)
    else:
        optional("pyarrow", "io")
        n, length, dim = paths.values.shape
        frame = pd.DataFrame(arrays["values"].reshape(n * length, dim), columns=header["columns"])
        if "mask" in arrays:
            for i, name in enumerate(header["columns"]):
                frame[f"observed.{name}"] = arrays["mask"].reshape(n * length, dim)[:, i]
        frame.insert(0, "time", np.broadcast_to(arrays["times"], (n, length)).reshape(-1))
        frame.insert(0, "path", np.repeat(np.arange(n), length))
        for name in ("lengths", "labels"):
            if name in arrays:
                frame[name] = np.repeat(arrays[name], length)
        frame.attrs["gendyn"] = json.dumps(header | {"shape": [n, length, dim]})
        with atomic_path(target) as temporary:
            frame.to_parquet(temporary, index=False)


def load_paths(path: str | Path) -> Paths:
    """Read paths that :func:`save_paths` or :class:`PathsWriter` wrote; large ``.npz`` values stay on the disk until used."""
    source = Path(path)
    suffix = suffix_of(source, (".npz", ".parquet", ".zarr"))
    check_exists(source)
    if suffix == ".npz":
        arrays = _open_mapped(source)
        return _unpack_paths(arrays, _header(arrays, source, "paths"))
    if suffix == ".zarr":
        group = optional("zarr", "io").open_group(str(source), mode="r")
        header = _parse_header(group.attrs.get("gendyn"), source, "paths")
        return _unpack_paths({name: np.asarray(group[name]) for name in header["arrays"]}, header)
    optional("pyarrow", "io")
    frame = pd.read_parquet(source)
    header = _parse_header(frame.attrs.get("gendyn"), source, "paths")
    n, length, dim = header["shape"]
    columns = header["columns"]
    times = frame["time"].to_numpy().reshape(n, length)
    arrays = {
        "values": frame[columns].to_numpy().astype(header["dtype"]).reshape(n, length, dim),
        "times": times[0] if header["shared"] else times,
    }
    if "mask" in header["arrays"]:
        arrays["mask"] = frame[[f"observed.{name}" for name in columns]].to_numpy().reshape(n, length, dim)
    for name in ("lengths", "labels"):
        if name in header["arrays"]:
            arrays[name] = frame[name].to_numpy()[::length]
    return _unpack_paths(arrays, header)


def _pack_paths(paths: Paths) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {"values": paths.values.detach().cpu().numpy(), "times": paths.times.cpu().numpy()}
    for name, tensor in (("mask", paths.mask), ("lengths", paths.lengths)):
        if tensor is not None:
            arrays[name] = tensor.cpu().numpy()
    if paths.labels is not None:
        arrays["labels"] = paths.labels
    names = list(paths.names) if paths.names else None
    taken = {"path", "time", "lengths", "labels"}
    plain = names is not None and not taken & set(names) and not any(name.startswith("observed.") for name in names)
    columns = names if plain and names is not None else [f"x.{name}" for name in names or range(paths.dim)]
    header = {
        "kind": "paths",
        "dtype": str(arrays["values"].dtype),
        "names": names,
        "columns": columns,
        "states": list(paths.states) if paths.states else None,
        "shared": paths.shared_times,
        "arrays": list(arrays),
        "strings": "labels" in arrays and arrays["labels"].dtype.kind == "U",
        "info": dict(paths.info),
    }
    return arrays, header


def _unpack_paths(arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]) -> Paths:
    from gendyn.data.paths import Paths

    labels = arrays.get("labels")
    if labels is not None and header["strings"]:
        labels = labels.astype(np.str_) if labels.dtype.kind != "i" else labels.astype(np.uint32).view("U1").reshape(len(labels), -1)
        if labels.ndim == 2:
            labels = np.array(["".join(row).rstrip("\0") for row in labels])
    values = arrays["values"]
    return Paths(
        np.array(arrays["times"]),
        torch.from_numpy(values if values.flags.writeable else values.copy()),
        mask=arrays.get("mask"),
        lengths=arrays.get("lengths"),
        labels=labels,
        names=header["names"],
        states=header["states"],
        info=header["info"],
    )


def _codes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return strings as a matrix of code points, which every version of zarr stores alike."""
    if array.dtype.kind != "U":
        return array
    width = max(1, array.dtype.itemsize // 4)
    return array.astype(f"U{width}").view(np.uint32).reshape(len(array), width).astype(np.int64)


class PathsWriter:
    """Writes the values of paths to ``.npz`` chunk by chunk, in the memory of one chunk.

    Parameters
    ----------
    path
        The target; it appears when the last chunk is written.
    times
        Output times, ``(T,)`` or ``(n, T)``.
    shape
        ``(n, T, d)`` of all values.
    dtype
        Of the values.
    names
        Names of the features.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with PathsWriter(Path(folder) / "p.npz", torch.tensor([0.0, 1.0]), (4, 2, 1), torch.float32) as writer:
    ...         writer.append(torch.zeros(2, 2, 1))
    ...         writer.append(torch.ones(2, 2, 1))
    ...     load_paths(Path(folder) / "p.npz").values.sum().item()
    4.0
    """

    def __init__(
        self,
        path: str | Path,
        times: Tensor,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        names: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(path)
        suffix_of(self.path, (".npz",))
        self.times = times
        self.shape = shape
        self.dtype = np.dtype(str(dtype).removeprefix("torch."))
        self.names = None if names is None else list(names)
        self.info: dict[str, Any] = {}
        self._written = 0

    def __enter__(self) -> Self:
        self._context = atomic_path(self.path)
        self._archive = zipfile.ZipFile(self._context.__enter__(), "w", zipfile.ZIP_STORED, allowZip64=True)
        self._member = self._archive.open("values.npy", "w", force_zip64=True)
        description = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_2_0(self._member, description)
        return self

    def append(self, values: Tensor) -> None:
        """Write the values of the next paths, ``(rows, T, d)``."""
        if values.shape[1:] != self.shape[1:]:
            raise ValueError(f"a chunk must have shape (rows, {self.shape[1]}, {self.shape[2]}); got {tuple(values.shape)}")
        self._written += len(values)
        array = values.detach().cpu().contiguous().numpy().astype(self.dtype, copy=False)
        self._member.write(memoryview(array).cast("B"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._member.close()
        if kind is None and self._written != self.shape[0]:
            kind, error = ValueError, ValueError(f"{self._written} of {self.shape[0]} paths were written")
        if kind is None:
            header = {
                "kind": "paths",
                "dtype": str(self.dtype),
                "names": self.names,
                "columns": self.names or [f"x.{i}" for i in range(self.shape[2])],
                "states": None,
                "shared": self.times.ndim == 1,
                "arrays": ["values", "times"],
                "strings": False,
                "info": self.info,
            }
            for name, array in (("times", self.times.cpu().numpy()), ("gendyn", np.array(json.dumps(header)))):
                with self._archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        self._archive.close()
        return self._context.__exit__(kind, error, trace)


# --- npz ---------------------------------------------------------------------------------------------------


def _write_npz(path: Path, arrays: Arrays, header: Mapping[str, Any]) -> None:
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, gendyn=np.array(json.dumps(header)), **arrays)


def _write_text(path: Path, text: str, *, compressed: bool) -> None:
    import gzip

    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if compressed else data)


def _open_mapped(path: Path) -> Arrays:
    """Read an ``.npz`` file, with its stored member ``values`` mapped (copy on write) instead of read."""
    check_exists(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
            entry = archive.getinfo("values.npy") if "values.npy" in names else None
            if entry is None or entry.compress_type != zipfile.ZIP_STORED or entry.file_size < 1 << 28:
                return open_npz(path)
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
                shape, fortran, dtype = reader(member)
                head = member.tell()
        if fortran or dtype.hasobject:
            return open_npz(path)
        with open(path, "rb") as raw:
            raw.seek(entry.header_offset)
            local = raw.read(30)
            start = entry.header_offset + 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        values: np.ndarray[Any, Any] = np.memmap(path, dtype=dtype, mode="c", offset=start + head, shape=shape)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name != "values"} | {"values": values}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as .npz with plain arrays: {error}") from error


def _header(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path, kind: str) -> dict[str, Any]:
    return _parse_header(str(arrays["gendyn"]) if "gendyn" in arrays else None, path, kind)


def _parse_header(text: str | None, path: Path, kind: str) -> dict[str, Any]:
    if text is None:
        reader = {"snapshots": "gendyn.read_snapshots", "paths": "gendyn.read_paths"}.get(kind, "the reader")
        raise ValueError(f"{path} was not written by gendyn's save; read foreign files with {reader}")
    try:
        header = json.loads(text)
        found = header["kind"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"the header of {path} is damaged: {error}") from error
    if found != kind:
        raise ValueError(f"{path} holds {found}, not {kind}")
    return dict(header)
