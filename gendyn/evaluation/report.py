"""Reports: a table in which every number has its sizes, its floor and its interval, with pictures and one HTML page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gendyn import plotting
from gendyn.data import atomic_path
from gendyn.evaluation.catalogue import KINDS, METRICS
from gendyn.evaluation.comparison import Comparison
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.pictures import pictures_of
from gendyn.plotting import Page

__all__ = ["Report", "Score", "none_of", "text_of"]

Score = tuple[str, float | None, MetricResult]
"""Name of a metric, time of the populations or ``None``, and the result."""


class Report:
    """A table of metrics with pictures.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per metric; of populations one per metric and time, and the mean over times (time NaN).
    seed : int
        Root of all randomness.
    scores : tuple
        The results behind the rows: name, time (or ``None``), :class:`~gendyn.evaluation.MetricResult`.
    left_out : dict
        Metrics that were not computed, and why.
    """

    title = "Generated against real"

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        seed: int,
        scores: Sequence[Score] = (),
        comparison: Comparison | None = None,
        left_out: Mapping[str, str] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.table = table
        self.seed = seed
        self.scores = tuple(scores)
        self.comparison = comparison
        self.left_out = dict(left_out or {})
        self.options = {name: dict(given) for name, given in (options or {}).items()}

    @property
    def kind(self) -> str | None:
        """What was compared, see :data:`~gendyn.evaluation.KINDS`."""
        return None if self.comparison is None else self.comparison.kind

    def __str__(self) -> str:
        return "\n".join([text_of(self.display()), *self.remarks()])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.table)} rows)"

    def _repr_html_(self) -> str:
        return self.display().to_html(index=False, float_format=lambda v: f"{v:.4g}", na_rep="")

    def result(self, metric: str, time: float | None = None) -> MetricResult:
        """Return one result with everything that its metric says beside the value.

        Parameters
        ----------
        metric
            Its name in the table.
        time
            Of the populations, where there are several.

        Raises
        ------
        ValueError
            If there is none, or several times to choose from.

        Examples
        --------
        >>> from gendyn.evaluation import evaluate
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> evaluate(x, x, metrics="W1").result("W1").n_real
        50
        """
        named = [(t, result) for name, t, result in self.scores if name == metric]
        if not named:
            names = ", ".join(dict.fromkeys(name for name, _, _ in self.scores)) or "none"
            raise ValueError(f"the report has no metric {metric!r}; it has {names}")
        found = [result for t, result in named if time is None or t == time]
        if len(found) != 1:
            times = ", ".join(f"{t:g}" for t, _ in named if t is not None)
            if not times:
                raise ValueError(f"{metric!r} was not computed at single times: leave time out; got {time:g}")
            raise ValueError(f"{metric!r} was computed at times {times}; name one of them, got {time}")
        return found[0]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as benchmarks store them."""
        return [
            {
                "row": "mean over times" if math.isnan(entry["time"]) else f"t={entry['time']:g}",
                "metric": entry["metric"],
                "value": entry["value"],
                "low": none_of(entry["low"]),
                "high": none_of(entry["high"]),
                "peer": none_of(entry["floor"]),
                "seconds": none_of(entry["seconds"]),
            }
            for entry in self.table.to_dict("records")
        ]

    def plot(self) -> Figure:
        """Return a figure of every metric that has a floor, as a multiple of it, with intervals."""
        return plotting.figure_of(plotting.distances(self.table[self.table["floor"].notna()]))

    def pictures(self) -> list[tuple[Figure, str]]:
        """Return figures of real and generated data for their kind, each with its caption."""
        return [] if self.comparison is None else pictures_of(self.comparison, self.scores, seed=self.seed)

    def to_json(self, path: str | Path | None = None) -> str:
        """Return everything as JSON, and write it where a path is given; the floors can be taken over from it."""
        records = [{k: none_of(v) for k, v in row.items()} for row in self.table.to_dict("records")]
        whole: dict[str, Any] = {"title": self.title, "seed": self.seed, "rows": records}
        if self.comparison is not None:
            whole |= {
                "kind": self.comparison.kind,
                "real": self.comparison.fingerprint(),
                "left out": self.left_out,
                "options": self.options,
                "results": [{"metric": n, "time": t, "result": _plain(r.to_dict())} for n, t, r in self.scores],
            }
        text = json.dumps(whole, indent=1, default=str, allow_nan=False)
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
        page = Page(self.title, None if self.kind is None else KINDS[self.comparison.kind])  # type: ignore[union-attr]
        page.text(
            "Every value stands next to its floor, where it has one: the same metric between two random halves of the "
            "real data, or what chance alone makes of it. A value at the floor cannot be told from real by that "
            "metric. Intervals are at 95 %."
        )
        page.table(self.display())
        for remark in self.remarks():
            page.text(remark)
        if self.table["floor"].notna().sum() > 1:
            page.figure(self.plot(), "Metrics as multiples of their floors, the grey line.")
        for picture, caption in self.pictures():
            page.figure(picture, caption)
        page.text(f"Seed {self.seed}.")
        return page

    def to_html(self, path: str | Path) -> None:
        """Write one self-contained HTML file with table and pictures."""
        self.page().save(path)

    def remarks(self) -> list[str]:
        """Return a sentence for each metric that was not computed, and one for generated data that were left out."""
        said = [f"{name} was left out: {why}" for name, why in self.left_out.items()]
        if self.comparison is not None and self.comparison.dropped:
            what, n = "forecast" if self.kind == "forecasts" else "generated path", self.comparison.dropped
            said.append(f"left out because not finite: {n} {what}{'s' if n > 1 else ''}")
        return said

    def display(self) -> pd.DataFrame:
        """Return the table as it is shown: fewer columns, means named."""
        frame = self.table.copy()
        columns = ["metric", "value", "low", "high", "floor", "n_real", "n_generated"]
        if frame["time"].notna().any():
            frame["time"] = ["mean" if np.isnan(t) else f"{t:g}" for t in frame["time"]]
            columns.insert(1, "time")
        if frame["p_value"].notna().any():
            columns.append("p_value")
        if (frame["note"] != "").any():
            columns.append("note")
        return frame[columns]


def table_of(scores: Sequence[Score]) -> pd.DataFrame:
    """Return the table of results, with the mean over times of every metric that was computed at several."""
    records = []
    for name, time, result in scores:
        entry = {"metric": name, "time": math.nan if time is None else time} | result.to_dict() | {"metric": name}
        entry["note"] = "; ".join(filter(None, (result.extra.get("thinned", ""), METRICS[name].note(result))))
        records.append(entry)
    table = pd.DataFrame(records).drop(columns=["extra"])
    numbers = ["value", "low", "high", "floor", "p_value", "seconds"]
    table[numbers] = table[numbers].astype(float)
    if table["time"].nunique() < 2:
        return table
    groups = table.groupby("metric", sort=False)
    # A mean over some of the times is no mean: where a floor or an interval is missing, theirs is.
    averaged, counts = groups[["value", "floor", "seconds"]], groups.size()
    means = averaged.mean().where(averaged.count().eq(counts, axis=0)).reset_index()
    means["n_real"], means["n_generated"] = groups["n_real"].sum().to_numpy(), groups["n_generated"].sum().to_numpy()
    # Populations of different times are independent samples: the variances of their values add.
    squares = ((table["high"] - table["low"]) / 2).pow(2).groupby(table["metric"], sort=False)
    reach = (squares.sum().where(squares.count() == counts).pow(0.5) / counts).to_numpy()
    means["low"], means["high"] = means["value"] - reach, means["value"] + reach
    means["time"], means["seed"], means["p_value"] = np.nan, table["seed"].iloc[0], np.nan
    every = table["time"].nunique()
    means["note"] = ["" if count == every else f"over {count} of {every} times" for count in counts]
    return pd.concat([table, means], ignore_index=True)


def none_of(value: Any) -> Any:
    """Return ``None`` for what JSON cannot hold as a number."""
    return None if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def text_of(frame: pd.DataFrame) -> str:
    """Return a table in columns for the terminal."""
    cells = [[str(c) for c in frame.columns]] + [[_cell(v) for v in row] for row in frame.itertuples(index=False)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _plain(value: Any) -> Any:
    """Return a value with every number that JSON cannot hold replaced by ``None``."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return none_of(value.item() if isinstance(value, np.generic) else value)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return "" if value is None else str(value)
