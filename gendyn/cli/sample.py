"""``gendyn sample``: run a learned process."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gendyn.cli.door import announce, emit
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
    check_device,
    check_output,
    parse_times,
)
from gendyn.cli.tables import print_lines

__all__ = ["sample"]

_PATH_FILES = (".npz", ".parquet", ".zarr")
_POPULATION_FILES = (".npz", ".csv", ".csv.gz", ".parquet", ".h5ad")


def sample(
    model: Annotated[str, typer.Argument(help="A model file (.safetensors) from gendyn fit.")],
    out: Annotated[str, typer.Option(help="File for the paths: .npz, .parquet or .zarr.")] = "paths.npz",
    times: Annotated[
        str | None,
        typer.Option(help="Times to report: 0,1,2.5 or start:stop:step. Left out: the times of the fit."),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="How many paths. Left out: one from each start cell.")] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Cells to start from (a data file). Left out: first cells of the fit, kept in the model."),
    ] = None,
    at: Annotated[
        float | None, typer.Option(help="Which time of the --start file to start from. Left out: its first.")
    ] = None,
    populations: Annotated[
        bool,
        typer.Option(
            "--populations",
            help="Write the cells of each time (.npz, .csv, .csv.gz, .parquet or .h5ad) in place of paths.",
        ),
    ] = False,
    step: Annotated[float | None, typer.Option(help="Step of the solver, in time units.")] = None,
    solver: Annotated[str | None, typer.Option(help="Solver, e.g. heun, rk4, dopri5.")] = None,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Allow times outside those of the fit. Trust it less.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...")] = None,
    seed: Seed = 0,
    time_key: TimeKey = None,
    rep: Rep = "X_pca",
    dims: Dims = None,
    columns: Columns = None,
    labels: Labels = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the learned process and write what it does.

    Example: gendyn sample model.safetensors --n 1000 --times 0:4:0.1 --out paths.npz
    """
    inputs = [model] if start is None else [model, start]
    target = check_output(out, _POPULATION_FILES if populations else _PATH_FILES, inputs=inputs)
    grid = None if times is None else parse_times(times)
    where = check_device(device)
    from gendyn.models import load

    learned = load(model, device=where)
    origin = None
    if start is not None:
        cells = Reading(time_key, rep, dims, None, columns, labels or ()).snapshots(start)
        origin = cells.at(float(cells.times[0]) if at is None else at)
        if where is not None:
            origin = origin.to(device=where)
    elif at is not None:
        raise ValueError("--at says which time of the --start file to start from; give --start as well")
    options: dict[str, Any] = {"step": step, "extrapolate": extrapolate}
    if solver is not None:
        options["solver"] = solver
    announce("sampling ...")
    show_progress = sys.stderr.isatty() and not as_json
    paths = learned.sample(origin, grid, n=n, seed=seed, progress=show_progress, **options)
    (paths.snapshots() if populations else paths).save(target)
    result = {
        "model": repr(learned),
        "kind": "snapshots" if populations else "paths",
        "n": paths.n_paths,
        "times": paths.times.tolist(),
        "dim": paths.dim,
        "seed": seed,
        "out": str(target),
    }
    emit(result, as_json, lambda: print_lines(f"{paths.n_paths} paths at {paths.n_times} times -> {target}"))
