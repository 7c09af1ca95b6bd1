"""The multi-marginal bridge of random batches: for populations whose pairs cannot even be looked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from gendyn.bridges.density_rows import density_rows
from gendyn.bridges.interval_laws import interval_laws
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.transition import TransitionLaw, transition_law
from gendyn.coupling import Batches, Plan, StaticBridge, minibatch_bridge
from gendyn.coupling.minibatch_bridge import in_turn
from gendyn.coupling.row_blocks import LogDensities, Watch
from gendyn.data import Snapshots
from gendyn.randomness import derive_seed, torch_generator
from gendyn.sampling import Process

__all__ = ["BatchedBridge"]

_ATOMS = 25_000_000
"""Pairs within batches that a plan holds."""


class BatchedBridge(MultiMarginalBridge):
    r"""A bridge whose couplings are those of random batches, see :func:`~gendyn.coupling.minibatch_bridge`.

    A path that starts from a row goes to a row of its batch. One that starts anywhere else may go to any, by the
    potentials of all batches.

    Parameters
    ----------
    reference, data, potentials, weights, substeps, kl
        As for :class:`MultiMarginalBridge`.
    batches
        Who is in which batch, one an interval.

    Examples
    --------
    >>> from gendyn.systems import BrownianMotion
    >>> x = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    >>> bridge, solved = BatchedBridge.solve_batches(BrownianMotion(), Snapshots([0.0, 1.0], [x, x + 3.0]), 50)
    >>> 1.4 < bridge.interpolate(0.5, 2000).mean().item() - x.mean().item() < 1.6
    True
    """

    def __init__(
        self,
        reference: Process,
        data: Snapshots,
        potentials: Sequence[tuple[Tensor, Tensor]],
        batches: Sequence[Batches],
        *,
        weights: Sequence[Tensor] | None = None,
        substeps: int = 16,
        kl: Tensor | None = None,
    ) -> None:
        super().__init__(reference, data, potentials, weights=weights, substeps=substeps, kl=kl)
        self.batches = tuple(batches)

    @classmethod
    @torch.no_grad()
    def solve_batches(
        cls,
        reference: Process,
        data: Snapshots,
        batch_size: int,
        *,
        seed: int = 0,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
        substeps: int = 16,
        done: Sequence[StaticBridge] = (),
        after: Callable[[list[StaticBridge]], None] = lambda solved: None,
        watch: Watch = lambda passes, error: None,
    ) -> tuple[Self, list[StaticBridge]]:
        """Couple the batches of every interval; return the bridge, and how far each interval got.

        Parameters
        ----------
        reference, data, substeps, tolerance, max_iterations, done, after, watch
            As for :meth:`MultiMarginalBridge.solve`.
        batch_size
            Rows of either side of a batch, at most.
        seed
            Who goes into which batch.

        Raises
        ------
        ValueError
            If the reference has no transition density between the populations, or batches are too small.
        """
        samples = tuple(x.to(torch.float64) for x in data.samples)
        batches = [
            Batches.deal(x, y, batch_size, torch_generator(derive_seed(seed, "batches", k), "deal"))
            for k, (x, y) in enumerate(pairwise(samples))
        ]
        bridge = cls(reference, data, (), batches, substeps=substeps)
        solved = list(done)
        for k, law in enumerate(interval_laws(reference, samples, bridge.times, substeps)):
            if k < len(done):
                continue
            low, high = data.times[k : k + 2].tolist()
            options: dict[str, Any] = {"tolerance": tolerance, "max_iterations": max_iterations, "watch": watch}
            pairs, name = density_rows(law, samples[k + 1]), f"the coupling between times {low:g} and {high:g}"
            a, b = bridge.weights[k : k + 2]
            solved.append(minibatch_bridge(pairs, a, b, batches[k], name=name, **options))
            after(solved)
        bridge.potentials = tuple(result.potentials for result in solved)
        bridge._kl = torch.tensor([result.kl for result in solved], dtype=torch.float64)
        return bridge, solved

    @property
    def in_blocks(self) -> bool:
        """Whether pairs are too many to be looked at together: those of batches are not."""
        return False

    def block_rows(self, k: int) -> int | None:
        """Return how many rows of the ``k``-th coupling are held at once, those of the largest batch."""
        return int(torch.bincount(self.batches[k].rows).max())

    @cached_property
    @torch.no_grad()
    def plans(self) -> tuple[Plan, ...]:
        """The couplings of all intervals, each of mass 1.

        Raises
        ------
        ValueError
            If batches have too many pairs to be held together; see :meth:`truncated_plan`.
        """
        for x, batches in zip(self.samples[1:], self.batches, strict=True):
            held = len(batches.rows) * len(x) // batches.count
            if held > _ATOMS:
                raise ValueError(
                    f"the batches of a coupling have some {held} pairs, too many to be held as one plan; take "
                    "truncated_plan(k), which keeps the heaviest pairs of every row"
                )
        return tuple(self.truncated_plan(k, max(map(len, self.samples)))[0] for k in range(len(self.batches)))

    @torch.no_grad()
    def truncated_plan(self, k: int, atoms: int = 50) -> tuple[Plan, float]:
        """Return the ``k``-th coupling with the heaviest pairs of every row alone, and the mass that this leaves out.

        Parameters
        ----------
        k
            Which interval.
        atoms
            How many pairs a row keeps; their mass is raised to that of the row.
        """
        a, terms = self.weights[k], self._terms(k)
        pairs = density_rows(self._from_rows(k), self.samples[k + 1])
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        lost = 0.0
        for rows, columns in self.batches[k]:
            mass = torch.softmax(_exponents(pairs, rows, columns, terms), 1)
            top = mass.topk(min(atoms, len(columns)), 1)
            share = top.values.sum(1)
            lost += float(a[rows] @ (1 - share))
            kept = top.values * (a[rows] / share)[:, None]
            found.append((rows.repeat_interleave(kept.shape[1]), columns[top.indices].flatten(), kept.flatten()))
        rows, columns, mass = (torch.cat(part) for part in zip(*found, strict=True))
        return Plan(rows, columns, mass, (len(a), len(terms))), lost

    def tensors(self) -> dict[str, Tensor]:
        """Return the potentials and batches, as a file holds them."""
        found = super().tensors() | {"kl": self.kl}
        for k, batches in enumerate(self.batches):
            found |= {f"batch.{k}.rows": batches.rows, f"batch.{k}.columns": batches.columns}
        return found

    def _terms(self, k: int) -> Tensor:
        return self.weights[k + 1].log() + self.potentials[k][1]

    def _from_rows(self, k: int, rows: Tensor | slice = slice(None)) -> TransitionLaw:
        """Return how rows of a population move to the next time."""
        start, end = self.times[k : k + 2].tolist()
        elapsed = torch.tensor([end - start], dtype=torch.float64)
        return transition_law(self.reference, self.samples[k][rows], start, elapsed, substeps=self.substeps)

    def _partners(self, rows: Tensor | None, k: int, generator: torch.Generator) -> Tensor | None:
        """Draw the columns that rows go to, within their batches."""
        if rows is None:
            return None
        uniform = torch.rand(len(rows), generator=generator, dtype=torch.float64).to(rows.device)
        sources, which = torch.unique(rows, return_inverse=True)
        pairs, terms = density_rows(self._from_rows(k, sources), self.samples[k + 1]), self._terms(k)
        labels = self.batches[k].rows[sources]
        drawn = torch.empty_like(rows)
        # Paths in the order of their batches, so that each batch is looked at once.
        groups = in_turn(labels[which], self.batches[k].count)
        for paths, (_, columns) in zip(groups, self.batches[k], strict=True):
            if len(paths) == 0:
                continue
            inside, place = torch.unique(which[paths], return_inverse=True)
            cumulative = torch.softmax(_exponents(pairs, inside, columns, terms), 1).cumsum(1)[place]
            level = uniform[paths, None] * cumulative[:, -1:]
            ends = torch.searchsorted(cumulative, level, right=True).clamp_max(len(columns) - 1)[:, 0]
            drawn[paths] = columns[ends]
        return drawn


def _exponents(pairs: LogDensities, rows: Tensor, columns: Tensor, terms: Tensor) -> Tensor:
    """Return logarithms of the masses of some rows and columns, up to a number a row."""
    return pairs.columns(columns).exponents(rows, terms.new_zeros(1), terms[columns])
