r"""Distances between two populations through a kernel: energy distance and maximum mean discrepancy.

For independent draws :math:`X, X'` of the one law and :math:`Y, Y'` of the other,

- energy distance :math:`2 E\lVert X-Y\rVert - E\lVert X-X'\rVert - E\lVert Y-Y'\rVert` (no root; Szekely and Rizzo
  2013);
- squared maximum mean discrepancy :math:`E k(X,X') + E k(Y,Y') - 2 E k(X,Y)` for Gaussian kernels
  :math:`k = e^{-r^2/2\ell^2}` (Gretton et al. 2012).

Both are :math:`E k + E k - 2 E k`, the first with :math:`k = -r`. The V-statistic takes the pairs of a point with
itself into the means, is never negative and is biased upward; the U-statistic leaves them out, is unbiased, and may
be negative. Where the pooled kernel matrix fits into memory it is computed once, and value, floor, interval and
permutation test are all read off it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist, pdist
from torch import Tensor

from gendyn.coupling.cost import is_uniform
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.permutation import permutation_test
from gendyn.evaluation.points import Array, Points, points
from gendyn.evaluation.pooled import discrepancy, pooled_rows
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["energy_distance", "energy_value", "median_bandwidths", "mmd", "mmd_value"]

Kernel = Callable[[Array], Array]
"""A function of distances, which it may overwrite."""

_LARGEST_GRAM = 8000
"""Pooled rows up to which the kernel matrix is kept: 512 MB."""

_BLOCK = 4_000_000
"""Entries of a kernel matrix that are computed at once."""

_ROWS = 256
"""Rows at once of a matrix of which only one half is computed."""


def energy_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    unbiased: bool = True,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
) -> float:
    """Return the energy distance alone: the U-statistic (unbiased, may be negative) or the V-statistic.

    Examples
    --------
    >>> energy_value(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]), unbiased=False)
    0.0
    """
    return _value(*points(real, generated, weights_real, weights_generated), _minus, unbiased)


def energy_distance(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    unbiased: bool = True,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    n_permutations: int = 0,
) -> MetricResult:
    """Return the energy distance with floor, interval and, if asked, a permutation test.

    No root is taken. Cost and memory grow with ``(n + m)**2``.

    Parameters
    ----------
    real, generated
        Samples ``(n, d)`` and ``(m, d)``; sizes may differ.
    unbiased
        Whether pairs of a point with itself are left out.
    weights_real, weights_generated
        Weights, normalised to sum 1; uniform by default.
    seed
        Root of the randomness of floor, interval and test.
    n_bootstrap
        Resamples behind the interval.
    n_permutations
        Permutations of a test of equal laws (199 to 999 are usual), which takes at most 4,000 points a side and says
        so in ``extra["permutation"]``.

    Raises
    ------
    ValueError
        If samples are unfit, or a test is asked for of weighted points.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> energy_distance(x, x + 5.0, n_permutations=99).p_value
    0.01
    """
    x, y = points(real, generated, weights_real, weights_generated)
    return _compare("energy distance", x, y, _minus, unbiased, seed, n_bootstrap, n_permutations, {})


def mmd_value(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    bandwidths: tuple[float, ...] | None = None,
    unbiased: bool = True,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
) -> float:
    """Return the squared maximum mean discrepancy alone, averaged over bandwidths.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0]])
    >>> abs(mmd_value(x, x, bandwidths=(1.0,), unbiased=False)) < 1e-12
    True
    """
    x, y = points(real, generated, weights_real, weights_generated)
    return _value(x, y, _gaussian(_bandwidths(bandwidths, x.values, seed)), unbiased)


def mmd(
    real: Tensor | Array,
    generated: Tensor | Array,
    *,
    bandwidths: tuple[float, ...] | None = None,
    unbiased: bool = True,
    weights_real: Tensor | Array | None = None,
    weights_generated: Tensor | Array | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    n_permutations: int = 0,
) -> MetricResult:
    r"""Return the squared MMD of Gaussian kernels :math:`e^{-r^2 / 2\ell^2}` with floor and interval.

    Bandwidths :math:`\ell` are half, once and twice the median distance within the real sample by default, fixed before
    the generated sample is seen; the kernel is the mean over them. No root is taken. Other arguments and errors are
    those of :func:`energy_distance`; the bandwidths stand in ``extra["bandwidths"]``.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> mmd(x, x + 3.0).value > 0.5
    True
    """
    x, y = points(real, generated, weights_real, weights_generated)
    scales = _bandwidths(bandwidths, x.values, seed)
    extra = {"bandwidths": list(scales)}
    return _compare("MMD^2", x, y, _gaussian(scales), unbiased, seed, n_bootstrap, n_permutations, extra)


def median_bandwidths(x: Array, seed: Seed = 0) -> tuple[float, float, float]:
    """Return half, once and twice the median distance between points ``(n, d)`` (of at most 2,000 of them).

    Raises
    ------
    ValueError
        If there is only one point, or the median is zero.

    Examples
    --------
    >>> median_bandwidths(np.array([[0.0], [1.0], [3.0]]))
    (1.0, 2.0, 4.0)
    """
    rows = x
    if len(x) > 2000:
        rows = x[numpy_generator(derive_seed(as_seed(seed), "bandwidth")).choice(len(x), 2000, replace=False)]
    if len(rows) < 2:
        raise ValueError("the bandwidth rule needs at least two real points; give bandwidths")
    median = float(np.median(pdist(rows)))
    if not median > 0:
        raise ValueError("more than half of the real points coincide, so the median distance is zero; give bandwidths")
    return 0.5 * median, median, 2.0 * median


def _bandwidths(given: tuple[float, ...] | None, real: Array, seed: Seed) -> tuple[float, ...]:
    if given is None:
        return median_bandwidths(real, seed)
    if not given or not all(np.isfinite(s) and s > 0 for s in given):
        raise ValueError(f"bandwidths must be one or more positive numbers; got {given}")
    return tuple(given)


def _gaussian(bandwidths: tuple[float, ...]) -> Kernel:
    def kernel(r: Array) -> Array:
        total, part = np.zeros_like(r), np.empty_like(r)
        for s in bandwidths:
            # Divided before it is squared: the square of a bandwidth may be no number.
            np.square(np.divide(r, s, out=part), out=part)
            total += np.exp(np.multiply(part, -0.5, out=part), out=part)
        return np.divide(total, len(bandwidths), out=total)

    return kernel


def _minus(r: Array) -> Array:
    return np.negative(r, out=r)


def _compare(
    name: str,
    x: Points,
    y: Points,
    kernel: Kernel,
    unbiased: bool,
    seed: Seed,
    n_bootstrap: int,
    n_permutations: int,
    extra: dict[str, Any],
) -> MetricResult:
    root = as_seed(seed)
    n, m = len(x), len(y)
    gram = _gram(np.concatenate([x.values, y.values]), kernel) if n + m <= _LARGEST_GRAM else None
    p_value = None
    if n_permutations:
        if not all(is_uniform(torch.from_numpy(side.weights)) for side in (x, y)):
            raise ValueError(
                "a permutation test has no meaning for weighted points; draw points by their weights first"
            )
        tested, n_tested = (gram, n) if gram is not None else _tested(x, y, kernel, root)
        p_value = permutation_test(tested, n_tested, n_permutations=n_permutations, seed=root).p_value
        sizes = {"permutations": n_permutations, "real": n_tested, "generated": len(tested) - n_tested}
        extra = extra | {"permutation": sizes}
    if gram is None:
        return measure(
            name,
            lambda u, v: _value(u, v, kernel, unbiased),
            x,
            y,
            seed=root,
            n_bootstrap=n_bootstrap,
            p_value=p_value,
            extra=extra,
        )
    return measure(
        name,
        lambda u, v: discrepancy(gram, u, v, unbiased=unbiased),
        *pooled_rows(x.weights, y.weights),
        seed=root,
        n_bootstrap=n_bootstrap,
        p_value=p_value,
        extra=extra,
    )


def _tested(x: Points, y: Points, kernel: Kernel, root: int) -> tuple[Array, int]:
    """Return the kernel matrix of as many points of each side as a test can hold."""
    drawn = []
    for name, side in (("real", x), ("generated", y)):
        order = numpy_generator(derive_seed(root, "tested", name)).permutation(len(side))
        drawn.append(side.values[order[: _LARGEST_GRAM // 2]])
    return _gram(np.concatenate(drawn), kernel), len(drawn[0])


def _gram(rows: Array, kernel: Kernel) -> Array:
    gram = np.empty((len(rows), len(rows)))
    width = max(1, _BLOCK // len(rows))
    for start in range(0, len(rows), width):
        gram[start : start + width] = kernel(cdist(rows[start : start + width], rows))
    return gram


def _value(x: Points, y: Points, kernel: Kernel, unbiased: bool) -> float:
    """Return the discrepancy in bounded memory, whatever the sizes."""
    within = _mean_within(x, kernel, unbiased) + _mean_within(y, kernel, unbiased)
    return within - 2 * _mean_across(x, y, kernel)


def _mean_across(x: Points, y: Points, kernel: Kernel) -> float:
    """Return the weighted mean of a kernel of distances over all pairs."""
    total = 0.0
    rows = max(1, _BLOCK // len(y))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        total += float(x.weights[part] @ kernel(cdist(x.values[part], y.values)) @ y.weights)
    return total


def _mean_within(x: Points, kernel: Kernel, unbiased: bool) -> float:
    """Return the same of pairs in one sample, each pair computed once; unbiased: without those of a point with itself.

    One point has no pair: its mean is zero.
    """
    a = x.weights
    repeats = float(a @ a)
    if unbiased and repeats >= 1.0:
        return 0.0
    total = 0.0
    rows = max(1, min(_ROWS, _BLOCK // len(x)))
    for start in range(0, len(x), rows):
        stop = min(start + rows, len(x))
        part = kernel(cdist(x.values[start:stop], x.values[start:]))
        if unbiased:
            np.fill_diagonal(part, 0.0)
        # Pairs with later blocks stand for both of their orders.
        total += float(a[start:stop] @ part[:, : stop - start] @ a[start:stop])
        total += 2.0 * float(a[start:stop] @ part[:, stop - start :] @ a[stop:])
    return total / (1.0 - repeats) if unbiased else total
