r"""Letters that were blurred: populations of which each has a shape of its own.

A glyph's outline is filled with points of a regular grid, scaled so that its longer side spans [-3, 3], jittered and
rotated; this is a population's end, and its start is the same points with Gaussian noise,

.. math:: x_1 = R_\theta\, (p + 0.05\,\xi), \qquad x_0 = x_1 + 0.5\,\xi' .

Row i of the start belongs to row i of the end. The velocity that undoes the noise depends on the whole population, and
letters that were held out tell whether a model has learned that. The protocol is that of Atanackovic et al.
(2025) with the outlines that Matplotlib ships; a grid has a lower sampling floor than random points.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from numpy.typing import NDArray

from gendyn.data import Cohort, Snapshots
from gendyn.randomness import Seed, as_seed, torch_generator

__all__ = ["letters"]

Floats = NDArray[np.floating[Any]]


def letters(
    names: str = string.ascii_uppercase,
    *,
    rotations: int = 10,
    points: int = 600,
    jitter: float = 0.05,
    blur: float = 0.5,
    draw: int = 0,
    seed: Seed = 0,
) -> Cohort:
    """Return blurred letters, each at several random angles, as a cohort of populations at times 0 and 1.

    Parameters
    ----------
    names
        The letters; any character that the font DejaVu Sans Bold draws with an area.
    rotations
        Random angles of each letter.
    points
        Points of each population.
    jitter, blur
        Standard deviations of the noise on the end, and of that which the start has more.
    draw
        Number of the draw of all noise: another draw has the same points at the same angles, so that two draws have
        the distance that no model can be expected to beat.
    seed
        Of angles and noise; each letter has numbers of its own, so that a letter is the same in any selection.

    Returns
    -------
    Cohort
        Members ``"A-0"``, ``"A-1"``, ...

    Raises
    ------
    ValueError
        If a number is out of range, or a character has no area.

    Examples
    --------
    >>> cohort = letters("XY", rotations=2, points=50)
    >>> list(cohort), cohort["X-0"].sizes
    (['X-0', 'X-1', 'Y-0', 'Y-1'], (50, 50))
    """
    if rotations < 1 or points < 2:
        raise ValueError(f"at least 1 rotation and 2 points are needed; got {rotations} and {points}")
    if jitter < 0 or blur < 0:
        raise ValueError(f"jitter and blur must be zero or positive; got {jitter} and {blur}")
    root = as_seed(seed)
    members = {}
    for name in names:
        glyph = torch.from_numpy(_filled(name, points)).float()
        for k in range(rotations):
            angle = 2 * np.pi * float(torch.rand((), generator=torch_generator(root, "angle", name, k)))
            generator = torch_generator(root, "noise", name, k, draw)
            turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).float()
            end = (glyph + jitter * torch.randn(points, 2, generator=generator)) @ turn.T
            start = end + blur * torch.randn(points, 2, generator=generator)
            members[f"{name}-{k}"] = Snapshots([0.0, 1.0], [start, end], names=("x", "y"))
    return Cohort(members)


def _filled(character: str, points: int) -> Floats:
    """Return grid points ``(points, 2)`` inside a character's outline, its longer side from -3 to 3."""
    if character.isspace():  # TextPath cannot draw an empty outline
        raise ValueError(f"the character {character!r} has no area to fill with points")
    path = TextPath((0, 0), character, size=100, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    outlines = [p for p in map(np.asarray, path.to_polygons()) if len(p) > 2]
    if not outlines:
        raise ValueError(f"the character {character!r} has no area to fill with points")
    corners = np.concatenate(outlines)
    low, high = corners.min(0), corners.max(0)
    factor = 6.0 / float((high - low).max())
    shapes = [Outline((polygon - (low + high) / 2) * factor) for polygon in outlines]
    reach = (high - low) * factor / 2

    def inside(spacing: float) -> Floats:
        axes = [np.arange(-r + spacing / 2, r, spacing) for r in reach]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        odd = np.zeros(len(grid), dtype=bool)  # even-odd rule: a hole is inside two outlines
        for shape in shapes:
            odd ^= shape.contains_points(grid)
        return np.asarray(grid[odd])

    coarse, fine = 6.0, 6.0 / (4 * np.sqrt(points) + 8)
    while len(inside(fine)) < points:
        fine /= 2
    for _ in range(40):
        middle = (coarse + fine) / 2
        if len(inside(middle)) < points:
            coarse = middle
        else:
            fine = middle
    found = inside(fine)
    # The count jumps with the spacing: what is over is taken out evenly.
    chosen: Floats = found[np.linspace(0, len(found) - 1, points).round().astype(int)]
    return chosen
