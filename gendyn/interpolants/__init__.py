"""Stochastic interpolants and flow matching: populations in, velocity out."""

from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths, couple
from gendyn.interpolants.flow_matching import FlowMatching
from gendyn.interpolants.objective import FlowMatchingObjective
from gendyn.interpolants.velocity_field import VelocityField

__all__ = [
    "CardinalSpline",
    "CoupledPaths",
    "FlowMatching",
    "FlowMatchingObjective",
    "VelocityField",
    "couple",
]
