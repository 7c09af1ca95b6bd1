"""Small networks, seeded: perceptrons, features of time, fields on space and time."""

from gendyn.nn.mlp import ACTIVATIONS, MLP, LipSwish, get_activation
from gendyn.nn.time_features import FourierFeatures, SinusoidalTime
from gendyn.nn.velocity import VelocityNetwork

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "FourierFeatures",
    "LipSwish",
    "SinusoidalTime",
    "VelocityNetwork",
    "get_activation",
]
