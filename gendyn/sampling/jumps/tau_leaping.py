r"""Tau-leaping: many reactions at once, at rates that are frozen for a short time.

.. math:: x' = x + \sum_r k_r \nu_r, \qquad k_r \sim \operatorname{Poisson}(a_r(t, x)\, \tau) .

Not exact: the mean is that of an Euler step, with an error of order :math:`\tau`. A reaction that consumes molecules
is drawn from the binomial law of the same mean among as many as can still happen, so that no count falls below zero
(Tian and Burrage 2004; Chatterjee, Vlachos and Katsoulakis 2005). Without a step of the caller's, the longest is taken
that changes no count's share in a rate by more than :math:`\epsilon` (Cao, Gillespie and Petzold 2006),

.. math::

    \tau = \min_i \min\Bigl\{\frac{m_i}{|\mu_i|}, \frac{m_i^2}{\sigma_i^2}\Bigr\}, \qquad
    m_i = \max\Bigl\{\frac{\epsilon x_i}{g}, 1\Bigr\}, \quad
    \mu_i = \sum_r \nu_{ri} a_r, \quad \sigma_i^2 = \sum_r \nu_{ri}^2 a_r,

with :math:`g = 3`, the largest value for reactions of two molecules, as the orders are not known here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.jumps.counts import binomial_quantile, poisson_quantile
from gendyn.sampling.jumps.jump_process import JumpProcess, ReactionNetwork, checked_rates
from gendyn.sampling.jumps.uniforms import UniformStream

__all__ = ["tau_leaping"]

_ORDER = 3.0
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
        One number per reaction.
    step
        Longest leap; by default chosen for each path and leap.
    epsilon
        Largest relative change of a rate in a chosen leap.

    Raises
    ------
    ValueError
        If the process is not a reaction network, or a propensity is negative.

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
            else:
                tau = _chosen_step(process, x, rates, epsilon)
                arrives = tau >= remaining
                tau = torch.minimum(tau, remaining)
            x = _leap(process, x, rates * tau[:, None], numbers)
            t = torch.where(arrives, target, t + tau)
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


def _chosen_step(process: ReactionNetwork, x: Tensor, rates: Tensor, epsilon: float) -> Tensor:
    """Return the step of Cao, Gillespie and Petzold ``(n,)``; infinite where nothing happens."""
    changes = process.stoichiometry.to(torch.float64)
    allowed = (epsilon / _ORDER * x).clamp_(min=1.0)
    mean, variance = (rates @ changes).abs(), rates @ changes.square()
    return torch.minimum(allowed / mean, allowed.square() / variance).amin(1)


def _leap(process: ReactionNetwork, x: Tensor, means: Tensor, numbers: Tensor) -> Tensor:
    """Return the counts ``(n, d)`` after reactions with these mean numbers, ``(n, R)``."""
    changes = process.stoichiometry
    consumed = (-changes).clamp_min(0)
    fired = torch.zeros_like(means, dtype=torch.int64)
    free = torch.nonzero(consumed.sum(1) == 0).flatten()
    if len(free):
        fired[:, free] = poisson_quantile(numbers[:, free].flatten(), means[:, free].flatten()).view(len(x), -1)
    left = x
    for r in torch.nonzero(consumed.sum(1)).flatten().tolist():
        needed = torch.nonzero(consumed[r]).flatten()
        most = (left[:, needed] // consumed[r, needed]).amin(1)
        chance = torch.where(most > 0, means[:, r] / most, 0.0).clamp_(max=1.0)
        fired[:, r] = binomial_quantile(numbers[:, r].contiguous(), most, chance)
        left = left - fired[:, r, None] * consumed[r]
    return x + fired @ changes
