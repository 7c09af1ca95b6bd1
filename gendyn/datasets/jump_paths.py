"""Paths of discrete states: a simulated ratchet with its truth, and patients seen now and then."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gendyn.data import Paths
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["JUMP_PATHS"]

_STATES = ("on 0", "on 1", "on 2", "off 0", "off 1", "off 2")


def _ratchet(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    info = {"rates": arrays["Q"].tolist(), "initial": arrays["init"].tolist(), "potential": float(arrays["V"])}
    return Paths(arrays["times"], arrays["paths"], names=["state"], states=_STATES, info=info)


def _heart(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())))
    patients, row = np.unique(frame["PTNUM"].to_numpy(), return_inverse=True)
    lengths = np.bincount(row)
    place = frame.groupby("PTNUM", sort=True).cumcount().to_numpy()
    shape = len(patients), int(lengths.max())
    times, states = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    times[row, place], states[row, place] = frame["years"], frame["state"] - 1
    last = np.minimum(np.arange(shape[1]), lengths[:, None] - 1)
    times, states = np.take_along_axis(times, last, axis=1), np.take_along_axis(states, last, axis=1)
    names = ("none", "mild", "severe", "death")
    return Paths(times, states, lengths=lengths, labels=patients, names=["state"], states=names)


def _dfr(file: str, potential: int) -> Dataset:
    return Dataset(
        "mjp",
        (file,),
        f"simulated: discrete flashing ratchet with potential {potential}, 10000 paths of 100 rows; info has its "
        "rates and initial law",
        "Berghaus et al., NeurIPS 2024 (foundation inference models for Markov jump processes)",
        "MIT; model card CC BY 4.0",
        _ratchet,
        "time units of the system",
        "numbers of states",
    )


JUMP_PATHS: dict[str, Dataset] = {
    "ratchet-v0": _dfr("dfr_V0_regular.npz", 0),
    "ratchet-v1": _dfr("dfr_V1_regular.npz", 1),
    "ratchet-v3": _dfr("dfr_V3_regular.npz", 3),
    "cav": Dataset(
        "mjp",
        ("cav.csv",),
        "vasculopathy after heart transplants: 622 patients seen at irregular times, labelled by their number; "
        "the time of death is exact, all others are visits",
        "Sharples et al., Transplantation 76 (2003), as in the R package msm",
        "GPL-2.0-or-later (the package)",
        _heart,
        "years since the transplant",
        "numbers of states",
    ),
}
