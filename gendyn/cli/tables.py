"""How results look in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["print_frame", "print_lines", "print_pairs"]


def print_lines(*lines: str) -> None:
    """Print plain lines; nothing in them is taken for markup, and none is broken."""
    for line in lines:
        sys.stdout.write(line + "\n")


def print_pairs(title: str, pairs: Mapping[str, Any]) -> None:
    """Print names and values side by side under a title."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, Text(_text(value)))
    _console().print(table)


def print_frame(title: str, frame: pd.DataFrame) -> None:
    """Print a table; numbers to four figures."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in frame.columns:
        number = frame[column].dtype.kind in "if"
        table.add_column(str(column), justify="right" if number else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(Text(_text(value)) for value in row))
    _console().print(table)


def _console() -> Console:
    # Piped output has no width of its own; 80 columns would fold every table.
    return Console() if sys.stdout.isatty() else Console(width=160)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return _shortened([_text(entry) for entry in value])
    return str(value)


def _shortened(words: list[str]) -> str:
    if len(words) > 12:
        words = [*words[:8], "...", *words[-2:]]
    return ", ".join(words)


def rows(entries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a table of the given rows."""
    import pandas as pd

    return pd.DataFrame(list(entries))
