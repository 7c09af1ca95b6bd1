"""Parameters of a system, checked at the door: each is a finite number in its own range."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real

__all__ = ["check_count", "check_finite", "check_non_negative", "check_positive"]


def check_finite(system: object, names: Iterable[str]) -> None:
    """Refuse parameters that are not finite real numbers.

    Parameters
    ----------
    system
        Any object with the named attributes.
    names
        Names of the parameters to look at.

    Raises
    ------
    TypeError
        If a parameter is not a real number.
    ValueError
        If a parameter is NaN or infinite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_finite(SimpleNamespace(rate=1.0), ["rate"])
    """
    for name in names:
        value = getattr(system, name)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{_owner(system)}: {name} must be a number; got {type(value).__name__}")
        if not math.isfinite(value):
            raise ValueError(f"{_owner(system)}: {name} must be finite; got {value}")


def check_positive(system: object, names: Iterable[str]) -> None:
    """Refuse parameters that are not finite and above zero (same errors as `check_finite`).

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_positive(SimpleNamespace(rate=1.0), ["rate"])
    """
    names = tuple(names)
    check_finite(system, names)
    for name in names:
        if getattr(system, name) <= 0:
            raise ValueError(f"{_owner(system)}: {name} must be positive; got {getattr(system, name)}")


def check_non_negative(system: object, names: Iterable[str]) -> None:
    """Refuse parameters that are not finite and at least zero (same errors as `check_finite`).

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_non_negative(SimpleNamespace(volatility=0.0), ["volatility"])
    """
    names = tuple(names)
    check_finite(system, names)
    for name in names:
        if getattr(system, name) < 0:
            raise ValueError(f"{_owner(system)}: {name} must not be negative; got {getattr(system, name)}")


def check_count(name: str, value: int) -> int:
    """Return ``value`` if it is a positive integer.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is below one.

    Examples
    --------
    >>> check_count("n", 3)
    3
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer; got {type(value).__name__}")
    count = value.__index__()
    if count < 1:
        raise ValueError(f"{name} must be at least 1; got {count}")
    return count


def _owner(system: object) -> str:
    return type(system).__name__
