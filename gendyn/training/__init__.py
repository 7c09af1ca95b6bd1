"""The training loop, and what every model of the package can do."""

from gendyn.training.checkpoint import Checkpoint, fingerprint, load_module, module_tensors
from gendyn.training.ema import WeightAverage
from gendyn.training.estimator import Estimator, NotFittedError, read_model_header
from gendyn.training.loop import FitResult, Objective, TrainingDiverged, ValidatedObjective, fit
from gendyn.training.schedule import SCHEDULES, get_schedule

__all__ = [
    "SCHEDULES",
    "Checkpoint",
    "Estimator",
    "FitResult",
    "NotFittedError",
    "Objective",
    "TrainingDiverged",
    "ValidatedObjective",
    "WeightAverage",
    "fingerprint",
    "fit",
    "get_schedule",
    "load_module",
    "module_tensors",
    "read_model_header",
]
