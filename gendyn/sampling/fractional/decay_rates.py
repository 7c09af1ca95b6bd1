r"""Decay rates of the processes of which the Markov approximation is made.

A sum of K exponentials resembles the power-law kernel of fractional Brownian motion between the times
:math:`1/\gamma_K` and :math:`1/\gamma_1`; outside it is smooth or forgets. So the rates are those of the data,

.. math:: \gamma_k \text{ geometric from } \frac{0.1}{T} \text{ to } \frac{5}{h},

with the horizon T and the shortest gap h. The grid of the literature (Harms and Stefanovits 2019; Daems et al. 2024) is
:math:`\gamma_k = r^{k - (K+1)/2}`, :math:`r = \gamma_{\max}^{2/(K-1)}`, whatever the unit of time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor, warn_user

__all__ = ["check_horizon", "check_rates", "enough_rates", "published_rates", "rates_between", "warn_of_scales"]

_SLOWEST, _FASTEST = 0.1, 5.0
_ROUGH = 0.45
"""Hurst indices below this one need the fast rates: above, paths are nearly as smooth as those of Brownian motion."""


def rates_between(shortest: float, horizon: float, count: int) -> Tensor:
    """Return ``count`` rates that cover the times from ``shortest`` to ``horizon``: ``(K,)``, per time unit, float64.

    Raises
    ------
    ValueError
        If a time is not positive, ``shortest`` is longer than ``horizon``, or there is no rate.

    Examples
    --------
    >>> rates_between(0.005, 1.0, 5)
    tensor([1.0000e-01, 1.0000e+00, 1.0000e+01, 1.0000e+02, 1.0000e+03], dtype=torch.float64)
    """
    horizon = check_horizon(horizon)
    if not 0 < shortest <= horizon:
        raise ValueError(f"the shortest gap must lie above 0 and up to the horizon {horizon:g}; got {shortest}")
    slow, fast = math.log(_SLOWEST / horizon), math.log(_FASTEST / shortest)
    if _check_count(count) == 1:
        return torch.tensor([1.0 / horizon], dtype=torch.float64)
    return torch.linspace(slow, fast, count, dtype=torch.float64).exp()


def enough_rates(shortest: float, horizon: float) -> int:
    """Return how many rates cover the times between; those that stand closer say the same, with weights that cancel.

    Examples
    --------
    >>> enough_rates(0.01, 1.0)
    6
    """
    return 1 + math.ceil(1.3 * math.log10(_FASTEST / _SLOWEST * horizon / shortest))


def published_rates(count: int, fastest: float) -> Tensor:
    """Return the grid of the literature, from ``1 / fastest`` to ``fastest``: ``(K,)``, float64; 1 where K is 1.

    Raises
    ------
    ValueError
        If there is no rate, or the fastest is not above 1.

    Examples
    --------
    >>> published_rates(3, fastest=20.0)
    tensor([ 0.0500,  1.0000, 20.0000], dtype=torch.float64)
    """
    if not (math.isfinite(fastest) and fastest > 1):
        raise ValueError(f"the fastest rate of the published grid must be above 1; got {fastest}")
    if _check_count(count) == 1:
        return torch.ones(1, dtype=torch.float64)
    return torch.linspace(-math.log(fastest), math.log(fastest), count, dtype=torch.float64).exp()


def check_rates(rates: ArrayLike) -> Tensor:
    """Return rates ``(K,)`` in float64, or say what is wrong with them.

    Raises
    ------
    ValueError
        If they are not one row of positive numbers that increase: equal ones would be one process.
    """
    found = as_tensor(rates, "rates").to(torch.float64)
    if found.ndim != 1 or not len(found):
        raise ValueError(f"rates must be one row of at least one number; got shape {tuple(found.shape)}")
    if not bool((torch.isfinite(found) & (found > 0)).all()):
        raise ValueError(f"rates must be positive and finite; got {found.tolist()}")
    if not bool((found.diff() > 0).all()):
        raise ValueError(f"rates must increase, and no two be equal; got {found.tolist()}: sort them")
    return found


def check_horizon(horizon: float) -> float:
    """Return the horizon as a number, or say that it is not a positive time."""
    if not (math.isfinite(horizon) and horizon > 0):
        raise ValueError(f"the horizon must be a positive time; got {horizon}")
    return float(horizon)


def warn_of_scales(rates: Tensor, horizon: float, shortest: float | None, hurst: float) -> None:
    """Warn where the rates do not cover the times that are asked of them."""
    slow, fast = float(rates[0]), float(rates[-1])
    gap = horizon / 1000 if shortest is None else shortest
    grid = f"rates_between({gap:g}, {horizon:g}, {len(rates)})"
    if slow * horizon > 5:
        warn_user(f"the slowest rate, {slow:g}, forgets within the horizon {horizon:g}; take {grid}")
    if shortest is not None and fast * shortest < 1 and hurst < _ROUGH:
        warn_user(
            f"the fastest rate, {fast:g}, is too slow for the shortest gap {shortest:g}: paths with Hurst index "
            f"{hurst:g} come out too smooth there; take {grid}",
        )


def _check_count(count: int) -> int:
    if isinstance(count, bool) or int(count) != count or count < 1:
        raise ValueError(f"a Markov approximation needs a whole number of at least 1 rate; got {count}")
    return int(count)
