"""Multi-marginal Schroedinger bridges."""

from gendyn.bridges.bridge_process import BridgeProcess
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.transition import TransitionLaw, transition_law

__all__ = ["BridgeProcess", "MultiMarginalBridge", "TransitionLaw", "transition_law"]
