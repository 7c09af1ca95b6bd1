"""The sets by name: loading one, and the table of all."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, get_args

import pandas as pd

from gendyn.data import Paths, Snapshots, read_snapshots
from gendyn.datasets.benchmarks import BENCHMARKS
from gendyn.datasets.cells import CELLS
from gendyn.datasets.dataset import Dataset
from gendyn.datasets.jump_paths import JUMP_PATHS
from gendyn.datasets.labelled_paths import LABELLED_PATHS
from gendyn.datasets.long_series import LONG_SERIES
from gendyn.datasets.pairs import PAIRS
from gendyn.datasets.recordings import RECORDINGS
from gendyn.datasets.simulated_paths import SIMULATED_PATHS
from gendyn.datasets.tables import TABLES

__all__ = ["TimeScale", "available", "load", "table"]

TimeScale = Literal["published", "real"]

_SETS: dict[str, Dataset] = {
    **CELLS,
    **BENCHMARKS,
    **PAIRS,
    **LABELLED_PATHS,
    **LONG_SERIES,
    **JUMP_PATHS,
    **SIMULATED_PATHS,
    **RECORDINGS,
}


def load(
    name: str, *, split: str = "all", dims: int | None = None, time_scale: TimeScale = "published"
) -> Snapshots | Paths:
    """Return a public data set.

    Parameters
    ----------
    name
        One of those that :func:`available` lists.
    split
        ``"all"``, or a part that its publishers divided it into, such as ``"train"`` or ``"test"``; :func:`available`
        says which. ``"all"`` of several parts has them in this order.
    dims
        Keep this many leading features. ``"eb"`` has 100, of which 50 are read by default.
    time_scale
        ``"published"`` keeps the times as published: for some sets of cells they are the numbers 0, 1, 2, ... of the
        time points, as in the benchmarks of the field. ``"real"`` gives days or hours, as the description says.

    Returns
    -------
    Snapshots or Paths
        The data, in their original units. What is missing is masked; ``info`` of paths says which set they are and what
        a unit of time and of the values is.

    Raises
    ------
    ValueError
        If there is no set of that name, or ``split``, ``dims`` or ``time_scale`` is not possible.
    FileNotFoundError
        If its file is absent; the message says what it is, who publishes it and where to put it.

    Examples
    --------
    >>> load("eeg-mri")
    Paths(1 paths, 800 times from 0 to 9.9875, 4 features)
    >>> load("ratchet")
    Traceback (most recent call last):
    ValueError: there is no data set 'ratchet'; did you mean ratchet-v3 or ratchet-v1 or ratchet-v0?
    """
    if name not in _SETS:
        known = "gendyn.datasets.available() lists them"
        raise ValueError(f"there is no data set {name!r}; {_near(name, _SETS) or known}")
    if time_scale not in get_args(TimeScale):
        raise ValueError(f"time_scale must be one of {', '.join(get_args(TimeScale))}; got {time_scale!r}")
    entry = _SETS[name]
    if split != "all" and split not in entry.splits:
        parts = ", ".join(("all", *entry.splits))
        raise ValueError(f"split of {name!r} must be one of {parts}; got {split!r}")
    data = entry.read(entry.locate_all(name, entry.needed(dims)), split)
    if dims is not None and not 1 <= dims <= data.dim:
        raise ValueError(f"dims must lie in 1 to {entry.width or data.dim} for {name!r}; got {dims}")
    if isinstance(data, Paths):
        return _described(data, dims, {"dataset": name, "split": split, "time": entry.time, "units": entry.units})
    if dims is not None:
        data = read_snapshots(data, n_dims=dims)
    if time_scale == "real" and entry.real is not None:
        data = Snapshots(entry.real, data.samples, data.weights, data.obs, data.names)
    return data


def available() -> pd.DataFrame:
    """Return a table of the data sets: what each is and who published it, under what licence, and whether it is here.

    Examples
    --------
    >>> available().columns.tolist()
    ['name', 'kind', 'description', 'source', 'licence', 'splits', 'time', 'units', 'folder', 'files', 'present']
    """
    rows = [
        {
            "name": name,
            "kind": entry.kind,
            "description": entry.description,
            "source": entry.source,
            "licence": entry.licence,
            "splits": ", ".join(entry.splits),
            "time": entry.time,
            "units": entry.units,
            "folder": entry.folder,
            "files": ", ".join(entry.files),
            "present": all(entry.locate(file) for file in entry.needed(None)),
        }
        for name, entry in _SETS.items()
    ]
    return pd.DataFrame(rows)


def table(name: str) -> pd.DataFrame:
    """Return what belongs to the data sets and is neither a population nor a path, as a table.

    Parameters
    ----------
    name
        ``"chaos"``: parameters, exponents and moments of 135 chaotic systems. ``"jump-prior"``: rate matrices
        drawn from the prior of a published model of jump processes, a row per ordered pair of states.
        ``"physionet2012-patients"`` and ``"cav-visits"``: covariates of the patients of the sets of these names.

    Raises
    ------
    ValueError
        If there is no table of that name.
    FileNotFoundError
        If its file is absent; the message says what it is, who publishes it and where to put it.

    Examples
    --------
    >>> table("moon")
    Traceback (most recent call last):
    ValueError: there is no table 'moon'; there are chaos, jump-prior, physionet2012-patients, cav-visits
    """
    if name not in TABLES:
        known = f"there are {', '.join(TABLES)}"
        raise ValueError(f"there is no table {name!r}; {_near(name, TABLES) or known}")
    entry = TABLES[name]
    return entry.frame(entry.files.locate_all(name))


def _near(name: str, names: Iterable[str]) -> str:
    """Return a clause that names what somebody may have meant, or nothing."""
    said, known = str(name).lower(), list(names)
    close = get_close_matches(said, known, n=3) or [other for other in known if said and said in other][:3]
    return f"did you mean {' or '.join(close)}?" if close else ""


def _described(paths: Paths, dims: int | None, info: dict[str, str]) -> Paths:
    """Return leading features of paths, with information added."""
    kept = paths.dim if dims is None else dims
    return Paths(
        paths.times,
        paths.values[..., :kept],
        None if paths.mask is None else paths.mask[..., :kept],
        paths.lengths,
        paths.labels,
        None if paths.names is None else paths.names[:kept],
        paths.states,
        {**paths.info, **info},
    )
