r"""Exact optimal transport between two populations, and what is left of it when its bias is taken away.

For samples :math:`\{x_i\}` (real) and :math:`\{y_j\}` (generated) with weights :math:`a`, :math:`b` that sum to 1,

.. math:: W_p = \Big(\min_P \sum_{ij} P_{ij} \lVert x_i - y_j\rVert^p\Big)^{1/p} ,

by network simplex in float64 (a sort on the line). Between samples of equal laws it is not zero but of order
:math:`n^{-1/d}`: beyond some five dimensions most of a raw value is this bias. Halving both samples measures it:

.. math:: D = W_2^2(x, y) - \tfrac12 \big(W_2^2(x, x') + W_2^2(y, y')\big)

with disjoint halves :math:`x, x'` and :math:`y, y'` of one size has expectation zero under equal laws, and may be
negative.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from gendyn.coupling import transport_cost
from gendyn.coupling.cost import cost_matrix
from gendyn.evaluation.line_transport import check_power, line_powers
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.points import Array, Points, points
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["debiased_wasserstein", "wasserstein", "wasserstein_value"]

_LARGEST = 5000
"""Points per side beyond which an exact plan takes minutes."""

_BOOTSTRAP_SIZE = 500
"""Points per resample, whose cost grows with the cube."""

_PIVOTS = 10_000_000


def wasserstein_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 1,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    max_iterations: int = _PIVOTS,
) -> float:
    """Return the exact Wasserstein distance ``W_p`` alone, with Euclidean ground distance, in float64.

    Raises
    ------
    TransportError
        If the solver stops before its answer is exact.

    Examples
    --------
    >>> wasserstein_value(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
    5.0
    """
    check_power(p)
    x, y = points(real, generated, weights_real, weights_generated)
    return float(_power(x, y, p, max_iterations) ** (1 / p))


def wasserstein(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 1,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    max_size: int = _LARGEST,
) -> MetricResult:
    """Return the exact Wasserstein distance with floor and interval.

    Parameters
    ----------
    real, generated
        Samples ``(n, d)`` and ``(m, d)``; sizes may differ.
    p
        1 (mean distance) or 2 (root of the mean squared distance); the root is always taken.
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples of at most 500 points behind the interval; zero leaves it out.
    max_size
        Largest sample that is solved exactly; on the line there is no such limit.

    Returns
    -------
    MetricResult
        The floor is computed at half the real size, which ``extra["floor_size"]`` states; the bias falls with the size
        like ``n**(-1/d)``. See :func:`debiased_wasserstein` where it is most of the value.

    Raises
    ------
    ValueError
        If samples are unfit or larger than ``max_size``.
    TransportError
        If the solver stops before its answer is exact.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> result = wasserstein(x, x + [3.0, 4.0])
    >>> round(result.value, 4), result.floor < 1.0
    (5.0, True)
    """
    check_power(p)
    x, y = points(real, generated, weights_real, weights_generated)
    _check_size(x, y, max_size)
    return measure(
        f"W{p}",
        lambda u, v: float(_power(u, v, p) ** (1 / p)),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        bootstrap_size=_BOOTSTRAP_SIZE,
        extra={"p": p, "root": True},
    )


def debiased_wasserstein(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    max_size: int = _LARGEST,
) -> MetricResult:
    r"""Return the squared ``W_2`` less that of halves of each sample, with floor and interval; it may be negative.

    Both samples are cut into disjoint halves of one size (of the smaller sample; the rest is left out), and

    .. math:: D = \tfrac14 \sum_{a,b} W_2^2(x_a, y_b) - \tfrac12 \big(W_2^2(x_1, x_2) + W_2^2(y_1, y_2)\big) .

    Its expectation is zero under equal laws at any size, whereas a raw :math:`W_2` is then of order ``n**(-1/d)``; so
    the floor lies about zero, on either side. No root is taken.

    Parameters
    ----------
    real, generated
        Samples ``(n, d)`` and ``(m, d)`` of at least eight points; sizes may differ.
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of halves, floor and interval.
    n_bootstrap
        Resamples of at most 500 points behind the interval.
    max_size
        Largest sample that is solved exactly.

    Raises
    ------
    ValueError
        If samples are unfit, smaller than eight, or larger than ``max_size``.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(200, 10)), rng.normal(size=(200, 10))
    >>> round(wasserstein(x, y, p=2).value, 1), abs(debiased_wasserstein(x, y).value) < 0.3
    (2.4, True)
    """
    x, y = points(real, generated, weights_real, weights_generated)
    _check_size(x, y, max_size)
    if min(len(x), len(y)) < 8:
        raise ValueError(f"a debiased distance needs at least 8 points a side to halve; got {len(x)} and {len(y)}")
    key = derive_seed(as_seed(seed), "debias")
    return measure(
        "debiased W2^2",
        lambda u, v: _debiased(u, v, key),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        bootstrap_size=_BOOTSTRAP_SIZE,
        extra={"p": 2, "root": False, "half": min(len(x), len(y)) // 2},
    )


def _check_size(x: Points, y: Points, max_size: int) -> None:
    if x.values.shape[1] > 1 and max(len(x), len(y)) > max_size:
        raise ValueError(
            f"exact transport between {len(x)} and {len(y)} points is refused above {max_size}: subsample them, use "
            "sliced_wasserstein, or raise max_size and wait"
        )


def _power(x: Points, y: Points, p: int, max_iterations: int = _PIVOTS) -> float:
    """Return ``W_p^p``."""
    if x.values.shape[1] == 1:
        return float(line_powers(x.values.T, y.values.T, x.weights, y.weights, p=p)[0])
    costs = cost_matrix(x.values, y.values, "euclidean" if p == 1 else "sqeuclidean").numpy()
    return max(transport_cost(costs, x.weights, y.weights, max_iterations), 0.0)


def _debiased(x: Points, y: Points, key: int) -> float:
    half = min(len(x), len(y)) // 2
    x1, x2 = _halves(x, half, derive_seed(key, "real"))
    y1, y2 = _halves(y, half, derive_seed(key, "generated"))
    across = [_power(u, v, 2) for u in (x1, x2) for v in (y1, y2)]
    return float(np.mean(across)) - 0.5 * (_power(x1, x2, 2) + _power(y1, y2, 2))


def _halves(x: Points, half: int, key: int) -> tuple[Points, Points]:
    order = numpy_generator(key).permutation(len(x))
    one, two = order[:half], order[half : 2 * half]
    if not (x.weights[one].sum() > 0 and x.weights[two].sum() > 0):
        raise ValueError(
            "a debiased distance halves both samples; one half carries no weight, so draw points by weight"
        )
    return x.take(one), x.take(two)
