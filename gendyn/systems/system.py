r"""What a system is: a process with known truth, a place to start and a clock.

A system is the right-hand side of

.. math:: dX = f(t, X)\,dt + g(t, X)\,dW \qquad \text{(Ito)}

with every parameter known, so that whatever is learned from its data can be compared with the
truth. It is a process (``dim``, ``noise_dim``, ``noise_type``, ``calculus``, ``drift``, ``diffusion``)
that `gendyn.sampling.sample` runs, and it adds four things that make data from it:
``names`` of its coordinates, ``initial(n, seed)`` to draw start states, ``times`` to look at it, and
``time_step``, a step that resolves its fastest motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.randomness import Seed, torch_generator

__all__ = ["Calculus", "NoiseType", "System", "draw_normal", "draw_uniform"]

NoiseType = Literal["none", "additive", "diagonal", "scalar", "general"]
Calculus = Literal["ito", "stratonovich"]


@runtime_checkable
class System(Protocol):
    """A process with known truth that can also be started and watched.

    Shapes: ``x (B, d)``, ``t`` 0-dimensional or ``(B, 1)``, ``drift (B, d)``; ``diffusion`` is ``(d, m)`` or
    ``(B, d, m)`` for additive noise and ``(B, d)`` for diagonal noise. Tensors come back with the dtype and
    device of ``x``.

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
    def names(self) -> tuple[str, ...]:
        """Names of the d coordinates."""
        ...

    @property
    def times(self) -> tuple[float, ...]:
        """Times at which the system is worth looking at; the first is the start."""
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
