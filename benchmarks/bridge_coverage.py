"""Whether intervals for learned parameters cover the truth as often as they say.

    python benchmarks/bridge_coverage.py --json out.json
    python benchmarks/bridge_coverage.py --intervals bootstrap --sets 10

Predators and prey are simulated anew for every set: 200 independent cells at each of ten times, noise in proportion to
the levels, as in the set ``lv200``. Each is refined by default, with intervals at level 0.9. ``coverage`` is the share
of sets whose interval holds the truth; ``low`` and ``high`` are the 90 % interval of Clopper and Pearson for it, which
is wide with few sets. ``ratio to the truth`` is the mean estimate over the truth, with the least and largest. The noise
of the likelihood would be too large, because few sources reach a point; it is matched afterwards.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from scipy.stats import beta
from table import begin, parser, row, show, store

import gendyn as gd

TRUTH = {"growth": 1.0, "predation": 0.4, "death": 0.4, "reproduction": 0.1, "sigma": 0.02}
TIMES = [float(k) for k in range(10)]
LEVEL = 0.9


def shares(hits: int, trials: int) -> tuple[float, float, float]:
    """Return a share and its 90 % interval."""
    low = beta.ppf(0.05, hits, trials - hits + 1) if hits else 0.0
    high = beta.ppf(0.95, hits + 1, trials - hits) if hits < trials else 1.0
    return hits / trials, float(low), float(high)


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--sets", type=int, default=40)
    options.add_argument("--n", type=int, default=200, help="cells a time")
    options.add_argument("--intervals", default="laplace", choices=["laplace", "bootstrap"])
    arguments = options.parse_args()
    if arguments.quick:
        arguments.sets, arguments.n = min(arguments.sets, 3), 60
    begin(arguments)
    system = gd.systems.LotkaVolterra()
    holds: dict[str, list[bool]] = {name: [] for name in TRUTH}
    ratios: dict[str, list[float]] = {name: [] for name in TRUTH}
    began = time.perf_counter()
    for seed in range(arguments.sets):
        data = gd.systems.simulate_snapshots(system, TIMES, arguments.n, seed=seed)
        model = gd.ReferenceRefinement("lotka-volterra", intervals=arguments.intervals, level=LEVEL)
        table = model.fit(data, seed=seed, progress=False).parameters_.set_index("parameter")
        for name, truth in TRUTH.items():
            value, low, high = (float(table.loc[name, part]) for part in ("value", "low", "high"))
            holds[name].append(low <= truth <= high)
            ratios[name].append(value / truth)
        print(f"set {seed}: " + ", ".join(f"{name} {v[-1]}" for name, v in holds.items()), file=sys.stderr, flush=True)
    seconds = (time.perf_counter() - began) / arguments.sets
    rows = []
    drift = [name for name in TRUTH if name != "sigma"]
    for title, names in [*((name, [name]) for name in TRUTH), ("the four rates", drift)]:
        share, low, high = shares(sum(sum(holds[name]) for name in names), arguments.sets * len(names))
        # Rates of one set stand or fall together: the interval is that of independent sets for one rate alone.
        ends = {"low": low, "high": high} if len(names) == 1 else {}
        rows.append(row(title, "coverage", share, seconds=seconds, **ends))
    rows.append(row("what is asked for", "coverage", LEVEL, peer="target"))
    for name, found in ratios.items():
        rows.append(row(name, "ratio to the truth", float(np.mean(found)), low=min(found), high=max(found)))
    show(f"{arguments.sets} sets of {arguments.n} cells at {len(TIMES)} times, {arguments.intervals} intervals", rows)
    store(arguments.json, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
