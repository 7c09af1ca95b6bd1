"""Floors computed once: those of an earlier report on the same real data are taken over by a later one.

A floor depends on the real data, the seed and the options of its metric, so that many generators scored against
one real data set need it once. Two kinds of floor are computed anew: those against a second real run, and those of long
runs beside a generated run of another length, to which a metric may have cut its reach.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gendyn.evaluation.comparison import Comparison
from gendyn.evaluation.measure import known_floor
from gendyn.evaluation.report import Report

__all__ = ["KnownFloors"]


@dataclass(frozen=True)
class KnownFloors:
    """The floors of an earlier report.

    Attributes
    ----------
    floors
        Floor and size of the halves, by metric and time.
    options
        Of the metrics, under which they were computed.
    """

    floors: Mapping[tuple[str, float | None], tuple[float | None, int | None]]
    options: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, source: Report | str | Path | None, comparison: Comparison, seed: int) -> KnownFloors:
        """Return the floors in a report, or in the file that its ``to_json`` wrote.

        Raises
        ------
        ValueError
            If the report is of other real data or another seed, or the file holds no report.
        """
        if source is None:
            return cls({}, {})
        name = "the report" if isinstance(source, Report) else str(source)
        try:
            text = source.to_json() if isinstance(source, Report) else Path(source).read_text(encoding="utf-8")
            stored = json.loads(text)
            real, kept, results, options = (stored[key] for key in ("real", "seed", "results", "options"))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"floors are taken from a report of evaluate; {name} holds none") from error
        if real != comparison.fingerprint():
            raise ValueError(
                f"floors belong to the real data they were computed from; {name} has other real data, or populations "
                "at other times in common with the generated ones"
            )
        if kept != seed:
            raise ValueError(f"floors depend on the seed; {name} has seed {kept}, not {seed}: give seed={kept}")
        return cls(
            {
                (entry["metric"], entry["time"]): (entry["result"]["floor"], extra.get("floor_size"))
                for entry in results
                if (extra := entry["result"]["extra"]).get("floor_of") is None
                and ("times" not in extra or extra["times"][1] == comparison.n_times)
            },
            options,
        )

    def taken(self, metric: str, time: float | None, options: Mapping[str, Any]) -> AbstractContextManager[None]:
        """Return a context in which the metric takes over its floor, where it is known under the same options."""
        found = self.floors.get((metric, time))
        same = json.dumps(self.options.get(metric, {}), default=str) == json.dumps(dict(options), default=str)
        return known_floor(*found) if found is not None and same else nullcontext()
