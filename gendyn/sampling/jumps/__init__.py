"""Markov jump processes: rate matrices, reaction networks, and the solvers that run them."""

from gendyn.sampling.jumps.jump_paths import JumpPaths
from gendyn.sampling.jumps.jump_process import JumpProcess, RateMatrix, ReactionNetwork
from gendyn.sampling.jumps.run import JUMP_SOLVERS, run_jumps, sample_events

__all__ = ["JUMP_SOLVERS", "JumpPaths", "JumpProcess", "RateMatrix", "ReactionNetwork", "run_jumps", "sample_events"]
