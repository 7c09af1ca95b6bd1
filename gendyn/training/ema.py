r"""Averaged weights.

.. math:: \bar\theta_{k+1} = \delta_k \bar\theta_k + (1 - \delta_k)\, \theta_{k+1}, \qquad
    \delta_k = \min\Bigl(\delta, \frac{1 + k}{10 + k}\Bigr).

The warm-up of :math:`\delta_k` lets a short fit forget its random start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of a module's parameters.

    Parameters
    ----------
    module
        The module that is trained.
    decay
        The limit of the decay, in ``[0, 1)``.

    Examples
    --------
    >>> module = nn.Linear(1, 1)
    >>> average = WeightAverage(module, 0.99)
    >>> average.update(0)
    >>> len(average.values)
    2
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema must lie in [0, 1); got {decay}")
        self.decay = decay
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in self.parameters]

    def update(self, step: int) -> None:
        """Take in the parameters after the given step (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.values, [p.detach() for p in self.parameters], 1 - decay)

    def swap(self) -> None:
        """Exchange the module's parameters with the average; a second call undoes the first."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.values, strict=True):
                held: Tensor = parameter.detach().clone()
                parameter.copy_(value)
                value.copy_(held)
