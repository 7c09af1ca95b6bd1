r"""Scaling of populations, fitted on training data and undone on the way out.

.. math:: z = (x - m) / c, \qquad x = c\, z + m,

with :math:`m` the mean of all training rows and :math:`c` one number for all features (the largest population
standard deviation; distances keep their geometry), one number each (whitening), or one (nothing is done).
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import torch
from torch import Tensor

from gendyn.data.snapshots import Snapshots

__all__ = ["ScaleMethod", "Scaling"]

ScaleMethod = Literal["global", "whiten", "none"]


class Scaling:
    """An affine map between the user's units and the units that a model works in.

    Parameters
    ----------
    shift, scale
        ``(d,)`` each; ``scale`` positive.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [2.0, 20.0]])
    >>> scaling = Scaling.fit(x, "whiten")
    >>> scaling.transform(x).tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(self, shift: Tensor, scale: Tensor) -> None:
        if shift.shape != scale.shape or shift.ndim != 1:
            raise ValueError(
                f"shift and scale must have one shape (d,); got {tuple(shift.shape)} and {tuple(scale.shape)}"
            )
        if not bool((scale > 0).all()):
            raise ValueError("scale must be positive in every feature")
        self.shift = shift
        self.scale = scale

    @classmethod
    def fit(cls, data: Snapshots | Tensor, method: ScaleMethod = "global") -> Scaling:
        """Find shift and scale from populations (all rows of all times pooled) or rows ``(n, d)``.

        A feature that is constant is not divided; a warning names it.
        """
        if method not in get_args(ScaleMethod):
            raise ValueError(f"scale must be one of {get_args(ScaleMethod)}; got {method!r}")
        populations = data.samples if isinstance(data, Snapshots) else (data,)
        dim, first = populations[0].shape[1], populations[0]
        if method == "none":
            return cls(torch.zeros_like(first[0]), torch.ones_like(first[0]))
        count = sum(len(x) for x in populations)
        # Two passes in float64: one pass loses the variance of data far from the origin.
        mean = (
            sum(
                (x.sum(0, dtype=torch.float64) for x in populations),
                torch.zeros(dim, dtype=torch.float64, device=first.device),
            )
            / count
        )
        square = torch.zeros_like(mean)
        for x in populations:
            for part in x.split(65_536):
                square += (part.to(torch.float64) - mean).square().sum(0)
        deviation = (square / count).sqrt()
        constant = deviation <= 1e-12 * mean.abs().clamp_min(1e-300)
        if bool(constant.all()):
            scale = torch.ones_like(deviation)
        elif method == "global":
            scale = deviation.max().expand(dim).clone()
        else:
            scale = torch.where(constant, torch.ones_like(deviation), deviation)
        if method == "whiten" and bool(constant.any()):
            where = torch.nonzero(constant).flatten().tolist()
            warnings.warn(f"features {where} are constant and are centred only", UserWarning, stacklevel=2)
        return cls(mean.to(first.dtype), scale.to(first.dtype))

    def transform(self, x: Tensor) -> Tensor:
        """Map from the user's units: ``(..., d)``."""
        return (x - self.shift) / self.scale

    def inverse(self, z: Tensor) -> Tensor:
        """Map back to the user's units: ``(..., d)``."""
        return z * self.scale + self.shift

    def __repr__(self) -> str:
        return (
            f"Scaling({len(self.shift)} features, scale {float(self.scale.min()):.3g} to {float(self.scale.max()):.3g})"
        )
