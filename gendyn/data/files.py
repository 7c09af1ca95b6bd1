r"""Files that are whole or not there: atomic writing, and tensors with a JSON header.

A file is written under a temporary name in its own folder, flushed to the disk, and moved over its
target in one step. Whatever happens before the move (an exception, a full disk, ``kill -9``)
leaves the old file as it was.

Tensors are stored in the safetensors format, whose files hold numbers and text and can run no code.
The header is one JSON object under the metadata key ``"gendyn"``.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as _to_bytes
from torch import Tensor

__all__ = ["atomic_path", "read_header", "read_tensors", "write_tensors"]

_KEY = "gendyn"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``path``, on failure it vanishes.

    Parameters
    ----------
    path
        The target. Its folder must exist and be writable.

    Yields
    ------
    Path
        A temporary path in the same folder with the same suffix.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If the target is a folder.
    OSError
        If the folder cannot be written to.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "note.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "note.txt").read_text()
    'whole'
    """
    target = Path(path)
    folder = target.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot write {target}: the folder {folder} does not exist; make it first")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {target}: it is a folder; give the name of a file in it")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix="".join(target.suffixes[-2:]), dir=folder)
    except OSError as error:
        raise OSError(f"cannot write {target}: {error.strerror}; choose a folder you may write to") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, atomically.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_tensors(Path(folder) / "a.safetensors", {"x": torch.ones(2)}, {"kind": "note"})
    ...     tensors, header = read_tensors(Path(folder) / "a.safetensors")
    >>> tensors["x"].tolist(), header
    ([1.0, 1.0], {'kind': 'note'})
    """
    # Copies: safetensors refuses tensors that share memory or are views.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    content = _to_bytes(plain, metadata={_KEY: json.dumps(dict(header))})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_header(path: str | Path) -> dict[str, Any]:
    """Read the JSON header of a file written by :func:`write_tensors`; see there for what is refused."""
    return _read(path, tensors=False)[1]


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read back what :func:`write_tensors` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is a folder, empty, cut short, not safetensors, or has no gendyn header.
    """
    return _read(path, tensors=True)


def _read(path: str | Path, *, tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"there is no file {source}; check the path")
    if source.is_dir():
        raise ValueError(f"{source} is a folder; a safetensors file written by gendyn is needed")
    try:
        with safe_open(source, framework="pt") as file:
            metadata = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{source} is not a whole safetensors file ({error}); a file written by gendyn is needed: it may be cut "
            "short, or be of another kind"
        ) from error
    if _KEY not in metadata:
        raise ValueError(f"{source} is a safetensors file, but not one that gendyn wrote: its header is missing")
    return values, json.loads(metadata[_KEY])
