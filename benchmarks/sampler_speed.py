"""How fast the sampler is: against hand-written loops, torchsde, torchdiffeq and diffrax.

    python benchmarks/sampler_speed.py

One process, one thread. All that is compared runs once in every round, one after the other, so that whatever else the
machine does meets all of them; time is the processor's, which waiting does not add to. A time is the least over the
rounds, a ratio the median of the rounds' own, with its quartiles. A picture shows how the time of a step grows with
batch, dimension, steps and width of the networks.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchsde
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
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


Calls = dict[str, Callable[[], Any]]
Times = dict[str, list[float]]


def in_rounds(calls: Calls, rounds: int) -> Times:
    """Return the processor's seconds of each call in each round, after a round that does not count."""
    found: Times = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if k:
                found[name].append(time.process_time() - began)
    return found


def times(name: str, what: str, scale: float, found: Times) -> list[dict[str, Any]]:
    """Return a row for each call: its least time."""
    return [
        row(name, what, scale * min(seconds), peer=None if call == "ours" else call) for call, seconds in found.items()
    ]


def ratio(name: str, metric: str, over: list[float], under: list[float], peer: str) -> dict[str, Any]:
    """Return a row with the median of a ratio over the rounds, and its quartiles."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return row(name, metric, middle, low=low, high=high, peer=peer)


def row_noise(x: Tensor, steps: int, scale: float) -> Iterator[Tensor]:
    """Yield increments in blocks of 32 steps, from a generator for each 256 rows, as the sampler draws them."""
    blocks = range(-(-len(x) // 256))
    generators = [torch.Generator().manual_seed(k) for k in blocks]
    tiles = [torch.empty(32, 256, x.shape[1]) for _ in blocks]
    for start in range(0, steps, 32):
        count = min(32, steps - start)
        for tile, generator in zip(tiles, generators, strict=True):
            tile.normal_(0.0, scale, generator=generator)
        yield torch.cat(tiles, dim=1)[:count, : len(x)]


def hand_written(process: Any, x: Tensor, steps: int, h: float) -> Tensor:
    """Return what a person would write for any process with diagonal noise, and with as few operations as there can be.

    The same work as the sampler's: drift and diffusion are called at every step, with the time, and every row has
    noise of its own.
    """
    starts = torch.arange(steps) * h
    with torch.no_grad():
        for noise, part in zip(row_noise(x, steps, h**0.5), starts.split(32), strict=True):
            for t, dw in zip(part.unbind(0), noise.unbind(0), strict=True):
                x = torch.addcmul(x, process.diffusion(t, x), dw).add_(process.drift(t, x), alpha=h)
    return x


def solved_by_hand(x: Tensor, steps: int, h: float) -> Tensor:
    """Return what a person would write for `Relaxation` alone: its numbers stand in noise and step, nothing is called.

    Less work than any sampler can do that does not know the equation; a floor.
    """
    with torch.no_grad():
        for noise in row_noise(x, steps, 0.5 * h**0.5):
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


def linear_cases(rounds: int) -> list[dict[str, Any]]:
    """Return rows of the cheapest process: what the loop itself costs."""
    steps, h = 1000, 0.001
    process, x = Relaxation(3), torch.zeros(1024, 3)
    run = {"solver": "euler_maruyama", "step": h, "save": "final"}
    loops: Calls = {
        "ours": lambda: gd.sample(process, x, [0.0, steps * h], **run),
        "hand-written": lambda: hand_written(process, x, steps, h),
        "solved by hand": lambda: solved_by_hand(x, steps, h),
    }
    found = in_rounds(loops, 4 * rounds)
    libraries: Calls = {
        "ours": loops["ours"],
        "torchsde, default": lambda: torchsde_run(process, x, steps, h, hint=False),
        "torchsde, hinted": lambda: torchsde_run(process, x, steps, h, hint=True),
    }
    if importlib.util.find_spec("diffrax") is not None:
        libraries["diffrax, compiled"] = diffrax_run(x, steps, h)
    slow = in_rounds(libraries, rounds)
    least = min(in_rounds({"call": lambda: gd.sample(process, torch.zeros(1, 3), [0.0, h], **run)}, 100)["call"])
    name = "OU, 1024 x 3, 1000 steps"
    return [
        *times(name, "us a step", 1e6 / steps, found | {k: v for k, v in slow.items() if k != "ours"}),
        ratio(name, "ours / hand-written (1.3 at most)", found["ours"], found["hand-written"], "hand-written"),
        ratio(name, "ours / solved by hand", found["ours"], found["solved by hand"], "solved by hand"),
        *(
            ratio(name, f"{peer} / ours{least_ratio}", slow[peer], slow["ours"], peer)
            for peer, least_ratio in (
                ("torchsde, default", " (12 at least)"),
                ("torchsde, hinted", " (5 at least)"),
                ("diffrax, compiled", ""),
            )
            if peer in slow
        ),
        row("one path, one step", "us a call (300 at most)", 1e6 * least),
    ]


def diffrax_run(x: Tensor, steps: int, h: float) -> Callable[[], Any]:
    """Return `Relaxation` in diffrax, with the cheapest of its Brownian paths; compiled when it is first called."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import diffrax
    import jax
    import lineax

    start = jax.numpy.asarray(x.numpy())

    @jax.jit
    def solve(key: Any) -> Any:
        noise = diffrax.UnsafeBrownianPath(start.shape, key)
        volatility = lineax.DiagonalLinearOperator(jax.numpy.full(start.shape, 0.5))
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: -y), diffrax.ControlTerm(lambda t, y, args: volatility, noise)
        )
        adjoint = diffrax.DirectAdjoint()
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, steps * h, h, start, max_steps=steps + 1, adjoint=adjoint
        ).ys

    return lambda: solve(jax.random.PRNGKey(0)).block_until_ready()


def network_cases(rounds: int) -> list[dict[str, Any]]:
    """Return rows of two networks: forward, and with gradients."""
    steps, h, x = 100, 0.01, torch.zeros(1024, 3)
    ito, strat = Neural(), Neural(calculus="stratonovich")
    run = {"solver": "euler_maruyama", "step": h, "save": "final"}
    name = "two networks 4-64-64-3, 1024 paths, 100 steps"
    forward = in_rounds(
        {
            "ours": lambda: gd.sample(ito, x, [0.0, steps * h], **run),
            "the networks alone": lambda: bare_networks(ito, x, steps, h),
            "torchsde, hinted": lambda: torchsde_run(ito, x, steps, h, hint=True),
        },
        rounds,
    )
    backprop = in_rounds(
        {
            "ours": lambda: gradient(ito, x, steps, h, "backprop", "euler_maruyama"),
            "torchsde, hinted": lambda: torchsde_gradient(ito, x, steps, h, reversible=False),
        },
        rounds,
    )
    reversible = in_rounds(
        {
            "ours": lambda: gradient(strat, x, steps, h, "reversible", "reversible_heun"),
            "torchsde, hinted": lambda: torchsde_gradient(strat, x, steps, h, reversible=True),
        },
        rounds,
    )
    others = in_rounds(
        {
            "ees25 going back": lambda: gradient(strat, x, steps, h, "reversible", "ees25"),
            "Heun with checkpoints": lambda: gradient(strat, x, steps, h, "checkpoint", "heun"),
        },
        rounds,
    )
    alone, theirs = "the networks alone", "torchsde, hinted"
    return [
        *times(name, "ms forward", 1e3, forward),
        ratio(name, "ours / networks alone (1.3 at most)", forward["ours"], forward[alone], alone),
        *times(name, "ms with gradient, backprop", 1e3, backprop),
        *times(name, "ms with gradient, reversible Heun", 1e3, reversible),
        ratio(name, "torchsde reversible / ours (1.4 at least)", reversible[theirs], reversible["ours"], theirs),
        *(row(name, f"ms with gradient, {how}", 1e3 * min(seconds)) for how, seconds in others.items()),
    ]


def ordinary_cases(rounds: int) -> list[dict[str, Any]]:
    """Return rows of an ordinary equation against torchdiffeq."""
    if importlib.util.find_spec("torchdiffeq") is None:
        return []
    from torchdiffeq import odeint

    network, x = Neural().f, torch.zeros(1024, 3)
    steps, grid = 100, torch.linspace(0.0, 1.0, 101)

    def field(t: Tensor, z: Tensor) -> Tensor:
        return network(torch.cat([t.expand(len(z), 1), z], dim=1))

    process = ODE(field, 3)

    def theirs(method: str) -> None:
        with torch.no_grad():
            odeint(field, x, grid if method == "rk4" else grid[[0, -1]], method=method, rtol=1e-5, atol=1e-6)

    fixed = in_rounds(
        {
            "ours": lambda: gd.sample(process, x, grid, solver="rk4", substeps=1),
            "torchdiffeq": lambda: theirs("rk4"),
        },
        rounds,
    )
    adaptive = in_rounds(
        {
            "ours": lambda: gd.sample(process, x, [0.0, 1.0], solver="dopri5"),
            "torchdiffeq": lambda: theirs("dopri5"),
        },
        rounds,
    )
    name = "one network, 1024 paths"
    return [
        *times(name, f"ms, rk4, {steps} steps", 1e3, fixed),
        *times(name, "ms, dopri5, to 1e-5", 1e3, adaptive),
        ratio(name, "torchdiffeq / ours, rk4", fixed["torchdiffeq"], fixed["ours"], "torchdiffeq"),
        ratio(name, "torchdiffeq / ours, dopri5", adaptive["torchdiffeq"], adaptive["ours"], "torchdiffeq"),
    ]


def jump_cases(rounds: int) -> list[dict[str, Any]]:
    """Return rows of a jump process with six states and 47 events a path."""
    q = torch.full((6, 6), 4.7 / 5, dtype=torch.float64)
    q.fill_diagonal_(0.0)
    q -= torch.diag(q.sum(1))
    process, x0, grid = RateMatrix(q), torch.zeros(4096, 1, dtype=torch.int64), torch.linspace(0, 10, 101)
    solvers = ("skeleton", "direct_method", "uniformisation", "thinning")
    found = in_rounds({s: lambda s=s: gd.sample(process, x0, grid, solver=s) for s in solvers}, max(1, rounds // 3))
    return [row(f"jumps, {s}", "us a path (15 at most)", 1e6 * min(t) / len(x0)) for s, t in found.items()]


def growth(rounds: int) -> Figure:
    """Return a picture of the time of a step against batch, dimension, number of steps and width."""
    h = 0.01

    def cheap(batch: int, dim: int, steps: int) -> tuple[int, Calls]:
        process, x = Relaxation(dim), torch.zeros(batch, dim)
        run = {"solver": "euler_maruyama", "step": h, "save": "final"}
        return steps, {
            "gendyn": lambda: gd.sample(process, x, [0.0, steps * h], **run),
            "hand-written loop": lambda: hand_written(process, x, steps, h),
            "torchsde, hinted": lambda: torchsde_run(process, x, steps, h, hint=True),
        }

    def networks(width: int) -> tuple[int, Calls]:
        process, x, steps = Neural(width), torch.zeros(1024, 3), 30
        run = {"solver": "euler_maruyama", "step": h, "save": "final"}
        return steps, {
            "gendyn": lambda: gd.sample(process, x, [0.0, steps * h], **run),
            "networks alone": lambda: bare_networks(process, x, steps, h),
            "torchsde, hinted": lambda: torchsde_run(process, x, steps, h, hint=True),
        }

    panels: list[tuple[str, list[int], Callable[[int], tuple[int, Calls]]]] = [
        ("paths (3 features)", [64, 256, 1024, 4096, 16384], lambda n: cheap(n, 3, 100)),
        ("features (1024 paths)", [1, 4, 16, 64, 256], lambda d: cheap(1024, d, 100)),
        ("steps (1024 x 3)", [10, 100, 1000], lambda s: cheap(1024, 3, s)),
        ("width of two networks (1024 x 3)", [16, 32, 64, 128, 256], networks),
    ]
    looks = {
        "gendyn": ("#d1495b", "o-"),
        "hand-written loop": ("#4a4a4a", "s--"),
        "networks alone": ("#4a4a4a", "^:"),
        "torchsde, hinted": ("#00798c", "D-"),
    }
    with gd.plotting.style():
        figure = Figure(figsize=(12.0, 3.6), layout="constrained")
        lines = {}
        for ax, (label, values, case) in zip(figure.subplots(1, 4), panels, strict=True):
            found: dict[str, list[float]] = {}
            for value in values:
                steps, calls = case(value)
                for name, seconds in in_rounds(calls, rounds).items():
                    found.setdefault(name, []).append(1e6 * min(seconds) / steps)
            for name, costs in found.items():
                colour, mark = looks[name]
                lines[name] = ax.loglog(values, costs, mark, color=colour, ms=4, lw=1.3)[0]
            ax.set_xticks(values, [str(v) for v in values])
            ax.xaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel(label)
        figure.axes[0].set_ylabel("microseconds a step")
        figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=len(lines))
    return figure


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = options.parse_args()
    begin(arguments)
    warnings.simplefilter("ignore")
    rounds = 2 if arguments.quick else 9
    rows = linear_cases(rounds) + network_cases(rounds) + ordinary_cases(rounds) + jump_cases(rounds)
    for peer in ("torchdiffeq", "diffrax"):
        if importlib.util.find_spec(peer) is None:
            rows.append(row(peer, "missing: not installed", None))
    show("the sampler's speed, one thread", rows)
    store(arguments.json, rows)
    growth(1 if arguments.quick else 5).savefig(arguments.picture, dpi=140, metadata={"Software": None})
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
