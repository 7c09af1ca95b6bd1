"""The systems by name, for those who write names rather than classes (the command line, a config file)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from gendyn.systems.brownian_motion import BrownianMotion
from gendyn.systems.brusselator import Brusselator
from gendyn.systems.chaos import Halvorsen, HyperRoessler, Lorenz96, Roessler, Thomas
from gendyn.systems.double_ornstein_uhlenbeck import DoubleOrnsteinUhlenbeck
from gendyn.systems.double_well import DoubleWell
from gendyn.systems.finite_states import AlanineDipeptide, FlashingRatchet, IonChannel
from gendyn.systems.fitzhugh_nagumo import FitzHughNagumo
from gendyn.systems.fractional_brownian_motion import FractionalBrownianMotion
from gendyn.systems.fractional_ornstein_uhlenbeck import FractionalOrnsteinUhlenbeck
from gendyn.systems.geometric_brownian_motion import GeometricBrownianMotion
from gendyn.systems.growing_toggle_switch import GrowingToggleSwitch
from gendyn.systems.lorenz63 import Lorenz63
from gendyn.systems.lotka_volterra import LotkaVolterra
from gendyn.systems.maps import HenonMap, LogisticMap
from gendyn.systems.mean_field_fitzhugh_nagumo import MeanFieldFitzHughNagumo
from gendyn.systems.merton_jump_diffusion import MertonJumpDiffusion
from gendyn.systems.opinion_dynamics import OpinionDynamics
from gendyn.systems.ornstein_uhlenbeck import OrnsteinUhlenbeck
from gendyn.systems.pendulum import Pendulum
from gendyn.systems.protein_repressilator import ProteinRepressilator
from gendyn.systems.repressilator import Repressilator
from gendyn.systems.rough_bergomi import RoughBergomi
from gendyn.systems.sines import Sines
from gendyn.systems.system import System
from gendyn.systems.toggle_switch import ToggleSwitch
from gendyn.systems.trending_ornstein_uhlenbeck import TrendingOrnsteinUhlenbeck
from gendyn.systems.two_state_folding import TwoStateFolding
from gendyn.systems.vortex import Vortex

__all__ = ["SYSTEMS", "get_system"]

SYSTEMS: Mapping[str, type[System]] = MappingProxyType(
    {
        "toggle-switch": ToggleSwitch,
        "growing-toggle-switch": GrowingToggleSwitch,
        "lotka-volterra": LotkaVolterra,
        "repressilator": Repressilator,
        "protein-repressilator": ProteinRepressilator,
        "brusselator": Brusselator,
        "brownian-motion": BrownianMotion,
        "ornstein-uhlenbeck": OrnsteinUhlenbeck,
        "trending-ornstein-uhlenbeck": TrendingOrnsteinUhlenbeck,
        "double-ornstein-uhlenbeck": DoubleOrnsteinUhlenbeck,
        "geometric-brownian-motion": GeometricBrownianMotion,
        "merton-jump-diffusion": MertonJumpDiffusion,
        "double-well": DoubleWell,
        "two-state-folding": TwoStateFolding,
        "vortex": Vortex,
        "pendulum": Pendulum,
        "fitzhugh-nagumo": FitzHughNagumo,
        "mean-field-fitzhugh-nagumo": MeanFieldFitzHughNagumo,
        "opinion-dynamics": OpinionDynamics,
        "lorenz63": Lorenz63,
        "lorenz96": Lorenz96,
        "roessler": Roessler,
        "hyper-roessler": HyperRoessler,
        "thomas": Thomas,
        "halvorsen": Halvorsen,
        "henon": HenonMap,
        "logistic": LogisticMap,
        "sines": Sines,
        "fractional-brownian-motion": FractionalBrownianMotion,
        "fractional-ornstein-uhlenbeck": FractionalOrnsteinUhlenbeck,
        "rough-bergomi": RoughBergomi,
        "flashing-ratchet": FlashingRatchet,
        "alanine-dipeptide": AlanineDipeptide,
        "ion-channel": IonChannel,
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
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}; {has}")
    return kind(**parameters)
