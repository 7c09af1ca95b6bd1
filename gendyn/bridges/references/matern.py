r"""Smooth references: Gaussian processes of Matern covariance.

.. math:: \operatorname{cov}(X_s, X_t) = s^2\, \frac{2^{1 - \nu}}{\Gamma(\nu)}
    \Bigl(\frac{\sqrt{2\nu}\,|s - t|}{\ell}\Bigr)^{\nu} K_\nu\Bigl(\frac{\sqrt{2\nu}\,|s - t|}{\ell}\Bigr)

For :math:`\nu = \tfrac12, \tfrac32, \tfrac52, \dots` the process and its first :math:`p - 1 = \nu - \tfrac12`
derivatives are a linear process of order p (Hartikainen and Sarkka 2010),

.. math:: \Bigl(\frac{d}{dt} + \lambda\Bigr)^{p} (X - m) = \text{white noise of intensity }
    q = s^2\, \frac{2 \sqrt\pi\, \Gamma(p)}{\Gamma(\nu)}\, \lambda^{2\nu}, \qquad \lambda = \frac{\sqrt{2\nu}}{\ell} .

Paths have :math:`p - 1` derivatives, and who moves keeps moving: bridges of such references are smooth, and tell apart
individuals whose ways cross.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gendyn.bridges.references.lifted import LiftedReference
from gendyn.data import Snapshots
from gendyn.sampling import LinearProcess

__all__ = ["Matern"]

_SMOOTHEST = 3.5
"""Beyond this transition covariances over short times are singular in float64."""


@dataclass(frozen=True)
class Matern:
    r"""A smooth reference: independent Gaussian processes of Matern covariance, one a feature.

    Parameters
    ----------
    length
        Correlation length :math:`\ell`, in units of time.
    scale
        Standard deviation s of each feature about its mean, in units of the data; by default that of the data, over all
        features and times. The larger, the freer paths move.
    smoothness
        :math:`\nu`: 1.5 for paths with velocities, 2.5 for paths with accelerations as well, 3.5; 0.5 is the
        Ornstein-Uhlenbeck process.

    Raises
    ------
    ValueError
        If a parameter is not positive, or the smoothness is none of these.

    References
    ----------
    Hong, Shi, Niles-Weed. Trajectory inference with smooth Schroedinger bridges. 2025.

    Examples
    --------
    >>> x = torch.randn(20, 1, generator=torch.Generator().manual_seed(0))
    >>> lifted = Matern(length=3.0).lift(Snapshots([0.0, 1.0], [x, x + 1.0]))
    >>> lifted.process.dim, lifted.observed, lifted.hidden  # a position and a velocity
    (2, [0], [1])
    """

    length: float
    scale: float | None = None
    smoothness: float = 1.5

    def __post_init__(self) -> None:
        for name in ("length", "scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"the {name} of a Matern reference must be positive and finite; got {value}")
        order = self.smoothness + 0.5
        if order != int(order) or not 1 <= order <= _SMOOTHEST + 0.5:
            raise ValueError(f"smoothness must be 0.5, 1.5, 2.5 or 3.5; got {self.smoothness}")

    def lift(self, data: Snapshots) -> LiftedReference:
        """Return the linear process of features and their derivatives, stationary about the mean of the data."""
        dim = data.dim
        everything = torch.cat([x.to(torch.float64) for x in data.samples])
        mean = everything.mean(0)
        scale = self.scale
        if scale is None:
            scale = float((everything - mean).square().mean().sqrt())
            if not scale > 0:
                raise ValueError("all points are the same, so that the data have no scale; give scale")
        companion, noise = self._companion(scale)
        order = len(companion)
        identity = torch.eye(dim, dtype=torch.float64)
        volatility = torch.zeros(order, 1, dtype=torch.float64)
        volatility[-1] = math.sqrt(noise)
        # Features first, then their first derivatives, and so on.
        rate = torch.kron(companion, identity)
        offset = -rate[:, :dim] @ mean
        process = LinearProcess(rate, offset, torch.kron(volatility, identity))
        _, covariance = LinearProcess(companion, torch.zeros(order), volatility).stationary()
        # The law of the derivatives at the first time, given the features.
        gain = covariance[1:, :1] / covariance[0, 0]
        left = covariance[1:, 1:] - gain @ covariance[:1, 1:]
        slope = torch.kron(gain, identity)
        return LiftedReference(
            process, list(range(dim)), -slope @ mean, slope, torch.kron((left + left.T) / 2, identity)
        )

    def describe(self) -> dict[str, Any]:
        """Return the reference as JSON can hold it."""
        return {"matern": asdict(self)}

    def _companion(self, scale: float) -> tuple[Tensor, float]:
        """Return the rate ``(p, p)`` of one feature and its derivatives, and the intensity of the noise."""
        order = int(self.smoothness + 0.5)
        speed = math.sqrt(2 * self.smoothness) / self.length
        companion = torch.diag(torch.ones(order - 1, dtype=torch.float64), 1)
        companion[-1] = torch.tensor(
            [-math.comb(order, k) * speed ** (order - k) for k in range(order)], dtype=torch.float64
        )
        ratio = 2 * math.sqrt(math.pi) * math.gamma(order) / math.gamma(self.smoothness)
        return companion, scale**2 * ratio * speed ** (2 * self.smoothness)
