"""The evaluation core: every number with its floor and its interval."""

from gendyn.evaluation.baselines import Prediction, mean_shift, neighbours, ot_interpolant, training_free_rows, union
from gendyn.evaluation.distances import (
    energy_distance,
    energy_value,
    mmd,
    mmd_value,
    sliced_wasserstein,
    sliced_wasserstein_value,
    wasserstein,
    wasserstein_value,
)
from gendyn.evaluation.holdout import leave_one_out
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.report import METRICS, LeaveOneOutReport, Report, evaluate
from gendyn.evaluation.selection import InnerHoldOut

__all__ = [
    "METRICS",
    "InnerHoldOut",
    "LeaveOneOutReport",
    "MetricResult",
    "Prediction",
    "Report",
    "energy_distance",
    "energy_value",
    "evaluate",
    "leave_one_out",
    "mean_shift",
    "mmd",
    "mmd_value",
    "neighbours",
    "ot_interpolant",
    "sliced_wasserstein",
    "sliced_wasserstein_value",
    "training_free_rows",
    "union",
    "wasserstein",
    "wasserstein_value",
]
