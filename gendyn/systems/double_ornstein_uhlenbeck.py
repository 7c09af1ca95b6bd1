r"""Two Ornstein-Uhlenbeck processes that share their noise and return to levels that nobody sees.

.. math::

    dX_i = \theta (m_i - X_i)\,dt + \sigma\,dW_i, \qquad d\langle W_1, W_2 \rangle = \rho\,dt, \qquad X(0) = 0,

with levels :math:`m_1 \sim U(\tfrac12, \tfrac32)` and :math:`m_2 \sim U(-\tfrac32, -\tfrac12)` of each path's own.
Given the levels all is Gaussian; over paths

.. math::

    E[X_i] = \pm (1 - e^{-\theta t}), \qquad
    \operatorname{Var}[X_i] = \tfrac{1}{12} (1 - e^{-\theta t})^2 + \tfrac{\sigma^2}{2\theta}(1 - e^{-2\theta t}) .

The test bed of forecasts from sporadic observations (De Brouwer, Simm, Arany and Moreau 2019). A sum of squares is
smallest for the best linear predictor, a Kalman filter over the four coordinates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sampling.linear import LinearProcess
from gendyn.systems.parameters import check_count, check_finite, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["DoubleOrnsteinUhlenbeck"]


@dataclass(frozen=True)
class DoubleOrnsteinUhlenbeck:
    r"""Two correlated processes; the levels they return to are the hidden coordinates 3 and 4.

    Parameters
    ----------
    rate
        :math:`\theta`, per time unit.
    volatility
        :math:`\sigma`, state units per square root of time.
    correlation
        :math:`\rho` of the noise, between -1 and 1.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> mean, covariance = DoubleOrnsteinUhlenbeck().marginal(10.0)
    >>> mean.tolist()
    [0.9999..., -0.9999...]
    """

    rate: float = 1.0
    volatility: float = 0.1
    correlation: float = 0.99

    dim: ClassVar[int] = 4
    recorded: ClassVar[int] = 2
    noise_dim: ClassVar[int] = 2
    noise_type: ClassVar[NoiseType] = "additive"
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("x1", "x2", "level 1", "level 2")

    def __post_init__(self) -> None:
        check_positive(self, ["rate", "volatility"])
        check_finite(self, ["correlation"])
        if not -1 <= self.correlation <= 1:
            raise ValueError(f"DoubleOrnsteinUhlenbeck: correlation must lie between -1 and 1; got {self.correlation}")

    @property
    def times(self) -> tuple[float, ...]:
        """The grid of the published data, 201 times over ten relaxation times."""
        return tuple(0.05 * k / self.rate for k in range(201))

    @property
    def time_step(self) -> float:
        """A twentieth of the relaxation time, the step of the published data."""
        return 0.05 / self.rate

    @cached_property
    def linear(self) -> LinearProcess:
        """The four coordinates as :class:`gendyn.sampling.LinearProcess`: exact transitions and filters."""
        pull = torch.tensor([[-1.0, 0, 1, 0], [0, -1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
        return LinearProcess(self.rate * pull, torch.zeros(4, dtype=torch.float64), self._noise)

    @cached_property
    def _noise(self) -> Tensor:
        across = math.sqrt(1 - self.correlation**2)
        root = [[1.0, 0.0], [self.correlation, across], [0.0, 0.0], [0.0, 0.0]]
        return self.volatility * torch.tensor(root, dtype=torch.float64)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the pull to the levels, which stay, shape ``(B, 4)``."""
        pull = self.rate * (x[..., 2:] - x[..., :2])
        return torch.cat([pull, torch.zeros_like(pull)], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the root of the noise covariance, shape ``(4, 2)``."""
        return self._noise.to(x)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n starts at 0 with levels of their own, shape ``(n, 4)``."""
        return draw_uniform((0.0, 0.0, 0.5, -1.5), (0.0, 0.0, 1.5, -0.5), check_count("n", n), seed, dtype)

    def marginal(self, t: float) -> tuple[Tensor, Tensor]:
        """Return mean ``(2,)`` and covariance ``(2, 2)`` of what is recorded at time t, over paths, float64."""
        transition = self.linear.transition(t)
        start = torch.tensor([[0.0, 0.0, 1.0, -1.0]], dtype=torch.float64)
        levels = torch.diag(torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)) / 12
        covariance = transition.covariance + transition.matrix @ levels @ transition.matrix.T
        return transition.mean(start)[0, :2], covariance[:2, :2]
