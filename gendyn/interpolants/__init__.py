"""Stochastic interpolants and flow matching: populations in, velocity and score out."""

from gendyn.interpolants.action_matching import ActionMatching
from gendyn.interpolants.analytic import ExactFields, GaussianMixture, GaussianMixtureInterpolant
from gendyn.interpolants.conditional_path import CardinalSpline
from gendyn.interpolants.coupled_paths import CoupledPaths, couple
from gendyn.interpolants.fields import InterpolantFields
from gendyn.interpolants.flow_matching import FlowMatching
from gendyn.interpolants.gamma import GAMMAS, Gamma
from gendyn.interpolants.interpolant_process import InterpolantProcess, like_gamma, path_optimal, vanishing
from gendyn.interpolants.meta_flow_matching import MetaFlowMatching
from gendyn.interpolants.objective import FlowMatchingObjective
from gendyn.interpolants.schedule import SCHEDULES, CustomSchedule, Schedule
from gendyn.interpolants.stochastic_interpolant import StochasticInterpolant
from gendyn.interpolants.velocity_field import VelocityField

__all__ = [
    "GAMMAS",
    "SCHEDULES",
    "ActionMatching",
    "CardinalSpline",
    "CoupledPaths",
    "CustomSchedule",
    "ExactFields",
    "FlowMatching",
    "FlowMatchingObjective",
    "Gamma",
    "GaussianMixture",
    "GaussianMixtureInterpolant",
    "InterpolantFields",
    "InterpolantProcess",
    "MetaFlowMatching",
    "Schedule",
    "StochasticInterpolant",
    "VelocityField",
    "couple",
    "like_gamma",
    "path_optimal",
    "vanishing",
]
