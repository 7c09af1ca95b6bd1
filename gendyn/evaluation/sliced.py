r"""Sliced distances: optimal transport of what is seen along a line, over many directions.

.. math::
    SW_p^p = \frac1L \sum_\ell W_p^p(\theta_\ell^\top x, \theta_\ell^\top y), \qquad
    \max SW_p^p = \max_\ell W_p^p(\theta_\ell^\top x, \theta_\ell^\top y) .

(Bonneel et al. 2015; Deshpande et al. 2019.) On the line there is one direction. In the plane the directions are a
grid of equal angles over a half turn, on which the mean of a smooth periodic function converges faster than any power
of ``1/L``. In more dimensions they are drawn from the sphere: the mean then has a Monte-Carlo error, and the maximum
is that of the directions drawn, a lower bound.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from gendyn.evaluation.line_transport import check_power, line_powers
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.points import Array, Points, points
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["max_sliced_wasserstein", "sliced_wasserstein", "sliced_wasserstein_value"]


def sliced_wasserstein_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 2,
    n_directions: int = 256,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
) -> float:
    """Return the sliced Wasserstein distance alone.

    Examples
    --------
    >>> round(sliced_wasserstein_value(np.zeros((5, 1)), np.ones((5, 1))), 6)
    1.0
    """
    check_power(p)
    x, y = points(real, generated, weights_real, weights_generated)
    return _mean(x, y, p, _directions(n_directions, x.values.shape[1], seed))


def sliced_wasserstein(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 2,
    n_directions: int = 256,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the sliced Wasserstein distance with floor and interval; cheap at any size.

    Parameters
    ----------
    real, generated
        Samples ``(n, d)`` and ``(m, d)``; sizes may differ.
    p
        The order; the root is taken of the mean over directions.
    n_directions
        Directions; in more than two dimensions 200 or more.
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of directions, floor and interval.
    n_bootstrap
        Resamples behind the interval.

    Returns
    -------
    MetricResult
        ``extra`` holds ``direction_error``, the standard error of the value from the finite number of directions (in
        the plane: how far the value lies from that of every second angle), and ``max_sliced``, see
        :func:`max_sliced_wasserstein`.

    Raises
    ------
    ValueError
        If samples are unfit, or there is no direction.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 3))
    >>> sliced_wasserstein(x, x).value
    0.0
    """
    check_power(p)
    x, y = points(real, generated, weights_real, weights_generated)
    directions = _directions(n_directions, x.values.shape[1], seed)
    powers = _powers(x, y, p, directions)
    extra = {
        "p": p,
        "n_directions": len(directions),
        "direction_error": _direction_error(powers, p, x.values.shape[1]),
        "max_sliced": float(powers.max() ** (1 / p)),
    }
    return measure(
        f"sliced W{p}",
        lambda u, v: _mean(u, v, p, directions),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra=extra,
    )


def max_sliced_wasserstein(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 2,
    n_directions: int = 256,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the Wasserstein distance along the direction, of those tried, that tells the samples apart best.

    Arguments and errors are those of :func:`sliced_wasserstein`, whose directions are used. ``extra["direction"]`` is
    the direction found. In many dimensions random directions find a lower bound of the true maximum.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 2))
    >>> result = max_sliced_wasserstein(x, x + [0.0, 1.0], n_directions=257)
    >>> round(result.value, 3), [round(abs(c), 3) for c in result.extra["direction"]]
    (1.0, [0.0, 1.0])
    """
    check_power(p)
    x, y = points(real, generated, weights_real, weights_generated)
    directions = _directions(n_directions, x.values.shape[1], seed)
    best = directions[_powers(x, y, p, directions).argmax()]
    return measure(
        f"max-sliced W{p}",
        lambda u, v: float(_powers(u, v, p, directions).max() ** (1 / p)),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra={"p": p, "n_directions": len(directions), "direction": best.tolist()},
    )


def _directions(count: int, dim: int, seed: Seed) -> Array:
    """Return unit vectors ``(L, d)``."""
    if count < 1:
        raise ValueError(f"n_directions must be at least 1; got {count}")
    if dim == 1:
        return np.ones((1, 1))
    if dim == 2:
        angles = np.pi * (np.arange(count) + 0.5) / count
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    z = numpy_generator(derive_seed(as_seed(seed), "directions")).normal(size=(count, dim))
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))


def _powers(x: Points, y: Points, p: int, directions: Array) -> Array:
    """Return ``W_p^p`` along each direction ``(L,)``."""
    powers = np.empty(len(directions))
    # Bounded memory: as many directions at once as make about a million projections.
    width = max(1, int(1e6 // max(len(x), len(y))))
    for start in range(0, len(powers), width):
        along = directions[start : start + width]
        powers[start : start + width] = line_powers(along @ x.values.T, along @ y.values.T, x.weights, y.weights, p=p)
    return powers


def _mean(x: Points, y: Points, p: int, directions: Array) -> float:
    return float(_powers(x, y, p, directions).mean() ** (1 / p))


def _direction_error(powers: Array, p: int, dim: int) -> float:
    value = powers.mean() ** (1 / p)
    if len(powers) < 2 or not value > 0:
        return 0.0
    if dim == 2:
        return float(abs(value - powers[::2].mean() ** (1 / p)))
    return float(powers.std(ddof=1) / np.sqrt(len(powers)) / (p * value ** (p - 1)))
