"""What belongs to the data sets and is neither a population nor a path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Files, Publication
from gendyn.datasets.jump_paths import JUMP_PATHS
from gendyn.datasets.labelled_paths import LABELLED_PATHS

__all__ = ["TABLES", "Table"]


@dataclass(frozen=True)
class Table:
    """A table, and the files that it is read from."""

    files: Publication
    frame: Callable[[Files], pd.DataFrame]


def _first(files: Files) -> pd.DataFrame:
    return pd.read_csv(next(iter(files.values())))


def _prior(files: Files) -> pd.DataFrame:
    """Return one row per ordered pair of states of every process."""
    arrays = open_npz(next(iter(files.values())))
    parts = []
    for block in ("6st_irregular", "4st_regular"):
        rates, links, start = (arrays[f"{block}_{key}"] for key in ("Q", "A", "init"))
        count, size = rates.shape[:2]
        process, source, target = (axis.ravel() for axis in np.indices((count, size, size)))
        apart = source != target
        process, source, target = process[apart], source[apart], target[apart]
        columns = {
            "n_states": size,
            "process": process,
            "source": source,
            "target": target,
            "rate": rates[process, source, target],
            "linked": links[process, source, target] == 1,
            "initial_of_source": start[process, source],
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _patients(files: Files) -> pd.DataFrame:
    """Return one row per patient, in the order of the paths."""
    arrays = open_npz(next(iter(files.values())))
    frame = pd.DataFrame(arrays["static"], columns=arrays["static_names"].tolist())
    frame.insert(0, "record", arrays["record_id"])
    frame["died"] = arrays["died"] == 1
    return frame


TABLES: dict[str, Table] = {
    "chaos": Table(
        Publication(
            "solvers",
            ("dysts_systems.csv",),
            "parameters, exponents and moments of 135 chaotic systems",
            "Gilpin, NeurIPS 2021 (dysts)",
            "Apache-2.0",
        ),
        _first,
    ),
    "jump-prior": Table(
        Publication(
            "mjp",
            ("fim_prior_rates.npz",),
            "rate matrices drawn from the prior of a foundation model of jump processes",
            "Berghaus et al., NeurIPS 2024",
            "MIT",
        ),
        _prior,
    ),
    "physionet2012-patients": Table(LABELLED_PATHS["physionet2012"], _patients),
    "cav-visits": Table(JUMP_PATHS["cav"], _first),
}
