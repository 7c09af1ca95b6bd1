r"""A source that is made from the data: :math:`x_0 = m(x_1) + s\,\zeta`, :math:`\zeta \sim \mathcal{N}(0, I)`.

The ends of an interpolant are then joined by how the first is made: m takes away what is to be restored (a blur, a
feature that was not measured), and the noise makes room for what cannot be known. For a point of the population the
mean is fixed, the noise is fresh at every draw (Albergo, Goldstein, Boffi, Ranganath and Vanden-Eijnden 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["DependentSource", "SourceOption"]

SourceOption = Literal["identity"] | Callable[[Tensor], Tensor]
"""m by name, or a function of points ``(B, d)`` that returns as many."""


class DependentSource:
    """How the first end is made from the second, in the units of the data.

    Parameters
    ----------
    mean
        ``"identity"``, or a function of points ``(B, d)``, each row for itself.
    noise
        s: one number, or one for each feature; zero where the mean is what paths start from.

    Raises
    ------
    ValueError
        If the mean is neither, or a noise is negative or not finite.

    Examples
    --------
    >>> half_seen = DependentSource(lambda x: x * torch.tensor([1.0, 0.0]), noise=(0.0, 2.0))
    >>> mean = half_seen.mean(torch.tensor([[3.0, 4.0]]))
    >>> start = half_seen.draw(mean, torch.Generator().manual_seed(0))
    >>> mean.tolist(), start[0, 0].item()
    ([[3.0, 0.0]], 3.0)
    """

    def __init__(self, mean: SourceOption = "identity", noise: float | Sequence[float] = 0.0) -> None:
        if mean != "identity" and not callable(mean):
            raise ValueError(f"source must be 'identity' or a function of points (B, d); got {mean!r}")
        self.noise = torch.as_tensor(noise, dtype=torch.float64)
        if self.noise.ndim > 1 or not all(0 <= s < math.inf for s in self.noise.reshape(-1).tolist()):
            raise ValueError(
                f"source_noise must be zero or positive, one number or one for each feature; got {noise!r}"
            )
        self._mean = mean

    def mean(self, x: Tensor) -> Tensor:
        """Return m of points ``(B, d)``.

        Raises
        ------
        ValueError
            If it has another shape, or is not finite.
        """
        if self.noise.ndim == 1 and len(self.noise) != x.shape[1]:
            raise ValueError(
                f"source_noise must be one number or one for each of {x.shape[1]} features; got {len(self.noise)}"
            )
        if not callable(self._mean):
            return x
        found = self._mean(x)
        if found.shape != x.shape:
            raise ValueError(
                f"source must return as many points and features as it is given, {tuple(x.shape)}; "
                f"got {tuple(found.shape)}"
            )
        finite = torch.isfinite(found).all(1)
        if not bool(finite.all()):
            raise ValueError(f"source must return finite points; {int((~finite).sum())} of {len(x)} rows are not")
        return found.to(x)

    def draw(self, mean: Tensor, generator: torch.Generator, scale: Tensor | float = 1.0) -> Tensor:
        """Return sources ``(B, d)`` with these means, in units of which the data's are ``1 / scale``."""
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype).to(mean.device)
        return mean + self.noise.to(mean) / scale * noise
