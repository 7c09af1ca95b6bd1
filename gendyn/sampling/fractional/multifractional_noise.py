r"""Noise for the sampler whose Hurst index changes with time.

.. math:: dX = f(t, X)\,dt + g(t, X)\,d\hat B_{H(t)}

with multifractional Brownian motion (:mod:`gendyn.sampling.fractional.multifractional`) in place of Brownian motion.
Its increments over the steps of the grid are exact in the law of the approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike
from gendyn.sampling.fractional.multifractional import Definition, MultifractionalMotion
from gendyn.sampling.fractional.shared_driver import driven_covariance, symmetric_root
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import Driver, Increments
from gendyn.sampling.tiles import STEPS, Tiles

__all__ = ["MultifractionalNoise"]


@dataclass(frozen=True)
class MultifractionalNoise:
    r"""Multifractional Brownian motion of kind II as the noise of an equation, from the first time of the run on.

    Columns are independent, with one curve of the index.

    Parameters
    ----------
    hurst
        :math:`H(t)`, a function of times ``(T,)`` of the run, such as :class:`~gendyn.sampling.fractional.HurstCurve`.
    definition
        ``"evaluated"``: the whole past by the index of the moment; ``"integrated"``: every increment keeps the index it
        was made with.
    count, rates, unit
        See :class:`~gendyn.sampling.fractional.MultifractionalMotion`.

    Raises
    ------
    ValueError
        If there is no such definition, the index leaves (0, 1), or every path has times of its own.

    Examples
    --------
    >>> from gendyn.sampling import SDE, sample
    >>> free = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(1), dim=1, noise_type="additive")
    >>> noise = MultifractionalNoise(lambda t: 0.3 + 0.2 * t)
    >>> paths = sample(free, torch.zeros(4000, 1), [0.0, 2.0], step=0.1, noise=noise)
    >>> round(paths.values[:, -1].var().item())  # 2 ** 1.4 = 2.64
    3
    """

    hurst: Callable[[Tensor], Tensor]
    definition: Definition = "evaluated"
    count: int = 7
    rates: ArrayLike = None
    unit: float = 1.0
    name = "multifractional"
    brownian = False
    stratonovich = True

    def __post_init__(self) -> None:
        if self.definition not in get_args(Definition):
            raise ValueError(f"definition must be 'evaluated' or 'integrated'; got {self.definition!r}")

    def layout(self, grid: StepGrid) -> StepGrid:
        """Return the grid as it is, if its times are shared."""
        if grid.times.ndim != 1:
            raise ValueError(
                "multifractional noise needs times that all paths share: its steps remember each other; simulate paths "
                "with times of their own one after the other, or on the union of their times"
            )
        return grid

    def motion(self, grid: StepGrid) -> MultifractionalMotion:
        """Return the law of the noise on a grid, whose times count from its beginning."""
        counts = torch.tensor(grid.counts)
        gaps = (grid.times.diff() / counts).repeat_interleave(counts).to("cpu", torch.float64)
        ends, begun = torch.cat([gaps.new_zeros(1), gaps.cumsum(0)]), grid.times[0].to("cpu", torch.float64)
        index = self.hurst(ends + begun)
        return MultifractionalMotion(
            ends, index, definition=self.definition, count=self.count, rates=self.rates, unit=self.unit
        )

    def start(
        self, key: int, grid: StepGrid, shape: tuple[int, int], first_row: int, like: Tensor, area: bool
    ) -> Driver:
        """Return the driver of some rows."""
        with torch.no_grad():
            return _Multifractional(self.motion(grid), key, grid, shape, first_row, like)


class _Multifractional:
    """Increments block by block; the state at the beginning of each block is kept, K numbers for 32 steps."""

    def __init__(
        self,
        motion: MultifractionalMotion,
        key: int,
        grid: StepGrid,
        shape: tuple[int, int],
        first_row: int,
        like: Tensor,
    ) -> None:
        exact = like.to(torch.float64)
        self._grid, self._like, self._evaluated = grid, like, motion.definition == "evaluated"
        steps = motion.times.diff()
        self._weights = motion.weights.detach().to(exact)
        self._decays = torch.exp(-steps[:, None] * motion.rates).to(exact)
        self._roots = symmetric_root(driven_covariance(motion.rates, steps)).to(exact)
        self._steps = Tiles(key, "multifractional", *shape, first_row, exact)
        self._known = [torch.zeros(len(motion.rates), *shape, dtype=torch.float64, device=like.device)]
        self._held: tuple[int, Tensor] | None = None

    def increments(self, interval: int, first: int, count: int) -> Increments:
        block, at = divmod(self._grid.offsets[interval] + first, STEPS)
        if self._held is None or self._held[0] != block:
            while len(self._known) <= block:
                self._draw(len(self._known) - 1)
            self._held = block, self._draw(block).to(self._like)
        return self._held[1][at : at + count], None

    def _draw(self, block: int) -> Tensor:
        """Return the increments of a block ``(steps, B, m)``, and keep the state after it."""
        first = block * STEPS
        count = min(STEPS, self._grid.n_steps - first)
        state, found = self._known[block], []
        normals = self._steps.draw((block,), count * len(state)).reshape(count, *state.shape)
        for k, z in enumerate(normals, first):
            moved = self._decays[k][:, None, None] * state + torch.tensordot(self._roots[k], z, 1)
            own, later = self._weights[k], self._weights[k + 1 if self._evaluated else k]
            found.append(torch.tensordot(later, moved, 1) - torch.tensordot(own, state, 1))
            state = moved
        if len(self._known) == block + 1:
            self._known.append(state)
        return torch.stack(found)
