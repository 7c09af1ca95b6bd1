"""Aligned pairs: where points go by fractional bridges, by their Brownian version, and as published.

    GENDYN_DATA=... python benchmarks/fractional_paired.py [--part moons|t-shape|cells] [--seeds 5]

Fits see the training pairs, scores the test pairs. Peers are the best published figures of fractional diffusion bridges
(NeurIPS 2025; means of ten trainings) and, in rows with H = 0.5, of their Brownian version. Low and high are the least
and the largest of the seeds. Baselines: a linear regression of the ends on the starts, and points that stay.

- moons, T-shape: W1 in one dimension, mean over both, of ten draws a start. The floor between as many other ends and
  those of the test is far above all figures, because the same starts are on both sides.
- cells: the metrics of the literature, as far as its texts tell: W is the root of the transported squared distance at
  an entropy of .05 mean squared distances; RMSD is over that of points that stay; MMD is the mean over six kernels.
  They want different things: one draw for each cell has the law of cells, while RMSD is least for the mean of all.
  Shown are one draw and means of 4 and 16. The published RMSD and MMD are like those of the mean of 4; the published W
  is below that between ends of training and of test cells.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import ot
import torch
from numpy.typing import NDArray
from table import begin, parser, row, show, store

import gendyn as gd

Rows = list[dict[str, Any]]
Array = NDArray[np.float64]

GRID = tuple(float(v) for v in np.geomspace(0.1, 20, 5))
REPEATS, DRAWS = 10, (1, 4, 16)

# Hurst index, deviation of the noise, and the published W1.
PLANE = {
    "moons": ("moons-pairs", ((0.2, 0.8, 0.048), (0.5, 0.8, 0.015), (0.6, 0.8, 0.012), (0.7, 0.8, 0.012))),
    "t-shape": ("t-shape-pairs", ((0.2, 0.1, 0.048), (0.3, 0.1, 0.062), (0.5, 0.2, 0.082), (0.7, 0.2, None))),
}
CELLS = (
    (0.3, {"W": 9.32, "RMSD": 0.811, "MMD": 0.0534, "means": 0.89}),
    (0.4, {"W": 9.35, "RMSD": 0.821, "MMD": 0.0452, "means": 0.85}),
    (0.5, {"W": 9.50, "RMSD": 0.872, "MMD": 0.041, "means": 0.89}),
)


def line_distance(made: Array, real: Array) -> float:
    """Return the mean over features of W1 between equally many values."""
    return float(np.abs(np.sort(made, axis=0) - np.sort(real, axis=0)).mean())


def regressed(training: Array, starts: Array) -> Array:
    """Return ends by linear regression."""
    design, asked = (np.c_[x, np.ones(len(x))] for x in (training[:, 0], starts))
    found: Array = asked @ np.linalg.lstsq(design, training[:, 1], rcond=None)[0]
    return found


def spread(name: str, metric: str, values: list[float], peer: float | None, seconds: float | None = None) -> Any:
    """Return the row of a mean over seeds."""
    bounds = {"low": min(values), "high": max(values)} if len(values) > 1 else {}
    return row(name, metric, float(np.mean(values)), peer=peer, seconds=seconds, **bounds)


def plane(part: str, quick: bool, seeds: int) -> Rows:
    """Return the rows of a set in the plane."""
    name, settings = PLANE[part]
    training, test = (gd.datasets.load(name, split=split) for split in ("train", "test"))
    starts, ends = (x.double().numpy() for x in test.values.unbind(1))
    others = training.values.double().numpy()
    metric = "W1"
    rows = [
        row(f"{part}, points that stay", metric, line_distance(starts, ends)),
        row(f"{part}, linear regression", metric, line_distance(regressed(others, starts), ends)),
        row(f"{part}, floor: other ends", metric, line_distance(others[: len(ends), 1], ends)),
    ]
    for hurst, sigma, peer in settings:
        found, spent = [], 0.0
        for seed in range(seeds):
            began = time.perf_counter()
            model = gd.FractionalBridge(hurst, sigma=sigma, rates=None if hurst == 0.5 else GRID)
            model.set_params(steps=300 if quick else 4000).fit(training, seed=seed, progress=False)
            spent += time.perf_counter() - began
            drawn = model.sample(test.values[:, 0].repeat(REPEATS, 1), seed=seed).values[:, -1].double().numpy()
            found.append(line_distance(drawn, np.tile(ends, (REPEATS, 1))))
        rows.append(spread(f"{part}, H = {hurst}, sigma = {sigma}", metric, found, peer, spent / seeds))
    return rows


def cell_metrics(made: Array, ends: Array, starts: Array) -> dict[str, float]:
    """Return the metrics of the literature."""
    cost = ot.dist(made, ends)
    uniform = [np.full(len(x), 1 / len(x)) for x in (made, ends)]
    plan = ot.sinkhorn(*uniform, cost, 0.05 * cost.mean(), method="sinkhorn_log", numItermax=2000, stopThr=1e-6)
    stay = np.sqrt(((starts - ends) ** 2).mean())
    kernels = [
        np.mean([np.exp(-g * ot.dist(a, b)).mean() for g in (2, 1, 0.5, 0.1, 0.01, 0.005)])
        for a, b in ((made, made), (ends, ends), (made, ends))
    ]
    return {
        "W": float(np.sqrt((plan * cost).sum())),
        "RMSD": float(np.sqrt(((made - ends) ** 2).mean()) / stay),
        "MMD": float(kernels[0] + kernels[1] - 2 * kernels[2]),
        "means": float(np.linalg.norm(made.mean(0) - ends.mean(0))),
    }


def cells(part: str, quick: bool, seeds: int) -> Rows:
    """Return the rows of the cells."""
    training, test = (gd.datasets.load("cell-pairs", split=split) for split in ("train", "test"))
    starts, ends = (x.double().numpy() for x in test.values.unbind(1))
    others = training.values.double().numpy()
    rows = []
    for name, made in (
        ("points that stay", starts),
        ("linear regression", regressed(others, starts)),
        ("floor: ends of other cells", others[: len(ends), 1]),
    ):
        rows += [row(f"{part}, {name}", m, v) for m, v in cell_metrics(made, ends, starts).items()]
    for hurst, published in CELLS[:1] if quick else CELLS:
        found: dict[int, list[dict[str, float]]] = {n: [] for n in DRAWS}
        spent = 0.0
        for seed in range(seeds):
            began = time.perf_counter()
            model = gd.FractionalBridge(
                hurst,
                sigma=4.0,
                rates=None if hurst == 0.5 else GRID,
                hidden=(256, 256, 256),
                steps=200 if quick else 2500,
                batch_size=128,
                weight_decay=1e-3,
            ).fit(training, seed=seed, progress=False)
            spent += time.perf_counter() - began
            drawn = torch.stack([model.sample(test.values[:, 0], seed=k).values[:, -1] for k in range(DRAWS[-1])])
            for n, values in found.items():
                values.append(cell_metrics(drawn[:n].double().mean(0).numpy(), ends, starts))
        for n, values in found.items():
            for metric, peer in published.items():
                name = f"{part}, H = {hurst}, {'one draw' if n == 1 else f'mean of {n}'}"
                rows.append(spread(name, metric, [v[metric] for v in values], peer, spent / seeds))
    return rows


PARTS = {"moons": plane, "t-shape": plane, "cells": cells}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--part", choices=PARTS, action="append", help="this set only; may be given more than once")
    options.add_argument("--seeds", type=int, default=3, help="trainings of every model")
    options.set_defaults(threads=1)
    given = options.parse_args()
    begin(given)
    rows: Rows = []
    for name in given.part or PARTS:
        try:
            rows += PARTS[name](name, given.quick, 1 if given.quick else given.seeds)
        except FileNotFoundError as error:
            rows.append(row(f"{name} (no data: {error})", "W1", None))
    show("Aligned pairs", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
