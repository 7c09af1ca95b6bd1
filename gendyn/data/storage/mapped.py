"""Values that stay in their file: read a block of rows at a time, or mapped, but never whole."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["MAPPED_FROM", "StoredValues", "spilled"]

MAPPED_FROM = 1 << 28
"""Values of this many bytes and more stay in their file."""


class StoredValues:
    """The values ``(n, T, d)`` of paths, as they lie in an open file.

    Parameters
    ----------
    file
        A file of the operating system, open for reading bytes.
    dtype, shape
        Of the values, which lie in the order of C.
    start
        Byte at which they begin.

    Raises
    ------
    ValueError
        If the file ends before the values do.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     _ = file.write(np.arange(6.0).tobytes())
    ...     stored = StoredValues(file, np.dtype(float), (3, 2, 1))
    ...     stored.rows(slice(1, 2)).flatten().tolist(), stored.mapped().sum().item()
    ([2.0, 3.0], 15.0)
    """

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...], start: int = 0) -> None:
        self._file = file
        self._dtype = dtype
        self._shape = shape
        self._start = start
        end = file.seek(0, 2)
        if end < start + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"the values need {math.prod(shape) * dtype.itemsize} bytes, but the file ends before")

    def rows(self, rows: slice) -> Tensor:
        """Return consecutive rows, read into memory."""
        size, count = math.prod(self._shape[1:]), rows.stop - rows.start
        self._file.seek(self._start + rows.start * size * self._dtype.itemsize)
        values = np.fromfile(self._file, self._dtype, count * size)
        return torch.from_numpy(values.reshape(count, *self._shape[1:]))

    def mapped(self) -> Tensor:
        """Return all values, mapped into memory; what is written to them does not reach the file."""
        values: np.ndarray[Any, Any] = np.memmap(self._file, self._dtype, "c", self._start, self._shape)
        return torch.from_numpy(values)


@contextlib.contextmanager
def spilled(
    blocks: Iterable[np.ndarray[Any, Any]], dtype: np.dtype[Any], shape: tuple[int, ...], folder: Path
) -> Iterator[StoredValues]:
    """Give values that come in blocks, put one after the other into a file without a name.

    It lies in the folder if that can be written to, else where temporary files do; the disk has its place back when
    nothing is mapped from it any more.

    Examples
    --------
    >>> with spilled(np.arange(6.0).reshape(3, 2), np.dtype(float), (3, 2, 1), Path(".")) as stored:
    ...     stored.mapped().shape
    torch.Size([3, 2, 1])
    """
    where = folder if os.access(folder, os.W_OK) else None
    with tempfile.TemporaryFile(dir=where) as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data.cast("B"))
        file.flush()
        yield StoredValues(file, dtype, shape)
