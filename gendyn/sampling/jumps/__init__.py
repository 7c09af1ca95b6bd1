"""Jumps: rate matrices and reaction networks with the solvers that run them, and the jumps of a diffusion."""

from gendyn.sampling.jumps.jump_paths import JumpPaths
from gendyn.sampling.jumps.jump_process import JumpProcess, RateMatrix, ReactionNetwork
from gendyn.sampling.jumps.jump_spec import JumpSpec
from gendyn.sampling.jumps.run import JUMP_SOLVERS, run_jumps, sample_events

__all__ = [
    "JUMP_SOLVERS",
    "JumpPaths",
    "JumpProcess",
    "JumpSpec",
    "RateMatrix",
    "ReactionNetwork",
    "run_jumps",
    "sample_events",
]
