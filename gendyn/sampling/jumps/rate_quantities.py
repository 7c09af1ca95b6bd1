r"""What follows from a rate matrix :math:`Q`: time scales, first passages, entropy production.

With the law :math:`p(t) = p(0)\,e^{Qt}`: the relaxation times are :math:`1 / |\operatorname{Re} \lambda|` of the
eigenvalues :math:`\lambda \ne 0`; the mean first passage times :math:`\tau` to a state j solve
:math:`\sum_k Q_{ik} \tau_k = -1` for :math:`i \ne j` with :math:`\tau_j = 0`; and a law p produces entropy at the rate

.. math:: \sigma(p) = \sum_{i \ne j} p_i Q_{ij} \ln \frac{p_i Q_{ij}}{p_j Q_{ji}} \ge 0,

zero exactly where every pair of states is in balance. All float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.sampling.jumps.jump_process import RateMatrix

__all__ = ["entropy_production", "mean_first_passage_times", "relaxation_times", "slowest_period"]

_ZERO = 1e-12
"""Eigenvalues below this part of the largest rate are zero."""


def relaxation_times(process: RateMatrix) -> Tensor:
    r"""Return the relaxation times :math:`1/|\operatorname{Re}\lambda|`, longest first, without the stationary one.

    Examples
    --------
    >>> relaxation_times(RateMatrix([[-1.5, 1.5], [0.5, -0.5]])).tolist()
    [0.5]
    """
    rates = torch.linalg.eigvals(process.matrix()).real.abs().sort().values
    rates = rates[rates > _ZERO * float(process.exit_rates.max())] if process.n_states > 1 else rates[:0]
    times: Tensor = 1 / rates
    return times


def mean_first_passage_times(process: RateMatrix) -> Tensor:
    """Return the mean times ``(K, K)`` from each state (row) to each (column); infinite where it may never come.

    Examples
    --------
    >>> mean_first_passage_times(RateMatrix([[-2.0, 2.0], [0.5, -0.5]])).tolist()
    [[0.0, 0.5], [2.0, 0.0]]
    """
    matrix, size = process.matrix(), process.n_states
    result = torch.zeros(size, size, dtype=torch.float64)
    certain = _surely_reached(matrix)
    for target in range(size):
        inside = torch.nonzero(certain[:, target] & (torch.arange(size) != target)).flatten()
        result[:, target] = torch.inf
        result[target, target] = 0.0
        if len(inside):
            block = matrix[inside[:, None], inside]
            result[inside, target] = torch.linalg.solve(block, -torch.ones(len(inside), dtype=torch.float64))
    return result


def entropy_production(process: RateMatrix, law: ArrayLike | None = None, *, two_way: bool = False) -> float:
    r"""Return the rate of entropy production :math:`\sigma(p)` of a law ``(K,)``, by default the stationary one.

    Infinite where a jump that happens has no way back.

    Parameters
    ----------
    process
        Its rates are constant.
    law
        Probabilities of the states, ``(K,)``.
    two_way
        Whether only pairs of states that jump both ways count; then it is finite.

    Raises
    ------
    ValueError
        If the law is not one probability for each state.

    Examples
    --------
    >>> entropy_production(RateMatrix([[-1.5, 1.5], [0.5, -0.5]])) < 1e-12
    True
    """
    p = process.stationary() if law is None else as_tensor(law, "law").to(torch.float64)
    if p.shape != (process.n_states,) or bool((p < 0).any()) or abs(float(p.sum()) - 1) > 1e-6:
        raise ValueError(
            f"a law must be {process.n_states} probabilities that sum to 1, one for each state; got {p.tolist()}"
        )
    flow = p[:, None] * process.matrix().fill_diagonal_(0.0)
    forth = (flow > 0) & (flow.T > 0) if two_way else flow > 0
    back = flow.T[forth]
    if bool((back == 0).any()):
        return float("inf")
    return float((flow[forth] * (flow[forth] / back).log()).sum().clamp_min(0.0))


def slowest_period(process: RateMatrix) -> float:
    r"""Return the period :math:`2\pi / |\operatorname{Im} \lambda|` of the slowest decay; infinite if it does not turn.

    Cycles that are driven one way decay in turns, which no process in balance does.

    Examples
    --------
    >>> ring = RateMatrix([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [1.0, 0.0, -1.0]])
    >>> round(slowest_period(ring), 4)  # 2 pi / (sqrt(3) / 2)
    7.2552
    >>> slowest_period(RateMatrix([[-1.5, 1.5], [0.5, -0.5]]))
    inf
    """
    values = torch.linalg.eigvals(process.matrix())
    fastest = float(process.exit_rates.max())
    values = values[values.real.abs() > _ZERO * fastest]
    if not len(values):
        return math.inf
    turning = float(values[values.real.abs().argmin()].imag.abs())
    return 2 * math.pi / turning if turning > 1e-9 * fastest else math.inf


def _surely_reached(matrix: Tensor) -> Tensor:
    """Return which states (columns) are reached from which (rows) with probability 1."""
    size = len(matrix)
    reach = (matrix > 0) | torch.eye(size, dtype=torch.bool)
    for _ in range(size):
        reach = reach | ((reach.to(torch.float64) @ reach.to(torch.float64)) > 0)
    # Not sure: some state can be reached, before the target, from which the target cannot.
    result = torch.zeros_like(reach)
    for target in range(size):
        open_way = matrix.clone()
        open_way[target] = 0.0
        way = (open_way > 0) | torch.eye(size, dtype=torch.bool)
        for _ in range(size):
            way = way | ((way.to(torch.float64) @ way.to(torch.float64)) > 0)
        result[:, target] = ~(way & ~reach[:, target]).any(1)
    return result
