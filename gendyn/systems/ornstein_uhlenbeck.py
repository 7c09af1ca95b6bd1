r"""Ornstein-Uhlenbeck: the linear process with constant noise, and everything about it in closed form.

.. math:: dX = \Theta(\mu - X)\,dt + \Sigma\,dW

With :math:`F_t = e^{-\Theta t}` and start :math:`x_0`,

.. math::

    E[X_t] = \mu + F_t (x_0 - \mu), \qquad
    \operatorname{Cov}[X_t] = C_t = \int_0^t F_s \Sigma \Sigma^\top F_s^\top ds,

and, if all eigenvalues of :math:`\Theta` have positive real part, the stationary law is
:math:`\mathcal N(\mu, C_\infty)` with :math:`\Theta C_\infty + C_\infty \Theta^\top = \Sigma\Sigma^\top`.
Uhlenbeck and Ornstein (1930); Gardiner, *Stochastic Methods* (2009), section 4.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gendyn.randomness import Seed, torch_generator
from gendyn.sampling.linear import LinearProcess
from gendyn.systems.first_passage import mean_first_passage
from gendyn.systems.parameters import check_count
from gendyn.systems.system import Calculus, NoiseType, draw_normal

__all__ = ["OrnsteinUhlenbeck"]

Coefficient = float | Sequence[float] | Sequence[Sequence[float]]


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    r"""Ornstein-Uhlenbeck process :math:`dX = \Theta(\mu - X)\,dt + \Sigma\,dW` in any dimension.

    Parameters
    ----------
    rate
        :math:`\Theta`, per time unit: a number (the same for every coordinate), d numbers (diagonal), or a
        ``(d, d)`` matrix (rotation and shear are allowed, and so are negative rates: the process then
        explodes).
    mean
        :math:`\mu`, the point of return, state units: a number or d numbers.
    volatility
        :math:`\Sigma`, state units per square root of time: a number, d numbers (diagonal), or a
        ``(d, m)`` matrix.
    start, start_deviation
        Start states are drawn from :math:`\mathcal N(\text{start}, \text{start\_deviation}^2 I)`, in state
        units.
    dim
        d; by default (0) the length of whichever parameter has one, else 1.

    Raises
    ------
    ValueError
        If shapes disagree or a parameter is not finite.

    Examples
    --------
    >>> process = OrnsteinUhlenbeck(rate=1.0, volatility=2.0 ** 0.5)
    >>> mean, covariance = process.stationary()
    >>> mean.item(), round(covariance.item(), 6)
    (0.0, 1.0)
    """

    rate: Coefficient = 1.0
    mean: float | Sequence[float] = 0.0
    volatility: Coefficient = 1.0
    start: float | Sequence[float] = 2.0
    start_deviation: float = 0.25
    dim: int = 0

    noise_type: ClassVar[NoiseType] = "additive"
    calculus: ClassVar[Calculus] = "ito"

    def __post_init__(self) -> None:
        arrays = {name: _array(name, getattr(self, name)) for name in ("rate", "mean", "volatility", "start")}
        spread = _array("start_deviation", self.start_deviation)
        if spread.ndim or spread < 0:
            raise ValueError(f"OrnsteinUhlenbeck: start_deviation must be one number >= 0; got {spread.tolist()}")
        ranks = {"rate": 2, "mean": 1, "volatility": 2, "start": 1}
        for name, array in arrays.items():
            if array.ndim > ranks[name]:
                raise ValueError(f"OrnsteinUhlenbeck: {name} has {array.ndim} axes; give at most {ranks[name]}")
        lengths = {name: len(array) for name, array in arrays.items() if array.ndim}
        dim = check_count("OrnsteinUhlenbeck: dim", self.dim or next(iter(lengths.values()), 1))
        wrong = {name: length for name, length in lengths.items() if length != dim}
        if arrays["rate"].ndim == 2 and arrays["rate"].shape[1] != arrays["rate"].shape[0]:
            raise ValueError(f"OrnsteinUhlenbeck: rate must be square; got shape {arrays['rate'].shape}")
        if wrong:
            raise ValueError(f"OrnsteinUhlenbeck: every parameter must have length {dim} or be one number; got {wrong}")
        # Plain nested tuples keep the dataclass hashable and its repr readable, whatever array was given.
        for name, array in arrays.items():
            object.__setattr__(self, name, _plain(array))
        object.__setattr__(self, "dim", dim)

    @cached_property
    def _rate(self) -> NDArray[np.float64]:
        return _matrix(self.rate, self.dim)

    @cached_property
    def _volatility(self) -> NDArray[np.float64]:
        return _matrix(self.volatility, self.dim)

    @cached_property
    def _mean(self) -> NDArray[np.float64]:
        return np.full(self.dim, self.mean, dtype=np.float64)

    @cached_property
    def _start(self) -> NDArray[np.float64]:
        return np.full(self.dim, self.start, dtype=np.float64)

    @property
    def noise_dim(self) -> int:
        """Number m of Brownian motions: the columns of the volatility."""
        return int(self._volatility.shape[1])

    @property
    def names(self) -> tuple[str, ...]:
        """``x1 ... xd``."""
        return tuple(f"x{i + 1}" for i in range(self.dim))

    @cached_property
    def time_step(self) -> float:
        """One fiftieth of the fastest relaxation or rotation."""
        fastest = float(np.abs(np.linalg.eigvals(self._rate)).max())
        return 0.02 / fastest if fastest else 0.02

    @cached_property
    def times(self) -> tuple[float, ...]:
        """Eleven times over four relaxation times of the fastest coordinate."""
        return tuple(float(t) for t in np.linspace(0.0, 200.0 * self.time_step, 11))

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\Theta(\mu - x)`, shape ``(B, d)``."""
        gap = x.new_tensor(self._mean) - x
        if np.ndim(self.rate) == 2:
            return gap @ x.new_tensor(self._rate.T)
        return gap * x.new_tensor(np.diagonal(self._rate).copy())

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\Sigma`, shape ``(d, m)``."""
        return x.new_tensor(self._volatility)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states from the start law, shape ``(n, d)``."""
        return draw_normal(self._start, self.start_deviation, check_count("n", n), seed, dtype)

    @cached_property
    def linear(self) -> LinearProcess:
        """The process as :class:`gendyn.sampling.LinearProcess`: exact steps, likelihoods, transitions."""
        return LinearProcess(-self._rate, self._rate @ self._mean, self._volatility)

    def conditional_mean(self, t: float, x0: Tensor) -> Tensor:
        r"""Return :math:`E[X_t \mid X_0 = x_0]`, shape of ``x0 (B, d)``."""
        return self.linear.mean(t, x0)

    def covariance(self, t: float) -> Tensor:
        r"""Return :math:`C_t`, the covariance given the start, shape ``(d, d)``, float64."""
        return self.linear.covariance(t)

    def marginal(self, t: float) -> tuple[Tensor, Tensor]:
        """Return mean ``(d,)`` and covariance ``(d, d)`` at t of a population drawn by `initial`, float64."""
        transition = self.linear.transition(t)
        spread = self.start_deviation**2 * transition.matrix @ transition.matrix.T
        return transition.mean(torch.from_numpy(self._start)[None])[0], transition.covariance + spread

    def autocovariance(self, lag: float) -> Tensor:
        r"""Return the stationary :math:`\operatorname{Cov}[X_{t+h}, X_t] = F_h C_\infty`, shape ``(d, d)``, float64.

        Raises
        ------
        ValueError
            If there is no stationary law, or the lag is negative.
        """
        return self.linear.transition(lag).matrix @ self.stationary()[1]

    def stationary(self) -> tuple[Tensor, Tensor]:
        """Return mean ``(d,)`` and covariance ``(d, d)`` of the stationary law, float64.

        Raises
        ------
        ValueError
            If an eigenvalue of the rate has no positive real part: there is no stationary law.
        """
        slowest = float(np.linalg.eigvals(self._rate).real.min())
        if slowest <= 0:
            raise ValueError(
                "OrnsteinUhlenbeck: a stationary law needs rates with positive real part; "
                f"the smallest is {slowest:.6g}"
            )
        return self.linear.stationary()

    def transition_log_density(self, t: float, x0: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\log p(X_t = x \mid X_0 = x_0)` for rows of ``x0`` and ``x``: ``(B,)``, float64.

        Raises
        ------
        ValueError
            If the covariance at ``t`` is singular (t = 0, or a direction that no noise reaches).
        """
        return self.linear.log_density(t, x0, x)

    def transition_sample(self, t: float, x0: Tensor, seed: Seed = 0) -> Tensor:
        """Draw :math:`X_t` given rows of ``x0 (B, d)`` from the exact law, without any step."""
        generator = torch_generator(seed, "transition", device=x0.device)
        normals = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        return self.linear.step(x0, t, normals)

    def mean_first_passage(self, x: float, target: float) -> float:
        """Return the mean time to reach ``target`` from ``x``, of a process in one dimension that returns.

        Raises
        ------
        ValueError
            If the process has more dimensions, or no stationary law.
        """
        if self.dim != 1:
            raise ValueError(f"OrnsteinUhlenbeck: first passages are for one dimension; this process has {self.dim}")
        mean, variance = (float(moment) for moment in self.stationary())
        deviation, rate = math.sqrt(variance), float(self._rate[0, 0])
        if deviation == 0:
            raise ValueError("OrnsteinUhlenbeck: without noise a process never passes its mean; give a volatility")
        far = min(x, mean) - 12 * deviation if target >= x else max(x, mean) + 12 * deviation
        return mean_first_passage(lambda y: rate * (mean - y), math.sqrt(2 * rate * variance), x, target, far)


def _array(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"OrnsteinUhlenbeck: {name} must be a number, a row of numbers or a matrix; got {value!r}"
        ) from None
    if array.size == 0:
        raise ValueError(f"OrnsteinUhlenbeck: {name} is empty; give at least one number")
    if not np.isfinite(array).all():
        raise ValueError(f"OrnsteinUhlenbeck: {name} must be finite; got {array.tolist()}")
    return array


def _plain(array: NDArray[np.float64]) -> object:
    if array.ndim == 0:
        return float(array)
    return tuple(_plain(row) for row in array)


def _matrix(value: Coefficient, dim: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    return array if array.ndim == 2 else np.diag(np.broadcast_to(array, dim))
