"""Populations nobody measured: hold one time out, learn from the others, predict it.

    python benchmarks/leave_one_out.py --data eb --dims 5 --json out.json
    python benchmarks/leave_one_out.py --data eb --dims 50 --scale global
    python benchmarks/leave_one_out.py --data emt

Each inner time is held out in turn. Next to every learned row stand the rows that need no learning (the neighbouring
populations, their union, the mean shift, displacement along the optimal plan) and the floor: the distance between two
random halves of the held-out cells. Two protocols:

``published``  scaling from all cells, held-out ones too; ordinal times; all cells of the previous time pushed to the
               hole; exact W1 to all its cells. This is how tables in the literature are made (Tong et al. 2024).
``clean``      scaling from the training times only; predictions from the previous and from the first time; skill
               (B - M) / (B - F) between the optimal-transport row B and the floor F at equal sizes, with a paired
               bootstrap. Skill 0 is transport without learning, 1 is perfect, below 0 is worse than not learning.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import pandas as pd
from table import begin, parser, row, show, store

import gendyn as gd

WHITENED = {"eb"}
"""Sets whose published tables whiten every dimension (in five dimensions); the others are in raw units."""

PUBLISHED = {
    ("eb", 5): {"OT-CFM, published (Tong et al. 2024)": 0.790, "metric flow matching, published": 0.713},
    ("emt", 10): {"WFR-FM, published": 0.298, "VGFM, published": 0.301, "DeepRUOT, published": 0.323},
    ("eb", 50): {"DeepRUOT, published": 10.075, "WFR-FM, published": 10.157},
}
"""Mean W1 over the holes, quoted from the literature for the reader's orientation; not run here."""


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", default="eb", choices=["eb", "emt", "dyngen", "sim-gene"])
    options.add_argument("--dims", type=int, default=None, help="leading features kept (eb: 5 by default)")
    options.add_argument("--scale", choices=["whiten", "global", "none"], default=None)
    options.add_argument("--methods", default=None, help="comma-separated couplings: independent,ot,sinkhorn,spline-ot")
    options.add_argument("--protocol", choices=["both", "published", "clean"], default="both")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    begin(arguments)
    try:
        snapshots, scale = load(arguments)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2

    steps = 500 if arguments.quick else 3000
    names = (arguments.methods or "ot,spline-ot").split(",")
    methods = {f"FlowMatching({name})": estimator(name, steps) for name in names}
    protocols = ["published", "clean"] if arguments.protocol == "both" else [arguments.protocol]
    rows = []
    for protocol in protocols:
        began = time.perf_counter()
        report = gd.leave_one_out(
            snapshots, methods, protocol=protocol, scale=scale, seed=arguments.seed, n_seeds=arguments.seeds
        )
        print(report)
        rows += [entry | {"row": f"{protocol}: {entry['row']}"} for entry in report.rows()]
        print(f"{protocol} protocol: {time.perf_counter() - began:.0f} s\n", flush=True)
    for name, value in PUBLISHED.get((arguments.data, snapshots.dim), {}).items():
        rows.append(row(name, "W1, mean over holes", value, peer="literature"))
    show(f"{arguments.data}, {snapshots.dim} dimensions, scale {scale}", [r for r in rows if "mean" in r["metric"]])
    store(arguments.json, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
