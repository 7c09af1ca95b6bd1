r"""Paths as polylines: what a signature reads.

A signature belongs to a curve, not to a list of values: it is blind to the speed at which the curve is run through and
to where it begins. So time becomes a channel, scaled to [0, 1], and a zero point is put in front where the level is to
count:

.. math:: (t_k, x_k)_{k=1..T} \;\mapsto\; (0, 0), (s_1, x_1), \dots, (s_T, x_T), \qquad
    s_k = \frac{t_k - t_{\min}}{t_{\max} - t_{\min}} .

A time at which nothing was observed is no corner of the polyline; a time at which only some channels were observed has
no place in it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gendyn.evaluation.path_set import PathSet

__all__ = ["polyline", "polylines"]


def polyline(
    values: Tensor, times: Tensor, *, basepoint: bool = True, span: tuple[float, float] | None = None
) -> Tensor:
    """Return paths with a time channel in front, from zero on if asked; differentiable in the values.

    Parameters
    ----------
    values
        ``(n, T, d)``.
    times
        ``(T,)`` shared, or ``(n, T)`` of each path's own.
    basepoint
        Whether a zero point is put in front, so that the level counts.
    span
        The times that become 0 and 1; by default the first and last of ``times``.

    Returns
    -------
    Tensor
        ``(n, T, 1 + d)``, or ``(n, T + 1, 1 + d)`` with the base point, in the type of the values.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the span is empty.

    Examples
    --------
    >>> polyline(torch.tensor([[[5.0], [7.0]]]), torch.tensor([2.0, 4.0]))
    tensor([[[0., 0.],
             [0., 5.],
             [1., 7.]]])
    """
    if values.ndim != 3 or times.shape not in (values.shape[1:2], values.shape[:2]):
        raise ValueError(
            f"values must be (n, T, d) and times (T,) or (n, T); got {tuple(values.shape)} and {tuple(times.shape)}"
        )
    low, high = span if span is not None else (float(times.min()), float(times.max()))
    if values.shape[1] == 1:
        low, high = low, low + 1.0
    if not high > low:
        raise ValueError(f"a polyline needs times that span an interval; got {low:g} to {high:g}")
    n, length, _ = values.shape
    clock = ((times - low) / (high - low)).to(values).expand(n, length)
    joined = torch.cat([clock[..., None], values], dim=-1)
    return torch.nn.functional.pad(joined, (0, 0, 1, 0)) if basepoint else joined


def polylines(real: PathSet, generated: PathSet, metric: str, *, basepoint: bool = True) -> tuple[Tensor, Tensor]:
    """Return both sets as polylines on the clock of the real one; paths may have times of their own.

    Raises
    ------
    ValueError
        If a path was never observed, or some channels were observed at a time and others not.
    """
    span = float(real.times.min()), float(real.times.max())
    sides = []
    for name, side in (("real", real), ("generated", generated)):
        seen = np.asarray(side.observed.all(axis=2))
        if (seen[:, :, None] != side.observed).any():
            raise ValueError(
                f"{metric} has no meaning where only some channels were observed, as in the {name} paths: "
                "fill them in yourself, or compare channel by channel"
            )
        first = seen.argmax(axis=1)
        never = np.flatnonzero(~seen[np.arange(len(side)), first])
        if len(never):
            raise ValueError(f"{metric} needs paths that were observed; {name} path {never[0]} never was: leave it out")
        # A corner that was not observed is put onto the one before it, or onto the first: no movement, no trace.
        last = np.maximum.accumulate(np.where(seen, np.arange(side.n_times), 0), axis=1)
        corner = np.maximum(last, first[:, None])
        values = np.take_along_axis(side.values, corner[:, :, None], axis=1)
        times = np.take_along_axis(np.broadcast_to(side.times, seen.shape), corner, axis=1)
        sides.append(polyline(torch.from_numpy(values), torch.from_numpy(times), basepoint=basepoint, span=span))
    return sides[0], sides[1]
