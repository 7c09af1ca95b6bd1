"""How fast the sampler is: against a hand-written loop, torchsde, torchdiffeq, and (if installed) diffrax.

    python benchmarks/sampler_speed.py

One process, one thread, the least of several repetitions; what counts are ratios. A picture shows how the time of a
step grows with batch, dimension, steps and width of the networks.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchsde
from matplotlib.figure import Figure
from table import begin, parser, row, show, store
from torch import Tensor, nn

import gendyn as gd
from gendyn.sampling import ODE, RateMatrix, as_torchsde

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "sampler_speed.png"


class Neural(nn.Module):
    """Drift and diagonal diffusion by two small networks of time and state."""

    noise_type = "diagonal"
    calculus = "ito"

    def __init__(self, width: int = 64, dim: int = 3, calculus: str = "ito") -> None:
        super().__init__()
        self.dim, self.calculus = dim, calculus
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.f, self.g = (
                nn.Sequential(
                    nn.Linear(dim + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
                )
                for _ in range(2)
            )

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift."""
        return self.f(torch.cat([t.expand(len(x), 1), x], dim=1))

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion."""
        return self.g(torch.cat([t.expand(len(x), 1), x], dim=1))


class Relaxation:
    """Ornstein-Uhlenbeck with elementwise coefficients, the cheapest process there is."""

    noise_type = "diagonal"
    calculus = "ito"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.volatility = torch.tensor(0.5)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift."""
        return -x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion."""
        return self.volatility.expand_as(x)


def least(call: Callable[[], Any], repeats: int) -> float:
    """Return the least seconds of some calls, after one that does not count."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def hand_written(x: Tensor, steps: int, h: float) -> Tensor:
    """Return what a person would write for `Relaxation`, with its noise drawn beforehand in blocks."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for start in range(0, steps, 32):
            noise = torch.randn(min(32, steps - start), *x.shape, generator=generator) * (0.5 * h**0.5)
            for dw in noise.unbind(0):
                x = torch.add(x, x, alpha=-h).add_(dw)
    return x


def bare_networks(process: Neural, x: Tensor, steps: int, h: float) -> Tensor:
    """Return the cost of the networks alone: both are called at every step, nothing else is done."""
    t = torch.tensor(0.0)
    with torch.no_grad():
        for _ in range(steps):
            process.drift(t, x)
            process.diffusion(t, x)
    return x


def torchsde_run(process: Any, x: Tensor, steps: int, h: float, *, hint: bool, method: str = "euler") -> Tensor:
    """Run torchsde as its documentation does, or with the hint of the step for its Brownian path."""
    options: dict[str, Any] = {}
    if hint:
        end = steps * h + 2 * h
        options["bm"] = torchsde.BrownianInterval(0.0, end, size=(len(x), process.dim), dt=h, entropy=0)
    with torch.no_grad():
        return torchsde.sdeint(as_torchsde(process), x, torch.tensor([0.0, steps * h]), dt=h, method=method, **options)


def gradient(process: Neural, x: Tensor, steps: int, h: float, mode: str, solver: str) -> None:
    """Take a gradient through our sampler."""
    process.zero_grad()
    paths = gd.sample(process, x, [0.0, steps * h], solver=solver, step=h, gradient=mode, save="final")
    paths.values.sum().backward()


def torchsde_gradient(process: Neural, x: Tensor, steps: int, h: float, *, reversible: bool) -> None:
    """Take a gradient through torchsde."""
    process.zero_grad()
    wrapped = as_torchsde(process)
    times = torch.tensor([0.0, steps * h])
    area = torchsde.BrownianInterval(0.0, steps * h + 2 * h, size=(len(x), process.dim), dt=h, entropy=0)
    if reversible:
        values = torchsde.sdeint_adjoint(
            wrapped, x, times, dt=h, bm=area, method="reversible_heun", adjoint_method="adjoint_reversible_heun"
        )
    else:
        values = torchsde.sdeint(wrapped, x, times, dt=h, bm=area, method="euler")
    values[-1].sum().backward()


def linear_cases(repeats: int) -> list[dict[str, Any]]:
    """Return rows of the cheapest process: what the loop itself costs."""
    steps, h = 1000, 0.001
    process, x = Relaxation(3), torch.zeros(1024, 3)
    run = {"solver": "euler_maruyama", "step": h, "save": "final"}
    ours = least(lambda: gd.sample(process, x, [0.0, steps * h], **run), repeats)
    hand = least(lambda: hand_written(x, steps, h), repeats)
    hinted = least(lambda: torchsde_run(process, x, steps, h, hint=True), max(1, repeats // 3))
    default = least(lambda: torchsde_run(process, x, steps, h, hint=False), 1)
    name = "OU, 1024 x 3, 1000 steps"
    few = least(lambda: gd.sample(process, torch.zeros(1, 3), [0.0, h], **run), 20 * repeats)
    return [
        row(name, "us a step, ours", 1e6 * ours / steps),
        row(name, "us a step", 1e6 * hand / steps, peer="hand-written"),
        row(name, "us a step", 1e6 * default / steps, peer="torchsde, default"),
        row(name, "us a step", 1e6 * hinted / steps, peer="torchsde, hinted"),
        row(name, "ours / hand-written (1.3 at most)", ours / hand, peer="hand-written"),
        row(name, "torchsde default / ours (12 at least)", default / ours, peer="torchsde, default"),
        row(name, "torchsde hinted / ours (5 at least)", hinted / ours, peer="torchsde, hinted"),
        row("one path, one step", "us a call (300 at most)", 1e6 * few),
    ]


def network_cases(repeats: int) -> list[dict[str, Any]]:
    """Return rows of two networks: forward, and with gradients."""
    steps, h, x = 100, 0.01, torch.zeros(1024, 3)
    ito, strat = Neural(), Neural(calculus="stratonovich")
    run = {"solver": "euler_maruyama", "step": h, "save": "final"}
    name = "two networks 4-64-64-3, 1024 paths, 100 steps"
    ours = least(lambda: gd.sample(ito, x, [0.0, steps * h], **run), repeats)
    bare = least(lambda: bare_networks(ito, x, steps, h), repeats)
    hinted = least(lambda: torchsde_run(ito, x, steps, h, hint=True), repeats)
    backprop = least(lambda: gradient(ito, x, steps, h, "backprop", "euler_maruyama"), repeats)
    theirs = least(lambda: torchsde_gradient(ito, x, steps, h, reversible=False), repeats)
    back = least(lambda: gradient(strat, x, steps, h, "reversible", "reversible_heun"), repeats)
    ees = least(lambda: gradient(strat, x, steps, h, "reversible", "ees25"), repeats)
    checkpoint = least(lambda: gradient(strat, x, steps, h, "checkpoint", "heun"), repeats)
    adjoint = least(lambda: torchsde_gradient(strat, x, steps, h, reversible=True), repeats)
    return [
        row(name, "ms forward, ours", 1e3 * ours),
        row(name, "ms forward", 1e3 * bare, peer="the networks alone"),
        row(name, "ms forward", 1e3 * hinted, peer="torchsde, hinted"),
        row(name, "ours / networks alone (1.3 at most)", ours / bare, peer="the networks alone"),
        row(name, "ms with gradient, backprop, ours", 1e3 * backprop),
        row(name, "ms with gradient, backprop", 1e3 * theirs, peer="torchsde, hinted"),
        row(name, "ms with gradient, reversible Heun, ours", 1e3 * back),
        row(name, "ms with gradient, reversible Heun", 1e3 * adjoint, peer="torchsde, hinted"),
        row(name, "torchsde reversible / ours (1.4 at least)", adjoint / back, peer="torchsde, hinted"),
        row(name, "ms with gradient, ees25 going back, ours", 1e3 * ees),
        row(name, "ms with gradient, Heun with checkpoints, ours", 1e3 * checkpoint),
    ]


def ordinary_cases(repeats: int) -> list[dict[str, Any]]:
    """Return rows of an ordinary equation against torchdiffeq."""
    if importlib.util.find_spec("torchdiffeq") is None:
        return [row("torchdiffeq", "not installed: pip install torchdiffeq", float("nan"))]
    from torchdiffeq import odeint

    network, x = Neural().f, torch.zeros(1024, 3)
    steps, times = 100, torch.linspace(0.0, 1.0, 101)

    def field(t: Tensor, z: Tensor) -> Tensor:
        return network(torch.cat([t.expand(len(z), 1), z], dim=1))

    process = ODE(field, 3)

    def theirs(method: str) -> None:
        with torch.no_grad():
            odeint(field, x, times if method == "rk4" else times[[0, -1]], method=method, rtol=1e-5, atol=1e-6)

    ours = least(lambda: gd.sample(process, x, [0.0, 1.0], solver="rk4", substeps=steps, save="final"), repeats)
    fixed = least(lambda: theirs("rk4"), repeats)
    adaptive = least(lambda: gd.sample(process, x, [0.0, 1.0], solver="dopri5"), repeats)
    adaptive_theirs = least(lambda: theirs("dopri5"), repeats)
    name = "one network, 1024 paths"
    return [
        row(name, "ms, rk4, 100 steps, ours", 1e3 * ours),
        row(name, "ms, rk4, 100 steps", 1e3 * fixed, peer="torchdiffeq"),
        row(name, "ms, dopri5, ours", 1e3 * adaptive),
        row(name, "ms, dopri5", 1e3 * adaptive_theirs, peer="torchdiffeq"),
    ]


def jump_cases(repeats: int) -> list[dict[str, Any]]:
    """Return rows of a jump process with six states and 47 events a path."""
    q = torch.full((6, 6), 4.7 / 5, dtype=torch.float64)
    q.fill_diagonal_(0.0)
    q -= torch.diag(q.sum(1))
    process, x0, times = RateMatrix(q), torch.zeros(4096, 1, dtype=torch.int64), torch.linspace(0, 10, 101)
    rows = []
    for solver in ("skeleton", "direct_method", "uniformisation", "thinning"):
        seconds = least(lambda solver=solver: gd.sample(process, x0, times, solver=solver), max(1, repeats // 3))
        rows.append(row(f"jumps, {solver}", "us a path (15 at most)", 1e6 * seconds / len(x0)))
    return rows


def growth(repeats: int) -> Figure:
    """Return a picture of the time of a step against batch, dimension, number of steps and width."""
    h = 0.01

    def step_time(process: Any, batch: int, steps: int) -> float:
        x = torch.zeros(batch, process.dim)
        run = {"solver": "euler_maruyama", "step": h, "save": "final"}
        return 1e6 * least(lambda: gd.sample(process, x, [0.0, steps * h], **run), repeats) / steps

    panels: list[tuple[str, list[int], Callable[[int], float], Callable[[int], float] | None]] = [
        ("paths", [64, 256, 1024, 4096, 16384], lambda n: step_time(Relaxation(3), n, 100),
         lambda n: 1e6 * least(lambda: hand_written(torch.zeros(n, 3), 100, h), repeats) / 100),
        ("features", [1, 4, 16, 64, 256], lambda d: step_time(Relaxation(d), 1024, 100),
         lambda d: 1e6 * least(lambda: hand_written(torch.zeros(1024, d), 100, h), repeats) / 100),
        ("steps", [10, 100, 1000], lambda s: step_time(Relaxation(3), 1024, s),
         lambda s: 1e6 * least(lambda: hand_written(torch.zeros(1024, 3), s, h), repeats) / s),
        ("width of the networks", [16, 64, 256], lambda w: step_time(Neural(w), 1024, 30),
         lambda w: 1e6 * least(lambda: bare_networks(Neural(w), torch.zeros(1024, 3), 30, h), repeats) / 30),
    ]  # fmt: skip
    with gd.plotting.style():
        figure = Figure(figsize=(12.0, 3.2), layout="constrained")
        for ax, (label, values, ours, peer) in zip(figure.subplots(1, 4), panels, strict=True):
            ax.loglog(values, [ours(v) for v in values], "o-", color="#d1495b", label="gendyn")
            if peer is not None:
                name = "networks alone" if "width" in label else "hand-written"
                ax.loglog(values, [peer(v) for v in values], "o--", color="#4a4a4a", label=name)
            ax.set_xlabel(label)
            ax.legend()
        figure.axes[0].set_ylabel("microseconds a step")
    return figure


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = options.parse_args()
    begin(arguments)
    warnings.simplefilter("ignore")
    repeats = 2 if arguments.quick else 5
    rows = linear_cases(repeats) + network_cases(repeats) + ordinary_cases(repeats) + jump_cases(repeats)
    if importlib.util.find_spec("diffrax") is None:
        rows.append(row("diffrax", "not installed: left out", float("nan")))
    show("the sampler's speed, one thread", rows)
    store(arguments.json, [entry for entry in rows if entry["value"] == entry["value"]])
    growth(1 if arguments.quick else 3).savefig(arguments.picture, dpi=140, metadata={"Software": None})
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
