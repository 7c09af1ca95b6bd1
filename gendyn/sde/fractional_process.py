r"""Sums of Ornstein-Uhlenbeck processes with one Brownian motion, as linear processes.

With the slowest of the sum :math:`X = \mu + \sum_k c_k Y_k` expressed by the sum,

.. math:: dX = -\gamma_1 (X - \mu)\,dt + \sum_{k>1} c_k (\gamma_1 - \gamma_k)\, Y_k\,dt + \sum_k c_k\,dB .
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.linear import LinearProcess

__all__ = ["sum_as_process"]


def sum_as_process(rates: Tensor, weights: Tensor, mean: Tensor) -> LinearProcess:
    r"""Return D independent sums as one process, whose first D features are the sums.

    Parameters
    ----------
    rates
        :math:`\gamma`, ``(K,)``, the slowest first.
    weights
        :math:`c`, ``(D, K)``.
    mean
        :math:`\mu`, ``(D,)``.

    Examples
    --------
    >>> two = sum_as_process(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, -1.0]]), torch.tensor([3.0]))
    >>> level, covariance = two.stationary()  # 1/2 + 1/4 - 2/3 for the sum
    >>> level.tolist(), round(covariance[0, 0].item(), 6)
    ([3.0, 0.0], 0.083333)
    """
    dim, k = len(mean), len(rates) - 1
    size = dim * (1 + k)
    rate, offset = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    volatility = torch.zeros(size, dim, dtype=torch.float64)
    for d in range(dim):
        memory = slice(dim + d * k, dim + (d + 1) * k)
        rate[d, d], offset[d] = -rates[0], rates[0] * mean[d]
        rate[d, memory] = weights[d, 1:] * (rates[0] - rates[1:])
        rate[memory, memory] = -torch.diag(rates[1:]).to(torch.float64)
        volatility[d, d], volatility[memory, d] = weights[d].sum(), 1.0
    return LinearProcess(rate, offset, volatility)
