r"""Tau-leaping: many reactions at once, at rates that are frozen for a short time.

.. math:: x' = x + \sum_r k_r \nu_r, \qquad k_r \sim \operatorname{Poisson}(a_r(t, x)\, \tau) .

Not exact: the mean is that of an Euler step, with an error of order :math:`\tau`. A reaction that consumes molecules
is drawn from the binomial law of the same mean among as many as can still happen, so that no count falls below zero
(Tian and Burrage 2004; Chatterjee, Vlachos and Katsoulakis 2005).

Without a step of the caller's, steps are chosen as by Cao, Gillespie and Petzold (2006). A reaction that could happen
fewer than ten times more is critical: it happens one at a time, after an exponential waiting time, as in the direct
method. The others leap over the longest time that changes no count's share in a rate by more than :math:`\epsilon`,

.. math::

    \tau' = \min_i \min\Bigl\{\frac{m_i}{|\mu_i|}, \frac{m_i^2}{\sigma_i^2}\Bigr\}, \qquad
    m_i = \max\Bigl\{\frac{\epsilon x_i}{g}, 1\Bigr\}, \quad
    \mu_i = \sum_r \nu_{ri} a_r, \quad \sigma_i^2 = \sum_r \nu_{ri}^2 a_r,

with :math:`g = 3`, the largest value for reactions of two molecules, as the orders are not known here; or until a
critical reaction happens, if that is sooner. Where a leap would hold fewer than ten reactions, all are critical, and
the step is exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendyn.sampling.jumps.counts import binomial_quantile, poisson_quantile
from gendyn.sampling.jumps.jump_process import JumpProcess, ReactionNetwork, check_counts, checked_rates
from gendyn.sampling.jumps.uniforms import UniformStream

__all__ = ["tau_leaping"]

_ORDER = 3.0
_SCARCE = 10
"""A reaction that can happen fewer times is critical."""
_WORTHWHILE = 10.0
"""A leap of fewer reactions than this, on average, is not taken."""
_CHECK_EVERY = 8


def tau_leaping(
    process: JumpProcess,
    x0: Tensor,
    times: Tensor,
    uniforms: UniformStream,
    *,
    step: float | None = None,
    epsilon: float = 0.03,
) -> tuple[Tensor, int]:
    """Return the counts at times ``(T,)`` or ``(B, T)``, ``(B, T, d)``, and how many leaps the longest path took.

    Parameters
    ----------
    process
        A reaction network.
    x0
        Start counts ``(B, d)``.
    times
        Output times; leaps end on them.
    uniforms
        One number per reaction, and two more where steps are chosen.
    step
        Longest leap; by default chosen for each path and leap.
    epsilon
        Largest relative change of a rate in a chosen leap.

    Raises
    ------
    ValueError
        If the process is not a reaction network, steps are to be chosen for propensities that depend on time, a
        propensity is negative, or a reaction happens that lacks molecules.

    Examples
    --------
    >>> death = ReactionNetwork([[-1]], lambda t, x: x)
    >>> x0, times = torch.full((500, 1), 100), torch.tensor([0.0, 1.0], dtype=torch.float64)
    >>> counts, leaps = tau_leaping(death, x0, times, UniformStream(0, 500, 1), step=0.01)
    >>> counts[:, 1].double().mean().item()
    36...
    >>> leaps
    100
    """
    if not isinstance(process, ReactionNetwork):
        raise ValueError("tau-leaping is for a ReactionNetwork; use solver='skeleton' or 'direct_method'")
    if step is None and not process.autonomous:
        raise ValueError("tau-leaping chooses its steps by the counts alone; for rates that depend on time give step=")
    grid = times.expand(len(x0), times.shape[-1])
    values = x0[:, None].repeat(1, grid.shape[1], 1)
    last = grid.shape[1] - 1
    rows, x, t = torch.arange(len(x0)), x0, grid[:, 0]
    goal = torch.ones_like(rows)
    leaps = 0
    while len(rows):
        done = torch.zeros(len(rows), dtype=torch.bool)
        for k, numbers in enumerate(uniforms.draw(rows)):
            rates = checked_rates(process, t, x)
            target = grid[rows, goal]
            remaining = target - t
            if step is not None:
                left = torch.ceil(remaining / step * (1.0 - 1e-9)).clamp_(min=1.0)
                tau, arrives = remaining / left, left <= 1.0
                once = torch.zeros_like(x)
            else:
                tau, rates, once = _choose(process, x, rates, remaining, numbers[:, -2:], epsilon)
                arrives = tau >= remaining
            x = _leap(process, x, once, rates * tau[:, None], numbers)
            t = torch.where(arrives, target, t + tau)
            check_counts(x, t)
            reached = torch.nonzero(arrives).flatten()
            values[rows[reached], goal[reached]] = x[reached]
            # A path at its last time waits there, in leaps of no length.
            leaps += int(not bool(done.all()))
            done |= arrives & (goal == last)
            goal = (goal + arrives).clamp_(max=last)
            if k % _CHECK_EVERY == _CHECK_EVERY - 1 and bool(done.all()):
                break
        live = torch.nonzero(~done).flatten()
        rows, x, t, goal = rows[live], x[live], t[live], goal[live]
    return values, leaps


def _choose(
    process: ReactionNetwork, x: Tensor, rates: Tensor, remaining: Tensor, numbers: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the step ``(n,)``, the rates of what leaps ``(n, R)``, and what a critical reaction changes ``(n, d)``."""
    changes = process.stoichiometry
    critical = torch.stack([_possible(change, x) < _SCARCE for change in changes], dim=1)
    tau = _longest(changes, x, rates.masked_fill(critical, 0.0), epsilon)
    exact = tau * rates.sum(1) < _WORTHWHILE
    critical |= exact[:, None]
    tau = torch.minimum(tau.masked_fill(exact, math.inf), remaining)
    cumulative = rates.masked_fill(~critical, 0.0).cumsum(1)
    total = cumulative[:, -1]
    waiting = torch.log1p(-numbers[:, 0]).neg_().clamp_(min=2.0**-54) / total
    happens = waiting < tau
    which = ((numbers[:, 1] * total)[:, None] >= cumulative).sum(1).clamp_(max=len(changes) - 1)
    once = torch.where(happens[:, None], changes.index_select(0, which), 0)
    return torch.minimum(tau, waiting), rates.masked_fill(critical, 0.0), once


def _longest(changes: Tensor, x: Tensor, rates: Tensor, epsilon: float) -> Tensor:
    """Return the longest leap ``(n,)`` that changes rates little; infinite where nothing leaps."""
    size = changes.to(torch.float64)
    allowed = (epsilon / _ORDER * x).clamp_(min=1.0)
    mean, variance = (rates @ size).abs(), rates @ size.square()
    return torch.minimum(allowed / mean, allowed.square() / variance).amin(1)


def _leap(process: ReactionNetwork, x: Tensor, once: Tensor, means: Tensor, numbers: Tensor) -> Tensor:
    """Return the counts ``(n, d)`` after one change and after reactions with these mean numbers, ``(n, R)``."""
    changes = process.stoichiometry
    fired = torch.zeros_like(means, dtype=torch.int64)
    # What the one reaction makes is not there for the others yet.
    left = x + once.clamp(max=0)
    for r, change in enumerate(changes):
        rows = torch.nonzero(means[:, r]).flatten()
        if len(rows) == 0:
            continue
        u, mean = numbers[rows, r], means[rows, r]
        if bool((change >= 0).all()):
            fired[rows, r] = poisson_quantile(u, mean)
            continue
        most = _possible(change, left[rows])
        count = binomial_quantile(u, most, torch.where(most > 0, mean / most, 0.0).clamp_(max=1.0))
        fired[rows, r] = count
        left[rows] += count[:, None] * change.clamp(max=0)
    return x + once + fired @ changes


def _possible(change: Tensor, x: Tensor) -> Tensor:
    """Return how often a reaction can happen with the counts at hand, ``(n,)``."""
    needed = torch.nonzero(change < 0).flatten()
    if len(needed) == 0:
        return torch.full((len(x),), torch.iinfo(torch.int64).max)
    return (x[:, needed] // -change[needed]).amin(1)
