r"""The profile likelihood of a Hurst index: how far the likelihood falls, at best, for every other value of it.

With H held at a value and all else at its best, twice the fall of the log-likelihood is nearly :math:`\chi^2_1` at the
true value; its signed root

.. math:: r(z) = \operatorname{sign}(z - \hat z) \sqrt{2\,(\ell(\hat z) - \ell(z))}, \qquad z = \ln \frac{H}{1 - H}

is nearly normal, and an interval is where it stays within normal quantiles. Unlike the curvature at the maximum it
also holds where another parameter lies at the end of its range: white noise that the best fit lacks may well be there,
and H would be larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from gendyn.sde.quadratic_search import QuadraticSearch, SearchState

__all__ = ["HurstProfile", "hurst_profile"]

_DEEP = 4.0
"""Value of r up to which a profile is followed: far enough for 99.99 %."""
_SHALLOW = 3.5
"""Value of r at whose end a profile ended there because it was followed no farther, and not at the end of z."""

_MOST, _NEWTON = 30, 4


class HurstProfile:
    """A profile as it was computed.

    Parameters
    ----------
    places
        z, increasing, ``(J,)``.
    roots
        r at these, ``(J,)``.

    Examples
    --------
    >>> profile = HurstProfile(torch.tensor([-2.0, 0.0, 2.0]).double(), torch.tensor([-4.0, 0.0, 2.0]).double())
    >>> low, high = profile.interval(0.6826894921)  # r = -1 and r = 1
    >>> round(math.log(low / (1 - low)), 6), round(math.log(high / (1 - high)), 6)
    (-0.5, 1.0)
    """

    def __init__(self, places: Tensor, roots: Tensor) -> None:
        self.places, self.roots = places, roots

    def interval(self, level: float) -> tuple[float, float]:
        """Return the bounds of H; 0 or 1 where the likelihood never falls as far.

        Raises
        ------
        ValueError
            If the profile was not followed as far as the level asks.
        """
        reach = float(ndtri(0.5 + level / 2))
        followed = [end for end in self.roots[[0, -1]].abs().tolist() if _SHALLOW <= end < reach]
        if followed:
            raise ValueError(
                f"the profile of the likelihood was followed to a level of {2 * ndtr(min(followed)) - 1:.6f}; got "
                f"{level}: give a level below that"
            )
        return (self._place(-reach), self._place(reach))

    def error(self) -> float:
        """Return the standard error: half the width of z where r runs from -1 to 1; infinite where it does not."""
        low, high = (math.log(h / (1 - h)) if 0 < h < 1 else math.inf for h in self.interval(0.6826894921370859))
        return (high - low) / 2 if math.isfinite(high) and math.isfinite(low) else math.inf

    def _place(self, root: float) -> float:
        places, roots = self.places.numpy(), self.roots.numpy()
        if root < roots[0] or root > roots[-1]:
            return 0.0 if root < 0 else 1.0
        return float(1 / (1 + math.exp(-np.interp(root, roots, places))))


def hurst_profile(
    function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, best: SearchState, scan: list[list[float]]
) -> tuple[HurstProfile, SearchState]:
    """Follow a profile from the maximum to both sides.

    Parameters
    ----------
    function
        Log-likelihoods ``(P,)`` of points ``(P, p)``, of which the first coordinate is z.
    low, high
        Bounds ``(p,)``.
    best
        The maximum.
    scan
        Values of each other coordinate at which a search may start, all else being as it was: the likelihood may have
        several maxima, and be flat between.

    Returns
    -------
    HurstProfile, SearchState
        The profile, and the highest point that was met; where it is another than ``best``, that was no maximum.

    Examples
    --------
    >>> def hill(x):  # a hill over z with a second coordinate along
    ...     return -2 * (x[:, 0] - 0.5) ** 2 - (x[:, 1] - x[:, 0]) ** 2
    >>> low, high = torch.tensor([-3.0, -3.0]).double(), torch.tensor([3.0, 3.0]).double()
    >>> profile, _ = hurst_profile(hill, low, high, SearchState(torch.tensor([0.5, 0.5]).double(), 0.0), [[-1.0, 1.0]])
    >>> round(profile.error(), 3)
    0.5
    """
    sides, top = {}, best
    for sign in (-1.0, 1.0):
        rows = [(float(best.point[0]), best.value)]
        step, point = 0.05, best.point
        for _ in range(_MOST):
            z = min(max(rows[-1][0] + sign * step, float(low[0])), float(high[0]))
            if z == rows[-1][0]:
                break
            state = _held(function, low, high, z, point, scan)
            point = state.point
            rows.append((z, state.value))
            top = state if state.value > top.value else top
            fallen, before = (math.sqrt(2 * max(best.value - v, 0.0)) for v in (rows[-1][1], rows[-2][1]))
            if fallen > _DEEP:
                break
            step *= min(max(0.6 / max(fallen - before, 1e-9), 0.5), 2.0)
        sides[sign] = rows[1:]
    rows = [*reversed(sides[-1.0]), (float(best.point[0]), top.value), *sides[1.0]]
    places = torch.tensor([z for z, _ in rows], dtype=torch.float64)
    falls = torch.tensor([max(top.value - v, 0.0) for _, v in rows], dtype=torch.float64)
    roots = torch.sign(places - best.point[0]) * (2 * falls).sqrt()
    # Outwards a profile may rise again, to another maximum below the highest: what lies before is within reach too.
    middle = len(sides[-1.0])
    left = torch.cummin(-roots[:middle], 0).values if middle else roots[:0]
    right = torch.cummin(roots[middle:].flip(0), 0).values.flip(0)
    return HurstProfile(places, torch.cat([-left, right])), top


def _held(
    function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, z: float, point: Tensor, scan: list[list[float]]
) -> SearchState:
    """Return the maximum over all coordinates but the first, which is held."""
    held = torch.tensor([z], dtype=point.dtype)

    def rest(others: Tensor) -> Tensor:
        return function(torch.cat([held.expand(len(others), 1), others], 1))

    search = QuadraticSearch(rest, low[1:], high[1:], tolerance=1e-4)
    starts = [point[1:]]
    for i, values in enumerate(scan):
        for value in values:
            starts.append(point[1:].clone())
            starts[-1][i] = value
    state = search.begin(torch.stack(starts).clamp(low[1:], high[1:]))
    for _ in range(_NEWTON):
        if state.done:
            break
        state = search.advance(state)
    return SearchState(torch.cat([held, state.point]), state.value)
