"""Error against cost for every solver on five systems: a picture to choose from.

    python benchmarks/work_precision.py

Cost is the number of evaluations of drift and diffusion along a path; the error is the root mean square distance at the
end to the best solver, a step sixteen times smaller, along the same Brownian path.
The trivial baseline is Euler's method; the floor is the error of the reference itself.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from table import begin, parser, row, show, store
from torch import Tensor

import gendyn as gd
from gendyn.sampling import ODE, SDE, SOLVERS, to_ito, to_stratonovich

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "work_precision.png"


@dataclass(frozen=True)
class System:
    """A process in the calculus it is written in, its start, and its end time."""

    name: str
    process: Any
    start: tuple[float, ...]
    end: float
    best: str


def systems() -> list[System]:
    """Return an ordinary equation, and additive, geometric, bounded and non-commutative noise."""

    def pendulum(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[:, 1], -torch.sin(x[:, 0]) + 0.3 * torch.cos(t).expand(len(x))], dim=1)

    def turning(t: Tensor, x: Tensor) -> Tensor:
        return 0.4 * torch.stack([torch.stack([x[:, 1], x[:, 0]], -1), torch.stack([-x[:, 0], x[:, 1]], -1)], dim=1)

    noise = torch.eye(1, dtype=torch.float64)
    return [
        System("pendulum", ODE(pendulum, 2), (1.0, 0.0), 4.0, "rk4"),
        System("double well, additive", SDE(lambda t, x: x - x**3, lambda t, x: 0.7 * noise, 1, noise_type="additive"),
               (0.5,), 1.0, "shark"),
        System("geometric", SDE(lambda t, x: 0.5 * x, lambda t, x: 0.6 * x, 1), (1.0,), 1.0, "log_euler"),
        System("bounded", SDE(lambda t, x: 0 * x, lambda t, x: 0.8 * x.cos() ** 2, 1, calculus="stratonovich"), (0.3,),
               1.0, "slow_rk"),
        System("non-commutative", SDE(lambda t, x: -x, turning, 2, noise_type="general", calculus="stratonovich"),
               (1.0, 0.5), 1.0, "general_shark"),
    ]  # fmt: skip


def form_for(process: Any, solver: Any) -> Any:
    """Return the process in a form that the solver takes, or ``None``."""
    if process.noise_type not in solver.noise_types or solver.name == "exact_linear":
        return None
    if process.noise_type in ("none", "additive") or process.calculus in solver.calculus:
        return process
    return to_ito(process) if "ito" in solver.calculus else to_stratonovich(process)


def curves(system: System, paths: int, levels: list[int]) -> tuple[dict[str, list[tuple[float, float]]], float]:
    """Return cost and error by solver, and the error of the reference."""
    x0 = torch.tensor([system.start], dtype=torch.float64).expand(paths, -1)

    def run(name: str, steps: int) -> Tensor | None:
        process = form_for(system.process, SOLVERS[name])
        if process is None:
            return None
        times = [0.0, system.end]
        found = gd.sample(process, x0, times, solver=name, substeps=steps, seed=1, noise="tree", save="final")
        return found.values[:, 0]

    finest = 16 * levels[-1]
    truth, check = run(system.best, finest), run(system.best, finest // 2)
    if truth is None or check is None:
        raise ValueError(f"{system.best} does not take {system.name}")
    found: dict[str, list[tuple[float, float]]] = {}
    for name, solver in SOLVERS.items():
        points = []
        for steps in levels:
            try:
                end = run(name, steps)
            except FloatingPointError:
                end = torch.full_like(truth, math.inf)
            if end is None:
                break
            cost = steps * (
                solver.drift_evaluations + solver.diffusion_evaluations * (system.process.noise_type != "none")
            )
            points.append((float(cost), float((end - truth).square().sum(1).mean().sqrt())))
        if points:
            found[name] = points
    return found, float((check - truth).square().sum(1).mean().sqrt())


def picture(results: dict[str, tuple[dict[str, list[tuple[float, float]]], float]]) -> Figure:
    """Return one panel a system."""
    with gd.plotting.style():
        figure = Figure(figsize=(16.0, 3.6), layout="constrained")
        colours: Callable[[float], Any] = __import__("matplotlib").colormaps["tab20"]
        names = list(SOLVERS)
        for ax, (title, (found, floor)) in zip(figure.subplots(1, len(results)), results.items(), strict=True):
            for name, points in found.items():
                cost, error = zip(*[p for p in points if math.isfinite(p[1])] or [(1.0, 1.0)], strict=True)
                ax.loglog(cost, error, "o-", ms=3, lw=1.2, color=colours(names.index(name) % 20), label=name)
            ax.axhline(max(floor, 1e-16), color="#b8b8b8", lw=1.0)
            ax.set_title(title)
            ax.set_xlabel("evaluations a path")
            ax.legend(fontsize=6, ncols=2)
        figure.axes[0].set_ylabel("root mean square error")
    return figure


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = options.parse_args()
    begin(arguments)
    warnings.simplefilter("ignore")
    paths, levels = (200, [8, 32]) if arguments.quick else (2000, [8, 16, 32, 64, 128])
    results, rows = {}, []
    for system in systems():
        found, floor = results[system.name] = curves(system, paths, levels)
        for name, points in found.items():
            cost, error = points[-1]
            rows.append(
                row(f"{system.name}: {name}", f"error at {levels[-1]} steps", error, peer=f"{cost:g} evaluations")
            )
        rows.append(row(f"{system.name}: reference", "error against half its steps", floor, peer="floor"))
    show("error against cost", rows)
    store(arguments.json, [entry for entry in rows if math.isfinite(entry["value"])])
    picture(results).savefig(arguments.picture, dpi=140, metadata={"Software": None})
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
