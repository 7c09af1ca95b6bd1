"""The one sampler: processes, noise, solvers, and the loop that runs them."""

from gendyn.sampling.alpha_stable import AlphaStable
from gendyn.sampling.brownian_tree import BrownianTree, coarsen, cut, halve
from gendyn.sampling.conversion import check_diagonal, to_ito, to_stratonovich
from gendyn.sampling.dense import DenseSolution, dense
from gendyn.sampling.diffusion_density import diffusion_log_prob
from gendyn.sampling.door import accurate_solver
from gendyn.sampling.flow_density import flow_log_prob, log_density_change
from gendyn.sampling.fokker_planck import GridDensity, fokker_planck
from gendyn.sampling.fractional import (
    FractionalNoise,
    MarkovApproximation,
    fractional_covariance,
    sample_fractional_brownian_motion,
    sample_fractional_noise,
    sample_markov_approximation,
    stream_fractional_noise,
)
from gendyn.sampling.given_events import Event, sample_with_events
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.guided_bridge import guided_bridge
from gendyn.sampling.jumps import (
    JUMP_SOLVERS,
    JumpPaths,
    JumpProcess,
    JumpSpec,
    RateMatrix,
    ReactionNetwork,
    sample_events,
)
from gendyn.sampling.likelihood import (
    effective_sample_size,
    girsanov_log_weights,
    resample,
    transition_log_prob,
)
from gendyn.sampling.linear import ExactLinear, LinearProcess
from gendyn.sampling.memory import predict_memory
from gendyn.sampling.noise import BrownianStream
from gendyn.sampling.process import ODE, SDE, Process, check_process
from gendyn.sampling.refine import refine
from gendyn.sampling.runner import NonFiniteStateError
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import SOLVERS, DormandPrince, EulerMaruyama, Projected, RungeKutta, Solver
from gendyn.sampling.torchsde_adapter import as_torchsde, from_torchsde, sample_with_torchsde

__all__ = [
    "JUMP_SOLVERS",
    "ODE",
    "SDE",
    "SOLVERS",
    "AlphaStable",
    "BrownianStream",
    "BrownianTree",
    "DenseSolution",
    "DormandPrince",
    "EulerMaruyama",
    "Event",
    "ExactLinear",
    "FractionalNoise",
    "GridDensity",
    "JumpPaths",
    "JumpProcess",
    "JumpSpec",
    "LinearProcess",
    "MarkovApproximation",
    "NonFiniteStateError",
    "Process",
    "Projected",
    "RateMatrix",
    "ReactionNetwork",
    "RungeKutta",
    "Solver",
    "StepGrid",
    "accurate_solver",
    "as_torchsde",
    "check_diagonal",
    "check_process",
    "coarsen",
    "cut",
    "dense",
    "diffusion_log_prob",
    "effective_sample_size",
    "flow_log_prob",
    "fokker_planck",
    "fractional_covariance",
    "from_torchsde",
    "girsanov_log_weights",
    "guided_bridge",
    "halve",
    "log_density_change",
    "predict_memory",
    "refine",
    "resample",
    "sample",
    "sample_events",
    "sample_fractional_brownian_motion",
    "sample_fractional_noise",
    "sample_markov_approximation",
    "sample_with_events",
    "sample_with_torchsde",
    "stream_fractional_noise",
    "to_ito",
    "to_stratonovich",
    "transition_log_prob",
]
