"""What a bridge is nearest to: references that are given, and families of references with parameters to learn."""

from gendyn.bridges.references.catalogue import FAMILIES, get_family
from gendyn.bridges.references.custom import Custom
from gendyn.bridges.references.family import LearnableReference, ReferenceFamily, Units
from gendyn.bridges.references.fixed import DriftReference
from gendyn.bridges.references.hill_mlp import HillMLP
from gendyn.bridges.references.linear import Brownian, Linear, Spring
from gendyn.bridges.references.local_brownian import LocalBrownian
from gendyn.bridges.references.lotka_volterra import LotkaVolterra
from gendyn.bridges.references.matern import Matern
from gendyn.bridges.references.networks import MLP, GradientField, LinearPlusMLP, Network
from gendyn.bridges.references.partly_observed import PartlyObserved
from gendyn.bridges.references.protein_repressilator import ProteinRepressilator
from gendyn.bridges.references.repressilator import Repressilator
from gendyn.bridges.references.vortex import BigVortex, LambOseen

__all__ = [
    "FAMILIES",
    "MLP",
    "BigVortex",
    "Brownian",
    "Custom",
    "DriftReference",
    "GradientField",
    "HillMLP",
    "LambOseen",
    "LearnableReference",
    "Linear",
    "LinearPlusMLP",
    "LocalBrownian",
    "LotkaVolterra",
    "Matern",
    "Network",
    "PartlyObserved",
    "ProteinRepressilator",
    "ReferenceFamily",
    "Repressilator",
    "Spring",
    "Units",
    "get_family",
]
