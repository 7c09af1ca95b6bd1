"""``gendyn fit``: learn a process from populations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gendyn.cli.door import announce, emit
from gendyn.cli.methods import build
from gendyn.cli.options import (
    Columns,
    Debug,
    Dims,
    Json,
    Labels,
    Reading,
    Rep,
    Seed,
    TimeKey,
    WeightKey,
    check_device,
    check_output,
    parse_numbers,
    parse_settings,
)
from gendyn.cli.tables import print_pairs

if TYPE_CHECKING:
    from gendyn.data import Snapshots
    from gendyn.training import Estimator

__all__ = ["fit"]

_MODEL = "The model"
_RUN = "The fit"


def fit(
    data: Annotated[
        str,
        typer.Argument(help="Cells with times: .h5ad, .csv, .parquet, .npz, a folder of .csv, or a data set's name."),
    ],
    out: Annotated[str, typer.Option(help="File for the model; its name ends in .safetensors.")] = "model.safetensors",
    method: Annotated[
        str, typer.Option(help="Which model, e.g. flow-matching. `gendyn info` lists them.", rich_help_panel=_MODEL)
    ] = "flow-matching",
    coupling: Annotated[
        str | None,
        typer.Option(
            help="Which cell of one time is joined to which of the next: independent, ot (the shortest total way), "
            "sinkhorn (a blurred version), spline-ot (smooth curves through all times).",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help="global, whiten (each dimension by its own spread) or none.", rich_help_panel=_MODEL),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Blur around the curves, in scaled units.", rich_help_panel=_MODEL)
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Widths of the network's layers, e.g. 64,64,64.", rich_help_panel=_MODEL)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other parameter of the model, name=value; repeat.", rich_help_panel=_MODEL),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of learning.", rich_help_panel=_RUN)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples in a step.", rich_help_panel=_RUN)] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.", rich_help_panel=_RUN)] = None,
    without: Annotated[
        str | None,
        typer.Option(help="Times to leave out of the fit, e.g. 2,3, to test on later.", rich_help_panel=_RUN),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Save the state here now and then, so that a killed fit can go on.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint if it is there.", rich_help_panel=_RUN)
    ] = True,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...", rich_help_panel=_RUN)] = None,
    seed: Seed = 0,
    time_key: TimeKey = None,
    rep: Rep = "X_pca",
    dims: Dims = None,
    weight_key: WeightKey = None,
    columns: Columns = None,
    labels: Labels = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn how the population moves, and save the model.

    Example: gendyn fit cells.h5ad --time-key day --rep X_pca --dims 5 --coupling spline-ot --out model.safetensors
    """
    target = check_output(out, [".safetensors"], inputs=[data])
    if checkpoint is not None:
        check_output(checkpoint, [".safetensors"], inputs=[data])
        if Path(checkpoint).resolve() == target.resolve():
            raise ValueError(f"--checkpoint and --out are the same file {out!r}; give the checkpoint another name")
    named = {
        "coupling": coupling,
        "scale": scale,
        "sigma": sigma,
        "hidden": None if hidden is None else [int(width) for width in parse_numbers(hidden, "--hidden")],
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
    }
    given = {name: value for name, value in named.items() if value is not None}
    model = build(method, parse_settings(settings) | given)
    where = check_device(device)
    announce(f"reading {data} ...")
    reading = Reading(time_key, rep, dims, weight_key, columns, labels or ())
    snapshots = reading.snapshots(data)
    if without is not None:
        snapshots = snapshots.without(parse_numbers(without, "--without"))
    show_progress = sys.stderr.isatty() and not as_json
    model.fit(snapshots, seed=seed, progress=show_progress, checkpoint=checkpoint, resume=resume, device=where)
    model.save(target)
    result = _result(model, snapshots, target)
    emit(result, as_json, lambda: print_pairs(f"{type(model).__name__} -> {target}", result))


def _result(model: Estimator, snapshots: Snapshots, target: Path) -> dict[str, Any]:
    """Say what was learned from what."""
    history = model.history_
    # Models that couple all cells with all say what that took.
    cost = getattr(model, "cost_", None)
    taken = {}
    if cost is not None:
        taken = {
            "pairs": int(cost["pairs"].sum()),
            "seconds": float(cost["seconds"].sum()),
            "gigabytes": float(cost["gigabytes"].max()),
        }
    return {
        "model": repr(model),
        "times": snapshots.times.tolist(),
        "cells": list(snapshots.sizes),
        "dim": snapshots.dim,
        "steps": int(history["step"].iloc[-1]),
        "loss": float(history["loss"].iloc[-1]),
        **taken,
        "seed": model.seed_,
        "out": str(target),
    }
