"""gendyn: learn a stochastic process from data, run it, and know how far to trust it.

data -> model.fit(data) -> process -> sample(process, x0, times) -> paths -> evaluate(paths, data)
"""

from importlib.metadata import PackageNotFoundError, version

from gendyn import datasets, plotting, systems
from gendyn.bridges import ReferenceRefinement, SchrodingerBridge, references
from gendyn.data import Cohort, Paths, Snapshots, read_paths, read_snapshots
from gendyn.evaluation import evaluate, leave_one_out
from gendyn.interpolants import (
    ActionMatching,
    BarycentricInterpolant,
    FlowMatching,
    FractionalBridge,
    MetaFlowMatching,
    OptimalInterpolant,
    RiemannianFlowMatching,
    StochasticInterpolant,
    TrajectoryFlowMatching,
    preset,
)
from gendyn.mjp import MarkovJumpModel
from gendyn.models import load
from gendyn.sampling import sample
from gendyn.sde import (
    FractionalOU,
    FractionalSDE,
    GRUClassifier,
    GRUODEBayes,
    LatentSDE,
    MTANClassifier,
    NeuralCDEClassifier,
    StableSDEClassifier,
    StableSDEForecaster,
    StableSDEInterpolator,
)

try:
    __version__ = version("gendyn")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "unknown"

__all__ = [
    "ActionMatching",
    "BarycentricInterpolant",
    "Cohort",
    "FlowMatching",
    "FractionalBridge",
    "FractionalOU",
    "FractionalSDE",
    "GRUClassifier",
    "GRUODEBayes",
    "LatentSDE",
    "MTANClassifier",
    "MarkovJumpModel",
    "MetaFlowMatching",
    "NeuralCDEClassifier",
    "OptimalInterpolant",
    "Paths",
    "ReferenceRefinement",
    "RiemannianFlowMatching",
    "SchrodingerBridge",
    "Snapshots",
    "StableSDEClassifier",
    "StableSDEForecaster",
    "StableSDEInterpolator",
    "StochasticInterpolant",
    "TrajectoryFlowMatching",
    "__version__",
    "datasets",
    "evaluate",
    "leave_one_out",
    "load",
    "plotting",
    "preset",
    "read_paths",
    "read_snapshots",
    "references",
    "sample",
    "systems",
]
