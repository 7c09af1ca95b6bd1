r"""Where randomness comes from: Brownian increments that can be had again.

Normals come in rows of 256 paths and blocks of 32 steps; each such tile has a generator of its own, keyed by
(seed, row block, step block). The path of row :math:`i` is thus a function of the seed, :math:`i` and the grid alone: a
larger batch leaves it as it is, a batch cut into chunks gives the same numbers bit for bit, and a backward pass can
draw again what the forward pass drew. The space-time Levy area

.. math:: H = \frac1h \int_t^{t+h} \Bigl(W_s - W_t - \frac{s - t}{h}(W_{t+h} - W_t)\Bigr) ds \sim \mathcal N(0, h/12)

of an increment is independent of it and comes from tiles of its own, so that asking for it changes no increment.

:class:`BrownianStream` draws the steps one after the other, and is the fastest. :class:`BrownianTree` refines: each
anchor cell is halved as often as the step asks for, so that a smaller step sees the *same* Brownian path.
:class:`AlphaStable` drives with jumps of every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from gendyn.randomness import derive_seed
from gendyn.sampling.grid import StepGrid

__all__ = [
    "ROWS",
    "STEPS",
    "AlphaStable",
    "BrownianStream",
    "BrownianTree",
    "Driver",
    "Noise",
    "Tiles",
    "coarsen",
    "refine",
]

ROWS = 256
"""Rows of one block. Torch's CPU generator fills in groups of 16, which 256 rows of any width respect."""

STEPS = 32
"""Steps whose normals are drawn at once; larger blocks fall out of the cache."""

Increments = tuple[Tensor, Tensor | None]


class Driver(Protocol):
    """Increments of one run for some rows; any part of it can be had at any time, and again."""

    def increments(self, interval: int, first: int, count: int) -> Increments:
        """Return steps ``first`` to ``first + count`` of an output interval: increments ``(count, B, m)`` and areas.

        A request does not cross a multiple of :data:`STEPS`, counted from the start of the run.
        """
        ...


class Noise(Protocol):
    """A kind of noise, as :func:`gendyn.sample` takes it."""

    brownian: bool

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid of steps that this noise can drive."""
        ...

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of ``(n_rows, n_columns)`` from ``first_row`` on, of the type and device of ``like``."""
        ...


class Tiles:
    """Standard normals by tile; the same wherever and whenever they are asked for."""

    def __init__(self, key: int, label: str, n_rows: int, n_columns: int, first_row: int, like: Tensor) -> None:
        if first_row % ROWS:
            raise ValueError(f"first_row must be a multiple of {ROWS}; got {first_row}")
        self._key = key
        self._label = label
        self._rows = n_rows
        self._columns = n_columns
        self._blocks = range(first_row // ROWS, -(-(first_row + n_rows) // ROWS))
        self._like = like
        self._generator = torch.Generator()
        # Drawn on the CPU, so that every device sees the same numbers; half precision is rounded from single.
        self._dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32

    def draw(self, labels: tuple[int | str, ...], *leading: int, law: str = "normal") -> Tensor:
        """Return normals ``(*leading, n_rows, n_columns)`` of the tile that the labels name."""
        shape = (*leading, ROWS, self._columns)
        tiles = []
        for block in self._blocks:
            seed = derive_seed(self._key, self._label, block, *labels)
            self._generator.manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)
            fill = torch.randn if law == "normal" else torch.rand
            tiles.append(fill(shape, generator=self._generator, dtype=self._dtype))
        whole = tiles[0] if len(tiles) == 1 else torch.cat(tiles, dim=-2)
        return whole[..., : self._rows, :].to(self._like)


@dataclass(frozen=True)
class BrownianStream:
    """Independent increments, step after step: the default.

    Another step is another path; for the same path under refinement take :class:`BrownianTree`.

    Examples
    --------
    >>> grid = StepGrid(torch.tensor([0.0, 1.0]), step=0.5)
    >>> whole = BrownianStream().start(0, grid, (300, 2), 0, torch.zeros(1), False).increments(0, 0, 2)[0]
    >>> part = BrownianStream().start(0, grid, (44, 2), 256, torch.zeros(1), False).increments(0, 0, 2)[0]
    >>> bool((whole[:, 256:] == part).all())
    True
    """

    brownian = True

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid as it is."""
        return grid

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        return _Stream(key, grid, shape, first_row, like, area)


class _Stream:
    def __init__(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> None:
        self._grid = grid
        self._like = like
        self._tiles = [Tiles(key, "noise", *shape, first_row, like)]
        if area:
            self._tiles.append(Tiles(key, "area", *shape, first_row, like))
        self._held: tuple[int, list[Tensor]] = (-1, [])

    def increments(self, interval: int, first: int, count: int) -> Increments:
        start = self._grid.offsets[interval] + first
        block, at = divmod(start, STEPS)
        if self._held[0] != block:
            length = min(STEPS, self._grid.n_steps - block * STEPS)
            self._held = block, [tiles.draw((block,), length) for tiles in self._tiles]
        root = self._grid.root(interval, self._like)
        w = self._held[1][0][at : at + count] * root
        if len(self._tiles) == 1:
            return w, None
        return w, self._held[1][1][at : at + count] * (root * 12**-0.5)


@dataclass(frozen=True, eq=False)
class BrownianTree:
    r"""One Brownian path for every step: anchor cells are halved as often as the step asks for.

    A cell of length :math:`h` with increment :math:`W` and area :math:`H` becomes two by

    .. math::

        W_{l} = \tfrac12 W + \tfrac32 H + \tfrac{\sqrt h}{4} X_1, \quad W_r = W - W_l, \qquad
        H_{l,r} = \tfrac14 H - \tfrac{\sqrt h}{8} X_1 \pm \sqrt{h/48}\, X_2 ,

    :math:`X_1, X_2 \sim \mathcal N(0, 1)`, exactly (Foster, Lyons and Oberhauser 2020). Steps are thereby rounded down
    to the cell's length over a power of two. Twice the normals of a stream.

    Parameters
    ----------
    anchors
        Ends of the cells, increasing; by default the output times. Give them to have the same path at other output
        times: those must then lie on the anchors, or at halves, quarters, ... between them.

    Examples
    --------
    >>> from gendyn.sampling import SDE, sample
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> ends = [sample(brownian, torch.zeros(2, 1), [0, 1], step=h, noise="tree").values[:, -1] for h in (1.0, 0.125)]
    >>> bool((ends[0] - ends[1]).abs().max() < 1e-6)
    True
    """

    anchors: Tensor | Sequence[float] | None = None
    brownian = True

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid with steps of a cell's length over a power of two.

        Raises
        ------
        ValueError
            If output times lie outside the anchors or at no binary fraction between them.
        """
        if self.anchors is None:
            return grid.with_counts([1 << max(0, (count - 1).bit_length()) for count in grid.counts])
        cells = self._cells(grid)
        return grid.with_counts([count for _, _, _, count in cells])

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        if self.anchors is None:
            cells = [(k, count.bit_length() - 1, 0, count) for k, count in enumerate(grid.counts)]
            lengths: list[float | Tensor] = [grid.length(k, like) for k in range(len(grid.counts))]
        else:
            cells = self._cells(grid)
            points = self._points()
            lengths = [points[cell + 1] - points[cell] for cell, _, _, _ in cells]
        return _Tree(cells, lengths, Tiles(key, "tree", *shape, first_row, like))

    def _points(self) -> list[float]:
        points = torch.as_tensor(self.anchors, dtype=torch.float64)
        if points.ndim != 1 or len(points) < 2 or not bool((points.diff() > 0).all()):
            raise ValueError(f"anchors must be two or more increasing times; got {points.tolist()[:6]}")
        return [float(p) for p in points]

    def _cells(self, grid: StepGrid) -> list[tuple[int, int, int, int]]:
        """Return for each output interval its cell, the cell's level, the first step within, the number of steps."""
        points = self._points()
        if grid.times.ndim != 1:
            raise ValueError("anchors of a BrownianTree are for times shared by all paths; leave them out")
        times = grid.times.tolist()
        found = []
        levels: dict[int, int] = {}
        for k, (start, end) in enumerate(pairwise(times)):
            cell = next(
                (j for j in range(len(points) - 1) if points[j] <= start + 1e-12 and end <= points[j + 1] + 1e-12), None
            )
            if cell is None:
                raise ValueError(
                    f"no anchor cell holds the output interval from {start:g} to {end:g}; add anchors at both ends"
                )
            length = points[cell + 1] - points[cell]
            exact = max(_level((start - points[cell]) / length), _level((end - points[cell]) / length))
            wanted = math.ceil(math.log2(max(1.0, length / ((end - start) / grid.counts[k]))) - 1e-9)
            levels[cell] = max(levels.get(cell, 0), exact, wanted)
            found.append((cell, start, end, length))
        return [
            (cell, levels[cell], round((start - points[cell]) / length * 2 ** levels[cell]),
             round((end - start) / length * 2 ** levels[cell]))
            for cell, start, end, length in found
        ]  # fmt: skip


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
    def __init__(self, cells: list[tuple[int, int, int, int]], lengths: list[float | Tensor], tiles: Tiles) -> None:
        self._cells = cells
        self._lengths = lengths
        self._tiles = tiles
        self._held: tuple[int, int, Increments] | None = None

    def increments(self, interval: int, first: int, count: int) -> Increments:
        cell, level, start, _ = self._cells[interval]
        if self._held is None or self._held[:2] != (cell, level):
            self._held = cell, level, self._expand(cell, level, self._lengths[interval])
        w, area = self._held[2]
        rows = slice(start + first, start + first + count)
        return w[rows], None if area is None else area[rows]

    def _expand(self, cell: int, level: int, length: float | Tensor) -> Increments:
        root = length.sqrt() if isinstance(length, Tensor) else math.sqrt(length)
        z = self._tiles.draw((cell, 0), 2, 1)
        w, area = z[0] * root, z[1] * (root * 12**-0.5)
        h = length
        for depth in range(1, level + 1):
            w, area = refine(w, area, h, self._tiles.draw((cell, depth), 2, 2 ** (depth - 1)))
            h = h / 2
        return w, area


def refine(w: Tensor, area: Tensor, h: float | Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Halve cells of length ``h``: ``(n, B, m)`` becomes ``(2n, B, m)``, with normals ``(2, n, B, m)``."""
    root = h.sqrt() if isinstance(h, Tensor) else math.sqrt(h)
    x1, x2 = normals[0], normals[1]
    left = 0.5 * w + 1.5 * area + (root / 4) * x1
    turn = (root / 8) * x1 - (root * 48**-0.5) * x2
    areas = torch.stack([0.25 * area - turn, 0.25 * area - (root / 8) * x1 - (root * 48**-0.5) * x2], dim=1)
    halves = torch.stack([left, w - left], dim=1)
    return halves.flatten(0, 1), areas.flatten(0, 1)


def coarsen(w: Tensor, area: Tensor) -> tuple[Tensor, Tensor]:
    r"""Join neighbouring cells: :math:`W = W_l + W_r`, :math:`H = \tfrac12(H_l + H_r) + \tfrac14(W_l - W_r)`.

    Examples
    --------
    >>> w, area = refine(torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 1.0, torch.randn(2, 1, 1, 1))
    >>> [round(float(x), 5) for x in coarsen(w, area)]
    [1.0, 0.0]
    """
    left, right = w[0::2], w[1::2]
    return left + right, 0.5 * (area[0::2] + area[1::2]) + 0.25 * (left - right)


@dataclass(frozen=True)
class AlphaStable:
    r"""Independent alpha-stable increments :math:`h^{1/\alpha} S`.

    For ``beta`` 0, :math:`E e^{iuS} = e^{-|u|^\alpha}`.
    Drawn by the method of Chambers, Mallows and Stuck (1976). At :math:`\alpha = 2` these are Gaussian with variance
    :math:`2h`, twice that of Brownian motion. Only the Euler-Maruyama step is right for them.

    Parameters
    ----------
    alpha
        Stability, in (0, 2], not 1 with ``beta`` other than 0: the smaller, the heavier the tails.
    beta
        Skewness, in [-1, 1].

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> grid = StepGrid(torch.tensor([0.0, 1.0]), step=1.0)
    >>> s = AlphaStable(2.0).start(0, grid, (4096, 1), 0, torch.zeros(1), False).increments(0, 0, 1)[0]
    >>> bool(1.85 < s.var() < 2.15)
    True
    """

    alpha: float
    beta: float = 0.0
    brownian = False

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 2:
            raise ValueError(f"alpha must lie in (0, 2]; got {self.alpha}")
        if not -1 <= self.beta <= 1:
            raise ValueError(f"beta must lie in [-1, 1]; got {self.beta}")
        if self.alpha == 1 and self.beta != 0:
            raise ValueError("alpha 1 is drawn for beta 0 only; take alpha 0.999 or 1.001")

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid as it is."""
        return grid

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        return _Stable(self, key, grid, shape, first_row, like)


class _Stable:
    def __init__(
        self, law: AlphaStable, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor
    ) -> None:
        self._law = law
        self._grid = grid
        self._like = like
        self._tiles = Tiles(key, "stable", *shape, first_row, like.to(torch.float64))
        self._held: tuple[int, Tensor] | None = None

    def increments(self, interval: int, first: int, count: int) -> Increments:
        block, at = divmod(self._grid.offsets[interval] + first, STEPS)
        if self._held is None or self._held[0] != block:
            length = min(STEPS, self._grid.n_steps - block * STEPS)
            uniform = self._tiles.draw((block, "angle"), length, law="uniform")
            waiting = -torch.log1p(-self._tiles.draw((block, "wait"), length, law="uniform"))
            self._held = block, _stable(self._law, math.pi * (uniform - 0.5), waiting).to(self._like)
        scale = self._grid.root(interval, self._like) ** (2 / self._law.alpha)
        return self._held[1][at : at + count] * scale, None


def _stable(law: AlphaStable, angle: Tensor, waiting: Tensor) -> Tensor:
    """Return stable variates from uniform angles in (-pi/2, pi/2) and exponential waiting times."""
    alpha = law.alpha
    if alpha == 1:
        return torch.tan(angle)
    slope = law.beta * math.tan(math.pi * alpha / 2)
    turned = alpha * angle + math.atan(slope)
    scale = (1 + slope**2) ** (1 / (2 * alpha))
    waiting = waiting.clamp_min(1e-300)
    tail: Tensor = (torch.cos(angle - turned) / waiting).clamp_min(0.0) ** ((1 - alpha) / alpha)
    spread: Tensor = scale * torch.sin(turned) / torch.cos(angle) ** (1 / alpha)
    return spread * tail
