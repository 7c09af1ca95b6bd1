"""What a bridge is nearest to: references that are given, and families of references with parameters to learn."""

from gendyn.bridges.references.catalogue import FAMILIES, get_family
from gendyn.bridges.references.family import LearnableReference, ReferenceFamily, Units
from gendyn.bridges.references.fixed import DriftReference
from gendyn.bridges.references.linear import Brownian, Linear, Spring
from gendyn.bridges.references.lotka_volterra import LotkaVolterra
from gendyn.bridges.references.repressilator import Repressilator

__all__ = [
    "FAMILIES",
    "Brownian",
    "DriftReference",
    "LearnableReference",
    "Linear",
    "LotkaVolterra",
    "ReferenceFamily",
    "Repressilator",
    "Spring",
    "Units",
    "get_family",
]
