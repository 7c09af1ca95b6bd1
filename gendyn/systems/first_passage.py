r"""First passages of a diffusion on the line, :math:`dX = f(X)\,dt + \sigma\,dW` with :math:`f = -U'`.

From x between two exits the process leaves by the upper one with probability

.. math:: P(x) = \frac{\int_l^x e^{2U/\sigma^2}}{\int_l^h e^{2U/\sigma^2}},

and the mean time to reach :math:`b > x` for the first time, with nothing but the potential to hold it back below, is

.. math:: T(x) = \int_x^b \frac{2}{\sigma^2} R(y)\,dy, \qquad
    R(y) = e^{2U(y)/\sigma^2} \int_{-\infty}^y e^{-2U(z)/\sigma^2} dz, \qquad R' = 1 - \frac{2f}{\sigma^2} R .

Gardiner, *Stochastic Methods* (2009), section 5.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad, solve_ivp

__all__ = ["exit_probability", "integral", "mean_first_passage"]

Scalar = Callable[[float], float]


def exit_probability(
    potential: Scalar, volatility: float, x: float, low: float, high: float, corners: list[float]
) -> float:
    """Return the probability to reach ``high`` before ``low`` from ``x`` between them.

    Parameters
    ----------
    potential
        U, any additive constant.
    volatility
        The noise.
    x, low, high
        Start and exits.
    corners
        Points of rest of U, at which the integrand may be sharp.

    Raises
    ------
    ValueError
        Unless ``low <= x <= high`` and ``low < high``.

    Examples
    --------
    >>> round(exit_probability(lambda y: 0.0, 1.0, 0.25, low=0.0, high=1.0, corners=[]), 6)
    0.25
    """
    if not (low <= x <= high and low < high):
        raise ValueError(f"x must lie between the exits low < high; got low={low}, x={x}, high={high}")
    inside = [y for y in corners if low < y < high]
    # The highest point between the exits keeps the exponent at or below zero.
    top = max(potential(y) for y in (low, high, *inside))

    def weight(y: float) -> float:
        return math.exp(2 / volatility**2 * (potential(y) - top))

    below, above = integral(weight, low, x, inside), integral(weight, x, high, inside)
    return below / (below + above)


def mean_first_passage(drift: Scalar, volatility: float, x: float, target: float, far: float) -> float:
    """Return the mean time to reach ``target`` from ``x`` on either side of it.

    Parameters
    ----------
    drift
        f, which pulls back from ``far``.
    volatility
        The noise.
    x, target
        Start and end.
    far
        A point beyond ``x``, away from the target, that the process hardly ever visits.

    Raises
    ------
    ValueError
        If ``far`` does not lie beyond ``x``, or the drift does not pull back from it.

    Examples
    --------
    >>> round(mean_first_passage(lambda y: 2.0, 1.0, 0.0, target=3.0, far=-20.0), 6)
    1.5
    """
    side = 1.0 if target >= x else -1.0
    if (x - far) * side <= 0:
        raise ValueError(f"far must lie beyond x, away from the target; got {far} for {x} and {target}")
    if drift(far) * side <= 0:
        raise ValueError(f"the drift must pull back from far = {far}; it is {drift(far):g} there")

    def slopes(y: float, state: NDArray[np.float64]) -> list[float]:
        return [1 - 2 * side * drift(side * y) / volatility**2 * state[0], 2 / volatility**2 * state[0]]

    # Seen from the other side, a passage downward is one upward; at far R rests on its slow manifold.
    start = volatility**2 / (2 * side * drift(far))

    def carried(begin: float, end: float, first: float) -> NDArray[np.float64]:
        path = solve_ivp(slopes, (side * begin, side * end), [first, 0.0], method="LSODA", rtol=1e-11, atol=1e-13)
        return np.asarray(path.y[:, -1])

    return float(carried(x, target, float(carried(far, x, start)[0]))[1])


def integral(function: Scalar, low: float, high: float, corners: list[float]) -> float:
    """Integrate piece by piece between corners, so that narrow peaks at them are never stepped over.

    Examples
    --------
    >>> round(integral(lambda y: y, 0.0, 1.0, [0.5]), 6)
    0.5
    """
    edges = sorted({low, high, *(y for y in corners if low < y < high)})
    total = 0.0
    for left, right in pairwise(edges):
        # Geometric refinement towards both ends of a piece: the peaks sit there.
        unit = np.concatenate([[0.0], np.geomspace(1e-6, 0.5, 8)])
        nodes = np.concatenate([unit, 1 - unit[-2::-1]]) * (right - left) + left
        total += sum(
            quad(function, float(a), float(b), epsabs=0.0, epsrel=1e-10, limit=200)[0] for a, b in pairwise(nodes)
        )
    return total
