"""The systems by name, for those who write names rather than classes (the command line, a config file)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from gendyn.systems.double_well import DoubleWell
from gendyn.systems.fitzhugh_nagumo import FitzHughNagumo
from gendyn.systems.geometric_brownian_motion import GeometricBrownianMotion
from gendyn.systems.lorenz63 import Lorenz63
from gendyn.systems.lotka_volterra import LotkaVolterra
from gendyn.systems.ornstein_uhlenbeck import OrnsteinUhlenbeck
from gendyn.systems.repressilator import Repressilator
from gendyn.systems.system import System
from gendyn.systems.toggle_switch import ToggleSwitch

__all__ = ["SYSTEMS", "get_system"]

SYSTEMS: Mapping[str, type[System]] = MappingProxyType(
    {
        "toggle-switch": ToggleSwitch,
        "lotka-volterra": LotkaVolterra,
        "repressilator": Repressilator,
        "ornstein-uhlenbeck": OrnsteinUhlenbeck,
        "geometric-brownian-motion": GeometricBrownianMotion,
        "double-well": DoubleWell,
        "fitzhugh-nagumo": FitzHughNagumo,
        "lorenz63": Lorenz63,
    }
)
"""Name to class; a new system joins by a line here."""


def get_system(name: str, **parameters: Any) -> System:
    """Return the named system with the given parameters.

    Raises
    ------
    ValueError
        If there is no such system or it has no such parameter; the sentence lists what there is.

    Examples
    --------
    >>> get_system("lotka-volterra", volatility=0.0).noise_type
    'none'
    """
    if name not in SYSTEMS:
        raise ValueError(f"there is no system {name!r}; there are {', '.join(SYSTEMS)}")
    kind = SYSTEMS[name]
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in parameters if key not in known]
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")
    return kind(**parameters)
