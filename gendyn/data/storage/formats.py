r"""What all file formats share: suffixes, optional packages, headers, and ``.npz`` without pickles.

A header is one JSON object that says what a format cannot say for itself: the kind of container, the floating
type, the names. It stands in the array ``gendyn`` of an ``.npz`` file, in the metadata of ``.parquet`` and
``.zarr``, in ``uns["gendyn"]`` of an ``.h5ad`` file, and in the first line of a ``.csv`` file.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gendyn.data.files import atomic_path

__all__ = [
    "Arrays",
    "array_names",
    "check_exists",
    "damaged",
    "from_json_bytes",
    "json_bytes",
    "kind_of",
    "open_npz",
    "optional",
    "parse_header",
    "plain",
    "suffix_of",
    "write_npz",
]

Arrays = dict[str, np.ndarray[Any, Any]]

_BROKEN = (ValueError, KeyError, TypeError, IndexError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


def optional(module: str, extra: str) -> Any:
    """Import an optional package, or say which extra brings it.

    Raises
    ------
    ImportError
        If the package is not installed.

    Examples
    --------
    >>> optional("json", "io").dumps(1)
    '1'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(f'this needs the package {module}; pip install "gendyn[{extra}]"') from error


def suffix_of(path: Path, known: Sequence[str]) -> str:
    """Return the suffix of a path if it is one of those known.

    Raises
    ------
    ValueError
        If it is none of them; the message lists them.

    Examples
    --------
    >>> suffix_of(Path("day.2.csv.gz"), [".csv", ".csv.gz"])
    '.csv.gz'
    """
    for suffix in sorted(known, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return suffix
    raise ValueError(f"the suffix of {path.name!r} says no format known here; use one of {', '.join(known)}")


def check_exists(path: Path) -> None:
    """Refuse a path where nothing is."""
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}; check the path")


@contextlib.contextmanager
def damaged(path: Path, errors: tuple[type[Exception], ...] = _BROKEN) -> Iterator[None]:
    """Turn whatever a format's own reader raises on a damaged file into one sentence."""
    try:
        yield
    except errors as error:
        told = type(error) is ValueError and str(path) in str(error)
        if told or not path.exists():
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, KeyError):
            reason = f"{reason} is missing"
        raise ValueError(f"{path} is damaged or of another kind: {reason}") from error


def plain(value: Any, what: str) -> Any:
    """Return a value as JSON can hold it: arrays become lists, NumPy's numbers Python's.

    Raises
    ------
    TypeError
        If there is something else in it.

    Examples
    --------
    >>> plain({"steps": np.int64(3), "grid": (0.0, 1.0)}, "info")
    {'steps': 3, 'grid': [0.0, 1.0]}
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return plain(value.tolist(), what)
    if isinstance(value, Mapping):
        return {str(key): plain(entry, what) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, what) for entry in value]
    raise TypeError(f"{what} must hold numbers, strings, lists and mappings only; got {type(value).__name__}")


def json_bytes(value: Any) -> np.ndarray[Any, Any]:
    """Return JSON as bytes: NumPy's own strings would lose what ends in a zero character."""
    return np.frombuffer(json.dumps(value).encode("ascii"), dtype=np.uint8)


def from_json_bytes(array: np.ndarray[Any, Any]) -> Any:
    """Read back what :func:`json_bytes` made."""
    return json.loads(array.tobytes().decode("ascii"))


def parse_header(text: object, path: Path, kind: str) -> dict[str, Any]:
    """Return the header of a file that should hold the container ``kind``.

    Raises
    ------
    ValueError
        If there is no header, it is damaged, or it is that of another container.
    """
    if text is None:
        reader = {"snapshots": "gendyn.read_snapshots", "paths": "gendyn.read_paths"}.get(kind, "gendyn.read_snapshots")
        raise ValueError(f"{path} was not written by gendyn's save; read foreign files with {reader}")
    with damaged(path):
        header = json.loads(str(text))
        found = header["kind"]
    if found != kind:
        raise ValueError(f"{path} holds {found}, where {kind} are needed")
    return dict(header)


def kind_of(path: Path) -> str | None:
    """Return which container gendyn wrote to a file (``"snapshots"``, ``"paths"``, ``"cohort"``), or ``None``.

    Only the header is read. Text and ``.h5ad`` hold snapshots or nothing of gendyn's.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If an ``.npz`` or ``.parquet`` file is damaged.
    """
    check_exists(path)
    text: object = None
    name = path.name.lower()
    if name.endswith(".npz"):
        if "gendyn" in array_names(path):
            text = str(open_npz(path, ["gendyn"])["gendyn"])
    elif name.endswith(".zarr") and path.is_dir():
        text = optional("zarr", "io").open_group(str(path), mode="r").attrs.get("gendyn")
    elif name.endswith(".parquet"):
        with damaged(path):
            metadata = optional("pyarrow.parquet", "io").read_schema(path).metadata or {}
            text = json.loads(metadata.get(b"PANDAS_ATTRS", b"{}")).get("gendyn")
    if text is None:
        return None
    with damaged(path):
        return str(json.loads(str(text))["kind"])


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an ``.npz`` file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no archive of arrays; a pickle is refused.
    """
    check_exists(path)
    if path.is_dir() or not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not an .npz file: {_what(path)}; named arrays written by numpy.savez are needed")
    with damaged(path), np.load(path, allow_pickle=False) as file:
        return list(file.files)


def open_npz(path: Path, only: Sequence[str] | None = None) -> Arrays:
    """Read arrays of an ``.npz`` file (all of them by default); pickled objects are refused.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, no archive of arrays, or an array holds pickled objects.
    """
    names = array_names(path) if only is None else only
    arrays: Arrays = {}
    with damaged(path), np.load(path, allow_pickle=False) as file:
        for name in names:
            try:
                arrays[name] = file[name]
            except ValueError as error:
                if "pickle" not in str(error) and "Object arrays" not in str(error):
                    raise
                raise ValueError(
                    f"the array {name!r} of {path} holds pickled objects, which could run code; save it as plain "
                    "numbers "
                    "or strings"
                ) from error
    return arrays


def write_npz(path: Path, arrays: Arrays, header: Mapping[str, Any]) -> None:
    """Write arrays and a header to one ``.npz`` file, atomically."""
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, gendyn=np.array(json.dumps(header)), **arrays)


def _what(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    with open(path, "rb") as file:
        start = file.read(6)
    if not start:
        return "it is empty"
    if start == b"\x93NUMPY":
        return "it holds one bare array"
    if start.startswith(b"\x80"):
        return "it is a pickle, which could run code"
    return "it is damaged or of another kind"
