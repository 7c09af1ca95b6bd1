"""Small networks, seeded: perceptrons, features of time and space, fields."""

from gendyn.nn.activation import ACTIVATIONS, LipSwish, get_activation
from gendyn.nn.encoders import CloudStatistics, FourierCloud, GraphEncoder, KernelEncoder, PopulationEncoder
from gendyn.nn.field import EnergyNetwork, FieldInput, VelocityNetwork
from gendyn.nn.mlp import MLP, seeded_linear
from gendyn.nn.time_features import FourierFeatures, SinusoidalTime

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "CloudStatistics",
    "EnergyNetwork",
    "FieldInput",
    "FourierCloud",
    "FourierFeatures",
    "GraphEncoder",
    "KernelEncoder",
    "LipSwish",
    "PopulationEncoder",
    "SinusoidalTime",
    "VelocityNetwork",
    "get_activation",
    "seeded_linear",
]
