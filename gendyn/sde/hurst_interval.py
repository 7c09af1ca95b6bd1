"""Intervals of Hurst indices."""

from __future__ import annotations

import torch
from scipy.special import ndtri
from torch import Tensor

__all__ = ["hurst_interval"]


def hurst_interval(hurst: Tensor, error: Tensor, level: float) -> tuple[Tensor, Tensor]:
    r"""Return lower and upper bounds, normal on the logarithm of the odds, so that they lie between 0 and 1.

    Parameters
    ----------
    hurst
        Estimates.
    error
        Standard errors of :math:`\ln \frac{H}{1-H}`.
    level
        Probability that an interval holds the truth.

    Raises
    ------
    ValueError
        If the level is not between 0 and 1.

    Examples
    --------
    >>> low, high = hurst_interval(torch.tensor([0.5]), torch.tensor([0.2]), 0.9)
    >>> round(low.item(), 3), round(high.item(), 3)
    (0.418, 0.582)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1; got {level}")
    middle, reach = torch.logit(hurst), float(ndtri(0.5 + level / 2)) * error
    return torch.sigmoid(middle - reach), torch.sigmoid(middle + reach)
