r"""Where randomness comes from: Brownian increments that can be had again.

Normals come in rows of 256 paths and blocks of 32 steps, see :mod:`gendyn.sampling.tiles`. The path of row :math:`i`
is thus a function of the seed, :math:`i` and the grid alone: a larger batch leaves it as it is, a batch cut into
chunks gives the same numbers bit for bit, and a backward pass can draw again what the forward pass drew. The
space-time Levy area

.. math:: H = \frac1h \int_t^{t+h} \Bigl(W_s - W_t - \frac{s - t}{h}(W_{t+h} - W_t)\Bigr) ds \sim \mathcal N(0, h/12)

of an increment is independent of it and comes from tiles of its own, so that asking for it changes no increment.

:class:`BrownianStream` draws the steps one after the other, and is the fastest.
:class:`~gendyn.sampling.brownian_tree.BrownianTree` shows the *same* Brownian path to every step size.
:class:`~gendyn.sampling.alpha_stable.AlphaStable` drives with jumps of every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gendyn.sampling.grid import StepGrid
from gendyn.sampling.tiles import STEPS, Rng, Tiles, check_source

__all__ = ["BrownianStream", "Driver", "Increments", "Noise"]

Increments = tuple[Tensor, Tensor | None]


class Driver(Protocol):
    """Increments of one run for some rows; any part of it can be had at any time, and again."""

    def increments(self, interval: int, first: int, count: int) -> Increments:
        """Return steps ``first`` to ``first + count`` of an output interval: increments ``(count, B, m)`` and areas.

        A request does not cross a multiple of :data:`~gendyn.sampling.tiles.STEPS`, counted from the start of the run.
        """
        ...


class Noise(Protocol):
    """A kind of noise, as :func:`gendyn.sample` takes it."""

    @property
    def brownian(self) -> bool:
        """Whether the increments are those of Brownian motion."""
        ...

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid of steps that this noise can drive."""
        ...

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of ``(n_rows, n_columns)`` from ``first_row`` on, of the type and device of ``like``."""
        ...


@dataclass(frozen=True)
class BrownianStream:
    """Independent increments, step after step: the default.

    Another step is another path; for the same path under refinement take
    :class:`~gendyn.sampling.brownian_tree.BrownianTree`.

    Parameters
    ----------
    rng
        ``"torch"``, whose streams are set apart by a hash; or ``"philox"``, whose streams are set apart by
        construction, and which is slower in single precision.
    dtype
        ``torch.float32`` or ``torch.float64`` in which to draw before casting to the type of the states (the
        default): with ``torch.float32`` a run in double precision sees the path of the run in single precision.

    Raises
    ------
    ValueError
        If a parameter is none of these.

    Examples
    --------
    >>> grid = StepGrid(torch.tensor([0.0, 1.0]), step=0.5)
    >>> whole = BrownianStream().start(0, grid, (300, 2), 0, torch.zeros(1), False).increments(0, 0, 2)[0]
    >>> part = BrownianStream().start(0, grid, (44, 2), 256, torch.zeros(1), False).increments(0, 0, 2)[0]
    >>> bool((whole[:, 256:] == part).all())
    True
    """

    rng: Rng = "torch"
    dtype: torch.dtype | None = None
    name = "stream"
    brownian = True

    def __post_init__(self) -> None:
        check_source(self.rng, self.dtype)

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid as it is."""
        return grid

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        purposes = ("noise", "area") if area else ("noise",)
        return _Stream(
            [Tiles(key, p, *shape, first_row, like, rng=self.rng, dtype=self.dtype) for p in purposes], grid, like
        )


_DEVIATIONS = (1.0, 12**-0.5)
"""Standard deviations of increment and area over a step of length 1."""


class _Stream:
    def __init__(self, tiles: list[Tiles], grid: StepGrid, like: Tensor) -> None:
        self._tiles = tiles
        self._grid = grid
        self._like = like
        self._scales = _scales(grid, like, _DEVIATIONS[: len(tiles)])
        self._held: tuple[int, list[Tensor]] = (-1, [])

    def increments(self, interval: int, first: int, count: int) -> Increments:
        block, at = divmod(self._grid.offsets[interval] + first, STEPS)
        if self._held[0] != block:
            self._held = -1, []  # Its memory is still in the cache.
            self._held = block, [self._draw(k, block) for k in range(len(self._tiles))]
        parts = [z if count == len(z) else z[at : at + count] for z in self._held[1]]
        if self._scales is None:
            root = self._grid.root(interval, self._like)
            parts = [z * (root * unit) for z, unit in zip(parts, _DEVIATIONS, strict=False)]
        return parts[0], parts[1] if len(parts) == 2 else None

    def _draw(self, k: int, block: int) -> Tensor:
        """Return a block of steps of increments or areas; to scale, where times are shared."""
        start = block * STEPS
        count = min(STEPS, self._grid.n_steps - start)
        if self._scales is None:
            return self._tiles[k].draw((block,), count)
        scales = self._scales[k]
        if isinstance(scales, float):
            return self._tiles[k].draw((block,), count, scale=scales)
        return self._tiles[k].draw((block,), count) * scales[start : start + count]


def _scales(grid: StepGrid, like: Tensor, units: Sequence[float]) -> list[float | Tensor] | None:
    """Return what normals are multiplied by, for each unit over a step of length 1: a number where steps are equal.

    Else ``(n_steps, 1, 1)``; and ``None`` where every path has its own times.
    """
    roots = grid.roots()
    if roots is None:
        return None
    scales: list[float | Tensor] = []
    for unit in units:
        scale = (roots * unit).astype(np.float64 if like.dtype == torch.float64 else np.float32)
        equal = bool((scale == scale[0]).all())
        scales.append(float(scale[0]) if equal else torch.from_numpy(scale).to(like)[:, None, None])
    return scales
