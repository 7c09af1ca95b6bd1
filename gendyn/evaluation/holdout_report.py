"""The report of a hold-out: distances to a population that no model has seen, with skill."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gendyn import plotting
from gendyn.evaluation.report import Report, none_of, text_of
from gendyn.plotting import Page

__all__ = ["LeaveOneOutReport"]


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
        return "\n".join([head, text_of(self.display()), *self.choices()])

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
            base = {"row": entry["row"] + start, "peer": entry["kind"], "seconds": none_of(entry["seconds"])}
            rows.append(
                base | {"metric": f"{entry['metric']}, {where}", "value": entry["value"], "low": None, "high": None}
            )
            if not math.isnan(entry["skill"]):
                low, high = none_of(entry["skill_low"]), none_of(entry["skill_high"])
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
