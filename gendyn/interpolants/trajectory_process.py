r"""The bridge that a model of trajectories crosses a gap by.

Between an observation :math:`x_k` and the next one, a gap of length :math:`\Delta` later, local time
:math:`\lambda` runs from 0 to 1 and

.. math:: dX = \frac{\hat x_1(\lambda, X, h) - X}{1 - \lambda}\,d\lambda + \sigma\sqrt{\Delta}\,dW, \qquad
    \hat x_1 = E[x_{k+1} \mid X_\lambda, h],

with what is known h at the start of the gap. A network u gives :math:`\hat x_1 = X + (1 - \lambda)\,u`, so that u is
the drift and nothing is divided by what remains: an error of :math:`\hat x_1` that does not vanish at the end would be
multiplied there. Where :math:`\hat x_1` is exact and h holds :math:`x_k` itself, :math:`X_1` has the law of
:math:`x_{k+1}` given h, for any :math:`\sigma > 0`: the process is a Brownian bridge to an end that it decides on under
way. With :math:`\sigma = 0` it ends at the mean. :math:`\sigma` is the full diffusion.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import Scaling

__all__ = ["GapProcess"]

_STEP = 0.02
"""Step of local time; over the last one noise is off, which would otherwise stay in the end as it is."""


class GapProcess(nn.Module):
    """The process of one gap, over local time from 0 to 1, in the units of the data.

    Parameters
    ----------
    network
        The drift u, ``(lambda, z, context) -> (B, d)``, in scaled units per gap.
    scaling
        Shift and scale of the positions, ``(d,)`` each.
    sigma
        Diffusion in scaled positions, per root of the unit of time.
    context
        What is known at the start of the gap, ``(B, c)`` or ``(c,)``.
    gap
        Length of the gap in units of time, ``(B,)`` or ``()``.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process; ``noise_type`` is ``"none"`` or ``"diagonal"``.
    time_step : float
        A fiftieth of the gap.
    """

    calculus: Literal["ito"] = "ito"
    time_step = _STEP
    shift: Tensor
    scale: Tensor
    context: Tensor
    gap: Tensor

    def __init__(self, network: nn.Module, scaling: Scaling, sigma: float, context: Tensor, gap: Tensor) -> None:
        super().__init__()
        self.network = network
        self.sigma = sigma
        self.dim = len(scaling.shift)
        self.noise_type: Literal["none", "diagonal"] = "diagonal" if sigma > 0 else "none"
        self.noise_dim = self.dim if sigma > 0 else 0
        self.register_buffer("shift", scaling.shift.clone())
        self.register_buffer("scale", scaling.scale.clone())
        self.register_buffer("context", context)
        self.register_buffer("gap", gap)

    def given(self, context: Tensor, gap: Tensor) -> GapProcess:
        """Return the process of another gap."""
        return GapProcess(self.network, Scaling(self.shift, self.scale), self.sigma, context, gap)

    def target(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the expected next observation ``(B, d)``, at local time and where the bridge is."""
        return x + (1 - t).to(x) * self.drift(t, x)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)``, in units of ``x`` per gap."""
        # The sampler tries a process on the first rows alone.
        context = self.context if self.context.ndim == 1 else self.context[: len(x)]
        velocity: Tensor = self.network(t, (x - self.shift) / self.scale, context)
        return velocity * self.scale

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion ``(B, d)``; zeros over the last step."""
        if self.noise_type == "none":
            return torch.zeros_like(x)
        on = (t < 1 - 1.5 * _STEP).to(x)
        gap = self.gap.to(x).reshape(-1, 1)[: len(x)]
        amplitude = self.sigma * gap.sqrt() * self.scale * on
        return amplitude.expand(len(x), self.dim)
