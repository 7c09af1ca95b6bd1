"""How fast fractional paths are: exact, by the Markov approximation, and by the peers where they are installed.

    python benchmarks/fractional_speed.py

Seconds of the processor for one path of 1024 steps, least of some rounds; all in one run, one thread. Ratios are to
ours, exact and in a batch. The packages `fbm` and `stochastic` run where they are installed. Beside them stand the
algorithms as they are usually written, our own transcriptions, one path at a time: the circulant embedding of Davies
and Harte with a complex transform, its spectrum filled in a loop over frequencies (as in `fbm`) or by NumPy arrays (as
in `stochastic`); the same by a real transform, which is half the work; and Hosking's recursion in a loop over values.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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


def autocovariance(count: int) -> NDArray[np.float64]:
    """Return the autocovariance of the noise at unit steps at the lags 0 to ``count``."""
    k, h = np.arange(count + 1.0), 2 * HURST
    return np.asarray(0.5 * ((k + 1) ** h - 2 * k**h + np.abs(k - 1) ** h))


def looped(draw: np.random.Generator) -> NDArray[np.float64]:
    """Return one path by Davies and Harte, its spectrum filled in a loop."""
    n, rho = STEPS, autocovariance(STEPS)
    row = [float(v) for v in rho[:n]] + [0.0] + [float(v) for v in rho[n - 1 : 0 : -1]]
    eigenvalues = np.fft.fft(row).real.clip(0)
    one, other = draw.normal(size=n), draw.normal(size=n)
    w = np.zeros(2 * n, dtype=complex)
    for i in range(2 * n):
        if i == 0:
            w[i] = np.sqrt(eigenvalues[i] / (2 * n)) * one[i]
        elif i < n:
            w[i] = np.sqrt(eigenvalues[i] / (4 * n)) * (one[i] + 1j * other[i])
        elif i == n:
            w[i] = np.sqrt(eigenvalues[i] / (2 * n)) * other[0]
        else:
            w[i] = np.sqrt(eigenvalues[i] / (4 * n)) * (one[2 * n - i] - 1j * other[2 * n - i])
    return np.asarray(np.fft.fft(w)[:n].real.cumsum() * n**-HURST)


def complex_arrays(scale: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    """Return one path by Davies and Harte, by arrays and a complex transform."""
    n = STEPS
    one, other = draw.normal(size=n + 1), draw.normal(size=n + 1)
    half = scale * (one + 1j * other)
    half[0], half[-1] = scale[0] * np.sqrt(2) * one[0], scale[-1] * np.sqrt(2) * one[-1]
    whole = np.concatenate([half, np.conj(half[-2:0:-1])])
    return np.asarray((np.fft.fft(whole)[:n].real / (2 * n)).cumsum() * n**-HURST)


def arrays(scale: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    """Return one path by Davies and Harte, by arrays and a real transform."""
    n = STEPS
    one, other = draw.normal(size=n + 1), draw.normal(size=n + 1)
    half = scale * (one + 1j * other)
    half[0], half[-1] = scale[0] * np.sqrt(2) * one[0], scale[-1] * np.sqrt(2) * one[-1]
    return np.asarray(np.fft.irfft(half, 2 * n)[:n].cumsum() * n**-HURST)


def hosking(draw: np.random.Generator) -> NDArray[np.float64]:
    """Return one path by Hosking's recursion, in a loop over values."""
    rho, noise = autocovariance(STEPS), draw.normal(size=STEPS)
    phi, path, variance = np.zeros(0), np.zeros(STEPS), 1.0
    path[0] = noise[0]
    for k in range(1, STEPS):
        last = (rho[k] - phi @ rho[k - 1 : 0 : -1]) / variance
        phi = np.append(phi - last * phi[::-1], last)
        variance *= 1 - last**2
        path[k] = phi @ path[k - 1 :: -1] + np.sqrt(variance) * noise[k]
    return np.asarray(path.cumsum() * STEPS**-HURST)


def transcriptions() -> dict[str, Callable[[], Any]]:
    """Return a call that draws one path for each of the usual algorithms."""
    draw = np.random.default_rng(0)
    rho = autocovariance(STEPS)
    eigenvalues = np.fft.rfft(np.concatenate([rho, rho[-2:0:-1]])).real.clip(0)
    scale = np.sqrt(eigenvalues * STEPS)
    return {
        "Davies and Harte, in a loop": lambda: looped(draw),
        "Davies and Harte, by arrays": lambda: complex_arrays(scale, draw),
        "Davies and Harte, real transform": lambda: arrays(scale, draw),
        "Hosking, in a loop": lambda: hosking(draw),
    }


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


def installed(name: str) -> str:
    """Return a package and its version."""
    return f"{name} {importlib.metadata.version(name)}"


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(threads=1)
    given = options.parse_args()
    begin(given)
    rounds, n = (2, 200) if given.quick else (15, 2000)
    times = torch.linspace(0.0, 1.0, STEPS + 1, dtype=torch.float64)
    exact = seconds(lambda: sample_fractional_brownian_motion(HURST, times, n), rounds) / n
    cholesky = seconds(lambda: sample_fractional_brownian_motion(HURST, times, n, kind="II"), 2) / n
    rows = [
        row("exact, circulant", "seconds for a path", exact, seconds=exact * n),
        row("exact, Cholesky (kind II)", "seconds for a path", cholesky, peer=cholesky / exact, seconds=cholesky * n),
    ]
    for name, own in transcriptions().items():
        alone = seconds(own, 50)
        rows.append(row(name, "seconds for a path", alone, peer=alone / exact))
    for name, call in peers().items():
        if call is None:
            print(f"The package {name} is not installed: install it to have it in the same table.")
            rows.append(row(f"{name} (not installed)", "seconds for a path", None))
            continue
        alone = seconds(call, 100)
        rows.append(row(installed(name), "seconds for a path", alone, peer=alone / exact))
    noise = MarkovApproximation(HURST, horizon=1.0)
    thousand = torch.linspace(0.0, 1.0, 1001, dtype=torch.float64)
    spent = seconds(lambda: sample_markov_approximation(noise, thousand, n), rounds)
    rows.append(row(f"Markov approximation, K = 7, {n} paths of 1000 steps", "seconds", spent, seconds=spent))
    show("Fractional paths, H = 0.3", rows)
    store(given.json, rows)


if __name__ == "__main__":
    main()
