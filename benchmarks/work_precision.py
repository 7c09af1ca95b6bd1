"""Error against cost on five systems, for every solver that suits them: a picture to choose from.

    python benchmarks/work_precision.py

The error is the root mean square distance at the end to the best solver with many more steps, along the same Brownian
path, torchsde's along it too. Cost is the number of evaluations of drift and diffusion along a path, and the processor
time of a run with the noise that each library draws by default. The trivial baseline is Euler's method; the floor is
the distance of the reference to itself with half its steps.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchsde
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from table import begin, parser, row, show, store
from torch import Tensor

import gendyn as gd
from gendyn.sampling import ODE, SDE, BrownianTree, StepGrid, as_torchsde

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "work_precision.png"


@dataclass(frozen=True)
class System:
    """A process, its start and end, the solvers that suit it, and what solves it best.

    ``peer`` is the most exact method of torchsde (of torchdiffeq, without noise) that takes it. The reference has
    ``finer`` times as many steps as the finest run: more where orders are low. ``orders`` are drawn as slopes.
    """

    name: str
    process: Any
    start: tuple[float, ...]
    end: float
    solvers: tuple[str, ...]
    best: str
    peer: str
    orders: tuple[float, ...]
    finer: int = 16


@dataclass(frozen=True)
class Point:
    """One run: evaluations along a path, processor milliseconds of all paths, error."""

    evaluations: float
    milliseconds: float
    error: float


def systems() -> list[System]:
    """Return an ordinary equation, and additive, multiplicative, Stratonovich and non-commutative noise."""

    def pendulum(t: Tensor, x: Tensor) -> Tensor:
        return torch.stack([x[:, 1], -torch.sin(x[:, 0]) + 0.3 * torch.cos(t).expand(len(x))], dim=1)

    def turning_and_straining(t: Tensor, x: Tensor) -> Tensor:
        first, second = x.unbind(1)
        return 0.4 * torch.stack([torch.stack([second, first], -1), torch.stack([-first, -second], -1)], dim=1)

    noise = 0.7 * torch.eye(1, dtype=torch.float64)
    well = SDE(lambda t, x: x - x**3, lambda t, x: noise, 1, noise_type="additive")
    growth = SDE(lambda t, x: x * (1.5 - x), lambda t, x: 0.6 * x, 1)
    bounded = SDE(lambda t, x: -0.5 * x, lambda t, x: 0.8 * x.cos() ** 2, 1, calculus="stratonovich")
    shear = SDE(lambda t, x: -x, turning_and_straining, 2, noise_type="general", calculus="stratonovich")
    return [
        System(
            "pendulum, no noise",
            ODE(pendulum, 2),
            (1.0, 0.0),
            4.0,
            ("euler", "heun", "midpoint", "ees25", "rk4", "dopri5"),
            "rk4",
            "dopri5",
            (1, 2, 4),
        ),
        System(
            "double well, additive",
            well,
            (0.5,),
            1.0,
            ("euler_maruyama", "heun", "sea", "sra1", "shark"),
            "shark",
            "srk",
            (1, 1.5),
        ),
        System(
            "growth, Ito",
            growth,
            (0.5,),
            1.0,
            ("euler_maruyama", "log_euler", "milstein", "sri2"),
            "sri2",
            "srk",
            (0.5, 1, 1.5),
        ),
        System(
            "bounded, Stratonovich",
            bounded,
            (0.3,),
            1.0,
            ("euler_heun", "milstein", "heun", "midpoint", "reversible_heun", "ees25", "slow_rk"),
            "slow_rk",
            "midpoint",
            (1, 1.5),
        ),
        System(
            "non-commutative noise",
            shear,
            (1.0, 0.5),
            1.0,
            ("euler_heun", "heun", "midpoint", "reversible_heun", "ees25", "general_shark"),
            "general_shark",
            "midpoint",
            (0.5, 1),
            finer=256,
        ),
    ]


class Counted:
    """A process that counts how often it is evaluated."""

    def __init__(self, process: Any) -> None:
        self.process, self.count = process, 0
        self.dim, self.noise_type, self.calculus = process.dim, process.noise_type, process.calculus
        self.noise_dim = process.noise_dim

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift."""
        self.count += 1
        return self.process.drift(t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion."""
        self.count += 1
        return self.process.diffusion(t, x)


class OurNoise(torchsde.BaseBrownian):
    """The Brownian path of our seed as torchsde asks for it, at the ends of equal steps."""

    levy_area_approximation = "space-time"
    dtype, device, shape = torch.float64, torch.device("cpu"), (0, 0)

    def __init__(self, end: float, steps: int, paths: int, columns: int) -> None:
        self.shape, self.step = (paths, columns), end / steps
        grid = BrownianTree().layout(StepGrid(torch.tensor([0.0, end]), substeps=steps))
        like = torch.zeros(1, dtype=self.dtype)
        driver = BrownianTree().start(SEED, grid, self.shape, 0, like, True)
        self.parts = [driver.increments(0, first, min(32, steps - first)) for first in range(0, steps, 32)]

    def __call__(self, ta: Any, tb: Any = None, return_U: bool = False, return_A: bool = False) -> Any:
        """Return the increment over a step, and its integral where that is asked for."""
        block, at = divmod(round(float(ta) / self.step), 32)
        w, area = self.parts[block]
        return (w[at], self.step * (w[at] / 2 + area[at])) if return_U else w[at]

    def __repr__(self) -> str:
        return f"OurNoise(step={self.step:g})"


SEED = 1
TOLERANCES = [10.0**-k for k in range(2, 10)]


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """Return the least processor time of some calls."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


class Bench:
    """One system, its paths, and its reference."""

    def __init__(self, system: System, paths: int, levels: list[int], repeats: int) -> None:
        self.system, self.levels, self.repeats = system, levels, repeats
        self.x0 = torch.tensor([system.start], dtype=torch.float64).expand(paths, -1).clone()
        finest = system.finer * levels[-1]
        self.truth = self.run(system.best, steps=finest)
        self.floor = self.error(self.run(system.best, steps=finest // 2))

    def run(self, solver: str, noise: str = "tree", process: Any = None, **how: Any) -> Tensor:
        """Return the states at the end."""
        substeps = {"substeps": how.pop("steps")} if "steps" in how else {}
        process = self.system.process if process is None else process
        times = [0.0, self.system.end]
        run = {"solver": solver, "seed": SEED, "noise": noise, "save": "final"} | substeps | how
        return gd.sample(process, self.x0, times, **run).values[:, 0]

    def error(self, end: Tensor) -> float:
        """Return the root mean square distance to the reference."""
        return float((end - self.truth).square().sum(1).mean().sqrt())

    def ours(self, solver: str) -> list[Point]:
        """Return runs of a solver of ours, cheapest first."""
        adaptive = [{"rtol": tolerance, "atol": tolerance} for tolerance in TOLERANCES]
        points = []
        for how in adaptive if solver == "dopri5" else [{"steps": steps} for steps in self.levels]:
            counted = Counted(self.system.process)
            error = self.error(self.run(solver, process=counted, **how))
            # The door looks at a process too: its calls are those of no steps.
            evaluations = counted.count - self._door(solver) if solver != "dopri5" else counted.count
            spent = seconds(lambda how=how: self.run(solver, "stream", **how), self.repeats)
            points.append(Point(evaluations, 1e3 * spent, error))
        return points

    def _door(self, solver: str) -> int:
        """Return the evaluations of a run that belong to no step."""
        counts = []
        for steps in (1, 2):
            counted = Counted(self.system.process)
            self.run(solver, process=counted, steps=steps)
            counts.append(counted.count)
        return 2 * counts[0] - counts[1]

    def theirs(self) -> list[Point]:
        """Return runs of the peer, cheapest first."""
        system = self.system
        if system.process.noise_type == "none":
            return self._torchdiffeq() if importlib.util.find_spec("torchdiffeq") else []
        paths, columns = len(self.x0), system.process.noise_dim
        times, points = torch.tensor([0.0, system.end], dtype=torch.float64), []

        def solve(process: Any, steps: int, noise: Any) -> Tensor:
            h = system.end / steps
            with torch.no_grad():
                return torchsde.sdeint(as_torchsde(process), self.x0, times, bm=noise, method=system.peer, dt=h)[-1]

        def drawn(steps: int) -> Any:
            h = system.end / steps
            return torchsde.BrownianInterval(
                0.0, system.end + 2 * h, size=(paths, columns), dtype=torch.float64, dt=h, entropy=SEED,
                levy_area_approximation="space-time" if system.peer == "srk" else "none",
            )  # fmt: skip

        for steps in self.levels:
            counted = Counted(system.process)
            error = self.error(solve(counted, steps, OurNoise(system.end, steps, paths, columns)))
            spent = seconds(lambda steps=steps: solve(system.process, steps, drawn(steps)), self.repeats)
            points.append(Point(counted.count, 1e3 * spent, error))
        return points

    def _torchdiffeq(self) -> list[Point]:
        from torchdiffeq import odeint

        times, points = torch.tensor([0.0, self.system.end], dtype=torch.float64), []

        def solve(process: Any, tolerance: float) -> Tensor:
            with torch.no_grad():
                return odeint(process.drift, self.x0, times, method="dopri5", rtol=tolerance, atol=tolerance)[-1]

        for tolerance in TOLERANCES:
            counted = Counted(self.system.process)
            error = self.error(solve(counted, tolerance))
            spent = seconds(lambda tolerance=tolerance: solve(self.system.process, tolerance), self.repeats)
            points.append(Point(counted.count, 1e3 * spent, error))
        return points


PEER = "torchsde or torchdiffeq"
LOOKS = {
    "euler": ("#4a4a4a", "o"),
    "euler_maruyama": ("#4a4a4a", "o"),
    "euler_heun": ("#9a9a9a", "o"),
    "heun": ("#00798c", "s"),
    "midpoint": ("#66b2b2", "s"),
    "milstein": ("#edae49", "s"),
    "reversible_heun": ("#8d6cab", "v"),
    "ees25": ("#30638e", "D"),
    "log_euler": ("#7a9e3d", "v"),
    "sea": ("#7a9e3d", "D"),
    "sra1": ("#f08a5d", "^"),
    "shark": ("#d1495b", "^"),
    "sri2": ("#d1495b", "^"),
    "slow_rk": ("#d1495b", "^"),
    "general_shark": ("#d1495b", "^"),
    "rk4": ("#d1495b", "^"),
    "dopri5": ("#1b998b", "P"),
    PEER: ("#000000", "x"),
}


def draw(ax: Axes, found: dict[str, list[Point]], bench: Bench, cost: Callable[[Point], float]) -> None:
    """Draw error against a cost, the most exact solver by its name, and the floor."""
    for name, points in found.items():
        colour, mark = LOOKS[name]
        line = "--" if name == PEER else "-"
        ax.loglog([cost(p) for p in points], [p.error for p in points], line, marker=mark, color=colour, ms=4, lw=1.2)
    best = found[bench.system.best]
    ends = (cost(best[1]), best[1].error)
    ax.annotate(bench.system.best, ends, xytext=(-5, -4), textcoords="offset points", ha="right", va="top", fontsize=8,
                color=LOOKS[bench.system.best][0])  # fmt: skip
    ax.set_ylim(bench.floor / 4, 3 * max(p.error for points in found.values() for p in points))
    ax.axhspan(ax.get_ylim()[0], bench.floor, color="#ececec", lw=0)
    ax.annotate("floor: the reference's own error", (0.98, bench.floor), xycoords=("axes fraction", "data"),
                xytext=(0, 2), textcoords="offset points", ha="right", fontsize=7, color="#777777")  # fmt: skip
    ax.yaxis.set_major_locator(LogLocator(numticks=7))
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    ax.xaxis.set_major_formatter("{x:g}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_formatter(NullFormatter())


def slopes(ax: Axes, orders: tuple[float, ...]) -> None:
    """Draw a fan of reference slopes in the lower left corner, each with its order."""
    (left, right), (bottom, top) = np.log10(ax.get_xlim()), np.log10(ax.get_ylim())
    x, y = left + 0.05 * (right - left), bottom + 0.42 * (top - bottom)
    for order in orders:
        text = f"order {order:g}" if order == orders[0] else f"{order:g}"
        run = min(0.22 * (right - left), 0.38 * (top - bottom) / order)
        ends = (10 ** (x + run), 10 ** (y - order * run))
        ax.plot([10**x, ends[0]], [10**y, ends[1]], color="#999999", lw=0.9, ls=":")
        ax.annotate(text, ends, xytext=(2, -2), textcoords="offset points", fontsize=7, color="#777777")


def picture(benches: list[Bench], results: list[dict[str, list[Point]]]) -> Figure:
    """Return a column for each system: error against evaluations, and against time."""
    with gd.plotting.style():
        figure = Figure(figsize=(15.0, 6.6), layout="constrained")
        axes = figure.subplots(2, len(benches))
        for (above, below), bench, found in zip(axes.T, benches, results, strict=True):
            draw(above, found, bench, lambda p: p.evaluations)
            draw(below, found, bench, lambda p: p.milliseconds)
            slopes(above, bench.system.orders)
            above.set_title(bench.system.name, fontsize=10)
            above.set_xlabel("evaluations along a path")
            below.set_xlabel(f"ms for {len(bench.x0)} paths")
        for ax in axes[:, 0]:
            ax.set_ylabel("root mean square error")
        used: dict[tuple[str, str], list[str]] = {}
        for name in LOOKS:
            if any(name in found for found in results):
                used.setdefault(LOOKS[name], []).append(name)
        lines = [
            Line2D([], [], color=colour, marker=mark, ms=5, lw=1.2, ls="--" if names == [PEER] else "-")
            for (colour, mark), names in used.items()
        ]
        figure.legend(lines, [" / ".join(names) for names in used.values()], loc="outside lower center", ncols=7)
    return figure


def rows_of(bench: Bench, found: dict[str, list[Point]]) -> list[dict[str, Any]]:
    """Return a row for each solver: its finest run, and the order that all its runs show."""
    system, rows = bench.system, []
    for name, points in found.items():
        last, peer = points[-1], None
        if name == PEER:
            name = system.peer
            peer = "torchdiffeq" if system.process.noise_type == "none" else "torchsde"
        how = f"rtol {TOLERANCES[-1]:g}" if name == "dopri5" else f"{bench.levels[-1]} steps"
        above = [p for p in points if p.error > 5 * bench.floor]
        slope = ""
        if name != "dopri5" and len(above) > 2:
            logs = np.log([[p.evaluations, p.error] for p in above])
            slope = f", order {-np.polyfit(logs[:, 0], logs[:, 1], 1)[0]:.2f}"
        metric = f"error, {how}, {last.evaluations:g} evaluations{slope}"
        rows.append(row(f"{system.name}: {name}", metric, last.error, peer=peer, seconds=last.milliseconds / 1e3))
    rows.append(row(f"{system.name}: {system.best}", "reference against half its steps", bench.floor, peer="floor"))
    return rows


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = options.parse_args()
    begin(arguments)
    warnings.simplefilter("ignore")
    paths, levels, repeats = (200, [8, 32], 1) if arguments.quick else (2000, [8, 16, 32, 64, 128], 3)
    benches, results, rows = [], [], []
    for system in systems():
        bench = Bench(system, paths, levels, repeats)
        found = {name: bench.ours(name) for name in system.solvers}
        theirs = bench.theirs()
        if theirs:
            found[PEER] = theirs
        else:
            rows.append(row(system.name, "missing: torchdiffeq is not installed", None))
        benches.append(bench)
        results.append(found)
        rows += rows_of(bench, found)
    show("error against cost", rows)
    store(arguments.json, rows)
    picture(benches, results).savefig(arguments.picture, dpi=130, metadata={"Software": None})
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
