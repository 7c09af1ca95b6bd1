"""Metrics beside their usual implementations: two calls that return the same values, by the size of their samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ot
import torch
from scipy import linalg, stats
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors

import gendyn as gd
from gendyn.evaluation.attractor import state_space_divergence_value
from gendyn.evaluation.features import ks_statistics
from gendyn.evaluation.frechet import gaussian_frechet
from gendyn.evaluation.kernels import energy_value, mmd_value
from gendyn.evaluation.line_transport import line_powers
from gendyn.evaluation.memorisation import nearest
from gendyn.evaluation.ordinal import entropy_complexity, ordinal_counts
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.permutation import permutation_test
from gendyn.evaluation.scores import crps_scores, energy_scores
from gendyn.evaluation.signature_kernels import signature_gram
from gendyn.evaluation.signatures import signature
from gendyn.evaluation.sliced import sliced_wasserstein_value
from gendyn.evaluation.transport import wasserstein_value

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A metric as a function of a size, and the usual way to the same values.

    Attributes
    ----------
    name
        What is computed, of what.
    peer
        Whose implementation the other one is.
    make
        A size to both calls; each returns its values.
    size, sizes
        The size of the table, and those of the picture.
    axis
        What the size counts.
    goal
        What the ratio is asked to be.
    package
        A package that the peer needs and that may be absent.
    """

    name: str
    peer: str
    make: Callable[[int], tuple[Callable[[], Any], Callable[[], Any]]]
    size: int
    sizes: tuple[int, ...] = ()
    axis: str = "points a side"
    goal: str = ""
    package: str | None = None


def populations(n: int, dim: int) -> tuple[Array, Array]:
    """Return two Gaussian samples, one shifted."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, dim)), rng.normal(size=(n, dim)) + 0.3


def walks(n: int, times: int = 24, dim: int = 6) -> tuple[Array, Array]:
    """Return two sets of random walks of variation about one, one with a drift."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, times, dim)).cumsum(1) / times for _ in range(2))
    return x, y + np.linspace(0.0, 0.3, times)[:, None]


def exact_transport(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Exact W2 in five dimensions."""
    x, y = populations(n, 5)
    a = np.full(n, 1 / n)
    return lambda: wasserstein_value(x, y, p=2), lambda: ot.emd2(a, a, ot.dist(x, y), numItermax=10_000_000) ** 0.5


def sliced_transport(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Sliced W2 in the plane along the same 256 directions: the grid of angles that ours has there."""
    x, y = populations(n, 2)
    angles = np.pi * (np.arange(256) + 0.5) / 256
    along = np.stack([np.cos(angles), np.sin(angles)])
    return (
        lambda: sliced_wasserstein_value(x, y, p=2, n_directions=256),
        lambda: ot.sliced_wasserstein_distance(x, y, projections=along, p=2),
    )


def energy(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Energy distance in five dimensions, pairs of a point with itself included."""
    x, y = populations(n, 5)
    return (
        lambda: energy_value(x, y, unbiased=False),
        lambda: 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean(),
    )


def discrepancy(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Squared MMD in five dimensions with one Gaussian kernel, pairs of a point with itself included."""
    x, y = populations(n, 5)

    def usual() -> float:
        xx, yy, xy = rbf_kernel(x, gamma=0.1), rbf_kernel(y, gamma=0.1), rbf_kernel(x, y, gamma=0.1)
        return float(xx.mean() + yy.mean() - 2 * xy.mean())

    return lambda: mmd_value(x, y, bandwidths=(5**0.5,), unbiased=False), usual


def permutations(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Statistic of the data and mean statistic of 199 permutations from one kernel matrix."""
    x, y = populations(n, 5)
    gram = rbf_kernel(np.concatenate([x, y]), gamma=0.1)

    def usual() -> float:
        rng = np.random.default_rng(0)

        def statistic(order: Array) -> float:
            one, two = order[:n], order[n:]
            xx, yy = gram[np.ix_(one, one)], gram[np.ix_(two, two)]
            within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (n * (n - 1))
            return float(within - 2 * gram[np.ix_(one, two)].mean())

        for _ in range(199):
            statistic(rng.permutation(2 * n))
        return statistic(np.arange(2 * n))

    return lambda: permutation_test(gram, n, n_permutations=199).statistic, usual


def line_transport(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """W1 of each of 144 marginals."""
    x, y = (side.reshape(n, -1) for side in walks(n))
    return (
        lambda: line_powers(x.T, y.T, p=1),
        lambda: [stats.wasserstein_distance(u, v) for u, v in zip(x.T, y.T, strict=True)],
    )


def kolmogorov(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Kolmogorov-Smirnov statistic of each of 144 marginals."""
    x, y = (side.reshape(n, -1) for side in walks(n))
    return (
        lambda: ks_statistics(x, y),
        lambda: [stats.ks_2samp(u, v, method="asymp").statistic for u, v in zip(x.T, y.T, strict=True)],
    )


def densities(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """KL divergence of kernel densities, mean over four features; ours is binned, theirs sums all kernels."""
    x, y = populations(n, 4)

    def one(u: Array, v: Array) -> float:
        reach = 3 * max(side.std(ddof=1) * len(side) ** -0.2 for side in (u, v))
        grid = np.linspace(min(u.min(), v.min()) - reach, max(u.max(), v.max()) + reach, 1000)
        p, q = (np.maximum(stats.gaussian_kde(side)(grid), 1e-12) for side in (u, v))
        return float(np.trapezoid(p * np.log(p / q), grid))

    return (
        lambda: gd.evaluation.kde_kl(x, y, n_bootstrap=0).value,
        lambda: np.mean([one(u, v) for u, v in zip(x.T, y.T, strict=True)]),
    )


def frechet(dim: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Frechet distance of two fitted Gaussians."""
    x, y = populations(4 * dim, dim)
    m1, m2, s1, s2 = x.mean(0), y.mean(0), np.cov(x.T), np.cov(y.T)

    def usual() -> float:
        root = linalg.sqrtm(s1 @ s2)
        return float((m1 - m2) @ (m1 - m2) + np.trace(s1 + s2 - 2 * np.real(root)))

    return lambda: gaussian_frechet(m1, s1, m2, s2), usual


def signatures(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Signatures to depth 4 of polylines of 24 corners in 4 channels; theirs multiplies path by path."""
    paths = walks(n, dim=4)[0]

    def product(one: list[Array], two: list[Array]) -> list[Array]:
        return [sum(np.multiply.outer(one[i], two[k - i]) for i in range(k + 1)) for k in range(5)]  # type: ignore[misc]

    def usual() -> Array:
        found = []
        for path in paths:
            total: list[Array] = [np.ones(())] + [np.zeros((4,) * k) for k in range(1, 5)]
            for v in np.diff(path, axis=0):
                step: list[Array] = [np.ones(())]
                for k in range(1, 5):
                    step.append(np.multiply.outer(step[-1], v) / k)
                total = product(total, step)
            found.append(np.concatenate([level.ravel() for level in total[1:]]))
        return np.stack(found)

    tensor = torch.from_numpy(paths)
    return lambda: signature(tensor, 4).numpy(), usual


def signature_kernels(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Signature-kernel matrix of polylines of 24 corners; theirs goes from pair to pair and from cell to cell."""
    x, y = (side[..., :3] for side in walks(n))

    def usual() -> Array:
        gram = np.empty((n, n))
        for i, j in itertools.product(range(n), range(n)):
            p = np.diff(x[i], axis=0) @ np.diff(y[j], axis=0).T
            up, down = (1 + p / 2 + p**2 / 12).tolist(), (1 - p**2 / 12).tolist()
            above = [1.0] * (p.shape[1] + 1)
            for a, b in zip(up, down, strict=True):
                here = [1.0]
                for c in range(p.shape[1]):
                    here.append((here[c] + above[c + 1]) * a[c] - above[c] * b[c])
                above = here
            gram[i, j] = above[-1]
        return gram

    first, second = torch.from_numpy(x), torch.from_numpy(y)
    return lambda: signature_gram(first, second).numpy(), usual


def patterns(length: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Permutation entropy and complexity of a series with patterns of five values."""
    series = np.random.default_rng(0).normal(size=length).cumsum()

    def usual() -> Any:
        import ordpy

        return ordpy.complexity_entropy(series, dx=5)

    return lambda: [float(v) for v in entropy_complexity(ordinal_counts(series, order=5))], usual


def ranked(members: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Fair CRPS of 200 outcomes of 12 times; theirs forms all pairs of members."""
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(200, 12, 1)), rng.normal(size=(200, members, 12, 1))

    def usual() -> Array:
        near = np.abs(x - y[:, None]).mean(1)
        apart = np.abs(x[:, :, None] - x[:, None]).sum((1, 2)) / (2 * members * (members - 1))
        return (near - apart).mean((1, 2))

    return lambda: crps_scores(y, x), usual


def norms(members: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Fair energy score of 200 outcomes of 12 times; theirs calls scipy forecast by forecast."""
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(200, 12, 1)), rng.normal(size=(200, members, 12, 1))

    def usual() -> list[float]:
        flat, truth = x.reshape(200, members, -1), y.reshape(200, 1, -1)
        pairs = 2 * members * (members - 1)
        return [cdist(u, v).mean() - cdist(u, u).sum() / pairs for u, v in zip(flat, truth, strict=True)]

    return lambda: energy_scores(y, x, scale=None), usual


def neighbours(n: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Distance of every generated path of 24 x 6 to the nearest real one."""
    x, y = walks(n)
    one, two = path_sets(x, y, metric="memorisation")

    def usual() -> Array:
        search = NearestNeighbors(algorithm="brute").fit(x.reshape(n, -1))
        return np.asarray(search.kneighbors(y.reshape(n, -1), 1)[0][:, 0])

    return lambda: nearest(two, one), usual


def attractor(length: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """State-space divergence in 30 cells for each of three dimensions; theirs counts all 27,000 cells."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(length, 3))
    y = x[::-1] * [1.0, 1.1, 0.9]

    def usual() -> float:
        margin = 0.1 * x.std(0)
        box = list(zip(x.min(0) - margin, x.max(0) + margin, strict=True))
        p, q = (np.histogramdd(side, bins=30, range=box)[0] for side in (x, y))
        p, q = ((count + 1e-5) / (count.sum() + 1e-5 * count.size) for count in (p, q))
        return float((p * np.log(p / q)).sum())

    return lambda: state_space_divergence_value(x, y), usual


CASES = (
    Case("exact W2, d = 5", "POT: dist, emd2", exact_transport, 1000, (100, 300, 1000, 2000), goal="0.95 at least"),
    Case("sliced W2, 256 directions", "POT", sliced_transport, 2000, (100, 300, 1000, 3000, 10000)),
    Case("energy distance, d = 5", "scipy: cdist", energy, 2000, (100, 300, 1000, 3000)),
    Case("MMD^2, d = 5", "scikit-learn: rbf_kernel", discrepancy, 2000, (100, 300, 1000, 3000)),
    Case("199 permutations", "numpy, loop", permutations, 500, (30, 100, 300)),
    Case("W1 of 144 marginals", "scipy, loop", line_transport, 2000, (100, 300, 1000, 3000), "paths a side"),
    Case("KS of 144 marginals", "scipy, loop", kolmogorov, 2000, (100, 300, 1000, 3000), "paths a side"),
    Case("KDE-KL of 4 features", "scipy, loop", densities, 2000),
    Case("Frechet distance of two Gaussians", "scipy: sqrtm", frechet, 128, axis="features"),
    Case("signatures, depth 4", "numpy, loop", signatures, 200, (10, 30, 100, 300), "paths"),
    Case("signature-kernel matrix", "plain loop", signature_kernels, 30, (3, 10, 30, 60), "paths a side"),
    Case(
        "permutation entropy", "ordpy", patterns, 1_000_000, (1000, 10_000, 100_000, 1_000_000),
        "values", "20 at least", "ordpy",
    ),
    Case("CRPS of 200 x 12 values", "numpy, pairs", ranked, 200, (10, 30, 100, 300), "members"),
    Case("energy score of 200 paths", "scipy, loop", norms, 100, (10, 30, 100, 300), "members"),
    Case("nearest real path", "scikit-learn: brute", neighbours, 2000, (100, 300, 1000, 3000), "paths a side"),
    Case("state-space divergence, d = 3", "numpy: histogramdd", attractor, 100_000, (1000, 10_000, 100_000), "states"),
)  # fmt: skip
