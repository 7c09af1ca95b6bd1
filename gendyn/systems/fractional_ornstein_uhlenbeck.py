r"""Fractional Ornstein-Uhlenbeck: return to a level under noise with memory; exact paths at any times.

.. math:: dX = \theta (\mu - X)\,dt + \sigma\,dB_H

Driven by kind I from the infinite past it is stationary, with :math:`x = \theta\tau` and

.. math::

    \operatorname{Cov}[X_{t+\tau}, X_t] = \frac{\sigma^2}{\theta^{2H}}\, c(x), \qquad
    c(x) = \frac{\Gamma(2H+1)}{2} \Bigl[\cosh x - {}_1F_2\bigl(1; H + \tfrac12, H + 1; \tfrac{x^2}{4}\bigr)
    \frac{x^{2H}}{\Gamma(2H+1)}\Bigr] .

Both terms grow like :math:`e^x` and cancel; beyond :math:`x = 8` the equation
:math:`c'' = c - H(2H-1)\,x^{2H-2}` is solved from there instead, by its Green function. Started at a fixed point the
deviation from the mean path is :math:`X_t - e^{-\theta t} X_0` of the stationary process; driven by kind II it is
:math:`\sigma \int_0^t k(t-s)\,dB(s)` with :math:`k(u) = u^{\alpha-1} {}_1F_1(1; \alpha; -\theta u) / \Gamma(\alpha)`,
:math:`\alpha = H + \tfrac12`. Cheridito, Kawaguchi and Maejima (2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.polynomial import Chebyshev
from numpy.polynomial.laguerre import laggauss
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.special import gamma, hyp1f1
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed
from gendyn.sampling.fractional import Kind, sample_gaussian, sample_stationary, variance_constant
from gendyn.systems.parameters import check_count, check_finite, check_positive

__all__ = ["FractionalOrnsteinUhlenbeck"]

_SERIES = 8.0
"""Lag in relaxation times up to which the series keeps twelve digits."""

_POWER = 8
"""Nodes of the kernel's integral are graded like this power towards its singularity."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FractionalOrnsteinUhlenbeck:
    r"""Fractional Ornstein-Uhlenbeck process in one dimension.

    Parameters
    ----------
    hurst
        :math:`H`, between 0 and 1.
    rate
        :math:`\theta`, per time unit.
    mean
        :math:`\mu`.
    volatility
        :math:`\sigma`, state units per time unit to the power H.
    start
        Where every path starts; ``None`` for the stationary process.
    kind
        ``"I"``, or ``"II"`` with a start.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or kind II has no start.

    Examples
    --------
    >>> process = FractionalOrnsteinUhlenbeck(hurst=0.7, rate=2.0)
    >>> round(process.autocovariance(0.5).item(), 7)
    0.1494781
    """

    hurst: float = 0.3
    rate: float = 1.0
    mean: float = 0.0
    volatility: float = 1.0
    start: float | None = None
    kind: Kind = "I"

    dim: ClassVar[int] = 1
    names: ClassVar[tuple[str, ...]] = ("x",)

    def __post_init__(self) -> None:
        check_finite(self, ["hurst", "mean", *([] if self.start is None else ["start"])])
        check_positive(self, ["rate", "volatility"])
        variance_constant(self.hurst, self.kind)
        if self.kind == "II" and self.start is None:
            raise ValueError(
                "FractionalOrnsteinUhlenbeck: kind II begins at time 0 and is never stationary; give a start"
            )

    @property
    def times(self) -> tuple[float, ...]:
        """A hundred and one times over five relaxation times."""
        return tuple(0.05 * k / self.rate for k in range(101))

    def autocovariance(self, lag: ArrayLike) -> Tensor:
        """Return the covariance of the stationary process over lags, same shape, float64."""
        scaled = self.rate * np.abs(np.asarray(lag, dtype=np.float64))
        factor = self.volatility**2 / self.rate ** (2 * self.hurst)
        return torch.as_tensor(factor * _stationary(scaled.ravel(), self.hurst).reshape(scaled.shape))

    def conditional_mean(self, t: ArrayLike) -> Tensor:
        """Return the mean at times of a process with a start (of the stationary one: the mean), float64."""
        times = torch.as_tensor(t, dtype=torch.float64)
        gap = 0.0 if self.start is None else self.start - self.mean
        return self.mean + gap * torch.exp(-self.rate * times)

    def covariance(self, times: ArrayLike) -> Tensor:
        """Return the covariance at times ``(T,)``, not negative: ``(T, T)``, float64.

        Raises
        ------
        ValueError
            If a time is negative or not finite.
        """
        grid = np.asarray(times, dtype=np.float64)
        if grid.ndim != 1 or not (np.isfinite(grid) & (grid >= 0)).all():
            raise ValueError("times must be one row of finite numbers that are not negative")
        if self.kind == "II":
            return torch.as_tensor(self._second_kind(grid))
        result = self.autocovariance(grid[:, None] - grid)
        if self.start is None:
            return result
        decay, since = torch.as_tensor(np.exp(-self.rate * grid)), self.autocovariance(grid)
        across = decay[:, None] * since
        started = result - across - across.T + decay[:, None] * decay * self.autocovariance(0.0)
        # A path that has just started has variance 0, not a rounding error.
        begun = torch.as_tensor(grid > 0)
        return torch.where(begun[:, None] & begun, started, 0.0)

    def paths(self, times: ArrayLike, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Paths:
        """Draw n paths at times ``(T,)``, not negative."""
        grid = torch.as_tensor(np.asarray(times, dtype=np.float64))
        gaps, size = grid.diff(), check_count("n", n)
        regular = len(gaps) > 0 and bool((gaps - gaps.mean()).abs().max() <= 1e-9 * gaps.max())
        if self.start is None and regular:
            lags = torch.arange(len(grid), dtype=torch.float64) * gaps.mean()
            x = sample_stationary(self.autocovariance(lags), size, seed)
        else:
            x = sample_gaussian(self.covariance(grid), size, seed)
        return Paths(grid, (self.conditional_mean(grid) + x)[:, :, None].to(dtype), names=self.names)

    def _second_kind(self, grid: Array) -> Array:
        a, last = self.hurst + 0.5, max(float(grid.max()), np.finfo(float).tiny)
        # The kernel without its singular factor is entire, and read off a polynomial: millions of values are wanted.
        degree = 40 + int(12 * math.sqrt(self.rate * last))
        smooth = Chebyshev.interpolate(lambda u: hyp1f1(1.0, a, -self.rate * u), degree, domain=[0.0, last])
        nodes, weights = leggauss(120)
        unit, weights = (nodes + 1) / 2, weights / 2
        result = np.zeros((len(grid), len(grid)))
        order = np.argsort(grid)
        for k, i in enumerate(order):
            s, later = grid[i], order[k:]
            if s == 0:
                continue
            v = s * unit**_POWER
            density = s * _POWER * unit ** (_POWER - 1) * weights
            other = grid[later][:, None] - s + v
            kernel = v ** (a - 1) * smooth(v) * other ** (a - 1) * smooth(other)
            result[i, later] = result[later, i] = kernel @ density
        scale = self.volatility**2 / (gamma(a) ** 2 * variance_constant(self.hurst, "II"))
        return scale * result


def _stationary(x: Array, hurst: float) -> Array:
    """Return c at lags ``(L,)`` in relaxation times."""
    near = np.minimum(x, _SERIES)
    term, total = np.ones_like(near), np.ones_like(near)
    for k in range(80):
        term = term * (near**2 / 4) / ((hurst + 0.5 + k) * (hurst + 1 + k))
        total += term
    result = 0.5 * (gamma(2 * hurst + 1) * np.cosh(near) - total * near ** (2 * hurst))
    far = x > _SERIES
    if far.any():
        edge = _stationary(np.array([_SERIES]), hurst)[0] - _green(np.array([_SERIES]), hurst)[0]
        result[far] = edge * np.exp(_SERIES - x[far]) + _green(x[far], hurst)
    return np.asarray(result)


def _green(x: Array, hurst: float) -> Array:
    """Return the solution of ``c'' = c - H (2H-1) x^(2H-2)`` that the source beyond ``_SERIES`` makes."""
    power, strength = 2 * hurst - 2, hurst * (2 * hurst - 1)
    nodes, weights = laggauss(48)
    after = (x[:, None] + nodes) ** power @ weights
    legendre, mass = leggauss(64)
    reach = np.minimum(x - _SERIES, 40.0)[:, None]
    u = reach * (legendre + 1) / 2
    before = ((x[:, None] - u) ** power * np.exp(-u) * reach / 2) @ mass
    return np.asarray(0.5 * strength * (after + before))
