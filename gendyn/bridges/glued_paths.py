r"""Paths of a law that is glued together at the observed times, one interval after the other.

A path starts at a point of a population, draws the point of the next population that it goes to, then what lies between
the two, and goes on from there. What differs among laws is how one interval is drawn; everything else is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gendyn.bridges.transition import linear_part, resolving_step
from gendyn.coupling.cost import check_weights
from gendyn.data import Paths, Snapshots
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling import LinearProcess, Process, accurate_solver, sample

__all__ = ["SAME_TIME", "GluedPaths", "blocks", "normalised_weights", "stratified"]

_ENTRIES = 2_000_000
"""Entries of the matrices of transition laws that are held at once while paths are drawn."""

SAME_TIME = 1e-9
"""Part of an interval by which two times may differ and still be one."""


class GluedPaths(ABC):
    r"""A law of paths through populations that is drawn interval by interval.

    Attributes
    ----------
    times : Tensor
        The observed times ``(K + 1,)``.
    samples, weights : tuple of Tensor
        The populations ``(n_k, d)`` and their weights ``(n_k,)``, float64.
    """

    times: Tensor
    samples: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]

    @property
    @abstractmethod
    def process_reference(self) -> Process:
        """The reference, as a process of whole states ``(n, D)``."""

    @abstractmethod
    def _sources(self, k: int, n: int, generator: torch.Generator, share: float = 0.0) -> tuple[Tensor, Tensor]:
        """Draw ``n`` states of the ``k``-th population: whole states ``(n, D)`` and their rows ``(n,)``.

        Where cells multiply, they are drawn as often as they have descendants after this share of the interval.
        """

    @abstractmethod
    def _advance(
        self, states: Tensor, rows: Tensor | None, k: int, now: float, elapsed: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw one interval.

        Parameters
        ----------
        states
            Whole states ``(n, D)`` at time ``now`` in the ``k``-th interval.
        rows
            Which rows of the interval's sources they are, ``(n,)``, where they are any.
        elapsed
            Times ``(S,)`` after ``now``; the last is the end of the interval.

        Returns
        -------
        tuple of Tensor
            States ``(S, n, D)``, and the rows ``(n,)`` of the next population that the paths arrive at.
        """

    def observe(self, states: Tensor) -> Tensor:
        """Return the observed features ``(..., d)`` of whole states ``(..., D)``."""
        return states

    def complete(self, x: Tensor, t: float, seed: Seed = 0) -> Tensor:
        """Return whole states ``(n, D)`` of points ``(n, d)`` at a time; those that are whole stay as they are."""
        return x.to(self.samples[0])

    def size_before(self, t: float) -> int:
        """Return the number of rows at the last observed time that is not after ``t``."""
        return len(self.samples[max(0, self._interval(t))])

    @property
    def dim(self) -> int:
        """Number of features ``d``."""
        return int(self.samples[0].shape[1])

    def interpolate(self, t: float, n: int, seed: Seed = 0) -> Tensor:
        """Draw ``n`` points of the bridge at a time: ``(n, d)``, float64.

        Sources are taken in turn rather than drawn. At an observed time the points are rows of the data.

        Parameters
        ----------
        t
            A time from the first to the last observed one.
        n
            How many.
        seed
            An integer, or a generator to draw from.

        Raises
        ------
        ValueError
            If ``t`` is not between the observed times, or ``n`` not positive.
        """
        return self.sample_paths([float(t)], n, seed)[:, 0]

    def sample_paths(self, times: Sequence[float] | Tensor, n: int, seed: Seed = 0) -> Tensor:
        """Draw ``n`` paths of the bridge at increasing times between the observed ones: ``(n, T, d)``, float64.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range, or ``n`` is not positive.
        """
        return self.observe(self.sample_states(times, n, seed))

    def sample_states(self, times: Sequence[float] | Tensor, n: int, seed: Seed = 0) -> Tensor:
        """Draw ``n`` paths with the hidden coordinates of the reference, where it has any: ``(n, T, D)``, float64.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range, or ``n`` is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        grid = self._grid(times)
        return self._start_and_run(grid, n, seed)[0]

    def continue_from(self, x: Tensor, times: Sequence[float] | Tensor, seed: Seed = 0) -> Tensor:
        r"""Draw paths of the bridge from whole states at ``times[0]``, wherever they are: ``(n, T, D)``, float64.

        The end of each path's interval is drawn from :math:`\pi(j \mid t, x) \propto b_j e^{g_j} p(t, x \to y_j)`.

        Parameters
        ----------
        x
            States ``(n, D)`` at ``times[0]``; see :meth:`complete` where some coordinates are hidden.
        times
            Increasing times ``(T,)`` between the observed ones.
        seed
            An integer, or a generator to draw from.

        Raises
        ------
        ValueError
            If times do not increase strictly or leave the observed range, or states have another number of features.
        """
        grid = self._grid(times)
        states = x.detach().to(self.samples[0])
        whole = self.process_reference.dim
        if states.ndim != 2 or states.shape[1] != whole:
            raise ValueError(f"states must have shape (n, {whole}); got {tuple(states.shape)}")
        return self._run(states, None, self._interval(grid[0]), grid[0], grid, _generator(seed))[0]

    def forecast(
        self,
        times: Sequence[float] | Tensor,
        n: int,
        *,
        start: Literal["last", "first"] = "last",
        step: float | None = None,
        seed: Seed = 0,
    ) -> Paths:
        """Run the reference on from the last observed population, or from the first.

        Parameters
        ----------
        times
            Increasing times ``(T,)`` after that population.
        n
            Number of paths.
        start
            Where they start.
        step
            Longest step; by default the reference's own ``time_step``, or one that resolves its Jacobian where
            paths start, and a hundredth of the shortest interval.
        seed
            Which points they start from, and their noise.

        Raises
        ------
        ValueError
            If times are not after the start.
        """
        if start not in ("last", "first"):
            raise ValueError(f"start must be 'last' or 'first'; got {start!r}")
        k = len(self.times) - 1 if start == "last" else 0
        root = as_seed(seed)
        origin = float(self.times[k])
        grid = [float(t) for t in times]
        if not grid or not grid[0] > origin:
            raise ValueError(f"a forecast needs times after {origin:g}, where it starts; got {grid[:1]}")
        states, _ = self._sources(k, n, torch_generator(root, "start"))
        paths = self.run_reference(states, [origin, *grid], step, derive_seed(root, "forecast"))
        return Paths(paths.times, self.observe(paths.values), info=paths.info)

    def run_reference(self, x: Tensor, times: Sequence[float], step: float | None, seed: int) -> Paths:
        """Simulate the reference from states at ``times[0]`` and return the later times.

        Parameters
        ----------
        x
            Whole states ``(n, D)``.
        times
            Increasing times ``(T + 1,)``.
        step
            Longest step; by default as for :meth:`forecast`.
        seed
            Which noise.
        """
        reference = self.process_reference
        linear = linear_part(reference)
        if isinstance(linear, LinearProcess) and linear.noise_dim == linear.dim:
            paths = sample(linear, x, list(times), solver="exact_linear", substeps=1, seed=seed)
        else:
            longest = step or getattr(reference, "time_step", None)
            if longest is None:
                # Hidden coordinates are known where paths start; elsewhere only what was measured is.
                hidden = self.samples[0].shape[1] != reference.dim
                known = [x] * len(self.times) if hidden else self.samples
                longest = resolving_step(reference, self.times, known)
            solver = accurate_solver(reference, self.times[0].to(x.device, x.dtype), x)
            paths = sample(reference, x, list(times), solver=solver, step=longest, seed=seed)
        return Paths(list(times)[1:], paths.values[:, 1:], info=paths.info)

    def _grid(self, times: Sequence[float] | Tensor) -> list[float]:
        """Return increasing times, those within rounding of an observed one exactly there."""
        grid = [float(t) for t in torch.as_tensor(times, dtype=torch.float64).reshape(-1)]
        if not grid:
            raise ValueError("times must hold at least one time; got none")
        low, high = float(self.times[0]), float(self.times[-1])
        slack = SAME_TIME * float(self.times.diff().min())
        for k, t in enumerate(grid):
            if not low - slack <= t <= high + slack:
                raise ValueError(
                    f"time {t:g} lies outside the observed times, from {low:g} to {high:g}; a bridge has two ends: "
                    "use forecast for what comes after the last"
                )
            nearest = float(self.times[int((self.times - t).abs().argmin())])
            grid[k] = nearest if abs(nearest - t) <= slack else t
        for k, (before, after) in enumerate(pairwise(grid)):
            if not after > before:
                raise ValueError(f"times must increase strictly; got {after:g} after {before:g} at position {k + 1}")
        return grid

    def _interval(self, t: float) -> int:
        """Return the last observed time that is not after ``t``; the end of the last interval is a start as well."""
        return int(torch.searchsorted(self.times, torch.tensor(t, dtype=torch.float64), right=True)) - 1

    def _start_and_run(self, grid: Sequence[float], n: int, seed: Seed) -> tuple[Tensor, list[Tensor | None]]:
        """Draw paths from the population before the first time, where cells stand for as many as they have become."""
        generator = _generator(seed)
        k = self._interval(grid[0])
        start = float(self.times[k])
        share = 0.0 if grid[0] == start else (grid[0] - start) / (float(self.times[k + 1]) - start)
        states, rows = self._sources(k, n, generator, share)
        return self._run(states, rows, k, start, grid, generator)

    @torch.no_grad()
    def _run(
        self,
        states: Tensor,
        rows: Tensor | None,
        k: int,
        now: float,
        grid: Sequence[float],
        generator: torch.Generator,
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Draw paths from states at time ``now`` in interval ``k``, rows of its sources where those are given.

        Returns
        -------
        tuple
            Paths ``(n, T, D)``, and the rows of every observed time from ``k`` on that they went through.
        """
        parts = [states[None]] if grid[0] == now else []
        visited = [rows]
        while now < grid[-1]:
            end = float(self.times[k + 1])
            inside = [t for t in grid if now < t < end]
            elapsed = torch.tensor([t - now for t in (*inside, end)], dtype=torch.float64)
            path, rows = self._advance(states, rows, k, now, elapsed, generator)
            parts.append(path if end in grid else path[:-1])
            visited.append(rows)
            states, now, k = path[-1], end, k + 1
        return torch.cat(parts).transpose(0, 1), visited


def normalised_weights(data: Snapshots) -> tuple[Tensor, ...]:
    """Return the weights of every time, float64, each of sum 1."""
    given = data.weights or (None,) * len(data)
    return tuple(
        check_weights(weights, x.to(torch.float64), "weights") for x, weights in zip(data.samples, given, strict=True)
    )


def blocks(n: int, entries: int) -> Iterator[slice]:
    """Divide ``n`` rows so that rows times entries stay bounded."""
    size = max(1, _ENTRIES // entries)
    for start in range(0, n, size):
        yield slice(start, start + size)


def stratified(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw ``n`` rows, each as often as its weight says up to one (systematic resampling)."""
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    shift = float(torch.rand((), generator=generator, dtype=torch.float64))
    places = (torch.arange(n, dtype=torch.float64) + shift) / n
    cumulative = weights.cpu().cumsum(0)
    rows = torch.searchsorted(cumulative / cumulative[-1], places, right=True)
    # Rounding may not lead to a last row without weight.
    return rows.clamp_(max=int(torch.nonzero(weights.cpu())[-1])).to(weights.device)


def _generator(seed: Seed) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch_generator(seed, "bridge")
