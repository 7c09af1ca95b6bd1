"""Multi-marginal Schroedinger bridges: a reference and populations in, the likeliest process out."""

from gendyn.bridges import references
from gendyn.bridges.batched_bridge import BatchedBridge
from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.distilled_bridge import DistilledBridge
from gendyn.bridges.iterative_projection import IterativeProjection
from gendyn.bridges.lifted import LiftedBridge
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.reference_refinement import ReferenceRefinement
from gendyn.bridges.references import DriftReference
from gendyn.bridges.schrodinger_bridge import SchrodingerBridge
from gendyn.bridges.soft_marginals import shared_support
from gendyn.bridges.transition import TransitionLaw, transition_law

__all__ = [
    "BatchedBridge",
    "BridgeProcess",
    "DistilledBridge",
    "DriftReference",
    "IterativeProjection",
    "LiftedBridge",
    "MultiMarginalBridge",
    "ReferenceRefinement",
    "SchrodingerBridge",
    "TransitionLaw",
    "references",
    "shared_support",
    "transition_law",
]
