r"""Adaptive steps for stochastic equations: cells of a Brownian tree, halved where a step is not good enough.

A step over a cell is compared with two over its halves, along the same Brownian path:

.. math:: e = \sqrt{\frac1d \sum_i \Bigl(\frac{x''_i - x'_i}{\mathrm{atol} + \mathrm{rtol} \max(|x_i|, |x''_i|)}
    \Bigr)^2}

with :math:`x'` after one step and :math:`x''` after two. If :math:`e \le 1` the two are taken, else each half is a cell
of its own. Every path has steps of its own. No increment is ever drawn again after a rejection, which would favour
the easy ones and bias the result; and whatever of the path a decision has seen is also stepped through, without which
adaptive steps may tend to a wrong limit (Foster and Jelincic 2024). Euler-Maruyama with multiplicative noise does so
all the same, and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.sampling.brownian_tree import DEEPEST, Cells, Place
from gendyn.sampling.process import Calculus, NoiseType, Process
from gendyn.sampling.runner import check_state
from gendyn.sampling.solvers import Solver

__all__ = ["Adaptive", "HalvedRun"]

_MOST_VISITS = 200_000
"""Cells that are tried at most, by any path."""


@dataclass
class HalvedRun:
    """States at the output times after the first, and what they cost the path that cost most."""

    values: list[Tensor]
    steps: int
    rejected: int
    taken: int
    """Steps that were computed, those that were rejected included."""


class Adaptive:
    """A solver with adaptive steps on a Brownian tree.

    Parameters
    ----------
    method
        The step; of strong order 1 or more for the noise at hand.
    rtol, atol
        Relative and absolute tolerance of a step.

    Examples
    --------
    >>> from gendyn.sampling import SDE, sample
    >>> process = SDE(lambda t, x: -x, lambda t, x: 0.5 * x, dim=1, calculus="stratonovich")
    >>> paths = sample(process, torch.ones(4, 1), [0.0, 1.0], solver="heun", rtol=1e-3, atol=1e-3, noise="tree")
    >>> paths.info["n_steps"] > 2
    True
    """

    def __init__(self, method: Solver, rtol: float, atol: float) -> None:
        for name, value in (("rtol", rtol), ("atol", atol)):
            if not value >= 0:
                raise ValueError(f"{name} must be zero or positive; got {value}")
        if rtol == atol == 0:
            raise ValueError("one of rtol and atol must be positive")
        self.method = method
        self.rtol = rtol
        self.atol = atol
        self.name: str = method.name
        self.calculus: tuple[Calculus, ...] = method.calculus
        self.noise_types: tuple[NoiseType, ...] = method.noise_types

    def check(self, process: Process) -> None:
        """Say whether the step may be adapted for a process.

        Raises
        ------
        ValueError
            If it may not.
        """
        method = self.method
        if hasattr(method, "forth") or method.order == math.inf:
            raise ValueError(f"solver {self.name!r} has no adaptive steps; leave out rtol and atol, or use 'heun'")
        if process.noise_type != "additive" and method.order < 1:
            raise ValueError(
                f"solver {self.name!r} with {process.noise_type} noise tends to a wrong limit where it adapts its "
                "steps; use 'milstein' or 'sri2' for diagonal and scalar Ito noise, or 'heun' after to_stratonovich"
            )

    def run(
        self,
        process: Process,
        x0: Tensor,
        times: Tensor,
        places: list[Place],
        cells: Cells,
        *,
        advance: Callable[[int], None] = lambda k: None,
    ) -> HalvedRun:
        """Return the states at ``times`` ``(T,)``, with steps of the given places at most.

        Raises
        ------
        RuntimeError
            If a step would be too short, or too many would be needed.
        FloatingPointError
            If a state is not finite, however short the steps.
        """
        walk = _Walk(self, process, cells, x0)
        x, values = x0, []
        everyone = torch.arange(len(x0), device=x0.device)
        for k, place in enumerate(places):
            start, end = float(times[k]), float(times[k + 1])
            h = (end - start) / place.steps
            for i in range(place.steps):
                x = walk.over(x, everyone, start + i * h, h, (place.cell, place.depth, place.first + i))
                advance(1)
            values.append(x)
        return HalvedRun(values, *(int(count.max()) for count in (walk.steps, walk.rejected, walk.taken)))


class _Walk:
    """One run: states go from cell to cell, and counts are kept."""

    def __init__(self, solver: Adaptive, process: Process, cells: Cells, x0: Tensor) -> None:
        self._solver = solver
        self._process = process
        self._cells = cells
        self.steps, self.rejected, self.taken = (
            torch.zeros(len(x0), dtype=torch.int64, device=x0.device) for _ in range(3)
        )
        self._visits = 0

    def over(
        self, x: Tensor, rows: Tensor, t: float, h: float, cell: tuple[int, int, int], whole: Tensor | None = None
    ) -> Tensor:
        """Return the states of some rows after a cell; ``whole``, if they are known, after one step over it."""
        root, depth, number = cell
        self._visits += 1
        if self._visits > _MOST_VISITS:
            raise RuntimeError(
                f"{self._solver.name} needs more than {_MOST_VISITS} steps to meet its tolerances (it stands at "
                f"t={t:.6g}); loosen rtol and atol"
            )
        self.taken[rows] += 2 if whole is not None else 3
        if whole is None:
            whole = self._step(x, rows, t, h, self._piece(root, depth, number))
        left, right = (self._piece(root, depth + 1, 2 * number + side) for side in (0, 1))
        middle = self._step(x, rows, t, 0.5 * h, left)
        halves = self._step(middle, rows, t + 0.5 * h, 0.5 * h, right)
        good = self._good(x, whole, halves)
        self.steps[rows[good]] += 2
        if bool(good.all()):
            return halves
        bad = torch.nonzero(~good).flatten()
        self.rejected[rows[bad]] += 1
        if depth + 2 > DEEPEST:
            check_state(halves[bad], t + h, int(self.steps.max()), self._solver.name)
            raise RuntimeError(
                f"{self._solver.name} cannot meet its tolerances at t={t:.6g} (step {h:.1e}); loosen rtol and atol, or "
                "look at drift and diffusion there"
            )
        # The first half step was a step over the left half.
        after = self.over(x[bad], rows[bad], t, 0.5 * h, (root, depth + 1, 2 * number), middle[bad])
        after = self.over(after, rows[bad], t + 0.5 * h, 0.5 * h, (root, depth + 1, 2 * number + 1))
        return halves.index_copy(0, bad, after)

    def _piece(self, root: int, depth: int, number: int) -> tuple[Tensor, Tensor]:
        w, area = self._cells.between(root, depth, number, 1)
        return w[0], area[0]

    def _step(self, x: Tensor, rows: Tensor, t: float, h: float, piece: tuple[Tensor, Tensor]) -> Tensor:
        w, area = piece
        if len(rows) < len(w):
            w, area = w[rows], area[rows]
        time = torch.tensor(t, dtype=x.dtype, device=x.device)
        return self._solver.method.step(self._process, time, h, x, w, area)

    def _good(self, x: Tensor, whole: Tensor, halves: Tensor) -> Tensor:
        with torch.no_grad():
            scale = self._solver.atol + self._solver.rtol * torch.maximum(x.abs(), halves.abs())
            return ((halves - whole) / scale).square().mean(1) <= 1.0
