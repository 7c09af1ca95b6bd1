"""Processes with known truth: data for tests, demonstrations, benchmarks and priors."""

from gendyn.systems.brownian_motion import BrownianMotion
from gendyn.systems.brusselator import Brusselator
from gendyn.systems.catalogue import SYSTEMS, get_system
from gendyn.systems.chaos import ChaoticFlow, Halvorsen, HyperRoessler, Lorenz96, Roessler, Thomas
from gendyn.systems.double_ornstein_uhlenbeck import DoubleOrnsteinUhlenbeck
from gendyn.systems.double_well import DoubleWell
from gendyn.systems.finite_states import AlanineDipeptide, FiniteStateSystem, FlashingRatchet, IonChannel
from gendyn.systems.fitzhugh_nagumo import FitzHughNagumo
from gendyn.systems.fractional_brownian_motion import FractionalBrownianMotion
from gendyn.systems.fractional_ornstein_uhlenbeck import FractionalOrnsteinUhlenbeck
from gendyn.systems.geometric_brownian_motion import GeometricBrownianMotion
from gendyn.systems.growing_toggle_switch import GrowingToggleSwitch
from gendyn.systems.letters import letters
from gendyn.systems.lorenz63 import Lorenz63
from gendyn.systems.lotka_volterra import LotkaVolterra
from gendyn.systems.maps import HenonMap, LogisticMap
from gendyn.systems.mean_field_fitzhugh_nagumo import MeanFieldFitzHughNagumo
from gendyn.systems.merton_jump_diffusion import MertonJumpDiffusion
from gendyn.systems.opinion_dynamics import OpinionDynamics
from gendyn.systems.ornstein_uhlenbeck import OrnsteinUhlenbeck
from gendyn.systems.pendulum import Pendulum
from gendyn.systems.populations import simulate_paths, simulate_snapshots
from gendyn.systems.protein_repressilator import ProteinRepressilator
from gendyn.systems.repressilator import Repressilator
from gendyn.systems.rough_bergomi import RoughBergomi
from gendyn.systems.sines import Sines
from gendyn.systems.system import ClosedFormSystem, DiffusionSystem, InteractingSystem, JumpSystem, System
from gendyn.systems.toggle_switch import ToggleSwitch
from gendyn.systems.trending_ornstein_uhlenbeck import TrendingOrnsteinUhlenbeck
from gendyn.systems.two_state_folding import TwoStateFolding
from gendyn.systems.vortex import Vortex

__all__ = [
    "SYSTEMS",
    "AlanineDipeptide",
    "BrownianMotion",
    "Brusselator",
    "ChaoticFlow",
    "ClosedFormSystem",
    "DiffusionSystem",
    "DoubleOrnsteinUhlenbeck",
    "DoubleWell",
    "FiniteStateSystem",
    "FitzHughNagumo",
    "FlashingRatchet",
    "FractionalBrownianMotion",
    "FractionalOrnsteinUhlenbeck",
    "GeometricBrownianMotion",
    "GrowingToggleSwitch",
    "Halvorsen",
    "HenonMap",
    "HyperRoessler",
    "InteractingSystem",
    "IonChannel",
    "JumpSystem",
    "LogisticMap",
    "Lorenz63",
    "Lorenz96",
    "LotkaVolterra",
    "MeanFieldFitzHughNagumo",
    "MertonJumpDiffusion",
    "OpinionDynamics",
    "OrnsteinUhlenbeck",
    "Pendulum",
    "ProteinRepressilator",
    "Repressilator",
    "Roessler",
    "RoughBergomi",
    "Sines",
    "System",
    "Thomas",
    "ToggleSwitch",
    "TrendingOrnsteinUhlenbeck",
    "TwoStateFolding",
    "Vortex",
    "get_system",
    "letters",
    "simulate_paths",
    "simulate_snapshots",
]
