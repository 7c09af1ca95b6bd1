"""The models by name: one explicit table, and the function that brings a saved model back.

A model file names its class in its header. That name is looked up here and nowhere else, so
that reading a file can neither import nor run anything which this table does not hold.
"""

from __future__ import annotations

from pathlib import Path

import torch

from gendyn.bridges import ReferenceRefinement, SchrodingerBridge
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
)
from gendyn.mjp import MarkovJumpModel
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
from gendyn.training import Estimator, read_model_header

__all__ = ["MODELS", "load"]

MODELS: dict[str, type[Estimator]] = {
    "ActionMatching": ActionMatching,
    "BarycentricInterpolant": BarycentricInterpolant,
    "FlowMatching": FlowMatching,
    "FractionalBridge": FractionalBridge,
    "FractionalOU": FractionalOU,
    "FractionalSDE": FractionalSDE,
    "GRUClassifier": GRUClassifier,
    "GRUODEBayes": GRUODEBayes,
    "MTANClassifier": MTANClassifier,
    "LatentSDE": LatentSDE,
    "MarkovJumpModel": MarkovJumpModel,
    "MetaFlowMatching": MetaFlowMatching,
    "NeuralCDEClassifier": NeuralCDEClassifier,
    "ReferenceRefinement": ReferenceRefinement,
    "RiemannianFlowMatching": RiemannianFlowMatching,
    "OptimalInterpolant": OptimalInterpolant,
    "SchrodingerBridge": SchrodingerBridge,
    "StableSDEClassifier": StableSDEClassifier,
    "StableSDEForecaster": StableSDEForecaster,
    "StableSDEInterpolator": StableSDEInterpolator,
    "StochasticInterpolant": StochasticInterpolant,
    "TrajectoryFlowMatching": TrajectoryFlowMatching,
}
"""Every model of the package by its name in a file's header and on the command line."""


def load(path: str | Path, *, device: torch.device | str | None = None) -> Estimator:
    """Bring a saved model back, whatever its class.

    Parameters
    ----------
    path
        A file written by a model's ``save``.
    device
        Where its tensors go; by default the CPU.

    Returns
    -------
    Estimator
        A fitted model, whose samples equal those before saving bit for bit on the same machine.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a gendyn model, is damaged, or names a model this version does not have.

    Examples
    --------
    >>> import tempfile
    >>> from gendyn.data import Snapshots
    >>> x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    >>> model = FlowMatching(steps=2).fit(Snapshots([0.0, 1.0], [x, x + 1]), progress=False)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(Path(folder) / "model.safetensors")
    ...     again = load(Path(folder) / "model.safetensors")
    >>> type(again).__name__
    'FlowMatching'
    """
    name = read_model_header(path)["class"]
    if name not in MODELS:
        raise ValueError(
            f"{path} holds a model of class {name!r}, which this version of gendyn does not have; "
            f"it has {', '.join(sorted(MODELS))}"
        )
    return MODELS[name].load(path, device=device)
