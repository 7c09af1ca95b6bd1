"""Real recordings that come with matplotlib: there without a folder and without a download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pandas as pd

from gendyn.data import Paths
from gendyn.datasets.dataset import Dataset, Files

__all__ = ["RECORDINGS"]


@dataclass(frozen=True)
class _Recording(Dataset):
    """A set among the sample data of matplotlib."""

    def locate(self, file: str) -> Path | None:
        """Return where matplotlib has a file, or ``None``."""
        path = Path(str(matplotlib.cbook.get_sample_data(file, asfileobj=False)))
        return path if path.is_file() else None

    def _absent(self, name: str, missing: list[str]) -> str:
        return (
            f"the data set {name!r} ({self.phrase}) is not here: this matplotlib was installed without its sample "
            f"data, {' and '.join(missing)}; install matplotlib from its publisher, with pip"
        )


def _membrane(files: Files, split: str) -> Paths:
    values = np.fromfile(next(iter(files.values())), dtype="<f4")
    return Paths(np.arange(len(values)), values[None, :, None], names=["potential"])


def _eeg(files: Files, split: str) -> Paths:
    values = np.fromfile(next(iter(files.values())), dtype="<f8").reshape(800, 4)
    return Paths(10 * np.arange(800) / 800, values[None], names=["PG3", "PG5", "PG7", "PG9"])


def _google(files: Files, split: str) -> Paths:
    with np.load(next(iter(files.values())), allow_pickle=False) as file:
        rows = file["price_data"]
    names = ["open", "high", "low", "close", "volume", "adj_close"]
    values = np.stack([rows[name].astype(np.float64) for name in names], axis=1)
    info = {"first": str(rows["date"][0]), "last": str(rows["date"][-1])}
    return Paths(np.arange(len(rows)), values[None], names=names, info=info)


def _stocks(files: Files, split: str) -> Paths:
    frame = pd.read_csv(next(iter(files.values())), comment="#", parse_dates=["Date"])
    # Rows within a month hold dividends, or the month that had not ended.
    frame = frame[frame["Date"].dt.day == 1]
    names = [name for name in frame.columns if name != "Date"]
    values = frame[names].to_numpy(dtype=np.float64)
    info = {"first": str(frame["Date"].iloc[0].date()), "last": str(frame["Date"].iloc[-1].date())}
    seen = ~np.isnan(values)
    return Paths(np.arange(len(frame)), values[None], seen[None], names=names, info=info)


def _recording(
    file: str, description: str, source: str, read: Callable[[Files, str], Paths], time: str, units: str
) -> Dataset:
    return _Recording("matplotlib", (file,), description, source, "matplotlib (PSF-like)", read, time, units)


RECORDINGS: dict[str, Dataset] = {
    "membrane": _recording(
        "membrane.dat", "membrane potential of a cell, 12000 samples; the sampling interval is not stated",
        "matplotlib's sample data", _membrane, "samples", "not stated",
    ),
    "eeg-mri": _recording(
        "eeg.dat", "electroencephalogram, 4 electrodes, 800 samples over 10 seconds",
        "matplotlib's sample data", _eeg, "seconds", "not stated",
    ),
    "google": _recording(
        "goog.npz", "daily prices of Google, 1047 trading days from August 2004 to October 2008",
        "Yahoo Finance, in matplotlib's sample data", _google, "trading days", "dollars; volume in shares",
    ),
    "stocks": _recording(
        "Stocks.csv", "monthly prices of 8 companies and 2 indices, 390 months from 1990 to 2022; some begin later",
        "Yahoo Finance, in matplotlib's sample data", _stocks, "months", "dollars",
    ),
}  # fmt: skip
