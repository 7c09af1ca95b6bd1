"""``gendyn evaluate``: score generated data against real data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from gendyn.data import Paths, Snapshots

__all__ = ["evaluate"]


def evaluate(
    real: Annotated[str, typer.Argument(help="Measured cells or paths: a data file, or a data set's name.")],
    generated: Annotated[str, typer.Argument(help="Generated cells or paths, e.g. from gendyn sample.")],
    metrics: Annotated[
        str | None,
        typer.Option(help="Which metrics, separated by commas. Left out: those that suit. `gendyn info` lists them."),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="What is compared: populations, paths, forecasts or trajectories. Left out: sets of paths as paths, "
            "one long path with one as trajectories, anything else as populations."
        ),
    ] = "auto",
    times: Annotated[
        str | None, typer.Option(help="Compare populations only at these times, e.g. 2,4. Left out: all common times.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="File of the paths that the generator was fitted on, if REAL was held out.")
    ] = None,
    floors: Annotated[
        str | None, typer.Option(help="A .json file that --out wrote for the same REAL: its floors are taken over.")
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
    """Measure how far generated data are from measured ones, with a floor and an interval for every number.

    The floor is the same metric between two random halves of the measured data: nothing can be expected to beat it.
    Files of paths are compared as sets of paths, anything else as populations at each time.

    Example: gendyn evaluate cells.h5ad paths.npz --time-key day --html report.html
    """
    inputs = [name for name in (real, generated, train, floors) if name is not None]
    page = None if html is None else check_output(html, [".html"], inputs=inputs)
    numbers = None if out is None else check_output(out, [".json"], inputs=inputs)
    from gendyn import evaluation

    announce(f"reading {real} and {generated} ...")
    reading = Reading(time_key, rep, dims, weight_key, columns, labels or ())
    measured, made = reading.read(real), reading.read(generated)
    fitted = None if train is None else reading.read(train)
    if times is not None:
        chosen, kind = parse_numbers(times, "--times"), "populations" if kind == "auto" else kind
        measured, made = (_at(data, chosen, kind) for data in (measured, made))
    names = "default" if metrics is None else parse_words(metrics, "--metrics")
    announce("measuring ...")
    report = evaluation.evaluate(
        measured,
        made,
        names,
        kind=kind,
        train=fitted,
        floors=floors,
        seed=seed,
        budget_seconds=budget,
        progress=not as_json,
    )
    if page is not None:
        report.to_html(page)
    if numbers is not None:
        report.to_json(numbers)
    result: dict[str, Any] = {
        "kind": report.kind,
        "rows": report.table.to_dict("records"),
        "left out": report.left_out,
        "seed": seed,
        "html": None if page is None else str(page),
        "out": None if numbers is None else str(numbers),
    }

    def show() -> None:
        print_frame(f"{real} against {generated}", report.display())
        for remark in report.remarks():
            print_lines(remark)
        for target in (page, numbers):
            if target is not None:
                print_lines(f"written to {target}")

    emit(result, as_json, show)


def _at(data: Snapshots | Paths, times: list[float], kind: str) -> Snapshots:
    from gendyn.data import Snapshots

    if kind != "populations":
        raise ValueError(f"--times is for populations; these are to be compared as {kind}")
    return (data if isinstance(data, Snapshots) else data.snapshots()).only(times)
