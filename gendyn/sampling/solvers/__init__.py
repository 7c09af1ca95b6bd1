"""Solvers: one method, one class; the table by name."""

from gendyn.sampling.solvers.dormand_prince import DormandPrince
from gendyn.sampling.solvers.euler_maruyama import EulerMaruyama
from gendyn.sampling.solvers.runge_kutta import EULER, HEUN, MIDPOINT, RK4, ButcherTable, RungeKutta
from gendyn.sampling.solvers.solver import Solver

SOLVERS: dict[str, Solver] = {
    "euler": RungeKutta("euler", EULER),
    "midpoint": RungeKutta("midpoint", MIDPOINT),
    "heun": RungeKutta("heun", HEUN),
    "rk4": RungeKutta("rk4", RK4),
    "euler_maruyama": EulerMaruyama(),
}
"""Fixed-step solvers by name; the adaptive ``"dopri5"`` is made with its tolerances."""

__all__ = ["SOLVERS", "ButcherTable", "DormandPrince", "EulerMaruyama", "RungeKutta", "Solver"]
