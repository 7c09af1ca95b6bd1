r"""The process a flow-matching fit leaves behind: a velocity network in the user's own units.

The network :math:`v_\theta(s, z)` was trained on scaled positions and scaled time,

.. math:: z = (x - m) / c, \qquad s = (t - t_1) / (t_T - t_1),

so that the ordinary differential equation it stands for, in the units of the data, is

.. math:: \frac{dX}{dt} = \frac{c}{t_T - t_1}\; v_\theta(s, z).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import Scaling

__all__ = ["GrowingVelocityField", "VelocityField"]


class VelocityField(nn.Module):
    r"""A deterministic process :math:`dX = b(t, X)\,dt` given by a network.

    Parameters
    ----------
    network
        :math:`v_\theta(s, z)`, called with times ``()`` or ``(B, 1)`` and positions ``(B, d)``.
    scaling
        Shift :math:`m` and scale :math:`c` of the positions, each ``(d,)``.
    times
        The trained times :math:`t_1 < \dots < t_T`, float64.

    Attributes
    ----------
    dim : int
        Number of features ``d``.
    noise_type, calculus, noise_dim
        ``"none"``, ``"ito"``, ``0``: the process is an ordinary differential equation.
    time_step : float
        A fiftieth of the shortest gap between trained times; resolves the learned field.
    start, span : float
        The first trained time, and the length of the trained range.

    Examples
    --------
    >>> scaling, still = Scaling(torch.zeros(1), torch.full((1,), 2.0)), lambda s, z: torch.ones_like(z)
    >>> flow = VelocityField(still, scaling, torch.tensor([0.0, 4.0]))
    >>> flow.drift(torch.tensor(1.0), torch.zeros(1, 1)).item()
    0.5
    """

    noise_type: Literal["none"] = "none"
    calculus: Literal["ito"] = "ito"
    noise_dim: int = 0
    shift: Tensor
    scale: Tensor
    times: Tensor

    def __init__(self, network: nn.Module, scaling: Scaling, times: Tensor) -> None:
        super().__init__()
        self.network = network
        self.dim = len(scaling.shift)
        self.register_buffer("shift", scaling.shift.clone())
        self.register_buffer("scale", scaling.scale.clone())
        self.register_buffer("times", times.to(torch.float64).clone())
        self.time_step = float(times.diff().min()) / 50
        # Kept as numbers: reading them from a tensor would cost as much as a layer of a small network.
        self.start = float(self.times[0])
        self.span = float(self.times[-1] - self.times[0])

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity ``(B, d)`` at ``t`` and ``x (B, d)``, in units of ``x`` per unit of time."""
        s = ((t - self.start) / self.span).to(x.dtype)
        velocity: Tensor = self.network(s, (x - self.shift) / self.scale)
        return velocity * (self.scale / self.span)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros: a flow has no noise."""
        return torch.zeros_like(x)


class GrowingVelocityField(VelocityField):
    r"""A velocity field whose cells multiply at the rate :math:`d \log w / dt = g_\theta(s, z) / (t_T - t_1)`.

    Parameters
    ----------
    network, scaling, times
        As for :class:`VelocityField`.
    rate
        :math:`g_\theta`, called as the network is, with one output.
    """

    def __init__(self, network: nn.Module, scaling: Scaling, times: Tensor, rate: nn.Module) -> None:
        super().__init__(network, scaling, times)
        self.rate = rate

    def growth(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the growth rate ``(B,)`` per unit of time."""
        s = ((t - self.start) / self.span).to(x.dtype)
        value: Tensor = self.rate(s, (x - self.shift) / self.scale)[:, 0]
        return value / self.span
