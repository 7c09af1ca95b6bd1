"""Choose a family and the size of its noise by populations that are left out of the training ones, one at a time.

Likelihood lays everything that a drift misses to noise, so that a poor family gets much of it, and a bridge under much
noise is wide between the populations. What counts there is told by a population that was left out and is predicted by
the bridge over it. Those that the user holds out play no part.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from gendyn.bridges.marginals import Marginals
from gendyn.bridges.multi_marginal import MultiMarginalBridge
from gendyn.bridges.pushforward import PushforwardObjective
from gendyn.bridges.references.family import LearnableReference
from gendyn.data import Snapshots
from gendyn.evaluation import wasserstein_value

__all__ = ["CANDIDATE_ITERATIONS", "NOISE_SHARES", "inner_scores", "inner_times", "reference_choice", "thinned"]

CANDIDATE_ITERATIONS = 15
"""Alternations of couplings and reference, at most, by which a candidate is learned; the chosen one gets them all."""


NOISE_SHARES = (1.0, 0.5, 0.25, 0.125)
"""Parts of the likeliest sigma among which one is chosen."""

_FOLDS = 4
"""Populations left out at most, evenly spaced."""

_POINTS = 1000
"""Points of a population that is predicted, at most."""

_ROWS = 200
"""Rows of a population, evenly spaced, that a candidate is learned from at most."""


Fit = Callable[[Snapshots], LearnableReference]
"""Learns the reference of a candidate from populations."""


def inner_times(data: Snapshots) -> list[float]:
    """Return the times between the first and the last that are left out, evenly spaced.

    Examples
    --------
    >>> inner_times(Snapshots([0.0, 1.0, 2.5, 3.0], [torch.zeros(1, 1)] * 4))
    [1.0, 2.5]
    """
    inner = data.times[1:-1].tolist()
    chosen = np.unique(np.linspace(0, len(inner) - 1, min(_FOLDS, len(inner))).round().astype(int))
    return [inner[k] for k in chosen]


def thinned(data: Snapshots, most: int = _ROWS) -> Snapshots:
    """Return populations of at most some rows, evenly spaced.

    Examples
    --------
    >>> thinned(Snapshots([0.0, 1.0], [torch.zeros(7, 1)] * 2), 4).sizes
    (4, 4)
    """
    if max(data.sizes) <= most:
        return data
    return data.rows([torch.arange(min(n, most)) * n // min(n, most) for n in data.sizes])


def inner_scores(
    fit: Fit,
    data: Snapshots,
    shares: Sequence[float],
    *,
    substeps: int,
    tolerance: float,
    seed: int,
    after: Callable[[], object] = lambda: None,
) -> list[float]:
    """Return the mean W2 of populations left out to what a bridge predicts, one a share of the noise; NaN without any.

    Parameters
    ----------
    fit
        Learns the candidate.
    data
        The training populations.
    shares
        Factors on sigma under which the bridge of the fitted reference is solved.
    substeps, tolerance
        As for the estimator.
    seed
        Which points are drawn.
    after
        Called after every population that was left out and predicted.
    """
    found = []
    for t in inner_times(data):
        rest, held = data.without([t]), data.at(t).samples[0]
        reference = fit(thinned(rest))
        # What lies in an interval is told by its own coupling.
        later = int((rest.times > t).nonzero()[0])
        ends = rest.only(rest.times[later - 1 : later + 1].tolist())
        first = reference.log_sigma.clone()
        row = []
        for share in shares:
            with torch.no_grad():
                reference.log_sigma.copy_(first + math.log(share))
            try:
                with warnings.catch_warnings():
                    # A coupling that does not converge here counts by what it predicts.
                    warnings.simplefilter("ignore", UserWarning)
                    bridge, _ = MultiMarginalBridge.solve(reference, ends, substeps=substeps, tolerance=tolerance)
                points = bridge.interpolate(t, min(len(held), _POINTS), seed)
                row.append(wasserstein_value(held, points, p=2))
            except ValueError:  # no transition density under this noise
                row.append(math.inf)
        found.append(row)
        after()
    return np.mean(found, 0).tolist() if found else [math.nan] * len(shares)


def reference_choice(
    candidates: Sequence[tuple[str, Fit]],
    data: Snapshots,
    shares: Sequence[float],
    *,
    substeps: int,
    tolerance: float,
    seed: int,
    progress: bool = False,
) -> tuple[pd.DataFrame, int, float]:
    """Score candidates; return the table, which candidate is best, and with which share of its noise.

    Parameters
    ----------
    candidates
        Names, and what fits each.
    data, shares, substeps, tolerance, seed
        As for :func:`inner_scores`.
    progress
        Show a bar of fits.

    Returns
    -------
    tuple
        The table has one row a candidate and share: ``family``, ``sigma``, ``objective`` (minus the log-likelihood of
        all populations, each under the one before), ``score`` and ``chosen``. The smallest score wins, or, with no
        population between the first and the last, the smallest objective.
    """
    objective = PushforwardObjective(Marginals.of(data, substeps))
    rows, places = [], []
    fits = len(candidates) * (1 + len(inner_times(data)))
    with tqdm(total=fits, desc="choose", unit="fit", disable=not progress) as bar:
        for index, (name, fit) in enumerate(candidates):
            bar.set_postfix_str(name)
            reference = fit(thinned(data))
            bar.update()
            scores = inner_scores(
                fit, data, shares, substeps=substeps, tolerance=tolerance, seed=seed, after=bar.update
            )
            first = reference.log_sigma.clone()
            for share, score in zip(shares, scores, strict=True):
                with torch.no_grad():
                    reference.log_sigma.copy_(first + math.log(share))
                    value = float(objective.value(reference))
                sigma = float(reference.log_sigma.mean().exp())
                rows.append({"family": name, "sigma": sigma, "objective": value, "score": score})
                places.append((index, share))
    table = pd.DataFrame(rows)
    best = int(table["objective" if table["score"].isna().all() else "score"].to_numpy().argmin())
    table["chosen"] = [k == best for k in range(len(table))]
    return table, *places[best]
