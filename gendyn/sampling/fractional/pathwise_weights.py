r"""Weights of the Markov approximation that is nearest to fractional Brownian motion path by path.

With :math:`dY_k = -\gamma_k Y_k\,dt + dB`, all driven by one Brownian motion, and
:math:`\hat B = \sum_k \omega_k Y_k` (kind II) or :math:`\sum_k \omega_k (Y_k - Y_k(0))` (kind I), the cost

.. math:: J(\omega) = \int_0^T E\,(\hat B_t - B_t)^2\,dt = \omega^\top A \omega - 2 b^\top \omega + c

has a closed form (Daems et al. 2024), but its normal equations square the condition number and are lost beyond seven
rates. It is a least-squares problem for kernels as well; for kind II

.. math:: J = \int_0^T (T - \tau) \Bigl(\sum_k \omega_k e^{-\gamma_k \tau} - \frac{\tau^{\alpha-1}}{\Gamma(\alpha)}
    \Bigr)^2 d\tau ,

and kind I adds what the past drives, from u before 0 to t after it,

.. math:: \int_0^T \!\!\int_0^\infty \Bigl(\sum_k \omega_k (e^{-\gamma_k t} - 1) e^{-\gamma_k u}
    - \frac{(t+u)^{\alpha-1} - u^{\alpha-1}}{\Gamma(\alpha)} \Bigr)^2 du\,dt .

On Gauss-Legendre nodes graded to the singularity these are sums of squares, solved by a QR factor that does not depend
on H: :math:`\omega(H) = R^{-1} Q^\top y(H)`, for many H at once, and differentiable. Time is in units of T:
:math:`\omega(T, \gamma) = T^{H - 1/2} \omega(1, \gamma T)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from gendyn.data.checks import ArrayLike, warn_user
from gendyn.sampling.fractional.decay_rates import check_horizon, check_rates
from gendyn.sampling.fractional.laws import Kind, check_kind

__all__ = ["KernelFit", "log_variance_constant"]

_RIDGE = 1e-6
_LARGE = 1e3
"""Weights beyond this lose too many digits in float32; a ridge makes them smaller."""

_MOST = 10
"""Rates beyond which weights without a ridge are rounding errors."""


@dataclass(frozen=True, eq=False)
class KernelFit:
    r"""The least-squares problem of given rates, horizon and kind, for any Hurst index.

    Parameters
    ----------
    rates
        :math:`\gamma`, ``(K,)``, per time unit, increasing.
    horizon
        :math:`T`.
    kind
        ``"I"`` (with the stationary :math:`Y(0)`) or ``"II"`` (with :math:`Y(0) = 0`).
    ridge
        Adds :math:`r^2 |\omega|^2`, in units of the horizon. ``None`` takes 1e-6 where weights would exceed 1000, and
        warns.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or there are more than ten rates and no ridge.

    Examples
    --------
    >>> from gendyn.sampling.fractional import published_rates
    >>> fit = KernelFit(published_rates(5, 20.0), horizon=1.0, kind="II")
    >>> fit.weights(0.7)
    tensor([-0.9348,  3.2680, -1.7713,  0.1156, -0.3155], dtype=torch.float64)
    >>> round(fit.relative_error(0.7).item(), 7)
    0.0001341
    """

    rates: ArrayLike
    horizon: float
    kind: Kind = "II"
    ridge: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", check_rates(self.rates))
        object.__setattr__(self, "horizon", check_horizon(self.horizon))
        check_kind(self.kind)
        if self.ridge is not None and not (math.isfinite(self.ridge) and self.ridge >= 0):
            raise ValueError(f"ridge must be a number of at least 0; got {self.ridge}")
        if self.ridge == 0 and len(self.rates) > _MOST:
            raise ValueError(f"{len(self.rates)} rates need a ridge: give ridge=1e-6, or at most {_MOST} rates")

    def weights(self, hurst: float | Tensor) -> Tensor:
        r"""Return the raw weights :math:`\omega`, ``(..., K)`` for Hurst indices ``(...)``, float64, differentiable.

        Raises
        ------
        ValueError
            If a Hurst index does not lie between 0 and 1.
        """
        index = _indices(hurst)
        free = self._solve(index, 0.0)
        ridge = self.ridge
        if ridge is None:
            largest = float(free.detach().abs().max())
            ridge = _RIDGE if largest > _LARGE or len(self.rates) > _MOST else 0.0
            if ridge:
                warn_user(
                    f"the weights of {len(self.rates)} rates reach {largest:.3g}; a ridge of {_RIDGE:g} keeps them "
                    "small. Give ridge=0 to have them as they are, or fewer rates",
                )
        solved = self._solve(index, ridge) if ridge else free
        return solved * self.horizon ** (index[..., None] - 0.5)

    def relative_error(self, hurst: float | Tensor, weights: Tensor | None = None) -> Tensor:
        r"""Return :math:`J / c`, ``(...)``: the error over the variance, both integrated over time.

        ``weights`` are raw ones ``(..., K)``; by default the best.
        """
        index = _indices(hurst)
        found = self.weights(index) if weights is None else weights
        unit = found / self.horizon ** (index[..., None] - 0.5)
        target = self._target(index)
        total = torch.exp(log_variance_constant(index, self.kind)) / (2 * index + 1)
        missed = (target - unit @ self._design.mT).square().sum(-1)
        # What the nodes miss of c itself, where the kernel is hardly square integrable.
        return (missed + total - target.square().sum(-1)) / total

    def _solve(self, index: Tensor, ridge: float) -> Tensor:
        key = float(ridge)
        if key not in self._factors:
            rows = torch.cat([self._design, ridge * torch.eye(len(self.rates), dtype=torch.float64)])
            orthogonal, triangle = torch.linalg.qr(rows)
            self._factors[key] = orthogonal[: len(self._design)], triangle
        orthogonal, triangle = self._factors[key]
        projected = self._target(index) @ orthogonal
        solved: Tensor = torch.linalg.solve_triangular(triangle, projected.reshape(-1, len(triangle)).mT, upper=True)
        return solved.mT.reshape(projected.shape)

    @cached_property
    def _factors(self) -> dict[float, tuple[Tensor, Tensor]]:
        return {}

    @cached_property
    def _nodes(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor] | None]:
        """Return lags and roots of weights; and times, times before 0 and roots of weights of what the past drives."""
        unit, mass = _graded(300, 8)
        recent = unit, (mass * (1 - unit)).sqrt()
        if self.kind == "II":
            return recent, None
        t, at = _graded(80, 6)
        nodes, weight = _unit_interval(160)
        ratio = nodes / (1 - nodes)
        before = ratio**6
        density = 6 * ratio**5 / (1 - nodes) ** 2 * weight
        roots = (at[:, None] * density).sqrt().flatten()
        return recent, (t.repeat_interleave(len(before)), before.repeat(len(t)), roots)

    @cached_property
    def _design(self) -> Tensor:
        rates = self.rates * self.horizon
        (lag, root), past = self._nodes
        rows = root[:, None] * torch.exp(-lag[:, None] * rates)
        if past is None:
            return rows
        t, u, roots = past
        return torch.cat([rows, roots[:, None] * torch.expm1(-t[:, None] * rates) * torch.exp(-u[:, None] * rates)])

    def _target(self, index: Tensor) -> Tensor:
        power = index[..., None] - 0.5
        (lag, root), past = self._nodes
        rows = root * lag**power
        if past is not None:
            t, u, roots = past
            rows = torch.cat([rows, roots * u**power * torch.expm1(power * torch.log1p(t / u))], -1)
        result: Tensor = rows * torch.exp(-torch.lgamma(power + 1))
        return result


def log_variance_constant(hurst: Tensor, kind: Kind) -> Tensor:
    r"""Return :math:`\ln V_I` or :math:`\ln V_{II}` of Hurst indices, any shape, differentiable.

    Examples
    --------
    >>> round(log_variance_constant(torch.tensor(0.3), "II").exp().item(), 5)
    1.22962
    """
    if kind == "I":
        return -torch.lgamma(2 * hurst + 1) - torch.log(torch.sin(math.pi * hurst))
    return -torch.log(2 * hurst) - 2 * torch.lgamma(hurst + 0.5)


def _indices(hurst: float | Tensor) -> Tensor:
    index = torch.as_tensor(hurst, dtype=torch.float64)
    if not bool(((index > 0) & (index < 1)).all()):
        raise ValueError(f"Hurst indices must lie between 0 and 1, both excluded; got {index.detach().tolist()}")
    return index


def _unit_interval(count: int) -> tuple[Tensor, Tensor]:
    nodes, weights = leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(np.asarray(weights / 2))


def _graded(count: int, power: int) -> tuple[Tensor, Tensor]:
    """Return Gauss-Legendre nodes on the unit interval, graded like a power towards 0, and their weights."""
    nodes, weights = _unit_interval(count)
    return nodes**power, power * nodes ** (power - 1) * weights
