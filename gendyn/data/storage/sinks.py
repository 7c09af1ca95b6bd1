"""Where chunks of paths go as they are done: a file that grows, in the memory of one chunk.

A sink gets consecutive rows of the values and, at the end, the header. It writes to a temporary name; whoever opens it
moves the whole into place.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from gendyn.data.files import SyncedFile
from gendyn.data.storage.formats import optional

__all__ = ["SINKS", "NpzSink", "ParquetSink", "Sink", "ZarrSink"]

Array = np.ndarray[Any, Any]
Dtype = np.dtype[Any]


class Sink(Protocol):
    """What takes the chunks."""

    def __init__(
        self, path: Path, times: Array, shape: Sequence[int], dtype: np.dtype[Any], columns: list[str]
    ) -> None:
        """Open a temporary target for values of this shape and type."""
        ...

    def write(self, values: Array, first: int) -> None:
        """Write the values of the rows from ``first`` on."""
        ...

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write what belongs to all rows."""
        ...

    def close(self) -> None:
        """Let go of the target."""
        ...


class NpzSink:
    """An uncompressed ``.npz``, whose values can be mapped into memory."""

    def __init__(
        self, path: Path, times: Array, shape: Sequence[int], dtype: np.dtype[Any], columns: list[str]
    ) -> None:
        self._times = times
        self._file = io.BufferedWriter(SyncedFile(path, "w"))
        self._archive = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True)
        self._member = self._archive.open("values.npy", "w", force_zip64=True)
        description = {"descr": dtype.str, "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_2_0(self._member, description)

    def write(self, values: Array, first: int) -> None:
        """Write the next rows."""
        self._member.write(np.ascontiguousarray(values).data.cast("B"))

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write the times and the header after the values."""
        self._member.close()
        for name, array in (("times", self._times), ("gendyn", np.array(json.dumps(header)))):
            with self._archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)

    def close(self) -> None:
        """Let go of the file."""
        self._member.close()
        self._archive.close()
        self._file.close()


class ZarrSink:
    """A ``.zarr`` group, with a chunk of the array for each chunk of rows."""

    def __init__(
        self, path: Path, times: Array, shape: Sequence[int], dtype: np.dtype[Any], columns: list[str]
    ) -> None:
        self._group = optional("zarr", "io").open_group(str(path), mode="w")
        rows = max(1, min(shape[0], 4096))
        chunks = (rows, *shape[1:])
        self._values = self._group.create_array("values", shape=tuple(shape), chunks=chunks, dtype=dtype)
        self._group.create_array("times", data=np.ascontiguousarray(times))

    def write(self, values: Array, first: int) -> None:
        """Write some rows."""
        self._values[first : first + len(values)] = values

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write the header."""
        self._group.attrs["gendyn"] = json.dumps(header)

    def close(self) -> None:
        """Nothing is held open."""


class ParquetSink:
    """A long table in ``.parquet``, a row group for each chunk."""

    def __init__(
        self, path: Path, times: Array, shape: Sequence[int], dtype: np.dtype[Any], columns: list[str]
    ) -> None:
        self._arrow = optional("pyarrow", "io")
        self._parquet = optional("pyarrow.parquet", "io")
        self._file = io.BufferedWriter(SyncedFile(path, "w"))
        self._times, self._columns = times, columns
        self._writer: Any = None

    def write(self, values: Array, first: int) -> None:
        """Write the next rows."""
        n, length, dim = values.shape
        times = self._times if self._times.ndim == 1 else self._times[first : first + n]
        frame = pd.DataFrame(values.reshape(n * length, dim), columns=self._columns)
        frame.insert(0, "time", np.broadcast_to(times, (n, length)).reshape(-1))
        frame.insert(0, "path", np.repeat(np.arange(first, first + n), length))
        table = self._arrow.Table.from_pandas(frame, preserve_index=False)
        if self._writer is None:
            # A stored schema would hide what is added to the footer at the end.
            self._writer = self._parquet.ParquetWriter(self._file, table.schema.remove_metadata(), store_schema=False)
        self._writer.write_table(table.replace_schema_metadata(None))

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write the header to the footer, where pandas looks for the attributes of a table."""
        self._writer.add_key_value_metadata({"PANDAS_ATTRS": json.dumps({"gendyn": json.dumps(header)})})

    def close(self) -> None:
        """Let go of the file."""
        if self._writer is not None:
            self._writer.close()
        self._file.close()


SINKS: dict[str, type[Sink]] = {".npz": NpzSink, ".zarr": ZarrSink, ".parquet": ParquetSink}
"""Sinks by suffix."""
