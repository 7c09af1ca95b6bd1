r"""Snapshots and cohorts as files.

All rows of all times are one matrix ``X (N, d)`` with its times ``t (N,)``, in the order of the times: arrays in
``.npz``, one table in ``.csv``, ``.csv.gz`` and ``.parquet``, an AnnData object in ``.h5ad``.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from gendyn.data.cohort import Cohort
from gendyn.data.files import atomic_path
from gendyn.data.snapshots import Snapshots
from gendyn.data.storage.formats import (
    Arrays,
    check_exists,
    damaged,
    from_json_bytes,
    json_bytes,
    open_npz,
    optional,
    parse_header,
    plain,
    suffix_of,
    write_npz,
)
from gendyn.data.storage.labels import decode, describe, encode, escape, is_text, unescape

__all__ = [
    "SNAPSHOT_SUFFIXES",
    "comment_of",
    "load_cohort",
    "load_snapshots",
    "plain_columns",
    "save_cohort",
    "save_snapshots",
    "snapshots_from_arrays",
    "snapshots_from_table",
]

SNAPSHOT_SUFFIXES = (".npz", ".parquet", ".csv", ".csv.gz", ".h5ad")

_COMMENT = "# gendyn "
_PLAIN_NAME = re.compile(r"[\w .()+-]+")


@dataclass(frozen=True)
class _Packed:
    """Snapshots as plain arrays: the matrix, its times and weights, encoded labels by the name of their column."""

    values: np.ndarray[Any, Any]
    times: np.ndarray[Any, Any]
    weights: np.ndarray[Any, Any] | None
    labels: dict[str, np.ndarray[Any, Any]]
    header: dict[str, Any]


def save_snapshots(snapshots: Snapshots, path: str | Path) -> None:
    """Write snapshots in the format that the suffix names, atomically.

    Raises
    ------
    ValueError
        If the suffix names no format.
    TypeError
        If a column of labels holds objects that no file can hold.
    OSError
        If the file cannot be written there.
    """
    target = Path(path)
    suffix = suffix_of(target, SNAPSHOT_SUFFIXES)
    packed = _pack(snapshots)
    if suffix == ".npz":
        write_npz(target, _arrays(packed), packed.header)
    elif suffix == ".h5ad":
        _write_h5ad(packed, target)
    elif suffix == ".parquet":
        optional("pyarrow", "io")
        frame = _table(packed)
        frame.attrs["gendyn"] = json.dumps(packed.header)
        with atomic_path(target) as temporary:
            frame.to_parquet(temporary, index=False)
    else:
        frame = _table(packed)
        for name, label in packed.labels.items():
            if label.dtype == object:
                frame[name] = escape(label)
        with atomic_path(target) as temporary, _text(temporary, compressed=suffix == ".csv.gz") as handle:
            handle.write(_COMMENT + json.dumps(packed.header) + "\n")
            frame.to_csv(handle, index=False, lineterminator="\n")


def load_snapshots(path: str | Path) -> Snapshots:
    """Read snapshots that :func:`save_snapshots` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the suffix names no format, the file is damaged, or gendyn did not write it.
    """
    source = Path(path)
    suffix = suffix_of(source, SNAPSHOT_SUFFIXES)
    check_exists(source)
    if suffix == ".npz":
        return snapshots_from_arrays(open_npz(source), source)
    if suffix == ".h5ad":
        return _read_h5ad(source)
    if suffix == ".parquet":
        optional("pyarrow", "io")
        with damaged(source):
            frame = pd.read_parquet(source)
        return snapshots_from_table(frame, parse_header(frame.attrs.get("gendyn"), source, "snapshots"), source)
    header = parse_header(comment_of(source), source, "snapshots")
    with damaged(source), _text(source, compressed=suffix == ".csv.gz", write=False) as handle:
        handle.readline()
        frame = _read_csv(handle, header)
    return snapshots_from_table(frame, header, source)


def comment_of(path: Path) -> str | None:
    """Return the header in the first line of a ``.csv`` file that gendyn wrote, or ``None``."""
    with damaged(path), _text(path, compressed=path.name.endswith(".gz"), write=False, errors="replace") as handle:
        start = handle.read(len(_COMMENT))
        return handle.readline() if start == _COMMENT else None


def snapshots_from_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> Snapshots:
    """Return the snapshots in the arrays of an ``.npz`` file that gendyn wrote."""
    header = parse_header(arrays.get("gendyn"), path, "snapshots")
    with damaged(path):
        return _from_arrays(arrays, header)


def snapshots_from_table(frame: pd.DataFrame, header: Mapping[str, Any], path: Path) -> Snapshots:
    """Return the snapshots in a table that gendyn wrote."""
    with damaged(path):
        values = frame[header["columns"]].to_numpy(dtype=header["dtype"])
        weights = frame[header["weight"]].to_numpy() if header["weight"] else None
        labels = {meta["stored"]: frame[meta["stored"]] for meta in _metas(header)}
        return _unpack(_Packed(values, frame[header["time"]].to_numpy(), weights, labels, dict(header)))


# --- plain arrays ------------------------------------------------------------------------------------------


def _pack(snapshots: Snapshots) -> _Packed:
    values = np.concatenate([x.cpu().numpy() for x in snapshots.samples])
    taken = {"time", "weight", "label", "index", ""}
    columns = plain_columns(snapshots.names, values.shape[1], taken)
    header: dict[str, Any] = {
        "kind": "snapshots",
        "dtype": str(values.dtype),
        "names": None if snapshots.names is None else list(snapshots.names),
        "columns": columns,
        "time": "time",
        "weight": None if snapshots.weights is None else "weight",
        "obs": None,
        "index": None,
    }
    encoded: dict[str, np.ndarray[Any, Any]] = {}
    if snapshots.obs is not None:
        labels = pd.concat(snapshots.obs)
        stored = plain_columns(list(labels.columns), labels.shape[1], taken | set(columns), "label")
        header["obs"] = []
        for position, (name, key) in enumerate(zip(labels.columns, stored, strict=True)):
            column = labels.iloc[:, position]
            meta = describe(column, str(name)) | {"stored": key}
            header["obs"].append(meta)
            encoded[key] = encode(column, meta)
        if not all(_counts(frame.index) for frame in snapshots.obs):
            rows = pd.Series(labels.index.to_numpy() if labels.index.dtype == object else labels.index)
            header["index"] = describe(rows, "index") | {"stored": "index", "title": _title(labels.index)}
            encoded["index"] = encode(rows, header["index"])
    weights = None if snapshots.weights is None else np.concatenate([w.cpu().numpy() for w in snapshots.weights])
    times = np.repeat(snapshots.times.cpu().numpy(), snapshots.sizes)
    return _Packed(values, times, weights, encoded, header)


def _unpack(packed: _Packed) -> Snapshots:
    header, times = packed.header, np.asarray(packed.times, dtype=np.float64)
    starts = np.flatnonzero(np.r_[True, times[1:] != times[:-1]])
    parts = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(times)], strict=True)]
    obs = None
    if header["obs"] is not None:
        rows = pd.RangeIndex(len(times))
        columns = {meta["name"]: decode(packed.labels[meta["stored"]], meta, rows) for meta in header["obs"]}
        labels = pd.DataFrame(columns, index=rows)
        if header["index"] is None:
            obs = [labels.iloc[part].reset_index(drop=True) for part in parts]
        else:
            found = decode(packed.labels["index"], header["index"], rows)
            labels.index = pd.Index(found, name=header["index"]["title"])
            obs = [labels.iloc[part] for part in parts]
    weights = None if packed.weights is None else np.asarray(packed.weights).astype(header["dtype"])
    return Snapshots(
        times[starts],
        [packed.values[part] for part in parts],
        None if weights is None else [weights[part] for part in parts],
        obs,
        header["names"],
    )


def plain_columns(names: Sequence[str] | None, count: int, taken: set[str], stem: str = "x") -> list[str]:
    """Return names for the columns of a table: those given where they are fit for one, else numbered ones.

    Examples
    --------
    >>> plain_columns(["gene", "other"], 2, {"time"}), plain_columns(["time", "gene"], 2, {"time"})
    (['gene', 'other'], ['x.0', 'x.1'])
    """
    fit = names is not None and all(_PLAIN_NAME.fullmatch(name) and name.strip() == name for name in names)
    if fit and names is not None and not taken & set(names):
        return list(names)
    numbered = [f"{stem}.{i}" for i in range(count)]
    return numbered if not taken & set(numbered) else plain_columns(None, count, taken, f"{stem}.{stem}")


def _metas(header: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*(header["obs"] or []), *([header["index"]] if header["index"] else [])]


def _counts(index: pd.Index[Any]) -> bool:
    """Return whether an index only counts the rows, as it does where the user gave none."""
    return isinstance(index, pd.RangeIndex) and index.equals(pd.RangeIndex(len(index))) and index.name is None


def _title(index: pd.Index[Any]) -> str | None:
    return None if index.name is None else str(index.name)


def _arrays(packed: _Packed) -> Arrays:
    arrays: Arrays = {"X": packed.values, "t": packed.times}
    if packed.weights is not None:
        arrays["weights"] = packed.weights
    for position, meta in enumerate(_metas(packed.header)):
        label = packed.labels[meta["stored"]]
        if is_text(meta):
            codes, unique = pd.factorize(label)
            arrays[f"labels.{position}"] = codes.astype(np.int32)
            arrays[f"labels.{position}.text"] = json_bytes(list(unique))
        else:
            arrays[f"labels.{position}"] = label
    return arrays


def _from_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], header: dict[str, Any]) -> Snapshots:
    labels = {}
    for position, meta in enumerate(_metas(header)):
        label = arrays[f"labels.{position}"]
        if is_text(meta):
            texts = [*from_json_bytes(arrays[f"labels.{position}.text"]), None]
            label = np.array(texts, dtype=object)[label]
        labels[meta["stored"]] = label
    values = arrays["X"].astype(header["dtype"], copy=False)
    return _unpack(_Packed(values, arrays["t"], arrays.get("weights"), labels, header))


# --- tables ------------------------------------------------------------------------------------------------


def _table(packed: _Packed) -> pd.DataFrame:
    frame = pd.DataFrame(packed.values, columns=packed.header["columns"])
    front = {"time": packed.times} | ({} if packed.weights is None else {"weight": packed.weights})
    # A dictionary of None alone would become a column of numbers.
    back = {name: pd.Series(label, dtype=label.dtype) for name, label in packed.labels.items()}
    return pd.concat([pd.DataFrame(front), frame, pd.DataFrame(back, index=frame.index)], axis=1)


def _read_csv(handle: TextIO, header: Mapping[str, Any]) -> pd.DataFrame:
    numbers = [header["time"], *header["columns"], *([header["weight"]] if header["weight"] else [])]
    types: dict[str, Any] = dict.fromkeys(numbers, "float64")
    missing: dict[str, list[str]] = {}
    for meta in _metas(header):
        types[meta["stored"]] = str if is_text(meta) else {"date": "int64"}.get(meta["kind"], meta["dtype"])
        if meta["kind"] == "number" and meta["dtype"].startswith("float"):
            types[meta["stored"]] = "float64"
            missing[meta["stored"]] = [""]
    options: Any = {"dtype": types, "keep_default_na": False, "na_values": missing}
    frame: pd.DataFrame = pd.read_csv(handle, float_precision="round_trip", **options)
    for meta in _metas(header):
        if is_text(meta):
            frame[meta["stored"]] = unescape(frame[meta["stored"]])
    return frame


@contextlib.contextmanager
def _text(path: Path, *, compressed: bool, write: bool = True, errors: str = "strict") -> Iterator[TextIO]:
    """Open a text file, perhaps compressed, so that the same text gives the same bytes."""
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(open(path, "wb" if write else "rb"))
        if compressed:
            mode = "wb" if write else "rb"
            raw = stack.enter_context(gzip.GzipFile(filename="", mode=mode, fileobj=raw, mtime=0))
        yield stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", errors=errors, newline=""))


# --- AnnData -----------------------------------------------------------------------------------------------


def _write_h5ad(packed: _Packed, target: Path) -> None:
    anndata = optional("anndata", "bio")
    columns: dict[str, Any] = {"time": packed.times}
    if packed.weights is not None:
        columns["weight"] = packed.weights
    for name, label in packed.labels.items():
        if label.dtype == object and any("\0" in text for text in pd.unique(label) if text is not None):
            raise ValueError("a label holds a zero character, which .h5ad cannot store; remove it, or save as .npz")
        # AnnData writes text with missing entries only as categories.
        columns[name] = pd.Categorical(label) if label.dtype == object else label
    rows = pd.Index(np.arange(len(packed.times)).astype(str))
    adata = anndata.AnnData(
        packed.values,
        obs=pd.DataFrame(columns, index=rows),
        var=pd.DataFrame(index=pd.Index(packed.header["columns"], dtype=object)),
        uns={"gendyn": json.dumps(packed.header)},
    )
    with atomic_path(target) as temporary:
        adata.write_h5ad(temporary)


def _read_h5ad(source: Path) -> Snapshots:
    anndata = optional("anndata", "bio")
    with damaged(source):
        adata = anndata.read_h5ad(source)
    header = parse_header(adata.uns.get("gendyn"), source, "snapshots")
    with damaged(source):
        labels = {meta["stored"]: adata.obs[meta["stored"]] for meta in _metas(header)}
        weights = adata.obs["weight"].to_numpy() if header["weight"] else None
        values = np.asarray(adata.X, dtype=header["dtype"])
        return _unpack(_Packed(values, adata.obs["time"].to_numpy(), weights, labels, header))


# --- cohorts -----------------------------------------------------------------------------------------------


def save_cohort(cohort: Cohort, path: str | Path) -> None:
    """Write a cohort to one ``.npz`` file, atomically.

    Raises
    ------
    ValueError
        If the suffix is not ``.npz``.
    """
    target = Path(path)
    suffix_of(target, (".npz",))
    arrays: Arrays = {}
    members = []
    for number, (name, member) in enumerate(cohort.items()):
        packed = _pack(member)
        arrays |= {f"{number}.{key}": array for key, array in _arrays(packed).items()}
        members.append({"name": name, "header": packed.header})
    conditions = plain(cohort.conditions, "conditions")
    write_npz(target, arrays, {"kind": "cohort", "members": members, "conditions": conditions})


def load_cohort(path: str | Path) -> Cohort:
    """Read a cohort that :func:`save_cohort` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or holds something else.
    """
    source = Path(path)
    suffix_of(source, (".npz",))
    check_exists(source)
    arrays = open_npz(source)
    header = parse_header(arrays.get("gendyn"), source, "cohort")
    members = {}
    with damaged(source):
        for number, entry in enumerate(header["members"]):
            prefix = f"{number}."
            part = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
            members[entry["name"]] = _from_arrays(part, entry["header"])
        return Cohort(members, header["conditions"])
