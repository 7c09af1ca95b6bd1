"""Reports: one call that scores what was generated against what was measured.

``evaluate`` takes snapshots and snapshots, paths and paths, or plain arrays, and returns a table in which every number
has its sizes, its sampling floor and its interval, with pictures and one self-contained HTML page.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gendyn import plotting
from gendyn.data import Paths, Snapshots, atomic_path
from gendyn.evaluation.kernels import energy_distance, mmd
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.sliced import sliced_wasserstein
from gendyn.evaluation.transport import wasserstein
from gendyn.plotting import Page
from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = ["METRICS", "LeaveOneOutReport", "Report", "evaluate"]

METRICS = {
    "W1": lambda x, y, a, b, seed: wasserstein(x, y, p=1, weights_real=a, weights_generated=b, seed=seed),
    "W2": lambda x, y, a, b, seed: wasserstein(x, y, p=2, weights_real=a, weights_generated=b, seed=seed),
    "sliced W2": lambda x, y, a, b, seed: sliced_wasserstein(x, y, weights_real=a, weights_generated=b, seed=seed),
    "energy distance": lambda x, y, a, b, seed: energy_distance(x, y, weights_real=a, weights_generated=b, seed=seed),
    "MMD^2": lambda x, y, a, b, seed: mmd(x, y, weights_real=a, weights_generated=b, seed=seed),
}
"""Metrics between populations by name."""

_DEFAULT = ("W1", "W2", "sliced W2", "energy distance", "MMD^2")
_EXACT = ("W1", "W2")
_EXACT_SIZE = 2000
"""Points per side that exact transport is given; larger populations are drawn from, and the table says so."""


class Report:
    """A table of metrics with pictures.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per metric and time, and the mean over times (time NaN).
    """

    title = "Generated against real"

    def __init__(
        self, table: pd.DataFrame, *, seed: int, real: Snapshots | None = None, generated: Snapshots | None = None
    ) -> None:
        self.table = table
        self.seed = seed
        self.real = real
        self.generated = generated

    def __str__(self) -> str:
        return _text(self.display())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.table)} rows)"

    def _repr_html_(self) -> str:
        return str(self.display().to_html(index=False, float_format=lambda v: f"{v:.4g}"))

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as benchmarks store them: row, metric, value, low, high, peer, seconds."""
        return [
            {
                "row": "mean over times" if math.isnan(entry["time"]) else f"t={entry['time']:g}",
                "metric": entry["metric"],
                "value": entry["value"],
                "low": _none(entry["low"]),
                "high": _none(entry["high"]),
                "peer": _none(entry["floor"]),
                "seconds": _none(entry["seconds"]),
            }
            for entry in self.table.to_dict("records")
        ]

    def plot(self) -> Figure:
        """Return a figure of every metric against time with intervals and floor."""
        return plotting.figure_of(plotting.distances(self.table))

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the table as JSON (a list of rows), and write it where a path is given."""
        records = [{k: _none(v) for k, v in row.items()} for row in self.table.to_dict("records")]
        text = json.dumps({"title": self.title, "seed": self.seed, "rows": records}, indent=1, default=float)
        if path is not None:
            with atomic_path(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        return text

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        frame = self.display()
        cells = [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
        lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])

    def page(self) -> Page:
        """Return the report as a page that more can be added to."""
        page = Page(self.title)
        page.text(
            "Every value stands next to its floor: the same metric between two random halves of the real data. "
            "A value at the floor cannot be told from real by that metric; intervals are at 95 %."
        )
        page.table(self.display())
        if self.real is not None and self.generated is not None:
            page.figure(plotting.populations(self.real, self.generated), "Real and generated populations.")
            page.figure(plotting.marginals(self.real, self.generated), "Marginal densities of the leading features.")
        page.figure(self.plot(), "Metrics by time; the grey line is the floor.")
        page.text(f"Seed {self.seed}.")
        return page

    def to_html(self, path: str | Path) -> None:
        """Write one self-contained HTML file with table and pictures."""
        self.page().save(path)

    def display(self) -> pd.DataFrame:
        """Return the table as it is shown: fewer columns, means named."""
        frame = self.table.copy()
        frame["time"] = ["mean" if np.isnan(t) else f"{t:g}" for t in frame["time"]]
        columns = ["metric", "time", "value", "low", "high", "floor", "n_real", "n_generated"]
        if frame["p_value"].notna().any():
            columns.append("p_value")
        return frame[columns]


class LeaveOneOutReport(Report):
    """What :func:`gendyn.leave_one_out` returns.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per method, start, hole and metric, and means over holes (hole NaN).
    """

    title = "A time held out"

    def __init__(self, table: pd.DataFrame, *, protocol: str, scale: str, seed: int) -> None:
        super().__init__(table, seed=seed)
        self.protocol = protocol
        self.scale = scale

    def __str__(self) -> str:
        head = f"W1 to the held-out population ({self.protocol} protocol, scale {self.scale!r})"
        return "\n".join([head, _text(self.display()), *self.choices()])

    def choices(self) -> list[str]:
        """Return one sentence for each row whose method chose among several: what it chose, by hole."""
        chosen = self.table[(self.table["metric"] == "W1") & (self.table["origin"] != "")]
        return [
            f"{row} chose "
            + ", ".join(f"{o} (t={h:g})" for o, h in zip(group["origin"], group["hole"], strict=True))
            + " by inner hold-out."
            for row, group in chosen.groupby("row", sort=False)
        ]

    def mean(self, row: str, start: str = "restart", metric: str = "W1") -> dict[str, float]:
        """Return the means over holes of one row: value, value_at_half, skill, skill_low, skill_high, seconds.

        Raises
        ------
        ValueError
            If there is no such row; the message lists those there are.
        """
        means = self.table[self.table["hole"].isna() & (self.table["metric"] == metric)]
        found = means[(means["row"] == row) & means["start"].isin([start, ""])]
        if found.empty:
            names = ", ".join(
                f"{r!r} ({s})" if s else repr(r) for r, s in zip(means["row"], means["start"], strict=True)
            )
            raise ValueError(f"there is no row {row!r} with start {start!r} and metric {metric!r}; there are {names}")
        names_of_numbers = ("value", "value_at_half", "skill", "skill_low", "skill_high", "seconds")
        return {name: float(found.iloc[0][name]) for name in names_of_numbers}

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as benchmarks store them; the skill is a metric of its own."""
        rows = []
        for entry in self.table.to_dict("records"):
            start = f" ({entry['start']})" if entry["kind"] == "method" and self.protocol == "clean" else ""
            where = "mean over holes" if math.isnan(entry["hole"]) else f"t={entry['hole']:g}"
            base = {"row": entry["row"] + start, "peer": entry["kind"], "seconds": _none(entry["seconds"])}
            rows.append(
                base | {"metric": f"{entry['metric']}, {where}", "value": entry["value"], "low": None, "high": None}
            )
            if not math.isnan(entry["skill"]):
                low, high = _none(entry["skill_low"]), _none(entry["skill_high"])
                rows.append(base | {"metric": f"skill, {where}", "value": entry["skill"], "low": low, "high": high})
        return rows

    def plot(self) -> Figure:
        """Return a figure of all rows, sorted, with the floor."""
        return plotting.figure_of(plotting.leave_one_out(self.table))

    def page(self) -> Page:
        """Return the report as a page that more can be added to."""
        page = Page(self.title, f"{self.protocol} protocol, scale {self.scale!r}")
        page.text(
            "Exact W1 to the population that was held out, next to predictions that need no learning. Skill 0 is "
            "as good as optimal transport between the neighbouring times, 1 is as near as another sample of the truth."
        )
        page.table(self.display())
        for sentence in self.choices():
            page.text(sentence)
        page.figure(self.plot(), "Distance to the held-out population; grey rows need no learning.")
        page.text(f"Seed {self.seed}.")
        return page

    def display(self) -> pd.DataFrame:
        """Return the table as it is shown: W1 with a column for each hole, baselines first, the floor last.

        The column ``at n/2`` holds means at equal sizes (half of the held-out sample a side), as the skill uses
        them; only there may rows be compared with the floor.
        """
        table = self.table[self.table["metric"] == "W1"].copy()
        table["hole"] = ["mean" if np.isnan(h) else f"t={h:g}" for h in table["hole"]]
        pivot = table.pivot_table(index=["kind", "row", "start"], columns="hole", values="value", sort=False)
        frame = pivot.reset_index()
        means = table[table["hole"] == "mean"].set_index(["kind", "row", "start"])
        if self.protocol == "clean":
            keys = list(zip(frame["kind"], frame["row"], frame["start"], strict=True))
            frame["at n/2"] = [means.loc[key, "value_at_half"] for key in keys]
            frame["skill"] = [means.loc[key, "skill"] for key in keys]
            low, high = ([means.loc[key, c] for key in keys] for c in ("skill_low", "skill_high"))
            frame["skill 95 %"] = [
                "" if np.isnan(a) or a == b else f"[{a:.2f}, {b:.2f}]" for a, b in zip(low, high, strict=True)
            ]
        order = {"baseline": 0, "method": 1, "floor": 2}
        frame = frame.sort_values("kind", key=lambda c: c.map(order), kind="stable").drop(columns="kind")
        frame.columns.name = None
        if table["hole"].nunique() == 2:  # one hole is its own mean
            frame = frame.drop(columns="mean")
        return frame.reset_index(drop=True)


def evaluate(
    real: Snapshots | Paths | Any,
    generated: Snapshots | Paths | Any,
    metrics: Literal["default"] | Sequence[str] = "default",
    *,
    seed: Seed = 0,
    budget_seconds: float | None = None,
) -> Report:
    """Score generated data against real data.

    Parameters
    ----------
    real, generated
        Both :class:`~gendyn.Snapshots`, both :class:`~gendyn.Paths` with shared times, or both arrays ``(n, d)``.
        They are compared at the times they have in common.
    metrics
        Names of metrics, or ``"default"`` for all of them; see :data:`METRICS`.
    seed
        Root of all randomness: floors, intervals, and which points are drawn where exact transport would be too slow.
    budget_seconds
        Stop after this many seconds; metrics that were not reached are missing from the table, and a warning says so.

    Returns
    -------
    Report
        ``.table``, ``.plot()``, ``.to_html(path)``, ``.to_json()``, ``.to_markdown()``.

    Raises
    ------
    TypeError
        If the two are of different kinds.
    ValueError
        If they have no time in common, other features, or a metric is unknown.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> report = evaluate(x, x + 1.0, metrics=["W1"])
    >>> round(float(report.table.value[0]), 3)
    1.414
    """
    names = _metric_names(metrics)
    first, second = _as_snapshots(real, generated)
    common = [
        t for t in first.times.tolist() if any(abs(t - u) <= 1e-9 * max(1.0, abs(t)) for u in second.times.tolist())
    ]
    if not common:
        raise ValueError(
            f"real and generated have no time in common; got {first.times.tolist()[:8]} and {second.times.tolist()[:8]}"
        )
    if first.dim != second.dim:
        raise ValueError(f"real and generated must have the same number of features; got {first.dim} and {second.dim}")
    root = as_seed(seed)
    began = time.perf_counter()
    records, skipped = [], []
    for name in names:
        for k, t in enumerate(common):
            if budget_seconds is not None and time.perf_counter() - began > budget_seconds:
                skipped.append(f"{name} at t={t:g}")
                continue
            result = _one(name, first.at(t), second.at(t), derive_seed(root, name, k) % 2**31)
            records.append({"time": t} | result.to_dict() | {"metric": name})
    if skipped:
        import warnings

        warnings.warn(
            f"the budget of {budget_seconds:g} s was used up; not computed: {', '.join(skipped)}",
            UserWarning,
            stacklevel=2,
        )
    if not records:
        raise ValueError(f"the budget of {budget_seconds} s was used up before any metric was done; give more")
    table = pd.DataFrame(records).drop(columns=["extra"])
    return Report(_with_mean(table), seed=root, real=first.only(common), generated=second.only(common))


def _one(name: str, real: Snapshots, generated: Snapshots, seed: int) -> MetricResult:
    if name in _EXACT and real.dim > 1:
        real, generated = real.subsample(_EXACT_SIZE, seed=seed), generated.subsample(_EXACT_SIZE, seed=seed + 1)
    weights = [None if s.weights is None else s.weights[0] for s in (real, generated)]
    return METRICS[name](real.samples[0], generated.samples[0], weights[0], weights[1], seed)


def _metric_names(metrics: str | Sequence[str]) -> list[str]:
    if isinstance(metrics, str):
        metrics = _DEFAULT if metrics == "default" else [metrics]
    unknown = [m for m in metrics if m not in METRICS]
    if unknown:
        raise ValueError(f"there is no metric {unknown[0]!r}; there are {', '.join(METRICS)}")
    if not metrics:
        raise ValueError("metrics must name at least one metric; got none")
    return list(metrics)


def _as_snapshots(real: Any, generated: Any) -> tuple[Snapshots, Snapshots]:
    converted = []
    for name, data in (("real", real), ("generated", generated)):
        if isinstance(data, Snapshots):
            converted.append(data)
        elif isinstance(data, Paths):
            if not data.shared_times:
                raise ValueError(f"the {name} paths have times of their own; paths are compared at shared times")
            converted.append(data.snapshots())
        else:
            converted.append(Snapshots([0.0], [data]))
    plain = [not isinstance(d, (Snapshots, Paths)) for d in (real, generated)]
    if plain[0] != plain[1]:
        kinds = f"{type(real).__name__} and {type(generated).__name__}"
        raise TypeError(f"real and generated must both be Snapshots, Paths or arrays; got {kinds}")
    return converted[0], converted[1]


def _with_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Add the mean over times of every metric, where there are several."""
    if table["time"].nunique() < 2:
        return table
    means = table.groupby("metric", sort=False)[["value", "floor", "seconds"]].mean().reset_index()
    means["n_real"] = table.groupby("metric", sort=False)["n_real"].sum().to_numpy()
    means["n_generated"] = table.groupby("metric", sort=False)["n_generated"].sum().to_numpy()
    # Populations of different times are independent samples: the variances of their values add.
    reach = ((table["high"] - table["low"]) / 2).pow(2).groupby(table["metric"], sort=False).sum().pow(0.5)
    counts = table.groupby("metric", sort=False).size()
    means["low"] = means["value"] - (reach / counts).to_numpy()
    means["high"] = means["value"] + (reach / counts).to_numpy()
    means["time"], means["seed"], means["p_value"] = np.nan, table["seed"].iloc[0], None
    return pd.concat([table, means], ignore_index=True)


def _none(value: Any) -> Any:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def _text(frame: pd.DataFrame) -> str:
    """Return a table in columns for the terminal."""
    cells = [[str(c) for c in frame.columns]] + [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
