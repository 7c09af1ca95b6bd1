"""Times that a fitted model is asked about."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gendyn.sde.series import Series

__all__ = ["asked_times"]


def asked_times(at: Any, series: Series) -> Tensor:
    """Return times that are asked about ``(B, Q)``, float64.

    Parameters
    ----------
    at
        ``(Q,)`` for all series or ``(B, Q)`` for each its own, in any order; ``None`` for those of the series.
    series
        The series ``B``.

    Raises
    ------
    ValueError
        If there are no times, not of each series, or one is not finite.

    Examples
    --------
    >>> from gendyn.sde.series import read_series
    >>> asked_times([0.5, 2.0], read_series([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[0.5, 2.0], [0.5, 2.0]]
    """
    if at is None:
        return series.times
    found = torch.as_tensor(at, dtype=torch.float64).detach().cpu()
    n = len(series)
    if found.ndim not in (1, 2) or 0 in found.shape or (found.ndim == 2 and len(found) not in (1, n)):
        raise ValueError(
            f"at must hold at least one time and have shape (Q,) or ({n}, Q) for these series; got {tuple(found.shape)}"
        )
    found = found.expand(n, -1)
    bad = torch.nonzero(~torch.isfinite(found))
    if len(bad):
        i, k = bad[0].tolist()
        raise ValueError(f"at must be finite; series {i} is asked about {float(found[i, k])} at position {k}")
    return found
