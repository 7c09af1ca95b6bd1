"""Hurst indices: bias, spread and coverage of every estimator, and series of the literature.

    GENDYN_DATA=... python benchmarks/hurst.py

Fractional noise of 1024 values, 40 series for each H. The floor of the spread is that of the exact likelihood. Rows of
real series name the published value as peer.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from table import begin, parser, row, show, store

from gendyn.evaluation import HURST_ESTIMATORS, hurst_index
from gendyn.sampling import sample_fractional_noise

LITERATURE = (
    ("nile_minima", "level", "noise", {"whittle": 0.8388, "likelihood": 0.8315}),
    ("nbs_1kg", "dev_ug", "noise", {"whittle": 0.5890, "likelihood": 0.5805}),
    ("nhemi_temp", "anomaly_C", "noise", {"whittle": 0.8347, "likelihood": 0.8272}),
    ("ethernet_traffic", "bytes", "noise", {"whittle": 0.6913}),
    ("spx_rv_2000_2018", "rv", "path", {"whittle": 0.1368, "likelihood": 0.1368}),
)


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(threads=1)
    given = options.parse_args()
    begin(given)
    count = 4 if given.quick else 40
    rows = []
    for hurst in (0.1, 0.3, 0.5, 0.7, 0.9):
        noise = sample_fractional_noise(hurst, count, 1024, seed=0)[:, :, 0].numpy()
        for method in HURST_ESTIMATORS:
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = [hurst_index(np.cumsum(x), "path", method=method) for x in noise]
            values = np.array([f.value for f in found])
            spent = (time.perf_counter() - start) / count
            name = f"H = {hurst}, {method}"
            rows.append(row(name, "bias", float(values.mean() - hurst), seconds=spent))
            rows.append(row(name, "spread", float(values.std(ddof=1))))
            rows.append(row(name, "coverage of 90 %", float(np.mean([f.covers(hurst) for f in found]))))
    folder = Path(os.environ.get("GENDYN_DATA", "")) / "fractional"
    for file, column, kind, published in LITERATURE:
        if not (folder / f"{file}.csv").is_file():
            rows.append(row(f"{file} (not there: set GENDYN_DATA)", "H", None))
            continue
        series = pd.read_csv(folder / f"{file}.csv")[column].to_numpy()
        values = np.log(series) if kind == "path" else series
        for method, value in published.items():
            start = time.perf_counter()
            estimate = hurst_index(values, kind, method=method)
            spent = time.perf_counter() - start
            bounds = {"low": estimate.low, "high": estimate.high}
            rows.append(row(f"{file}, {method}", "H", estimate.value, peer=value, seconds=spent, **bounds))
    show("Hurst indices", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
