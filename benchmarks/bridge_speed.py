"""What a refined bridge costs: seconds beside the published engine on the same five snapshots, and against n and d.

    python benchmarks/bridge_speed.py --figure cost.png --json out.json

Lotka-Volterra, 50 points at 0, 2, 4, 6, 8 (the set ``lv50`` of ``$GENDYN_DATA/bridges``), held out 1, 3, 5, 7.
Noise is .1, as published, and all start from the same parameters:

``refinement``       :class:`gendyn.ReferenceRefinement` by default.
``ipml, inducing``   ``engine="ipml"`` with inducing points, every round and every regression of it, run to its end.
``ipml, as published``  with all points in every regression, which would take an hour or more: one regression and one
                     simulation are timed (the fastest of three), and multiplied with their number.
``Brownian bridge``  the floor of cost: nothing is learned.

EMD is W2 of generated points against the held-out ones, the mean over the four times; the published engine is scored by
its own paths, all of them, as its authors do, and ours by as many points. The ratio divides seconds of the extrapolated
engine by ours. Cost against n and d is that of one interval between normal populations under an Ornstein-Uhlenbeck
reference; above 5000 rows couplings are solved in blocks.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from bridges import SETS, Problem, emd
from table import begin, parser, row, show, store

import gendyn as gd
from gendyn.bridges import IterativeProjection
from gendyn.bridges.iterative_projection import GaussianProcessDrift, ProjectionEngine
from gendyn.bridges.marginals import Marginals

SIGMA = 0.1
SIZES, DIMS = (50, 200, 1000, 5000, 20_000), (2, 10, 30, 100)
AT_DIM, AT_SIZE = 2, 500


def family() -> gd.references.LotkaVolterra:
    """Return what both engines learn."""
    return gd.references.LotkaVolterra(sigma=SIGMA, volatility="constant", fixed=("sigma",))


def ours(problem: Problem, n: int) -> list[dict[str, Any]]:
    """Return seconds and EMD of the default refinement, and of a bridge without learning."""
    rows = []
    makes = {
        "refinement": lambda: gd.ReferenceRefinement(family(), intervals=None),
        "Brownian bridge": lambda: gd.SchrodingerBridge(sigma=SIGMA),
    }
    for name, make in makes.items():
        began = time.perf_counter()
        model = make().fit(problem.train, progress=False)
        seconds = time.perf_counter() - began
        found = [
            emd(held, model.interpolate(t, n, 0), None)
            for t, held in zip(problem.held.times.tolist(), problem.held.samples, strict=True)
        ]
        rows += [row(name, "EMD", sum(found) / len(found), low=min(found), high=max(found), seconds=seconds)]
        rows += [row(name, "seconds", seconds, seconds=seconds)]
    return rows


def projected(problem: Problem, settings: IterativeProjection) -> list[dict[str, Any]]:
    """Return seconds and EMD of the published engine with inducing points."""
    reference = family().start(problem.train)
    began = time.perf_counter()
    engine = ProjectionEngine(reference, Marginals.of(problem.train), settings=settings, ridge=0.0, rate=0.05, seed=0)
    for m in range(engine.total):
        engine.step(m)
    seconds = time.perf_counter() - began
    found = []
    for t, held in zip(problem.held.times.tolist(), problem.held.samples, strict=True):
        nearest = int((engine.times - t).abs().argmin())
        found.append(emd(held, engine.paths[:, nearest], None))
    name = f"ipml, {settings.max_points} inducing points"
    return [
        row(name, "EMD", sum(found) / len(found), low=min(found), high=max(found), seconds=seconds, peer="peer"),
        row(name, "seconds", seconds, seconds=seconds, peer="peer"),
    ]


def published(problem: Problem, settings: IterativeProjection, repeats: int) -> float:
    """Return the seconds of the published engine from one regression with all points and one simulation with it."""
    x = problem.train.samples[0].to(torch.float64)
    gaps = problem.train.times.diff().tolist()
    total = 0.0
    for gap in sorted(set(gaps)):
        steps = settings.steps(gap, min(gaps))
        generator = torch.Generator().manual_seed(0)
        inputs = torch.cat(
            [x.repeat(steps, 1), torch.linspace(0, gap, steps).double().repeat_interleave(len(x))[:, None]], 1
        )
        inputs[:, :-1] += torch.randn(inputs[:, :-1].shape, generator=generator, dtype=torch.float64)
        once = []
        for _ in range(repeats):
            began = time.perf_counter()
            drift = GaussianProcessDrift.fit(inputs, inputs[:, :-1], noise=SIGMA**2)
            for k in range(steps):
                drift(x, k * gap / steps)
            once.append(time.perf_counter() - began)
        total += min(once) * (1 + 2 * settings.n_ipf) * settings.n_outer * gaps.count(gap)
    return total


def cost(n: int, d: int) -> float:
    """Return the seconds of the bridge of one interval between ``n`` and ``n`` points of ``d`` features."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    y = 0.5 * torch.randn(n, d, generator=generator) + 1.0
    process = gd.systems.OrnsteinUhlenbeck(dim=d)
    began = time.perf_counter()
    gd.SchrodingerBridge(process).fit(gd.Snapshots([0.0, 1.0], [x, y]), progress=False)
    return time.perf_counter() - began


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw the cost against n and against d."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
    for axis, letter, title in zip(axes, "nd", (f"d = {AT_DIM}", f"n = {AT_SIZE}"), strict=True):
        points = [
            (entry["metric"], entry["value"]) for entry in rows if entry["row"] == f"one interval, against {letter}"
        ]
        sizes = [int(metric.partition("=")[2]) for metric, _ in points]
        axis.loglog(sizes, [value for _, value in points], "o-")
        axis.set(xlabel=letter, title=title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds")
    figure.savefig(path, dpi=150)
    print(f"figure written to {path}")


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--figure", type=Path, help="draw the cost against n and d to this file")
    options.add_argument("--points", type=int, default=200, help="inducing points of the published engine")
    arguments: argparse.Namespace = options.parse_args()
    begin(arguments)
    try:
        problem = SETS["lv50"](Path(os.environ.get("GENDYN_DATA", ".")) / "bridges")
    except FileNotFoundError as error:
        print(f"{error}; set GENDYN_DATA to the folder of the data", file=sys.stderr)
        return 2
    whole = IterativeProjection(time_step=0.02, max_points=arguments.points)
    shorter = IterativeProjection(n_outer=2, n_ipf=2, time_step=0.1, max_points=arguments.points)
    rows = ours(problem, sum(problem.train.sizes))
    own = next(entry["value"] for entry in rows if entry["row"] == "refinement" and entry["metric"] == "seconds")
    rows += projected(problem, shorter if arguments.quick else whole)
    seconds = published(problem, whole, 1 if arguments.quick else 3)
    rows.append(row("ipml, as published (extrapolated)", "seconds", seconds, peer="peer"))
    rows.append(row("ipml, as published / refinement", "ratio of seconds", seconds / own))
    for n in SIZES[:3] if arguments.quick else SIZES:
        rows.append(row("one interval, against n", f"n={n}", cost(n, AT_DIM)))
    for d in DIMS[:2] if arguments.quick else DIMS:
        rows.append(row("one interval, against d", f"d={d}", cost(AT_SIZE, d)))
    show("bridges: seconds, and W2 at held-out times of lv50", rows)
    store(arguments.json, rows)
    if arguments.figure is not None:
        draw(arguments.figure, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
