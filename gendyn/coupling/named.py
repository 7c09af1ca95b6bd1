"""Couplings by name, for models whose hyper-parameters are names and numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gendyn.coupling.pairing import (
    Coupling,
    EntropicCoupling,
    ExactCoupling,
    IndependentCoupling,
    PairedCoupling,
    PartialCoupling,
)

__all__ = ["get_coupling"]

_COUPLINGS: dict[str, Callable[..., Coupling]] = {
    "independent": IndependentCoupling,
    "paired": PairedCoupling,
    "ot": ExactCoupling,
    "sinkhorn": EntropicCoupling,
    "partial": PartialCoupling,
}


def get_coupling(name: str, **options: Any) -> Coupling:
    """Return a coupling by name, with its options.

    Parameters
    ----------
    name
        ``"independent"``, ``"paired"``, ``"ot"`` (:class:`ExactCoupling`), ``"sinkhorn"``
        (:class:`EntropicCoupling`; a finite ``relaxation`` leaves points out) or ``"partial"``
        (:class:`PartialCoupling`).
    **options
        Of that class.

    Raises
    ------
    ValueError
        If there is no coupling of that name.
    TypeError
        If the coupling has no such option.

    Examples
    --------
    >>> get_coupling("ot", block=64)
    ExactCoupling(block=64, resample=False, cost='sqeuclidean')
    """
    if name not in _COUPLINGS:
        raise ValueError(f"coupling must be one of {', '.join(_COUPLINGS)}; got {name!r}")
    known = [p for p in inspect.signature(_COUPLINGS[name]).parameters if p not in ("args", "kwargs")]
    unknown = [option for option in options if option not in known]
    if unknown:
        offered = f"it has {', '.join(known)}" if known else "it has none"
        raise TypeError(f"the coupling {name!r} has no option {unknown[0]!r}; {offered}")
    return _COUPLINGS[name](**options)
