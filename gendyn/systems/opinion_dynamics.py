r"""Opinion dynamics: people move towards those who think nearly as they do.

.. math::

    dX_i = -\frac1N \sum_{j=1}^N \varphi(|X_i - X_j|)\,(X_i - X_j)\,dt + \sigma\,dW_i, \qquad
    \varphi(r) = c \exp\Bigl(-\frac{0.01}{1 - (r - 0.2)^2}\Bigr) \text{ for } r < 1.2, \text{ else } 0

The population is one system: the pulls are opposite and equal, so the mean opinion only diffuses,
:math:`\operatorname{Var} \bar X_t = \operatorname{Var} \bar X_0 + \sigma^2 t / N`, while clusters form whose number and
spread differ from run to run. Motsch and Tadmor (2014); defaults are those of Min, Hu and Ichiba (2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sampling.process import ODE, SDE, Process
from gendyn.systems.parameters import check_count, check_non_negative, check_positive
from gendyn.systems.system import draw_uniform

__all__ = ["OpinionDynamics"]

_PAIRS = 1 << 22
"""Pairs of particles looked at together."""


@dataclass(frozen=True)
class OpinionDynamics:
    r"""Interacting opinions on a line.

    Parameters
    ----------
    strength
        :math:`c`, of the pull, per time unit.
    volatility
        :math:`\sigma`, opinion units per square root of time; zero is deterministic.
    start_width
        Opinions start uniformly between plus and minus this.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> OpinionDynamics().population(10)
    <gendyn.sampling.process.SDE object at ...>
    """

    strength: float = 6.0
    volatility: float = 0.1
    start_width: float = 2.0

    dim: ClassVar[int] = 1
    names: ClassVar[tuple[str, ...]] = ("opinion",)
    times: ClassVar[tuple[float, ...]] = tuple(0.05 * k for k in range(21))
    time_step: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        check_positive(self, ["strength", "start_width"])
        check_non_negative(self, ["volatility"])

    def influence(self, distance: Tensor) -> Tensor:
        r"""Return :math:`\varphi` at distances, same shape."""
        near = distance < 1.2
        offset = torch.where(near, distance - 0.2, torch.zeros_like(distance))
        pull = self.strength * torch.exp(-0.01 / (1 - offset.square()))
        return torch.where(near, pull, torch.zeros_like(pull))

    def pull(self, x: Tensor) -> Tensor:
        """Return the mean pull on every opinion of populations ``(B, N)``, same shape."""
        rows = max(1, _PAIRS // x.numel())
        parts = []
        for start in range(0, x.shape[1], rows):
            gap = x[:, start : start + rows, None] - x[:, None, :]
            parts.append(-(self.influence(gap.abs()) * gap).mean(-1))
        return torch.cat(parts, 1)

    def population(self, n: int) -> Process:
        """Return the process of n opinions as one state ``(1, n)``."""
        size = check_count("n", n)
        if not self.volatility:
            return ODE(lambda t, x: self.pull(x), size, time_step=self.time_step)
        return SDE(
            lambda t, x: self.pull(x), lambda t, x: torch.full_like(x, self.volatility), size, time_step=self.time_step
        )

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n opinions uniformly, shape ``(n, 1)``."""
        return draw_uniform((-self.start_width,), (self.start_width,), check_count("n", n), seed, dtype)
