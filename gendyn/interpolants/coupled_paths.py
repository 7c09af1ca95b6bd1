r"""Coupled paths: one point of every population, joined through all times.

Populations :math:`\{x^{(k)}_i\}` measured at :math:`t_1 < \dots < t_T` say nothing about who became
whom. A coupling :math:`\pi_k` of each consecutive pair does; chained,

.. math:: \pi(i_1, \dots, i_T) = a_{i_1} \prod_{k=1}^{T-1} \pi_k(i_{k+1} \mid i_k),

they make a law of index tuples whose marginal at every time is that population. A table of draws
from it is made once, before training; a mini-batch is then a look-up. Where two consecutive populations are
small enough their plan is solved whole, once; larger ones are cut into random blocks of cells, each
block coupled through all its times, which changes who is paired with whom but no marginal.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from gendyn.coupling import PlanChain, chain_minibatch, exact_plan, get_coupling, sinkhorn_plan
from gendyn.coupling.plan import Plan
from gendyn.data import Snapshots
from gendyn.parallel import spread
from gendyn.randomness import torch_generator
from gendyn.training import fingerprint

__all__ = ["CoupledPaths", "CouplingName", "couple", "default_regularisation"]

CouplingName = Literal["independent", "ot", "sinkhorn", "paired"]

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
    """

    def __init__(self, snapshots: Snapshots, table: Tensor) -> None:
        self.populations = snapshots.samples
        self.table = table.to(snapshots.device)

    def __len__(self) -> int:
        return len(self.table)

    def points(self, rows: Tensor) -> Tensor:
        """Return the coupled points ``(B, T, d)`` of the tuples with the given row numbers ``(B,)``."""
        tuples = self.table[rows.to(self.table.device)]
        return torch.stack([x[tuples[:, k]] for k, x in enumerate(self.populations)], dim=1)


def couple(
    snapshots: Snapshots,
    coupling: CouplingName = "ot",
    *,
    block: int | None = None,
    regularisation: float | None = None,
    n_paths: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Draw index tuples that couple the populations through all times.

    Parameters
    ----------
    snapshots
        Populations at ``T >= 2`` times, in the scale in which distances are meant.
    coupling
        ``"independent"``; ``"ot"``, exact optimal transport of squared Euclidean cost between consecutive
        times; ``"sinkhorn"``, its entropic relaxation; ``"paired"``, row with row.
    block
        Cells per random block. ``None`` solves whole plans where every consecutive pair has at most
        20 million cost entries, and otherwise blocks of 1024.
    regularisation
        Entropic regularisation, in squared units of the data; by default
        :func:`default_regularisation` of each consecutive pair.
    n_paths
        Rows of the table; by default four for each cell of the largest population, between 20 000 and 200 000.
    seed
        Root of the randomness.

    Returns
    -------
    Tensor
        Indices ``(n_paths, T)``: row ``r`` joins ``samples[k][indices[r, k]]`` over the times ``k``.

    Examples
    --------
    >>> x = torch.arange(4.0)[:, None]
    >>> table = couple(Snapshots([0.0, 1.0], [x, x + 1.0]), "ot", n_paths=8, seed=0)
    >>> bool((table[:, 0] == table[:, 1]).all())
    True
    """
    if coupling not in get_args(CouplingName):
        raise ValueError(f"coupling must be one of {get_args(CouplingName)}; got {coupling!r}")
    sizes = snapshots.sizes
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
    if block is None and largest <= _FULL_PLAN_PAIRS:
        chain = PlanChain(_plans(snapshots, coupling, regularisation))
        return chain.sample(n_paths, torch_generator(seed, "chain"))
    return _block_table(snapshots, coupling, block or 1024, regularisation, n_paths, seed)


def default_regularisation(x0: Tensor, x1: Tensor) -> float:
    """Return 5 % of the median squared distance between two populations (at most 2000 cells of each).

    Below about this fraction the entropic plan is the exact one for most purposes, and far dearer.
    """
    first, second = (x[:: max(1, len(x) // 2000)].to(torch.float64) for x in (x0, x1))
    return 0.05 * float(torch.cdist(first, second).square().median())


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


def _plans(snapshots: Snapshots, coupling: CouplingName, regularisation: float | None) -> list[Plan]:
    """Solve the whole plan of every consecutive pair of times."""

    def solve(k: int) -> Plan:
        x0, x1 = snapshots.samples[k], snapshots.samples[k + 1]
        weights = (None, None) if snapshots.weights is None else (snapshots.weights[k], snapshots.weights[k + 1])
        if coupling == "ot":
            return _remembered_plan(x0, x1, *weights)
        strength = default_regularisation(x0, x1) if regularisation is None else regularisation
        return sinkhorn_plan(x0, x1, strength, *weights).plan

    return spread(solve, range(len(snapshots) - 1))


def _draw(snapshots: Snapshots, k: int, n: int, seed: int, *labels: int | str) -> Tensor:
    """Draw ``n`` rows of population ``k``: every row before any row twice, or by weight where there are weights."""
    generator = torch_generator(seed, "cells", k, *labels)
    size = snapshots.sizes[k]
    if snapshots.weights is not None:
        return torch.multinomial(snapshots.weights[k].cpu().double(), n, replacement=True, generator=generator)
    rounds = [torch.randperm(size, generator=generator) for _ in range(math.ceil(n / size))]
    return torch.cat(rounds)[:n]


def _block_table(
    snapshots: Snapshots,
    coupling: CouplingName,
    block: int,
    regularisation: float | None,
    n_paths: int,
    seed: int,
) -> Tensor:
    """Couple random blocks of ``block`` cells of every time, and stack the tuples."""
    if block < 2:
        raise ValueError(f"block must be at least 2 cells; got {block}")
    n_blocks = math.ceil(min(n_paths, 65_536) / block)
    rows = [_draw(snapshots, k, n_blocks * block, seed) for k in range(len(snapshots))]
    if coupling == "sinkhorn":
        if regularisation is None:
            x0, x1 = snapshots.samples[0], snapshots.samples[1]
            regularisation = default_regularisation(x0, x1)
        pairing = get_coupling("sinkhorn", regularisation=regularisation)
    else:
        pairing = get_coupling(coupling)

    def pair(b: int) -> Tensor:
        chosen = [r[b * block : (b + 1) * block] for r in rows]
        batches = [x[r.to(x.device)] for x, r in zip(snapshots.samples, chosen, strict=True)]
        order = chain_minibatch(batches, pairing, torch_generator(seed, "block", b)).cpu()
        return torch.stack([r[order[:, k]] for k, r in enumerate(chosen)], dim=1)

    return torch.cat(spread(pair, range(n_blocks)))
