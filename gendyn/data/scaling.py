r"""Scaling of populations, fitted on training data and undone on the way out.

.. math:: z = (x - m) / c, \qquad x = c\, z + m, \qquad \dot x = c\, \dot z,

with :math:`m` the mean of all training rows and :math:`c` one number for all features (the largest population standard
deviation; distances keep their geometry), one number each (whitening), or one (nothing is done).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from gendyn.data.checks import check_finite, warn_user
from gendyn.data.snapshots import Snapshots

__all__ = ["ScaleMethod", "Scaling"]

ScaleMethod = Literal["global", "whiten", "none"]

_BLOCK = 65_536


class Scaling:
    """An affine map between the user's units and the units that a model works in.

    Parameters
    ----------
    shift, scale
        ``(d,)`` each, finite; ``scale`` positive.

    Raises
    ------
    ValueError
        If shapes differ, or a number is not finite, or a scale is not positive.

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
        check_finite(shift, "shift")
        check_finite(scale, "scale")
        if not bool((scale > 0).all()):
            raise ValueError(f"scale must be positive in every feature; got {float(scale.min()):g}")
        self.shift = shift
        self.scale = scale

    @classmethod
    def fit(cls, data: Snapshots | Tensor, method: ScaleMethod = "global") -> Scaling:
        """Find shift and scale from populations (all rows of all times pooled) or rows ``(n, d)``.

        Standard deviations are those of the population (divided by the number of rows). A feature that is constant
        is centred and not divided; with ``"whiten"`` a warning names it.

        Raises
        ------
        ValueError
            If the method is unknown, or rows are not a finite matrix.
        """
        if method not in get_args(ScaleMethod):
            raise ValueError(f"scale must be one of {', '.join(get_args(ScaleMethod))}; got {method!r}")
        populations = data.samples if isinstance(data, Snapshots) else (_rows(data),)
        first = populations[0]
        if method == "none":
            return cls(torch.zeros_like(first[0]), torch.ones_like(first[0]))
        mean, deviation = _moments(populations)
        constant = deviation <= 1e-12 * mean.abs()
        if method == "global" and not bool(constant.all()):
            scale = deviation.max().expand(len(mean)).clone()
        else:
            scale = torch.where(constant, torch.ones_like(deviation), deviation)
        if method == "whiten" and bool(constant.any()):
            which = torch.nonzero(constant).flatten().tolist()
            names = [data.names[k] if isinstance(data, Snapshots) and data.names else str(k) for k in which[:8]]
            warn_user(f"{len(which)} features are constant and are centred only: {', '.join(names)}; leave them out")
        return cls(mean.to(first.dtype), scale.to(first.dtype))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Scaling:
        """Return the scaling that :meth:`state_dict` described."""
        return cls(state["shift"], state["scale"])

    def state_dict(self) -> dict[str, Tensor]:
        """Return shift and scale by name."""
        return {"shift": self.shift, "scale": self.scale}

    def transform(self, x: Tensor) -> Tensor:
        """Map from the user's units: ``(..., d)``."""
        return (x - self.shift) / self.scale

    def populations(self, data: Snapshots) -> Snapshots:
        """Map the cells of every time from the user's units; times, weights and labels stay.

        Examples
        --------
        >>> data = Snapshots([0.0, 1.0], [torch.tensor([[2.0]]), torch.tensor([[4.0]])])
        >>> [x.tolist() for x in Scaling.fit(data).populations(data).samples]
        [[[-1.0]], [[1.0]]]
        """
        return data.with_samples([self.transform(x) for x in data.samples])

    def inverse(self, z: Tensor) -> Tensor:
        """Map back to the user's units: ``(..., d)``."""
        return z * self.scale + self.shift

    def inverse_velocity(self, velocity: Tensor) -> Tensor:
        """Map a velocity or a drift back to the user's units: ``(..., d)``."""
        return velocity * self.scale

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Scaling:
        """Return the same scaling on another device or in another floating type."""
        return Scaling(self.shift.to(device=device, dtype=dtype), self.scale.to(device=device, dtype=dtype))

    def __repr__(self) -> str:
        low, high = float(self.scale.min()), float(self.scale.max())
        return f"Scaling({len(self.shift)} features, scale {low:.3g} to {high:.3g})"


def _rows(data: Tensor) -> Tensor:
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(f"a scaling is fitted on rows of shape (n, d); got {tuple(data.shape)}")
    rows = data.detach()
    rows = rows if rows.is_floating_point() else rows.to(torch.float32)
    check_finite(rows, "rows")
    return rows


def _moments(populations: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of all rows, ``(d,)`` each, in float64.

    Two passes: one alone would lose the variance of data far from the origin.
    """
    count = sum(len(x) for x in populations)
    total = torch.zeros(populations[0].shape[1], dtype=torch.float64, device=populations[0].device)
    for x in populations:
        total += x.sum(0, dtype=torch.float64)
    mean = total / count
    square = torch.zeros_like(mean)
    for x in populations:
        for start in range(0, len(x), _BLOCK):
            square += (x[start : start + _BLOCK].to(torch.float64) - mean).square().sum(0)
    return mean, (square / count).sqrt()
