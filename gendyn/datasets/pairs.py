"""Aligned pairs: where each point was and where it went, as paths of two times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gendyn.data import Paths
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["PAIRS"]

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_SOURCE = "Somnath et al., UAI 2023 (aligned diffusion bridges)"


def _pairs(times: Sequence[float], names: Sequence[str]) -> Callable[[Files, str], Paths]:
    def read(files: Files, split: str) -> Paths:
        arrays = open_npz(next(iter(files.values())))
        chosen = [stored for part, stored in _SPLITS.items() if split in ("all", part)]
        ends = [np.concatenate([arrays[f"{part}_{end}"] for part in chosen]) for end in ("initial", "final")]
        return Paths(times, np.stack(ends, axis=1), names=names)

    return read


def _set(file: str, description: str, source: str, read: Callable[[Files, str], Paths], time: str) -> Dataset:
    return Dataset("fractional", (file,), description, source, "MIT", read, time, splits=tuple(_SPLITS))


_PLANE = _pairs((0.0, 1.0), ("x", "y"))

PAIRS: dict[str, Dataset] = {
    "moons-pairs": _set(
        "paired_moons.npz", "10000 aligned pairs: two moons, and the same rotated", _SOURCE, _PLANE, "one step"
    ),
    "t-shape-pairs": _set(
        "paired_tshape.npz", "10000 aligned pairs: two blobs moved across each other", _SOURCE, _PLANE, "one step"
    ),
    "cell-pairs": _set(
        "paired_cells_pca50.npz",
        "4702 aligned pairs of blood-forming cells at days 2 and 4, 50 principal components; paired by cell barcode "
        "as published, which is no lineage: the clones of the two do not agree, so the pairs only serve to reproduce "
        "figures",
        f"Weinreb et al., Science 2020, as paired by {_SOURCE}",
        _pairs((2.0, 4.0), [f"PC{k + 1}" for k in range(50)]),
        "days",
    ),
}
