r"""Generators of paths that need no learning worth the name: the rows that every table of generators must beat.

Each is fitted on paths :math:`x_i \in \mathbb{R}^{T \times d}` and then draws new ones:

- :class:`GaussianPaths`: :math:`N(\bar x, \hat\Sigma)` with the full covariance over times and channels;
- :class:`LocalGaussianMixture`: one Gaussian for each of up to 100 clusters of paths;
- :class:`IncrementWalk`: the start of one path, then at every step the increment of another;
- :class:`BlockBootstrap`: blocks of the paths themselves. It copies: a check of memorisation must flag it.

A learned model that does not beat the mixture before a strong judge is not an advance, however small its discriminative
score in the tables: the mixture is at the level of the best of them there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.windows import as_paths
from gendyn.evaluation.filling import bridge_gaps
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = [
    "GENERATORS",
    "BlockBootstrap",
    "GaussianPaths",
    "IncrementWalk",
    "LocalGaussianMixture",
    "PathGenerator",
    "training_free_paths",
]


class PathGenerator:
    """What all cheap generators have in common: ``fit(paths, seed=)`` and ``sample(n, seed=)``."""

    _template: Paths

    def fit(self, paths: Paths | Tensor | Array, *, seed: Seed = 0) -> Self:
        """Learn from paths at shared times.

        Parameters
        ----------
        paths
            Paths, or an array ``(n, T, d)`` at times 0, 1, 2, ... Gaps are filled by
            :func:`~gendyn.evaluation.filling.bridge_gaps`.
        seed
            Root of the randomness of clusters and filled gaps.

        Raises
        ------
        ValueError
            If there are fewer than two paths, or they have times of their own.
        """
        source = as_paths(paths)
        path_sets(source, source, metric=type(self).__name__, needs="shared")
        root = as_seed(seed)
        complete = bridge_gaps(source, seed=derive_seed(root, "gaps"))
        self._template = complete
        values = complete.values.detach().cpu().numpy().astype(np.float64)
        self._learn(values, numpy_generator(derive_seed(root, "fit")))
        return self

    def sample(self, n: int, *, seed: Seed = 0) -> Paths:
        """Return ``n`` new paths at the times of those it was fitted on.

        Raises
        ------
        RuntimeError
            If it was not fitted.
        ValueError
            If ``n`` is not positive.
        """
        if not hasattr(self, "_template"):
            raise RuntimeError(f"this {type(self).__name__} was not fitted; call fit(paths) first")
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        template = self._template
        values = self._draw(n, numpy_generator(derive_seed(as_seed(seed), "sample")))
        dtype = template.dtype if template.values.is_floating_point() else torch.float32
        drawn = torch.from_numpy(values).to(template.device, dtype)
        return Paths(template.times, drawn, names=template.names, info={"generator": type(self).__name__})

    def _learn(self, values: Array, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _draw(self, n: int, rng: np.random.Generator) -> Array:
        raise NotImplementedError


class GaussianPaths(PathGenerator):
    """The Gaussian law with the mean and the full covariance of the paths.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 6, 2)).cumsum(1)
    >>> GaussianPaths().fit(x).sample(1000).values.shape
    torch.Size([1000, 6, 2])
    """

    def _learn(self, values: Array, rng: np.random.Generator) -> None:
        flat = values.reshape(len(values), -1)
        self._mean = values.mean(0)
        self._root = _root(np.cov(flat.T, ddof=1).reshape(flat.shape[1], flat.shape[1]))

    def _draw(self, n: int, rng: np.random.Generator) -> Array:
        noise = rng.normal(size=(n, len(self._root)))
        return np.asarray(self._mean + (noise @ self._root).reshape(n, *self._mean.shape))


class LocalGaussianMixture(PathGenerator):
    r"""A Gaussian for every cluster of paths.

    Clusters are those of k-means on :math:`[x/s, 2\,\Delta x/s]`, :math:`s` being the standard deviation of each
    channel. Cluster :math:`k` with :math:`n_k` paths has its own mean and the covariance

    .. math:: (1 - a_k)\, C_k + a_k\, v_k\, P / \operatorname{tr} P, \qquad a_k = \frac1{1 + n_k/20}, \qquad
        v_k = (1 - a_k) \operatorname{tr} C_k + a_k \operatorname{tr} P,

    :math:`P` being the covariance within clusters, pooled: small clusters take its shape.

    Parameters
    ----------
    n_clusters
        At most; there is never more than one for ten paths.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 6, 2)).cumsum(1)
    >>> LocalGaussianMixture().fit(x).sample(3).values.shape
    torch.Size([3, 6, 2])
    """

    def __init__(self, n_clusters: int = 100) -> None:
        if n_clusters < 1:
            raise ValueError(f"n_clusters must be at least 1; got {n_clusters}")
        self.n_clusters = n_clusters

    def _learn(self, values: Array, rng: np.random.Generator) -> None:
        n = len(values)
        deviation = values.std((0, 1))
        scaled = values / np.where(deviation > 0, deviation, 1.0)
        features = np.concatenate([scaled.reshape(n, -1), 2 * np.diff(scaled, axis=1).reshape(n, -1)], axis=1)
        count = max(1, min(self.n_clusters, n // 10))
        with np.errstate(invalid="ignore"):  # where all paths are equal, none is likelier to be a centre
            _, labels = kmeans2(features, count, iter=25, minit="++", missing="warn", seed=rng)
        flat = values.reshape(n, -1)
        groups = [flat[labels == k] for k in np.unique(labels)]
        self._shape = values.shape[1:]
        self._means = np.stack([group.mean(0) for group in groups])
        self._centred = [group - mean for group, mean in zip(groups, self._means, strict=True)]
        self._sizes = np.array([len(group) for group in groups])
        pooled = sum(group.T @ group for group in self._centred) / max(1, n - len(groups))
        self._trace = float(np.trace(pooled))
        self._root = _root(pooled)

    def _draw(self, n: int, rng: np.random.Generator) -> Array:
        result = np.empty((n, self._means.shape[1]))
        chosen = rng.choice(len(self._sizes), n, p=self._sizes / self._sizes.sum())
        for k, size in enumerate(self._sizes):
            rows = np.flatnonzero(chosen == k)
            share = 1 / (1 + size / 20)
            # Weights on the centred paths of a cluster have its covariance without its ever being formed.
            own = self._centred[k] / np.sqrt(max(1, size - 1))
            trace = (1 - share) * float((own**2).sum()) + share * self._trace
            common = np.sqrt(share * trace / self._trace) if self._trace > 0 else 0.0
            result[rows] = (
                self._means[k]
                + np.sqrt(1 - share) * rng.normal(size=(len(rows), size)) @ own
                + common * rng.normal(size=(len(rows), len(self._root))) @ self._root
            )
        return result.reshape(n, *self._shape)


class IncrementWalk(PathGenerator):
    """A random walk: the first value of one path, then at every step the increment of a path drawn anew.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 6, 2)).cumsum(1)
    >>> IncrementWalk().fit(x).sample(3).values.shape
    torch.Size([3, 6, 2])
    """

    def _learn(self, values: Array, rng: np.random.Generator) -> None:
        self._first, self._steps = values[:, :1], np.diff(values, axis=1)

    def _draw(self, n: int, rng: np.random.Generator) -> Array:
        count, length = self._steps.shape[:2]
        steps = self._steps[rng.integers(0, count, (n, length)), np.arange(length)]
        return np.concatenate([self._first[rng.integers(0, count, n)], steps], axis=1).cumsum(1)


class BlockBootstrap(PathGenerator):
    """Blocks of the paths themselves, one after the other.

    A block that follows another is taken, at the same times, from one of the ten paths that were nearest where the
    last one ended (the matched-block bootstrap of Carlstein et al. 1998).

    Parameters
    ----------
    block
        Times of a block; by default whole paths, which are replayed.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 6, 2)).cumsum(1)
    >>> replayed = BlockBootstrap().fit(x).sample(1).values.numpy()
    >>> bool((replayed == x).all((1, 2)).any())
    True
    """

    def __init__(self, block: int | None = None) -> None:
        if block is not None and block < 1:
            raise ValueError(f"block must be at least 1; got {block}")
        self.block = block

    def _learn(self, values: Array, rng: np.random.Generator) -> None:
        self._values = values
        deviation = values.std((0, 1))
        self._unit = np.where(deviation > 0, deviation, 1.0)

    def _draw(self, n: int, rng: np.random.Generator) -> Array:
        count, length = self._values.shape[:2]
        block = length if self.block is None else self.block
        path = rng.integers(0, count, n)
        result = self._values[path]
        for start in range(block, length, block):
            ends = self._values[:, start - 1] / self._unit
            near = cKDTree(ends).query(ends[path], k=min(10, count))[1].reshape(n, -1)
            path = near[np.arange(n), rng.integers(0, near.shape[1], n)]
            result[:, start : start + block] = self._values[path, start : start + block]
        return np.asarray(result)


GENERATORS: dict[str, Callable[[], PathGenerator]] = {
    "Gaussian": GaussianPaths,
    "local Gaussian mixture": LocalGaussianMixture,
    "increment walk": IncrementWalk,
    "bootstrap (copies)": BlockBootstrap,
}
"""Cheap generators by the names of their rows."""


def training_free_paths(paths: Paths | Tensor | Array, n: int | None = None, *, seed: Seed = 0) -> dict[str, Paths]:
    """Return paths drawn by every cheap generator, by the names of their rows.

    Parameters
    ----------
    paths
        What the generators are fitted on, see :meth:`PathGenerator.fit`.
    n
        Paths from each; by default as many as there are.
    seed
        Root of all randomness.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 6, 2)).cumsum(1)
    >>> sorted(training_free_paths(x))
    ['Gaussian', 'bootstrap (copies)', 'increment walk', 'local Gaussian mixture']
    """
    source = as_paths(paths)
    root = as_seed(seed)
    return {
        name: kind().fit(source, seed=root).sample(len(source) if n is None else n, seed=derive_seed(root, name))
        for name, kind in GENERATORS.items()
    }


def _root(covariance: Array) -> Array:
    """Return a matrix R with R^T R equal to the covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(values.clip(0))).T)
