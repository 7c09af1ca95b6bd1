r"""Coupled paths: one point of every population, joined through all times.

Populations :math:`\{x^{(k)}_i\}` measured at :math:`t_1 < \dots < t_T` say nothing about who became
whom. A coupling :math:`\pi_k` of each consecutive pair does; chained,

.. math:: \pi(i_1, \dots, i_T) = a_{i_1} \prod_{k=1}^{T-1} \pi_k(i_{k+1} \mid i_k),

they make a law of index tuples whose marginal at every time is that population. A table of draws
from it is made once, before training; a mini-batch is then a look-up. Where two consecutive populations are
small enough their plan is solved whole, once; larger ones are cut into random blocks of cells, each
block coupled through all its times, which changes who is paired with whom but no marginal.

Cells may carry a label or a number that pairs should share, which then has a price; and couplings that may leave cells
out join two populations, whose cells then count as much as they are paired.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from gendyn.coupling import (
    Coupling,
    Plan,
    PlanChain,
    attach_conditions,
    chain_minibatch,
    cost_matrix,
    exact_plan,
    get_coupling,
    partial_plan,
    sinkhorn_plan,
)
from gendyn.coupling.cost import Cost
from gendyn.data import Snapshots
from gendyn.interpolants.condition import ConditionEncoder
from gendyn.parallel import spread
from gendyn.randomness import torch_generator
from gendyn.training import fingerprint

__all__ = [
    "CoupledPaths",
    "CouplingName",
    "RelaxedCoupling",
    "check_coupling",
    "couple",
    "default_regularisation",
]

CouplingName = Literal["independent", "ot", "sinkhorn", "paired"]

RelaxedCoupling = tuple[Literal["unbalanced", "partial"], float]
"""A coupling that may leave cells out: ``("unbalanced", relaxation)`` or ``("partial", mass)``."""

_REMEMBERED = 16
"""Plans that are kept; one of two populations of 4000 cells takes some 200 kB."""

_FULL_PLAN_PAIRS = 2.0e7
"""Cost entries up to which a plan between two whole populations is solved (about ten seconds)."""


class CoupledPaths:
    """Populations together with a table of index tuples that joins them.

    Parameters
    ----------
    snapshots
        Populations at ``T`` times.
    table
        Index tuples ``(N, T)``, as :func:`couple` draws them.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])])
    >>> CoupledPaths(data, torch.tensor([[0, 1], [1, 0]])).points(torch.tensor([1])).tolist()
    [[[1.0], [5.0]]]
    """

    def __init__(self, snapshots: Snapshots, table: Tensor) -> None:
        sizes = snapshots.sizes
        self._cells = torch.cat(list(snapshots.samples))
        self.populations = torch.split(self._cells, list(sizes))
        # Row numbers among all cells, one population after the other: a batch is then one look-up, not one a time.
        self._index = (table.cpu() + torch.tensor([0, *sizes[:-1]]).cumsum(0)).to(snapshots.device)

    def __len__(self) -> int:
        return len(self._index)

    def at(self, rows: Tensor, s: Tensor) -> Tensor:
        """Return the row numbers ``(B,)`` of the tuples that are meant for scaled times ``s (B,)``: these very ones."""
        return rows

    def mass(self, rows: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return masses ``(B,)`` of tuples at scaled times ``s (B,)``, and their growth rates: ones, and zeros."""
        one = torch.ones(len(rows), device=self._cells.device, dtype=self._cells.dtype)
        return one, torch.zeros_like(one)

    def points(self, rows: Tensor) -> Tensor:
        """Return the coupled points ``(B, T, d)`` of the tuples with the given row numbers ``(B,)``."""
        tuples = self._index.index_select(0, rows.to(self._index.device))
        points: Tensor = self._cells.index_select(0, tuples.flatten()).view(*tuples.shape, -1)
        return points


def check_coupling(coupling: Any, names: Sequence[str], *, match: str | None, match_weight: float | None) -> None:
    """Raise a ValueError for a coupling that is none of ``names`` and no relaxed one, or that cannot match a column.

    Examples
    --------
    >>> check_coupling(("partial", 0.8), ("ot",), match=None, match_weight=None)
    """
    if isinstance(coupling, (tuple, list)):
        if len(coupling) != 2 or coupling[0] not in ("unbalanced", "partial"):
            raise ValueError(
                f"a coupling that leaves cells out is ('unbalanced', relaxation) or ('partial', mass); got {coupling!r}"
            )
        name = str(coupling[0])
        _leaving_out(name, coupling[1], {})
    elif coupling not in names:
        raise ValueError(
            f"coupling must be one of {tuple(names)}, ('unbalanced', relaxation) or ('partial', mass); got {coupling!r}"
        )
    else:
        name = coupling
    if match is None:
        if match_weight is not None:
            raise ValueError("match_weight is the price of a different match: give match= a column of obs")
        return
    if name in ("independent", "paired"):
        raise ValueError(f"coupling {name!r} has no cost that match={match!r} could enter; use 'ot' or 'sinkhorn'")
    if match_weight is None and name in ("sinkhorn", "unbalanced"):
        raise ValueError(f"coupling {name!r} needs a finite match_weight, in units of the cost; got None")
    if match_weight is not None and not 0 < match_weight < math.inf:
        raise ValueError(f"match_weight must be positive and finite, or None; got {match_weight}")


def couple(
    snapshots: Snapshots,
    coupling: CouplingName | RelaxedCoupling = "ot",
    *,
    block: int | None = None,
    regularisation: float | None = None,
    cost: Cost = "sqeuclidean",
    match: str | None = None,
    match_weight: float | None = None,
    n_paths: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Draw index tuples that couple the populations through all times.

    Parameters
    ----------
    snapshots
        Populations at ``T >= 2`` times, in the scale in which distances are meant.
    coupling
        ``"independent"``; ``"ot"``, exact optimal transport between consecutive times; ``"sinkhorn"``, its entropic
        relaxation; ``"paired"``, row with row; of two populations also ``("unbalanced", relaxation)``, entropic
        transport that leaves cells out at a price, and ``("partial", mass)``, exact transport of part of the mass.
    block
        Cells per random block. ``None`` solves whole plans where every consecutive pair has at most
        20 million cost entries, and otherwise blocks of 1024.
    regularisation
        Entropic regularisation, in squared units of the data; by default
        :func:`default_regularisation` of each consecutive pair.
    cost
        ``"sqeuclidean"``, ``"euclidean"``, or a function, see :func:`gendyn.coupling.cost_matrix`.
    match
        Column of ``obs`` that pairs should share: labels, or numbers, which are standardised.
    match_weight
        Price of different labels, or of a squared standard deviation, in units of the cost; ``None``, for labels and
        exact transport alone: cells change their label only where the labels' masses differ.
    n_paths
        Rows of the table; by default four for each cell of the largest population, between 20 000 and 200 000.
    seed
        Root of the randomness.

    Returns
    -------
    Tensor
        Indices ``(n_paths, T)``: row ``r`` joins ``samples[k][indices[r, k]]`` over the times ``k``.

    Raises
    ------
    ValueError
        If the coupling is unknown, cannot match a column, or leaves cells out of more than two populations.

    Examples
    --------
    >>> x = torch.arange(4.0)[:, None]
    >>> table = couple(Snapshots([0.0, 1.0], [x, x + 1.0]), "ot", n_paths=8, seed=0)
    >>> bool((table[:, 0] == table[:, 1]).all())
    True
    """
    check_coupling(coupling, get_args(CouplingName), match=match, match_weight=match_weight)
    sizes = snapshots.sizes
    if not isinstance(coupling, str) and len(sizes) > 2:
        raise ValueError(
            f"coupling {coupling!r} leaves cells out, and consecutive plans would disagree about whom; it joins two "
            f"populations and got {len(sizes)}: fit each gap by itself, or use 'ot'"
        )
    if n_paths is None:
        n_paths = min(max(4 * max(sizes), 20_000), 200_000)
    largest = max(first * second for first, second in pairwise(sizes))
    if coupling == "paired":
        if len(set(sizes)) > 1:
            raise ValueError(f"paired populations must have equal sizes; got {list(sizes)}")
        rows = torch.arange(sizes[0]) if snapshots.weights is None else _draw(snapshots, 0, n_paths, seed)
        return rows[:, None].expand(-1, len(sizes))
    if coupling == "independent":
        return torch.stack([_draw(snapshots, k, n_paths, seed) for k in range(len(sizes))], dim=1)
    name, number = (coupling, None) if isinstance(coupling, str) else coupling
    strengths: list[float] = []
    if name in ("sinkhorn", "unbalanced"):
        pairs = pairwise(snapshots.samples)
        given = regularisation
        strengths = [default_regularisation(x0, x1, cost) if given is None else given for x0, x1 in pairs]
    problem = _Problem(snapshots, tuple(snapshots.samples), cost, name, number, strengths)
    if match is not None:
        problem = problem.matching(match, match_weight)
    if block is None and largest <= _FULL_PLAN_PAIRS:
        chain = PlanChain(spread(problem.plan, range(len(snapshots) - 1)))
        return chain.sample(n_paths, torch_generator(seed, "chain"))
    return _block_table(problem, block or 1024, n_paths, seed)


def default_regularisation(x0: Tensor, x1: Tensor, cost: Cost = "sqeuclidean") -> float:
    """Return 5 % of the median cost, the squared distance, between two populations (at most 2000 cells of each).

    Below about this fraction the entropic plan is the exact one for most purposes, and far dearer.

    Examples
    --------
    >>> default_regularisation(torch.zeros(3, 1), torch.full((3, 1), 2.0))
    0.2
    """
    first, second = (x[:: max(1, len(x) // 2000)] for x in (x0, x1))
    return 0.05 * float(cost_matrix(first, second, cost).abs().median()) or 1.0


_SOLVED: OrderedDict[str, Plan] = OrderedDict()
"""Exact plans of the last pairs, by the content of the problem: the next fit of the same data need not wait again."""


def _remembered_plan(x0: Tensor, x1: Tensor, w0: Tensor | None, w1: Tensor | None) -> Plan:
    given = [x for x in (x0, x1, w0, w1) if x is not None]
    key = fingerprint(*given)
    plan = _SOLVED.get(key)
    if plan is None:
        plan = _SOLVED[key] = exact_plan(x0, x1, w0, w1)
        while len(_SOLVED) > _REMEMBERED:
            _SOLVED.popitem(last=False)
    return plan


@dataclass(frozen=True)
class _Problem:
    """Who is to be joined, and how: populations, what the cost sees of them, and a coupling with its number."""

    snapshots: Snapshots
    points: tuple[Tensor, ...]
    cost: Cost
    name: str
    number: float | None
    strengths: Sequence[float]

    def matching(self, column: str, weight: float | None) -> _Problem:
        """Return the problem with a column of ``obs`` in its cost."""
        encoder = ConditionEncoder.fit(column, self.snapshots)
        encoded = encoder.encode(self.snapshots)
        if encoder.categories is None and weight is None:
            raise ValueError(f"{column!r} holds numbers, which are rarely equal: give a match_weight")
        known = [row[:, 0] if encoder.categories is None else row[:, :-1].argmax(1) for row in encoded]
        points, cost = attach_conditions(self.points, known, math.inf if weight is None else weight, self.cost)
        return _Problem(self.snapshots, tuple(points), cost, self.name, self.number, self.strengths)

    def plan(self, k: int) -> Plan:
        """Solve the whole plan of a pair of consecutive times."""
        x0, x1 = self.points[k], self.points[k + 1]
        known = self.snapshots.weights
        w0, w1 = (None, None) if known is None else (known[k], known[k + 1])
        if self.name == "ot":
            plain = isinstance(self.cost, str) and self.cost == "sqeuclidean"
            return _remembered_plan(x0, x1, w0, w1) if plain else exact_plan(x0, x1, w0, w1, self.cost)
        if self.name == "partial":
            return partial_plan(x0, x1, float(self.number or 0), w0, w1, self.cost)
        relaxation = math.inf if self.number is None else self.number
        return sinkhorn_plan(x0, x1, self.strengths[k], w0, w1, relaxation=relaxation, cost=self.cost).plan

    def blocks(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return the coupling of mini-batches."""
        options: dict[str, Any] = {"cost": self.cost}
        if self.strengths:
            options["regularisation"] = self.strengths[0]
        if self.number is None:
            return get_coupling(self.name, **options)
        return _leaving_out(self.name, self.number, options)


def _leaving_out(name: str, number: float, options: dict[str, Any]) -> Coupling:
    """Return the coupling of mini-batches that leaves cells out, or raise a ValueError for its number."""
    if name == "partial":
        return get_coupling("partial", mass=number, **options)
    return get_coupling("sinkhorn", relaxation=number, **options)


def _draw(snapshots: Snapshots, k: int, n: int, seed: int, *labels: int | str) -> Tensor:
    """Draw ``n`` rows of population ``k``: every row before any row twice, or by weight where there are weights."""
    generator = torch_generator(seed, "cells", k, *labels)
    size = snapshots.sizes[k]
    if snapshots.weights is not None:
        return torch.multinomial(snapshots.weights[k].cpu().double(), n, replacement=True, generator=generator)
    rounds = [torch.randperm(size, generator=generator) for _ in range(math.ceil(n / size))]
    return torch.cat(rounds)[:n]


def _block_table(problem: _Problem, block: int, n_paths: int, seed: int) -> Tensor:
    """Couple random blocks of ``block`` cells of every time, and stack the tuples."""
    if block < 2:
        raise ValueError(f"block must be at least 2 cells; got {block}")
    n_blocks = math.ceil(min(n_paths, 65_536) / block)
    rows = [_draw(problem.snapshots, k, n_blocks * block, seed) for k in range(len(problem.points))]
    pairing = problem.blocks()

    def pair(b: int) -> Tensor:
        chosen = [r[b * block : (b + 1) * block] for r in rows]
        batches = [x[r.to(x.device)] for x, r in zip(problem.points, chosen, strict=True)]
        generator = torch_generator(seed, "block", b)
        if len(batches) == 2:
            order = torch.stack(pairing(*batches, generator=generator), dim=1).cpu()
        else:
            order = chain_minibatch(batches, pairing, generator).cpu()
        return torch.stack([r[order[:, k]] for k, r in enumerate(chosen)], dim=1)

    return torch.cat(spread(pair, range(n_blocks)))
