"""The application: its commands, and the way in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from gendyn.cli.demo import demo
from gendyn.cli.door import enter, last_resort
from gendyn.cli.evaluate import evaluate
from gendyn.cli.fit import fit
from gendyn.cli.info import info
from gendyn.cli.leave_one_out import leave_one_out
from gendyn.cli.options import Debug
from gendyn.cli.sample import sample
from gendyn.cli.simulate import simulate
from gendyn.cli.tables import print_lines

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="gendyn",
    help="Learn how populations move at random, run them forward, and know how far to trust it.\n\n"
    "New here? Run `gendyn demo`: it needs nothing and writes a report with pictures.",
    epilog="Each command explains itself: gendyn fit --help. Every command takes --json.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_lines(f"gendyn {installed_version('gendyn')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Debug = False,
) -> None:
    """Stand before every command."""


for _command, _name in (
    (demo, "demo"),
    (simulate, "simulate"),
    (info, "info"),
    (fit, "fit"),
    (sample, "sample"),
    (evaluate, "evaluate"),
    (leave_one_out, "leave-one-out"),
):
    app.command(_name)(_command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 2 unusable input, 130 interrupted."""
    return enter(app, sys.argv[1:] if arguments is None else arguments)


def main() -> None:
    """Run the command line of this process and leave with its exit code."""
    if "--debug" not in sys.argv[1:]:
        sys.excepthook = last_resort
    sys.exit(run())
