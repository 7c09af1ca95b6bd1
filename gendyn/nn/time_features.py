r"""Features of positions and times, for networks that should see more than one scale of them.

Random Fourier features :math:`(\cos 2\pi x B, \sin 2\pi x B)` have frequencies :math:`B` drawn once and kept (Rahimi
and Recht 2007); sinusoidal features of time :math:`(\cos s t \omega_j, \sin s t \omega_j)` have them laid out in
geometric progression (Vaswani et al. 2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gendyn.randomness import Seed, torch_generator

__all__ = ["FourierFeatures", "SinusoidalTime"]


class FourierFeatures(nn.Module):
    r"""Random Fourier features :math:`(\cos 2\pi x B, \sin 2\pi x B)`, :math:`B_{ij} \sim \mathcal{N}(0, s^2)`.

    The frequencies are a buffer: drawn once, saved with the weights, never drawn again. The mean of the features over
    a cloud of points is its empirical characteristic function.

    Parameters
    ----------
    in_features
        Number of inputs ``d``.
    n_frequencies
        Number of frequencies; twice as many features.
    scale
        Standard deviation ``s`` of the frequencies, in cycles per unit of the input.
    seed
        Seed of the frequencies.

    Raises
    ------
    ValueError
        If a number is below 1 or the scale is not positive and finite.

    Examples
    --------
    >>> features = FourierFeatures(2, 8)
    >>> features(torch.zeros(5, 2)).shape, features.out_features
    (torch.Size([5, 16]), 16)
    """

    frequencies: Tensor

    def __init__(self, in_features: int, n_frequencies: int, scale: float = 1.0, *, seed: Seed = 0) -> None:
        super().__init__()
        if in_features < 1 or n_frequencies < 1:
            raise ValueError(f"in_features and n_frequencies must be at least 1; got {in_features} and {n_frequencies}")
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite; got {scale}")
        self.in_features, self.out_features = in_features, 2 * n_frequencies
        generator = torch_generator(seed, "fourier")
        draw = torch.randn(in_features, n_frequencies, generator=generator, dtype=torch.float32)
        self.register_buffer("frequencies", scale * draw)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``(..., 2 n_frequencies)`` of inputs ``(..., in_features)``: all cosines, then all sines.

        Raises
        ------
        ValueError
            If the last dimension of ``x`` is not ``in_features``.
        """
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"the input must have shape (..., {self.in_features}); got {tuple(x.shape)}")
        angle = 2 * math.pi * (x @ self.frequencies)
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class SinusoidalTime(nn.Module):
    r"""Sinusoidal features :math:`(\cos s t \omega_j, \sin s t \omega_j)`, :math:`\omega_j = P^{-j / (w/2)}`.

    Parameters
    ----------
    width
        Number of features ``w``; even.
    max_period
        :math:`P`: the periods run from :math:`2\pi / s` to nearly :math:`2 \pi P / s`.
    scale
        :math:`s`. The default suits times in :math:`[0, 1]`; with :math:`s = 1` and such times most features
        would be constant.

    Raises
    ------
    ValueError
        If the width is not an even number of at least 2, ``max_period`` is below 1 or ``scale`` not positive.

    Examples
    --------
    >>> SinusoidalTime(6)(torch.zeros(4, 1))[0].tolist()
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    """

    frequencies: Tensor

    def __init__(self, width: int, max_period: float = 10_000.0, scale: float = 1000.0) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be an even number of at least 2; got {width}")
        if not 1 <= max_period < math.inf:
            raise ValueError(f"max_period must be finite and at least 1; got {max_period}")
        if not 0 < scale < math.inf:
            raise ValueError(f"scale must be positive and finite; got {scale}")
        self.out_features = width
        exponents = torch.arange(width // 2, dtype=torch.float64) / (width // 2)
        self.register_buffer("frequencies", (scale * max_period**-exponents).to(torch.float32))

    def forward(self, t: Tensor) -> Tensor:
        """Return features ``(..., width)`` of times ``(..., 1)``: all cosines, then all sines.

        Raises
        ------
        ValueError
            If the last dimension of ``t`` is not 1.
        """
        if t.ndim == 0 or t.shape[-1] != 1:
            raise ValueError(f"times must have shape (..., 1); got {tuple(t.shape)}")
        angle = t * self.frequencies
        return torch.cat([angle.cos(), angle.sin()], dim=-1)
