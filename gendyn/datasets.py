"""Public data sets by name, read from the folder that the environment variable ``GENDYN_DATA`` names.

Nothing is downloaded and nothing is shipped: these files belong to those who published them. A set that is not there
is a sentence: what it is, who published it, which file to put where. Files lie in the folder itself or in its folder
``biology``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn.data import Paths, Snapshots, read_snapshots
from gendyn.data.storage.formats import open_npz

__all__ = ["TimeScale", "available", "load"]

TimeScale = Literal["published", "real"]

_ROOT = "GENDYN_DATA"
_FOLDER = "biology"

Files = dict[str, Path]


@dataclass(frozen=True)
class _Dataset:
    """A public set: the files it needs, what it is, who published it, and how it is read."""

    files: tuple[str, ...]
    description: str
    source: str
    read: Callable[[Files], Snapshots]
    real: tuple[float, ...] | None = None
    width: int | None = None


def load(name: str, *, dims: int | None = None, time_scale: TimeScale = "published") -> Snapshots | Paths:
    """Return a public data set.

    Parameters
    ----------
    name
        One of those that :func:`available` lists.
    dims
        Keep this many leading features. ``"eb"`` has 100, of which 50 are read by default.
    time_scale
        ``"published"`` keeps the times as published: for some sets they are the numbers 0, 1, 2, ... of the time
        points, as in the benchmarks of the field. ``"real"`` gives days or hours, as the description says.

    Returns
    -------
    Snapshots or Paths
        The data, in their original units.

    Raises
    ------
    ValueError
        If there is no set of that name, or ``dims`` or ``time_scale`` is not possible.
    FileNotFoundError
        If its file is absent; the message says what it is, who publishes it and where to put it.

    Examples
    --------
    >>> load("moon")
    Traceback (most recent call last):
    ValueError: there is no data set 'moon'; there are eb, emt, larry-2d, larry-50d, larry-clones, sim-gene, dyngen, wot
    """
    if name not in _SETS:
        raise ValueError(f"there is no data set {name!r}; there are {', '.join(_SETS)}")
    if time_scale not in get_args(TimeScale):
        raise ValueError(f"time_scale must be one of {', '.join(get_args(TimeScale))}; got {time_scale!r}")
    entry = _SETS[name]
    needed = entry.files[:1] if name == "eb" and (dims is None or dims <= 50) else entry.files
    found = {file: _find(file) for file in needed}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise FileNotFoundError(_absent(name, entry, missing))
    data = entry.read({file: path for file, path in found.items() if path is not None})
    if dims is not None:
        if not 1 <= dims <= data.dim:
            raise ValueError(f"dims must lie in 1 to {entry.width or data.dim} for {name!r}; got {dims}")
        data = read_snapshots(data, n_dims=dims)
    if time_scale == "real" and entry.real is not None:
        data = Snapshots(entry.real, data.samples, data.weights, data.obs, data.names)
    return data


def available() -> pd.DataFrame:
    """Return a table of the data sets: name, kind, what it is, who published it, and whether it is here.

    Examples
    --------
    >>> available().columns.tolist()
    ['name', 'kind', 'description', 'source', 'present']
    """
    rows = [
        {
            "name": name,
            "kind": "snapshots",
            "description": entry.description,
            "source": entry.source,
            "present": _find(entry.files[0]) is not None,
        }
        for name, entry in _SETS.items()
    ]
    return pd.DataFrame(rows)


def _find(file: str) -> Path | None:
    """Return where a file is, or ``None``."""
    root = os.environ.get(_ROOT)
    places = [] if not root else [Path(root) / _FOLDER / file, Path(root) / file]
    return next((place for place in places if place.is_file()), None)


def _absent(name: str, entry: _Dataset, missing: list[str]) -> str:
    root = os.environ.get(_ROOT)
    if root:
        where = f"the folder {Path(root) / _FOLDER}"
    else:
        where = f"a folder, and set the environment variable {_ROOT} to it"
    what = entry.description.partition(";")[0]
    return (
        f"the data set {name!r} ({what}) is not here: get {' and '.join(missing)} from its publisher ({entry.source}), "
        f"and put it into {where}"
    )


def _cut(values: NDArray[Any], times: NDArray[Any], stem: str, obs: pd.DataFrame | None = None) -> Snapshots:
    """Cut rows by their time, with features named by a stem and a number."""
    names = [f"{stem}{i + 1}" for i in range(values.shape[1])]
    found = np.unique(times)
    labels = None if obs is None else [obs[times == t].reset_index(drop=True) for t in found]
    return Snapshots(found, [values[times == t] for t in found], None, labels, names)


def _embryoid_body(files: Files) -> Snapshots:
    parts = [open_npz(path) for path in files.values()]
    # The second file is stored in half precision.
    return _cut(np.concatenate([part["X"].astype(np.float32) for part in parts], axis=1), parts[0]["t"], "PC")


def _rows(stem: str) -> Callable[[Files], Snapshots]:
    def read(files: Files) -> Snapshots:
        arrays = open_npz(next(iter(files.values())))
        return _cut(arrays["X"], arrays["t"], stem)

    return read


def _larry(files: Files) -> Snapshots:
    arrays = open_npz(next(iter(files.values())))
    kinds = arrays["type_names"].astype(object)
    # All cells of day 2 were annotated as undifferentiated.
    types = [np.full(len(arrays["x0"]), "undifferentiated", dtype=object), kinds[arrays["type1"]]]
    obs = [
        pd.DataFrame(
            {
                "type": pd.Categorical(types[k], categories=kinds),
                "clone": arrays[f"clone{k}"].astype(np.int64),
                "sca1": arrays[f"sca1_pos{k}"].astype(np.int64),
            }
        )
        for k in (0, 1)
    ]
    names = [f"PC{i + 1}" for i in range(arrays["x0"].shape[1])]
    return Snapshots([2.0, 4.0], [arrays["x0"], arrays["x1"]], obs=obs, names=names)


def _clones(files: Files) -> Snapshots:
    arrays = open_npz(next(iter(files.values())))
    clone = np.full(len(arrays["X_pca"]), -1, dtype=np.int64)
    clone[arrays["clone_row"]] = arrays["clone_col"]
    states = arrays["state_names"].astype(object)
    obs = pd.DataFrame({"state": pd.Categorical(states[arrays["state"]], categories=states), "clone": clone})
    for axis in (0, 1):
        obs[f"umap{axis + 1}"] = arrays["X_umap"][:, axis]
        obs[f"emb{axis + 1}"] = arrays["X_emb"][:, axis]
    return _cut(arrays["X_pca"], arrays["day"], "PC", obs)


def _reprogramming(files: Files) -> Snapshots:
    wanted = ["data", "indices", "indptr", "shape", "day", "batch"]
    arrays = open_npz(next(iter(files.values())), wanted)
    cells, genes = (int(size) for size in arrays["shape"])
    values = np.zeros((cells, genes), dtype=np.float32)
    values[np.repeat(np.arange(cells), np.diff(arrays["indptr"])), arrays["indices"]] = arrays["data"]
    return _cut(values, arrays["day"], "gene", pd.DataFrame({"batch": arrays["batch"].astype(np.int64)}))


_SETS: dict[str, _Dataset] = {
    "eb": _Dataset(
        ("eb_pca_001_050.npz", "eb_pca_051_100.npz"),
        "embryoid body: 16819 differentiating human stem cells at 5 times, 50 or up to 100 principal components; "
        "published times 0 to 4 are days 0-3, 6-9, 12-15, 18-21, 24-27, and real ones the middle of each",
        "Moon et al., Nature Biotechnology 2019",
        _embryoid_body,
        real=(1.5, 7.5, 13.5, 19.5, 25.5),
        width=100,
    ),
    "emt": _Dataset(
        ("emt_a549_10d.npz",),
        "epithelial-mesenchymal transition of 3133 A549 cells under TGF-beta1 at 4 times, 10 latent features; "
        "published times 0 to 3 are 0, 8, 24 and 72 hours, which are the real ones",
        "Cook and Vanderhyden, Nature Communications 2020, as prepared for TIGON",
        _rows("latent"),
        real=(0.0, 8.0, 24.0, 72.0),
    ),
    "larry-2d": _Dataset(
        ("larry_2d_hematopoiesis.npz",),
        "mouse hematopoiesis: 10998 cells at 3 times in a plane; published times 0 to 2 are days 2, 4 and 6, which "
        "are the real ones",
        "Weinreb et al., Science 2020, as prepared for DeepRUOT",
        _rows("axis"),
        real=(2.0, 4.0, 6.0),
    ),
    "larry-50d": _Dataset(
        ("larry_d2_d4_50pc.npz",),
        "mouse hematopoiesis with lineage barcodes: 4702 cells each at days 2 and 4, 50 components; rows are not "
        "paired, cells of one clone (-1: none known) are siblings",
        "Weinreb et al., Science 2020, as prepared for SBALIGN",
        _larry,
    ),
    "larry-clones": _Dataset(
        ("larry_cospar_781.npz",),
        "mouse hematopoiesis: 781 cells with clones at days 2, 4 and 6, 40 principal components",
        "Weinreb et al., Science 2020, as selected for CoSpar",
        _clones,
    ),
    "sim-gene": _Dataset(
        ("sim_gene_growth_2d.npz",),
        "simulated: two genes that repress each other, with growth, 3031 cells at 5 times; numbers of cells are mass",
        "as prepared for DeepRUOT (Zhang et al., ICLR 2025)",
        _rows("gene"),
    ),
    "dyngen": _Dataset(
        ("dyngen_5d.npz",),
        "simulated: a bifurcation made with dyngen, 728 cells at 5 times, 5 features; numbers of cells are mass",
        "as prepared for VGFM; dyngen by Cannoodt et al., Nature Communications 2021",
        _rows("latent"),
    ),
    "wot": _Dataset(
        ("wot_serum_250cells.npz",),
        "reprogramming in serum: 250 cells at days 10, 10.5 and 11, 1479 log-normalised genes, with batch",
        "Schiebinger et al., Cell 2019, as selected for moscot",
        _reprogramming,
    ),
}
