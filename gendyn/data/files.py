r"""Files that are whole or not there: atomic writing, and tensors with a JSON header.

A file is written under a temporary name in its own folder, flushed to the disk, and moved over its
target in one step. Whatever happens before the move (an exception, a full disk, ``kill -9``)
leaves the old file as it was.

Tensors are stored in the safetensors format, whose files hold numbers and text and can run no code.
The header is one JSON object under the metadata key ``"gendyn"``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as _to_bytes
from torch import Tensor

__all__ = ["SyncedFile", "atomic_folder", "atomic_path", "read_header", "read_tensors", "write_tensors"]

_KEY = "gendyn"


_SYNC_EVERY = 1 << 26


class SyncedFile(io.FileIO):
    """A file to write to whose content goes to the disk as it comes, at the latest every 64 MB.

    What is written without this waits in memory until the disk has taken it, and large files fill the memory.
    """

    _waiting = 0

    def write(self, data: Any) -> int:
        """Write bytes, or as many of them as the system takes at once."""
        written = super().write(data)
        self._waiting += written
        if self._waiting >= _SYNC_EVERY:
            os.fsync(self.fileno())
            self._waiting = 0
        return written


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
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "note.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "note.txt").read_text()
    'whole'
    """
    target = _target(path)
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; give the name of a file in it")
    temporary = _beside(target)
    try:
        # Exclusively, and with the permissions that a new file of this user has.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | Path, marks: Sequence[str]) -> Iterator[Path]:
    """Give a temporary folder to write to; on success it becomes ``path``, on failure it vanishes.

    Parameters
    ----------
    path
        The target. A folder that is there is replaced only if it holds one of ``marks``, so that nobody's documents
        are lost.
    marks
        Names of files that say what kind of folder it is.

    Yields
    ------
    Path
        A temporary folder beside the target.

    Raises
    ------
    FileNotFoundError
        If the folder that should hold the target does not exist.
    FileExistsError
        If the target is something else.
    OSError
        If the folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_folder(Path(folder) / "a.zarr", ["zarr.json"]) as temporary:
    ...         _ = (temporary / "zarr.json").write_text("{}")
    ...     [entry.name for entry in (Path(folder) / "a.zarr").iterdir()]
    ['zarr.json']
    """
    target = _target(path)
    if target.exists() and not any((target / mark).exists() for mark in marks):
        raise FileExistsError(f"cannot write {path}: something else is there; give another name")
    temporary, old = _beside(target), _beside(target)
    try:
        temporary.mkdir()
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _target(path: str | Path) -> Path:
    """Return the place that a path names, behind links, if it may be written to."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {target.parent} does not exist; make it first")
    if target.is_file() and not os.access(target, os.W_OK):
        raise PermissionError(f"cannot write {path}: it is there and write-protected; give another name")
    return target


def _beside(target: Path) -> Path:
    """Return a free name in the folder of the target, with its suffixes."""
    suffix = "".join(target.suffixes[-2:])[-32:]
    return target.with_name(f".{target.name[:64]}.{secrets.token_hex(6)}{suffix}")


def _unwritable(path: str | Path, error: OSError) -> OSError:
    sentence = f"cannot write {path}: {(error.strerror or 'it failed').lower()}; choose a folder you may write to"
    return PermissionError(sentence) if isinstance(error, PermissionError) else OSError(sentence)


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, atomically.

    Parameters
    ----------
    path
        The target; a file that is there is replaced once the new one is whole.
    tensors
        Tensors by name; they are copied to the CPU and lose their graph.
    header
        What JSON can hold.

    Raises
    ------
    OSError
        If the file cannot be written there.

    Examples
    --------
    >>> import tempfile
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
    try:
        header = json.loads(metadata[_KEY])
    except json.JSONDecodeError as error:
        raise ValueError(f"the header of {source} is damaged ({error}); take another copy of the file") from error
    if not isinstance(header, dict):
        raise ValueError(f"the header of {source} is damaged: it holds no mapping; take another copy of the file")
    return values, header
