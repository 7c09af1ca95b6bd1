r"""Proper scores: numbers that are least, on average, for the forecast that tells the truth.

For an outcome y and members :math:`x^{(1)}, \dots, x^{(M)}` (see :mod:`~gendyn.evaluation.forecast`):

- continuous ranked probability score, of each value,
  :math:`\frac1M \sum_i |x_i - y| - \frac{1}{2M(M-1)} \sum_{i,j} |x_i - x_j|`;
- energy score, of whole paths, the same with Euclidean norms (Gneiting and Raftery 2007);
- variogram score of order p, :math:`\sum_{i,j} w_{ij} \bigl(|y_i - y_j|^p - \frac1M \sum_m |x^{(m)}_i - x^{(m)}_j|^p
  \bigr)^2` over pairs of values of a path, which sees dependence to which the energy score is nearly blind
  (Scheuerer and Hamill 2015).

All are in their fair form: their mean does not depend on the number of members (Ferro 2014). A score has no floor; what
it is worth shows beside another forecast's score, on the same outcomes.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import ndtr

from gendyn.data import Paths
from gendyn.evaluation.forecast import Forecasts, Members, forecasts
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import Scale
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, numpy_generator

__all__ = [
    "crps",
    "crps_gaussian",
    "crps_scores",
    "energy_score",
    "energy_scores",
    "score_difference",
    "variogram_score",
    "variogram_scores",
]

Outcome = Paths | torch.Tensor | Array
OnNan = Literal["raise", "count"]


def crps_gaussian(outcome: Any, mean: Any, deviation: Any) -> Array:
    r"""Return the continuous ranked probability score of Gaussian forecasts.

    .. math:: \sigma \Bigl( z\,(2\Phi(z) - 1) + 2\varphi(z) - \tfrac{1}{\sqrt\pi} \Bigr), \qquad
        z = \frac{y - \mu}{\sigma}

    Parameters
    ----------
    outcome, mean, deviation
        Arrays that broadcast; deviations are positive.

    Examples
    --------
    >>> round(float(crps_gaussian(0.5, 0.0, 1.0)), 6)
    0.331404
    """
    y, mu, sigma = (np.asarray(v, dtype=np.float64) for v in (outcome, mean, deviation))
    if not (sigma > 0).all():
        raise ValueError(f"deviations must be positive; got {float(sigma.min()):g}")
    z = (y - mu) / sigma
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(sigma * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi)))


def crps_scores(real: Outcome, generated: Members, *, on_nan: OnNan = "raise") -> Array:
    """Return the mean continuous ranked probability score of each forecast ``(n,)``, over its observed values.

    A forecast whose outcome was observed nowhere has NaN.

    Examples
    --------
    >>> crps_scores([0.0, 1.0], [[0.0, 1.0], [0.0, 1.0]]).tolist()
    [0.0, 0.0]
    """
    made = forecasts(real, generated, metric="the CRPS", on_nan=on_nan)
    return _row_means(_crps_values(made)[0], made.outcome.observed)


def crps(real: Outcome, generated: Members, *, on_nan: OnNan = "raise") -> MetricResult:
    """Return the mean continuous ranked probability score.

    Parameters
    ----------
    real
        Outcomes ``(n, T, d)`` or :class:`~gendyn.Paths`; channels are averaged as they are: put them on one scale.
    generated
        Members ``(n, M, T, d)`` or :class:`~gendyn.Paths`, see :mod:`~gendyn.evaluation.forecast`.
    on_nan
        ``"count"`` leaves out forecasts with a member that is not finite.

    Returns
    -------
    MetricResult
        The interval is that of a mean over independent forecasts; windows that overlap are not, and make it too
        narrow. ``extra`` holds ``expected``, the score that the members lead to expect (half their mean distance):
        a calibrated forecast has it; ``climatology``, the score of a forecast by all other outcomes at the same
        time, and ``skill``, one minus the ratio to it; ``by_time``, the mean at each of the times.

    Raises
    ------
    ValueError
        If outcomes or members are unfit.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> result = crps(rng.normal(size=400), rng.normal(size=(400, 50)))
    >>> result.low < 0.5642 < result.high
    True
    """
    began = time.perf_counter()
    made = forecasts(real, generated, metric="the CRPS", on_nan=on_nan)
    observed = made.outcome.observed
    values, spread = _crps_values(made)
    scores = _row_means(values, observed)
    climatology = _climatology(made.outcome.values, observed)
    value = float(np.nanmean(scores))
    extra: dict[str, Any] = {"expected": float(np.nanmean(_row_means(spread, observed))), "climatology": climatology}
    if climatology is not None and climatology > 0:
        extra["skill"] = 1 - value / climatology
    if made.outcome.times.ndim == 1:
        seen = observed.sum(axis=(0, 2))
        totals = np.where(observed, values, 0.0).sum(axis=(0, 2))
        extra["by_time"] = [float(v / c) if c else None for v, c in zip(totals, seen, strict=True)]
    return _result("CRPS", scores, made, began, extra)


def energy_scores(real: Outcome, generated: Members, *, scale: Scale = "real-std", on_nan: OnNan = "raise") -> Array:
    """Return the energy score of each forecast ``(n,)``; see :func:`energy_score`.

    Examples
    --------
    >>> energy_scores([[[3.0, 4.0]]], [[[[0.0, 0.0]], [[0.0, 0.0]]]], scale=None).tolist()
    [5.0]
    """
    return _energy_values(forecasts(real, generated, metric="the energy score", on_nan=on_nan), scale)[0]


def energy_score(
    real: Outcome, generated: Members, *, scale: Scale = "real-std", on_nan: OnNan = "raise"
) -> MetricResult:
    """Return the mean energy score of paths, taken as vectors of all their observed values.

    Parameters
    ----------
    real, generated
        Outcomes and members, see :mod:`~gendyn.evaluation.forecast`.
    scale
        Of the channels, see :func:`~gendyn.evaluation.path_set.rescale`; statistics are those of the outcomes given:
        for scores that can be compared across test sets give ``(shift, scale)`` of the training set.
    on_nan
        ``"count"`` leaves out forecasts with a member that is not finite.

    Returns
    -------
    MetricResult
        ``extra["expected"]`` is the score that the members lead to expect. The cost grows with the square of the
        members.

    Raises
    ------
    ValueError
        If outcomes, members or scale are unfit.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> result = energy_score(rng.normal(size=(400, 5, 1)), rng.normal(size=(400, 20, 5, 1)), scale=None)
    >>> result.low < 1.5045 < result.high
    True
    """
    began = time.perf_counter()
    made = forecasts(real, generated, metric="the energy score", on_nan=on_nan)
    scores, spread = _energy_values(made, scale)
    return _result("energy score", scores, made, began, {"expected": float(np.nanmean(spread))})


def variogram_scores(
    real: Outcome,
    generated: Members,
    *,
    order: float = 0.5,
    weights: Array | None = None,
    scale: Scale = "real-std",
    on_nan: OnNan = "raise",
) -> Array:
    """Return the variogram score of each forecast ``(n,)``; see :func:`variogram_score`.

    Examples
    --------
    >>> variogram_scores([[[0.0], [4.0]]], [[[[0.0], [1.0]], [[0.0], [1.0]]]], scale=None).tolist()
    [2.0]
    """
    made = forecasts(real, generated, metric="the variogram score", on_nan=on_nan)
    return _variogram_values(made, order, weights, scale)


def variogram_score(
    real: Outcome,
    generated: Members,
    *,
    order: float = 0.5,
    weights: Array | None = None,
    scale: Scale = "real-std",
    on_nan: OnNan = "raise",
) -> MetricResult:
    """Return the mean variogram score of paths: a sum over all ordered pairs of observed values.

    Parameters
    ----------
    real, generated
        Outcomes and members, see :mod:`~gendyn.evaluation.forecast`.
    order
        The power p.
    weights
        ``(T d, T d)``, symmetric and non-negative, of the pairs of values, times before channels; 1 by default.
    scale
        Of the channels, as for :func:`energy_score`.
    on_nan
        ``"count"`` leaves out forecasts with a member that is not finite.

    Raises
    ------
    ValueError
        If outcomes, members, weights or scale are unfit.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> walk, noise = rng.normal(size=(200, 8)).cumsum(1), rng.normal(size=(200, 50, 8))
    >>> variogram_score(walk, noise.cumsum(2)).value < variogram_score(walk, noise * np.sqrt(np.arange(1, 9))).value
    True
    """
    began = time.perf_counter()
    made = forecasts(real, generated, metric="the variogram score", on_nan=on_nan)
    scores = _variogram_values(made, order, weights, scale)
    return _result("variogram score", scores, made, began, {"order": order})


def score_difference(
    first: Any, second: Any, *, block: int = 1, n_bootstrap: int = 2000, seed: Seed = 0
) -> MetricResult:
    """Return how much lower the first of two forecasters scores than the second, on the same outcomes.

    Parameters
    ----------
    first, second
        Scores ``(n,)`` of the same forecasts, for example of :func:`crps_scores`; pairs with a NaN are left out.
    block
        Successive forecasts that are drawn together: give the length of a window where windows overlap.
    n_bootstrap
        Resamples of pairs behind the interval.
    seed
        Root of the randomness.

    Returns
    -------
    MetricResult
        ``value`` is the mean of second minus first: positive where the first is better. ``p_value`` is two-sided.

    Raises
    ------
    ValueError
        If the scores do not pair, or there are fewer than two blocks.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, x = rng.normal(size=300), rng.normal(size=(300, 20))
    >>> result = score_difference(crps_scores(y, x), crps_scores(y, x + 1.0))
    >>> result.low > 0
    True
    """
    began = time.perf_counter()
    one, two = (np.asarray(s, dtype=np.float64) for s in (first, second))
    if one.ndim != 1 or one.shape != two.shape:
        raise ValueError(f"scores must be those of the same forecasts, (n,) each; got {one.shape} and {two.shape}")
    gaps = two - one
    gaps = gaps[~np.isnan(gaps)]
    n = len(gaps)
    if block < 1 or n < 2 * block:
        raise ValueError(f"a paired bootstrap needs at least two blocks; got {n} pairs and blocks of {block}")
    if n_bootstrap < 2:
        raise ValueError(f"n_bootstrap must be at least 2; got {n_bootstrap}")
    root = as_seed(seed)
    rng = numpy_generator(root, "pairs")
    # Means of resamples are means of block sums: no resample is ever laid out.
    sums = np.convolve(gaps, np.ones(block), mode="valid")
    count = math.ceil(n / block)
    means = np.array([sums[rng.integers(0, len(sums), count)].mean() for _ in range(n_bootstrap)]) / block
    low, high = np.quantile(means, [0.025, 0.975])
    value = float(gaps.mean())
    beyond = min((means <= 0).mean(), (means >= 0).mean())
    return MetricResult(
        "score difference",
        value,
        float(low),
        float(high),
        None,
        n,
        n,
        min(1.0, 2 * (beyond * n_bootstrap + 1) / (n_bootstrap + 1)),
        root,
        time.perf_counter() - began,
        {"block": block, "resamples": n_bootstrap},
    )


def _result(name: str, scores: Array, made: Forecasts, began: float, extra: dict[str, Any]) -> MetricResult:
    seen = scores[~np.isnan(scores)]
    reach = 1.96 * float(seen.std(ddof=1)) / math.sqrt(len(seen)) if len(seen) > 1 else math.nan
    value = float(seen.mean())
    n, m = len(seen), made.n_members
    return MetricResult(
        name,
        value,
        value - reach if len(seen) > 1 else None,
        value + reach if len(seen) > 1 else None,
        n_real=n,
        n_generated=n * m,
        seconds=time.perf_counter() - began,
        extra=extra | {"members": m, "dropped": made.dropped},
    )


def _row_means(values: Array, observed: Any) -> Array:
    counts = observed.sum(axis=(1, 2))
    totals = np.where(observed, values, 0.0).sum(axis=(1, 2))
    return np.asarray(np.where(counts > 0, totals / np.maximum(counts, 1), np.nan))


def _half_mean_distance(ordered: Array) -> Array:
    """Return half the mean distance of two different members, from values sorted along axis 1."""
    m = ordered.shape[1]
    place = (2 * np.arange(m) - m + 1) / (m * (m - 1))
    return np.asarray(np.tensordot(place, ordered, axes=(0, 1)))


def _crps_values(made: Forecasts) -> tuple[Array, Array]:
    """Return score and expected score of each value ``(n, T, d)``."""
    values, spread = (np.empty(made.outcome.values.shape) for _ in range(2))
    for block in made.blocks():
        # About the outcome, so that large values with a small spread lose no digits.
        apart = block.members - block.outcome[:, None]
        spread[block.rows] = _half_mean_distance(np.sort(apart, axis=1))
        values[block.rows] = np.abs(apart).mean(axis=1) - spread[block.rows]
    return values, spread


def _climatology(values: Array, observed: Any) -> float | None:
    """Return the CRPS of a forecast of each outcome by all others: half their mean distance at each time."""
    total, count = 0.0, 0
    for k in range(values.shape[1]):
        for i in range(values.shape[2]):
            y = np.sort(values[observed[:, k, i], k, i])
            if len(y) > 1:
                total += len(y) * float(_half_mean_distance((y - y.mean())[None])[0])
                count += len(y)
    return total / count if count else None


def _energy_values(made: Forecasts, scale: Scale) -> tuple[Array, Array]:
    m = made.n_members
    scores, spread = (np.full(len(made), np.nan) for _ in range(2))
    size = made.members[0, 0].size
    for block in made.blocks(width=max(1, m // size), scale=scale):
        b = len(block.outcome)
        x = torch.from_numpy(np.ascontiguousarray(block.members.reshape(b, m, -1)))
        y = torch.from_numpy(np.ascontiguousarray(block.outcome.reshape(b, 1, -1)))
        near = torch.linalg.vector_norm(x - y, dim=2).mean(1)
        within = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2)) / (2 * m * (m - 1))
        seen = block.observed.any(axis=(1, 2))
        scores[block.rows] = np.where(seen, (near - within).numpy(), np.nan)
        spread[block.rows] = np.where(seen, within.numpy(), np.nan)
    return scores, spread


def _variogram_values(made: Forecasts, order: float, weights: Array | None, scale: Scale) -> Array:
    if not order > 0:
        raise ValueError(f"order must be positive; got {order}")
    n, m = len(made), made.n_members
    size = made.members[0, 0].size
    w = np.ones((size, size)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (size, size) or not np.isfinite(w).all() or (w < 0).any() or not np.allclose(w, w.T):
        raise ValueError(f"weights must be symmetric, non-negative and of shape {(size, size)}; got shape {w.shape}")
    scores = np.full(n, np.nan)
    for block in made.blocks(width=2, scale=scale):
        b = len(block.outcome)
        x, y, seen = block.members.reshape(b, m, size), block.outcome.reshape(b, size), block.observed.reshape(b, size)
        total = np.zeros(b)
        for i in range(size - 1):
            theirs = np.abs(x[:, :, i + 1 :] - x[:, :, i, None])
            theirs = np.sqrt(theirs) if order == 0.5 else theirs**order
            own = np.abs(y[:, i + 1 :] - y[:, i, None]) ** order
            # The square of a mean over members is too large by their variance over M.
            terms = (own - theirs.mean(axis=1)) ** 2 - theirs.var(axis=1, ddof=1) / m
            pairs = seen[:, i + 1 :] & seen[:, i, None]
            total += 2 * (np.where(pairs, terms, 0.0) @ w[i, i + 1 :])
        scores[block.rows] = np.where(seen.any(axis=1), total, np.nan)
    return scores
