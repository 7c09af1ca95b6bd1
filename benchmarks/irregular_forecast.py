"""Forecasts of irregular series: a stable neural SDE beside ridge regression, the last value and the mean.

    python benchmarks/irregular_forecast.py --json out.json
    python benchmarks/irregular_forecast.py --quick

The hopper of the published comparisons, read from ``$GENDYN_DATA/stable_sde``: 100 runs of 100 rows, windows of 50
rows to forecast 10 from, 40 of each run. Runs 0 to 69 are trained on, 70 to 84 stop training and set widths, 85 to 99
are counted. Rows of the first 50 are hidden as published. Squared errors are in the units of the file, over 10 rows of
14 features.

``stable SDE``     means of members; ``80 % held`` is how much of the truth their 80 % intervals hold.
``ridge``          on the last 5 rows of the lines between observations, and which were observed; alpha 0.1.
``last value``     the last observation.
``mean``           of what was trained on.

Published: LSDE .013 to .014, neural CDE .026 to .028, at every rate (Oh, Lim and Kim 2024; not run here).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.data import drop_published_rows, windows
from gendyn.sde import read_series
from gendyn.sde.recent_values import last_values, recent_values

PAST, AHEAD, PER_RUN = 50, 10, 40
TRAIN, HELD = 70 * PER_RUN, 85 * PER_RUN


def hopper(rate: float) -> torch.Tensor:
    """Return windows ``(4000, 60, 14)`` with rows of the past hidden."""
    whole = windows(gd.datasets.load("hopper"), PAST + AHEAD).values
    whole = whole.reshape(100, -1, PAST + AHEAD, 14)[:, :PER_RUN].flatten(0, 1).clone()
    if rate:
        whole[:, :PAST] = drop_published_rows(gd.Paths(range(PAST), whole[:, :PAST]), rate).values
    return whole


def plain(x: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Return the forecasts of the windows that are counted, by what learns little or nothing."""
    series = read_series(x[:, :PAST])
    told, y = recent_values(series, 1.0, 5).numpy(), x[:, PAST:].flatten(1).numpy()
    last = last_values(series).numpy()
    regression = Ridge(alpha=0.1).fit(told[:TRAIN], y[:TRAIN])
    shape = (len(x) - HELD, AHEAD, 14)
    return {
        "ridge": regression.predict(told[HELD:]).reshape(shape),
        "last value": np.broadcast_to(last[HELD:, None], shape),
        "mean": np.broadcast_to(y[:TRAIN].mean(0).reshape(AHEAD, 14), shape),
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rates", nargs="+", type=float, help="shares of hidden rows (default: 0 .3 .5 .7)")
    options.add_argument("--seeds", type=int, help="starts of the networks (default: 3)")
    options.add_argument("--epochs", type=int, help="at most (default: 20)")
    given = options.parse_args()
    begin(given)
    rates = given.rates or ([0.0, 0.7] if given.quick else [0.0, 0.3, 0.5, 0.7])
    seeds = given.seeds or (1 if given.quick else 3)
    rows: list[dict[str, Any]] = []
    for rate in rates:
        x = hopper(rate)
        truth, which = x[HELD:, PAST:].numpy(), f"hopper, {100 * rate:.0f} % hidden"
        errors, held, seconds = [], [], []
        for seed in range(seeds):
            began = time.perf_counter()
            model = gd.StableSDEForecaster(AHEAD, epochs=given.epochs or (4 if given.quick else 20), batch_size=256)
            model.fit(x[:TRAIN], validation=x[TRAIN:HELD], seed=seed, progress=False)
            seconds.append(time.perf_counter() - began)
            members = model.predict_samples(x[HELD:, :PAST], n=100)
            low, high = np.quantile(members, [0.1, 0.9], axis=0)
            errors.append(float(((members.mean(0) - truth) ** 2).mean()))
            held.append(float(((low <= truth) & (truth <= high)).mean()))
            print(f"{which}: seed {seed}: MSE {errors[-1]:.5f}, 80 % intervals hold {held[-1]:.3f}", flush=True)
        took = float(np.mean(seconds))
        for metric, found in (("MSE", errors), ("80 % held", held)):
            rows.append(
                row(
                    f"{which}: stable SDE", metric, float(np.mean(found)), low=min(found), high=max(found), seconds=took
                )
            )
        for label, forecast in plain(x).items():
            peer = "peer" if label == "ridge" else "trivial"
            rows.append(row(f"{which}: {label}", "MSE", float(((forecast - truth) ** 2).mean()), peer=peer))
    show("Forecasts of irregular series", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
