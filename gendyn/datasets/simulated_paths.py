"""Simulated paths as published, beside the systems of :mod:`gendyn.systems` that draw more of them."""

from __future__ import annotations

import numpy as np

from gendyn.data import Paths
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["SIMULATED_PATHS"]


def _opinions(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    parts = [name for name in ("train", "test") if split in ("all", name)]
    values = np.concatenate([arrays[name] for name in parts])
    labels = np.repeat(parts, [len(arrays[name]) for name in parts])
    return Paths(arrays["t"], values, labels=labels, names=["opinion"])


def _bodies(files: Files, split: str) -> Paths:
    values = open_npz(next(iter(files.values())))["Nbody"].transpose(1, 0, 2)
    return Paths(np.arange(values.shape[1]), values, names=["x", "y", "z"])


SIMULATED_PATHS: dict[str, Dataset] = {
    "opinion": Dataset(
        "timeseries_eval",
        ("opinion_dynamics.npz",),
        "simulated: opinions that attract each other, 2048 of 8192 in each of two populations, 101 rows; labelled by "
        "their population",
        "Min, Hu and Ichiba 2023 (directed chain SDEs)",
        "MIT",
        _opinions,
        "time units of the system",
        splits=("train", "test"),
    ),
    "n-body": Dataset(
        "bridges",
        ("smoothsb_small.npz",),
        "simulated: 8 bodies that attract each other, 51 rows in space; who is who is the truth that tracking "
        "is judged by",
        "Hong et al. 2025 (Smooth SB)",
        "none stated: research use",
        _bodies,
        "number of the time point",
    ),
}
