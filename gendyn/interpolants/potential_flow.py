r"""The process of a learned potential: cells go uphill, may diffuse, and may multiply.

A potential :math:`s_\theta` of scaled positions and scaled time,
:math:`z = (x - m)/c`, :math:`\tau = (t - t_1)/(t_T - t_1) = (t - t_1)/\Delta`, gives in the units of the data

.. math:: dX = \frac{c}{\Delta} \nabla_z s_\theta(\tau, z)\,dt + \frac{\sigma c}{\sqrt{\Delta}}\,dW, \qquad
    \frac{d \log w}{dt} = \frac{1}{\Delta} s_\theta(\tau, z),

the last where the potential is also the rate at which the weight w of a cell grows.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import Scaling
from gendyn.nn import VelocityNetwork

__all__ = ["PotentialFlow"]


class PotentialFlow(nn.Module):
    r"""The flow or diffusion :math:`dX = \nabla s\,dt + \sigma\,dW`.

    Parameters
    ----------
    potential
        :math:`s_\theta`, ``(tau, z) -> (B, 1)``.
    scaling
        Shift and scale of the positions, ``(d,)`` each.
    times
        The trained times, float64.
    sigma
        Diffusion, in scaled positions and scaled time.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process; ``noise_type`` is ``"none"`` or ``"additive"``.
    time_step : float
        A fiftieth (flow) or a hundredth (diffusion) of the shortest gap between trained times.
    """

    calculus: Literal["ito"] = "ito"
    shift: Tensor
    scale: Tensor
    times: Tensor

    def __init__(self, potential: VelocityNetwork, scaling: Scaling, times: Tensor, sigma: float = 0.0) -> None:
        super().__init__()
        self.potential = potential
        self.sigma = sigma
        self.dim = len(scaling.shift)
        self.noise_type: Literal["none", "additive"] = "additive" if sigma > 0 else "none"
        self.noise_dim = self.dim if sigma > 0 else 0
        self.register_buffer("shift", scaling.shift.clone())
        self.register_buffer("scale", scaling.scale.clone())
        self.register_buffer("times", times.to(torch.float64).clone())
        self.time_step = float(times.diff().min()) / (100 if sigma > 0 else 50)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)`` at ``x (B, d)``, in units of ``x`` per unit of time."""
        s = self._scaled(t, x)
        gradient: Tensor = torch.func.grad(lambda z: self.potential(s, z).sum())((x - self.shift) / self.scale)
        return gradient * (self.scale / self._span)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion ``(d, d)``; zeros of a flow."""
        if self.noise_type == "none":
            return torch.zeros_like(x)
        return torch.diag(self.scale.expand(self.dim).to(x.dtype)) * (self.sigma / math.sqrt(self._span))

    def growth(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the growth rate ``(B,)`` per unit of time, where the potential is one."""
        value: Tensor = self.potential(self._scaled(t, x), (x - self.shift) / self.scale)[:, 0]
        return value / self._span

    @property
    def _span(self) -> float:
        return float(self.times[-1] - self.times[0])

    def _scaled(self, t: Tensor, x: Tensor) -> Tensor:
        return ((t.to(torch.float64) - self.times[0]) / self._span).to(x.dtype)
