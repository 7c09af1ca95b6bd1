r"""What a system is: something with known truth that can be started and watched.

Whatever is learned from its data can be compared with the truth. Every system has a ``dim`` and ``names`` of its
coordinates, and ``times`` at which it is worth looking at; how it makes data tells four kinds apart:

=====================  ==========================  =====================================================================
kind                   members                     made by
=====================  ==========================  =====================================================================
`DiffusionSystem`      ``drift``, ``initial``      :func:`gendyn.sampling.sample`: :math:`dX = f\,dt + g\,dW` (Ito)
`JumpSystem`           ``rates``, ``initial``      :func:`gendyn.sampling.sample`: states that stay put, then jump
`InteractingSystem`    ``population``              :func:`gendyn.sampling.sample`, of all particles as one state
`ClosedFormSystem`     ``paths``                   its law: what is no Markov process, or has no dynamics at all
=====================  ==========================  =====================================================================

Optional members of a process: ``solver``, the one that belongs to its definition (a map is iterated);
``recorded``, how many leading coordinates are recorded where the others are hidden; ``weighted(x)``, which
splits states into cells and their weights where cells divide and die.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, torch_generator
from gendyn.sampling.jumps.jump_process import JumpProcess
from gendyn.sampling.process import Calculus, NoiseType, Process

__all__ = [
    "Calculus",
    "ClosedFormSystem",
    "DiffusionSystem",
    "InteractingSystem",
    "JumpSystem",
    "NoiseType",
    "System",
    "draw_normal",
    "draw_uniform",
]


@runtime_checkable
class System(Protocol):
    """What every system has.

    Examples
    --------
    >>> from gendyn.systems import Lorenz63
    >>> isinstance(Lorenz63(), System)
    True
    """

    @property
    def dim(self) -> int:
        """Dimension d of the state."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the d coordinates."""
        ...

    @property
    def times(self) -> tuple[float, ...]:
        """Times at which the system is worth looking at; the first is the start."""
        ...


@runtime_checkable
class DiffusionSystem(System, Protocol):
    """A process in continuous time, with or without noise, and its start law.

    Shapes: ``x (B, d)``, ``t`` 0-dimensional or ``(B, 1)``, ``drift (B, d)``; ``diffusion`` is ``(d, m)`` or
    ``(B, d, m)`` for additive noise and ``(B, d)`` for diagonal noise. Tensors come back with the dtype and
    device of ``x``.

    Examples
    --------
    >>> from gendyn.systems import Lorenz63
    >>> isinstance(Lorenz63(), DiffusionSystem)
    True
    """

    @property
    def noise_dim(self) -> int:
        """Number m of independent Brownian motions."""
        ...

    @property
    def noise_type(self) -> NoiseType:
        """How the noise enters."""
        ...

    @property
    def calculus(self) -> Calculus:
        """Which stochastic integral is meant."""
        ...

    @property
    def time_step(self) -> float:
        """A step that resolves the fastest motion."""
        ...

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return f(t, x)."""
        ...

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return g(t, x)."""
        ...

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states, shape ``(n, d)``."""
        ...


@runtime_checkable
class JumpSystem(System, JumpProcess, Protocol):
    """A jump process (see :class:`gendyn.sampling.JumpProcess`) and its start law.

    Examples
    --------
    >>> from gendyn.systems import FlashingRatchet
    >>> isinstance(FlashingRatchet(), JumpSystem)
    True
    """

    def initial(self, n: int, seed: Seed = 0) -> Tensor:
        """Draw n start states, whole numbers, shape ``(n, d)``."""
        ...


@runtime_checkable
class InteractingSystem(System, Protocol):
    """Particles that feel each other: a population is one system, and its rows are not independent.

    Examples
    --------
    >>> from gendyn.systems import OpinionDynamics
    >>> isinstance(OpinionDynamics(), InteractingSystem)
    True
    """

    @property
    def time_step(self) -> float:
        """A step that resolves the fastest motion."""
        ...

    def population(self, n: int) -> Process:
        """Return the process of n particles as one state ``(1, n d)``, particle after particle."""
        ...

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n start states, shape ``(n, d)``."""
        ...


@runtime_checkable
class ClosedFormSystem(System, Protocol):
    """Paths drawn from their law at given times.

    Examples
    --------
    >>> from gendyn.systems import Sines
    >>> isinstance(Sines(), ClosedFormSystem)
    True
    """

    def paths(self, times: ArrayLike, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Paths:
        """Draw n paths at times ``(T,)``."""
        ...


def draw_uniform(low: tuple[float, ...], high: tuple[float, ...], n: int, seed: Seed, dtype: torch.dtype) -> Tensor:
    """Draw ``(n, d)`` points uniformly from a box; drawn in float64, then cast.

    Examples
    --------
    >>> draw_uniform((0.0, 5.0), (1.0, 5.0), 2, 0, torch.float32)[:, 1]
    tensor([5., 5.])
    """
    lower, upper = torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)
    generator = torch_generator(seed, "initial")
    unit = torch.rand(n, len(low), generator=generator, dtype=torch.float64)
    return (lower + (upper - lower) * unit).to(dtype)


def draw_normal(
    mean: Sequence[float] | NDArray[np.float64], deviation: float, n: int, seed: Seed, dtype: torch.dtype
) -> Tensor:
    """Draw ``(n, d)`` points from ``N(mean, deviation^2 I)``; drawn in float64, then cast.

    Examples
    --------
    >>> draw_normal((1.0, 2.0), 0.0, 1, 0, torch.float32)
    tensor([[1., 2.]])
    """
    generator = torch_generator(seed, "initial")
    unit = torch.randn(n, len(mean), generator=generator, dtype=torch.float64)
    return (torch.as_tensor(mean, dtype=torch.float64) + deviation * unit).to(dtype)
