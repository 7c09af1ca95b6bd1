"""Files that hold tables: ``.csv``, ``.tsv`` (also compressed) and ``.parquet``, and folders with one file per time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gendyn.data.columns import check_table
from gendyn.data.rows import few
from gendyn.data.storage.formats import check_exists, damaged, optional, suffix_of
from gendyn.data.time_labels import parse_times

__all__ = ["FOLDER_TIME", "TABLE_SUFFIXES", "read_folder", "read_table"]

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet")

FOLDER_TIME = "time of the file"
"""Name of the column that says which file of a folder a row comes from."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a table whose first line names its columns.

    Columns are separated by commas, or by tabs or semicolons where the first line has no comma.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, damaged, not a table, without rows, or without names of columns.
    """
    check_exists(path)
    if path.name.lower().endswith(".parquet"):
        optional("pyarrow", "io")
        with damaged(path):
            frame = pd.read_parquet(path)
        if not isinstance(frame.index, pd.RangeIndex) and frame.index.name is not None:
            frame = frame.reset_index()
        check_table(frame, str(path))
        return frame
    first = _first_line(path)
    if not first.strip():
        raise ValueError(f"{path} is empty; a table with a first line of column names is needed")
    separator = next((mark for mark in (",", "\t", ";") if mark in first), ",")
    try:
        # Named columns first: pandas would rename doubles to "x.1" and say nothing.
        head = pd.read_csv(
            path, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
        names = head.iloc[0].astype(str).str.strip().tolist()
        _check_names(names, path)
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", float_precision="round_trip", low_memory=False)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; take another copy of the file") from error
    except pd.errors.ParserError as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ").lower()
        raise ValueError(f"{path} is no table: {reason}; every line must have as many entries as the first") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error.reason}); save the table as CSV in UTF-8") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(
            f"{path} is no table: lines have more entries than the first line has names; name every column"
        )
    frame.columns = pd.Index([name or "Unnamed: 0" for name in names])
    check_table(frame, str(path))
    return frame


def read_folder(folder: Path, times: Mapping[Any, float] | None) -> pd.DataFrame:
    """Read a folder of tables named by their time (``D0.csv``, ``D2.csv``) as one table.

    The column :data:`FOLDER_TIME` holds the name of each file, without its suffix. Columns may be in any order.

    Raises
    ------
    ValueError
        If there are no tables, names cannot be read as times, or files have different columns.
    """
    suffixes = tuple(suffix for suffix in TABLE_SUFFIXES if suffix != ".parquet" and not suffix.startswith(".txt"))
    files = sorted(p for p in folder.iterdir() if p.name.lower().endswith(suffixes) and not p.name.startswith("."))
    if not files:
        raise ValueError(
            f"the folder {folder} holds no .csv files; one file per time, named by the time (D0.csv, D2.csv), is needed"
        )
    labels = [path.name[: -len(suffix_of(path, suffixes))] for path in files]
    double = [path.name for path, label in zip(files, labels, strict=True) if labels.count(label) > 1]
    if double:
        raise ValueError(f"the folder {folder} holds several files for one time: {few(double)}; keep one of them")
    numbers, _ = parse_times(labels, times)
    missing = [path.name for path, number in zip(files, numbers.tolist(), strict=True) if np.isnan(number)]
    if missing:
        raise ValueError(
            f"the names of {few(missing)} hold no time; give times={{name: number}}, or take them out of {folder}"
        )
    frames: list[pd.DataFrame] = []
    for path, label in zip(files, labels, strict=True):
        frame = read_table(path)
        if frames:
            columns = [name for name in frames[0].columns if name != FOLDER_TIME]
            odd = sorted(set(columns) ^ set(frame.columns))
            if odd:
                raise ValueError(f"{path} and {files[0]} must have the same columns; {few(odd)} is in one of them only")
            frame = frame[columns]
        frames.append(frame.assign(**{FOLDER_TIME: label}))
    return pd.concat(frames, ignore_index=True)


def _first_line(path: Path) -> str:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8-sig", errors="replace") as file:
                return file.readline()
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            return file.readline()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}; take another copy of the file") from error


def _check_names(names: list[str], path: Path) -> None:
    double = sorted({name for name in names if names.count(name) > 1 and name})
    if double:
        raise ValueError(f"columns of {path} must have different names; {few(double)} is there more than once: rename")
    if names.count("") > 1:
        raise ValueError(f"{names.count('')} columns of {path} have no name; name them in the first line")
    if all(_is_number(name) for name in names):
        raise ValueError(f"the first line of {path} holds numbers; it must name the columns, such as time,x,y")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
