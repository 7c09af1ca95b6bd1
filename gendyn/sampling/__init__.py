"""The one sampler: processes, noise, solvers, and the loop that runs them."""

from gendyn.sampling.grid import StepGrid
from gendyn.sampling.noise import BrownianStream
from gendyn.sampling.process import ODE, SDE, Process, check_process
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import SOLVERS, DormandPrince, EulerMaruyama, RungeKutta, Solver

__all__ = [
    "ODE",
    "SDE",
    "SOLVERS",
    "BrownianStream",
    "DormandPrince",
    "EulerMaruyama",
    "Process",
    "RungeKutta",
    "Solver",
    "StepGrid",
    "check_process",
    "sample",
]
