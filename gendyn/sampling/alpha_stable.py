"""Noise with jumps of every size: independent alpha-stable increments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import Driver, Increments
from gendyn.sampling.tiles import STEPS, Tiles

__all__ = ["AlphaStable"]


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
    name = "alpha_stable"
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
