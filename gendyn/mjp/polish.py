r"""The likelihood's search from where a network, or counts, put it: first with right labels where noise does not pay.

Links that the network thinks absent are left out of the search, which spares their errors where looks are few. Where
looks are many the likelihood may know better. With :math:`M_{ij} = \partial\ell / \partial Q_{ij}` and time spent
:math:`T_i = \partial\ell / \partial Q_{ii}` where it ended, a link that is opened by a little raises the likelihood if
:math:`r_{ij} = M_{ij} / T_i > 1`. If it explains :math:`N_{ij}` of the changes that were seen and others explained them
at the rate :math:`N_{ij} / M_{ij}`, the likelihood of jumps at random gains by it

.. math:: N_{ij}\,\bigl(\log r_{ij} - 1 + 1 / r_{ij}\bigr) .

Links that gain more than the price of a parameter, half the logarithm of the number of changes (Schwarz 1978), are
opened, and the search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from gendyn.mjp.emission import Emission
from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.likelihood import HiddenLikelihood, Likelihood
from gendyn.mjp.maximum_likelihood import JumpParameters, LikelihoodFit, likelihood_of, maximise_likelihood
from gendyn.mjp.observations import StateObservations
from gendyn.training import Checkpoint

__all__ = ["polish"]

_LEAST_NOISE = 1e-4
"""Where the likelihood is asked whether labels go wrong at all."""

_ROUNDS = 3
"""How often links are opened at most."""

Kept = tuple[Mapping[str, Tensor], Mapping[str, Any]]


def polish(
    seen: StateObservations,
    start: JumpParameters,
    *,
    absent: Tensor | None = None,
    store: Checkpoint | None = None,
    kept: Kept | None = None,
    **options: Any,
) -> LikelihoodFit:
    """Maximise the likelihood.

    Parameters
    ----------
    seen
        The looks.
    start
        Where to begin, and what is known of the labels.
    absent
        Links without any rate unless the likelihood asks for it, ``(S, S)`` booleans.
    store, kept
        File for the steps, and what it held before.
    **options
        Of :func:`~gendyn.mjp.maximum_likelihood.maximise_likelihood`.
    """
    if absent is not None:
        off = torch.where(absent, 0.0, start.rates).fill_diagonal_(0.0)
        start = JumpParameters(off - torch.diag(off.sum(1)), start.noise, start.initial)
    stages: list[Emission] = [start.noise]
    if isinstance(start.noise, LabelNoise) and start.noise.kind == "uniform" and seen.certain:
        right = LabelNoise.fixed(seen.meaning)
        possible = likelihood_of(seen, right).value(start.rates, right.emission, start.initial) > -1e250
        if possible and not _noise_pays(seen, start):
            stages.insert(0, right)
    for stage, emission in enumerate(stages):
        here = JumpParameters(start.rates, emission, start.initial)
        found = _run_stage(likelihood_of(seen, emission), here, stage, store, kept, options)
        if len(stages) == 1 or stage == 1 or not _noise_pays(seen, found.parameters):
            break
    if absent is None:
        return found
    counts = _changes(seen)
    for stage in range(2, 2 + _ROUNDS):
        likelihood = likelihood_of(seen, emission)
        opened = _with_links(likelihood, found.parameters, counts)
        if opened is None:
            break
        more = _run_stage(likelihood, opened, stage, store, kept, options)
        found = replace(more, history=found.history + more.history, iterations=found.iterations + more.iterations)
    return found


def _with_links(likelihood: Likelihood, at: JumpParameters, counts: Tensor) -> JumpParameters | None:
    """Return a start with the links that pay, or ``None`` if none do."""
    slopes = likelihood.slopes(*at.triple).rates
    dwell = slopes.diagonal().clamp_min(1e-300)[:, None]
    ratio = (slopes / dwell).clamp_min(1.0)
    gain = torch.where(at.rates == 0, counts * (ratio.log() - 1 + 1 / ratio), 0.0).fill_diagonal_(0.0)
    paying = gain > 0.5 * math.log(max(2.0, float(counts.sum())))
    if not bool(paying.any()):
        return None
    off = torch.where(paying, counts / dwell, at.rates).fill_diagonal_(0.0)
    return JumpParameters(off - torch.diag(off.sum(1)), at.noise, at.initial)


def _changes(seen: StateObservations) -> Tensor:
    """Return how often each label followed each other, ``(S, S)``."""
    size = seen.n_states
    before, after = seen.labels[:, :-1][seen.inside], seen.labels[:, 1:][seen.inside]
    proper = (before < size) & (after < size)
    counts = torch.bincount(before[proper] * size + after[proper], minlength=size**2).reshape(size, size)
    return counts.to(torch.float64).fill_diagonal_(0.0)


def _run_stage(
    likelihood: Likelihood,
    start: JumpParameters,
    stage: int,
    store: Checkpoint | None,
    kept: Kept | None,
    options: Mapping[str, Any],
) -> LikelihoodFit:
    """Run one search, from where an earlier one was stopped, and keep its EM steps."""
    history: list[float] = []
    later = kept is not None and kept[1]["stage"] > stage
    if kept is not None and kept[1]["stage"] == stage:
        tensors, state = kept
        noise = replace(cast(Any, start.noise), emission=tensors["emission"])
        start = JumpParameters(tensors["rates"], noise, tensors["initial"])
        history = [float(v) for v in state["history"]]

    def write(now: JumpParameters, values: list[float]) -> None:
        if store is not None and not later:
            tensors = {"rates": now.rates, "emission": now.noise.emission, "initial": now.initial}
            store.write(tensors, {"step": len(values), "stage": stage, "history": values})

    return maximise_likelihood(likelihood, start, history=history, after=write, **options)


def _noise_pays(seen: StateObservations, at: JumpParameters) -> bool:
    """Whether the likelihood rises with the first wrong labels."""
    noise = LabelNoise.uniform(seen.meaning, _LEAST_NOISE)
    slopes = HiddenLikelihood(seen).slopes(at.rates, noise.emission, at.initial.clamp_min(1e-6))
    size = seen.n_states
    towards = (1 - torch.eye(size, dtype=torch.float64)) / (size - 1) - torch.eye(size, dtype=torch.float64)
    return float((slopes.emission[:, :size] * towards).sum()) > 0
