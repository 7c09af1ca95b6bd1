r"""Distances between two populations, each with its sampling floor and interval.

For samples :math:`\{x_i\}` (real) and :math:`\{y_j\}` (generated) with normalised weights:

- exact Wasserstein :math:`W_p = (\min_{P} \sum P_{ij} \lVert x_i - y_j\rVert^p)^{1/p}`, by network simplex in float64;
- sliced Wasserstein :math:`SW_p = (\frac1L \sum_\ell W_p^p(\theta_\ell^\top x, \theta_\ell^\top y))^{1/p}`;
- energy distance :math:`2 E\lVert X-Y\rVert - E\lVert X-X'\rVert - E\lVert Y-Y'\rVert` (no root);
- squared maximum mean discrepancy :math:`E k(X,X') + E k(Y,Y') - 2 E k(X,Y)` for Gaussian kernels.

All but the unbiased last two have a positive expectation for equal laws: read them against the floor, which is the
same metric between two disjoint random halves of the real sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import ot
import torch
from torch import Tensor

from gendyn.coupling import transport_cost
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.points import Array, Points, points
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = [
    "energy_distance",
    "energy_value",
    "mmd",
    "mmd_value",
    "sliced_wasserstein",
    "sliced_wasserstein_value",
    "wasserstein",
    "wasserstein_value",
]

_LARGEST = 5000
"""Points per side beyond which an exact plan takes minutes."""

_BOOTSTRAP_SIZE = 500
"""Points per resample of an optimal-transport metric, whose cost grows with the cube."""


def wasserstein_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 1,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
    max_iterations: int = 10_000_000,
) -> float:
    """Return the exact Wasserstein distance ``W_p`` alone, with Euclidean ground distance, in float64.

    Raises
    ------
    TransportError
        If the solver stops before its answer is exact.

    Examples
    --------
    >>> wasserstein_value(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    5.0
    """
    x, y = points(real, generated, weights_real, weights_generated)
    return _wasserstein(x, y, p, max_iterations)


def wasserstein(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 1,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
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
        1 (mean distance) or 2 (root of the mean squared distance).
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples of at most 500 points behind the interval; zero leaves it out.
    max_size
        Largest sample that is solved exactly.

    Returns
    -------
    MetricResult
        The floor is computed at half the real size, which ``extra["floor_size"]`` states; the bias falls with the size
        like ``n**(-1/d)``.

    Raises
    ------
    ValueError
        If samples are unfit or larger than ``max_size``.

    Examples
    --------
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> result = wasserstein(x, x + torch.tensor([3.0, 4.0]))
    >>> round(result.value, 4), result.floor < 1.0
    (5.0, True)
    """
    _check_size(real, generated, max_size)
    return measure(
        f"W{p}",
        lambda x, y: _wasserstein(x, y, p, 10_000_000),
        *points(real, generated, weights_real, weights_generated),
        seed=seed,
        n_bootstrap=n_bootstrap,
        bootstrap_size=_BOOTSTRAP_SIZE,
    )


def sliced_wasserstein_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 2,
    n_directions: int = 256,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
    seed: Seed = 0,
) -> float:
    """Return the sliced Wasserstein distance alone.

    Examples
    --------
    >>> round(sliced_wasserstein_value(torch.zeros(5, 1), torch.ones(5, 1)), 6)
    1.0
    """
    x, y = points(real, generated, weights_real, weights_generated)
    powers = _sliced_powers(x, y, p, _directions(n_directions, x.values.shape[1], seed))
    return float(powers.mean() ** (1 / p))


def sliced_wasserstein(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    p: Literal[1, 2] = 2,
    n_directions: int = 256,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the sliced Wasserstein distance with floor and interval; cheap at any size.

    ``extra`` holds ``max_sliced`` (the largest over the same directions) and ``direction_error`` (the Monte-Carlo
    standard error of the value from the finite number of directions).

    Examples
    --------
    >>> x = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    >>> sliced_wasserstein(x, x).value
    0.0
    """
    x, y = points(real, generated, weights_real, weights_generated)
    directions = _directions(n_directions, x.values.shape[1], seed)
    powers = _sliced_powers(x, y, p, directions)
    value = float(powers.mean() ** (1 / p))
    spread = float(powers.std(ddof=1) / np.sqrt(len(powers))) if len(powers) > 1 else 0.0
    result = measure(
        f"sliced W{p}",
        lambda u, v: float(_sliced_powers(u, v, p, directions).mean() ** (1 / p)),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
    )
    error = spread / (p * value ** (p - 1)) if value > 0 else 0.0
    extra = dict(result.extra) | {"max_sliced": float(powers.max() ** (1 / p)), "direction_error": error}
    return MetricResult(**(result.to_dict() | {"extra": extra}))


def energy_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    unbiased: bool = True,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
) -> float:
    """Return the energy distance alone: the U-statistic (unbiased, may be negative) or the V-statistic.

    Examples
    --------
    >>> energy_value(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]]), unbiased=False)
    0.0
    """
    x, y = points(real, generated, weights_real, weights_generated)
    return _energy(x, y, unbiased)


def energy_distance(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    unbiased: bool = True,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    n_permutations: int = 0,
) -> MetricResult:
    """Return the energy distance with floor, interval and, if asked, a permutation test.

    No root is taken (Szekely and Rizzo 2013).

    Examples
    --------
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> energy_distance(x, x + 5.0, n_permutations=99).p_value
    0.01
    """
    x, y = points(real, generated, weights_real, weights_generated)
    p_value = None
    if n_permutations:
        pooled = np.concatenate([x.values, y.values])
        p_value = _permutation_test(-_euclidean(pooled), len(x), n_permutations, seed)
    return measure(
        "energy distance",
        lambda u, v: _energy(u, v, unbiased),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        p_value=p_value,
    )


def mmd_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    bandwidths: tuple[float, ...] | None = None,
    unbiased: bool = True,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
    seed: Seed = 0,
) -> float:
    """Return the squared maximum mean discrepancy alone, averaged over bandwidths.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> abs(mmd_value(x, x, bandwidths=(1.0,), unbiased=False)) < 1e-12
    True
    """
    x, y = points(real, generated, weights_real, weights_generated)
    return _mmd(x, y, unbiased, bandwidths or _median_bandwidths(x.values, seed))


def mmd(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    bandwidths: tuple[float, ...] | None = None,
    unbiased: bool = True,
    weights_real: Tensor | None = None,
    weights_generated: Tensor | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    n_permutations: int = 0,
) -> MetricResult:
    r"""Return the squared MMD of Gaussian kernels :math:`e^{-r^2 / 2\ell^2}` with floor and interval.

    See Gretton et al. (2012).
    Bandwidths are half, once and twice the median distance within the real sample by default, fixed before the
    generated sample is seen. The U-statistic is unbiased and may be negative; no root is taken.

    Examples
    --------
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> mmd(x, x + 3.0).value > 0.5
    True
    """
    x, y = points(real, generated, weights_real, weights_generated)
    scales = bandwidths or _median_bandwidths(x.values, seed)
    p_value = None
    if n_permutations:
        squares = _euclidean(np.concatenate([x.values, y.values])) ** 2
        kernel = np.mean([np.exp(-squares / (2 * s * s)) for s in scales], axis=0)
        p_value = _permutation_test(kernel, len(x), n_permutations, seed)
    return measure(
        "MMD^2",
        lambda u, v: _mmd(u, v, unbiased, scales),
        x,
        y,
        seed=seed,
        n_bootstrap=n_bootstrap,
        p_value=p_value,
        extra={"bandwidths": list(scales)},
    )


def _check_size(real: Any, generated: Any, max_size: int) -> None:
    n, m = len(real), len(generated)
    if max(n, m) > max_size:
        raise ValueError(
            f"exact transport between {n} and {m} points is refused above {max_size}: subsample them, use "
            "sliced_wasserstein, or raise max_size and wait"
        )


def _euclidean(x: Array, y: Array | None = None) -> Array:
    first = torch.from_numpy(np.ascontiguousarray(x))
    second = first if y is None else torch.from_numpy(np.ascontiguousarray(y))
    return np.asarray(torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").numpy())


def _wasserstein(x: Points, y: Points, p: int, max_iterations: int) -> float:
    if x.values.shape[1] == 1:
        return float(ot.wasserstein_1d(x.values[:, 0], y.values[:, 0], x.weights, y.weights, p=p) ** (1 / p))
    cost = _euclidean(x.values, y.values)
    cost = cost if p == 1 else cost**2
    return float(max(transport_cost(cost, x.weights, y.weights, max_iterations), 0.0) ** (1 / p))


def _directions(count: int, dim: int, seed: Seed) -> Array:
    if count < 1:
        raise ValueError(f"n_directions must be at least 1; got {count}")
    z = numpy_generator(derive_seed(as_seed(seed), "directions")).normal(size=(dim, count))
    return np.asarray(z / np.linalg.norm(z, axis=0))


def _sliced_powers(x: Points, y: Points, p: int, directions: Array) -> Array:
    """Return ``W_p^p`` along each direction ``(L,)``."""
    powers = np.empty(directions.shape[1])
    # Bounded memory: as many directions at once as make about ten million projections.
    width = max(1, int(1e7 // max(len(x), len(y))))
    for start in range(0, len(powers), width):
        block = slice(start, start + width)
        along = directions[:, block]
        powers[block] = ot.wasserstein_1d(x.values @ along, y.values @ along, x.weights, y.weights, p=p)
    return powers


def _energy(x: Points, y: Points, unbiased: bool) -> float:
    within_x = _mean_kernel(x, x, lambda r: r, same=unbiased)
    within_y = _mean_kernel(y, y, lambda r: r, same=unbiased)
    return 2 * _mean_kernel(x, y, lambda r: r) - within_x - within_y


def _mmd(x: Points, y: Points, unbiased: bool, bandwidths: tuple[float, ...]) -> float:
    def kernel(r: Array) -> Array:
        return np.asarray(np.mean([np.exp(-(r**2) / (2 * s * s)) for s in bandwidths], axis=0))

    within_x = _mean_kernel(x, x, kernel, same=unbiased)
    within_y = _mean_kernel(y, y, kernel, same=unbiased)
    return within_x + within_y - 2 * _mean_kernel(x, y, kernel)


def _mean_kernel(x: Points, y: Points, kernel: Callable[[Array], Array], *, same: bool = False) -> float:
    """Return the weighted mean of a kernel of distances; ``same`` leaves out the pairs of a point with itself."""
    a, b = x.weights, y.weights
    if same and float(a @ a) >= 1.0:
        return 0.0  # one point has no pair
    total = 0.0
    rows = max(1, int(4e6 // len(y)))
    for start in range(0, len(x), rows):
        part = kernel(_euclidean(x.values[start : start + rows], y.values))
        if same:
            index = np.arange(len(part))
            part[index, start + index] = 0.0
        total += float(a[start : start + rows] @ part @ b)
    return total / (1.0 - float(a @ a)) if same else total


def _median_bandwidths(x: Array, seed: Seed) -> tuple[float, ...]:
    rows = x
    if len(x) > 2000:
        rows = x[numpy_generator(derive_seed(as_seed(seed), "bandwidth")).choice(len(x), 2000, replace=False)]
    if len(rows) < 2:
        raise ValueError("the bandwidth rule needs at least two real points; give bandwidths")
    median = float(np.median(_euclidean(rows)[np.triu_indices(len(rows), 1)]))
    if not median > 0:
        raise ValueError("more than half of the real points coincide, so the median distance is zero; give bandwidths")
    return (0.5 * median, median, 2.0 * median)


def _permutation_test(kernel: Array, n: int, n_permutations: int, seed: Seed) -> float:
    """Return the p-value of equal laws from a pooled kernel matrix, whose rows and columns are permuted."""
    rng = numpy_generator(derive_seed(as_seed(seed), "permutation"))
    size = len(kernel)
    m = size - n
    np.fill_diagonal(kernel, 0.0)
    column_sums = kernel.sum()

    def statistic(first: np.ndarray[Any, Any]) -> float:
        indicator = np.zeros(size)
        indicator[first] = 1.0
        product = kernel @ indicator
        xx = float(indicator @ product)
        xy = float(product.sum()) - xx
        yy = float(column_sums) - xx - 2 * xy
        return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)

    observed = statistic(np.arange(n))
    larger = sum(statistic(rng.permutation(size)[:n]) >= observed for _ in range(n_permutations))
    return (1 + larger) / (n_permutations + 1)
