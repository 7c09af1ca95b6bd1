"""Noise to a checkerboard: one velocity, its flow, and diffusions with the same law for every epsilon.

    python benchmarks/checkerboard.py

The target is uniform on eight squares, so its log-density is known and KL(rho_1 || flow) = NLL - log 32. A flow cannot
tear space, so it leaves mass between the squares; noise takes it out. Printed are KL, the part of samples outside the
squares for epsilon in 0, .5, 1, 2, 2.5 (200 steps), W2 to fresh points, and the seconds of the processor that the fit
took. The last epsilon falls to zero at the end: near it the score amplifies errors of the velocity by one over the
noise that is left, and constant noise draws points together inside the squares, which mass outside does not see but W2
does. The peer is what was published for such tasks: 3 x 64 with SELU, 3000 steps. A Gaussian of the target's moments
knows nothing; the floor is another sample.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from planar import checkerboard, distance, normal, on_checkerboard
from table import begin, parser, row, show, store
from torch import Tensor

import gendyn as gd
from gendyn.interpolants.epsilon import Epsilon

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "checkerboard.png"
EPSILONS: dict[str, Epsilon] = {f"{epsilon:g}": epsilon for epsilon in (0.0, 0.5, 1.0, 2.0, 2.5)}
EPSILONS["2(1-t)"] = lambda t: 2 * (1 - t)
BEST = "2"
"""The epsilon that the goal is stated for."""

ENTROPY = math.log(32.0)
POINTS, SAMPLED, SCORED = 200_000, 4_000, 4_000


def scores(model: gd.StochasticInterpolant, name: str, test: Tensor, seed: int) -> tuple[list[dict[str, Any]], dict]:
    """Return rows of a fitted model, and its samples by epsilon."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(SAMPLED, 2, generator=generator)
    nll = -float(model.log_prob(test[:SCORED], step=0.02).mean())
    rows = [row(name, "KL of the flow", nll - ENTROPY)]
    made = {}
    for label, epsilon in EPSILONS.items():
        solver = "euler" if epsilon == 0 else "euler_maruyama"
        paths = model.sample(start, [0.0, 1.0], epsilon=epsilon, step=0.005, solver=solver, seed=seed)
        made[label] = paths.values[:, -1]
        rows += outside(name, f", epsilon {label}", made[label], test)
    return rows, made


def outside(name: str, which: str, x: Tensor, test: Tensor) -> list[dict[str, Any]]:
    """Return the rows of a sample."""
    part = 1 - float(on_checkerboard(x).float().mean())
    return [
        row(name, f"mass outside{which}", part),
        row(name, f"W2{which}", distance(x[:2000], test[:2000])),
    ]


def picture(samples: dict[str, dict[str, Tensor]], target: Tensor) -> Figure:
    """Return samples side by side: a row a model, a column an epsilon, and the target."""
    with gd.plotting.style():
        figure = Figure(figsize=(2.3 * (len(EPSILONS) + 1), 2.5 * len(samples)), layout="constrained")
        grid = figure.subplots(len(samples), len(EPSILONS) + 1, squeeze=False, sharex=True, sharey=True)
        for axes, (name, made) in zip(grid, samples.items(), strict=True):
            axes[0].set_ylabel(name)
            panels = [(f"epsilon {epsilon}", x) for epsilon, x in made.items()] + [("target", target)]
            for ax, (title, x) in zip(axes, panels, strict=True):
                inside = on_checkerboard(x)
                for points, colour in ((x[inside], "#4a4a4a"), (x[~inside], "#d1495b")):
                    ax.plot(*points.T, ".", color=colour, markersize=1.0, alpha=0.5, rasterized=True)
                part = "" if title == "target" else f", {100 * (1 - float(inside.float().mean())):.1f} % outside"
                ax.set_title(title + part, fontsize=7)
                ax.set(xlim=(-4.6, 4.6), ylim=(-4.6, 4.6), aspect="equal", xticks=[], yticks=[])
    return figure


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = options.parse_args()
    begin(arguments)
    generator = torch.Generator().manual_seed(arguments.seed)
    data = gd.Snapshots([1.0], [checkerboard(POINTS, generator)])
    test = checkerboard(SAMPLED, generator)
    part = 0.05 if arguments.quick else 1.0
    models = {
        "ours": gd.StochasticInterpolant("one-sided-linear", hidden=(256,) * 3, scale="none", steps=int(6000 * part)),
        "3 x 64, SELU": gd.StochasticInterpolant(
            "one-sided-linear", hidden=(64,) * 3, activation="selu", scale="none", steps=int(3000 * part),
            batch_size=1000, ema=None,
        ),
    }  # fmt: skip
    rows, samples = [], {}
    for name, model in models.items():
        began = time.process_time()
        model.fit(data, seed=arguments.seed, progress=False)
        rows.append(row(name, "seconds of the processor, fit", time.process_time() - began))
        found, samples[name] = scores(model, name, test, arguments.seed)
        rows += found
    gaussian = test.mean(0) + normal(SAMPLED, generator) * test.std(0)
    deviation = test.std(0)
    entropy = float((0.5 * (1 + math.log(2 * math.pi)) + deviation.log()).sum())
    rows.append(row("one Gaussian", "KL of the flow", entropy - ENTROPY))
    rows += outside("one Gaussian", "", gaussian, test)
    rows += outside("floor", "", checkerboard(SAMPLED, generator), test)
    kl = next(entry["value"] for entry in rows if entry["row"] == "ours" and entry["metric"].startswith("KL"))
    mass = next(entry["value"] for entry in rows if entry["metric"] == f"mass outside, epsilon {BEST}")
    show("noise to a checkerboard", rows)
    print(f"goals: KL below .30 ({kl:.3f}), mass outside below .04 at epsilon {BEST} ({mass:.4f})")
    store(arguments.json, rows)
    picture(samples, test).savefig(arguments.picture, dpi=140, metadata={"Software": None})
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
