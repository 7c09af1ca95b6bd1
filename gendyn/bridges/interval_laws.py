"""How a reference moves populations from each observed time to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gendyn.bridges.glued_paths import SAME_TIME
from gendyn.bridges.transition import TransitionLaw, transition_law
from gendyn.sampling import Process

__all__ = ["interval_laws", "interval_log_densities"]


def interval_laws(
    reference: Process, samples: Sequence[Tensor], times: Tensor, substeps: int = 16
) -> Iterator[TransitionLaw]:
    """Yield how a reference moves the rows of each population to the next time.

    Intervals of one length are moved together, as one batch of sources.

    Parameters
    ----------
    reference, samples, times, substeps
        As for :func:`interval_log_densities`.
    """
    gaps = times.diff()
    # A process that changes between intervals moves them one by one.
    changes = hasattr(reference, "piece")
    laws: dict[int, TransitionLaw] = {}
    for k in range(len(gaps)):
        if k not in laws:
            later = range(k, k + 1 if changes else len(gaps))
            alike = [j for j in later if abs(float(gaps[j] - gaps[k])) <= SAME_TIME * float(gaps[k])]
            starts = torch.cat([times[j].expand(len(samples[j]), 1) for j in alike]).to(samples[0])
            sources = torch.cat([samples[j] for j in alike])
            law = transition_law(reference, sources, starts, gaps[k : k + 1], substeps=substeps)
            place = 0
            for j in alike:
                laws[j] = law.rows(slice(place, place + len(samples[j])))
                place += len(samples[j])
        yield laws.pop(k)


def interval_log_densities(
    reference: Process, samples: Sequence[Tensor], times: Tensor, substeps: int = 16
) -> Iterator[Tensor]:
    r"""Yield :math:`\log p(y_j \mid x_i)` of every interval, ``(n_k, n_{k+1})``, differentiable in the reference.

    Parameters
    ----------
    reference
        The process.
    samples
        ``K + 1`` populations ``(n_k, d)``, float64.
    times
        ``(K + 1,)``.
    substeps
        See :func:`~gendyn.bridges.transition.transition_law`.
    """
    for k, law in enumerate(interval_laws(reference, samples, times, substeps)):
        yield law.log_density(samples[k + 1])
