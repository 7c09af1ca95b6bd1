"""Optimal transport between samples: exact, entropic, mini-batch, chained through times."""

from gendyn.coupling.chain import PlanChain, chain_minibatch
from gendyn.coupling.conditioned import ConditionedCost, attach_conditions
from gendyn.coupling.cost import cost_matrix
from gendyn.coupling.entropic import EntropicPlan, sinkhorn_plan
from gendyn.coupling.exact import TransportError, exact_plan, transport_cost
from gendyn.coupling.minibatch_bridge import Batches, minibatch_bridge
from gendyn.coupling.named import get_coupling
from gendyn.coupling.pairing import (
    Coupling,
    EntropicCoupling,
    ExactCoupling,
    IndependentCoupling,
    PairedCoupling,
    PartialCoupling,
)
from gendyn.coupling.partial import partial_plan
from gendyn.coupling.plan import Plan
from gendyn.coupling.row_blocks import LogDensities, blocked_bridge, truncated_plan
from gendyn.coupling.soft_chain import MarginalRelaxation, SoftChain, check_marginal_relaxation, soft_chain
from gendyn.coupling.static_bridge import StaticBridge, bridge_kl, bridge_plan, static_bridge
from gendyn.coupling.waddington import waddington_plan

__all__ = [
    "Batches",
    "ConditionedCost",
    "Coupling",
    "EntropicCoupling",
    "EntropicPlan",
    "ExactCoupling",
    "IndependentCoupling",
    "LogDensities",
    "MarginalRelaxation",
    "PairedCoupling",
    "PartialCoupling",
    "Plan",
    "PlanChain",
    "SoftChain",
    "StaticBridge",
    "TransportError",
    "attach_conditions",
    "blocked_bridge",
    "bridge_kl",
    "bridge_plan",
    "chain_minibatch",
    "check_marginal_relaxation",
    "cost_matrix",
    "exact_plan",
    "get_coupling",
    "minibatch_bridge",
    "partial_plan",
    "sinkhorn_plan",
    "soft_chain",
    "static_bridge",
    "transport_cost",
    "truncated_plan",
    "waddington_plan",
]
