r"""FitzHugh-Nagumo cells that excite each other through synapses: one interacting population.

.. math::

    dV_i &= \bigl(V_i - \tfrac13 V_i^3 - W_i + I\bigr) dt + \sigma\,dB_i
        - \bar Y (V_i - v)\,(J\,dt + \sigma_J\,dB'_i), \qquad \bar Y = \tfrac1N \textstyle\sum_j Y_j \\
    dW_i &= \tfrac1\tau (V_i + a - b W_i)\,dt \\
    dY_i &= \bigl(S(V_i)(1 - Y_i) - Y_i\bigr) dt + \sqrt{S(V_i)(1 - Y_i) + Y_i}\;\chi(Y_i)\,dB''_i

with :math:`S(V) = 1 / (1 + e^{-0.2 (V - 2)})` and :math:`\chi(y) = 0.1 \exp(-0.5 / (1 - (2y-1)^2))` on (0, 1), else 0.
V is the membrane potential, W the recovery, Y the fraction of open synaptic channels. The coupling draws every
potential towards the reversal potential v. Both noises of V are merged into one of the same law,
:math:`\sqrt{\sigma^2 + \sigma_J^2 (V_i - v)^2 \bar Y^2}\,dB_i`, so that each coordinate has its own Brownian motion;
it is an Ito equation for the Euler-Maruyama method. Baladron, Fasoli, Faugeras and Touboul (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed, torch_generator
from gendyn.sampling.process import SDE, Process
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive

__all__ = ["MeanFieldFitzHughNagumo"]

_START_MEAN = (0.0, 0.5, 0.3)
_START_VARIANCE = (0.4, 0.4, 0.05)


@dataclass(frozen=True)
class MeanFieldFitzHughNagumo:
    r"""A population of excitable cells, all connected with all.

    Parameters
    ----------
    stimulus
        :math:`I`, dimensionless current.
    offset, recovery
        :math:`a` and :math:`b`, dimensionless.
    time_scale
        :math:`\tau`, how much slower the recovery is, time units.
    volatility
        :math:`\sigma`, potential units per square root of time.
    coupling
        :math:`J`, strength of the synapses, per time unit; zero for cells on their own.
    coupling_volatility
        :math:`\sigma_J`, noise of the synapses, per square root of time.
    reversal
        :math:`v`, potential that the synapses pull to.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> MeanFieldFitzHughNagumo().initial(5).shape
    torch.Size([5, 3])
    """

    stimulus: float = 0.5
    offset: float = 0.7
    recovery: float = 0.8
    time_scale: float = 12.5
    volatility: float = 0.5
    coupling: float = 1.0
    coupling_volatility: float = 0.2
    reversal: float = 1.0

    dim: ClassVar[int] = 3
    names: ClassVar[tuple[str, ...]] = ("potential", "recovery", "channels")
    times: ClassVar[tuple[float, ...]] = tuple(0.1 * k for k in range(11))
    time_step: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        check_finite(self, ["stimulus", "offset", "reversal"])
        check_positive(self, ["recovery", "time_scale"])
        check_non_negative(self, ["volatility", "coupling", "coupling_volatility"])

    def motion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return drift and diffusion of populations ``(B, N, 3)``, both of the same shape."""
        v, w, y = x.unbind(-1)
        mean = y.mean(-1, keepdim=True)
        opening = torch.sigmoid(0.2 * (v - 2))
        drift = torch.stack(
            [
                v - v.pow(3) / 3 - w + self.stimulus - self.coupling * mean * (v - self.reversal),
                (v + self.offset - self.recovery * w) / self.time_scale,
                opening * (1 - y) - y,
            ],
            -1,
        )
        synapse = self.coupling_volatility * mean * (v - self.reversal)
        inside = (y > 0) & (y < 1)
        centred = torch.where(inside, 2 * y - 1, torch.zeros_like(y))
        window = torch.where(inside, 0.1 * torch.exp(-0.5 / (1 - centred.square())), torch.zeros_like(y))
        # Y can start below 0, where the square root has no meaning and the window is 0 anyway.
        channel = (opening * (1 - y) + y).clamp(min=0.0).sqrt() * window
        diffusion = torch.stack([torch.hypot(synapse, torch.full_like(v, self.volatility)), 0 * w, channel], -1)
        return drift, diffusion

    def population(self, n: int) -> Process:
        """Return the process of n cells as one state ``(1, 3 n)``, cell after cell."""
        size = check_count("n", n)

        def drift(t: Tensor, x: Tensor) -> Tensor:
            return self.motion(x.reshape(len(x), size, 3))[0].flatten(1)

        def diffusion(t: Tensor, x: Tensor) -> Tensor:
            return self.motion(x.reshape(len(x), size, 3))[1].flatten(1)

        return SDE(drift, diffusion, 3 * size, time_step=self.time_step)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n cells, independent Gaussian coordinates around (0, 0.5, 0.3), shape ``(n, 3)``."""
        mean = torch.tensor(_START_MEAN, dtype=torch.float64)
        deviation = torch.tensor(_START_VARIANCE, dtype=torch.float64).sqrt()
        generator = torch_generator(seed, "initial")
        unit = torch.randn(check_count("n", n), 3, generator=generator, dtype=torch.float64)
        return (mean + deviation * unit).to(dtype)
