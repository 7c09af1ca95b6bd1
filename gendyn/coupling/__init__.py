"""Optimal transport between samples: exact, entropic, mini-batch, chained through times."""

from gendyn.coupling.chain import PlanChain, chain_minibatch
from gendyn.coupling.cost import cost_matrix
from gendyn.coupling.entropic import EntropicPlan, sinkhorn_plan
from gendyn.coupling.exact import TransportError, exact_plan, transport_cost
from gendyn.coupling.pairing import (
    Coupling,
    EntropicCoupling,
    ExactCoupling,
    IndependentCoupling,
    PairedCoupling,
    get_coupling,
)
from gendyn.coupling.plan import Plan

__all__ = [
    "Coupling",
    "EntropicCoupling",
    "EntropicPlan",
    "ExactCoupling",
    "IndependentCoupling",
    "PairedCoupling",
    "Plan",
    "PlanChain",
    "TransportError",
    "chain_minibatch",
    "cost_matrix",
    "exact_plan",
    "get_coupling",
    "sinkhorn_plan",
    "transport_cost",
]
