r"""What the past of kind I adds to kind II, in a few smooth modes.

:math:`B^I = B^{II} + M`, where M is driven by the time before 0 and independent of what comes after. It is smooth, and
a few terms of its expansion

.. math:: M(t) \approx \sum_{j \le r} \varphi_j(t)\, \xi_j, \qquad
    \varphi_j(t) = \lambda_j^{-1/2} \sum_i \operatorname{Cov}[M(t), M(t_i)]\, v_{ij}, \qquad \xi \sim \mathcal N(0, I)

do for it (Nystroem's method on 64 nodes graded to 0, where the modes rise like :math:`t^H`). Their derivative is
infinite there, so an equation takes their increments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike
from gendyn.sampling.fractional.decay_rates import check_horizon
from gendyn.sampling.fractional.laws import check_hurst, past_covariance

__all__ = ["PastModes"]

_NODES = 64
_GRADING = 2


@dataclass(frozen=True)
class PastModes:
    """The leading modes of the past of kind I, raw.

    Parameters
    ----------
    hurst
        :math:`H`.
    horizon
        :math:`T`, up to which the modes are right.
    rank
        Number of modes; 4 leave less than 2e-5 of the variance of kind I, integrated over time.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> modes = PastModes(0.3, horizon=1.0)
    >>> round(modes(1.0).square().sum().item(), 4), round(past_covariance(1.0, 1.0, 0.3).item(), 4)
    (0.1537, 0.1538)
    """

    hurst: float
    horizon: float
    rank: int = 4

    def __post_init__(self) -> None:
        check_hurst(self.hurst)
        check_horizon(self.horizon)
        if not 1 <= self.rank <= _NODES:
            raise ValueError(f"rank must be a number of modes from 1 to {_NODES}; got {self.rank}")

    def __call__(self, t: ArrayLike) -> Tensor:
        r"""Return :math:`\varphi(t)` at times of any shape: ``(..., r)``, float64."""
        times = torch.as_tensor(t, dtype=torch.float64)
        nodes, combination = self._expansion
        result: Tensor = past_covariance(times[..., None], nodes, self.hurst) @ combination
        return result

    @cached_property
    def _expansion(self) -> tuple[Tensor, Tensor]:
        nodes = self.horizon * (torch.arange(1, _NODES + 1, dtype=torch.float64) / _NODES) ** _GRADING
        values, vectors = torch.linalg.eigh(past_covariance(nodes[:, None], nodes, self.hurst))
        leading, kept = values[-self.rank :].flip(0), vectors[:, -self.rank :].flip(1)
        # A Brownian motion has no past: its modes are rounding errors.
        real = leading > 1e-13 * nodes[-1] ** (2 * self.hurst)
        return nodes, torch.where(real, kept / leading.clamp_min(1e-300).sqrt(), 0.0)
