"""What a scene of the demonstration is: it computes something, writes its files, and returns a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendyn.plotting import Page

__all__ = ["Scene", "Stage"]


@dataclass(frozen=True)
class Stage:
    """Where a scene plays.

    Parameters
    ----------
    folder
        Folder for its files; it exists.
    seed
        Root of all randomness.
    data
        Name of a real data set to use in place of the embedded input, or ``None``.
    progress
        Whether to show progress bars.
    """

    folder: Path
    seed: int = 0
    data: str | None = None
    progress: bool = False


@dataclass(frozen=True)
class Scene:
    """A scene.

    Parameters
    ----------
    summary
        One line that says what it shows.
    play
        Called with a :class:`Stage`; returns the page, and the numbers that matter.
    data
        Names of real data sets that it can use in place of its embedded input.
    """

    summary: str
    play: Callable[[Stage], tuple[Page, dict[str, Any]]]
    data: tuple[str, ...] = ()
