"""What every benchmark shares: its options, its rows, and how they are printed and stored.

A row is ``{"row", "metric", "value", "low", "high", "peer", "seconds"}``; the file of rows is what
``docs/benchmarks.md`` is printed from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

FIELDS = ("row", "metric", "value", "low", "high", "peer", "seconds")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a smaller run that shows the shape of the table")
    options.add_argument("--json", type=Path, help="write the rows to this file")
    options.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    return options


def begin(options: argparse.Namespace) -> None:
    """Set the threads and say on what this runs."""
    torch.set_num_threads(options.threads)
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, {options.threads} threads, "
        f"{platform.machine()}",
        flush=True,
    )


def row(name: str, metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    """Return one row; fields that are not given are null."""
    return dict.fromkeys(FIELDS) | {"row": name, "metric": metric, "value": value} | more


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as one table."""
    table = RichTable(title=title, title_justify="left")
    for field in FIELDS:
        table.add_column(field, justify="left" if field in ("row", "metric") else "right")
    for entry in rows:
        table.add_row(*(_text(entry.get(field)) for field in FIELDS))
    Console(width=130 if not sys.stdout.isatty() else None).print(table)


def store(path: Path | None, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=1, default=float) + "\n", encoding="utf-8")
        print(f"rows written to {path}")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
