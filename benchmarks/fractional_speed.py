"""How fast fractional paths are: exact, by the Markov approximation, and by the peers where they are installed.

    python benchmarks/fractional_speed.py

Seconds of the processor for one path of 1024 steps, least of some
rounds; all in one run, one thread. Ratios are to ours, exact and in a batch.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable
from typing import Any

import torch
from table import begin, parser, row, show, store

from gendyn.sampling import MarkovApproximation, sample_fractional_brownian_motion, sample_markov_approximation

HURST, STEPS = 0.3, 1024


def seconds(call: Callable[[], Any], rounds: int) -> float:
    """Return the least processor time of a call."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def peers() -> dict[str, Callable[[], Any] | None]:
    """Return a call that draws one path for each peer; ``None`` where it is not installed."""
    calls: dict[str, Callable[[], Any] | None] = {"fbm": None, "stochastic": None}
    with contextlib.suppress(ImportError):
        calls["fbm"] = importlib.import_module("fbm").FBM(n=STEPS, hurst=HURST, length=1, method="daviesharte").fbm
    with contextlib.suppress(ImportError):
        continuous = importlib.import_module("stochastic.processes.continuous")
        process = continuous.FractionalBrownianMotion(hurst=HURST, t=1)
        calls["stochastic"] = lambda: process.sample(STEPS)
    return calls


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(threads=1)
    given = options.parse_args()
    begin(given)
    rounds, n = (2, 200) if given.quick else (5, 2000)
    times = torch.linspace(0.0, 1.0, STEPS + 1, dtype=torch.float64)
    exact = seconds(lambda: sample_fractional_brownian_motion(HURST, times, n), rounds) / n
    cholesky = seconds(lambda: sample_fractional_brownian_motion(HURST, times, n, kind="II"), 2) / n
    rows = [
        row("exact, circulant", "seconds for a path", exact, seconds=exact * n),
        row("exact, Cholesky (kind II)", "seconds for a path", cholesky, peer=cholesky / exact, seconds=cholesky * n),
    ]
    for name, call in peers().items():
        if call is None:
            rows.append(row(f"{name} (not installed)", "seconds for a path", None))
            continue
        alone = seconds(call, 20)
        rows.append(row(name, "seconds for a path", alone, peer=alone / exact))
    noise = MarkovApproximation(HURST, horizon=1.0)
    thousand = torch.linspace(0.0, 1.0, 1001, dtype=torch.float64)
    spent = seconds(lambda: sample_markov_approximation(noise, thousand, n), rounds)
    rows.append(row(f"Markov approximation, K = 7, {n} paths of 1000 steps", "seconds", spent, seconds=spent))
    show("Fractional paths, H = 0.3", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
