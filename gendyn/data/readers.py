"""The one place that opens a user's files: tables, arrays and AnnData in, snapshots or paths out.

Rows are grouped by their time without a loop over rows. What cannot be read raises a sentence that says what was found, what
is needed, and what to do; nothing on the disk is changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data.checks import as_tensor
from gendyn.data.paths import Paths
from gendyn.data.snapshots import Snapshots
from gendyn.data.storage import check_exists, comment_of, load_paths, load_snapshots, open_npz, optional, suffix_of
from gendyn.data.time_labels import parse_times

__all__ = ["read_paths", "read_snapshots"]

_TIME_NAMES = ("time", "t", "times", "day", "days", "hour", "hours", "timepoint", "time_point", "age", "stage", "week")
_ID_NAMES = ("id", "path", "series", "subject", "patient", "trajectory", "sample", "unit")
_TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".parquet")
_FEW_CELLS = 10


def read_snapshots(
    source: Any,
    *,
    time_key: str | None = None,
    rep: str = "X_pca",
    values: Sequence[str] | None = None,
    weight_key: str | None = None,
    obs_keys: Sequence[str] = (),
    times: Mapping[Any, float] | None = None,
    n_dims: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Snapshots:
    """Read populations at times from whatever holds them.

    Parameters
    ----------
    source
        A DataFrame; an AnnData object; a mapping ``{time: array}``; a pair of arrays ``(samples (N, d), times (N,))``;
        a file ``.csv``, ``.csv.gz``, ``.tsv``, ``.parquet``, ``.npz`` (arrays ``X`` and ``t``, or gendyn's own), ``.h5ad``; or a folder of
        CSVs named by time (``D0.csv``, ``D2.csv``).
    time_key
        Column (of the table, or of ``obs``) with the times; by default the one that is called time, t, day, ...
    rep
        AnnData only: key of ``obsm``, or ``"X"``.
    values
        Tables only: columns to read; by default all numeric ones that are named nowhere else.
    weight_key, obs_keys
        Columns with weights, and columns to keep as labels.
    times
        What each time label means, where its number does not say.
    n_dims
        Keep the leading features only.
    dtype
        float32 (default) or float64; float64 arrays given directly are kept.

    Returns
    -------
    Snapshots
        Rows keep their order within a time.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError, TypeError, KeyError
        If what is there cannot be read as populations; the message says why and what to do.

    Examples
    --------
    >>> frame = pd.DataFrame({"day": ["D0", "D0", "D10", "D10", "D2", "D2"], "gene": [0.0, 1.0, 4.0, 5.0, 2.0, 3.0]})
    >>> with warnings.catch_warnings(action="ignore"):
    ...     read_snapshots(frame, time_key="day").times.tolist()
    [0.0, 2.0, 10.0]
    """
    if isinstance(source, Snapshots):
        return source
    if isinstance(source, (str, Path)):
        return _read_snapshots_file(
            Path(source), time_key=time_key, rep=rep, values=values, weight_key=weight_key, obs_keys=obs_keys, times=times,
            n_dims=n_dims, dtype=dtype,
        )  # fmt: skip
    if isinstance(source, pd.DataFrame):
        return _from_table(source, time_key, values, weight_key, obs_keys, times, n_dims, dtype)
    if hasattr(source, "obsm") and hasattr(source, "obs"):
        return _from_anndata(source, time_key, rep, weight_key, obs_keys, times, n_dims, dtype)
    if isinstance(source, Mapping):
        labels = list(source)
        numbers, _ = parse_times(pd.Series(labels), times)
        order = np.argsort(numbers, kind="stable")
        return Snapshots(numbers[order], [_leading(source[labels[i]], n_dims) for i in order])
    if isinstance(source, tuple) and len(source) == 2:
        samples, row_times = source
        return _group(_leading(samples, n_dims), pd.Series(np.asarray(row_times)), times=times, dtype=None)
    raise TypeError(
        f"cannot read snapshots from {type(source).__name__}; give a file, a folder, a DataFrame, an AnnData object, "
        "{time: array}, or (samples, times)"
    )


def read_paths(
    source: Any,
    *,
    id_key: str | None = None,
    time_key: str | None = None,
    values: Sequence[str] | None = None,
    label_key: str | None = None,
    states: Sequence[str] | None = None,
    times: Mapping[Any, float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Paths:
    """Read trajectories from a long table (one row per path and time), or an array ``(n, T, d)``.

    Parameters
    ----------
    source
        A DataFrame; a file ``.csv``, ``.csv.gz``, ``.tsv``, ``.parquet``, ``.npz``, ``.zarr``; an array ``(n, T, d)`` (times 0, 1, ...).
    id_key, time_key
        Columns that say which path and when; by default those called id, path, ... and time, t, ...
    values
        Columns to read; by default all numeric ones that are named nowhere else.
    label_key
        Column with one label per path.
    states
        Names of discrete states; the one value column then holds these names, or their numbers.
    times
        What each time label means, where its number does not say.
    dtype
        float32 (default) or float64.

    Returns
    -------
    Paths
        Missing values become a mask; where all paths have the same times they are shared, otherwise padded.

    Raises
    ------
    ValueError, TypeError, KeyError, FileNotFoundError
        As for :func:`read_snapshots`; also if a path has two rows at one time.

    Examples
    --------
    >>> frame = pd.DataFrame({"id": ["a", "a", "b"], "time": [0.0, 1.0, 0.5], "x": [1.0, 2.0, 3.0]})
    >>> paths = read_paths(frame)
    >>> paths.lengths.tolist(), paths.times.tolist()
    ([2, 1], [[0.0, 1.0], [0.5, 0.5]])
    """
    if isinstance(source, Paths):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source)
        suffix = suffix_of(path, (*_TABLES, ".npz", ".zarr"))
        check_exists(path)
        if suffix in (".npz", ".zarr"):
            if suffix == ".npz" and "gendyn" not in (arrays := open_npz(path)):
                return _paths_from_arrays(arrays, path)
            return load_paths(path)
        frame = _read_table(path)
        if "gendyn" in frame.attrs:
            return load_paths(path)
        return _paths_from_table(frame, id_key, time_key, values, label_key, states, times, dtype)
    if isinstance(source, pd.DataFrame):
        return _paths_from_table(source, id_key, time_key, values, label_key, states, times, dtype)
    array = as_tensor(source, "values")
    if array.ndim not in (2, 3):
        raise ValueError(f"an array of paths must have shape (n, T) or (n, T, d); got {tuple(array.shape)}")
    return Paths(torch.arange(array.shape[1], dtype=torch.float64), array, mask=_seen(array), states=states)


# --- files -------------------------------------------------------------------------------------------------


def _read_snapshots_file(path: Path, **options: Any) -> Snapshots:
    check_exists(path)
    table = {k: options[k] for k in ("time_key", "values", "weight_key", "obs_keys", "times", "n_dims", "dtype")}
    if path.is_dir():
        return _read_folder(path, options)
    suffix = suffix_of(path, (*_TABLES, ".npz", ".h5ad"))
    if suffix == ".npz":
        arrays = open_npz(path)
        if "gendyn" in arrays:
            return load_snapshots(path)
        return _from_npz(arrays, path, options)
    if suffix == ".h5ad":
        return _read_h5ad(path, options)
    if suffix.startswith(".csv") and comment_of(path) is not None:
        return load_snapshots(path)
    frame = _read_table(path)
    if "gendyn" in frame.attrs:
        return load_snapshots(path)
    return _from_table(frame, **table)


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table; a file that is none gets a sentence."""
    if path.name.endswith(".parquet"):
        optional("pyarrow", "io")
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as .parquet: {error}") from error
    try:
        separator = "\t" if ".tsv" in path.name else None if ".txt" in path.name else ","
        frame = pd.read_csv(path, sep=separator, engine="python" if separator is None else "c")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as a table: {str(error).strip() or 'it is damaged'}") from error
    if frame.empty:
        raise ValueError(f"{path} holds no rows; a table with one row per observation is needed")
    return frame


def _read_folder(folder: Path, options: Mapping[str, Any]) -> Snapshots:
    files = sorted(p for p in folder.iterdir() if p.name.endswith((".csv", ".csv.gz")) and not p.name.startswith("."))
    if not files:
        raise ValueError(f"the folder {folder} holds no .csv files; one per time, named by the time (D0.csv), is needed")
    labels = [p.name.removesuffix(".gz").removesuffix(".csv") for p in files]
    numbers, _ = parse_times(pd.Series(labels), options["times"])
    frames = [_read_table(p) for p in files]
    columns = list(frames[0].columns)
    for path, frame in zip(files, frames, strict=True):
        if list(frame.columns) != columns:
            raise ValueError(f"{path} has other columns ({_few(frame.columns)}) than {files[0]} ({_few(columns)})")
    name = "time" if "time" not in columns else "__time__"
    whole = pd.concat([f.assign(**{name: n}) for f, n in zip(frames, numbers, strict=True)], ignore_index=True)
    return _from_table(
        whole, name, options["values"], options["weight_key"], options["obs_keys"], None, options["n_dims"], options["dtype"]
    )


def _from_npz(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path, options: Mapping[str, Any]) -> Snapshots:
    time_name = options["time_key"] or next((n for n in _TIME_NAMES if n in arrays), None)
    rep = options["rep"] if options["rep"] in arrays else next((n for n in ("X", "x", "samples", "X_pca") if n in arrays), None)
    if rep is None or time_name is None or time_name not in arrays:
        raise ValueError(f"{path} needs the arrays X (N, d) and t (N,); it has {_few(arrays)}")
    weights = arrays.get(options["weight_key"]) if options["weight_key"] else None
    return _group(
        _leading(arrays[rep], options["n_dims"]), pd.Series(arrays[time_name]), times=options["times"], dtype=None, weights=weights
    )


def _read_h5ad(path: Path, options: Mapping[str, Any]) -> Snapshots:
    """Read only what is asked for: the matrix and the columns, never the expression of a million cells."""
    optional("anndata", "bio")
    h5py = optional("h5py", "bio")
    from anndata.io import read_elem

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} cannot be read as .h5ad: {error}") from error
    with file:
        if "obs" not in file:
            raise ValueError(f"{path} is an HDF5 file but not AnnData: it has no obs")
        obs = read_elem(file["obs"])
        rep, n_dims = options["rep"], options["n_dims"]
        if "gendyn" in file.get("uns", {}) and options["time_key"] is None and rep == "X_pca" and "X_pca" not in file.get("obsm", {}):
            return load_snapshots(path)
        if rep == "X":
            node = file["X"]
            if not isinstance(node, h5py.Dataset):
                matrix = read_elem(node)
            else:
                matrix = node[:, : n_dims or node.shape[1]]
            names = list(read_elem(file["var"]).index.astype(str))
        else:
            keys = list(file.get("obsm", {}))
            if rep not in keys:
                raise KeyError(_no_rep(rep, keys))
            node = file["obsm"][rep]
            matrix = node[:, : n_dims or node.shape[1]] if isinstance(node, h5py.Dataset) else read_elem(node)
            names = None
    return _from_obs(matrix, obs, rep, names, options)


def _from_anndata(
    adata: Any,
    time_key: str | None,
    rep: str,
    weight_key: str | None,
    obs_keys: Sequence[str],
    times: Mapping[Any, float] | None,
    n_dims: int | None,
    dtype: torch.dtype,
) -> Snapshots:
    if rep != "X" and rep not in adata.obsm:
        raise KeyError(_no_rep(rep, list(adata.obsm)))
    matrix = adata.X if rep == "X" else adata.obsm[rep]
    names = list(map(str, adata.var_names)) if rep == "X" else None
    options = {
        "time_key": time_key, "weight_key": weight_key, "obs_keys": obs_keys, "times": times, "n_dims": n_dims, "dtype": dtype,
    }  # fmt: skip
    return _from_obs(matrix, adata.obs, rep, names, options)


def _from_obs(
    matrix: Any, obs: pd.DataFrame, rep: str, names: list[str] | None, options: Mapping[str, Any]
) -> Snapshots:
    """Group the rows of a representation by a column of obs."""
    if rep.lower() in ("x_umap", "x_tsne", "x_draw_graph_fa", "x_phate"):
        warnings.warn(
            f"distances in {rep} are not metric: it is a drawing of the data; fit in X_pca and draw in {rep}", UserWarning, stacklevel=4
        )
    if isinstance(matrix, pd.DataFrame):
        names, matrix = list(map(str, matrix.columns)), matrix.to_numpy()
    if hasattr(matrix, "toarray"):
        if matrix.shape[0] * matrix.shape[1] > 2e8:
            raise ValueError(
                f"{rep} is sparse with shape {matrix.shape}, too large to be made dense; reduce it first (principal components)"
            )
        matrix = matrix.toarray()
    matrix = np.asarray(matrix)
    if rep == "X" and matrix.size and float(matrix.min()) >= 0 and bool((matrix[:1000] == np.round(matrix[:1000])).all()):
        warnings.warn(
            "X holds whole numbers: counts that were not log-normalised; distances between counts are mostly sequencing depth",
            UserWarning,
            stacklevel=4,
        )
    key = _time_column(obs, options["time_key"])
    n_dims = options["n_dims"]
    weights = None if options["weight_key"] is None else _column(obs, options["weight_key"]).to_numpy()
    labels = obs[[_column(obs, k).name for k in options["obs_keys"]]] if options["obs_keys"] else None
    if names is not None and n_dims is not None:
        names = names[:n_dims]
    return _group(
        _leading(matrix, n_dims), obs[key], times=options["times"], dtype=options["dtype"], weights=weights, obs=labels, names=names
    )


def _from_table(
    frame: pd.DataFrame,
    time_key: str | None,
    values: Sequence[str] | None,
    weight_key: str | None,
    obs_keys: Sequence[str],
    times: Mapping[Any, float] | None,
    n_dims: int | None,
    dtype: torch.dtype,
) -> Snapshots:
    _check_columns(frame)
    if frame.empty:
        raise ValueError("the table holds no rows; one row per observation is needed")
    key = _time_column(frame, time_key)
    weights = None if weight_key is None else _column(frame, weight_key).to_numpy()
    labels = frame[[_column(frame, k).name for k in obs_keys]] if obs_keys else None
    used = {key, weight_key, *obs_keys}
    columns = _value_columns(frame, values, used)[:n_dims]
    matrix = frame[columns].to_numpy(dtype=np.float64 if dtype == torch.float64 else np.float32, na_value=np.nan)
    return _group(matrix, frame[key], times=times, dtype=dtype, weights=weights, obs=labels, names=columns)


def _group(
    samples: Any,
    labels: pd.Series[Any],
    *,
    times: Mapping[Any, float] | None,
    dtype: torch.dtype | None,
    weights: Any = None,
    obs: pd.DataFrame | None = None,
    names: Sequence[str] | None = None,
) -> Snapshots:
    """Cut rows into populations by their time; rows without a time are left out with a warning."""
    matrix = samples if isinstance(samples, Tensor) else torch.from_numpy(_plain(samples))
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if len(labels) != len(matrix):
        raise ValueError(f"there must be one time per row; got {len(labels)} times for {len(matrix)} rows")
    numbers, _ = parse_times(labels, times)
    known = ~np.isnan(numbers)
    if not known.any():
        raise ValueError("no row has a time; every entry of the time column is missing")
    if not known.all():
        warnings.warn(f"{(~known).sum()} of {len(known)} rows have no time and are left out", UserWarning, stacklevel=4)
    rows = np.flatnonzero(known)
    rows = rows[np.argsort(numbers[rows], kind="stable")]
    found, starts, counts = np.unique(numbers[rows], return_index=True, return_counts=True)
    if counts.min() < 2:
        t = found[counts.argmin()]
        raise ValueError(f"time {t:g} has one row only; a population needs at least 2: leave that time out")
    if counts.min() < _FEW_CELLS:
        t = found[counts.argmin()]
        warnings.warn(f"time {t:g} has only {counts.min()} rows; results there will be mostly chance", UserWarning, stacklevel=4)
    parts = [rows[a : a + n] for a, n in zip(starts, counts, strict=True)]
    if matrix.is_floating_point() and dtype is not None:
        matrix = matrix.to(dtype)
    bad = ~torch.isfinite(matrix).all(1) if matrix.is_floating_point() else torch.zeros(len(matrix), dtype=torch.bool)
    if bool(bad.any()):
        first = torch.nonzero(bad).flatten().tolist()
        raise ValueError(
            f"values must be finite; got NaN or infinity in {len(first)} of {len(matrix)} rows (first: {', '.join(map(str, first[:5]))}): "
            "drop or impute them"
        )
    return Snapshots(
        found,
        [matrix[torch.from_numpy(p)] for p in parts],
        None if weights is None else [np.asarray(weights)[p] for p in parts],
        None if obs is None else [obs.iloc[p] for p in parts],
        names,
    )


# --- paths -------------------------------------------------------------------------------------------------


def _paths_from_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> Paths:
    name = next((n for n in ("values", "X", "x", "data") if n in arrays), None)
    if name is None:
        raise ValueError(f"{path} needs an array values (n, T, d); it has {_few(arrays)}")
    values = as_tensor(arrays[name], name)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3:
        raise ValueError(f"the array {name} of {path} must have shape (n, T, d); got {tuple(values.shape)}")
    times = next((arrays[n] for n in ("times", "t", "time") if n in arrays), np.arange(values.shape[1], dtype=np.float64))
    return Paths(times, values, mask=arrays.get("mask", _seen(values)), lengths=arrays.get("lengths"), labels=arrays.get("labels"))


def _paths_from_table(
    frame: pd.DataFrame,
    id_key: str | None,
    time_key: str | None,
    values: Sequence[str] | None,
    label_key: str | None,
    states: Sequence[str] | None,
    times: Mapping[Any, float] | None,
    dtype: torch.dtype,
) -> Paths:
    _check_columns(frame)
    if frame.empty:
        raise ValueError("the table holds no rows; one row per path and time is needed")
    identity = _named_column(frame, id_key, _ID_NAMES, "id_key", "which path a row belongs to")
    key = _time_column(frame, time_key)
    columns = list(values) if values is not None else _value_columns(frame, None, {identity, key, label_key})
    numbers, _ = parse_times(frame[key], times)
    if np.isnan(numbers).any():
        warnings.warn(f"{np.isnan(numbers).sum()} rows have no time and are left out", UserWarning, stacklevel=3)
        frame, numbers = frame[~np.isnan(numbers)], numbers[~np.isnan(numbers)]
    codes, found = pd.factorize(frame[identity])
    if (codes < 0).any():
        raise ValueError(f"column {identity!r} is missing in {(codes < 0).sum()} rows; every row must belong to a path")
    order = np.lexsort((numbers, codes))
    codes, numbers, frame = codes[order], numbers[order], frame.iloc[order]
    double = (np.diff(codes) == 0) & (np.diff(numbers) == 0)
    if double.any():
        k = int(np.flatnonzero(double)[0])
        raise ValueError(f"path {found[codes[k]]!r} has two rows at time {numbers[k]:g}; merge or drop one of them")
    counts = np.bincount(codes)
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    position = np.arange(len(codes)) - starts[codes]
    n, length = len(counts), int(counts.max())
    grid = np.repeat(numbers[starts + counts - 1][:, None], length, axis=1)
    grid[codes, position] = numbers
    if states is not None:
        array = _state_numbers(frame, columns, states)
        block: np.ndarray[Any, Any] = np.zeros((n, length, 1), dtype=np.int64)
        block[codes, position, 0] = np.where(array < 0, 0, array)
        seen = np.zeros((n, length, 1), dtype=bool)
        seen[codes, position, 0] = array >= 0
    else:
        for name in columns:
            _check_numeric(frame, name)
        matrix = frame[columns].to_numpy(dtype=np.float64 if dtype == torch.float64 else np.float32, na_value=np.nan)
        block = np.zeros((n, length, len(columns)), dtype=matrix.dtype)
        block[codes, position] = matrix
        seen = np.zeros(block.shape, dtype=bool)
        seen[codes, position] = ~np.isnan(matrix)
    labels = None
    if label_key is not None:
        per_path = _column(frame, label_key).groupby(codes).agg(["first", "nunique"])
        if (per_path["nunique"] > 1).any():
            raise ValueError(f"label {label_key!r} changes within path {found[int(per_path['nunique'].argmax())]!r}; one per path is needed")
        labels = per_path["first"].to_numpy()
        labels = labels.astype(str) if labels.dtype == object else labels
    shared = bool((counts == length).all()) and bool((grid == grid[0]).all())
    return Paths(
        grid[0] if shared else grid,
        block,
        mask=None if seen.all() else seen,
        lengths=None if bool((counts == length).all()) else counts,
        labels=labels,
        names=columns,
        states=states,
    )


def _state_numbers(frame: pd.DataFrame, columns: Sequence[str], states: Sequence[str]) -> np.ndarray[Any, Any]:
    if len(columns) != 1:
        raise ValueError(f"discrete states need exactly one value column; got {_few(columns)}")
    column = _column(frame, columns[0])
    if pd.api.types.is_numeric_dtype(column):
        return np.asarray(column.fillna(-1).to_numpy(dtype=np.int64))
    number = {str(state): k for k, state in enumerate(states)}
    unknown = [str(v) for v in column.dropna().unique() if str(v) not in number]
    if unknown:
        raise ValueError(f"state {unknown[0]!r} in column {columns[0]!r} is not among the states {_few(states)}")
    return column.map(lambda v: -1 if pd.isna(v) else number[str(v)]).to_numpy(dtype=np.int64)


# --- columns -----------------------------------------------------------------------------------------------


def _check_columns(frame: pd.DataFrame) -> None:
    if not frame.columns.is_unique:
        double = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"the column {double!r} is there more than once; rename one of them")


def _column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    if name not in frame.columns:
        raise KeyError(f"there is no column {name!r}; there are {_few(frame.columns)}")
    return frame[name]


def _named_column(frame: pd.DataFrame, name: str | None, usual: Sequence[str], argument: str, meaning: str) -> str:
    if name is not None:
        _column(frame, name)
        return name
    by_lower = {str(c).lower(): c for c in frame.columns}
    found = [by_lower[u] for u in usual if u in by_lower]
    if not found:
        raise KeyError(f"no column says {meaning}; name one with {argument}= (columns: {_few(frame.columns)})")
    return str(found[0])


def _time_column(frame: pd.DataFrame, name: str | None) -> str:
    """Return the time column; where none is named or it is not there, list the columns that could be."""
    if name is not None and name in frame.columns:
        return name
    by_lower = {str(c).lower(): c for c in frame.columns}
    found = [by_lower[u] for u in (*_TIME_NAMES, "gendyn_time") if u in by_lower]
    if name is None and found:
        return str(found[0])
    likely = [str(c) for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c]) or _has_numbers(frame[c])]
    hint = f"columns that hold numbers: {_few(likely)}" if likely else f"columns: {_few(frame.columns)}"
    if name is None:
        raise KeyError(f"no column is called time, day or the like; name it with time_key= ({hint})")
    raise KeyError(f"there is no time column {name!r}; {hint}")


def _has_numbers(column: pd.Series[Any]) -> bool:
    head = column.dropna().astype(str).head(20)
    return bool(len(head)) and bool(head.str.contains(r"\d").all())


def _value_columns(frame: pd.DataFrame, values: Sequence[str] | None, used: set[str | None]) -> list[str]:
    if values is not None:
        for name in values:
            _column(frame, name)
            _check_numeric(frame, name)
        return list(values)
    rest = [c for c in frame.columns if c not in used and not str(c).startswith("Unnamed:")]
    columns = [c for c in rest if pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_bool_dtype(frame[c])]
    if not columns:
        raise ValueError(f"no numeric columns are left to read as values (columns: {_few(frame.columns)}); name them with values=")
    return columns


def _check_numeric(frame: pd.DataFrame, name: str) -> None:
    column = _column(frame, name)
    if not pd.api.types.is_numeric_dtype(column):
        odd = column[pd.to_numeric(column, errors="coerce").isna() & column.notna()]
        what = f"for example {odd.iloc[0]!r}" if len(odd) else f"type {column.dtype}"
        raise ValueError(f"column {name!r} must hold numbers; got {what}")


def _leading(samples: Any, n_dims: int | None) -> Any:
    if n_dims is None:
        return samples
    if n_dims < 1:
        raise ValueError(f"n_dims must be at least 1; got {n_dims}")
    width = samples.shape[1]
    if n_dims > width:
        raise ValueError(f"n_dims={n_dims} features were asked for, but there are only {width}")
    return samples[:, :n_dims]


def _plain(samples: Any) -> np.ndarray[Any, Any]:
    tensor = as_tensor(samples, "samples")
    return np.asarray(tensor.numpy())


def _seen(values: Tensor) -> Tensor | None:
    """Return what is not NaN, or ``None`` where nothing is missing."""
    if not values.is_floating_point():
        return None
    seen = ~torch.isnan(values)
    return None if bool(seen.all()) else seen


def _no_rep(rep: str, keys: Sequence[str]) -> str:
    there = f"there are {_few(keys)}" if keys else "obsm is empty"
    return f"there is no obsm[{rep!r}]; {there}: compute it first, or name another with rep= (rep='X' reads the expression itself)"


def _few(names: Any) -> str:
    texts = [repr(str(name)) for name in names]
    return ", ".join(texts if len(texts) <= 8 else [*texts[:7], f"... ({len(texts)} in all)"])
