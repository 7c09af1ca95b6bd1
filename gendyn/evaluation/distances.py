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

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import ot
import torch
from torch import Tensor

from gendyn.coupling import transport_cost
from gendyn.data.checks import as_tensor
from gendyn.evaluation.metric import MetricResult
from gendyn.parallel import spread
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

Array = np.ndarray[Any, np.dtype[np.float64]]
Value = Callable[[Array, Array, Array, Array], float]

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
    x, y, a, b = _prepare(real, generated, weights_real, weights_generated)
    return _wasserstein(x, y, a, b, p, max_iterations)


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
    return _measure(
        f"W{p}",
        lambda x, y, a, b: _wasserstein(x, y, a, b, p, 10_000_000),
        (real, generated, weights_real, weights_generated),
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
    x, y, a, b = _prepare(real, generated, weights_real, weights_generated)
    powers = _sliced_powers(x, y, a, b, p, _directions(n_directions, x.shape[1], seed))
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
    x, y, a, b = _prepare(real, generated, weights_real, weights_generated)
    directions = _directions(n_directions, x.shape[1], seed)
    powers = _sliced_powers(x, y, a, b, p, directions)
    value = float(powers.mean() ** (1 / p))
    spread = float(powers.std(ddof=1) / np.sqrt(len(powers))) if len(powers) > 1 else 0.0
    result = _measure(
        f"sliced W{p}",
        lambda u, v, wa, wb: float(_sliced_powers(u, v, wa, wb, p, directions).mean() ** (1 / p)),
        (real, generated, weights_real, weights_generated),
        seed=seed,
        n_bootstrap=n_bootstrap,
        bootstrap_size=2000,
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
    x, y, a, b = _prepare(real, generated, weights_real, weights_generated)
    return _energy(x, y, a, b, unbiased)


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
    result = _measure(
        "energy distance",
        lambda x, y, a, b: _energy(x, y, a, b, unbiased),
        (real, generated, weights_real, weights_generated),
        seed=seed,
        n_bootstrap=n_bootstrap,
        bootstrap_size=2000,
    )
    if n_permutations:
        x, y, _, _ = _prepare(real, generated, weights_real, weights_generated)
        p_value = _permutation_test(-_euclidean(np.concatenate([x, y])), len(x), n_permutations, seed)
        result = MetricResult(**(result.to_dict() | {"p_value": p_value}))
    return result


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
    x, y, a, b = _prepare(real, generated, weights_real, weights_generated)
    return _mmd(x, y, a, b, unbiased, bandwidths or _median_bandwidths(x, seed))


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
    x, y, _, _ = _prepare(real, generated, weights_real, weights_generated)
    scales = bandwidths or _median_bandwidths(x, seed)
    result = _measure(
        "MMD^2",
        lambda u, v, a, b: _mmd(u, v, a, b, unbiased, scales),
        (real, generated, weights_real, weights_generated),
        seed=seed,
        n_bootstrap=n_bootstrap,
        bootstrap_size=2000,
    )
    changed: dict[str, Any] = {"extra": dict(result.extra) | {"bandwidths": list(scales)}}
    if n_permutations:
        squares = _euclidean(np.concatenate([x, y])) ** 2
        kernel = np.mean([np.exp(-squares / (2 * s * s)) for s in scales], axis=0)
        changed["p_value"] = _permutation_test(kernel, len(x), n_permutations, seed)
    return MetricResult(**(result.to_dict() | changed))


def _measure(
    name: str,
    value_of: Value,
    samples: tuple[Any, Any, Any, Any],
    *,
    seed: Seed,
    n_bootstrap: int,
    bootstrap_size: int,
) -> MetricResult:
    """Compute value, floor between halves, and a bootstrap interval.

    The interval is ``value -+ 1.96 s``: both samples are resampled with replacement at ``m = min(n, bootstrap_size)``
    points, and ``s`` is the standard deviation of the metric over resamples, times ``sqrt(m / n)``. It is laid about
    the value because a distance between two resamples is itself biased upward: its quantiles would not hold the value.
    """
    began = time.perf_counter()
    root = as_seed(seed)
    x, y, a, b = _prepare(*samples)
    value = value_of(x, y, a, b)
    extra: dict[str, Any] = {}
    floor = None
    half = len(x) // 2
    if half >= 2:
        order = numpy_generator(derive_seed(root, "floor")).permutation(len(x))
        one, two = order[:half], order[half : 2 * half]
        if a[one].sum() > 0 and a[two].sum() > 0:
            floor = value_of(x[one], x[two], a[one] / a[one].sum(), a[two] / a[two].sum())
            extra["floor_size"] = half
    low = high = None
    if n_bootstrap > 1:
        m, n = min(len(x), bootstrap_size), min(len(y), bootstrap_size)

        def resample(k: int) -> float:
            rng = numpy_generator(derive_seed(root, "bootstrap", k))
            one, two = x[rng.choice(len(x), m, p=a)], y[rng.choice(len(y), n, p=b)]
            return value_of(one, two, np.full(m, 1 / m), np.full(n, 1 / n))

        draws = np.array(spread(resample, range(n_bootstrap)))
        shrink = np.sqrt(min(m / len(x), n / len(y)))
        reach = float(1.96 * draws.std(ddof=1) * shrink)
        low, high = value - reach, value + reach
        extra["bootstrap"] = {"resamples": n_bootstrap, "real": m, "generated": n}
    return MetricResult(name, value, low, high, floor, len(x), len(y), None, root, time.perf_counter() - began, extra)


def _prepare(real: Any, generated: Any, weights_real: Any, weights_generated: Any) -> tuple[Array, Array, Array, Array]:
    """Return both samples in float64 and their normalised weights, or say what is wrong."""
    x, y = _matrix(real, "real"), _matrix(generated, "generated")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"real and generated must have the same number of features; got {x.shape} and {y.shape}")
    return (
        x,
        y,
        _weights(weights_real, len(x), "weights_real"),
        _weights(weights_generated, len(y), "weights_generated"),
    )


def _matrix(sample: Any, name: str) -> Array:
    tensor = sample.detach() if isinstance(sample, Tensor) else as_tensor(sample, name)
    array = tensor.cpu().numpy().astype(np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n, d) with at least one row; got {array.shape}")
    bad = ~np.isfinite(array).all(1)
    if bad.any():
        raise ValueError(f"{name} must be finite; got NaN or infinity in {bad.sum()} of {len(array)} rows")
    return array


def _weights(weights: Any, n: int, name: str) -> Array:
    if weights is None:
        return np.full(n, 1.0 / n)
    w = (weights.detach().cpu().numpy() if isinstance(weights, Tensor) else np.asarray(weights)).astype(np.float64)
    if w.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},); got {w.shape}")
    if not np.isfinite(w).all() or (w < 0).any() or not w.sum() > 0:
        raise ValueError(f"{name} must be finite, non-negative and not all zero")
    return np.asarray(w / w.sum())


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


def _wasserstein(x: Array, y: Array, a: Array, b: Array, p: int, max_iterations: int) -> float:
    if x.shape[1] == 1:
        return float(ot.wasserstein_1d(x[:, 0], y[:, 0], a, b, p=p) ** (1 / p))
    cost = _euclidean(x, y)
    cost = cost if p == 1 else cost**2
    return float(max(transport_cost(cost, a, b, max_iterations), 0.0) ** (1 / p))


def _directions(count: int, dim: int, seed: Seed) -> Array:
    if count < 1:
        raise ValueError(f"n_directions must be at least 1; got {count}")
    z = numpy_generator(derive_seed(as_seed(seed), "directions")).normal(size=(dim, count))
    return np.asarray(z / np.linalg.norm(z, axis=0))


def _sliced_powers(x: Array, y: Array, a: Array, b: Array, p: int, directions: Array) -> Array:
    """Return ``W_p^p`` along each direction ``(L,)``."""
    powers = np.empty(directions.shape[1])
    # Bounded memory: as many directions at once as make about ten million projections.
    width = max(1, int(1e7 // max(len(x), len(y))))
    for start in range(0, len(powers), width):
        block = slice(start, start + width)
        powers[block] = ot.wasserstein_1d(x @ directions[:, block], y @ directions[:, block], a, b, p=p)
    return powers


def _energy(x: Array, y: Array, a: Array, b: Array, unbiased: bool) -> float:
    within_x = _mean_kernel(x, x, a, a, lambda r: r, same=unbiased)
    within_y = _mean_kernel(y, y, b, b, lambda r: r, same=unbiased)
    return 2 * _mean_kernel(x, y, a, b, lambda r: r) - within_x - within_y


def _mmd(x: Array, y: Array, a: Array, b: Array, unbiased: bool, bandwidths: tuple[float, ...]) -> float:
    def kernel(r: Array) -> Array:
        return np.asarray(np.mean([np.exp(-(r**2) / (2 * s * s)) for s in bandwidths], axis=0))

    within_x = _mean_kernel(x, x, a, a, kernel, same=unbiased)
    within_y = _mean_kernel(y, y, b, b, kernel, same=unbiased)
    return within_x + within_y - 2 * _mean_kernel(x, y, a, b, kernel)


def _mean_kernel(
    x: Array, y: Array, a: Array, b: Array, kernel: Callable[[Array], Array], *, same: bool = False
) -> float:
    """Return the weighted mean of a kernel of distances; ``same`` leaves out the pairs of a point with itself."""
    if same and float(a @ a) >= 1.0:
        return 0.0  # one point has no pair
    total = 0.0
    rows = max(1, int(4e6 // len(y)))
    for start in range(0, len(x), rows):
        part = kernel(_euclidean(x[start : start + rows], y))
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
