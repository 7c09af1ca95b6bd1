"""Pictures of forecasts beside what came: rank histograms, coverage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gendyn.plotting.style import GENERATED, MUTED, REAL, axes, style

__all__ = ["coverage", "forecast_fans", "rank_histogram"]


def rank_histogram(counts: Sequence[int] | Any, *, design_effect: float = 1.0, ax: Axes | None = None) -> Axes:
    """Draw a histogram of ranks, or of probability integral transforms, with the band of flat ones.

    Parameters
    ----------
    counts
        Cases in each cell, from the lowest rank up.
    design_effect
        By which the cases are fewer than they seem, as :func:`gendyn.evaluation.rank_histogram` gives it.
    ax
        Axes to draw in.

    Examples
    --------
    >>> ax = rank_histogram([10, 12, 9, 11])
    >>> len(ax.patches)
    5
    """
    heights = np.asarray(counts, dtype=np.float64)
    if heights.ndim != 1 or len(heights) < 2 or not heights.sum() > 0:
        raise ValueError(f"counts must hold at least two cells and one case; got shape {heights.shape}")
    ax = axes(ax, (5.2, 3.2))
    bins, total = len(heights), heights.sum()
    share = 1 / bins
    reach = 1.96 * np.sqrt(share * (1 - share) * design_effect / total)
    with style():
        # Relative to flat, so that 1 is what is wanted whatever the number of cells.
        edges = np.arange(bins) / bins
        ax.bar(edges, heights / total * bins, width=share, align="edge", color=GENERATED, alpha=0.55, lw=0)
        ax.axhspan(1 - reach * bins, 1 + reach * bins, color=MUTED, alpha=0.4, lw=0, zorder=0)
        ax.axhline(1.0, color=REAL, lw=1.0)
        ax.set_xlim(0, 1)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("rank of the outcome among members")
        ax.set_ylabel("density")
    return ax


def coverage(
    levels: Sequence[float],
    shares: Sequence[float],
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of outcomes inside central intervals against the share that was promised.

    Parameters
    ----------
    levels, shares
        Nominal and observed shares.
    low, high
        Ends of the intervals of the shares.
    ax
        Axes to draw in.

    Examples
    --------
    >>> ax = coverage([0.5, 0.9], [0.4, 0.8], [0.35, 0.75], [0.45, 0.85])
    >>> ax.get_ylabel()
    'outcomes inside'
    """
    x, y = (np.asarray(v, dtype=np.float64) for v in (levels, shares))
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"levels and shares must be as many; got shapes {x.shape} and {y.shape}")
    ax = axes(ax, (4.4, 4.2))
    with style():
        ax.plot([0, 1], [0, 1], color=MUTED, lw=1.2)
        ax.fill_between([0, 1], [0, 1], 0, color=MUTED, alpha=0.12, lw=0)
        if low is not None and high is not None:
            reach = np.abs(np.stack([y - np.asarray(low), np.asarray(high) - y]))
            ax.errorbar(x, y, yerr=reach, fmt="none", ecolor=GENERATED, elinewidth=1.4)
        ax.plot(x, y, color=GENERATED, lw=1.4, marker="o", ms=5)
        ax.annotate("too narrow", (0.97, 0.05), color="#888888", fontsize="small", ha="right")
        ax.annotate("too wide", (0.03, 0.92), color="#888888", fontsize="small")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_aspect("equal")
        ax.set_xlabel("promised share")
        ax.set_ylabel("outcomes inside")
    return ax


def forecast_fans(times: Any, outcomes: Any, members: Any, *, feature: int = 0, count: int = 6) -> Figure:
    """Draw some outcomes as dots over the bands that hold 50 and 90 % of their members.

    Parameters
    ----------
    times
        ``(T,)``, or ``(n, T)`` of each outcome's own.
    outcomes
        ``(n, T, d)``, NaN where not observed.
    members
        ``(n, M, T, d)``.
    feature
        Which of the d is drawn.
    count
        Outcomes to draw.

    Examples
    --------
    >>> len(forecast_fans([0.0, 1.0], np.zeros((8, 2, 1)), np.zeros((8, 5, 2, 1))).axes)
    6
    """
    truth, made = np.asarray(outcomes, dtype=np.float64), np.asarray(members)
    if truth.ndim != 3 or made.ndim != 4 or made.shape[:1] + made.shape[2:] != truth.shape:
        raise ValueError(f"members (n, M, T, d) must fit outcomes (n, T, d); got {made.shape} and {truth.shape}")
    if not 0 <= feature < truth.shape[2]:
        raise ValueError(f"feature must lie in 0 to {truth.shape[2] - 1}; got {feature}")
    clock = np.broadcast_to(np.asarray(times, dtype=np.float64), truth.shape[:2])
    chosen = np.unique(np.linspace(0, len(truth) - 1, min(count, len(truth))).round().astype(int))
    columns = min(3, len(chosen))
    rows = -(-len(chosen) // columns)
    with style():
        figure = Figure(figsize=(3.1 * columns + 0.4, 2.1 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for ax, i in zip(grid, chosen, strict=False):
            seen = np.isfinite(truth[i, :, feature])
            low, q1, median, q3, high = np.quantile(
                made[i, :, seen, feature].astype(np.float64), [0.05, 0.25, 0.5, 0.75, 0.95], axis=1
            )
            t = clock[i, seen]
            ax.fill_between(t, low, high, color=GENERATED, alpha=0.16, lw=0)
            ax.fill_between(t, q1, q3, color=GENERATED, alpha=0.28, lw=0)
            ax.plot(t, median, color=GENERATED, lw=1.4)
            ax.plot(t, truth[i, seen, feature], color=REAL, lw=0.8, marker="o", ms=2.5)
            ax.set_title(f"outcome {i}")
            ax.set_xlabel("time")
        for ax in grid[len(chosen) :]:
            ax.remove()
    return figure
