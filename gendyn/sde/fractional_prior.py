r"""The prior of a fractional SDE: drift, volatility and Hurst index of each feature.

.. math:: dX = \bigl(b - \theta X + \nu(X)\bigr)\,dt + \sigma\,d\hat B_H, \qquad X_0 \sim \mathcal N(m, s^2)

with a network :math:`\nu` that begins with 0. The Hurst index is :math:`H = 1 / (1 + e^{-r})`, with r = 0 at first, and
the volatility :math:`\sigma = v\,\delta^{-H}` is told by the deviation v of the noise over a gap :math:`\delta` that is
typical of the data: of that they say as much whatever H is. An index that moves with time, :math:`H(t)`, is a small
network; the noise then is multifractional, whose past is weighed by the index of the moment, and its volatility is told
by the mean of H.
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
from gendyn.sampling.fractional import HurstCurve, HurstFamily, MultifractionalNoise

__all__ = ["FractionalPrior"]

Drift = Literal["network", "linear", "none"]

_PARTS = 32
"""Times over which a curve of the index is averaged."""


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
    curve
        Whether H moves with time, one curve for all features; needs a family of kind II with pathwise weights.
    unit
        With a curve, how many units in which the variance of the noise is :math:`t^{2H(t)}` a unit of the grid is.
    seed
        Of the initial weights.

    Attributes
    ----------
    logit_hurst, log_deviation, rate, offset, start_mean, start_log_deviation : Tensor
        r, :math:`\ln v`, :math:`\theta`, b, m and :math:`\ln s`, ``(D,)`` each.

    Raises
    ------
    ValueError
        If a curve is asked of a family that cannot follow it.

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
        curve: bool = False,
        unit: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.dim = self.noise_dim = dim
        self.family, self.gap, self.unit = family, gap, unit
        self.curve = HurstCurve(seed=derive_seed(seed, "hurst")) if curve else None
        if curve and (family.kind != "II" or family.weighting != "pathwise"):
            raise ValueError(
                "an index that moves with time needs kind='II' and weighting='pathwise': its weights are a smooth "
                f"function of H; got kind={family.kind!r} and weighting={family.weighting!r}"
            )
        self.free_drift = drift != "none"
        start = [0.0] * dim if hurst is None else [math.log(h / (1 - h)) for h in hurst]
        self.logit_hurst = nn.Parameter(torch.tensor(start), requires_grad=hurst is None and not curve)
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
        """H of each feature, ``(D,)``, float64; of a curve the mean over the horizon."""
        if self.curve is not None:
            middle = (torch.arange(_PARTS, dtype=torch.float64, device=self.rate.device) + 0.5) / _PARTS
            return self.hurst_at(middle * self.family.horizon).mean(0)
        return torch.sigmoid(self.logit_hurst.to(torch.float64))

    @property
    def volatility(self) -> Tensor:
        r""":math:`\sigma` of each feature, ``(D,)``, float64."""
        return self.log_deviation.to(torch.float64).exp() * (self.gap * self.unit) ** -self.hurst

    def hurst_at(self, t: Tensor) -> Tensor:
        """Return H at times ``(...)``: ``(..., D)``, float64."""
        time = t.to(torch.float64)
        if self.curve is None:
            return self.hurst.expand(*t.shape, -1)
        index: Tensor = self.curve(time)[..., None].expand(*t.shape, self.dim)
        return index

    def weights(self, clock: Tensor) -> tuple[Tensor, Tensor | None]:
        r"""Return how the driver and its memory weigh in steps.

        Parameters
        ----------
        clock
            Times ``(G, M + 1)``.

        Returns
        -------
        tuple
            :math:`\sigma\omega`, ``(D, K)``, and ``None``; with a curve ``(M, G, D, K)`` each: those at the end of
            each step, and by how much they are more than those at its beginning.
        """
        device = self.rate.device
        if self.curve is None:
            return self.volatility[:, None] * self.family.weights(self.hurst.cpu()).to(device), None
        index = self.curve(clock.to(device, torch.float64).mT)
        own = self.family.weights(index.flatten().cpu()).to(device).reshape(*index.shape, 1, -1)
        own = (self.volatility[:, None] * own) * self.unit ** index[..., None, None]
        return own[1:], own.diff(dim=0)

    def noise(self) -> FractionalNoise | MultifractionalNoise:
        """Return the noise of the process, for :func:`gendyn.sample`."""
        family = self.family
        count = len(torch.as_tensor(family.rates))
        if self.curve is not None:
            return MultifractionalNoise(self.curve, count=count, unit=self.unit)
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
