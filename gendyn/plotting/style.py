"""How every picture looks: colours, spines, fonts; applied inside a picture and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

__all__ = ["GENERATED", "MUTED", "REAL", "axes", "figure_of", "style", "time_colours"]

REAL = "#4a4a4a"
"""Colour of what was measured."""

GENERATED = "#d1495b"
"""Colour of what a model made; told from grey by lightness too, not by hue alone."""

MUTED = "#b8b8b8"
"""Colour of context."""

_PARAMETERS: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": False,
    "xtick.color": "#666666",
    "ytick.color": "#666666",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "font.size": 10.0,
}


def style() -> AbstractContextManager[None]:
    """Return a context in which gendyn's look holds; the caller's settings come back after it.

    Examples
    --------
    >>> before = mpl.rcParams["axes.spines.top"]
    >>> with style():
    ...     inside = mpl.rcParams["axes.spines.top"]
    >>> inside, mpl.rcParams["axes.spines.top"] == before
    (False, True)
    """
    return mpl.rc_context(cast(Any, _PARAMETERS))


def axes(ax: Axes | None, size: tuple[float, float] = (5.2, 4.2)) -> Axes:
    """Return the given axes, or those of a new figure that pyplot does not know of."""
    if ax is not None:
        return ax
    with style():
        return Figure(figsize=size, layout="constrained").add_subplot()


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes stand in."""
    figure = ax.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise ValueError("these axes stand in no figure")
    return figure


def time_colours(times: Sequence[float]) -> tuple[Colormap, Normalize]:
    """Return the colour map of time and its range; a perceptually uniform map, from dark to light."""
    low, high = min(times), max(times)
    return mpl.colormaps["viridis"].with_extremes(), Normalize(low, high if high > low else low + 1.0)
