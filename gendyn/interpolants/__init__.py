"""Stochastic interpolants and flow matching: populations in, velocity and score out."""

from gendyn.interpolants.action_matching import ActionMatching
from gendyn.interpolants.analytic import ExactFields, GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.barycentric_flow import BarycentricFlow
from gendyn.interpolants.barycentric_interpolant import BarycentricInterpolant
from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths, couple
from gendyn.interpolants.custom_interpolant import CustomInterpolant
from gendyn.interpolants.data_metric import METRICS
from gendyn.interpolants.epsilon import bridge_epsilon, like_gamma, path_optimal, vanishing
from gendyn.interpolants.fields import InterpolantFields
from gendyn.interpolants.flow_matching import FlowMatching
from gendyn.interpolants.fractional_bridge import FractionalBridge
from gendyn.interpolants.fractional_bridge_process import FractionalBridgeProcess, PinnedSolver
from gendyn.interpolants.gamma import GAMMAS, Gamma
from gendyn.interpolants.interpolant_model import InterpolantModel
from gendyn.interpolants.interpolant_process import InterpolantProcess
from gendyn.interpolants.manifold import MANIFOLDS, Manifold, Sphere, Torus
from gendyn.interpolants.meta_flow_matching import MetaFlowMatching
from gendyn.interpolants.objective import FlowMatchingObjective
from gendyn.interpolants.optimal_interpolant import OptimalInterpolant
from gendyn.interpolants.pinned_fractional import PinnedFractional
from gendyn.interpolants.presets import PRESETS, Preset, preset, preset_table
from gendyn.interpolants.riemannian_flow_matching import RiemannianFlowMatching
from gendyn.interpolants.schedule import SCHEDULES, CustomSchedule, Schedule
from gendyn.interpolants.simplex_path import SimplexPath
from gendyn.interpolants.stochastic_interpolant import StochasticInterpolant
from gendyn.interpolants.trajectory_flow_matching import TrajectoryFlowMatching
from gendyn.interpolants.velocity_field import VelocityField

__all__ = [
    "GAMMAS",
    "MANIFOLDS",
    "METRICS",
    "PRESETS",
    "SCHEDULES",
    "ActionMatching",
    "BarycentricFlow",
    "BarycentricInterpolant",
    "CardinalSpline",
    "CoupledPaths",
    "CustomInterpolant",
    "CustomSchedule",
    "ExactFields",
    "FlowMatching",
    "FlowMatchingObjective",
    "FractionalBridge",
    "FractionalBridgeProcess",
    "Gamma",
    "GaussianMixture",
    "GaussianMixtureInterpolant",
    "InterpolantFields",
    "InterpolantModel",
    "InterpolantProcess",
    "Manifold",
    "MetaFlowMatching",
    "OptimalInterpolant",
    "PinnedFractional",
    "PinnedSolver",
    "Preset",
    "RiemannianFlowMatching",
    "Schedule",
    "SimplexPath",
    "Sphere",
    "StochasticInterpolant",
    "Torus",
    "TrajectoryFlowMatching",
    "VelocityField",
    "bridge_epsilon",
    "couple",
    "like_gamma",
    "path_optimal",
    "preset",
    "preset_table",
    "vanishing",
]
