"""The interpolant of least action beside the Schroedinger bridge between Gaussians, which is known.

    python benchmarks/least_action.py

Between N(-1, 1/4) and N(2, 1) with independent ends, straight lines and the noise sqrt(a t(1-t)): the bridge of
sqrt(2 epsilon) W has a = sqrt(4 v0 v1 + 4 epsilon^2), and costs a known action; with epsilon 0 it is optimal transport.
``one number`` learns a alone; ``bent`` a network for the mean besides, which gains nothing on a line. In the plane a
wide and a narrow axis want numbers of their own, and only bent paths reach the bridge. Errors are relative; those of
the variance half-way are of 10,000 paths of the diffusion. The peer is the bridge from the entropic plan of the same
points ([SF]2M, Sinkhorn), which needs a plan; the baseline is the interpolant with a = 1 (in the plane, with the best
single number), without learning. Zero is the floor. Every seed has its row.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from table import begin, parser, row, show, store
from torch import Tensor

import gendyn as gd

EPSILONS = (0.0, 0.5, 2.0)
LEARN: dict[str, Any] = {"scale": "none", "hidden": (48, 48), "batch_size": 512, "lr": 5e-3}
VARIANCES = (1.0, 0.09)
"""Of the two axes in the plane."""

PLANE_EPSILON = 0.1
"""Of the bridge in the plane."""


def amplitude(v0: float, v1: float, epsilon: float) -> float:
    """Return a of the bridge."""
    return math.sqrt(4 * v0 * v1 + 4 * epsilon**2)


def action(a: float, epsilon: float, v0: float, v1: float, distance: float) -> float:
    """Return half the mean square drift of the diffusion of a Gaussian interpolant with independent ends."""
    t = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    variance = (1 - t) ** 2 * v0 + t**2 * v1 + a * t * (1 - t)
    half_rate = -(1 - t) * v0 + t * v1 + a * (1 - 2 * t) / 2
    return 0.5 * (distance**2 + float(((half_rate - epsilon).square() / variance).mean()))


def line(n: int, seed: int) -> gd.Snapshots:
    """Return quantiles of both laws in random order: no error of sampling in the moments."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()[:, None]
    first, second = (z[torch.randperm(n, generator=generator)] for _ in range(2))
    return gd.Snapshots([0.0, 1.0], [-1 + 0.5 * first, 2 + second])


def plane(n: int, seed: int) -> gd.Snapshots:
    """Return two populations with a wide and a narrow axis, of exact means and variances."""
    z = torch.randn(2, n, 2, generator=torch.Generator().manual_seed(seed))
    z = (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)
    spread = torch.tensor(VARIANCES).sqrt()
    return gd.Snapshots([0.0, 1.0], [z[0] * spread, z[1] * spread + 1.0])


def middle_error(model: Any, start: Tensor, wanted: list[float], epsilon: float, seed: int) -> float:
    """Return the largest relative error of the variances half-way."""
    made = model.sample(start, [0.0, 0.5, 1.0], n=10_000, epsilon=epsilon, margin=0.0, step=0.005, seed=seed).values
    return max(abs(float(made[:, 1, k].var()) / v - 1) for k, v in enumerate(wanted))


def line_rows(steps: int, seeds: int) -> list[dict[str, Any]]:
    """Return rows between Gaussians on a line."""
    rows = []
    for epsilon in EPSILONS:
        best = amplitude(0.25, 1.0, epsilon)
        least = action(best, epsilon, 0.25, 1.0, 3.0)
        middle = [0.3125 + 0.25 * best]
        title = f"line, epsilon {epsilon:g}"
        for seed in range(seeds):
            data, start = line(800, seed), line(2000, seed + 50).samples[0]
            for bend in (False, True):
                began = time.process_time()
                model = gd.OptimalInterpolant(epsilon, bend=bend, steps=steps, **LEARN)
                model.fit(data, seed=seed, progress=False)
                seconds = time.process_time() - began
                name = f"{title}: {'bent' if bend else 'one number'}, seed {seed}"
                if not bend:
                    rows.append(row(name, "amplitude", abs(float(model.amplitude_[0]) / best - 1), seconds=seconds))
                rows.append(row(name, "action", abs(model.action_ / least - 1), seconds=seconds))
                rows.append(row(name, "variance half-way", middle_error(model, start, middle, epsilon, seed)))
            if epsilon > 0:
                rows.append(peer(f"{title}: [SF]2M, Sinkhorn, seed {seed}", data, start, middle, epsilon, steps, seed))
        rows.append(row(f"{title}: a = 1", "amplitude", abs(1 / best - 1), peer="baseline"))
        plain = action(1.0, epsilon, 0.25, 1.0, 3.0)
        rows.append(row(f"{title}: a = 1", "action", abs(plain / least - 1), peer="baseline"))
        rows.append(row(f"{title}: a = 1", "variance half-way", abs(0.5625 / middle[0] - 1), peer="baseline"))
    return rows


def plane_rows(steps: int, seeds: int) -> list[dict[str, Any]]:
    """Return rows in the plane."""
    epsilon, title = PLANE_EPSILON, f"plane, epsilon {PLANE_EPSILON:g}"
    least = sum(action(amplitude(v, v, epsilon), epsilon, v, v, 1.0) for v in VARIANCES)
    middle = [0.5 * v + 0.25 * amplitude(v, v, epsilon) for v in VARIANCES]
    rows = []
    for seed in range(seeds):
        data, start = plane(1500, seed), plane(2000, seed + 50).samples[0]
        began = time.process_time()
        model = gd.OptimalInterpolant(epsilon, steps=steps, **LEARN).fit(data, seed=seed, progress=False)
        name = f"{title}: bent, seed {seed}"
        rows.append(row(name, "action", abs(model.action_ / least - 1), seconds=time.process_time() - began))
        rows.append(row(name, "variance half-way", middle_error(model, start, middle, epsilon, seed)))
        rows.append(peer(f"{title}: [SF]2M, Sinkhorn, seed {seed}", data, start, middle, epsilon, steps, seed))
    numbers = np.linspace(0.1, 2.5, 97)
    straight, a = min((sum(action(a, epsilon, v, v, 1.0) for v in VARIANCES), a) for a in numbers)
    rows.append(row(f"{title}: the best single number", "action", straight / least - 1, peer="baseline"))
    off = max(abs((0.5 * v + 0.25 * a) / m - 1) for v, m in zip(VARIANCES, middle, strict=True))
    rows.append(row(f"{title}: the best single number", "variance half-way", off, peer="baseline"))
    return rows


def peer(
    name: str, data: gd.Snapshots, start: Tensor, middle: list[float], epsilon: float, steps: int, seed: int
) -> dict[str, Any]:
    """Return the row of the bridge that is learned from the entropic plan."""
    began = time.process_time()
    model = gd.preset("sf2m", math.sqrt(2 * epsilon), steps=steps, **LEARN).fit(data, seed=seed, progress=False)
    seconds = time.process_time() - began
    found = middle_error(model, start, middle, epsilon, seed)
    return row(name, "variance half-way", found, peer="same plan", seconds=seconds)


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--seeds", type=int, default=3)
    arguments = options.parse_args()
    begin(arguments)
    steps, seeds = (300, 1) if arguments.quick else (4000, arguments.seeds)
    rows = []
    for title, found in (("between Gaussians on a line", line_rows), ("in the plane", plane_rows)):
        part = found(steps, seeds)
        show(f"relative errors {title}", part)
        rows += part
    store(arguments.json, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
