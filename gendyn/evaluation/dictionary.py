r"""Dictionaries: functions :math:`\psi_1, \dots, \psi_K` of a state, on which Koopman operators are sought.

Each takes states ``(M, d)`` to values ``(M, K)``. In more than one dimension the functions are products over features:
with total degree at most the given one for polynomials, with each wave number at most the given one for waves.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import eval_legendre

from gendyn.evaluation.points import Array

__all__ = ["Dictionary", "fourier", "legendre", "monomials", "radial"]

Dictionary = Callable[[Array], np.ndarray[Any, Any]]


def monomials(degree: int) -> Dictionary:
    """Return all products of powers of total degree at most ``degree``, 1 first.

    Examples
    --------
    >>> monomials(2)(np.array([[2.0, 3.0]])).tolist()
    [[1.0, 3.0, 2.0, 9.0, 6.0, 4.0]]
    """
    _check("degree", degree)

    def values(x: Array) -> Array:
        powers = x[:, :, None] ** np.arange(degree + 1)
        return _products(powers, _degrees(degree, x.shape[1]))

    return values


def legendre(degree: int, low: Any = 0.0, high: Any = 1.0) -> Dictionary:
    """Return Legendre polynomials of total degree at most ``degree``, orthogonal on the box from ``low`` to ``high``.

    Parameters
    ----------
    degree
        Total degree.
    low, high
        Ends of the box, a number or ``(d,)``.

    Examples
    --------
    >>> legendre(2)(np.array([[1.0], [0.5]])).round(12).tolist()
    [[1.0, 1.0, 1.0], [1.0, 0.0, -0.5]]
    """
    _check("degree", degree)
    left, right = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if not (right > left).all():
        raise ValueError(f"low must lie below high; got {low} and {high}")

    def values(x: Array) -> Array:
        z = (2 * x - left - right) / (right - left)
        factors = np.asarray(eval_legendre(np.arange(degree + 1), z[:, :, None]), dtype=np.float64)
        return _products(factors, _degrees(degree, x.shape[1]))

    return values


def fourier(waves: int, period: Any = 2 * np.pi) -> Dictionary:
    r"""Return the complex waves :math:`e^{2 \pi i k \cdot x / P}`, integers :math:`\lvert k_j \rvert \le` ``waves``.

    Parameters
    ----------
    waves
        Largest wave number.
    period
        P, a number or ``(d,)``.

    Examples
    --------
    >>> fourier(1, 4.0)(np.array([[1.0]])).round(6).tolist()
    [[-1j, (1+0j), 1j]]
    """
    _check("waves", waves)
    length = np.asarray(period, dtype=np.float64)
    if not (length > 0).all():
        raise ValueError(f"period must be positive; got {period}")

    def values(x: Array) -> np.ndarray[Any, Any]:
        numbers = np.array(list(itertools.product(range(-waves, waves + 1), repeat=x.shape[1])))
        return np.asarray(np.exp(2j * np.pi * (x / length) @ numbers.T))

    return values


def radial(centres: Any, width: float) -> Dictionary:
    r"""Return 1 and Gaussian bumps :math:`e^{-\lvert x - c \rvert^2 / 2 w^2}` about the centres.

    Parameters
    ----------
    centres
        ``(K, d)``, or ``(K,)`` of one feature.
    width
        w.

    Examples
    --------
    >>> radial([[0.0], [1.0]], 1.0)(np.array([[0.0]])).round(4).tolist()
    [[1.0, 1.0, 0.6065]]
    """
    middle = np.asarray(centres, dtype=np.float64)
    middle = middle[:, None] if middle.ndim == 1 else middle
    if middle.ndim != 2 or not np.isfinite(middle).all():
        raise ValueError(f"centres must be finite, of shape (K, d); got shape {middle.shape}")
    if not width > 0:
        raise ValueError(f"width must be positive; got {width}")

    def values(x: Array) -> Array:
        if x.shape[1] != middle.shape[1]:
            raise ValueError(f"centres have {middle.shape[1]} features, but states have {x.shape[1]}")
        bumps = np.exp(cdist(x, middle, "sqeuclidean") / (-2 * width**2))
        return np.concatenate([np.ones((len(x), 1)), bumps], axis=1)

    return values


def _check(name: str, value: int) -> None:
    if value != int(value) or value < 0:
        raise ValueError(f"{name} must be a whole number of at least 0; got {value}")


def _degrees(degree: int, dim: int) -> Sequence[tuple[int, ...]]:
    """Return all exponents of total degree at most ``degree``, in order of the total."""
    every = (k for k in itertools.product(range(degree + 1), repeat=dim) if sum(k) <= degree)
    return sorted(every, key=lambda k: (sum(k), k))


def _products(factors: Array, degrees: Sequence[tuple[int, ...]]) -> Array:
    """Return products ``(M, K)`` of one factor ``(M, d, degree + 1)`` for each feature."""
    values = np.ones((len(factors), len(degrees)))
    for feature in range(factors.shape[1]):
        values *= factors[:, feature, [k[feature] for k in degrees]]
    return values
