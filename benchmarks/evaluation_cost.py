"""What the metrics cost, each against its usual implementation in the same run, and whether the two agree.

    python benchmarks/evaluation_cost.py

One process, one thread. The two sides are called in turn, and the least of several rounds counts; what is read are the
ratios. The difference of their values stands beside them. A picture shows how the time grows with the size.
"""

from __future__ import annotations

import importlib.util
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from peers import CASES, Array, Case, walks
from table import begin, parser, row, show, store
from torch import Tensor, nn

import gendyn as gd
from gendyn.evaluation.judges import VARIANTS, Division, Evidence, divide, evidence, network_accuracies
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.recurrent import RecurrentBank

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "evaluation_cost.png"


def in_turn(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """Return the least seconds of both over some rounds, and the largest difference of their values."""
    gap = float(np.abs(np.asarray(ours(), dtype=np.float64) - np.asarray(theirs(), dtype=np.float64)).max())
    least = [math.inf, math.inf]
    for _ in range(rounds):
        for k, call in enumerate((ours, theirs)):
            began = time.perf_counter()
            call()
            least[k] = min(least[k], time.perf_counter() - began)
    return least[0], least[1], gap


def rows_of(case: Case, size: int, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of one metric."""
    name = f"{case.name}, {size:,} {case.axis}"
    if case.package is not None and importlib.util.find_spec(case.package) is None:
        return [row(name, f"not installed: pip install {case.package}", float("nan"), peer=case.peer)]
    ours, theirs, gap = in_turn(*case.make(size), rounds)
    return [
        row(name, "ms, ours", 1e3 * ours),
        row(name, f"theirs / ours{f' ({case.goal})' if case.goal else ''}", theirs / ours, peer=case.peer),
        row(name, "largest difference", gap, peer=case.peer),
    ]


class Single(nn.Module):
    """One judge as one writes it: ``torch.nn.GRU`` and a read-out of its last state."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(n,)``."""
        return self.readout(self.gru(x)[1][-1])[:, 0]


def single_judge(shown: Evidence, division: Division, iterations: int, seed: int) -> float:
    """Train one judge as published code does, and return its accuracy."""
    rows = shown.rows()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Single(rows.shape[2], VARIANTS["timegan"].units(rows.shape[2]))
    optimiser = torch.optim.Adam(judge.parameters())
    pools = [torch.from_numpy(pool) for pool in division.learn]
    target = torch.cat([torch.ones(128), torch.zeros(128)])
    for _ in range(iterations):
        drawn = [pool[torch.randint(len(pool), (128,), generator=generator)] for pool in pools]
        loss = nn.functional.binary_cross_entropy_with_logits(judge(rows[torch.cat(drawn)]), target)
        optimiser.zero_grad()
        (2 * loss).backward()
        optimiser.step()
    with torch.no_grad():
        said = judge(rows[torch.from_numpy(division.ask)]) > 0
    return float((said.numpy() == shown.real[division.ask]).mean())


def judge_rows(iterations: int, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of the discriminative score: ten judges as one, and one after the other."""
    x, y = walks(1000)
    shown = evidence(*path_sets(x, y, metric="discriminative score"), np.random.default_rng(0))
    divisions = divide(shown, "random", 10, np.random.default_rng(0))
    found: list[Array] = []

    def together() -> float:
        found.append(network_accuracies(shown, divisions, VARIANTS["timegan"], 0, iterations))
        return float(found[-1].mean())

    def apart() -> float:
        found.append(np.array([single_judge(shown, part, iterations, k) for k, part in enumerate(divisions)]))
        return float(found[-1].mean())

    ours, theirs, gap = in_turn(together, apart, rounds)
    error = float(np.sqrt(sum(part.var(ddof=1) / 10 for part in found[:2])))
    name, peer = "ten recurrent judges, 1,000 paths a side of 24 x 6", "torch.nn.GRU, ten single runs"
    return [
        row(name, "ms an iteration, ours", 1e3 * ours / iterations),
        row(name, "theirs / ours (3 at least)", theirs / ours, peer=peer),
        row(name, "difference of mean accuracy, in standard errors", gap / error if error else gap, peer=peer),
        row(name, "largest difference of states and gradients, equal weights", same_network(), peer=peer),
    ]


def same_network() -> float:
    """Return how far states and gradients of the bank are from those of torch's networks with the same weights."""
    dim, hidden, batch, worst = 6, 3, 16, 0.0
    bank = RecurrentBank(2, dim, hidden, 1).double()
    x = torch.randn(24, 2, dim, batch, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    states = bank.states(x)
    states.square().sum().backward()
    (weight,) = bank.weights
    for k in range(2):
        gru = nn.GRU(dim, hidden).double()
        r, z, n, q = weight.detach()[k].view(4, hidden, -1).unbind(0)
        with torch.no_grad():
            gru.weight_ih_l0.copy_(torch.cat([part[:, :dim] for part in (r, z, n)]))
            gru.weight_hh_l0.copy_(torch.cat([part[:, dim:-1] for part in (r, z, q)]))
            gru.bias_ih_l0.copy_(torch.cat([part[:, -1] for part in (r, z, n)]))
            gru.bias_hh_l0.copy_(torch.cat([torch.zeros(2 * hidden), q[:, -1]]))
        theirs = gru(x[:, k].transpose(1, 2))[0]
        theirs.square().sum().backward()
        gradient = weight.grad[k].view(4, hidden, -1)
        ours = torch.cat([gradient[part][:, :dim] for part in (0, 1, 2)])
        gap = (states[:, k].transpose(1, 2) - theirs).abs().max(), (ours - gru.weight_ih_l0.grad).abs().max()
        worst = max(worst, *(float(v) for v in gap))
    return worst


def growth(quick: bool) -> Figure:
    """Return a picture of the time of every metric against its size."""
    shown = [case for case in CASES if case.sizes]
    with gd.plotting.style():
        figure = Figure(figsize=(12.5, 9.0), layout="constrained")
        axes = figure.subplots(4, 4).ravel()
        for ax, case in zip(axes, shown, strict=False):
            sizes = case.sizes[:-1] if quick else case.sizes
            there = case.package is None or importlib.util.find_spec(case.package) is not None
            curves: list[list[float]] = [[], []]
            for size in sizes:
                ours, theirs = case.make(size)
                seconds = in_turn(ours, theirs if there else ours, 2)
                for curve, value in zip(curves, seconds, strict=False):
                    curve.append(1e3 * value)
            ax.loglog(sizes, curves[0], "o-", color="#d1495b", label="gendyn")
            if there:
                ax.loglog(sizes, curves[1], "o--", color="#4a4a4a", label=case.peer)
            ax.set_title(case.name)
            ax.set_xlabel(case.axis)
            ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
            ax.xaxis.minorticks_off()
            ax.set_ylim(min(map(min, curves[: 1 + there])) / 2, 60 * max(map(max, curves[: 1 + there])))
            ax.legend(loc="upper left")
        for ax in axes[len(shown) :]:
            ax.remove()
        for ax in axes[::4]:
            ax.set_ylabel("milliseconds")
    return figure


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--picture", type=Path, default=PICTURE, help="where the picture goes")
    arguments = options.parse_args()
    begin(arguments)
    warnings.simplefilter("ignore")
    rounds = 2 if arguments.quick else 5
    rows = judge_rows(20 if arguments.quick else 100, rounds)
    for case in CASES:
        rows += rows_of(case, max(case.size // 10, 10) if arguments.quick else case.size, rounds)
    show("metrics against their usual implementations, one thread", rows)
    store(arguments.json, [entry for entry in rows if entry["value"] == entry["value"]])
    growth(arguments.quick).savefig(arguments.picture, dpi=140, metadata={"Software": None})
    print(f"picture: {arguments.picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
