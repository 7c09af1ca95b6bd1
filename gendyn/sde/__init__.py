"""Neural stochastic differential equations for irregular time series."""

from gendyn.sde.noise_level import NOISE_LEVELS, NoiseLevel
from gendyn.sde.stable_design import KINDS, StableDesign, stable_design
from gendyn.sde.stable_field import StabilityBounds, StableField
from gendyn.sde.stable_process import StableProcess

__all__ = [
    "KINDS",
    "NOISE_LEVELS",
    "NoiseLevel",
    "StabilityBounds",
    "StableDesign",
    "StableField",
    "StableProcess",
    "stable_design",
]
