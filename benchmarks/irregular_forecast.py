"""Forecasts of irregular series: a stable neural SDE and GRU-ODE-Bayes beside regressions, filters and trivial rules.

    python benchmarks/irregular_forecast.py --json out.json
    python benchmarks/irregular_forecast.py --quick

``hopper``     The hopper of the published comparisons, read from ``$GENDYN_DATA/stable_sde``: 100 runs of 100 rows,
               windows of 50 rows to forecast 10 from, 40 of each run. Runs 0 to 69 are trained on, 70 to 84 stop
               training and set widths, 85 to 99 are counted. Rows of the first 50 are hidden as published. Squared
               errors are in the units of the file, over 10 rows of 14 features.
``double OU``  Two Ornstein-Uhlenbeck processes with levels of their own, seen 16 to 23 times in ten relaxation times,
               mostly one at a time. What was seen up to time 4 is given, and the first look after that is forecast.

``stable SDE``     means of members; ``80 % held`` is how much of the truth their 80 % intervals hold. It learns from
                   cuts of the training runs at every row from the tenth on, with rows hidden at random at the same
                   rate; of a run it knows what its windows show: a row that all of them hide stays unknown.
``kernel start``   what its network starts from: kernel ridge regression that learns what to look at.
``ridge on cuts``  on the last 5 rows of the lines between observations, and which were observed, alpha 0.1, learned
                   from the same cuts as the stable SDE.
``ridge``          the same, learned from the plain windows of the training runs.
``last value``     the last observation.
``mean``           of what was trained on.
``GRU-ODE-Bayes``  the published neighbour for sporadic series.
``Kalman``         the best linear predictor, which knows the true equations: the floor.

Published: LSDE .013 to .014, neural CDE .026 to .028, at every rate (Oh, Lim and Kim 2024; not run here).
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge
from table import begin, parser, row, show, store
from torch import Tensor

import gendyn as gd
from gendyn.data import drop_published_rows, keep_sporadic, windows
from gendyn.randomness import torch_generator
from gendyn.sde import read_series
from gendyn.sde.forecast_inputs import cut
from gendyn.sde.recent_values import last_values, recent_values

PAST, AHEAD, PER_RUN, FEATURES = 50, 10, 40, 14
TRAIN, HELD = 70 * PER_RUN, 85 * PER_RUN
FIRST = 10
"""Rows of a run before the first cut."""


def hopper(rate: float) -> Tensor:
    """Return windows ``(4000, 60, 14)`` with rows of the past hidden."""
    whole = windows(gd.datasets.load("hopper"), PAST + AHEAD).values
    whole = whole.reshape(100, -1, PAST + AHEAD, FEATURES)[:, :PER_RUN].flatten(0, 1).clone()
    if rate:
        whole[:, :PAST] = drop_published_rows(gd.Paths(range(PAST), whole[:, :PAST]), rate).values
    return whole


def shown_runs(x: Tensor) -> Tensor:
    """Return what windows show of their runs ``(R, 99, 14)``, NaN where all of them hide it."""
    parts = x.reshape(-1, PER_RUN, PAST + AHEAD, FEATURES)
    runs = x.new_full((len(parts), PER_RUN + PAST + AHEAD - 1, FEATURES), torch.nan)
    for k in range(PER_RUN):
        own = runs[:, k : k + PAST + AHEAD]
        own.copy_(torch.where(own.isnan(), parts[:, k], own))
    return runs


def cuts(runs: Tensor, rate: float, seed: int) -> gd.Paths:
    """Return pasts of at most 50 rows with rows hidden at random, each with the 10 rows after it, run by run."""
    generator = torch_generator(seed, "cuts")
    hidden = int(rate * PAST)
    found, lengths = [], []
    for end in range(FIRST, runs.shape[1] - AHEAD + 1):
        past = runs[:, max(0, end - PAST) : end]
        # Of a short past, what is hidden of a whole one and lies within.
        keys = torch.rand(len(runs), PAST, generator=generator).argsort(1).argsort(1)[:, -past.shape[1] :]
        past = past.masked_fill((keys < hidden)[:, :, None], torch.nan)
        both = torch.cat([past, runs[:, end : end + AHEAD]], dim=1)
        lengths.append(torch.full((len(runs),), both.shape[1]))
        found.append(torch.nn.functional.pad(both, (0, 0, 0, PAST + AHEAD - both.shape[1]), value=torch.nan))
    values, count = torch.stack(found, 1).flatten(0, 1), torch.stack(lengths, 1).flatten()
    seen = ~values.isnan()
    ahead = torch.arange(PAST + AHEAD) >= count[:, None] - AHEAD
    asked = (seen.all(2) | ~ahead | (torch.arange(PAST + AHEAD) >= count[:, None])).all(1)
    kept = asked & (seen.any(2) & ~ahead).any(1)
    return gd.Paths(range(PAST + AHEAD), values[kept].nan_to_num(0.0), seen[kept], count[kept])


def ridge_on_cuts(learned: gd.Paths, x: Tensor) -> np.ndarray[Any, Any]:
    """Return the forecasts of the windows that are counted, by a ridge regression that learns from cuts."""
    past, _, ahead = cut(read_series(learned), AHEAD)
    regression = Ridge(alpha=0.1).fit(recent_values(past, 1.0, 5).numpy(), ahead.flatten(1).numpy())
    said = regression.predict(recent_values(read_series(x[HELD:, :PAST]), 1.0, 5).numpy())
    return np.asarray(said.reshape(-1, AHEAD, FEATURES))


def plain(x: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Return the forecasts of the windows that are counted, by what learns little or nothing."""
    series = read_series(x[:, :PAST])
    told, y = recent_values(series, 1.0, 5).numpy(), x[:, PAST:].flatten(1).numpy()
    last = last_values(series).numpy()
    regression = Ridge(alpha=0.1).fit(told[:TRAIN], y[:TRAIN])
    shape = (len(x) - HELD, AHEAD, FEATURES)
    return {
        "ridge": regression.predict(told[HELD:]).reshape(shape),
        "last value": np.broadcast_to(last[HELD:, None], shape),
        "mean": np.broadcast_to(y[:TRAIN].mean(0).reshape(AHEAD, FEATURES), shape),
    }


def hoppers(rate: float, seeds: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of one rate of hidden rows."""
    x = hopper(rate)
    runs = shown_runs(x[:TRAIN])
    truth, which = x[HELD:, PAST:].numpy(), f"hopper, {100 * rate:.0f} % hidden"
    found: dict[tuple[str, str], list[float]] = {}
    seconds = []
    for seed in range(seeds):
        learned = cuts(runs, rate, seed)
        began = time.process_time()
        model = gd.StableSDEForecaster(AHEAD, start="kernel", batch_size=256, **options)
        model.fit(learned, validation=x[TRAIN:HELD], seed=seed, progress=False)
        seconds.append(time.process_time() - began)
        members = model.predict_samples(x[HELD:, :PAST], n=200)
        low, high = np.quantile(members, [0.1, 0.9], axis=0)
        values = {
            ("stable SDE", "MSE"): ((members.mean(0) - truth) ** 2).mean(),
            ("stable SDE", "80 % held"): ((low <= truth) & (truth <= high)).mean(),
            ("kernel start", "MSE"): ((model.predict_start(x[HELD:, :PAST]) - truth) ** 2).mean(),
            ("ridge on cuts", "MSE"): ((ridge_on_cuts(learned, x) - truth) ** 2).mean(),
        }
        for key, value in values.items():
            found.setdefault(key, []).append(float(value))
        told = ", ".join(f"{label}: {metric} {part[-1]:.5f}" for (label, metric), part in found.items())
        print(f"{which}: seed {seed}: {told}", flush=True)
    took = float(np.mean(seconds))
    rows = [
        row(
            f"{which}: {label}", metric, float(np.mean(part)), low=min(part), high=max(part),
            peer="peer" if label == "ridge on cuts" else None, seconds=took if label == "stable SDE" else None,
        )
        for (label, metric), part in found.items()
    ]  # fmt: skip
    for label, forecast in plain(x).items():
        peer = "peer" if label == "ridge" else "trivial"
        rows.append(row(f"{which}: {label}", "MSE", float(((forecast - truth) ** 2).mean()), peer=peer))
    return rows


def looks(n: int, seed: int) -> tuple[gd.Paths, gd.Paths]:
    """Return sporadic looks at double Ornstein-Uhlenbeck processes, and what is given of them: up to time 4."""
    system = gd.systems.DoubleOrnsteinUhlenbeck()
    times = torch.tensor(system.times, dtype=torch.float64)
    paths = gd.sample(system, system.initial(n, seed), times, solver="euler_maruyama", substeps=1, seed=seed)
    seen = keep_sporadic(gd.Paths(times, paths.values[:, :, :2]), 16, 23, together=0.2, seed=seed)
    given = gd.Paths(times, seen.values.nan_to_num(0.0), seen.mask & (times <= 4)[:, None])
    return seen, given


def looked_rows(paths: gd.Paths) -> gd.Paths:
    """Return paths without the times at which nobody looked."""
    looked = paths.mask.any(2)
    count = looked.sum(1)
    order = (~looked).to(torch.int8).argsort(dim=1, stable=True)[:, : int(count.max())]
    wide = order[:, :, None].expand(-1, -1, paths.dim)
    inside = torch.arange(order.shape[1]) < count[:, None]
    # After the end of a path stands its last time.
    times = torch.where(inside, paths.times[order], paths.times[order.gather(1, count[:, None] - 1)])
    return gd.Paths(times, paths.values.gather(1, wide), paths.mask.gather(1, wide) & inside[:, :, None], count)


def filtered(seen: gd.Paths, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance ``(n, 2)`` by the Kalman filter of the steps that made the paths, at rows ``(n,)``."""
    system = gd.systems.DoubleOrnsteinUhlenbeck()
    eye = torch.eye(4, dtype=torch.float64)
    step = eye + system.time_step * system.linear.rate
    added = system.time_step * system.linear.noise_covariance
    n = len(seen)
    mean = torch.tensor([0.0, 0.0, 1.0, -1.0], dtype=torch.float64).repeat(n, 1)
    spread = torch.diag(torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64) / 12).repeat(n, 1, 1)
    at_mean, at_variance = torch.zeros(n, 2, dtype=torch.float64), torch.zeros(n, 2, dtype=torch.float64)
    for k in range(int(first.max()) + 1):
        if k:
            mean, spread = mean @ step.T, step @ spread @ step.T + added
        now = first == k
        at_mean[now], at_variance[now] = mean[now, :2], spread[now].diagonal(dim1=1, dim2=2)[:, :2]
        for d in range(2):
            looked = seen.mask[:, k, d] & (first > k) & (spread[:, d, d] > 1e-12)
            gain = torch.where(looked[:, None], spread[:, :, d] / spread[:, d, d, None].clamp_min(1e-12), 0.0)
            mean = mean + gain * (seen.values[:, k, d].double().nan_to_num(0.0) - mean[:, d])[:, None]
            spread = spread - gain[:, :, None] * spread[:, None, d]
    return at_mean, at_variance


def double_ou(n: int, seeds: int, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of sporadic looks."""
    found: dict[tuple[str, str], list[float]] = {}
    seconds = []
    for seed in range(seeds):
        train, _ = looks(n, 10 + seed)
        test, given = looks(2000, 1000 + seed)
        later = test.mask.any(2) & (test.times > 4)
        some = later.any(1)
        test, given, first = test.select(some), given.select(some), later[some].to(torch.int8).argmax(1)
        rows = torch.arange(len(test))
        seen, truth = test.mask[rows, first], test.values[rows, first].double()
        began = time.process_time()
        model = gd.GRUODEBayes(**options).fit(looked_rows(train), seed=seed, progress=False)
        seconds.append(time.process_time() - began)
        told = looked_rows(given)
        mean, deviation = (torch.from_numpy(v)[:, 0] for v in model.predict_normal(told, test.times[first][:, None]))
        settled = train.values[:, -40:][train.mask[:, -40:].any(2)].nanmean(0)
        answers = {
            "GRU-ODE-Bayes": (mean, deviation.square()),
            "Kalman": filtered(test, first),
            "mean": (settled.expand_as(truth), None),
        }
        for label, (centre, variance) in answers.items():
            error = (truth - centre)[seen].square()
            found.setdefault((label, "MSE"), []).append(float(error.mean()))
            if variance is not None:
                nll = (error / variance[seen] + variance[seen].log() + math.log(2 * math.pi)) / 2
                found.setdefault((label, "NLL"), []).append(float(nll.mean()))
        told = ", ".join(f"{label}: {metric} {part[-1]:.4f}" for (label, metric), part in found.items())
        print(f"double OU: seed {seed}: {told}", flush=True)
    took, peers = float(np.mean(seconds)), {"Kalman": "floor", "mean": "trivial"}
    return [
        row(
            f"double OU: {label}", metric, float(np.mean(part)), low=min(part), high=max(part), peer=peers.get(label),
            seconds=took if label == "GRU-ODE-Bayes" else None,
        )
        for (label, metric), part in found.items()
    ]  # fmt: skip


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rates", nargs="+", type=float, help="shares of hidden rows (default: 0 .3 .5 .7)")
    options.add_argument("--seeds", type=int, help="starts of the networks (default: 3)")
    options.add_argument("--tasks", nargs="+", default=["hopper", "double-ou"], help="which (default: both)")
    given = options.parse_args()
    begin(given)
    rates = given.rates or ([0.7] if given.quick else [0.0, 0.3, 0.5, 0.7])
    seeds = given.seeds or (1 if given.quick else 3)
    rows: list[dict[str, Any]] = []
    if "hopper" in given.tasks:
        # Cuts of 70 runs are near-copies of each other: small steps, few of them, and much hidden.
        slow = {"lr": 1e-3, "dropout": 0.8, "hidden": 16, "epochs": 1 if given.quick else 4}
        for rate in rates:
            rows += hoppers(rate, seeds, slow)
            store(given.json, rows)
    if "double-ou" in given.tasks:
        long = {"step": 0.04, "lr": 1e-2, "batch_size": 64, "epochs": 3 if given.quick else 30}
        rows += double_ou(500 if given.quick else 2000, seeds, long)
    show("Forecasts of irregular series", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
