r"""Calibration: whether what was said to happen with probability p does happen in a share p of the cases.

If outcome and members are alike, the outcome's rank among M members is uniform on :math:`0, \dots, M`, and so is the
probability integral transform :math:`u = (\mathrm{rank} + V)/(M + 1)`, V uniform on [0, 1], on [0, 1]; a U-shaped
histogram means forecasts too narrow, a hump forecasts too wide, a slope a bias (Hamill 2001). An interval that leaves
out :math:`\alpha/2` on either side should hold a share :math:`1 - \alpha` of the outcomes.

The values of one path are not independent cases: intervals and p-values divide the number of cases by the design
effect, the variance of the share between paths over that of independent cases (Kish 1965; Rao and Scott 1981).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import chi2

from gendyn.data import Paths
from gendyn.data.checks import warn_user
from gendyn.evaluation.forecast import Forecasts, Members, forecasts
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, numpy_generator

__all__ = ["coverage", "pit", "pit_histogram", "rank_histogram"]

Outcome = Paths | torch.Tensor | Array
OnNan = Literal["raise", "count"]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def pit(real: Outcome, generated: Members, *, seed: Seed = 0) -> Array:
    """Return the probability integral transform of each outcome ``(n, T, d)``, NaN where nothing was observed.

    Ties between outcome and members are broken at random, as is the place within a rank.

    Examples
    --------
    >>> u = pit([0.5], [[0.0, 1.0, 2.0]])
    >>> bool(0.25 <= u[0, 0, 0] < 0.5)
    True
    """
    made = forecasts(real, generated, metric="the probability integral transform")
    return _pit(made, as_seed(seed))


def pit_histogram(values: Any, *, bins: int = 20, metric: str = "PIT histogram") -> MetricResult:
    """Return how far a histogram of probability integral transforms is from flat.

    Parameters
    ----------
    values
        ``(n, ...)`` in [0, 1], NaN where nothing was observed: of :func:`pit`, or the outcome's place in a cumulative
        distribution known in closed form. Rows are independent, values of a row need not be.
    bins
        Number of cells.
    metric
        Name of the result.

    Returns
    -------
    MetricResult
        ``value`` is the total variation distance from flat, the share of cases that would have to move; ``floor`` what
        chance alone makes of it on average, ``p_value`` that of a chi-square test, both at the number of cases divided
        by the design effect. ``extra`` holds ``counts``, ``design_effect`` and ``mean`` (0.5 without bias).

    Raises
    ------
    ValueError
        If values lie outside [0, 1] or are all missing, or there are fewer than two bins.

    Examples
    --------
    >>> flat = pit_histogram(np.random.default_rng(0).random(1000))
    >>> flat.p_value > 0.01, round(pit_histogram(np.full(1000, 0.5)).value, 6)
    (True, 0.95)
    """
    began = time.perf_counter()
    u = np.asarray(values, dtype=np.float64)
    u = u.reshape(len(u), -1) if u.ndim else u.reshape(1, 1)
    seen = ~np.isnan(u)
    if bins < 2:
        raise ValueError(f"bins must be at least 2; got {bins}")
    if not seen.any():
        raise ValueError("no outcome was observed; there is nothing to count")
    if not ((u[seen] >= 0) & (u[seen] <= 1)).all():
        raise ValueError(f"values must lie in 0 to 1; got {u[seen].min():g} to {u[seen].max():g}")
    cell = np.where(seen, np.minimum(np.floor(np.where(seen, u, 0.0) * bins), bins - 1), bins).astype(np.int64)
    by_row = np.bincount(
        (np.arange(len(u))[:, None] * (bins + 1) + cell).reshape(-1), minlength=len(u) * (bins + 1)
    ).reshape(len(u), bins + 1)[:, :bins]
    counts = by_row.sum(axis=0)
    total = int(counts.sum())
    effect = _design_effect(by_row, 1 / bins)
    cases = total / effect
    statistic = float(((counts - total / bins) ** 2).sum() * bins / total / effect)
    return MetricResult(
        metric,
        float(np.abs(counts / total - 1 / bins).sum() / 2),
        floor=bins * math.sqrt((1 / bins) * (1 - 1 / bins) / (2 * math.pi * cases)),
        n_real=int(seen.any(axis=1).sum()),
        p_value=float(chi2.sf(statistic, bins - 1)),
        seconds=time.perf_counter() - began,
        extra={"counts": counts.tolist(), "bins": bins, "design_effect": effect, "mean": float(u[seen].mean())},
    )


def rank_histogram(
    real: Outcome, generated: Members, *, bins: int | None = None, seed: Seed = 0, on_nan: OnNan = "raise"
) -> MetricResult:
    """Return how far the histogram of the outcomes' ranks among their members is from flat.

    Parameters
    ----------
    real, generated
        Outcomes and members, see :mod:`~gendyn.evaluation.forecast`.
    bins
        Number of cells; by default M + 1, one for each rank, or fewer such that ten cases are expected in each.
    seed
        Of ties, and of ranks that lie across cells.
    on_nan
        ``"count"`` leaves out forecasts with a member that is not finite.

    Returns
    -------
    MetricResult
        As of :func:`pit_histogram`. All values of all paths are pooled: a forecast that is too wide at first and too
        narrow later may look calibrated; look at parts of it too.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> narrow = rank_histogram(rng.normal(size=500), 0.5 * rng.normal(size=(500, 9)))
    >>> len(narrow.extra["counts"]), narrow.p_value < 1e-6
    (10, True)
    """
    began = time.perf_counter()
    made = forecasts(real, generated, metric="a rank histogram", on_nan=on_nan)
    root = as_seed(seed)
    if bins is None:
        cases = int(made.outcome.observed.sum())
        bins = min(made.n_members + 1, max(2, cases // 10))
    result = pit_histogram(_pit(made, root), bins=bins, metric="rank histogram")
    extra = dict(result.extra) | {"members": made.n_members, "dropped": made.dropped}
    return replace(
        result,
        seed=root,
        n_generated=result.n_real * made.n_members,
        seconds=time.perf_counter() - began,
        extra=extra,
    )


def coverage(
    real: Outcome,
    generated: Members,
    *,
    level: float = 0.9,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    on_nan: OnNan = "raise",
) -> MetricResult:
    """Return the share of outcomes inside the central interval of their members.

    Parameters
    ----------
    real, generated
        Outcomes and members, see :mod:`~gendyn.evaluation.forecast`.
    level
        Nominal share of the interval whose coverage is the value.
    levels
        Further nominal shares, for ``extra``.
    on_nan
        ``"count"`` leaves out forecasts with a member that is not finite.

    Returns
    -------
    MetricResult
        ``low`` and ``high`` are Wilson's interval, at the number of cases divided by the design effect. ``extra``
        holds, for each of ``levels``, ``shares``, ``low`` and ``high``; and ``widths``, the mean width of the interval,
        for each channel. Ends of intervals are the quantiles whose coverage is exact for M members, at
        :math:`p (M + 1)` among the sorted ones.

    Raises
    ------
    ValueError
        If outcomes or members are unfit, a level lies outside (0, 1), or M members are too few for ``level``. Levels of
        ``levels`` for which they are too few are left out with a warning.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> result = coverage(rng.normal(size=1000), rng.normal(size=(1000, 99)))
    >>> abs(result.value - 0.9) < 0.03
    True
    """
    began = time.perf_counter()
    made = forecasts(real, generated, metric="coverage", on_nan=on_nan)
    for share in (level, *levels):
        if not 0 < share < 1:
            raise ValueError(f"levels must lie between 0 and 1; got {share}")
    m, observed = made.n_members, made.outcome.observed
    if _members_needed(level) > m:
        raise ValueError(
            f"an interval of {level:.0%} needs at least {_members_needed(level)} members; got {m}: "
            "draw more, or lower level"
        )
    asked = sorted({level, *levels})
    kept = [share for share in asked if _members_needed(share) <= m]
    if len(kept) < len(asked):
        lost = ", ".join(f"{share:.0%}" for share in asked if share not in kept)
        warn_user(f"{m} members are too few for intervals of {lost}, which are left out")
    inside = np.empty((len(kept), *observed.shape), dtype=bool)
    widths = np.zeros((len(kept), made.outcome.dim))
    for block in made.blocks():
        tails = [(1 - share) / 2 for share in kept]
        ends = np.quantile(block.members, tails + [1 - a for a in tails], axis=1, method="weibull")
        below, above = ends[: len(kept)], ends[len(kept) :]
        inside[:, block.rows] = (below <= block.outcome) & (block.outcome <= above)
        widths += np.where(block.observed, above - below, 0.0).sum(axis=(1, 2))
    widths /= observed.sum(axis=(0, 1))
    rows = [_share(z, observed) for z in inside]
    share, low, high, effect = rows[kept.index(level)]
    n = int(observed.any(axis=(1, 2)).sum())
    return MetricResult(
        f"coverage {level:.0%}",
        share,
        low,
        high,
        n_real=n,
        n_generated=n * m,
        seconds=time.perf_counter() - began,
        extra={
            "level": level,
            "levels": kept,
            "shares": [row[0] for row in rows],
            "low": [row[1] for row in rows],
            "high": [row[2] for row in rows],
            "widths": {name: widths[:, i].tolist() for i, name in enumerate(made.outcome.names)},
            "design_effect": effect,
            "members": m,
            "dropped": made.dropped,
        },
    )


def _members_needed(level: float) -> int:
    """Return how many members make an interval of this level end inside their range."""
    return math.ceil(2 / (1 - level) - 1 - 1e-9)


def _pit(made: Forecasts, seed: int) -> Array:
    rng = numpy_generator(seed, "ranks")
    u = np.empty(made.outcome.values.shape)
    for block in made.blocks():
        below = (block.members < block.outcome[:, None]).sum(axis=1)
        ties = (block.members == block.outcome[:, None]).sum(axis=1)
        # Uniform over the tied ranks and within a rank at once.
        u[block.rows] = (below + rng.random(below.shape) * (ties + 1)) / (made.n_members + 1)
    return np.where(made.outcome.observed, u, np.nan)


def _design_effect(by_row: np.ndarray[Any, Any], expected: float) -> float:
    """Return the mean variance of the shares of cells between rows, over that of independent cases; at least 1.

    ``by_row`` holds counts ``(n, K)`` of the cells of each row; ``expected`` is the share of each cell.
    """
    sizes = by_row.sum(axis=1)
    n, total = int((sizes > 0).sum()), int(sizes.sum())
    if n < 2 or n == total:
        return 1.0
    shares = by_row.sum(axis=0) / total
    between = n / (n - 1) * ((by_row - shares * sizes[:, None]) ** 2).sum(axis=0) / total**2
    independent = expected * (1 - expected) / total
    return max(1.0, float(between.mean() / independent)) if independent > 0 else 1.0


def _share(inside: Bools, observed: Bools) -> tuple[float, float, float, float]:
    """Return the share of cases inside, Wilson's interval, and the design effect."""
    hits = (inside & observed).sum(axis=(1, 2))
    sizes = observed.sum(axis=(1, 2))
    total = int(sizes.sum())
    p = float(hits.sum() / total)
    effect = _design_effect(np.stack([hits, sizes - hits], axis=1), p)
    n, z = total / effect, 1.959963984540054
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return p, middle - reach, middle + reach, effect
