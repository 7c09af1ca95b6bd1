"""How fast flow matching is: against torchcfm, in one run and on one thread, at the quality that is printed beside it.

    python benchmarks/flow_matching_speed.py

Eight Gaussians to moons, networks of 3 x 64, batches of 256. A step of ours is a whole fit (plans of all blocks, start,
averages) over its number of steps; rounds of ours and of torchcfm take turns, and the least of each counts. torchcfm
is given its points in one piece (its own functions draw them in a Python loop, which is slower); it has SELU as in its
tutorials, ours the package's SiLU, and a row with SELU says what that alone does to sampling.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import torch
from planar import distance, eight_gaussians, floor, flow, moons, path_energy, populations
from table import begin, parser, row, show, store
from torch import Tensor
from torchcfm_peer import INSTALLED, MISSING, Trainer

import gendyn as gd
from gendyn.sampling import flow_log_prob

POINTS, SAMPLED, STEPS = 20_000, 1024, 100
SETTINGS: dict[str, Any] = {"hidden": (64, 64, 64), "batch_size": 256, "scale": "none", "lr": 5e-3, "block": 256}


def least(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the least seconds of the processor for every call; they take turns, on one thread."""
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            seconds[name] = min(seconds[name], time.process_time() - began)
    return seconds


def quality(field: Callable[[Tensor, Tensor], Tensor], seed: int) -> tuple[float, float]:
    """Return W2 and normalised path energy error of 2000 fresh points, mean of two draws."""
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    source, found = eight_gaussians(), []
    for _ in range(2):
        x, y = source(2000, generator), moons(2000, generator)
        points, cost = flow(field, x), distance(x, y) ** 2
        found.append((distance(points[-1], y), abs(path_energy(points) - cost) / cost))
    first, second = zip(*found, strict=True)
    return sum(first) / 2, sum(second) / 2


def training_cases(method: str, coupling: str, target: str, steps: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of a method's step and of what it learned."""
    data = populations(eight_gaussians(), moons, POINTS, seed)
    model = gd.FlowMatching(coupling, steps=steps, **SETTINGS)
    calls: dict[str, Callable[[], Any]] = {"ours": lambda: model.fit(data, seed=seed, progress=False)}
    peer = Trainer(method, eight_gaussians(), moons, seed=seed) if INSTALLED else None
    if peer is not None:
        calls["torchcfm"] = lambda: peer.train(steps // rounds)
    seconds = least(calls, rounds)
    ours = 1e3 * seconds["ours"] / steps
    title = f"{method}, {steps} steps"
    w2, npe = quality(model.process_.drift, seed)
    rows = [
        row(title, "ms a step, ours", ours, seconds=seconds["ours"]),
        row(title, "W2, ours", w2),
        row(title, "path energy error, ours", npe),
    ]
    if peer is None:
        return [*rows, row(title, MISSING, float("nan"), peer="torchcfm")]
    theirs = 1e3 * seconds["torchcfm"] / (steps // rounds)
    w2, npe = quality(peer.velocity, seed)
    return [
        *rows,
        row(title, "ms a step", theirs, peer="torchcfm"),
        row(title, "W2", w2, peer="torchcfm"),
        row(title, "path energy error", npe, peer="torchcfm"),
        row(title, f"torchcfm / ours ({target})", theirs / ours, peer="torchcfm"),
    ]


def sampling_cases(rounds: int, seed: int) -> list[dict[str, Any]]:
    """Return rows of 100 steps of Euler's method for 1024 points, all of them kept, and of a likelihood."""
    data = populations(eight_gaussians(), moons, 2000, seed)
    x = data.samples[0][:SAMPLED]
    times = torch.linspace(0.0, 1.0, STEPS + 1, dtype=torch.float64)
    ours = {
        name: gd.FlowMatching("independent", steps=200, activation=name, **SETTINGS).fit(
            data, seed=seed, progress=False
        )
        for name in ("silu", "selu")
    }
    calls: dict[str, Callable[[], Any]] = {
        f"ours, {name}": lambda m=model: m.sample(x, times, solver="euler", substeps=1) for name, model in ours.items()
    }
    peer = Trainer("icfm", eight_gaussians(), moons, seed=seed) if INSTALLED else None
    if peer is not None:
        calls["torchcfm, loop"] = lambda: peer.loop(x, STEPS)
        calls |= _integrators(peer, x)
    seconds = least(calls, 3 * rounds)
    title = f"{STEPS} Euler steps, {SAMPLED} points, all kept"
    rows = [row(title, "ms", 1e3 * value, peer=name) for name, value in seconds.items()]
    mine = seconds["ours, silu"]
    rows += [
        row(title, f"{name} / ours (1.3 at least, against its own integrator)", seconds[name] / mine, peer=name)
        for name in seconds
        if not name.startswith("ours")
    ]
    if peer is None:
        rows.append(row(title, MISSING, float("nan"), peer="torchcfm"))

    def density(z: Tensor) -> Tensor:
        return torch.distributions.Normal(0.0, 3.6).log_prob(z).sum(1)

    def likelihood() -> Tensor:
        return flow_log_prob(ours["silu"].process_, data.samples[1], [0.0, 1.0], density, solver="rk4", step=1 / STEPS)

    taken = least({"ours": likelihood}, 2)["ours"]
    rows.append(row("likelihood, 2000 points, rk4, 100 steps, exact divergence", "seconds (6 at most), ours", taken))
    return rows


def _integrators(peer: Trainer, x: Tensor) -> dict[str, Callable[[], Any]]:
    """Return what torchcfm's tutorials integrate with, as far as it is installed."""
    found: dict[str, Callable[[], Any]] = {}
    times = torch.linspace(0.0, 1.0, STEPS + 1)
    if importlib.util.find_spec("torchdiffeq") is not None:
        from torchdiffeq import odeint

        def integrate() -> None:
            with torch.no_grad():
                odeint(peer.velocity, x, times, method="euler")

        found["torchcfm, torchdiffeq"] = integrate
    if importlib.util.find_spec("torchdyn") is not None:
        try:
            from torchcfm.utils import torch_wrapper
            from torchdyn.core import NeuralODE
        except (ImportError, RuntimeError) as error:
            # What it stands on may have been built for another torch.
            print(f"torchdyn is installed, but cannot be imported: {error}", flush=True)
            return found

        node = NeuralODE(torch_wrapper(peer.flow), solver="euler", sensitivity="adjoint")

        def trajectory() -> None:
            with torch.no_grad():
                node.trajectory(x, t_span=times)

        found["torchcfm, torchdyn"] = trajectory
    return found


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    begin(arguments)
    steps, rounds = (1000, 2) if arguments.quick else (5000, 5)
    rows = training_cases("otcfm", "ot", "3 at least", steps, rounds, arguments.seed)
    rows += training_cases("icfm", "independent", "1 at least", steps, rounds, arguments.seed)
    rows += sampling_cases(rounds, arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    rows.append(row("floor", "W2 of two samples of 2000", floor(moons, 2000, generator)))
    show("flow matching's speed, one thread", rows)
    store(arguments.json, [entry for entry in rows if entry["value"] == entry["value"]])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
