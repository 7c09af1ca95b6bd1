"""Coupled ends of an interpolant: who is joined to whom, drawn for a mini-batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.coupling import Coupling
from gendyn.data import Snapshots
from gendyn.randomness import torch_generator

__all__ = ["DrawEnds", "Ends", "HeldEnds", "ends_from_data", "ends_from_noise", "ends_of_itself", "ends_of_pairs"]


@dataclass(frozen=True)
class Ends:
    """Coupled ends of some rows.

    Attributes
    ----------
    source, target
        ``(B, d)``.
    condition
        ``(B, c)``, or ``None``.
    """

    source: Tensor
    target: Tensor
    condition: Tensor | None = None


DrawEnds = Callable[[Tensor, torch.Generator], Ends]
"""Gap numbers ``(B,)`` and a generator to coupled ends."""


class HeldEnds:
    """Ends that serve several steps: the same pairs, in another order and so with other times.

    Coupling a batch costs more than a step of a small network. Pairs depend on the step's number and a seed alone.

    Parameters
    ----------
    draw
        Draws the pairs; it is not told gaps, so there must be one.
    steps
        How many steps they serve.
    seed
        Root of the pairs' randomness.
    """

    def __init__(self, draw: DrawEnds, steps: int, seed: int) -> None:
        self.draw = draw
        self.steps = steps
        self.seed = seed
        self._held: tuple[tuple[int, int], Ends] | None = None

    def at(self, step: int) -> DrawEnds:
        """Return what draws the ends of one step."""

        def draw(gap: Tensor, generator: torch.Generator) -> Ends:
            key = (step // self.steps, len(gap))
            if self._held is None or self._held[0] != key:
                fresh = self.draw(torch.zeros_like(gap), torch_generator(self.seed, "pairs", key[0]))
                self._held = (key, fresh)
            held = self._held[1]
            order = torch.randperm(len(gap), generator=generator).to(held.source.device)
            return Ends(
                held.source[order], held.target[order], None if held.condition is None else held.condition[order]
            )

        return draw


def ends_of_pairs(data: Snapshots, table: Tensor, conditions: list[Tensor] | None = None) -> DrawEnds:
    """Return what draws the ends of each gap from a table of coupled tuples.

    Parameters
    ----------
    data
        Populations at ``K + 1`` times.
    table
        Index tuples ``(N, K + 1)``.
    conditions
        Encoded conditions of each population, ``(n_k, c)``; those of the later end are given.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(3, 1), torch.ones(3, 1)])
    >>> draw = ends_of_pairs(data, torch.arange(3)[:, None].expand(-1, 2))
    >>> draw(torch.zeros(2, dtype=torch.int64), torch.Generator().manual_seed(0)).target.tolist()
    [[1.0], [1.0]]
    """
    flat = torch.cat(list(data.samples))
    known = None if conditions is None else torch.cat(conditions).to(flat)
    first = torch.tensor([0, *data.sizes[:-1]]).cumsum(0)
    index = (table.cpu() + first).to(flat.device)

    def draw(gap: Tensor, generator: torch.Generator) -> Ends:
        rows = torch.randint(len(index), (len(gap),), generator=generator).to(flat.device)
        gap = gap.to(flat.device)
        earlier, later = index[rows, gap], index[rows, gap + 1]
        return Ends(flat[earlier], flat[later], None if known is None else known[later])

    return draw


def ends_from_noise(data: Snapshots, coupling: Coupling | None = None, conditions: Tensor | None = None) -> DrawEnds:
    """Return what draws standard Gaussian noise and points of one population.

    Parameters
    ----------
    data
        One population; its weights are the probabilities with which points are drawn.
    coupling
        Joins the noise of a batch to its points; ``None`` joins anyone to anyone.
    conditions
        Encoded conditions ``(n, c)``. A coupling then joins within each of them alone: across them it would give each
        condition noise of its own, and what is generated from plain noise would be wrong.

    Examples
    --------
    >>> draw = ends_from_noise(Snapshots([0.0], [torch.ones(3, 1)]))
    >>> draw(torch.zeros(2, dtype=torch.int64), torch.Generator().manual_seed(0)).target.tolist()
    [[1.0], [1.0]]
    """
    draw_points = _points(data, conditions)

    def draw(gap: Tensor, generator: torch.Generator) -> Ends:
        end, chosen = draw_points(len(gap), generator)
        start = torch.randn(end.shape, generator=generator, dtype=end.dtype).to(end.device)
        if coupling is None:
            return Ends(start, end, chosen)
        if chosen is None:
            i, j = coupling(start, end, generator=generator)
            return Ends(start[i], end[j])
        kinds = torch.unique(chosen, dim=0, return_inverse=True)[1]
        for kind in range(int(kinds.max()) + 1):
            rows = torch.nonzero(kinds == kind).flatten()
            i, j = coupling(start[rows], end[rows], generator=generator)
            start[rows[j]] = start[rows[i]]
        return Ends(start, end, chosen)

    return draw


def ends_from_data(
    data: Snapshots,
    means: Tensor,
    draw_source: Callable[[Tensor, torch.Generator], Tensor],
    conditions: Tensor | None = None,
) -> DrawEnds:
    """Return what draws points of one population, and sources that are made from them with fresh noise.

    Parameters
    ----------
    data
        One population; its weights are the probabilities with which points are drawn.
    means
        Of the source of every point ``(n, d)``.
    draw_source
        Means ``(B, d)`` and a generator to sources ``(B, d)``.
    conditions
        Encoded conditions ``(n, c)``.

    Examples
    --------
    >>> data = Snapshots([0.0], [torch.tensor([[1.0], [1.0]])])
    >>> draw = ends_from_data(data, 3.0 * data.samples[0], lambda mean, generator: mean + 0.5)
    >>> ends = draw(torch.zeros(1, dtype=torch.int64), torch.Generator().manual_seed(0))
    >>> ends.source.tolist(), ends.target.tolist()
    ([[3.5]], [[1.0]])
    """
    points, draw_rows = data.samples[0], _rows(data)
    known = None if conditions is None else conditions.to(points)

    def draw(gap: Tensor, generator: torch.Generator) -> Ends:
        rows = draw_rows(len(gap), generator)
        return Ends(draw_source(means[rows], generator), points[rows], None if known is None else known[rows])

    return draw


def ends_of_itself(data: Snapshots, conditions: Tensor | None = None) -> DrawEnds:
    """Return what draws points of one population as both of their ends.

    Examples
    --------
    >>> draw = ends_of_itself(Snapshots([0.0], [torch.ones(3, 1)]))
    >>> ends = draw(torch.zeros(2, dtype=torch.int64), torch.Generator().manual_seed(0))
    >>> torch.equal(ends.source, ends.target)
    True
    """
    draw_points = _points(data, conditions)

    def draw(gap: Tensor, generator: torch.Generator) -> Ends:
        end, chosen = draw_points(len(gap), generator)
        return Ends(end, end, chosen)

    return draw


def _points(
    data: Snapshots, conditions: Tensor | None
) -> Callable[[int, torch.Generator], tuple[Tensor, Tensor | None]]:
    points, draw_rows = data.samples[0], _rows(data)
    known = None if conditions is None else conditions.to(points)

    def draw(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        rows = draw_rows(n, generator)
        return points[rows], None if known is None else known[rows]

    return draw


def _rows(data: Snapshots) -> Callable[[int, torch.Generator], Tensor]:
    """Return what draws row numbers of one population, by weight where it has weights."""
    points = data.samples[0]
    weights = None if data.weights is None else data.weights[0].double().cpu()

    def draw(n: int, generator: torch.Generator) -> Tensor:
        if weights is None:
            rows = torch.randint(len(points), (n,), generator=generator)
        else:
            rows = torch.multinomial(weights, n, replacement=True, generator=generator)
        return rows.to(points.device)

    return draw
