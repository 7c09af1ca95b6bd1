r"""Pendulum: motion with a conserved energy, in closed form.

.. math:: \dot\theta = v, \qquad \dot v = -\omega^2 \sin\theta, \qquad E = \tfrac12 v^2 - \omega^2 \cos\theta

Let go at rest at the angle :math:`\theta_0`, with :math:`s = \sin(\theta_0/2)` and Jacobi's elliptic functions of
parameter :math:`m = s^2`,

.. math:: \theta(t) = 2 \arcsin\bigl(s\,\operatorname{sn}(K(m) - \omega t)\bigr), \qquad
    v(t) = -2 s\,\omega\,\operatorname{cn}(K(m) - \omega t),

with period :math:`4 K(m) / \omega`. A learned model can be asked whether its paths keep the energy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.special import ellipj, ellipk
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_uniform

__all__ = ["Pendulum"]


@dataclass(frozen=True)
class Pendulum:
    r"""A pendulum without friction, let go at rest.

    Parameters
    ----------
    frequency
        :math:`\omega`, of small swings, radians per time unit.

    Raises
    ------
    ValueError
        If it is not positive.

    Examples
    --------
    >>> round(Pendulum().period(0.01) * Pendulum().frequency / (2 * math.pi), 4)
    1.0
    """

    frequency: float = math.sqrt(9.81)

    dim: ClassVar[int] = 2
    noise_dim: ClassVar[int] = 0
    noise_type: ClassVar[NoiseType] = "none"
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("angle", "velocity")
    times: ClassVar[tuple[float, ...]] = tuple(0.1 * k for k in range(170))

    def __post_init__(self) -> None:
        check_positive(self, ["frequency"])

    @property
    def time_step(self) -> float:
        """A thirtieth of the time in which a small swing turns by one radian."""
        return 0.03 / self.frequency

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return velocity and acceleration, shape ``(B, 2)``."""
        return torch.stack([x[..., 1], -(self.frequency**2) * x[..., 0].sin()], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros, shape ``(B, 2)``."""
        return torch.zeros_like(x)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n pendulums at rest at angles between 0.5 and 2.7, shape ``(n, 2)``."""
        return draw_uniform((0.5, 0.0), (2.7, 0.0), check_count("n", n), seed, dtype)

    def energy(self, x: Tensor) -> Tensor:
        """Return the conserved energy of states ``(..., 2)``, shape ``(...)``."""
        return 0.5 * x[..., 1].square() - self.frequency**2 * x[..., 0].cos()

    def period(self, angle: float) -> float:
        """Return the time of one swing there and back from rest at an angle."""
        return 4 * float(ellipk(math.sin(angle / 2) ** 2)) / self.frequency

    def solution(self, t: Tensor, angle: Tensor) -> Tensor:
        """Return the states at times ``(T,)`` of pendulums let go at angles ``(n,)``: ``(n, T, 2)``, float64."""
        times, start = t.to(torch.float64), angle.to(torch.float64)[:, None]
        s = (start / 2).sin().numpy()
        sn, cn, _, _ = ellipj(ellipk(s**2) - self.frequency * times.numpy(), s**2)
        theta = 2 * torch.asin(torch.as_tensor(s * sn))
        return torch.stack([theta, torch.as_tensor(-2 * s * self.frequency * cn)], -1)
