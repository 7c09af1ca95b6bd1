"""The plane's usual test sets, and what is measured on them.

Two of the sets come in two sizes, because the literature has them in two: the small ones of the tutorials of torchcfm,
and the large ones of the tables of Tong et al. (2024). Everything random is drawn from a generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import make_s_curve
from torch import Tensor

import gendyn as gd
from gendyn.evaluation import wasserstein_value
from gendyn.sampling import ODE

Draw = Callable[[int, torch.Generator], Tensor]
"""Number of points and a generator to points ``(n, 2)``."""


def eight_gaussians(radius: float = 5.0, deviation: float = 0.1**0.25) -> Draw:
    """Return what draws eight Gaussians on a circle; by default those of torchcfm, whose variance is sqrt(0.1)."""
    angles = torch.arange(8) * (math.pi / 4)
    centres = radius * torch.stack([angles.cos(), angles.sin()], dim=1)

    def draw(n: int, generator: torch.Generator) -> Tensor:
        which = torch.randint(8, (n,), generator=generator)
        return centres[which] + deviation * torch.randn(n, 2, generator=generator)

    return draw


def moons(n: int, generator: torch.Generator) -> Tensor:
    """Draw the two moons of torchcfm: one uniform number is added to both coordinates, then 3x - 1."""
    return 3 * (_arcs(n) + 0.2 * torch.rand(n, 1, generator=generator))[_shuffle(n, generator)] - 1


def gaussian_moons(noise: float, scale: float, shift: tuple[float, float] = (0.0, 0.0)) -> Draw:
    """Return what draws two moons with Gaussian noise."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        points = _arcs(n) + noise * torch.randn(n, 2, generator=generator)
        return (scale * points + torch.tensor(shift))[_shuffle(n, generator)]

    return draw


def standardised_moons(noise: float = 0.1, scale: float = 7.0) -> Draw:
    """Return what draws moons centred and scaled by their own standard deviation, one number for both coordinates."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        points = _arcs(n) + noise * torch.randn(n, 2, generator=generator)
        return (scale * (points - points.mean(0)) / points.std())[_shuffle(n, generator)]

    return draw


def s_curve(n: int, generator: torch.Generator) -> Tensor:
    """Draw the S of scikit-learn without its width, noise .05, times 1.5."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    points, _ = make_s_curve(n, noise=0.05, random_state=seed)
    return torch.from_numpy(np.ascontiguousarray(1.5 * points[:, [0, 2]])).float()


def normal(n: int, generator: torch.Generator) -> Tensor:
    """Draw standard Gaussian noise."""
    return torch.randn(n, 2, generator=generator)


def checkerboard(n: int, generator: torch.Generator) -> Tensor:
    """Draw uniformly from eight squares of side 2 in [-4, 4]^2."""
    first = 4 * torch.rand(n, generator=generator) - 2
    second = torch.rand(n, generator=generator) - 2 * torch.randint(2, (n,), generator=generator)
    return 2 * torch.stack([first, second + first.floor() % 2], dim=1)


def on_checkerboard(x: Tensor) -> Tensor:
    """Return which points lie in one of the squares."""
    cell = (x / 2).floor()
    return ((cell.sum(1) % 2) == 0) & (x.abs() < 4).all(1)


def populations(source: Draw, target: Draw, n: int, seed: int) -> gd.Snapshots:
    """Return ``n`` points of either, at times 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    return gd.Snapshots([0.0, 1.0], [source(n, generator), target(n, generator)])


def flow(field: Callable[[Tensor, Tensor], Tensor], x: Tensor, steps: int = 100) -> Tensor:
    """Return the points ``(steps + 1, n, 2)`` of Euler's method from time 0 to 1."""
    paths = gd.sample(
        ODE(field, x.shape[1]), x, torch.linspace(0.0, 1.0, steps + 1).tolist(), solver="euler", substeps=1
    )
    return paths.values.transpose(0, 1)


def path_energy(points: Tensor) -> float:
    """Return the squared speed of Euler's points ``(T + 1, n, d)``, integrated over time, mean over points."""
    return float(points.diff(dim=0).square().sum(2).mean(1).sum()) * (len(points) - 1)


def distance(x: Tensor, y: Tensor) -> float:
    """Return the exact W2."""
    return wasserstein_value(x, y, p=2)


def floor(draw: Draw, n: int, generator: torch.Generator, repeats: int = 2) -> float:
    """Return the W2 between two samples of one law: what no model can be expected to beat."""
    return float(np.mean([distance(draw(n, generator), draw(n, generator)) for _ in range(repeats)]))


def _arcs(n: int) -> Tensor:
    angle = torch.linspace(0.0, math.pi, n - n // 2), torch.linspace(0.0, math.pi, n // 2)
    upper = torch.stack([angle[0].cos(), angle[0].sin()], dim=1)
    lower = torch.stack([1 - angle[1].cos(), 0.5 - angle[1].sin()], dim=1)
    return torch.cat([upper, lower])


def _shuffle(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator)
