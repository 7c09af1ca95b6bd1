"""Processes with known truth: data for tests, demonstrations, benchmarks and priors."""

from gendyn.systems.catalogue import SYSTEMS, get_system
from gendyn.systems.double_well import DoubleWell
from gendyn.systems.fitzhugh_nagumo import FitzHughNagumo
from gendyn.systems.geometric_brownian_motion import GeometricBrownianMotion
from gendyn.systems.lorenz63 import Lorenz63
from gendyn.systems.lotka_volterra import LotkaVolterra
from gendyn.systems.ornstein_uhlenbeck import OrnsteinUhlenbeck
from gendyn.systems.populations import simulate_paths, simulate_snapshots
from gendyn.systems.repressilator import Repressilator
from gendyn.systems.system import System
from gendyn.systems.toggle_switch import ToggleSwitch

__all__ = [
    "SYSTEMS",
    "DoubleWell",
    "FitzHughNagumo",
    "GeometricBrownianMotion",
    "Lorenz63",
    "LotkaVolterra",
    "OrnsteinUhlenbeck",
    "Repressilator",
    "System",
    "ToggleSwitch",
    "get_system",
    "simulate_paths",
    "simulate_snapshots",
]
