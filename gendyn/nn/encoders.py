r"""Encoders of populations: what a particle's field sees of the cloud that it started in.

An encoder reads clouds :math:`S = \{s_j\} \subset \mathbb{R}^d`, in any order, and gives features for particles
:math:`x`. A global encoder gives one embedding :math:`\varphi(S)` for all particles of a cloud:

- graph convolutions over the k nearest neighbours,
  :math:`h_i \leftarrow W\,\operatorname{mean}_{j \in \{i\} \cup N_k(i)} h_j + b`, then the mean over cells; with k = 0
  a DeepSets encoder (Zaheer et al. 2017; the graph form is that of Atanackovic et al. 2025);
- statistics: mean, standard deviation and covariance, then a linear layer;
- random Fourier features: the empirical characteristic function at fixed frequencies.

The kernel encoder is local: for each particle the mean-shift vector and the log-density of the cloud around it, at
several bandwidths, so that a field of it can know the score of the start population.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from gendyn.nn.mlp import seeded_linear
from gendyn.nn.time_features import FourierFeatures
from gendyn.randomness import Seed, torch_generator

__all__ = [
    "CloudStatistics",
    "FourierCloud",
    "GraphEncoder",
    "KernelEncoder",
    "PopulationEncoder",
]


_LARGEST = 2e7
"""Distances that are held at once."""

_CACHED = 2**18
"""Weights that are held at once: so many stay in the cache, which more than halves the time."""


class PopulationEncoder(nn.Module, ABC):
    """An encoder: ``forward(particles (P, m, d), clouds (P, n, d), covariates (P, n, c)) -> (P, m, out_features)``."""

    out_features: int

    @abstractmethod
    def context(self, clouds: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return what of the clouds does not depend on particles: embeddings ``(P, out_features)``, or the clouds."""

    def features(self, particles: Tensor, context: Tensor) -> Tensor:
        """Return features ``(P, m, out_features)`` of particles ``(P, m, d)``; by default their cloud's embedding."""
        return context[:, None].expand(-1, particles.shape[1], -1)

    def forward(self, particles: Tensor, clouds: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return features ``(P, m, out_features)``."""
        return self.features(particles, self.context(clouds, covariates))


class GraphEncoder(PopulationEncoder):
    """Graph convolutions over nearest neighbours, averaged over cells.

    Parameters
    ----------
    dim
        Number of features ``d`` of a cell.
    neighbours
        k; zero gives a DeepSets encoder.
    hidden
        Widths of the layers, the last of which is the embedding.
    covariate_dim
        Features of each cell that enter the layers but not the graph.
    normalise
        Divide the embedding by its norm, as published; this deletes how large it is.
    seed
        Of the initial weights.

    Raises
    ------
    ValueError
        If k or a width is out of range, or a cloud has no more than k cells.

    Examples
    --------
    >>> cloud = torch.randn(1, 30, 2, generator=torch.Generator().manual_seed(0))
    >>> encoder = GraphEncoder(2, neighbours=5, hidden=(8, 8))
    >>> moved = encoder.context(cloud.flip(1)) - encoder.context(cloud)
    >>> bool(moved.abs().max() < 1e-5)
    True
    """

    def __init__(
        self,
        dim: int,
        neighbours: int = 50,
        hidden: Sequence[int] = (64, 64, 64),
        *,
        covariate_dim: int = 0,
        normalise: bool = True,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if neighbours < 0 or not hidden or min(hidden) < 1:
            raise ValueError(f"neighbours must be at least 0 and widths at least 1; got {neighbours} and {hidden}")
        generator = torch_generator(seed, "graph encoder")
        widths = [dim + covariate_dim, *hidden]
        self.layers = nn.ModuleList(seeded_linear(a, b, generator) for a, b in pairwise(widths))
        self.neighbours = neighbours
        self.normalise = normalise
        self.out_features = hidden[-1]

    def context(self, clouds: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return embeddings ``(P, out_features)`` of clouds ``(P, n, d)``."""
        n, k = clouds.shape[1], self.neighbours
        if k >= n:
            raise ValueError(f"a graph of {k} neighbours needs more than {k} cells; got {n}: lower neighbours")
        nearest = None if k == 0 else _nearest(clouds.detach(), k)
        h = clouds if covariates is None else torch.cat([clouds, covariates], dim=-1)
        for number, layer in enumerate(self.layers):
            if nearest is not None:
                h = _average(h, nearest)
            h = layer(h)
            if number + 1 < len(self.layers):
                h = torch.relu(h)
        embedding = h.mean(1)
        return embedding / (embedding.norm(dim=1, keepdim=True) + 1e-8) if self.normalise else embedding


class CloudStatistics(PopulationEncoder):
    """Mean, standard deviation and covariance of a cloud, through a linear layer.

    Examples
    --------
    >>> CloudStatistics(3, 16).context(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 16])
    """

    def __init__(self, dim: int, out_features: int = 64, *, seed: Seed = 0) -> None:
        super().__init__()
        self.out_features = out_features
        generator = torch_generator(seed, "cloud statistics")
        self.layer = seeded_linear(2 * dim + dim * (dim + 1) // 2, out_features, generator)
        self.register_buffer("upper", torch.triu_indices(dim, dim), persistent=False)

    upper: Tensor

    def context(self, clouds: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return embeddings ``(P, out_features)`` of clouds ``(P, n, d)``."""
        mean = clouds.mean(1)
        centred = clouds - mean[:, None]
        covariance = centred.mT @ centred / clouds.shape[1]
        deviation = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
        found: Tensor = self.layer(torch.cat([mean, deviation, covariance[:, self.upper[0], self.upper[1]]], dim=1))
        return found


class FourierCloud(PopulationEncoder):
    """The empirical characteristic function of a cloud at fixed random frequencies, times 3; not trained.

    Parameters
    ----------
    dim
        Number of features ``d``.
    spread
        Typical standard deviation of a cloud, by which the frequencies are scaled.
    n_frequencies
        Half the number of features.
    seed
        Of the frequencies.

    Examples
    --------
    >>> FourierCloud(2, spread=1.0).context(torch.zeros(1, 5, 2))[0, :2].tolist()
    [3.0, 3.0]
    """

    def __init__(self, dim: int, spread: float, n_frequencies: int = 64, *, seed: Seed = 0) -> None:
        super().__init__()
        self.waves = FourierFeatures(dim, n_frequencies, 0.4 / spread, seed=seed)
        self.out_features = self.waves.out_features

    def context(self, clouds: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return embeddings ``(P, out_features)`` of clouds ``(P, n, d)``."""
        found: Tensor = 3 * self.waves(clouds).mean(1)
        return found


class KernelEncoder(PopulationEncoder):
    r"""Mean shift and log-density of the cloud around each particle, at several bandwidths; not trained.

    .. math:: w_j \propto e^{-\lvert x - s_j\rvert^2 / 2h^2}, \qquad \frac{\sum_j w_j s_j - x}{h}, \qquad
        \log \frac1n \sum_j e^{-\lvert x - s_j\rvert^2 / 2h^2}

    Parameters
    ----------
    dim
        Number of features ``d``; of more than ten the first ten are looked at.
    spread
        Typical standard deviation of a cloud; bandwidths are 3/32, 3/16, 3/8 and 3/4 of it.

    Examples
    --------
    >>> encoder = KernelEncoder(2, spread=1.0)
    >>> cloud = torch.zeros(1, 5, 2)
    >>> bool(encoder(torch.zeros(1, 1, 2), cloud).abs().max() < 1e-6), encoder.out_features
    (True, 12)
    """

    bandwidths: Tensor

    def __init__(self, dim: int, spread: float) -> None:
        super().__init__()
        self.looked_at = min(dim, 10)
        self.register_buffer("bandwidths", 0.75 * spread * 0.5 ** torch.arange(3.0, -1.0, -1.0))
        self.out_features = len(self.bandwidths) * (self.looked_at + 1)

    def context(self, clouds: Tensor, covariates: Tensor | None = None) -> Tensor:
        """Return the clouds as far as they are looked at."""
        return clouds[..., : self.looked_at]

    def features(self, particles: Tensor, context: Tensor) -> Tensor:
        """Return features ``(P, m, out_features)`` of particles ``(P, m, d)``."""
        rows = max(1, _CACHED // (context.shape[0] * context.shape[1]))
        if particles.shape[1] > rows:
            return torch.cat([self.features(part, context) for part in torch.split(particles, rows, dim=1)], dim=1)
        x = particles[..., : self.looked_at]
        squares = torch.cdist(x, context, compute_mode="donot_use_mm_for_euclid_dist").square()
        nearest = squares.amin(-1, keepdim=True)
        cells = torch.cat([context, torch.ones_like(context[..., :1])], dim=-1)
        widest = self.bandwidths[-1].to(x)
        # One exponential for all bandwidths, mean shift and density: it costs more than all else. Half the bandwidth
        # is the fourth power of a weight. The nearest cell has weight 1.
        weights = ((nearest - squares) / (2 * widest**2)).exp_()
        found = []
        for octave, h in enumerate(self.bandwidths.flip(0).to(x)):
            if octave > 0:
                weights = weights.square().square()
            sums = weights @ cells
            total = sums[..., -1:]
            density = total.log() - nearest / (2 * h**2) - math.log(context.shape[1])
            found.append(torch.cat([(sums[..., :-1] / total - x) / h, density], dim=-1))
        return torch.cat(found[::-1], dim=-1)


def _nearest(clouds: Tensor, k: int) -> Tensor:
    """Return the k nearest other cells of each cell, ``(P, n, k)``, in row blocks of bounded memory."""
    n = clouds.shape[1]
    rows = max(1, min(n, int(_LARGEST // (n * len(clouds)))))
    parts = []
    for start in range(0, n, rows):
        distances = torch.cdist(clouds[:, start : start + rows], clouds)
        index = torch.arange(distances.shape[1], device=clouds.device)
        distances[:, index, start + index] = math.inf  # no cell is its own neighbour
        parts.append(distances.topk(k, dim=-1, largest=False).indices)
    return torch.cat(parts, dim=1)


def _average(h: Tensor, nearest: Tensor) -> Tensor:
    """Return the mean over each cell and its neighbours, ``(P, n, c)``."""
    p, n, k = nearest.shape
    if n <= 1024:
        # One product with a row-stochastic matrix is faster than gathering.
        weights = h.new_zeros(p, n, n)
        weights.scatter_(2, nearest, 1.0)
        return (weights @ h + h) / (k + 1)
    offsets = (torch.arange(p, device=h.device) * n)[:, None, None]
    gathered = h.reshape(p * n, -1)[(nearest + offsets).reshape(-1)].reshape(p, n, k, -1)
    return (gathered.sum(2) + h) / (k + 1)
