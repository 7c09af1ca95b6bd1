r"""The prior of a fractional SDE: drift, volatility and Hurst index of each feature.

.. math:: dX = \bigl(b - \theta X + \nu(X)\bigr)\,dt + \sigma\,d\hat B_H, \qquad X_0 \sim \mathcal N(m, s^2)

with a network :math:`\nu` that begins with 0. The Hurst index is :math:`H = 1 / (1 + e^{-r})`, with r = 0 at first, and
the volatility :math:`\sigma = v\,\delta^{-H}` is told by the deviation v of the noise over a gap :math:`\delta` that is
typical of the data: of that they say as much whatever H is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.nn import MLP
from gendyn.randomness import derive_seed
from gendyn.sampling import FractionalNoise
from gendyn.sampling.fractional import HurstFamily

__all__ = ["FractionalPrior"]

Drift = Literal["network", "linear", "none"]


class FractionalPrior(nn.Module):
    r"""A process with fractional noise; :func:`gendyn.sample` runs it with :meth:`noise`.

    Parameters
    ----------
    dim
        Number of features ``D``.
    family
        The approximations of fractional Brownian motion among which H chooses.
    drift
        ``"network"``, ``"linear"`` (:math:`\nu = 0`) or ``"none"``.
    hidden
        Width of the network.
    gap
        :math:`\delta`.
    hurst
        Of each feature, where it is known.
    seed
        Of the initial weights.

    Attributes
    ----------
    logit_hurst, log_deviation, rate, offset, start_mean, start_log_deviation : Tensor
        r, :math:`\ln v`, :math:`\theta`, b, m and :math:`\ln s`, ``(D,)`` each.

    Examples
    --------
    >>> from gendyn.sampling import sample
    >>> from gendyn.sampling.fractional import rates_between
    >>> prior = FractionalPrior(2, HurstFamily(rates_between(0.01, 1.0, 5), 1.0), "linear", 8, hurst=[0.2, 0.7])
    >>> sample(prior, torch.zeros(3, 2), [0.0, 1.0], noise=prior.noise(), step=0.1).values.shape
    torch.Size([3, 2, 2])
    """

    noise_type: Literal["additive"] = "additive"
    calculus: Literal["ito"] = "ito"
    solver = "euler_maruyama"
    time_step = 0.02

    def __init__(
        self,
        dim: int,
        family: HurstFamily,
        drift: Drift = "network",
        hidden: int = 32,
        *,
        gap: float = 1.0,
        hurst: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dim = self.noise_dim = dim
        self.family, self.gap = family, gap
        self.free_drift = drift != "none"
        start = [0.0] * dim if hurst is None else [math.log(h / (1 - h)) for h in hurst]
        self.logit_hurst = nn.Parameter(torch.tensor(start), requires_grad=hurst is None)
        self.log_deviation = nn.Parameter(torch.zeros(dim))
        self.rate = nn.Parameter(torch.zeros(dim), requires_grad=self.free_drift)
        self.offset = nn.Parameter(torch.zeros(dim), requires_grad=self.free_drift)
        self.start_mean = nn.Parameter(torch.zeros(dim))
        self.start_log_deviation = nn.Parameter(torch.zeros(dim))
        self.net: nn.Module | None = None
        if drift == "network":
            seed = derive_seed(seed, "drift")
            self.net = MLP(dim, dim, (hidden, hidden), "silu", seed=seed, final_scale=0.0)

    @property
    def hurst(self) -> Tensor:
        """H of each feature, ``(D,)``, float64."""
        return torch.sigmoid(self.logit_hurst.to(torch.float64))

    @property
    def volatility(self) -> Tensor:
        r""":math:`\sigma` of each feature, ``(D,)``, float64."""
        return self.log_deviation.to(torch.float64).exp() * self.gap**-self.hurst

    def noise(self) -> FractionalNoise:
        """Return the noise of the process, for :func:`gendyn.sample`."""
        family = self.family
        count = len(torch.as_tensor(family.rates))
        hurst = self.hurst.detach().tolist()
        return FractionalNoise(hurst, count=count, kind=family.kind, past=family.past, weighting=family.weighting)

    def extra(self, x: Tensor) -> Tensor | None:
        r"""Return :math:`\nu(x)` at states ``(..., D)``, float64, or ``None`` where there is no network."""
        if self.net is None:
            return None
        found: Tensor = self.net(x.to(self.rate.dtype)).to(torch.float64)
        return found

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, D)``."""
        linear = self.offset - self.rate * x
        return linear if self.net is None else linear + self.net(x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion ``(D, D)``, a diagonal matrix."""
        return torch.diag(self.volatility).to(x)
