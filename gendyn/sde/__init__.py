"""Neural stochastic differential equations for irregular time series."""

from gendyn.sde.classifier import StableSDEClassifier
from gendyn.sde.control_channels import ControlChannels
from gendyn.sde.forecaster import StableSDEForecaster
from gendyn.sde.fractional_model import FractionalModel
from gendyn.sde.fractional_ou import FractionalOU
from gendyn.sde.fractional_prior import FractionalPrior
from gendyn.sde.fractional_sde import FractionalSDE
from gendyn.sde.gated_recurrence import GatedRecurrence
from gendyn.sde.gru_classifier import GRUClassifier
from gendyn.sde.gru_ode import GRUFlow, GRUODEModel
from gendyn.sde.gru_ode_bayes import GRUODEBayes
from gendyn.sde.interpolator import StableSDEInterpolator
from gendyn.sde.kernel_ridge import KernelRidge
from gendyn.sde.lamperti import LampertiTransform
from gendyn.sde.latent_model import EvidenceBound, LatentModel, LatentPrior
from gendyn.sde.latent_sde import LatentSDE
from gendyn.sde.mtan_classifier import MTANClassifier
from gendyn.sde.neural_cde import NeuralCDEField, NeuralCDEProcess
from gendyn.sde.neural_cde_classifier import NeuralCDEClassifier
from gendyn.sde.noise_level import NOISE_LEVELS, NoiseLevel
from gendyn.sde.proper_losses import crps_loss, energy_loss
from gendyn.sde.ridge import Ridge
from gendyn.sde.series import Series, read_series
from gendyn.sde.series_scaling import SeriesScaling
from gendyn.sde.stable_design import KINDS, StableDesign, stable_design
from gendyn.sde.stable_field import StabilityBounds, StableField
from gendyn.sde.stable_process import StableProcess
from gendyn.sde.step_times import step_times
from gendyn.sde.time_attention import TimeAttention

__all__ = [
    "KINDS",
    "NOISE_LEVELS",
    "ControlChannels",
    "EvidenceBound",
    "FractionalModel",
    "FractionalOU",
    "FractionalPrior",
    "FractionalSDE",
    "GRUClassifier",
    "GRUFlow",
    "GRUODEBayes",
    "GRUODEModel",
    "GatedRecurrence",
    "KernelRidge",
    "LampertiTransform",
    "LatentModel",
    "LatentPrior",
    "LatentSDE",
    "MTANClassifier",
    "NeuralCDEClassifier",
    "NeuralCDEField",
    "NeuralCDEProcess",
    "NoiseLevel",
    "Ridge",
    "Series",
    "SeriesScaling",
    "StabilityBounds",
    "StableDesign",
    "StableField",
    "StableProcess",
    "StableSDEClassifier",
    "StableSDEForecaster",
    "StableSDEInterpolator",
    "TimeAttention",
    "crps_loss",
    "energy_loss",
    "read_series",
    "stable_design",
    "step_times",
]
