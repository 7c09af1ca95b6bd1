r"""The static Schroedinger bridge of populations so large that their pairs cannot be held at once.

One iteration is one pass over blocks of rows, each of which is formed, used and forgotten. With
:math:`h_j = g_j + \log b_j`,

.. math:: f_i \leftarrow -\log \sum_j e^{h_j}\, p(y_j \mid x_i), \qquad
    c_j = \sum_i a_i\, e^{f_i + h_j}\, p(y_j \mid x_i), \qquad h_j \leftarrow h_j + \log (b_j / c_j) :

the new :math:`f` of a block is known once its rows are summed, so that the masses :math:`c` that arrive in the columns
are summed on the way, and every pair costs one exponential a pass. Where masses may be missed at a price either step is
damped as in :mod:`gendyn.coupling.entropic`. The potentials of evenly spread rows, solved densely, are the start: they
extend to all others by the same sums.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from gendyn.coupling.entropic import Relaxation, check_relaxation
from gendyn.coupling.plan import Plan
from gendyn.coupling.static_bridge import StaticBridge, bridge_kl, static_bridge

__all__ = ["LogDensities", "blocked_bridge", "truncated_plan"]

_FEW = 1500
"""Rows of either side, at most, whose dense solution is the start."""

_LEAST_SUM = 1e-250
"""Sum of a row of exponentials below which too much of it may have underflowed."""

_FURTHEST = 600.0
"""Largest move of a potential in one pass, for columns that nothing has reached yet."""


class LogDensities(Protocol):
    r"""Transition densities :math:`\log p(y_j \mid x_i)` that are formed as they are asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_0, n_1)``."""
        ...

    def exponents(self, rows: slice | Tensor, row_terms: Tensor, column_terms: Tensor) -> Tensor:
        r"""Return :math:`\log p(y_j \mid x_i) + r_i + c_j` of some rows, ``(r, n_1)``, a tensor of one's own."""
        ...

    def columns(self, chosen: Tensor) -> LogDensities:
        """Return those towards some of the columns alone."""
        ...


Watch = Callable[[int, float], None]
"""Told after every pass how many there were, and what mass still misses its place."""


def blocked_bridge(
    densities: LogDensities,
    a: Tensor,
    b: Tensor,
    *,
    rows_at_once: int,
    relaxation: Relaxation = math.inf,
    tolerance: float = 1e-5,
    max_iterations: int = 20_000,
    name: str = "the coupling",
    watch: Watch = lambda passes, error: None,
) -> StaticBridge:
    r"""Solve :func:`~gendyn.coupling.static_bridge` in blocks of rows.

    Parameters
    ----------
    densities
        :math:`\log p(y_j \mid x_i)`.
    a, b
        Weights ``(n_0,)`` and ``(n_1,)`` of sum 1, float64.
    rows_at_once
        Rows of a block; memory is ``8 rows_at_once n_1`` bytes, twice.
    relaxation, tolerance, max_iterations, name
        As for :func:`~gendyn.coupling.static_bridge`; an iteration is a pass.
    watch
        See :data:`Watch`.

    Warns
    -----
    UserWarning
        If more than ``tolerance`` of the mass still misses its place.
    """
    prices = check_relaxation(relaxation)
    balanced = all(map(math.isinf, prices))
    first, second = (1.0 if math.isinf(rho) else rho / (1 + rho) for rho in prices)
    positive = b > 0
    log_b = torch.where(positive, b, 1.0).log()
    blank = torch.zeros_like(b).masked_fill(~positive, -math.inf)
    # Potentials are with respect to the kernel of mass 1, as in the dense solver; in balance that mass says nothing.
    level = 0.0 if balanced else _log_mass(densities, a, blank, rows_at_once)
    h = _start(densities, a, b, prices, tolerance, rows_at_once)
    guess: Tensor | None = None
    error, passes = math.inf, 0
    while True:
        f, arrived, columns = torch.empty_like(a), torch.zeros_like(b), h + blank
        for rows in _slices(len(a), rows_at_once):
            part, known = _exponentials(densities, rows, None if guess is None else guess[rows], columns)
            f[rows] = first * (level + known - part.sum(1).log())
            arrived += (a[rows] * (f[rows] - level - known).exp()) @ part
        passes += 1
        sent, due = a * (-f / prices[0]).exp(), b * (-h / prices[1]).exp()
        error = float((arrived - due).abs().sum() / sent.sum())
        watch(passes, error)
        if error <= tolerance or passes >= max_iterations:
            break
        gap = torch.where(positive, log_b - arrived.clamp_min(1e-300).log(), 0.0)
        h = second * (h + gap.clamp(-_FURTHEST, _FURTHEST))
        guess = f - level
        if not balanced:
            due = b * (-h / prices[1]).exp()
            shift = (sent.sum().log() - due.sum().log()) / (1 / prices[0] + 1 / prices[1])
            guess, h = guess + shift, h - shift
    if not error <= tolerance:
        warnings.warn(
            f"{name} misses its populations by {error:.1e} of the mass after {passes} passes over all pairs: sigma is "
            "small against the displacement; raise sigma, take a reference that moves with the data, or raise "
            "max_iterations or tolerance",
            UserWarning,
            stacklevel=2,
        )
    potentials = f - level, h - log_b
    if balanced:
        return StaticBridge(potentials, bridge_kl(potentials, a, b), error, passes, error <= tolerance)
    mass = float(arrived.sum())
    kl = float(sent @ f + arrived @ h) + 1 - mass
    return StaticBridge(potentials, kl, error, passes, error <= tolerance, mass, -f / prices[0])


def truncated_plan(
    densities: LogDensities,
    potentials: tuple[Tensor, Tensor],
    a: Tensor,
    b: Tensor,
    *,
    atoms: int,
    rows_at_once: int,
) -> tuple[Plan, float]:
    """Return the plan of potentials with the heaviest atoms of each row alone, and the mass that this leaves out.

    Parameters
    ----------
    densities, b, rows_at_once
        As for :func:`blocked_bridge`.
    a
        Masses of the rows ``(n_0,)``.
    potentials
        Its solution.
    atoms
        How many atoms a row keeps; their mass is raised to that of the row.
    """
    f, g = potentials
    kept = min(atoms, len(b))
    h = torch.where(b > 0, g + b.log(), -math.inf)
    columns, mass, lost = [], [], 0.0
    for rows in _slices(len(a), rows_at_once):
        heaviest = densities.exponents(rows, f[rows], h).exp_()
        sums = heaviest.sum(1)
        top = heaviest.topk(kept, 1)
        columns.append(top.indices)
        share = top.values.sum(1)
        mass.append(top.values * (a[rows] / share)[:, None])
        lost += float((a[rows] * (1 - share / sums)).sum())
    every = torch.arange(len(a), device=a.device).repeat_interleave(kept)
    return Plan(every, torch.cat(columns).flatten(), torch.cat(mass).flatten(), (len(a), len(b))), lost


def _start(
    densities: LogDensities, a: Tensor, b: Tensor, prices: tuple[float, float], tolerance: float, rows_at_once: int
) -> Tensor:
    """Return potentials of all columns, from a dense solution for some rows and columns."""
    few0, few1 = _spread(a), _spread(b)
    inner, nothing = densities.columns(few1), torch.zeros_like(b)
    small = torch.cat(
        [inner.exponents(few0[rows], a.new_zeros(1), nothing[few1]) for rows in _slices(len(few0), rows_at_once)]
    )
    with warnings.catch_warnings():
        # Only the solution for all rows is told of.
        warnings.simplefilter("ignore", UserWarning)
        solved = static_bridge(
            small, a[few0], b[few1], relaxation=prices, tolerance=max(tolerance, 1e-4), max_iterations=2000
        )
    weight = (a[few0] / a[few0].sum()).log() + solved.potentials[0]
    total = torch.full_like(b, -math.inf)
    for rows in _slices(len(few0), rows_at_once):
        part = densities.exponents(few0[rows], weight[rows], nothing)
        total = torch.logaddexp(total, torch.logsumexp(part, 0))
    second = 1.0 if math.isinf(prices[1]) else prices[1] / (1 + prices[1])
    return second * (torch.where(b > 0, b, 1.0).log() - total)


def _exponentials(
    densities: LogDensities, rows: slice, guess: Tensor | None, column_terms: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``exp(log p + known + column_terms)`` and the known terms of the rows, which keep it in range."""
    if guess is not None:
        part = densities.exponents(rows, guess, column_terms).exp_()
        sums = part.sum(1)
        if bool(torch.isfinite(sums).all()) and bool((sums > _LEAST_SUM).all()):
            return part, guess
    part = densities.exponents(rows, column_terms.new_zeros(1), column_terms)
    top = part.amax(1)
    return part.sub_(top[:, None]).exp_(), -top


def _log_mass(densities: LogDensities, a: Tensor, column_terms: Tensor, rows_at_once: int) -> float:
    """Return the logarithm of the sum of all entries of a kernel."""
    parts = [
        torch.logsumexp(densities.exponents(rows, a[rows].log(), column_terms).flatten(), 0)
        for rows in _slices(len(a), rows_at_once)
    ]
    return float(torch.logsumexp(torch.stack(parts), 0))


def _spread(weights: Tensor) -> Tensor:
    """Return rows with weight, at most a few thousand, evenly spread."""
    rows = torch.nonzero(weights > 0).flatten()
    return rows[:: math.ceil(len(rows) / _FEW)]


def _slices(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)
