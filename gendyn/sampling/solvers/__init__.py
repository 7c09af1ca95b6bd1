"""Solvers: one method, one class; the table by name."""

from gendyn.sampling.linear import ExactLinear
from gendyn.sampling.solvers.dormand_prince import DormandPrince
from gendyn.sampling.solvers.euler_heun import EulerHeun
from gendyn.sampling.solvers.euler_maruyama import EulerMaruyama
from gendyn.sampling.solvers.general_shark import GeneralShARK
from gendyn.sampling.solvers.log_euler import LogEuler
from gendyn.sampling.solvers.milstein import Milstein
from gendyn.sampling.solvers.noise_first_heun import NoiseFirstHeun
from gendyn.sampling.solvers.projected import Projected
from gendyn.sampling.solvers.reversible_heun import ReversibleHeun
from gendyn.sampling.solvers.runge_kutta import (
    EES25,
    EULER,
    HEUN,
    MIDPOINT,
    RK4,
    ButcherTable,
    NearlyReversible,
    RungeKutta,
)
from gendyn.sampling.solvers.sea import ShiftedEuler
from gendyn.sampling.solvers.shark import ShARK
from gendyn.sampling.solvers.slow_rk import SlowRK
from gendyn.sampling.solvers.solver import Solver
from gendyn.sampling.solvers.sra1 import SRA1
from gendyn.sampling.solvers.sri2 import SRI2

_METHODS: tuple[Solver, ...] = (
    RungeKutta("euler", EULER, "ordinary equations, where one evaluation a step must do"),
    RungeKutta("midpoint", MIDPOINT, "ordinary and Stratonovich equations; two evaluations", noisy=True),
    RungeKutta("heun", HEUN, "ordinary and Stratonovich equations: the default of the latter", noisy=True),
    RungeKutta("rk4", RK4, "smooth ordinary equations with a known step: their default"),
    NearlyReversible("ees25", EES25, "gradients in constant memory: nearly reversible, and stable", noisy=True),
    EulerMaruyama(),
    Milstein(),
    EulerHeun(),
    ShiftedEuler(),
    SRA1(),
    ShARK(),
    NoiseFirstHeun(),
    SRI2(),
    SlowRK(),
    GeneralShARK(),
    ReversibleHeun(),
    LogEuler(),
    ExactLinear(),
)

SOLVERS: dict[str, Solver] = {method.name: method for method in _METHODS}
"""Fixed-step solvers by name; the adaptive ``"dopri5"`` is made with its tolerances."""

__all__ = [
    "SOLVERS",
    "SRA1",
    "SRI2",
    "ButcherTable",
    "DormandPrince",
    "EulerHeun",
    "EulerMaruyama",
    "GeneralShARK",
    "LogEuler",
    "Milstein",
    "NoiseFirstHeun",
    "Projected",
    "ReversibleHeun",
    "RungeKutta",
    "ShARK",
    "ShiftedEuler",
    "SlowRK",
    "Solver",
]
