r"""Frechet distances: optimal transport between Gaussians fitted to two samples, of points or of features of paths.

.. math:: F = \lvert m_1 - m_2 \rvert^2 + \operatorname{tr}\big(S_1 + S_2 - 2 (S_1 S_2)^{1/2}\big)
    = \lvert m_1 - m_2 \rvert^2 + \operatorname{tr}(S_1 + S_2) - 2 \sum_i \sqrt{\lambda_i(S_1 S_2)}

is the squared :math:`W_2` between Gaussians (Dowson and Landau 1982). Estimated from ``n`` points a side it is biased
upward, by about :math:`0.55\, D^2 / n` for white features of dimension ``D``: equal laws seem apart, and a larger
sample looks better. The bias is linear in ``1/n``, so it is taken away by a straight line through the values at ``n``,
``n/2`` and ``n/4`` (Chong and Forsyth 2020): with the last two averaged over disjoint parts, least squares give

.. math:: F_\infty = F_n + \tfrac12 F_{n/2} - \tfrac12 F_{n/4} ,

which may be slightly negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.points import Array, Points, points
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["extrapolated_frechet", "frechet_distance", "gaussian_frechet"]

_EXTRAPOLATION = np.array([1.0, 0.5, -0.5])
"""Weights of the values at ``n``, ``n/2`` and ``n/4`` in the intercept of their least-squares line in ``1/n``."""


def gaussian_frechet(mean1: Array, covariance1: Array, mean2: Array, covariance2: Array) -> float:
    """Return the Frechet distance of two Gaussians: the squared ``W_2``, no root taken.

    Parameters
    ----------
    mean1, mean2
        ``(d,)``.
    covariance1, covariance2
        ``(d, d)``, symmetric and positive semi-definite; singular ones are welcome.

    Raises
    ------
    ValueError
        If shapes do not fit, or a number is not finite.

    Examples
    --------
    >>> gaussian_frechet(np.zeros(1), np.eye(1), np.ones(1), 4 * np.eye(1))
    2.0
    """
    mean1, mean2 = np.asarray(mean1, dtype=np.float64), np.asarray(mean2, dtype=np.float64)
    first, second = np.asarray(covariance1, dtype=np.float64), np.asarray(covariance2, dtype=np.float64)
    d = mean1.size
    if not (mean1.shape == mean2.shape == (d,) and first.shape == second.shape == (d, d)):
        raise ValueError(
            "means must be (d,) and covariances (d, d); got "
            f"{mean1.shape}, {first.shape}, {mean2.shape} and {second.shape}"
        )
    if not all(np.isfinite(part).all() for part in (mean1, mean2, first, second)):
        raise ValueError("means and covariances must be finite; got NaN or infinity")
    # The eigenvalues of S1 S2 are those of the symmetric A' S2 A with S1 = A A', which rounding cannot make complex.
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    shared = np.linalg.eigvalsh(root.T @ second @ root)
    gap = mean1 - mean2
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.sqrt(np.maximum(shared, 0.0)).sum())


def frechet_distance(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the Frechet distance of two populations, extrapolated to infinite samples, with floor and interval.

    It compares means and covariances and is blind to everything else. No root is taken.

    Parameters
    ----------
    real, generated
        Samples ``(n, d)`` and ``(m, d)``; sizes may differ, but at least ``8 (d + 1)`` real and ``4 (d + 1)`` generated
        points are needed.
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of parts, floor and interval.
    n_bootstrap
        Resamples behind the interval.

    Returns
    -------
    MetricResult
        ``extra`` holds the raw values ``at_n``, ``at_half`` and ``at_quarter``. The floor, from halves of the real
        sample, is extrapolated too and lies about zero.

    Raises
    ------
    ValueError
        If samples are unfit or too small.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 2))
    >>> round(frechet_distance(x, x + [1.0, 0.0]).value, 1)
    1.0
    """
    x, y = points(real, generated, weights_real, weights_generated)
    return extrapolated_frechet("Frechet distance", x, y, seed=seed, n_bootstrap=n_bootstrap)


def extrapolated_frechet(
    name: str, x: Points, y: Points, *, seed: Seed, n_bootstrap: int, extra: dict[str, Any] | None = None
) -> MetricResult:
    """Return what :func:`frechet_distance` does, of samples that have passed the door."""
    root = as_seed(seed)
    dim = x.values.shape[1]
    for side, sample, needed in (("real", x, 8 * (dim + 1)), ("generated", y, 4 * (dim + 1))):
        if len(sample) < needed:
            raise ValueError(
                f"{name} compares covariances of quarters in {dim} dimensions, which takes at least {needed} {side} "
                f"rows (real ones are halved for the floor too); got {len(sample)}"
            )
    stages = _stages(x, y, root)
    return measure(
        name,
        lambda u, v: float(_EXTRAPOLATION @ _stages(u, v, root)),
        x,
        y,
        seed=root,
        n_bootstrap=n_bootstrap,
        extra=dict(extra or {}) | dict(zip(("at_n", "at_half", "at_quarter"), stages.tolist(), strict=True)),
    )


def _stages(x: Points, y: Points, root: int) -> Array:
    """Return the distance at ``n``, ``n/2`` and ``n/4``, averaged over disjoint parts."""
    orders = [numpy_generator(derive_seed(root, "parts", k)).permutation(len(side)) for k, side in enumerate((x, y))]
    return np.array(
        [
            np.mean(
                [
                    gaussian_frechet(*_moments(x, rows), *_moments(y, columns))
                    for rows, columns in zip(*(np.array_split(order, parts) for order in orders), strict=True)
                ]
            )
            for parts in (1, 2, 4)
        ]
    )


def _moments(x: Points, rows: np.ndarray[Any, Any]) -> tuple[Array, Array]:
    values, weights = x.values[rows], x.weights[rows]
    if not weights.sum() > 0:
        raise ValueError("a quarter of the sample carries no weight; draw points by their weights first")
    weights = weights / weights.sum()
    mean = weights @ values
    centred = values - mean
    # An effectively single point has no covariance; its denominator is rounding.
    return mean, (weights * centred.T) @ centred / max(1 - float(weights @ weights), 1e-12)
