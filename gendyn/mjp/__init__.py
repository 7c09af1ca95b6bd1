"""Markov jump processes: noisy looks at a discrete state in, the rate matrix out."""

from gendyn.mjp.embedding import NotEmbeddable
from gendyn.mjp.gaussian_emission import GaussianEmission, coarse_grain
from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.likelihood import HiddenLikelihood, PanelLikelihood
from gendyn.mjp.markov_jump_model import MarkovJumpModel
from gendyn.mjp.observations import StateObservations
from gendyn.mjp.rate_network import RateNetwork
from gendyn.mjp.shipped_network import network_card
from gendyn.mjp.summary import TransitionSummary

__all__ = [
    "GaussianEmission",
    "HiddenLikelihood",
    "LabelNoise",
    "MarkovJumpModel",
    "NotEmbeddable",
    "PanelLikelihood",
    "RateNetwork",
    "StateObservations",
    "TransitionSummary",
    "coarse_grain",
    "network_card",
]
