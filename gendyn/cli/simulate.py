"""``gendyn simulate``: data whose truth is known, to try things on."""

from __future__ import annotations

from typing import Annotated

import typer

from gendyn.cli.door import announce, emit
from gendyn.cli.options import Debug, Json, Seed, check_output, parse_settings, parse_times
from gendyn.cli.tables import print_lines

__all__ = ["simulate"]

_POPULATION_FILES = (".npz", ".csv", ".csv.gz", ".parquet", ".h5ad")
_PATH_FILES = (".npz", ".parquet", ".zarr")


def simulate(
    system: Annotated[
        str,
        typer.Argument(
            help="A name that `gendyn info` lists, e.g. toggle-switch (cells choose one of two fates), lotka-volterra, "
            "repressilator, lorenz63, flashing-ratchet, fractional-brownian-motion."
        ),
    ],
    out: Annotated[str, typer.Option(help="File to write: .npz, .csv, .csv.gz, .parquet or .h5ad.")],
    times: Annotated[
        str | None,
        typer.Option(help="When to measure: 0,1,2.5 or start:stop:step. Left out: the system's usual times."),
    ] = None,
    n: Annotated[int, typer.Option("--n", help="Cells measured at each time (or number of paths).")] = 500,
    paths: Annotated[
        bool,
        typer.Option("--paths", help="Follow the same n cells through all times, instead of fresh cells at each."),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the system, e.g. --set volatility=0.2; repeat for more."),
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Step of the solver. Left out: one that resolves the system.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate a system with known truth and write populations (or paths) to a file.

    By default each time has its own cells, as in an experiment that destroys the cells it measures.

    Example: gendyn simulate toggle-switch --times 0,1,2,3,4,6 --n 500 --out cells.csv
    """
    target = check_output(out, _PATH_FILES if paths else _POPULATION_FILES)
    from gendyn.data import Paths
    from gendyn.systems import get_system, simulate_paths, simulate_snapshots

    made = get_system(system, **parse_settings(settings))
    grid = None if times is None else parse_times(times)
    announce(f"simulating {system} ...")
    run = (simulate_paths if paths else simulate_snapshots)(made, grid, n, seed, step=step)
    run.save(target)
    kept = f"{run.n_paths} paths" if isinstance(run, Paths) else f"{sum(run.sizes)} cells"
    moments = run.times.tolist()
    result = {
        "system": repr(made),
        "kind": "paths" if paths else "snapshots",
        "times": moments,
        "n": n,
        "dim": run.dim,
        "names": list(run.names or ()),
        "seed": seed,
        "out": str(target),
    }
    emit(result, as_json, lambda: print_lines(f"{made!r}", f"{kept} at {len(moments)} times -> {target}"))
