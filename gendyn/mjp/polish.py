"""The likelihood's search from where a network, or counts, put it: first with right labels where noise does not pay."""

from __future__ import annotations

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
        Links without any rate, ``(S, S)`` booleans.
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
    return found


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
