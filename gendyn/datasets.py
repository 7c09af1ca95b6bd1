"""Public data sets by name, read from the folder that the environment variable ``GENDYN_DATA`` names.

Nothing is downloaded. A set that is not there is a sentence: what it is, who published it, where to put it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gendyn.data import Paths, Snapshots

__all__ = ["available", "load"]

Reader = Callable[[Path, int | None], Snapshots]


@dataclass(frozen=True)
class _Dataset:
    """A public set: the files it needs under ``$GENDYN_DATA``, and where it comes from."""

    files: tuple[str, ...]
    what: str
    source: str
    read: Reader


def _open(root: Path, file: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(root / file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _split(x: np.ndarray[Any, Any], t: np.ndarray[Any, Any], dims: int | None, names: str) -> Snapshots:
    if dims is not None:
        if not 1 <= dims <= x.shape[1]:
            raise ValueError(f"dims must lie in 1 to {x.shape[1]}; got {dims}")
        x = x[:, :dims]
    times = np.unique(t)
    return Snapshots(times, [x[t == k] for k in times], names=[f"{names}{i + 1}" for i in range(x.shape[1])])


def _embryoid_body(root: Path, dims: int | None) -> Snapshots:
    first = _open(root, "biology/eb_pca_001_050.npz")
    x = first["X"]
    if dims is not None and dims > x.shape[1]:
        path = root / "biology/eb_pca_051_100.npz"
        if not path.is_file():
            raise FileNotFoundError(f"components above 50 of the embryoid-body cells are in {path}, which is not there")
        x = np.concatenate([x, _open(root, "biology/eb_pca_051_100.npz")["X"].astype(np.float32)], axis=1)
    return _split(x, first["t"], dims, "PC")


def _plain(file: str, names: str) -> Reader:
    def read(root: Path, dims: int | None) -> Snapshots:
        arrays = _open(root, file)
        return _split(arrays["X"], arrays["t"], dims, names)

    return read


def _larry(root: Path, dims: int | None) -> Snapshots:
    arrays = _open(root, "biology/larry_d2_d4_50pc.npz")
    populations = [arrays["x0"][:, :dims], arrays["x1"][:, :dims]]
    obs = []
    for k in (0, 1):
        kinds = arrays["type_names"][arrays[f"type{k}"]].astype(object)
        obs.append(pd.DataFrame({"type": kinds, "clone": arrays[f"clone{k}"]}))
    return Snapshots([2.0, 4.0], populations, obs=obs, names=[f"PC{i + 1}" for i in range(populations[0].shape[1])])


def _clones(root: Path, dims: int | None) -> Snapshots:
    arrays = _open(root, "biology/larry_cospar_781.npz")
    x, day = arrays["X_pca"][:, :dims], arrays["day"]
    clone = np.full(len(x), -1)
    clone[arrays["clone_row"]] = arrays["clone_col"]
    labels = pd.DataFrame({"state": arrays["state_names"][arrays["state"]].astype(object), "clone": clone})
    times = np.unique(day)
    obs = [labels[day == k].reset_index(drop=True) for k in times]
    return Snapshots(times, [x[day == k] for k in times], obs=obs, names=[f"PC{i + 1}" for i in range(x.shape[1])])


_SETS: dict[str, _Dataset] = {
    "eb": _Dataset(
        ("biology/eb_pca_001_050.npz",),
        "embryoid body: human stem cells differentiating, 16 819 cells at 5 times over 27 days, principal components",
        "Moon et al., Nature Biotechnology 2019",
        _embryoid_body,
    ),
    "emt": _Dataset(
        ("biology/emt_a549_10d.npz",),
        "epithelial-mesenchymal transition of A549 cells under TGF-beta1, 3 133 cells at 4 times, 10-D latent",
        "Cook and Vanderhyden, Nature Communications 2020; latent by Sha et al. (TIGON) 2024",
        _plain("biology/emt_a549_10d.npz", "latent"),
    ),
    "larry-2d": _Dataset(
        ("biology/larry_2d_hematopoiesis.npz",),
        "mouse hematopoiesis, 10 998 cells at days 2, 4, 6 in a 2-D embedding",
        "Weinreb et al., Science 2020",
        _plain("biology/larry_2d_hematopoiesis.npz", "axis"),
    ),
    "larry-50d": _Dataset(
        ("biology/larry_d2_d4_50pc.npz",),
        "mouse hematopoiesis with lineage barcodes, 4 702 cells each at days 2 and 4, 50 components",
        "Weinreb et al., Science 2020",
        _larry,
    ),
    "larry-clones": _Dataset(
        ("biology/larry_cospar_781.npz",),
        "mouse hematopoiesis, 781 cells with clones at days 2, 4, 6, 40 components",
        "Weinreb et al., Science 2020; selection by CoSpar (Wang et al. 2022)",
        _clones,
    ),
    "sim-gene": _Dataset(
        ("biology/sim_gene_growth_2d.npz",),
        "simulated two-gene toggle with growth, 3 031 cells at 5 times",
        "DeepRUOT (Zhang et al., ICLR 2025)",
        _plain("biology/sim_gene_growth_2d.npz", "gene"),
    ),
    "dyngen": _Dataset(
        ("biology/dyngen_5d.npz",),
        "simulated bifurcation (dyngen), 728 cells at 5 times in 5-D",
        "VGFM 2025, simulated with dyngen (Cannoodt et al. 2021)",
        _plain("biology/dyngen_5d.npz", "latent"),
    ),
}


def _root() -> Path | None:
    folder = os.environ.get("GENDYN_DATA")
    return Path(folder) if folder else None


def load(name: str, *, dims: int | None = None) -> Snapshots | Paths:
    """Return a public data set.

    Parameters
    ----------
    name
        One of those :func:`available` lists.
    dims
        Keep the leading features only; ``"eb"`` has up to 100.

    Raises
    ------
    ValueError
        If there is no set of that name.
    FileNotFoundError
        If its file is absent; the message says what it is, who publishes it and where to put it.

    Examples
    --------
    >>> load("moon")
    Traceback (most recent call last):
    ValueError: there is no data set 'moon'; there are eb, emt, larry-2d, larry-50d, larry-clones, sim-gene, dyngen
    """
    if name not in _SETS:
        raise ValueError(f"there is no data set {name!r}; there are {', '.join(_SETS)}")
    entry = _SETS[name]
    root = _root()
    missing = [file for file in entry.files if root is None or not (root / file).is_file()]
    if missing:
        where = "set the environment variable GENDYN_DATA to a folder" if root is None else f"in the folder {root}"
        raise FileNotFoundError(
            f"the data set {name!r} ({entry.what}; {entry.source}) is not here: put its file at {missing[0]} "
            f"{'below it' if root is not None else 'below'} ({where})"
        )
    return entry.read(root or Path(), dims)


def available() -> pd.DataFrame:
    """Return a table of the data sets: name, what it is, who published it, and whether it is here.

    Examples
    --------
    >>> "eb" in set(available()["name"])
    True
    """
    root = _root()
    rows = [
        {
            "name": name,
            "what": entry.what,
            "source": entry.source,
            "present": root is not None and all((root / f).is_file() for f in entry.files),
        }
        for name, entry in _SETS.items()
    ]
    return pd.DataFrame(rows)
