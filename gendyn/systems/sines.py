r"""Sines: random frequencies and phases, without noise; the toy of generated time series.

.. math:: X_i(t) = \tfrac12 \bigl(1 + \sin(f_i t + p_i)\bigr), \qquad f_i \sim U(0, F), \quad p_i \sim U(0, P),

independent over paths and features. With :math:`m(a, b) = E[e^{i(a f + b p)}]`, a product of two factors
:math:`(e^{iz} - 1) / (iz)`,

.. math::

    E[X(t)] = \tfrac12 + \tfrac12 \operatorname{Im} m(t, 1), \qquad
    \operatorname{Cov}[X(s), X(t)] = \tfrac18 \operatorname{Re}\bigl[m(t-s, 0) - m(t+s, 2)\bigr]
    - \tfrac14 \operatorname{Im} m(s, 1) \operatorname{Im} m(t, 1) .

A trap: the paper that introduced this set (Yoon, Jarrett and van der Schaar 2019) speaks of frequencies up to 1 and
phases between :math:`-\pi` and :math:`\pi`; its code, and every published table, use :math:`F = P = 0.1`, the default
here. Such paths hardly turn in 24 steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, torch_generator
from gendyn.systems.parameters import check_count, check_positive

__all__ = ["Sines"]


@dataclass(frozen=True)
class Sines:
    r"""Sine waves between 0 and 1 with random frequency and phase.

    Parameters
    ----------
    features
        Number of independent waves on a path.
    frequency
        :math:`F`, the highest, radians per time unit.
    phase
        :math:`P`, the largest, radians.

    Raises
    ------
    ValueError
        If a parameter is not positive.

    Examples
    --------
    >>> waves = Sines()
    >>> [round(float(waves.mean(t)), 5) for t in (0.0, 12.0, 23.0)]
    [0.52498, 0.78464, 0.86973]
    """

    features: int = 5
    frequency: float = 0.1
    phase: float = 0.1

    times: ClassVar[tuple[float, ...]] = tuple(float(k) for k in range(24))

    def __post_init__(self) -> None:
        check_count("Sines: features", self.features)
        check_positive(self, ["frequency", "phase"])

    @property
    def dim(self) -> int:
        """Number of features."""
        return self.features

    @property
    def names(self) -> tuple[str, ...]:
        """``x1 ... xd``."""
        return tuple(f"x{i + 1}" for i in range(self.features))

    def paths(self, times: ArrayLike, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Paths:
        """Draw n paths at times ``(T,)``."""
        grid = torch.as_tensor(np.asarray(times, dtype=np.float64))
        generator = torch_generator(seed, "sines")
        unit = torch.rand(check_count("n", n), 2, self.features, generator=generator, dtype=torch.float64)
        frequency, phase = self.frequency * unit[:, :1], self.phase * unit[:, 1:]
        values = (torch.sin(frequency * grid[:, None] + phase) + 1) / 2
        return Paths(grid, values.to(dtype), names=self.names)

    def mean(self, t: ArrayLike) -> Tensor:
        """Return the mean of a feature at times, same shape, float64."""
        return 0.5 + 0.5 * self._characteristic(t, 1).imag

    def covariance(self, s: ArrayLike, t: ArrayLike) -> Tensor:
        """Return the covariance of a feature between times, which broadcast, float64."""
        first, second = torch.as_tensor(s, dtype=torch.float64), torch.as_tensor(t, dtype=torch.float64)
        together = self._characteristic(second - first, 0) - self._characteristic(second + first, 2)
        means = self._characteristic(first, 1).imag * self._characteristic(second, 1).imag
        return 0.125 * together.real - 0.25 * means

    def _characteristic(self, t: ArrayLike, turns: int) -> Tensor:
        """Return the mean of exp(i (f t + turns p))."""
        wave = torch.as_tensor(t, dtype=torch.float64) * self.frequency
        return _unit_transform(wave) * _unit_transform(torch.as_tensor(turns * self.phase, dtype=torch.float64))


def _unit_transform(z: Tensor) -> Tensor:
    """Return the mean of exp(i z u) for u uniform on (0, 1)."""
    # e^(iz/2) sin(z/2) / (z/2); torch's sinc carries a pi.
    return torch.polar(torch.ones_like(z), z / 2) * torch.sinc(z / (2 * torch.pi))
