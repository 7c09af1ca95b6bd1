"""Flow matching in the plane and between Gaussians, beside torchcfm and the numbers of the literature.

    python benchmarks/flow_matching_2d.py
    python benchmarks/flow_matching_2d.py --parts reference

reference
    Eight Gaussians to moons as in the tutorials of torchcfm, which is trained in the same run: OT-CFM, I-CFM and [SF]2M
    (with the exact plan of the tutorials, and with the entropic one), sigma 1. W2 of 2000 fresh points after 100 Euler
    steps (the diffusion: of Euler-Maruyama) and the error of the path energy, mean of two draws and all seeds.
table
    The larger sets of Tong et al. (AISTATS 2024, table 2), with its numbers beside ours. Theirs are of 10,000 points,
    ours of 2000: the floors say what that changes. The flow of a bridge is longer than transport, for the bridge widens
    and narrows: that of the exact plan of 2000 points and sigma 1, without a network, has a path energy error of about
    .02, .02, .46 and .37 on the four sets, so that a learned SF2M is not wrong by what it has of it.
bridges
    The Schroedinger bridge between N(-.1, I) and N(.1, I) in 5, 20 and 50 dimensions, sigma 1, 20 steps: KL of the
    Gaussian of the sample's moments to the exact law, at the end and as a mean over 21 times.
pairs
    Brownian bridges between the very pairs that those models learn from, without network or steps: what the coupling
    does. The ends of the bridge with sigma 1 have a covariance of .618 in every feature. The entropic plan has that, to
    what its blocks take away. Exact plans of 256 points have .87 in 5 dimensions (.77 of 64, .93 of 1024), .55 in 20
    and .37 in 50: another process, near the bridge where the size of the batch makes it so, and 20 steps of
    Euler-Maruyama add to that (in 5 dimensions .0085 becomes .0118).

Networks are of 3 x 64 everywhere. Rows without learning: the source itself, and the optimal affine map between the
Gaussians of the two samples' moments. Rows marked ``literature`` are quoted, not run.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from planar import (
    Draw,
    distance,
    eight_gaussians,
    floor,
    flow,
    gaussian_moons,
    moons,
    normal,
    path_energy,
    populations,
    s_curve,
    standardised_moons,
)
from table import begin, parser, row, show, store
from torch import Tensor
from torchcfm_peer import INSTALLED, MISSING, Trainer

import gendyn as gd
from gendyn.interpolants import couple, preset
from gendyn.sampling import SDE

NETWORK: dict[str, Any] = {"hidden": (64, 64, 64), "batch_size": 256, "scale": "none"}
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "OT-CFM": ("otcfm", {"lr": 5e-3, "block": 256}),
    "I-CFM": ("icfm", {"lr": 5e-3}),
    "SF2M, exact": ("sf2m", {"lr": 5e-3, "coupling": "ot", "block": 256}),
    "SF2M, Sinkhorn": ("sf2m", {"lr": 5e-3, "block": 256}),
}
"""Name to preset and options."""

PEERS: dict[str, tuple[str, dict[str, float]]] = {
    "OT-CFM": ("otcfm", {}),
    "I-CFM": ("icfm", {}),
    "SF2M, exact": ("sf2m", {"sigma": 1.0, "lr": 1e-2}),
}
"""Name to what torchcfm calls it, with the settings of its tutorials."""

SETS: dict[str, tuple[Draw, Draw]] = {
    "N to 8 Gaussians": (normal, eight_gaussians(5.0, 1.0)),
    "moons to 8 Gaussians": (standardised_moons(), eight_gaussians(12.0, 1.5)),
    "N to moons": (normal, gaussian_moons(0.05, 2.0, (-1.0, 0.0))),
    "N to S curve": (normal, s_curve),
}

LITERATURE = {
    "SF2M, exact": ((0.275, 0.016), (0.726, 0.045), (0.124, 0.053), (0.128, 0.034)),
    "OT-CFM": ((0.303, 0.031), (0.601, 0.015), (0.130, 0.083), (0.144, 0.027)),
    "I-CFM": ((0.373, 0.202), (1.557, 2.680), (0.178, 0.891), (0.242, 0.856)),
    "SF2M, indep.": ((0.393, 0.160), (1.482, 2.577), (0.185, 0.855), (0.201, 0.845)),
    "DSBM-IPF": ((0.315, 0.022), (0.812, 0.244), (0.140, 0.383), (0.140, 0.297)),
    "DSBM-IMF": ((0.338, 0.029), (0.838, 0.345), (0.144, 0.230), (0.145, 0.286)),
    "rectified flow": ((0.421, 0.044), (1.525, 0.203), (0.283, 0.130), (0.345, 0.099)),
}
"""W2 and path energy error on each of the sets, Tong et al. (AISTATS 2024)."""

BRIDGES = {
    "SF2M, exact": {5: (0.007, 0.006), 20: (0.029, 0.028), 50: (0.124, 0.258)},
    "SF2M, Sinkhorn": {5: (0.004, 0.004), 20: (0.029, 0.042), 50: (0.122, 0.276)},
    "DSBM-IPF": {5: (0.015, 0.005), 20: (0.132, 0.050), 50: (0.528, 0.221)},
    "SB-CFM": {5: (0.001, 0.008), 20: (0.034, 0.086), 50: (0.170, 0.447)},
}
"""KL at the end, and mean over 21 times, by dimension; the same source."""

Field = Callable[[Tensor, Tensor], Tensor]


@functools.cache
def tested(source: Draw, target: Draw, seed: int) -> list[tuple[Tensor, Tensor, float]]:
    """Return two draws of 2000 points of either law, and their squared W2."""
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    draws = [(source(2000, generator), target(2000, generator)) for _ in range(2)]
    return [(x, y, distance(x, y) ** 2) for x, y in draws]


def measured(source: Draw, target: Draw, velocity: Field, drift: Field | None, seed: int) -> dict[str, float]:
    """Return W2 and path energy error of a flow, and W2 of a diffusion if there is one; means of two draws."""
    found: dict[str, list[float]] = {"W2": [], "path energy error": []}
    for x, y, cost in tested(source, target, seed):
        points = flow(velocity, x)
        found["W2"].append(distance(points[-1], y))
        found["path energy error"].append(abs(path_energy(points) - cost) / cost)
        if drift is not None:
            process = SDE(drift, lambda t, z: torch.ones_like(z), dim=2)
            ends = gd.sample(process, x, [0.0, 1.0], solver="euler_maruyama", step=0.01, save="final").values[:, -1]
            found.setdefault("W2, diffusion", []).append(distance(ends, y))
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def fitted(name: str, data: gd.Snapshots, steps: int, seed: int, **options: Any) -> tuple[Any, Field, Field | None]:
    """Return one of our models, its velocity, and the drift of its bridge."""
    kind, settings = OURS[name]
    model = preset(kind, **{**NETWORK, **settings, **options, "steps": steps}).fit(data, seed=seed, progress=False)
    process = model.process_
    if kind != "sf2m":
        return model, process.drift, None
    return model, process.velocity, lambda t, x: process.velocity(t, x) + 0.5 * process.score(t, x)


def combined(title: str, found: list[dict[str, float]], peer: str | None, seconds: float) -> list[dict[str, Any]]:
    """Return the means over seeds as rows, with the least and the largest."""
    rows = []
    for metric in found[0]:
        values = [f[metric] for f in found]
        ends = {"low": min(values), "high": max(values)} if len(values) > 1 else {}
        rows.append(row(title, metric, float(np.mean(values)), peer=peer, seconds=seconds, **ends))
    return rows


def reference_rows(steps: int, seeds: int) -> list[dict[str, Any]]:
    """Return rows of eight Gaussians to moons, ours and torchcfm's."""
    source, target = eight_gaussians(), moons
    rows = []
    for name in ("OT-CFM", "I-CFM", "SF2M, exact", "SF2M, Sinkhorn"):
        found, began = [], time.process_time()
        for seed in range(seeds):
            _, velocity, drift = fitted(name, populations(source, target, 20_000, seed), steps, seed)
            found.append(measured(source, target, velocity, drift, seed))
        rows += combined(f"8 Gaussians to moons: {name}", found, None, (time.process_time() - began) / seeds)
    for name, (kind, options) in PEERS.items():
        if not INSTALLED:
            rows.append(row(f"8 Gaussians to moons: {name}", MISSING, float("nan"), peer="torchcfm"))
            continue
        found, began = [], time.process_time()
        for seed in range(seeds):
            peer = Trainer(kind, source, target, seed=seed, **options)
            peer.train(steps if kind != "sf2m" else 3 * steps // 5)
            drift = peer.drift if kind == "sf2m" else None
            found.append(measured(source, target, peer.velocity, drift, seed))
        rows += combined(f"8 Gaussians to moons: {name}", found, "torchcfm", (time.process_time() - began) / seeds)
    return rows + unlearned("8 Gaussians to moons", source, target)


def unlearned(title: str, source: Draw, target: Draw) -> list[dict[str, Any]]:
    """Return the rows that need no learning, and the floor."""
    generator = torch.Generator().manual_seed(77)
    x, y = source(2000, generator), target(2000, generator)
    return [
        row(f"{title}: the source", "W2", distance(x, y), peer="baseline"),
        row(f"{title}: affine map", "W2", distance(affine(x, y), y), peer="baseline"),
        row(f"{title}: another sample", "W2", floor(target, 2000, generator), peer="floor"),
    ]


def affine(x: Tensor, y: Tensor) -> Tensor:
    """Return the points ``x`` under the optimal map between the Gaussians of both samples' moments."""
    a, b = (torch.cov(v.T.double()) for v in (x, y))
    root = _root(a)
    inverse = torch.linalg.inv(root)
    matrix = inverse @ _root(root @ b @ root) @ inverse
    return (y.mean(0) + (x - x.mean(0)).double() @ matrix).float()


def _root(a: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(a)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def table_rows(steps: int, seeds: int) -> list[dict[str, Any]]:
    """Return rows of the larger sets, each with its published number."""
    rows = []
    for k, (title, (source, target)) in enumerate(SETS.items()):
        for name in ("SF2M, exact", "OT-CFM", "I-CFM"):
            found, began = [], time.process_time()
            for seed in range(seeds):
                _, velocity, _ = fitted(name, populations(source, target, 10_000, seed), steps, seed)
                found.append(measured(source, target, velocity, None, seed))
            rows += combined(f"{title}: {name}", found, None, (time.process_time() - began) / seeds)
        for name, values in LITERATURE.items():
            w2, energy = values[k]
            rows.append(row(f"{title}: {name}", "W2", w2, peer="literature"))
            rows.append(row(f"{title}: {name}", "path energy error", energy, peer="literature"))
        rows += unlearned(title, source, target)
    return rows


def bridge_rows(steps: int, seeds: int, dims: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return rows of Schroedinger bridges between Gaussians; in many dimensions they want the larger rate."""
    times = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)
    rows = []
    for dim in dims:
        title = f"bridge, {dim} dimensions"
        for name in ("SF2M, exact", "SF2M, Sinkhorn"):
            found, began = [], time.process_time()
            for seed in range(seeds):
                generator = torch.Generator().manual_seed(seed)
                data = _two_gaussians(dim, generator)
                model, _, _ = fitted(name, data, steps, seed, lr=1e-2)
                x = torch.randn(10_000, dim, generator=generator) - 0.1
                paths = model.sample(
                    x, times, epsilon="bridge", margin=0.0, solver="euler_maruyama", substeps=1, seed=seed
                ).values
                found.append(_divergences(paths, times))
            rows += combined(f"{title}: {name}", found, None, (time.process_time() - began) / seeds)
        exact = torch.stack([_exact(float(t), dim).sample((10_000,)) for t in times], dim=1)
        rows += combined(f"{title}: another sample", [_divergences(exact, times)], "floor", 0.0)
        still = torch.randn(10_000, 1, dim).expand(-1, 21, -1) - 0.1
        rows += combined(f"{title}: the source", [_divergences(still, times)], "baseline", 0.0)
        for name, values in BRIDGES.items():
            end, mean = values[dim]
            rows.append(row(f"{title}: {name}", "KL at the end", end, peer="literature"))
            rows.append(row(f"{title}: {name}", "KL, mean of 21 times", mean, peer="literature"))
    return rows


def pair_rows(seeds: int, dims: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return rows of Brownian bridges between the pairs that the models of :func:`bridge_rows` learn from."""
    times = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)
    rows = []
    for dim in dims:
        for name in ("SF2M, exact", "SF2M, Sinkhorn"):
            kind, settings = OURS[name]
            model = preset(kind, **{**NETWORK, **settings})
            options = {option: getattr(model, option) for option in ("block", "regularisation")}
            found = []
            for seed in range(seeds):
                generator = torch.Generator().manual_seed(seed)
                data = _two_gaussians(dim, generator)
                pairs = couple(data, model.coupling, seed=seed, **options)[:10_000]
                x0, x1 = (x[pairs[:, k], None] for k, x in enumerate(data.samples))
                t, noise = times.to(x0)[:, None], torch.randn(len(pairs), len(times), dim, generator=generator)
                paths = (1 - t) * x0 + t * x1 + (t * (1 - t)).sqrt() * noise
                covariance = float(((x0 - x0.mean(0)) * (x1 - x1.mean(0))).mean())
                found.append(_divergences(paths, times) | {"covariance of the ends": covariance})
            rows += combined(f"bridge, {dim} dimensions: {name}, pairs alone", found, "baseline", 0.0)
    return rows


def _two_gaussians(dim: int, generator: torch.Generator) -> gd.Snapshots:
    return gd.Snapshots([0.0, 1.0], [torch.randn(10_000, dim, generator=generator) + m for m in (-0.1, 0.1)])


def _exact(t: float, dim: int) -> torch.distributions.MultivariateNormal:
    """Return the law at a time of the Schroedinger bridge with sigma 1."""
    variance = t * (1 - t) * 5**0.5 + (1 - t) ** 2 + t**2
    mean = torch.full((dim,), 0.2 * t - 0.1, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(mean, variance * torch.eye(dim, dtype=torch.float64))


def _divergences(paths: Tensor, times: Tensor) -> dict[str, float]:
    found = []
    for k, t in enumerate(times.tolist()):
        x = paths[:, k].double()
        own = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T))
        found.append(float(torch.distributions.kl_divergence(own, _exact(t, paths.shape[2]))))
    return {"KL at the end": found[-1], "KL, mean of 21 times": float(np.mean(found))}


def main() -> int:
    """Run the benchmark."""
    options = parser(__doc__)
    options.set_defaults(threads=1)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--parts", default="reference,table,bridges,pairs", help="which of these parts")
    arguments = options.parse_args()
    begin(arguments)
    quick, seeds = arguments.quick, 1 if arguments.quick else arguments.seeds
    steps = 500 if quick else 5000
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "reference": lambda: reference_rows(steps, seeds),
        "table": lambda: table_rows(steps, seeds),
        "bridges": lambda: bridge_rows(steps, seeds, (5,) if quick else (5, 20, 50)),
        "pairs": lambda: pair_rows(seeds, (5,) if quick else (5, 20, 50)),
    }
    rows = []
    for name in arguments.parts.split(","):
        found = parts[name]()
        show(name, found)
        rows += found
    store(arguments.json, [entry for entry in rows if entry["value"] == entry["value"]])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
