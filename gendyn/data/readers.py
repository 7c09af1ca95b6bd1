"""The one place that opens a user's files: tables, arrays and AnnData in, snapshots or paths out.

Reading changes nothing on the disk, runs no code from a file, and gives the same result each time. What cannot be
read raises a sentence: what was found, what is needed, what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gendyn.data.annotated import Selection, rows_of_anndata, rows_of_h5ad, written_by_gendyn
from gendyn.data.checks import as_tensor
from gendyn.data.columns import TIME_NAMES, check_table, find_column, numbers_of, time_column, value_columns
from gendyn.data.long_tables import States, observed, paths_of_table, state_numbers
from gendyn.data.paths import Paths
from gendyn.data.rows import Rows, as_matrix, check_dims, few
from gendyn.data.snapshots import Snapshots
from gendyn.data.storage.formats import array_names, check_exists, open_npz, parse_header, suffix_of
from gendyn.data.storage.paths import load_paths, paths_from_table
from gendyn.data.storage.snapshots import comment_of, load_snapshots, snapshots_from_table
from gendyn.data.tables import FOLDER_TIME, TABLE_SUFFIXES, read_folder, read_table
from gendyn.data.time_labels import parse_times

__all__ = ["read_paths", "read_snapshots"]


def read_snapshots(
    source: Any,
    *,
    time_key: str | None = None,
    rep: str = "X_pca",
    weight_key: str | None = None,
    obs_keys: Sequence[str] = (),
    values: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    times: Mapping[Any, float] | None = None,
    n_dims: int | None = None,
    layer: str | None = None,
    dtype: torch.dtype | None = None,
) -> Snapshots:
    """Read populations at times from whatever holds them.

    Parameters
    ----------
    source
        - a table with one row per observation: a DataFrame, or a file ``.csv``, ``.csv.gz``, ``.tsv``, ``.txt``,
          ``.parquet``;
        - an AnnData object (or a view of one), or a file ``.h5ad``, of which only what is needed is read;
        - arrays: a pair ``(samples (N, d), times (N,))``, or a file ``.npz`` with such arrays (``X`` and ``t``);
        - populations: a mapping ``{time: array}``, a folder of tables named by time (``D0.csv``, ``D2.csv``);
        - what ``Snapshots.save`` wrote, in any format.
    time_key
        Column with the times (an array, in ``.npz``); by default the only one called time, t, day, hour, ...
        Numbers are taken as they are, labels such as ``"D2"``, ``"E8.25"`` or ``"48h"`` by their number, time
        differences in days, dates in days since the first. Rows without a time are left out with a warning.
    rep
        For AnnData, a key of ``obsm`` or ``"X"``; for ``.npz``, the array with the samples.
    weight_key, obs_keys
        Column with the weights, and columns to keep as labels in ``obs``.
    values
        For tables, the columns to read; by default all that hold numbers and are not used otherwise.
    names
        Names of the features; by default those of the columns or genes.
    times
        ``{label: number}``, where labels do not say their time, or another unit is wanted.
    n_dims
        Keep this many leading features.
    layer
        For AnnData, read this layer instead of ``rep``.
    dtype
        float32 or float64. By default float32 for tables and AnnData; arrays in float64 keep it.

    Returns
    -------
    Snapshots
        Times increase; rows keep their order within a time.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ImportError
        If a format needs a package that is not installed; the message names the extra.
    TypeError
        If ``source`` is none of these, or does not hold numbers.
    ValueError
        If what is there cannot be read as populations; the message says why and what to do.

    Examples
    --------
    >>> rows = {"day": ["D10"] * 10 + ["D2"] * 10, "gene": [float(i) for i in range(20)]}
    >>> read_snapshots(pd.DataFrame(rows))
    Snapshots(2 times from 2 to 10, 10 rows each, 1 features)
    """
    choice = Selection(time_key, rep, layer, weight_key, _keys(obs_keys), n_dims, _numpy(dtype))
    if isinstance(source, (str, Path)):
        found = _open_snapshots(Path(source), choice, values, times)
    elif isinstance(source, pd.DataFrame):
        found = _rows_of_table(source, choice, values)
    elif hasattr(source, "obsm") and hasattr(source, "obs"):
        found = rows_of_anndata(source, choice)
    elif isinstance(source, Mapping):
        found = _rows_of_mapping(source, choice) if set(source) == {"X", "t"} else _populations(source, n_dims)
    elif isinstance(source, tuple) and len(source) == 2:
        found = _rows_of_arrays(*source, choice)
    elif isinstance(source, Snapshots):
        found = source
    else:
        raise TypeError(
            f"cannot read snapshots from {type(source).__name__}; give a file, a folder, a DataFrame, an AnnData "
            "object, a mapping {time: array}, or a pair (samples, times)"
        )
    if isinstance(found, Rows):
        return _named(found.snapshots(times, dtype or _default(source)), names)
    return _named(_chosen(found, values, n_dims, times, dtype), names)


def read_paths(
    source: Any,
    *,
    id_key: str | None = None,
    time_key: str | None = None,
    values: Sequence[str] | None = None,
    label_key: str | None = None,
    states: States | None = None,
    times: Mapping[Any, float] | None = None,
    dtype: torch.dtype | None = None,
) -> Paths:
    """Read trajectories from a long table (one row per path and time) or an array ``(n, T, d)``.

    Parameters
    ----------
    source
        A DataFrame, or a file ``.csv``, ``.csv.gz``, ``.tsv``, ``.txt``, ``.parquet``; an array ``(n, T, d)`` or
        ``(n, T)`` (times 0, 1, ...) or a pair ``(values, times)``; a file ``.npz`` with such arrays; what
        ``Paths.save`` wrote.
    id_key
        Column that says which path a row belongs to; by default the only one called id, path, subject, ... Without
        one, the table is a single path.
    time_key
        Column with the times (an array, in ``.npz``); see :func:`read_snapshots`.
    values
        Columns to read (or the array, in ``.npz``); by default all that hold numbers and are not used otherwise.
    label_key
        Column with one label per path.
    states
        Names of discrete states, where values are these names or their numbers from 0; or ``{entry: name}``.
    times
        ``{label: number}``, where labels do not say their time.
    dtype
        float32 or float64. By default float32 for tables; arrays in float64 keep it.

    Returns
    -------
    Paths
        A missing value (NaN) is not observed: the mask hides it, and it reads 0. Paths with the same times share
        them; otherwise each has its own, padded. ``info["ids"]`` names the paths of a table.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If a format needs a package that is not installed; the message names the extra.
    TypeError
        If ``source`` is none of these, or does not hold numbers.
    ValueError
        If what is there cannot be read as paths, for example because a path has two rows at one time.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": ["a", "a", "b"], "time": [0.0, 1.0, 0.5], "x": [1.0, 2.0, 3.0]})
    >>> paths = read_paths(frame)
    >>> paths.lengths.tolist(), paths.times.tolist()
    ([2, 1], [[0.0, 1.0], [0.5, 0.5]])
    """
    if isinstance(source, Paths):
        return source if dtype is None else source.to(dtype=dtype)
    table: dict[str, Any] = {"id_key": id_key, "time_key": time_key, "values": values, "label_key": label_key}
    table |= {"states": states, "times": times, "dtype": _numpy(dtype)}
    if isinstance(source, pd.DataFrame):
        return paths_of_table(source, **table)
    if isinstance(source, (str, Path)):
        path = Path(source)
        check_exists(path)
        suffix = suffix_of(path, (*TABLE_SUFFIXES, ".npz", ".zarr"))
        if suffix == ".npz" and "gendyn" not in (known := array_names(path)):
            return _paths_of_npz(path, known, time_key, values, label_key, states, dtype)
        if suffix in (".npz", ".zarr"):
            loaded = load_paths(path)
            return loaded if dtype is None else loaded.to(dtype=dtype)
        frame = read_table(path)
        if "gendyn" in frame.attrs:
            loaded = paths_from_table(frame, path)
            return loaded if dtype is None else loaded.to(dtype=dtype)
        return paths_of_table(frame, **table)
    array, grid = source if isinstance(source, tuple) and len(source) == 2 else (source, None)
    return _paths_of_arrays(array, grid, states=states, dtype=dtype)


# --- snapshots ---------------------------------------------------------------------------------------------


def _open_snapshots(path: Path, choice: Selection, values: Any, times: Mapping[Any, float] | None) -> Rows | Snapshots:
    check_exists(path)
    if path.is_dir():
        folder = Selection(
            FOLDER_TIME, **{k: getattr(choice, k) for k in ("weight_key", "obs_keys", "n_dims", "dtype")}
        )
        return _rows_of_table(read_folder(path, times), folder, values)
    suffix = suffix_of(path, (*TABLE_SUFFIXES, ".npz", ".h5ad"))
    if suffix == ".npz":
        known = array_names(path)
        return load_snapshots(path) if "gendyn" in known else _rows_of_npz(path, known, choice)
    if suffix == ".h5ad":
        return load_snapshots(path) if written_by_gendyn(path) else rows_of_h5ad(path, choice)
    if suffix in (".csv", ".csv.gz") and comment_of(path) is not None:
        return load_snapshots(path)
    frame = read_table(path)
    if "gendyn" in frame.attrs:
        return snapshots_from_table(frame, parse_header(frame.attrs["gendyn"], path, "snapshots"), path)
    return _rows_of_table(frame, choice, values)


def _rows_of_table(frame: pd.DataFrame, choice: Selection, values: Any) -> Rows:
    check_table(frame)
    key = time_column(list(frame.columns), choice.time_key, frame.__getitem__)
    weight = None if choice.weight_key is None else find_column(frame.columns, choice.weight_key, "weight_key")
    labels = [find_column(frame.columns, name, "obs_keys") for name in choice.obs_keys]
    columns = value_columns(frame, values, [key, weight, *labels])
    columns = columns[: check_dims(choice.n_dims, len(columns))]
    weights = None if weight is None else numbers_of(frame, [weight], np.float64)[:, 0]
    obs = frame[labels] if labels else None
    matrix = numbers_of(frame, columns, choice.dtype)
    return Rows(matrix, frame[key], weights, obs, [str(name) for name in columns], owned=True)


def _rows_of_arrays(samples: Any, labels: Any, choice: Selection) -> Rows:
    values, names, owned = as_matrix(samples)
    width = check_dims(choice.n_dims, values.shape[1])
    return Rows(values[:, :width], labels, names=None if names is None else names[:width], owned=owned)


def _rows_of_mapping(source: Mapping[str, Any], choice: Selection) -> Rows:
    return _rows_of_arrays(source["X"], source["t"], choice)


def _rows_of_npz(path: Path, known: Sequence[str], choice: Selection) -> Rows:
    """Return the rows in the arrays of a file; of those, only what is needed is read."""
    usual = ["X", "x", "samples", "data"] if choice.rep == "X_pca" else []
    sample = next((name for name in (choice.rep, *usual) if name in known), None)
    if sample is None:
        raise ValueError(f"{path} needs an array X (N, d) of samples; it has {few(known)}: name one with rep=")
    if choice.time_key is not None:
        clock = find_column(known, choice.time_key, "time_key")
    else:
        clocks = [name for name in known if name == "t" or name.lower() in TIME_NAMES]
        if len(clocks) != 1:
            raise ValueError(f"{path} needs one array t (N,) of times; it has {few(known)}: name one with time_key=")
        clock = clocks[0]
    wanted = [find_column(known, name, "weight_key") for name in [choice.weight_key] if name is not None]
    labels = [find_column(known, name, "obs_keys") for name in choice.obs_keys]
    arrays = open_npz(path, [sample, clock, *wanted, *labels])
    values, when = arrays[sample], arrays[clock]
    if values.ndim == 3 and when.shape == values.shape[:1]:
        when = np.repeat(when, values.shape[1])
        values = values.reshape(-1, values.shape[2])
    if when.ndim != 1 or len(when) != len(values):
        raise ValueError(
            f"{path} needs one time per row; {sample} has shape {arrays[sample].shape} and {clock} "
            f"{arrays[clock].shape}"
        )
    for name in (*wanted, *labels):
        if arrays[name].shape != when.shape:
            raise ValueError(f"the array {name} of {path} must have shape {when.shape}; got {arrays[name].shape}")
    obs = pd.DataFrame({name: arrays[name] for name in labels}) if labels else None
    matrix, _, _ = as_matrix(values, sample)
    width = check_dims(choice.n_dims, matrix.shape[1])
    return Rows(matrix[:, :width], when, arrays[wanted[0]] if wanted else None, obs, owned=True)


def _populations(source: Mapping[Any, Any], n_dims: int | None) -> Rows:
    """Return the rows of a mapping {time: array}."""
    if not source:
        raise ValueError("the mapping {time: array} is empty; give at least one population")
    parts = [as_matrix(values, f"samples of {label!r}") for label, values in source.items()]
    widths = [part[0].shape[1] for part in parts]
    if len(set(widths)) > 1:
        raise ValueError(f"all times must have the same number of features; got {widths}")
    empty = [label for label, part in zip(source, parts, strict=True) if len(part[0]) == 0]
    if empty:
        raise ValueError(f"the population at {empty[0]!r} is empty; leave that time out")
    if len({tuple(part[1]) for part in parts if part[1] is not None}) > 1:
        raise ValueError("all populations must have the same columns in the same order; got different ones")
    width = check_dims(n_dims, widths[0])
    names = parts[0][1]
    whole = np.concatenate([part[0] for part in parts])[:, :width]
    labels = pd.Series(list(source)).repeat([len(part[0]) for part in parts])
    return Rows(whole, labels, names=None if names is None else names[:width], owned=True)


def _default(source: Any) -> torch.dtype | None:
    """Return float32 for what has no precision of its own to keep."""
    text = isinstance(source, (str, Path)) and not str(source).lower().endswith(".npz")
    return torch.float32 if text or hasattr(source, "obs") or isinstance(source, pd.DataFrame) else None


def _chosen(
    snapshots: Snapshots,
    values: Any,
    n_dims: int | None,
    times: Mapping[Any, float] | None,
    dtype: torch.dtype | None,
) -> Snapshots:
    """Return snapshots with the features, times and precision asked for."""
    if values is not None:
        if snapshots.names is None:
            raise ValueError("values names features, but these snapshots have no names; leave it out, or use n_dims=")
        wanted = [values] if isinstance(values, str) else list(values)
        places = [snapshots.names.index(find_column(snapshots.names, name, "values")) for name in wanted]
        snapshots = snapshots.with_samples([x[:, places] for x in snapshots.samples], [str(name) for name in wanted])
    if n_dims is not None:
        width = check_dims(n_dims, snapshots.dim)
        names = None if snapshots.names is None else snapshots.names[:width]
        snapshots = snapshots.with_samples([x[:, :width] for x in snapshots.samples], names)
    if times is not None:
        numbers, _ = parse_times(pd.Series(snapshots.times.numpy()), times)
        single = [snapshots.only(t) for t in snapshots.times.tolist()]
        moved = [Snapshots([t], s.samples, s.weights, s.obs, s.names) for t, s in zip(numbers, single, strict=True)]
        snapshots = Snapshots.concatenate(*moved)
    return snapshots if dtype is None else snapshots.to(dtype=dtype)


def _named(snapshots: Snapshots, names: Sequence[str] | None) -> Snapshots:
    return snapshots if names is None else snapshots.with_samples(snapshots.samples, names)


def _keys(keys: Sequence[str] | str) -> tuple[str, ...]:
    return (keys,) if isinstance(keys, str) else tuple(keys)


def _numpy(dtype: torch.dtype | None) -> type[np.floating[Any]]:
    if dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64; got {dtype}")
    return np.float64 if dtype == torch.float64 else np.float32


# --- paths -------------------------------------------------------------------------------------------------


def _paths_of_npz(
    path: Path,
    known: Sequence[str],
    time_key: str | None,
    values: Any,
    label_key: str | None,
    states: States | None,
    dtype: torch.dtype | None,
) -> Paths:
    if values is not None:
        wanted = [values] if isinstance(values, str) else list(values)
        if len(wanted) != 1:
            raise ValueError(f"values must name one array (n, T, d) of {path}; got {few(wanted)}")
        name = find_column(known, wanted[0], "values")
    else:
        name = next((usual for usual in ("values", "X", "x", "paths", "data") if usual in known), None)
        if name is None:
            raise ValueError(f"{path} needs an array values (n, T, d); it has {few(known)}: name one with values=")
    clock = find_column(known, time_key, "time_key") if time_key is not None else None
    clock = clock or next((usual for usual in ("times", "time", "t") if usual in known and usual != name), None)
    label = find_column(known, label_key, "label_key") if label_key is not None else None
    mask = "mask" if "mask" in known else None
    lengths = next((usual for usual in ("lengths", "length") if usual in known), None)
    arrays = open_npz(path, [key for key in (name, clock, label, mask, lengths) if key is not None])
    return _paths_of_arrays(
        arrays[name],
        None if clock is None else arrays[clock],
        mask=None if mask is None else arrays[mask],
        lengths=None if lengths is None else arrays[lengths],
        labels=None if label is None else arrays[label],
        states=states,
        dtype=dtype,
    )


def _paths_of_arrays(
    values: Any,
    times: Any,
    *,
    mask: Any = None,
    lengths: Any = None,
    labels: Any = None,
    states: States | None = None,
    dtype: torch.dtype | None = None,
) -> Paths:
    array = _array(values, text=states is not None)
    names = None
    if states is not None:
        flat = pd.DataFrame(array.reshape(-1, array.shape[2]))
        numbers, names = state_numbers(flat, list(flat.columns), states)
        seen = (numbers >= 0).reshape(array.shape)
        array = np.where(seen, numbers.reshape(array.shape), 0)
        mask = seen if mask is None and not seen.all() else mask
    elif mask is None:
        mask, lengths = observed(array, lengths)
        array = np.where(np.isnan(array), np.zeros((), array.dtype), array) if array.dtype.kind == "f" else array
    grid = np.arange(array.shape[1], dtype=np.float64) if times is None else times
    kept = torch.from_numpy(np.ascontiguousarray(array))
    if dtype is not None and kept.is_floating_point():
        kept = kept.to(dtype)
    return Paths(grid, kept, mask=mask, lengths=lengths, labels=labels, states=names)


def _array(values: Any, *, text: bool) -> NDArray[Any]:
    array: NDArray[Any] = np.asarray(values) if text and not isinstance(values, torch.Tensor) else np.empty(0)
    if array.dtype.kind not in "OUS":
        array = as_tensor(values, "values").detach().cpu().numpy()
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3:
        raise ValueError(f"paths must have shape (n, T) or (n, T, d); got {array.shape}: for a table give a DataFrame")
    return array
