"""``gendyn info``: what is installed, and what is in a file."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gendyn.cli.door import emit
from gendyn.cli.options import Columns, Debug, Dims, Json, Labels, Reading, Rep, TimeKey, WeightKey
from gendyn.cli.tables import print_frame, print_lines, print_pairs, rows

if TYPE_CHECKING:
    from gendyn.data import Paths, Snapshots

__all__ = ["info"]


def info(
    source: Annotated[
        str | None, typer.Argument(help="A data file, a file of paths, a model file, or a data set's name.")
    ] = None,
    time_key: TimeKey = None,
    rep: Rep = "X_pca",
    dims: Dims = None,
    weight_key: WeightKey = None,
    columns: Columns = None,
    labels: Labels = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what is in a file, or, without one, what this installation has: models, metrics, systems, data sets.

    Example: gendyn info cells.h5ad --time-key day
    """
    if source is None:
        _installation(as_json)
    elif source.lower().endswith(".safetensors"):
        _model(source, as_json)
    else:
        reading = Reading(time_key, rep, dims, weight_key, columns, labels or ())
        found = reading.read(source)
        result = {"source": source} | describe(found)
        emit(result, as_json, lambda: print_pairs(source, {k: v for k, v in result.items() if k != "source"}))


def describe(data: Snapshots | Paths) -> dict[str, Any]:
    """Return what a container holds, in plain numbers and words."""
    from gendyn.data import Snapshots

    common = {"dim": data.dim, "names": data.names, "type": str(data.dtype).removeprefix("torch.")}
    if isinstance(data, Snapshots):
        return {
            "kind": "snapshots",
            "times": data.times.tolist(),
            "cells": list(data.sizes),
            **common,
            "weights": data.weights is not None,
            "labels": [] if data.obs is None else [str(column) for column in data.obs[0].columns],
            "mean": [float(x.double().mean()) for x in data.samples],
            "spread": [float(x.double().std(0).max()) if len(x) > 1 else 0.0 for x in data.samples],
        }
    return {
        "kind": "paths",
        "paths": data.n_paths,
        "times": data.times.tolist() if data.shared_times else f"{data.n_times} of each path's own",
        **common,
        "missing": 0 if data.mask is None else int((~data.mask).sum()),
        "info": dict(data.info),
    }


def _model(source: str, as_json: bool) -> None:
    """Say what a model file holds without bringing the model back."""
    from gendyn.models import load

    model = load(source)
    result = {
        "source": source,
        "kind": "model",
        "class": type(model).__name__,
        "parameters": model.get_params(),
        "seed": model.seed_,
        "steps": int(model.history_["step"].iloc[-1]) if len(model.history_) else 0,
        "loss": float(model.history_["loss"].iloc[-1]) if len(model.history_) else None,
    }
    times = getattr(model, "times_", None)
    if times is not None:
        result["times"] = times.tolist()
    shown = {k: v for k, v in result.items() if k not in ("source", "parameters")} | {"model": repr(model)}
    emit(result, as_json, lambda: print_pairs(source, shown))


def _installation(as_json: bool) -> None:
    import gendyn
    from gendyn.cli.methods import names_of_models
    from gendyn.cli.scenes import SCENES
    from gendyn.evaluation import KINDS, METRICS, metrics_for
    from gendyn.systems import SYSTEMS

    sets = gendyn.datasets.available()
    result: dict[str, Any] = {
        "gendyn": gendyn.__version__,
        "python": platform.python_version(),
        **{package: installed_version(package) for package in ("torch", "pot", "numpy", "scipy", "pandas")},
        "models": {name: _first_line(kind) for name, kind in names_of_models().items()},
        "metrics": {kind: {name: METRICS[name].about for name in metrics_for(kind)} for kind in KINDS},
        "systems": {name: _first_line(kind) for name, kind in SYSTEMS.items()},
        "scenes": {name: scene.summary for name, scene in SCENES.items()},
        "data sets": sets.to_dict("records"),
        "folder": str(Path(gendyn.__file__).parent),
    }

    def show() -> None:
        heads = ("gendyn", "python", "torch", "pot", "numpy", "scipy", "pandas")
        print_lines(", ".join(f"{name} {result[name]}" for name in heads), "")
        for title, key in (
            ("Models (gendyn fit --method)", "models"),
            ("Systems (gendyn simulate)", "systems"),
            ("Scenes (gendyn demo)", "scenes"),
        ):
            print_frame(title, rows([{"name": name, "what it is": text} for name, text in result[key].items()]))
            print_lines("")
        for kind, names in result["metrics"].items():
            table = rows([{"name": name, "what it measures": text} for name, text in names.items()])
            print_frame(f"Metrics for {kind} (gendyn evaluate)", table)
            print_lines("")
        short = sets.assign(description=sets["description"].str.partition(";")[0], here=sets["present"])
        short["here"] = short["here"].map({True: "yes", False: "no"})
        print_frame("Data sets (read from $GENDYN_DATA)", short[["name", "description", "source", "here"]])

    emit(result, as_json, show)


def _first_line(thing: Any) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0].rstrip(".")
