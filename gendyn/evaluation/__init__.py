"""The evaluation core: every number with its floor and its interval."""

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
from gendyn.evaluation.metric import MetricResult

__all__ = [
    "MetricResult",
    "energy_distance",
    "energy_value",
    "mmd",
    "mmd_value",
    "sliced_wasserstein",
    "sliced_wasserstein_value",
    "wasserstein",
    "wasserstein_value",
]
