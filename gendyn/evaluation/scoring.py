"""One call that scores what was generated against what was measured: populations, paths, forecasts, long runs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from gendyn.data import Paths, Snapshots
from gendyn.evaluation.catalogue import METRICS, Settings, chosen
from gendyn.evaluation.comparison import Case, Comparison
from gendyn.evaluation.floors import KnownFloors
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.report import Report, Score, table_of
from gendyn.evaluation.trajectory import trajectories
from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = ["evaluate"]

_EXACT_SIZE = 2000
"""Points per side that exact transport is given; larger populations are drawn from, and the table says so."""


def evaluate(
    real: Snapshots | Paths | Any,
    generated: Snapshots | Paths | Any,
    metrics: Literal["default"] | str | Sequence[str] = "default",
    *,
    kind: str = "auto",
    train: Paths | Any = None,
    reference: Paths | Any = None,
    floors: Report | str | Path | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
    budget_seconds: float | None = None,
    progress: bool = False,
) -> Report:
    """Score generated data against real data.

    Parameters
    ----------
    real, generated
        By kind, which is read off from them unless ``kind`` names it:

        - ``"populations"``: both :class:`~gendyn.Snapshots`, or one of them and :class:`~gendyn.Paths`, compared at
          the times that they have in common; or arrays ``(n, d)``;
        - ``"paths"``: both :class:`~gendyn.Paths`, or arrays ``(n, T, d)``;
        - ``"forecasts"``: outcomes ``(n, T, d)`` and members ``(n, M, T, d)``, see
          :mod:`~gendyn.evaluation.forecast`; of two :class:`~gendyn.Paths` the kind must be named;
        - ``"trajectories"``: one long path each, or several where the kind is named.
    metrics
        Names of metrics, or ``"default"`` for those that suit the kind; see :data:`~gendyn.evaluation.METRICS`. Of the
        default ones, those that have no meaning for the data are left out, and the report says why.
    kind
        Kind of data, or ``"auto"``.
    train
        Of paths: what the generator was fitted on, where ``real`` was held out from the fit.
    reference
        Of trajectories: a second real run, against which floors are computed instead of between halves.
    floors
        An earlier report on the same real data and seed, or its JSON file: its floors are not computed again, where
        the options of the metric are the same.
    options
        Arguments for single metrics, for example ``{"strong discriminative score": {"split": "blocked"}}``.
    on_nan
        ``"count"`` leaves out generated paths that are not finite, and the report says how many.
    seed
        Root of all randomness: floors, intervals, judges, and which points exact transport is given.
    budget_seconds
        Start no further metric after this many seconds; a warning and the report say which were left out.
    progress
        Show a progress bar on stderr.

    Returns
    -------
    Report
        ``.table``, ``.plot()``, ``.pictures()``, ``.to_html(path)``, ``.to_json()``, ``.to_markdown()``.

    Raises
    ------
    TypeError
        If the two are of different kinds.
    ValueError
        If they do not fit each other, a metric is unknown or not for this kind, or one that was named has no meaning
        for the data.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    >>> report = evaluate(x, x + 1.0, metrics=["W1"])
    >>> round(float(report.table.value[0]), 3)
    1.414
    """
    comparison = Comparison.of(real, generated, kind, on_nan)
    names = chosen(metrics, comparison.kind, comparison.dim)
    given = {chosen(name, comparison.kind, comparison.dim)[0]: own for name, own in (options or {}).items()}
    _check_further(comparison, train, reference)
    root = as_seed(seed)
    known = KnownFloors.of(floors, comparison, root)
    settings = Settings(root, train=train, reference=reference, on_nan=on_nan)
    tasks = [(name, k, case) for name in names for k, case in enumerate(comparison.cases())]
    began = time.perf_counter()
    scores: list[Score] = []
    left_out: dict[str, str] = {}
    refusal: ValueError | None = None
    bar = tqdm(tasks, disable=not progress, desc="evaluate", unit="metric")
    for name, k, case in bar:
        bar.set_postfix_str(name)
        if budget_seconds is not None and time.perf_counter() - began > budget_seconds:
            left_out[name + case.name] = f"the budget of {budget_seconds:g} s was used up"
            continue
        own = replace(settings, seed=derive_seed(root, name, k) % 2**31, options=given.get(name, {}))
        try:
            with known.taken(name, case.time, own.options):
                scores.append((name, case.time, _score(name, case, own)))
        except ValueError as error:
            if metrics != "default":
                raise
            refusal = refusal or error
            left_out[name + case.name] = str(error)
    if not scores:
        raise refusal or ValueError(
            f"the budget of {budget_seconds} s was used up before any metric was done; give more"
        )
    late = [name for name, why in left_out.items() if why.startswith("the budget of")]
    if late:
        warnings.warn(
            f"the budget of {budget_seconds:g} s was used up; not computed: {', '.join(late)}",
            UserWarning,
            stacklevel=2,
        )
    return Report(table_of(scores), seed=root, scores=scores, comparison=comparison, left_out=left_out, options=given)


def _check_further(comparison: Comparison, train: Any, reference: Any) -> None:
    """Refuse further real data that do not fit, before a default metric is left out because of them."""
    for name, value, wanted in (("train", train, "paths"), ("reference", reference, "trajectories")):
        if value is None:
            continue
        if comparison.kind != wanted:
            raise ValueError(f"{name} is for {wanted}; these are {comparison.kind}: leave it out")
        try:
            if wanted == "paths":
                path_sets(comparison.real, value, metric=name, needs="any")
            else:
                trajectories(comparison.real, value, metric=name)
        except (ValueError, TypeError) as error:
            raise type(error)(str(error).replace("generated", name)) from error


def _score(name: str, case: Case, settings: Settings) -> MetricResult:
    """Return the result of one metric for one case."""
    metric = METRICS[name]
    size = max(len(case.real), len(case.generated)) if metric.exact else 0
    thinned = size > _EXACT_SIZE and case.real.shape[1] > 1
    if thinned:
        case = case.thinned(_EXACT_SIZE, settings.seed)
    settings = replace(settings, weights_real=case.weights_real, weights_generated=case.weights_generated)
    result = metric.call(case.real, case.generated, settings)
    if not thinned:
        return result
    said = f"at {_EXACT_SIZE} of up to {size} points a side"
    return replace(result, extra=dict(result.extra) | {"thinned": said})
