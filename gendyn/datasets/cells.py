"""Populations of cells: each measurement destroyed what it measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn.data import Snapshots
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["CELLS"]

_FOLDER = "biology"


def _cut(values: NDArray[Any], times: NDArray[Any], stem: str, obs: pd.DataFrame | None = None) -> Snapshots:
    """Cut rows by their time, with features named by a stem and a number."""
    names = [f"{stem}{i + 1}" for i in range(values.shape[1])]
    found = np.unique(times)
    labels = None if obs is None else [obs[times == t].reset_index(drop=True) for t in found]
    return Snapshots(found, [values[times == t] for t in found], None, labels, names)


def _embryoid_body(files: Files, split: str) -> Snapshots:
    parts = [open_npz(path) for path in files.values()]
    # The second file is stored in half precision.
    return _cut(np.concatenate([part["X"].astype(np.float32) for part in parts], axis=1), parts[0]["t"], "PC")


def _rows(stem: str) -> Callable[[Files, str], Snapshots]:
    def read(files: Files, split: str) -> Snapshots:
        arrays = open_npz(next(iter(files.values())))
        return _cut(arrays["X"], arrays["t"], stem)

    return read


def _larry(files: Files, split: str) -> Snapshots:
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


def _clones(files: Files, split: str) -> Snapshots:
    arrays = open_npz(next(iter(files.values())))
    clone = np.full(len(arrays["X_pca"]), -1, dtype=np.int64)
    clone[arrays["clone_row"]] = arrays["clone_col"]
    states = arrays["state_names"].astype(object)
    obs = pd.DataFrame({"state": pd.Categorical(states[arrays["state"]], categories=states), "clone": clone})
    for axis in (0, 1):
        obs[f"umap{axis + 1}"] = arrays["X_umap"][:, axis]
        obs[f"emb{axis + 1}"] = arrays["X_emb"][:, axis]
    return _cut(arrays["X_pca"], arrays["day"], "PC", obs)


def _reprogramming(files: Files, split: str) -> Snapshots:
    wanted = ["data", "indices", "indptr", "shape", "day", "batch"]
    arrays = open_npz(next(iter(files.values())), wanted)
    cells, genes = (int(size) for size in arrays["shape"])
    values = np.zeros((cells, genes), dtype=np.float32)
    values[np.repeat(np.arange(cells), np.diff(arrays["indptr"])), arrays["indices"]] = arrays["data"]
    return _cut(values, arrays["day"], "gene", pd.DataFrame({"batch": arrays["batch"].astype(np.int64)}))


CELLS: dict[str, Dataset] = {
    "eb": Dataset(
        _FOLDER,
        ("eb_pca_001_050.npz", "eb_pca_051_100.npz"),
        "embryoid body: 16819 differentiating human stem cells at 5 times, 50 or up to 100 principal components; "
        "published times 0 to 4 are days 0-3, 6-9, 12-15, 18-21, 24-27, and real ones the middle of each",
        "Moon et al., Nature Biotechnology 2019",
        "not stated; the cells were published with the paper",
        _embryoid_body,
        "number of the time point",
        kind="snapshots",
        real=(1.5, 7.5, 13.5, 19.5, 25.5),
        few=50,
        width=100,
    ),
    "emt": Dataset(
        _FOLDER,
        ("emt_a549_10d.npz",),
        "epithelial-mesenchymal transition of 3133 A549 cells under TGF-beta1 at 4 times, 10 latent features; "
        "published times 0 to 3 are 0, 8, 24 and 72 hours, which are the real ones",
        "Cook and Vanderhyden, Nature Communications 2020, as prepared for TIGON",
        "none stated",
        _rows("latent"),
        "number of the time point",
        kind="snapshots",
        real=(0.0, 8.0, 24.0, 72.0),
    ),
    "larry-2d": Dataset(
        _FOLDER,
        ("larry_2d_hematopoiesis.npz",),
        "mouse hematopoiesis: 10998 cells at 3 times in a plane; published times 0 to 2 are days 2, 4 and 6, which "
        "are the real ones",
        "Weinreb et al., Science 2020, as prepared for DeepRUOT",
        "none stated",
        _rows("axis"),
        "number of the time point",
        kind="snapshots",
        real=(2.0, 4.0, 6.0),
    ),
    "larry-50d": Dataset(
        _FOLDER,
        ("larry_d2_d4_50pc.npz",),
        "mouse hematopoiesis with lineage barcodes: 4702 cells each at days 2 and 4, 50 components; rows are not "
        "paired, cells of one clone (-1: none known) are siblings",
        "Weinreb et al., Science 2020, as prepared for SBALIGN",
        "MIT",
        _larry,
        "days",
        kind="snapshots",
    ),
    "larry-clones": Dataset(
        _FOLDER,
        ("larry_cospar_781.npz",),
        "mouse hematopoiesis: 781 cells with clones at days 2, 4 and 6, 40 principal components",
        "Weinreb et al., Science 2020, as selected for CoSpar",
        "MIT",
        _clones,
        "days",
        kind="snapshots",
    ),
    "sim-gene": Dataset(
        _FOLDER,
        ("sim_gene_growth_2d.npz",),
        "simulated: two genes that repress each other, with growth, 3031 cells at 5 times; numbers of cells are mass",
        "as prepared for DeepRUOT (Zhang et al., ICLR 2025)",
        "none stated",
        _rows("gene"),
        "number of the time point",
        kind="snapshots",
    ),
    "dyngen": Dataset(
        _FOLDER,
        ("dyngen_5d.npz",),
        "simulated: a bifurcation made with dyngen, 728 cells at 5 times, 5 features; numbers of cells are mass",
        "as prepared for VGFM; dyngen by Cannoodt et al., Nature Communications 2021",
        "none stated",
        _rows("latent"),
        "number of the time point",
        kind="snapshots",
    ),
    "wot": Dataset(
        _FOLDER,
        ("wot_serum_250cells.npz",),
        "reprogramming in serum: 250 cells at days 10, 10.5 and 11, 1479 log-normalised genes, with batch",
        "Schiebinger et al., Cell 2019, as selected for moscot",
        "BSD-3-Clause",
        _reprogramming,
        "days",
        "log of normalised counts",
        kind="snapshots",
    ),
}
