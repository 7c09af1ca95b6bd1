"""How well ends of populations are predicted that no model has seen, next to what needs no learning.

For each test population the predicted end is compared with the observed one; numbers are means over populations, with
an interval from a bootstrap over populations. Two rows know nothing of the population but its start: ``identity``
(the start itself) and ``mean shift`` (the start, moved by the training populations' mean displacement). Without
them, and without a model that does not know the population, such tables cannot be read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from gendyn import plotting
from gendyn.data import Cohort
from gendyn.evaluation.kernels import mmd_value
from gendyn.evaluation.transport import wasserstein_value
from gendyn.parallel import spread
from gendyn.plotting import Page
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["PopulationComparison", "compare_populations", "correlation_agreement"]

_GAMMAS = (2.0, 1.0, 0.5, 0.1, 0.01, 0.005)
"""Kernel rates of the published protocol (Atanackovic et al. 2025)."""

_BOOTSTRAP = 2000


class PopulationModelLike(Protocol):
    """A model of populations: fitted on some, it predicts the ends of others."""

    def clone(self) -> Self:
        """Return an unfitted copy."""
        ...

    def fit(self, data: Cohort, *, seed: Seed = ..., progress: bool = ...) -> Self:
        """Learn from a cohort."""
        ...

    def predict(self, data: Cohort) -> Cohort:
        """Return the predicted ends."""
        ...


class PopulationComparison:
    """A table of methods by mean distance over populations.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a method and metric: ``value`` with ``low`` and ``high``, and ``difference`` to the reference method
        with its interval from the same bootstrap (negative: better).
    by_population : pandas.DataFrame
        One row a method, metric, seed and population.
    reference : str
        The row that differences are taken to.
    """

    def __init__(self, by_population: pd.DataFrame, reference: str, *, seed: int) -> None:
        self.by_population = by_population
        self.reference = reference
        self.seed = seed
        self.table = _summary(by_population, reference, seed)

    def __str__(self) -> str:
        return self.display().to_string(index=False, float_format=lambda v: f"{v:.4g}")

    def display(self) -> pd.DataFrame:
        """Return the table as it is shown."""
        frame = self.table.drop(columns=["seconds"])
        return frame[frame["metric"].isin(["W1", "W2", "MMD^2", "correlation"])]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as benchmarks store them."""
        columns = ["row", "metric", "value", "low", "high", "kind", "seconds"]
        frame = self.table[columns].rename(columns={"kind": "peer"})
        return [{str(k): None if v is None or v != v else v for k, v in r.items()} for r in frame.to_dict("records")]

    def plot(self) -> Figure:
        """Return a figure of W1 by method, with intervals over populations."""
        return plotting.figure_of(plotting.methods(self.table[self.table["metric"] == "W1"]))

    def to_html(self, path: str) -> None:
        """Write one self-contained HTML file with table and picture."""
        page = Page("Populations held out", f"differences to {self.reference!r}")
        page.table(self.display())
        page.figure(self.plot(), "Mean W1 over populations; grey rows need no learning.")
        page.save(path)


def compare_populations(
    train: Cohort,
    test: Cohort,
    methods: Mapping[str, PopulationModelLike],
    *,
    reference: str | None = None,
    floor: Cohort | None = None,
    n_seeds: int = 1,
    seed: Seed = 0,
    progress: bool = False,
) -> PopulationComparison:
    """Fit each method on training populations and score the ends it predicts for test populations.

    Parameters
    ----------
    train, test
        Cohorts whose members are seen at the same two times; no member of one is in the other.
    methods
        Unfitted models by name, such as :class:`gendyn.MetaFlowMatching` with several encoders.
    reference
        The row that paired differences are taken to; by default the first method, or ``"identity"`` if there is none.
    floor
        Second draws of the test members' ends, where there are any: the distance that no model can be expected to beat.
    n_seeds
        Fits of every method; their distances are averaged.
    seed
        Root of all randomness.
    progress
        Show the progress of the fits.

    Returns
    -------
    PopulationComparison
        W1, W2 (exact, Euclidean), squared MMD (V-statistic, mean of six kernels), and in more than two dimensions the
        agreement of the features' correlations.

    Raises
    ------
    ValueError
        If a member is in both cohorts, or the reference is no row.
    """
    shared = sorted(set(train) & set(test))
    if shared:
        raise ValueError(f"member {shared[0]!r} is in both cohorts; a population that was trained on is not held out")
    root = as_seed(seed)
    shift = torch.stack([m.samples[-1].mean(0) - m.samples[0].mean(0) for m in train.values()]).mean(0)
    records = _measured("identity", "baseline", {n: m.samples[0] for n, m in test.items()}, test, 0, 0.0)
    records += _measured("mean shift", "baseline", {n: m.samples[0] + shift for n, m in test.items()}, test, 0, 0.0)
    for name, method in methods.items():
        for k in range(n_seeds):
            began = time.perf_counter()
            model = method.clone().fit(train, seed=derive_seed(root, "fit", k), progress=progress)
            ends = {n: m.samples[-1] for n, m in model.predict(test).items()}
            records += _measured(name, "method", ends, test, k, time.perf_counter() - began)
    if floor is not None:
        records += _measured("floor", "floor", {n: floor[n].samples[-1] for n in test}, test, 0, 0.0)
    rows = list(dict.fromkeys(r["row"] for r in records))
    reference = reference or (next(iter(methods)) if methods else "identity")
    if reference not in rows:
        raise ValueError(f"reference must be one of {', '.join(rows)}; got {reference!r}")
    return PopulationComparison(pd.DataFrame(records), reference, seed=root)


def correlation_agreement(real: Tensor, generated: Tensor) -> float:
    """Return the correlation between the pairwise feature correlations of two populations.

    Features that are constant in either are left out; in fewer than three features there is no number, and NaN is
    returned.

    Examples
    --------
    >>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    >>> round(correlation_agreement(x, x), 6)
    1.0
    """
    x, y = (v.detach().double().cpu().numpy() for v in (real, generated))
    varies = (x.std(0) > 0) & (y.std(0) > 0)
    if varies.sum() < 3:
        return float("nan")
    upper = np.triu_indices(int(varies.sum()), 1)
    first, second = (np.corrcoef(v[:, varies], rowvar=False)[upper] for v in (x, y))
    return float(np.corrcoef(first, second)[0, 1])


def _measured(
    row: str, kind: str, ends: Mapping[str, Tensor], test: Cohort, fit: int, seconds: float
) -> list[dict[str, Any]]:
    bandwidths = tuple((2 * g) ** -0.5 for g in _GAMMAS)

    def measure(name: str) -> list[dict[str, Any]]:
        truth, made = test[name].samples[-1], ends[name]
        values = {
            "W1": wasserstein_value(truth, made),
            "W2": wasserstein_value(truth, made, p=2),
            "MMD^2": mmd_value(truth, made, bandwidths=bandwidths, unbiased=False),
        }
        if truth.shape[1] > 2:
            values["correlation"] = correlation_agreement(truth, made)
        base = {"row": row, "kind": kind, "population": name, "fit": fit, "seconds": seconds}
        return [base | {"metric": metric, "value": value} for metric, value in values.items()]

    return [record for found in spread(measure, list(test)) for record in found]


def _summary(frame: pd.DataFrame, reference: str, seed: int) -> pd.DataFrame:
    """Return means over populations with bootstrap intervals, and paired differences to the reference."""
    rows = []
    for metric, part in frame.groupby("metric", sort=False):
        # Fits of one population are averaged first: populations, not fits, are the independent units.
        wide = part.groupby(["population", "row"], sort=False)["value"].mean().unstack("row")
        n = len(wide)
        draws = numpy_generator(seed, "populations").integers(0, n, (_BOOTSTRAP, n))
        for row in dict.fromkeys(part["row"]):
            values = wide[row].to_numpy()
            gaps = values - wide[reference].to_numpy()
            low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
            gap_low, gap_high = np.quantile(gaps[draws].mean(1), [0.025, 0.975])
            own = part[part["row"] == row]
            rows.append(
                {
                    "row": row,
                    "kind": own["kind"].iloc[0],
                    "metric": metric,
                    "value": float(values.mean()),
                    "low": float(low),
                    "high": float(high),
                    "difference": float(gaps.mean()),
                    "difference_low": float(gap_low),
                    "difference_high": float(gap_high),
                    "n_populations": n,
                    "seconds": float(own["seconds"].mean()),
                }
            )
    return pd.DataFrame(rows)
