"""Pictures of tables: the loss of a fit, metrics by time, rows of a hold-out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from gendyn.plotting.style import GENERATED, MUTED, REAL, axes, style

__all__ = ["distances", "history", "leave_one_out", "methods"]


def history(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the loss of a fit against the step, with validation where there is any.

    Examples
    --------
    >>> ax = history(pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "validation": [np.nan, np.nan]}))
    >>> len(ax.lines)
    1
    """
    _need(frame, ("step", "loss"))
    ax = axes(ax, (5.2, 3.0))
    with style():
        ax.plot(frame["step"], frame["loss"], color=MUTED, lw=0.8)
        window = max(1, len(frame) // 25)
        smooth = frame["loss"].rolling(window, min_periods=1, center=True).mean()
        if window > 1:
            ax.plot(frame["step"], smooth, color=REAL, lw=1.6)
        if "validation" in frame and frame["validation"].notna().any():
            seen = frame[frame["validation"].notna()]
            ax.plot(seen["step"], seen["validation"], color=GENERATED, lw=1.4, marker="o", ms=3)
            ax.annotate(
                "validation", (seen["step"].iloc[-1], seen["validation"].iloc[-1]), color=GENERATED, fontsize="small"
            )
        positive = frame["loss"][frame["loss"] > 0]
        if len(positive) == len(frame) and frame["loss"].max() > 20 * frame["loss"].min():
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("loss")
    return ax


def distances(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw metrics with intervals, as multiples of their floors, or of 2 % of the value where the floor is below that.

    Examples
    --------
    >>> frame = pd.DataFrame({"metric": ["W1"], "time": [0.0], "value": [1.0], "low": [0.9], "high": [1.1]})
    >>> frame["floor"] = 0.5
    >>> ax = distances(frame)
    >>> ax.get_xlabel()
    'value / floor'
    """
    _need(table, ("metric", "time", "value", "low", "high", "floor"))
    shown = table.iloc[::-1]
    timed = shown["time"].notna().any()
    labels = [
        m + ("" if not timed else ", mean" if np.isnan(t) else f", t = {t:g}")
        for m, t in zip(shown["metric"], shown["time"], strict=True)
    ]
    ax = axes(ax, (7.2, 0.3 * len(shown) + 1.4))
    # An unbiased metric has a floor about zero: its own size is its unit then.
    floor, size = (np.abs(shown[column].to_numpy(dtype=float, na_value=np.nan)) for column in ("floor", "value"))
    unit = np.fmax(floor, 0.02 * size)
    unit = np.where(unit > 0, unit, 1.0)
    low, high = (shown[column].to_numpy(dtype=float, na_value=np.nan) for column in ("low", "high"))
    with np.errstate(invalid="ignore"):  # an infinite value has no place on the axis, and is not drawn
        value = shown["value"].to_numpy(float) / unit
        reach = np.nan_to_num((high - low) / 2 / unit)
    with style():
        y = np.arange(len(shown))
        ax.axvline(1.0, color=MUTED, lw=1.2)
        ax.errorbar(value, y, xerr=reach, fmt="o", ms=5, color=GENERATED, elinewidth=1.2)
        ax.set_yticks(y, labels)
        ax.set_ylim(-0.6, len(shown) - 0.4)
        ax.set_xlabel("value / floor")
        if (value > 20).any():
            ax.set_xscale("symlog", linthresh=2.0)
        ax.annotate(
            "floor",
            (1.0, len(shown) - 0.4),
            xytext=(0, 3),
            textcoords="offset points",
            color="#888888",
            fontsize="small",
            ha="center",
            annotation_clip=False,
        )
    return ax


def leave_one_out(table: pd.DataFrame, *, metric: str = "W1", ax: Axes | None = None) -> Axes:
    """Draw the rows of a hold-out table, nearest last; grey rows need no learning, the line is the floor.

    Small dots are single holes, large ones their mean.

    Examples
    --------
    >>> frame = pd.DataFrame({"row": ["previous"], "kind": ["baseline"], "start": ["restart"], "hole": [np.nan],
    ...     "metric": ["W1"], "value": [1.0]})
    >>> leave_one_out(frame).get_xlabel()
    'W1'
    """
    _need(table, ("row", "kind", "start", "hole", "metric", "value"))
    chosen = table[table["metric"] == metric]
    if chosen.empty:
        raise ValueError(f"the table has no metric {metric!r}; it has {', '.join(map(str, table['metric'].unique()))}")
    label = metric
    if "value_at_half" in chosen and chosen["value_at_half"].notna().all():
        # A distance depends on the sizes of the samples: rows and floor are drawn at the same ones.
        chosen, label = chosen.assign(value=chosen["value_at_half"]), f"{metric}, at equal sizes"
    floor = chosen[(chosen["kind"] == "floor") & chosen["hole"].isna()]["value"]
    rows = chosen[(chosen["kind"] != "floor")]
    means = rows[rows["hole"].isna()].sort_values("value", ascending=False)
    ax = axes(ax, (6.4, 0.34 * len(means) + 1.2))
    several = rows["start"].nunique() > 1
    with style():
        if len(floor):
            ax.axvline(float(floor.iloc[0]), color=MUTED, lw=1.2)
            place = (float(floor.iloc[0]), len(means) - 0.4)
            ax.annotate("floor", place, color="#888888", fontsize="small", ha="center", annotation_clip=False)
        labels = []
        for y, (_, row) in enumerate(means.iterrows()):
            colour = GENERATED if row["kind"] == "method" else REAL
            single = rows[(rows["row"] == row["row"]) & (rows["start"] == row["start"]) & rows["hole"].notna()]["value"]
            ax.plot(
                [row["value"], single.min() if len(single) else row["value"]], [y, y], color=MUTED, lw=0.8, zorder=1
            )
            ax.scatter(single, np.full(len(single), y), s=10, color=colour, alpha=0.45, linewidths=0)
            ax.scatter(row["value"], y, s=48, color=colour, zorder=3, marker="D" if row["kind"] == "method" else "o")
            labels.append(f"{row['row']} ({row['start']})" if several and row["kind"] == "method" else str(row["row"]))
        ax.set_yticks(range(len(labels)), labels)
        ax.set_xlabel(label)
    return ax


def methods(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw one number a method with its interval, best last; grey-blue rows need no learning, the line is the floor.

    Parameters
    ----------
    table
        Columns ``row``, ``kind`` (``"baseline"``, ``"method"``, ``"floor"``), ``metric``, ``value``, ``low``, ``high``.

    Examples
    --------
    >>> frame = pd.DataFrame({"row": ["identity"], "kind": ["baseline"], "metric": ["W1"], "value": [1.0]})
    >>> methods(frame.assign(low=0.9, high=1.1)).get_xlabel()
    'W1'
    """
    _need(table, ("row", "kind", "metric", "value", "low", "high"))
    floor = table[table["kind"] == "floor"]["value"]
    shown = table[table["kind"] != "floor"].sort_values("value", ascending=False)
    ax = axes(ax, (6.4, 0.34 * len(shown) + 1.2))
    with style():
        if len(floor):
            ax.axvline(float(floor.iloc[0]), color=MUTED, lw=1.2)
            place = (float(floor.iloc[0]), len(shown) - 0.4)
            ax.annotate("floor", place, color="#888888", fontsize="small", ha="center", annotation_clip=False)
        for y, (_, row) in enumerate(shown.iterrows()):
            learned = row["kind"] == "method"
            colour = GENERATED if learned else REAL
            ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.2)
            ax.scatter(row["value"], y, s=48, color=colour, zorder=3, marker="D" if learned else "o")
        ax.set_yticks(range(len(shown)), [str(row) for row in shown["row"]])
        ax.set_xlabel(str(shown["metric"].iloc[0]))
    return ax


def _need(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [c for c in columns if c not in frame]
    if missing:
        raise ValueError(f"the table needs the columns {', '.join(columns)}; {', '.join(missing)} is missing")
    if frame.empty:
        raise ValueError("the table is empty; there is nothing to draw")
