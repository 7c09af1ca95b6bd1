r"""Features of time, for networks that see it.

Sinusoidal features of a time :math:`t` are :math:`(\cos 2\pi f_j t, \sin 2\pi f_j t)_j`, with frequencies drawn
once (random Fourier features, Rahimi and Recht 2007) or laid out geometrically.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gendyn.randomness import Seed, torch_generator

__all__ = ["FourierFeatures", "SinusoidalTime"]


class FourierFeatures(nn.Module):
    r"""Random Fourier features :math:`(\cos 2\pi xB, \sin 2\pi xB)`, :math:`B_{ij} \sim \mathcal{N}(0, s^2)`.

    The frequencies are a buffer: drawn once, saved with the weights, never drawn again.

    Parameters
    ----------
    n_in
        Number of inputs.
    n_frequencies
        Number of frequencies; twice as many features.
    scale
        Standard deviation ``s`` of the frequencies, in cycles per unit of the input.
    seed
        Seed of the frequencies.

    Examples
    --------
    >>> FourierFeatures(2, 8)(torch.zeros(5, 2)).shape
    torch.Size([5, 16])
    """

    frequencies: Tensor

    def __init__(self, n_in: int, n_frequencies: int, scale: float = 1.0, *, seed: Seed = 0) -> None:
        super().__init__()
        generator = torch_generator(seed, "fourier")
        self.register_buffer("frequencies", scale * torch.randn(n_in, n_frequencies, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(..., 2 n_frequencies)`` of inputs ``(..., n_in)``."""
        angle = 2 * math.pi * (x @ self.frequencies)
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class SinusoidalTime(nn.Module):
    r"""Sinusoidal features of time with periods from ``shortest`` to ``longest`` in geometric progression.

    Parameters
    ----------
    width
        Number of features; even.
    shortest, longest
        Periods, in units of time.

    Examples
    --------
    >>> SinusoidalTime(6)(torch.zeros(4, 1))[0].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """

    frequencies: Tensor

    def __init__(self, width: int, shortest: float = 0.1, longest: float = 10.0) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be an even number of at least 2; got {width}")
        if not 0 < shortest <= longest:
            raise ValueError(f"periods must satisfy 0 < shortest <= longest; got {shortest} and {longest}")
        periods = torch.logspace(math.log10(longest), math.log10(shortest), width // 2)
        self.register_buffer("frequencies", 1.0 / periods)

    def forward(self, t: Tensor) -> Tensor:
        """Return features ``(..., width)`` of times ``(..., 1)``."""
        angle = 2 * math.pi * t * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=-1)
