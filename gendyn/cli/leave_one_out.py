"""``gendyn leave-one-out``: how well a time can be predicted that was not measured."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal, cast

import typer

from gendyn.cli.door import announce, emit
from gendyn.cli.methods import build_many
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
    check_output,
    parse_numbers,
    parse_settings,
)
from gendyn.cli.tables import print_frame, print_lines

__all__ = ["leave_one_out"]


def leave_one_out(
    data: Annotated[
        str,
        typer.Argument(help="Cells with times: .h5ad, .csv, .parquet, .npz, a folder of .csv, or a data set's name."),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="Methods to try, separated by commas: couplings of flow matching (ot, spline-ot, sinkhorn, "
            "independent) or models with parameters, e.g. flow-matching:coupling=ot:sigma=0.2."
        ),
    ] = "ot,spline-ot",
    protocol: Annotated[
        str,
        typer.Option(
            help="clean: nothing of the held-out time is used; published: as tables in the literature are made."
        ),
    ] = "clean",
    scale: Annotated[str, typer.Option(help="global, whiten (each dimension by its own spread) or none.")] = "global",
    times: Annotated[
        str | None, typer.Option(help="Times to hold out, one after the other. Left out: all but the first and last.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of learning, for all methods.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any other parameter of all methods, name=value; repeat.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Fit this often with different seeds, and give means.")] = 1,
    html: Annotated[str | None, typer.Option(help="Write a report with pictures to this .html file.")] = None,
    out: Annotated[str | None, typer.Option(help="Write the numbers to this .json file.")] = None,
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
    """Hide each time in turn, predict it from the others, and compare with what needs no learning.

    Skill 0 is as good as optimal transport between the neighbouring times, 1 is as near as another sample of the
    truth; below 0 the method does harm.

    Example: gendyn leave-one-out cells.h5ad --time-key day --dims 5 --methods ot,spline-ot --html report.html
    """
    page = None if html is None else check_output(html, [".html"], inputs=[data])
    numbers = None if out is None else check_output(out, [".json"], inputs=[data])
    common = parse_settings(settings) | ({} if steps is None else {"steps": steps})
    models = build_many(methods, common)
    from gendyn import evaluation

    announce(f"reading {data} ...")
    snapshots = Reading(time_key, rep, dims, weight_key, columns, labels or ()).populations(data)
    report = evaluation.leave_one_out(
        snapshots,
        models,
        protocol=cast(Literal["clean", "published"], protocol),
        scale=cast(Literal["whiten", "global", "none"], scale),
        times=None if times is None else parse_numbers(times, "--times"),
        seed=seed,
        n_seeds=seeds,
        progress=sys.stderr.isatty() and not as_json,
    )
    if page is not None:
        report.to_html(page)
    if numbers is not None:
        report.to_json(numbers)
    result: dict[str, Any] = {
        "protocol": protocol,
        "scale": scale,
        "seed": seed,
        "rows": report.table.to_dict("records"),
        "html": None if page is None else str(page),
        "out": None if numbers is None else str(numbers),
    }

    def show() -> None:
        print_frame(f"W1 to the hidden population of {data} ({protocol} protocol, scale {scale})", report.display())
        for target in (page, numbers):
            if target is not None:
                print_lines(f"written to {target}")

    emit(result, as_json, show)
