r"""One Brownian path for every step: a tree of cells, each halved as often as somebody asks.

A cell of length :math:`h` with increment :math:`W` and space-time Levy area :math:`H` becomes two by

.. math::

    W_{l} = \tfrac12 W + \tfrac32 H + \tfrac{\sqrt h}{4} X_1, \quad W_r = W - W_l, \qquad
    H_{l,r} = \tfrac14 H - \tfrac{\sqrt h}{8} X_1 \pm \sqrt{h/48}\, X_2 ,

:math:`X_1, X_2 \sim \mathcal N(0, 1)`, exactly (Foster, Lyons and Oberhauser 2020), and two become one by

.. math:: W = W_l + W_r, \qquad H = \tfrac12(H_l + H_r) + \tfrac14(W_l - W_r) .

The normals of a cell are keyed by where it stands in the tree, sixteen neighbours to a tile, so that any cell can be
had without the rest of its level, in memory that does not grow with the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import Driver, Increments
from gendyn.sampling.tiles import Rng, Tiles, check_source

__all__ = ["DEEPEST", "BrownianTree", "Cells", "Place", "coarsen", "cut", "halve"]

DEEPEST = 24
"""How often a cell is halved at most."""

_TOGETHER = 16
"""Cells of one depth that are halved together."""


class Place(NamedTuple):
    """Neighbours in the tree: ``steps`` of them from ``first`` on, of ``cell`` halved ``depth`` times."""

    cell: int
    depth: int
    first: int
    steps: int


@dataclass(frozen=True, eq=False)
class BrownianTree:
    r"""One Brownian path for every step: the output intervals are halved as often as the step asks for.

    Steps are thereby rounded down to the length of a cell over a power of two. Twice the normals of a stream.

    Parameters
    ----------
    anchors
        Ends of the cells that are halved, increasing; by default the output times. Give them to have the same path at
        other output times: those must then lie on the anchors, or at halves, quarters, ... between them. For any
        other times see :func:`gendyn.sampling.refine`.
    rng, dtype
        As of :class:`~gendyn.sampling.BrownianStream`.

    Raises
    ------
    ValueError
        If a parameter does not fit.

    Examples
    --------
    >>> from gendyn.sampling import SDE, sample
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> ends = [sample(brownian, torch.zeros(2, 1), [0, 1], step=h, noise="tree").values[:, -1] for h in (1.0, 0.125)]
    >>> bool((ends[0] - ends[1]).abs().max() < 1e-6)
    True
    """

    anchors: Tensor | Sequence[float] | None = None
    rng: Rng = "torch"
    dtype: torch.dtype | None = None
    name = "tree"
    brownian = True

    def __post_init__(self) -> None:
        check_source(self.rng, self.dtype)
        if self.anchors is not None:
            self._points()

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid with steps of a cell's length over a power of two.

        Raises
        ------
        ValueError
            If output times lie outside the anchors or at no binary fraction between them.
        """
        if self.anchors is None:
            return grid.with_counts([1 << (count - 1).bit_length() for count in grid.counts])
        return grid.with_counts([place.steps for place in self.places(grid)])

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        return _Tree(self.places(grid), self.cells(key, grid, shape, first_row, like))

    def cells(self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor) -> Cells:
        """Return the cells between the anchors, for some rows."""
        if self.anchors is None:
            lengths = [grid.length(k, like) for k in range(len(grid.counts))]
        else:
            lengths = [end - start for start, end in pairwise(self._points())]
        return Cells(lengths, Tiles(key, "tree", *shape, first_row, like, rng=self.rng, dtype=self.dtype))

    def _points(self) -> list[float]:
        points = torch.as_tensor(self.anchors, dtype=torch.float64)
        if points.ndim != 1 or len(points) < 2 or not bool((points.diff() > 0).all()):
            raise ValueError(f"anchors must be two or more increasing times; got {points.tolist()[:6]}")
        return [float(p) for p in points]

    def places(self, grid: StepGrid) -> list[Place]:
        """Return where the steps of each output interval stand in the tree."""
        if self.anchors is None:
            counts = [1 << (count - 1).bit_length() for count in grid.counts]
            return [Place(k, count.bit_length() - 1, 0, count) for k, count in enumerate(counts)]
        points = self._points()
        if grid.times.ndim != 1:
            raise ValueError("anchors of a BrownianTree are for times shared by all paths; leave them out")
        found = []
        levels: dict[int, int] = {}
        for k, (start, end) in enumerate(pairwise(grid.times.tolist())):
            cell = next(
                (j for j in range(len(points) - 1) if points[j] <= start + 1e-12 and end <= points[j + 1] + 1e-12), None
            )
            if cell is None:
                raise ValueError(
                    f"no anchor cell holds the output interval from {start:g} to {end:g}; add anchors at both ends"
                )
            length = points[cell + 1] - points[cell]
            ends = (start - points[cell]) / length, (end - points[cell]) / length
            wanted = math.ceil(math.log2(max(1.0, length / ((end - start) / grid.counts[k]))) - 1e-9)
            levels[cell] = max(levels.get(cell, 0), _level(ends[0]), _level(ends[1]), wanted)
            found.append((cell, *ends))
        return [
            Place(cell, levels[cell], round(start * 2 ** levels[cell]), round((end - start) * 2 ** levels[cell]))
            for cell, start, end in found
        ]


def _level(fraction: float) -> int:
    """Return how often a cell must be halved for a point of it to be an end."""
    for level in range(21):
        scaled = fraction * 2**level
        if abs(scaled - round(scaled)) < 1e-6:
            return level
    raise ValueError(
        f"an output time lies {fraction:g} of the way between two anchors, which is no binary "
        "fraction; add it to the anchors"
    )


class _Tree:
    def __init__(self, places: list[Place], cells: Cells) -> None:
        self._places = places
        self._cells = cells

    def increments(self, interval: int, first: int, count: int) -> Increments:
        place = self._places[interval]
        return self._cells.between(place.cell, place.depth, place.first + first, count)


class Cells:
    """Increments and areas of the cells of a tree, at any depth.

    Parameters
    ----------
    lengths
        Lengths of the cells that are halved: numbers, or ``(B, 1)`` where every path has its own.
    tiles
        Normals for all of them.
    """

    def __init__(self, lengths: Sequence[float | Tensor], tiles: Tiles) -> None:
        self.lengths = lengths
        self._tiles = tiles
        self._held: dict[int, tuple[int, int, Tensor, Tensor]] = {}

    def between(self, cell: int, depth: int, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Return neighbours at a depth: increments and areas ``(count, B, m)`` of ``cell`` halved ``depth`` times."""
        size = min(2 * _TOGETHER, 1 << depth)
        parts = []
        while count:
            block, at = divmod(first, size)
            w, area = self._block(cell, depth, block)
            taken = min(count, size - at)
            parts.append((w[at : at + taken], area[at : at + taken]))
            first, count = first + taken, count - taken
        if len(parts) == 1:
            return parts[0]
        return torch.cat([w for w, _ in parts]), torch.cat([area for _, area in parts])

    def until(self, cell: int, depth: int, index: int, fraction: float) -> tuple[Tensor, Tensor]:
        r"""Return the path from the start of a cell to a fraction of it, ``(B, m)`` each, in double precision.

        :math:`W_s - W_0` and :math:`\int_0^s (W_r - W_0)\,dr`. The fraction is found by halving down to
        :data:`DEEPEST`, and cut there: a function of the time alone, whatever else is asked for.
        """
        w = integral = torch.zeros_like(self._piece(cell, depth, index)[0])
        h = self.lengths[cell] / 2**depth
        while fraction > 0 and depth < DEEPEST:
            depth, index, fraction, h = depth + 1, 2 * index, 2 * fraction, h / 2
            if fraction >= 1:
                w, integral = _longer(w, integral, self._piece(cell, depth, index), h)
                index, fraction = index + 1, fraction - 1
        if fraction == 0:
            return w, integral
        normals = self._tiles.draw((cell, DEEPEST + 1, index), 2).to(w)
        left, _ = cut(*self._piece(cell, depth, index), h, fraction, normals)
        return _longer(w, integral, left, fraction * h)

    def _piece(self, cell: int, depth: int, index: int) -> tuple[Tensor, Tensor]:
        w, area = self.between(cell, depth, index, 1)
        return w[0].to(torch.float64), area[0].to(torch.float64)

    def _block(self, cell: int, depth: int, block: int) -> tuple[Tensor, Tensor]:
        """Return a block of 32 cells of one depth (all of them, if there are fewer), and keep it for what comes."""
        held = self._held.get(depth)
        if held is not None and held[:2] == (cell, block):
            return held[2:]
        length = self.lengths[cell]
        h = length / 2 ** max(0, depth - 1)
        if depth == 0:
            root = h.sqrt() if isinstance(h, Tensor) else math.sqrt(h)
            z = self._tiles.draw((cell,), 2, 1)
            w, area = z[0] * root, z[1] * (root * 12**-0.5)
        else:
            parents = min(_TOGETHER, 1 << (depth - 1))
            w, area = self.between(cell, depth - 1, block * parents, parents)
            w, area = halve(w, area, h, self._tiles.draw((cell, depth, block), 2, parents))
        self._held[depth] = cell, block, w, area
        return w, area


def _longer(w: Tensor, integral: Tensor, piece: tuple[Tensor, Tensor], h: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return increment and integral of a path with one more piece of length ``h`` behind it."""
    return w + piece[0], integral + h * (w + 0.5 * piece[0] + piece[1])


def halve(w: Tensor, area: Tensor, h: float | Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Halve cells of length ``h``: ``(n, B, m)`` becomes ``(2n, B, m)``, with normals ``(2, n, B, m)``.

    Examples
    --------
    >>> w, area = halve(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 1.0, torch.zeros(2, 1, 1, 1))
    >>> w.flatten().tolist()
    [0.5, 0.5]
    """
    root = h.sqrt() if isinstance(h, Tensor) else math.sqrt(h)
    x1, x2 = normals[0], normals[1]
    left = 0.5 * w + 1.5 * area + (root / 4) * x1
    turn = (root / 8) * x1 - (root * 48**-0.5) * x2
    areas = torch.stack([0.25 * area - turn, 0.25 * area - (root / 8) * x1 - (root * 48**-0.5) * x2], dim=1)
    halves = torch.stack([left, w - left], dim=1)
    return halves.flatten(0, 1), areas.flatten(0, 1)


def cut(
    w: Tensor, area: Tensor, h: float | Tensor, fraction: float | Tensor, normals: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    r"""Cut a cell of length :math:`h` anywhere: at the fraction :math:`r`, with :math:`s = 1 - r` behind it.

    .. math::

        W_l = r W + 6rs H + \delta \sqrt{rsh}\, X_1, \quad
        H_l = r^2 H - \tfrac{\sqrt{rsh}}{\delta} \bigl(\tfrac{r^2}{2} X_1 - \tfrac{s}{\sqrt{12}} X_2\bigr), \quad
        H_r = s^2 H - \tfrac{\sqrt{rsh}}{\delta} \bigl(\tfrac{s^2}{2} X_1 + \tfrac{r}{\sqrt{12}} X_2\bigr)

    with :math:`\delta = \sqrt{r^3 + s^3}` (Foster, Lyons and Oberhauser 2020); half way it is :func:`halve`.

    Parameters
    ----------
    w, area
        Increment and area of the cell, ``(B, m)``.
    h, fraction
        Numbers, or ``(B, 1)``; a part may be empty.
    normals
        ``(2, B, m)``.

    Returns
    -------
    left, right
        Increment and area ``(B, m)`` of each part.

    Examples
    --------
    >>> (left, _), (right, _) = cut(torch.ones(1, 1), torch.zeros(1, 1), 1.0, 0.25, torch.zeros(2, 1, 1))
    >>> left.item(), right.item()
    (0.25, 0.75)
    """
    r, s = fraction, 1 - fraction
    delta, root = (r**3 + s**3) ** 0.5, (r * s * h) ** 0.5
    x1, x2 = normals[0], normals[1] * 12**-0.5
    left = r * w + 6 * r * s * area + delta * root * x1
    scale = root / delta
    return (
        (left, r**2 * area - scale * (0.5 * r**2 * x1 - s * x2)),
        (w - left, s**2 * area - scale * (0.5 * s**2 * x1 + r * x2)),
    )


def coarsen(w: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
    r"""Join neighbouring cells: :math:`W = W_l + W_r`, :math:`H = \tfrac12(H_l + H_r) + \tfrac14(W_l - W_r)`.

    Examples
    --------
    >>> w, area = halve(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 1.0, torch.ones(2, 1, 1, 1))
    >>> [round(float(x), 5) for x in coarsen(w, area)]
    [1.0, 0.0]
    """
    left, right = w[0::2], w[1::2]
    return left + right, 0.5 * (area[0::2] + area[1::2]) + 0.25 * (left - right)
