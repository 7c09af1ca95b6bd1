r"""States that are not labels but levels of a measurement: a Gaussian of each state.

.. math:: y \mid s \sim \mathcal N\bigl(m_s,\, \operatorname{diag}(v_s)\bigr)

A mixture of Gaussians, fitted to all measurements without regard to time, finds the levels and gives every look its
likeliest state; the hidden process then sharpens both. Where only states are wanted, as of a molecule whose coordinate
has two humps, the mixture alone does the coarse-graining.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from gendyn.data import Paths
from gendyn.mjp.observations import StateObservations
from gendyn.randomness import Seed, numpy_generator

__all__ = ["GaussianEmission", "coarse_grain"]

_ROWS = 20_000
"""Measurements that a mixture is fitted to."""


@dataclass(frozen=True, eq=False)
class GaussianEmission:
    """Levels of measurements.

    Attributes
    ----------
    emission
        Means and logarithms of standard deviations side by side, ``(S, 2 d)``.
    """

    emission: Tensor

    @property
    def means(self) -> Tensor:
        """``(S, d)``."""
        return self.emission.chunk(2, 1)[0]

    @property
    def deviations(self) -> Tensor:
        """Standard deviations ``(S, d)``."""
        return self.emission.chunk(2, 1)[1].exp()

    @property
    def n_free(self) -> int:
        """Number of unknowns."""
        return self.emission.numel()

    @property
    def certain(self) -> bool:
        """Whether looks show the state itself: they do not."""
        return False

    def density(self, seen: StateObservations, emission: Tensor) -> Tensor:
        """Return how likely each look is in each state, ``(K, L, S)``."""
        if seen.values is None:
            raise ValueError("looks have labels and no measurements; take LabelNoise")
        mean, log_deviation = emission.chunk(2, 1)
        parts = []
        for m, s in zip(mean, log_deviation, strict=True):
            white = (seen.values - m) / s.exp()
            parts.append(-(0.5 * white.square() + s + 0.5 * math.log(2 * math.pi)).sum(-1))
        return torch.stack(parts, -1).clamp_min(-600.0).exp()

    def updated(self, counts: Tensor) -> GaussianEmission:
        """Return the same levels: the search moves them, EM steps do not."""
        return self

    def free(self) -> Tensor:
        """Return the unknowns ``(S 2 d,)``."""
        return self.emission.flatten()

    def with_free(self, free: Tensor) -> GaussianEmission:
        """Return the levels for unknowns."""
        return GaussianEmission(free.reshape(self.emission.shape))


def fit_levels(paths: Paths, n_states: int, seed: Seed = 0) -> tuple[GaussianEmission, Tensor]:
    """Fit a mixture to all measurements; return levels in increasing order of the first feature, and labels ``(n, T)``.

    Raises
    ------
    ValueError
        If there are fewer different measurements than states.
    """
    values = paths.values.detach().cpu().to(torch.float64)
    seen = torch.isfinite(values).all(-1) if paths.mask is None else paths.mask.cpu().all(-1)
    if paths.lengths is not None:
        seen = seen & (torch.arange(values.shape[1])[None] < paths.lengths.cpu()[:, None])
    rows = values[seen].numpy()
    generator = numpy_generator(seed, "levels")
    few = rows if len(rows) <= _ROWS else rows[generator.choice(len(rows), _ROWS, replace=False)]
    if len({tuple(row) for row in few.tolist()}) < max(2, n_states):
        raise ValueError(
            f"{n_states} states need as many different measurements at least; give more data or fewer states"
        )
    mixture = GaussianMixture(
        n_states, covariance_type="diag", n_init=3, random_state=int(generator.integers(2**31))
    ).fit(few)
    order = mixture.means_[:, 0].argsort()
    means, variances = (torch.from_numpy(v[order].copy()) for v in (mixture.means_, mixture.covariances_))
    emission = torch.cat([means, variances.clamp_min(1e-300).log() / 2], 1)
    rank = torch.empty(n_states, dtype=torch.int64)
    rank[torch.from_numpy(order.copy())] = torch.arange(n_states)
    labels = torch.zeros(values.shape[:2], dtype=torch.int64)
    labels[seen] = rank[torch.from_numpy(mixture.predict(rows))]
    return GaussianEmission(emission), labels


def observe_levels(paths: Paths, n_states: int, seed: Seed = 0) -> tuple[StateObservations, GaussianEmission]:
    """Return looks with measurements, labelled by their likeliest level, and the levels.

    Raises
    ------
    TypeError
        If the data are no paths.
    ValueError
        If there are fewer different measurements than states.
    """
    if not isinstance(paths, Paths):
        raise TypeError(f"Gaussian levels are fitted to gendyn.Paths of measurements; got {type(paths).__name__}")
    levels, labels = fit_levels(paths, n_states, seed)
    mask = None if paths.mask is None else paths.mask.cpu().all(-1)
    times = paths.times.cpu()
    seen = StateObservations.of(
        Paths(times, labels, mask, paths.lengths), n_states=n_states, values=paths.values.detach().cpu().double()
    )
    return seen, levels


def coarse_grain(paths: Paths, n_states: int, seed: Seed = 0) -> Paths:
    """Turn measurements into states by a mixture of Gaussians; states are numbered by the mean of the first feature.

    Parameters
    ----------
    paths
        Measurements ``(n, T, d)``.
    n_states
        Number of states.
    seed
        Where the mixture starts.

    Returns
    -------
    Paths
        Integers from 0 on, ``(n, T, 1)``, at the same times.

    Raises
    ------
    ValueError
        If there are fewer different measurements than states.

    Examples
    --------
    >>> noise = 0.1 * torch.randn(5, 40, 1, generator=torch.Generator().manual_seed(0))
    >>> steps = (torch.arange(40) // 10 % 2)[None, :, None]
    >>> coarse_grain(Paths(torch.arange(40.0), 3.0 * steps + noise), 2).values[0, ::10, 0]
    tensor([0, 1, 0, 1])
    """
    labels = fit_levels(paths, n_states, seed)[1]
    mask = None if paths.mask is None else paths.mask.all(-1)
    return Paths(paths.times, labels, mask, paths.lengths, paths.labels)
