r"""Paths as files: arrays in ``.npz``, one long table in ``.parquet``, a group in ``.zarr``.

``values (n, T, d)`` and ``times`` come first; mask, lengths and labels where there are any. Large values are mapped
into memory when they are loaded, so that paths larger than the memory can be looked at: in ``.npz`` where they lie,
from the other formats by way of a file without a name beside them, which is gone when the paths are.
"""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data.checks import check_finite
from gendyn.data.files import atomic_folder, atomic_path
from gendyn.data.path_checks import check_values
from gendyn.data.paths import Paths
from gendyn.data.storage.formats import (
    Arrays,
    array_names,
    check_exists,
    damaged,
    open_npz,
    optional,
    parse_header,
    plain,
    suffix_of,
    write_npz,
)
from gendyn.data.storage.mapped import MAPPED_FROM, StoredValues, spilled
from gendyn.data.storage.sinks import SINKS
from gendyn.data.storage.snapshots import plain_columns

__all__ = ["PATH_SUFFIXES", "PathsWriter", "load_paths", "paths_from_table", "save_paths"]

PATH_SUFFIXES = (".npz", ".parquet", ".zarr")


def save_paths(paths: Paths, path: str | Path) -> None:
    """Write paths in the format that the suffix names, atomically.

    Raises
    ------
    ValueError
        If the suffix names no format.
    TypeError
        If ``info`` holds what JSON cannot.
    OSError
        If the file cannot be written there.
    """
    target = Path(path)
    suffix = suffix_of(target, PATH_SUFFIXES)
    arrays, header = _pack(paths)
    if suffix == ".npz":
        write_npz(target, arrays, header)
    elif suffix == ".zarr":
        zarr = optional("zarr", "io")
        with atomic_folder(target, ("zarr.json", ".zgroup")) as temporary:
            group = zarr.open_group(str(temporary), mode="w")
            for name, array in arrays.items():
                group.create_array(name, data=np.ascontiguousarray(array))
            group.attrs["gendyn"] = json.dumps(header)
    else:
        optional("pyarrow", "io")
        frame = _table(paths, arrays, header)
        with atomic_path(target) as temporary:
            frame.to_parquet(temporary, index=False)


def load_paths(path: str | Path, *, checked: bool = False) -> Paths:
    """Read paths that :func:`save_paths` or :class:`PathsWriter` wrote.

    Parameters
    ----------
    path
        The file.
    checked
        Whether the values are known to be finite, so that those that stay in their file need no look.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the suffix names no format, the file is damaged, or gendyn did not write it.
    """
    source = Path(path)
    suffix = suffix_of(source, PATH_SUFFIXES)
    check_exists(source)
    load = {".npz": _load_npz, ".parquet": _load_parquet, ".zarr": _load_zarr}[suffix]
    return load(source, checked)


def paths_from_table(frame: pd.DataFrame, path: Path) -> Paths:
    """Return the paths in a table that gendyn wrote."""
    header = parse_header(frame.attrs.get("gendyn"), path, "paths")
    with damaged(path):
        values = frame[header["columns"]].to_numpy(dtype=header["dtype"]).reshape(header["shape"])
        return _unpack({"values": values, "times": frame["time"].to_numpy()} | _repeated(frame, header), header)


def _repeated(frame: pd.DataFrame, header: Mapping[str, Any]) -> Arrays:
    """Return what else a long table says of paths: the mask, and what stands in every row of a path."""
    n, length, dim = header["shape"]
    arrays: Arrays = {}
    if "mask" in header["arrays"]:
        seen = frame[[f"observed.{name}" for name in header["columns"]]]
        arrays["mask"] = seen.to_numpy().reshape(n, length, dim)
    for name in ("lengths", "labels"):
        if name in header["arrays"]:
            arrays[name] = frame[name].to_numpy()[::length]
    if header["text"] is not None:
        arrays["labels"] = pd.Index(header["text"], dtype=object).get_indexer(pd.Index(arrays["labels"]))
    return arrays


def _pack(paths: Paths) -> tuple[Arrays, dict[str, Any]]:
    arrays: Arrays = {"values": paths.values.detach().cpu().numpy(), "times": paths.times.cpu().numpy()}
    for name, tensor in (("mask", paths.mask), ("lengths", paths.lengths)):
        if tensor is not None:
            arrays[name] = tensor.cpu().numpy()
    header = _header(
        arrays["values"].dtype,
        names=paths.names,
        dim=paths.dim,
        states=paths.states,
        shared=paths.shared_times,
        info=plain(paths.info, "info"),
    )
    if paths.labels is not None:
        texts = paths.labels.dtype.kind == "U"
        codes, unique = pd.factorize(paths.labels)
        arrays["labels"] = codes if texts else paths.labels
        if texts:
            header["text"] = [str(label) for label in unique]
    header["arrays"] = list(arrays)
    return arrays, header


def _header(
    dtype: np.dtype[Any],
    *,
    names: Sequence[str] | None,
    dim: int,
    states: Sequence[str] | None = None,
    shared: bool,
    info: Mapping[str, Any],
) -> dict[str, Any]:
    taken = {"path", "time", "lengths", "labels", ""}
    fit = names is not None and not any(name.startswith("observed.") for name in names)
    return {
        "kind": "paths",
        "dtype": str(dtype),
        "names": None if names is None else list(names),
        "columns": plain_columns(names if fit else None, dim, taken),
        "states": None if states is None else list(states),
        "shared": shared,
        "arrays": ["values", "times"],
        "text": None,
        "info": dict(info),
    }


def _unpack(arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]) -> Paths:
    values = arrays["values"]
    return Paths(
        values=torch.from_numpy(values if values.flags.writeable else values.copy()), **_described(arrays, header)
    )


def _described(arrays: Mapping[str, np.ndarray[Any, Any]], header: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything about paths but their values."""
    labels = arrays.get("labels")
    if labels is not None and header["text"] is not None:
        labels = np.array(header["text"], dtype=np.str_)[labels]
    times = np.array(arrays["times"])
    if "shape" in header:
        # A table repeats shared times for every path.
        n, length, _ = header["shape"]
        times = times[:length] if header["shared"] else times.reshape(n, length)
    return {
        "times": times,
        "mask": arrays.get("mask"),
        "lengths": arrays.get("lengths"),
        "labels": labels,
    } | {name: header[name] for name in ("names", "states", "info")}


def _table(paths: Paths, arrays: Arrays, header: dict[str, Any]) -> pd.DataFrame:
    n, length, dim = paths.values.shape
    columns = header["columns"]
    frame = pd.DataFrame(arrays["values"].reshape(n * length, dim), columns=columns)
    frame.insert(0, "time", np.broadcast_to(arrays["times"], (n, length)).reshape(-1))
    frame.insert(0, "path", np.repeat(np.arange(n), length))
    parts = [frame]
    if "mask" in arrays:
        seen = arrays["mask"].reshape(n * length, dim)
        parts.append(pd.DataFrame(seen, columns=[f"observed.{name}" for name in columns]))
    repeated = {name: np.repeat(arrays[name], length) for name in ("lengths", "labels") if name in arrays}
    if header["text"] is not None:
        repeated["labels"] = np.array(header["text"], dtype=object)[repeated["labels"]]
    parts.append(pd.DataFrame(repeated, index=frame.index))
    whole = pd.concat(parts, axis=1)
    whole.attrs["gendyn"] = json.dumps(header | {"shape": [n, length, dim]})
    return whole


class PathsWriter:
    """Writes the values of paths to ``.npz``, ``.parquet`` or ``.zarr`` chunk by chunk, in the memory of one chunk.

    Parameters
    ----------
    path
        The target; it appears when the last chunk is written, and not at all if something fails before.
    times
        Output times, ``(T,)`` or ``(n, T)``.
    shape
        ``(n, T, d)`` of all values.
    dtype
        Of the values.
    names
        Names of the features.
    states
        Names of the discrete states.

    Raises
    ------
    ValueError
        If the suffix names no format, a chunk has another shape or is not finite, or fewer or more than ``n`` paths
        were written.

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
        *,
        states: Sequence[str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.suffix = suffix_of(self.path, PATH_SUFFIXES)
        self.times = times
        self.shape = shape
        # Half precision becomes single, as paths hold it.
        self._type = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
        self.dtype = np.dtype(str(self._type).removeprefix("torch."))
        self.names = None if names is None else list(names)
        self.states = None if states is None else list(states)
        self.info: dict[str, Any] = {}
        self._written = 0

    def __enter__(self) -> Self:
        folder = self.suffix == ".zarr"
        self._context = atomic_folder(self.path, ("zarr.json", ".zgroup")) if folder else atomic_path(self.path)
        temporary = self._context.__enter__()
        columns = self._header()["columns"]
        try:
            self._sink = SINKS[self.suffix](temporary, self.times.cpu().numpy(), self.shape, self.dtype, columns)
        except BaseException as error:
            self._context.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def append(self, values: Tensor) -> None:
        """Write the values of the next paths, ``(rows, T, d)``."""
        if values.ndim != 3 or values.shape[1:] != tuple(self.shape[1:]):
            raise ValueError(
                f"a chunk must have shape (rows, {self.shape[1]}, {self.shape[2]}); got {tuple(values.shape)}"
            )
        if values.is_floating_point():
            check_finite(values, f"the values from path {self._written} on")
        array = values.detach().to("cpu", self._type).contiguous().numpy()
        self._sink.write(array, self._written)
        self._written += len(values)

    def paths(self) -> Paths:
        """Return the paths that were written, once they are; large values stay in their file."""
        return load_paths(self.path, checked=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            if kind is None:
                if self._written != self.shape[0]:
                    raise ValueError(
                        f"{self._written} paths were written to {self.path}, where {self.shape[0]} are needed"
                    )
                self._sink.finish(self._header())
            self._sink.close()
        except BaseException as failure:
            with contextlib.suppress(Exception):
                self._sink.close()
            self._context.__exit__(type(failure), failure, failure.__traceback__)
            raise
        return self._context.__exit__(kind, error, trace)

    def _header(self) -> dict[str, Any]:
        header = _header(
            self.dtype,
            names=self.names,
            dim=self.shape[2],
            states=self.states,
            shared=self.times.ndim == 1,
            info=plain(self.info, "info"),
        )
        return header | ({"shape": list(self.shape)} if self.suffix == ".parquet" else {})


def _load_npz(source: Path, checked: bool) -> Paths:
    names = array_names(source)
    with damaged(source), open(source, "rb") as file:
        stored = _stored_values(file) if "values" in names else None
        arrays = open_npz(source, [name for name in names if name != "values"] if stored else names)
        header = parse_header(arrays.get("gendyn"), source, "paths")
        return _unpack(arrays, header) if stored is None else _map(stored, arrays, header, checked)


def _load_zarr(source: Path, checked: bool) -> Paths:
    zarr = optional("zarr", "io")
    with damaged(source):
        group = zarr.open_group(str(source), mode="r")
    header = parse_header(group.attrs.get("gendyn"), source, "paths")
    with damaged(source):
        values = group["values"]
        arrays = {name: np.asarray(group[name][...]) for name in header["arrays"] if name != "values"}
        if values.nbytes < MAPPED_FROM:
            return _unpack({"values": np.asarray(values[...])} | arrays, header)
        starts = range(0, values.shape[0], values.chunks[0])
        blocks = (values[start : start + values.chunks[0]] for start in starts)
        with spilled(blocks, np.dtype(header["dtype"]), values.shape, source.parent) as stored:
            return _map(stored, arrays, header, checked)


def _load_parquet(source: Path, checked: bool) -> Paths:
    parquet = optional("pyarrow.parquet", "io")
    with damaged(source):
        file = parquet.ParquetFile(source)
        attributes = json.loads((file.schema_arrow.metadata or {}).get(b"PANDAS_ATTRS", b"{}"))
    header = parse_header(attributes.get("gendyn"), source, "paths")
    with damaged(source):
        dtype, shape, columns = np.dtype(header["dtype"]), tuple(header["shape"]), header["columns"]
        if math.prod(shape) * dtype.itemsize < MAPPED_FROM:
            return paths_from_table(pd.read_parquet(source), source)
        others = [name for name in file.schema_arrow.names if name not in (*columns, "path", "time")]
        arrays = _repeated(pd.read_parquet(source, columns=others), header)
        wanted = shape[1] if header["shared"] else shape[0] * shape[1]
        arrays["times"] = _first(file.iter_batches(columns=["time"]), wanted)
        blocks = (batch.to_pandas()[columns].to_numpy() for batch in file.iter_batches(columns=columns))
        with spilled(blocks, dtype, shape, source.parent) as stored:
            return _map(stored, arrays, header, checked)


def _first(batches: Iterable[Any], count: int) -> np.ndarray[Any, Any]:
    """Return the first numbers of a column that comes in batches."""
    parts: list[np.ndarray[Any, Any]] = []
    for batch in batches:
        parts.append(batch.column(0).to_numpy())
        if sum(map(len, parts)) >= count:
            break
    return np.concatenate(parts)[:count]


def _map(stored: StoredValues, arrays: Arrays, header: Mapping[str, Any], checked: bool) -> Paths:
    """Return paths whose values stay in a file."""
    paths = Paths.of_checked(values=stored.mapped(), **_described(arrays, header))
    if not checked:
        check_values(stored.rows, paths.values, paths.mask, paths.lengths, paths.states)
    return paths


def _stored_values(file: IO[bytes]) -> StoredValues | None:
    """Return the values in an ``.npz`` file, if they are many and lie there as they are."""
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("values.npy")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < MAPPED_FROM:
            return None
        with archive.open(entry) as member:
            version = np.lib.format.read_magic(member)
            reader = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
            shape, fortran, dtype = reader(member)
            head = member.tell()
    if fortran or dtype.hasobject:
        return None
    file.seek(entry.header_offset)
    local = file.read(30)
    # A local header has 30 bytes, then the name and an extra field, whose lengths are its last two numbers.
    skipped = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    return StoredValues(file, dtype, shape, entry.header_offset + 30 + skipped + head)
