"""``gendyn evaluate``: score generated data against real data."""

from __future__ import annotations

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
    WeightKey,
    check_output,
    parse_numbers,
    parse_words,
)
from gendyn.cli.tables import print_frame, print_lines

__all__ = ["evaluate"]


def evaluate(
    real: Annotated[str, typer.Argument(help="Measured cells: a data file, a file of paths, or a data set's name.")],
    generated: Annotated[str, typer.Argument(help="Generated cells or paths, e.g. from gendyn sample.")],
    metrics: Annotated[
        str | None,
        typer.Option(help="Which metrics, separated by commas. Left out: all. `gendyn info` lists them."),
    ] = None,
    times: Annotated[
        str | None, typer.Option(help="Compare only at these times, e.g. 2,4. Left out: all common times.")
    ] = None,
    html: Annotated[str | None, typer.Option(help="Write a report with pictures to this .html file.")] = None,
    out: Annotated[str | None, typer.Option(help="Write the numbers to this .json file.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Stop after this many seconds with the metrics done by then.")
    ] = None,
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
    """Measure how far generated cells are from measured ones, with a floor and an interval for every number.

    The floor is the same metric between two random halves of the measured cells: nothing can be expected to beat it.

    Example: gendyn evaluate cells.h5ad paths.npz --time-key day --html report.html
    """
    page = None if html is None else check_output(html, [".html"], inputs=[real, generated])
    numbers = None if out is None else check_output(out, [".json"], inputs=[real, generated])
    from gendyn import evaluation

    announce(f"reading {real} and {generated} ...")
    reading = Reading(time_key, rep, dims, weight_key, columns, labels or ())
    measured, made = reading.populations(real), reading.populations(generated)
    if times is not None:
        chosen = parse_numbers(times, "--times")
        measured, made = measured.only(chosen), made.only(chosen)
    names = "default" if metrics is None else parse_words(metrics, "--metrics")
    announce("measuring ...")
    report = evaluation.evaluate(measured, made, names, seed=seed, budget_seconds=budget)
    if page is not None:
        report.to_html(page)
    if numbers is not None:
        report.to_json(numbers)
    result: dict[str, Any] = {
        "rows": report.table.to_dict("records"),
        "seed": seed,
        "html": None if page is None else str(page),
        "out": None if numbers is None else str(numbers),
    }

    def show() -> None:
        print_frame(f"{real} against {generated}", report.display())
        for target in (page, numbers):
            if target is not None:
                print_lines(f"written to {target}")

    emit(result, as_json, show)
