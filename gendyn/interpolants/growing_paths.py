r"""Coupled paths whose mass may grow: who is joined to whom, and how much mass a path carries where.

Between two populations with weights a, b the unbalanced plan of relaxation :math:`\rho` leaves out mass that is dear to
move. With its potentials f, g it keeps :math:`r_i = a_i e^{-f_i/\rho}` of the first and :math:`c_j = b_j e^{-g_j/\rho}`
of the second (Chizat, Peyre, Schmitzer and Vialard 2018), and between these it is a balanced plan P. At the fraction s
of the gap a pair then carries the mass

.. math:: m_{ij}(s) = P_{ij} \Bigl(\frac{a_i}{r_i}\Bigr)^{1-s} \Bigl(\frac{b_j}{c_j}\Bigr)^{s},

whose marginals are a at the start and b at the end, exactly; it grows at the constant rate
:math:`(g_j - f_i)/\rho` per gap, up to a number that is the same for all. Chained through all times by the conditional
plans, forward and backward, a pair of every gap becomes a tuple. The pairs of each gap are drawn anew: one table of
tuples for all times would have the same law, but its masses multiply from gap to gap until few tuples hold all.

The populations have mass one here; where their weights have sums that differ, the sums' growth is added to every rate.

At most 5000 cells of each time are joined. Potentials are solved between at most 1500 of them, and are known at the
others by one more soft minimum. A cell keeps at least a thousandth of the share that the mean cell keeps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.coupling import Plan, exact_plan, sinkhorn_plan
from gendyn.coupling.cost import Cost, cost_matrix
from gendyn.data import Snapshots
from gendyn.interpolants.coupled_paths import CoupledPaths, default_regularisation
from gendyn.parallel import spread
from gendyn.randomness import derive_seed, torch_generator

__all__ = ["GrowingPaths", "couple_growing"]

_SOLVED_CELLS = 1500
"""Cells of each time between which potentials are solved."""

_CHAINED_CELLS = 5000
"""Cells of each time that are joined; plans between more would take minutes."""

_LEAST_SURVIVAL = 1e-3
"""Share of its own mass that a cell keeps at least, where the mean keeps all: none loses all its partners."""


class GrowingPaths(CoupledPaths):
    """Coupled populations with tuples of each gap, and how much their masses grow over it.

    Parameters
    ----------
    snapshots
        Populations at ``T`` times.
    table, growth
        Index tuples ``(T - 1, N, T)`` of each gap and how much their masses grow over it, ``(T - 1, N)``, as
        :func:`couple_growing` draws them.
    totals
        Mass of each population ``(T,)``, which all cells' growth adds up to; by default all the same.
    """

    def __init__(self, snapshots: Snapshots, table: Tensor, growth: Tensor, totals: Tensor | None = None) -> None:
        super().__init__(snapshots, table.flatten(0, 1))
        known = torch.ones(len(snapshots)) if totals is None else totals
        self.log_totals = known.log().to(device=snapshots.device, dtype=snapshots.dtype)
        self.growth = growth.to(device=snapshots.device, dtype=snapshots.dtype)
        self.knots = (snapshots.times - snapshots.times[0]) / (snapshots.times[-1] - snapshots.times[0])

    def at(self, rows: Tensor, s: Tensor) -> Tensor:
        """Return as many row numbers ``(B,)``, of tuples that are meant for the gaps of scaled times ``s (B,)``."""
        n = self.growth.shape[1]
        return self._gap(s) * n + rows.to(s.device) % n

    def mass(self, rows: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return masses ``(B,)`` of tuples at scaled times ``s (B,)``, of mean one, and their growth rates ``(B,)``.

        The tuples are those :meth:`at` these times.
        """
        knots, gap = self.knots.to(s), self._gap(s)
        grown = self.growth.flatten().index_select(0, rows.to(self.growth.device))
        length = knots[gap + 1] - knots[gap]
        local = ((s - knots[gap]) / length).to(grown.dtype)
        # A share of the batch: the largest is taken out first, which in single precision may be beyond all numbers.
        mass = (local * grown).softmax(0) * len(local)
        together = self.log_totals.diff().index_select(0, gap)
        return mass, (grown + together) / length.to(grown.dtype)

    def _gap(self, s: Tensor) -> Tensor:
        knots = self.knots.to(s)
        return (torch.searchsorted(knots, s.contiguous(), right=True) - 1).clamp(0, len(knots) - 2)


def couple_growing(
    snapshots: Snapshots,
    relaxation: float,
    *,
    regularisation: float | None = None,
    cost: Cost = "sqeuclidean",
    n_paths: int = 20_000,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Draw index tuples through all times for each gap, with the growth of their masses over it.

    Parameters
    ----------
    snapshots
        Populations at ``T >= 2`` times, in the scale in which distances are meant.
    relaxation
        Price of mass that appears or vanishes, in units of the cost.
    regularisation
        Of the potentials; by default 5 % of the median cost of each pair of times.
    cost
        As for :func:`gendyn.interpolants.coupled_paths.couple`.
    n_paths
        Tuples of each gap.
    seed
        Root of the randomness.

    Returns
    -------
    table, growth
        Indices ``(T - 1, N, T)``, and logarithms of by how much masses grow ``(T - 1, N)``. The cells before a gap have
        the weights there as they are, those after it have them where tuples weigh ``growth.exp()``.

    Examples
    --------
    >>> x = torch.tensor([[-5.0], [5.0]]).repeat(30, 1)
    >>> y = torch.tensor([[-5.0], [5.0], [5.0]]).repeat(20, 1)
    >>> table, growth = couple_growing(Snapshots([0.0, 1.0], [x, y]), 4.0, seed=0)
    >>> table, mass = table[0], growth[0].exp()
    >>> bool((x[table[:, 0]] * y[table[:, 1]] > 0).float().mean() > 0.99)  # next to nobody crosses over
    True
    >>> abs(float(mass[y[table[:, 1], 0] > 0].sum() / mass.sum()) - 2 / 3) < 0.01  # as many as were measured
    True
    """
    rows = [_cells(snapshots, k, seed) for k in range(len(snapshots))]
    chosen = snapshots.rows(rows)
    weights = [
        torch.full((len(x),), 1 / len(x), dtype=torch.float64) if chosen.weights is None else _normal(chosen.weights[k])
        for k, x in enumerate(chosen.samples)
    ]

    def solve(k: int) -> tuple[Plan, Tensor, Tensor]:
        x, y = (z.cpu().double() for z in chosen.samples[k : k + 2])
        a, b = weights[k], weights[k + 1]
        f, g = _potentials(x, y, a, b, relaxation, regularisation, cost, derive_seed(seed, "potentials", k))
        kept = [
            _normal(torch.maximum((w.log() - p / relaxation).softmax(0), _LEAST_SURVIVAL * w))
            for w, p in ((a, f), (b, g))
        ]
        plan = exact_plan(x, y, kept[0], kept[1], cost)
        return plan, kept[0].log() - a.log(), kept[1].log() - b.log()

    links = spread(solve, range(len(chosen) - 1))
    generator = torch_generator(seed, "chain")
    tables, growth = [], []
    for k, (_, survival, arrival) in enumerate(links):
        chain = [torch.multinomial(weights[k], n_paths, replacement=True, generator=generator)]
        for plan, *_ in links[k:]:
            chain.append(plan.given_rows(chain[-1], generator))
        growth.append(survival[chain[0]] - arrival[chain[1]])
        for plan, *_ in reversed(links[:k]):
            chain.insert(0, plan.given_columns(chain[0], generator))
        tables.append(torch.stack([r[c] for r, c in zip(rows, chain, strict=True)], dim=1))
    return torch.stack(tables), torch.stack(growth)


def _cells(snapshots: Snapshots, k: int, seed: int) -> Tensor:
    """Return which cells of a time are joined: those with weight, or some of them where there are many."""
    rows = torch.arange(snapshots.sizes[k])
    if snapshots.weights is not None:
        rows = rows[snapshots.weights[k].cpu() > 0]
    if len(rows) > _CHAINED_CELLS:
        rows = rows[torch.randperm(len(rows), generator=torch_generator(seed, "cells", k))[:_CHAINED_CELLS]]
    return rows


def _potentials(
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    relaxation: float,
    regularisation: float | None,
    cost: Cost,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return the potentials of the unbalanced problem at all cells, solved between some of them."""
    epsilon = default_regularisation(x, y, cost) if regularisation is None else regularisation
    some = [
        torch.randperm(len(z), generator=torch_generator(seed, k))[:_SOLVED_CELLS].sort().values
        for k, z in enumerate((x, y))
    ]
    few = [z[i] for z, i in zip((x, y), some, strict=True)]
    weights = [_normal(w[i]) for w, i in zip((a, b), some, strict=True)]
    solved = sinkhorn_plan(few[0], few[1], epsilon, *weights, relaxation=relaxation, cost=cost, tolerance=1e-4)
    f, g = solved.potentials
    damping = relaxation / (relaxation + epsilon)

    def extended(points: Tensor, others: Tensor, potential: Tensor, mass: Tensor) -> Tensor:
        value = torch.logsumexp((potential - cost_matrix(points, others, cost)) / epsilon + mass.log(), dim=1)
        return -damping * epsilon * value

    return extended(x, few[1], g, weights[1]), extended(y, few[0], f, weights[0])


def _normal(weights: Tensor) -> Tensor:
    w = weights.cpu().double()
    return w / w.sum()
