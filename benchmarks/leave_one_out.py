"""Populations nobody measured: hold one time out, learn from the others, predict it.

    python benchmarks/leave_one_out.py --data eb --dims 5 --json out.json
    python benchmarks/leave_one_out.py --data eb --dims 50 --scale global
    python benchmarks/leave_one_out.py --data eb --protocol published --methods spline-ot --select --relaxations 6,12,24
    python benchmarks/leave_one_out.py --data eb --dims 5 --protocol published --seeds 3 --metrics land,land:0.5,rbf
    python benchmarks/leave_one_out.py --data emt

Each inner time is held out in turn. Next to every learned row stand the rows that need no learning (the neighbouring
populations, their union, the mean shift, displacement along the optimal plan) and the floor: the distance between two
random halves of the held-out cells. Two protocols:

``published``  scaling from all cells, held-out ones too; ordinal times; all cells of the previous time pushed to the
               hole; exact W1 to all its cells. This is how tables in the literature are made (Tong et al. 2024).
``clean``      scaling from the training times only; predictions from the previous and from the first time; skill
               (B - M) / (B - F) between the optimal-transport row B and the floor F at equal sizes, with a paired
               bootstrap. Skill 0 is transport without learning, 1 is perfect, below 0 is worse than not learning.

Beyond five features, or with ``--select`` or ``--relaxations``, a further row chooses coupling, blur, price of growth
and start of every hole by holding out the inner times of its training times in turn: the held-out cells have no say in
it. Where only two training times are left, there is nothing to choose by, and it is the first coupling, pushed from
both sides (clean) or from before. With ``--metrics``, a row has paths that a metric of the training cells bends; of
several metrics it chooses one in the same way. With ``--pool``, a row averages over models instead of choosing one
(see :class:`gendyn.evaluation.Ensemble`), with as many cells as one of them predicts. With several seeds, the first
chooses, and all are fitted so.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.evaluation import Ensemble, InnerHoldOut

SIGMAS = (0.1, 0.5)
"""Blurs among which the selected row chooses: the default, and what did best on the EMT cells and on simulated ones."""

PUBLISHED = {
    ("eb", 5, "whiten"): {"OT-CFM, published (Tong et al. 2024)": 0.790, "metric flow matching, published": 0.713},
    ("emt", 10, "none"): {"WFR-FM, published": 0.298, "VGFM, published": 0.301, "DeepRUOT, published": 0.323},
    ("eb", 50, "none"): {"DeepRUOT, published": 10.075, "WFR-FM, published": 10.157},
}
"""Mean W1 over the holes, quoted from the literature for the reader's orientation; not run here."""


def load(name: str, dims: int | None) -> gd.Snapshots:
    """Return the set with the times as published, by default with as many dimensions as its published table."""
    data = gd.datasets.load(name, dims=5 if dims is None and name == "eb" else dims)
    if not isinstance(data, gd.Snapshots):
        raise TypeError(f"{name} does not hold populations")
    return data


def selected(
    couplings: list[str], relaxations: list[float], protocol: str, criterion: str, settings: dict[str, Any]
) -> InnerHoldOut:
    """Return the method that chooses coupling, blur, price of growth and start inside the training times."""
    given = {"steps": 2000} | settings
    candidates = {
        f"{coupling} sigma={sigma:g}": gd.FlowMatching(coupling, sigma=sigma, **given)
        for coupling in couplings
        for sigma in SIGMAS
    }
    candidates |= {
        f"{coupling} relaxation={price:g}": gd.FlowMatching(coupling, relaxation=price, sigma=SIGMAS[0], **given)
        for coupling in couplings
        if coupling in ("ot", "spline-ot")
        for price in relaxations
    }
    return choice(candidates, protocol, criterion)


def choice(candidates: dict[str, gd.FlowMatching], protocol: str, criterion: str) -> InnerHoldOut:
    """Return the method that chooses once for all seeds among models and the starts of a protocol."""
    # The published protocol pushes the cells of the time before the hole; there is no other start.
    starts = ["restart"] if protocol == "published" else ["restart", "rollout", "two-sided"]
    default = (next(iter(candidates)), starts[-1])
    return InnerHoldOut(candidates, starts=starts, criterion=criterion, default=default, choose_once=True)


def bent(metrics: str, coupling: str, protocol: str, criterion: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the row of metric paths: of the one metric that is named, or of that which is chosen among several."""
    models = {}
    for text in metrics.split(","):
        name, *given = text.split(":")
        metric = (name, *(value if value == "median" else float(value) for value in given))
        models[f"metric {text}"] = gd.FlowMatching(coupling, path="metric", metric=metric, **settings)
    what = "splines" if coupling == "spline-ot" else "lines"
    if len(models) == 1:
        name, model = next(iter(models.items()))
        return {f"FlowMatching({name}, {what})": model}
    return {f"FlowMatching(metric, {what}), selected by {criterion}": choice(models, protocol, criterion)}


def pooled(couplings: list[str], relaxations: list[float], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the row that pools every coupling without growth and, where it may grow, at every price."""
    members: dict[str, Any] = {}
    for coupling in couplings:
        members[coupling] = gd.FlowMatching(coupling, **settings)
        if coupling in ("ot", "spline-ot"):
            members |= {
                f"{coupling}, relaxation={price:g}": gd.FlowMatching(coupling, relaxation=price, **settings)
                for price in relaxations
            }
    return {f"pool of {len(members)}": Ensemble(members)}


def read_options() -> argparse.Namespace:
    """Return what the command line asks for."""
    options = parser(__doc__)
    options.add_argument("--data", default="eb", choices=["eb", "emt", "dyngen", "sim-gene", "larry-clones"])
    options.add_argument("--dims", type=int, default=None, help="leading features kept (eb: 5 by default)")
    options.add_argument("--scale", choices=["whiten", "global", "none"], default=None)
    options.add_argument("--methods", default="ot,spline-ot", help="couplings, of independent,ot,sinkhorn,spline-ot")
    options.add_argument(
        "--select",
        action=argparse.BooleanOptionalAction,
        help="a row that chooses for itself (default: beyond 5, or with --relaxations and not --pool)",
    )
    options.add_argument(
        "--relaxations",
        default="",
        help="prices of growth among which it chooses too, e.g. 6,12,24 (default: no growth)",
    )
    options.add_argument(
        "--metrics",
        default="",
        help="a row with paths bent by a metric: a name and numbers, or several to choose from, e.g. land:0.5,rbf",
    )
    options.add_argument(
        "--bends", choices=["ot", "spline-ot"], default="ot", help="the coupling whose lines or splines metrics bend"
    )
    options.add_argument(
        "--pool",
        action="store_true",
        help="a row that pools all couplings, without growth and at every price of --relaxations, at equal size",
    )
    options.add_argument("--criterion", choices=["W1", "energy distance"], default="W1", help="by which it chooses")
    options.add_argument("--protocol", choices=["both", "published", "clean"], default="both")
    options.add_argument("--bend", type=float, default=None, help="of splines, 1: natural (default: the models')")
    options.add_argument("--steps", type=int, default=None, help="of every fit (default: the models', 2000 to choose)")
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=-1, help="processes (default: one a core)")
    return options.parse_args()


def main() -> int:
    """Run the benchmark."""
    arguments = read_options()
    begin(arguments)
    try:
        snapshots = load(arguments.data, arguments.dims)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    scale = arguments.scale or ("whiten" if arguments.data == "eb" and snapshots.dim == 5 else "none")
    steps = 500 if arguments.quick else arguments.steps
    given = {"steps": steps, "bend": arguments.bend}
    settings = {name: value for name, value in given.items() if value is not None}
    methods = {f"FlowMatching({name})": gd.FlowMatching(name, **settings) for name in arguments.methods.split(",")}
    protocols = ["published", "clean"] if arguments.protocol == "both" else [arguments.protocol]
    prices = [float(price) for price in arguments.relaxations.split(",") if price]
    by_default = snapshots.dim > 5 or (bool(prices) and not arguments.pool)
    choose = by_default if arguments.select is None else arguments.select
    rows = []
    for protocol in protocols:
        began = time.perf_counter()
        choosing = {}
        if choose:
            chosen = selected(arguments.methods.split(","), prices, protocol, arguments.criterion, settings)
            choosing = {f"selected by {arguments.criterion}": chosen}
        if arguments.metrics:
            choosing |= bent(arguments.metrics, arguments.bends, protocol, arguments.criterion, settings)
        if arguments.pool:
            choosing |= pooled(arguments.methods.split(","), prices, settings)
        report = gd.leave_one_out(
            snapshots,
            methods | choosing,
            protocol=protocol,
            scale=scale,
            seed=arguments.seed,
            n_seeds=arguments.seeds,
            n_jobs=arguments.jobs,
        )
        print(report)
        seconds = time.perf_counter() - began
        rows += [entry | {"row": f"{protocol}: {entry['row']}"} for entry in report.rows()]
        rows.append(row(f"{protocol}: all of it", "wall seconds", seconds, seconds=seconds))
        print(f"{protocol} protocol: {seconds:.0f} s\n", flush=True)
    for name, value in PUBLISHED.get((arguments.data, snapshots.dim, scale), {}).items():
        rows.append(row(name, "W1, mean over holes", value, peer="literature"))
    shown = [entry for entry in rows if "mean" in entry["metric"] or "wall" in entry["metric"]]
    show(f"{arguments.data}, {snapshots.dim} dimensions, scale {scale}", shown)
    store(arguments.json, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
