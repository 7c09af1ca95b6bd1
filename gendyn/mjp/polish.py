r"""The likelihood's search from where a network, or counts, put it: first with right labels where noise does not pay.

Links that the network thinks absent are left out of the search, which spares their errors where looks are few. Where
looks are many the likelihood may know better. Let :math:`M_{ij} = \partial\ell / \partial Q_{ij}` and :math:`T_i =
\partial\ell / \partial Q_{ii}`, the time spent, where the search ended. A link that is opened by a little raises the
likelihood if :math:`r_{ij} = M_{ij} / T_i > 1`. Jumps at random, :math:`N_{ij}` of them, of which others explain the
rate :math:`q_{ij}`, have :math:`M_{ij} = N_{ij} / (q_{ij} + Q_{ij})`; so :math:`1 / M_{ij}` is a straight line whose
slope, from a second pass with every such link opened by a jump, is :math:`1 / N_{ij}`. At its best the link gains

.. math:: N_{ij}\,\bigl(\log r_{ij} - 1 + 1 / r_{ij}\bigr) \quad\text{at}\quad
    Q_{ij} = \frac{N_{ij}}{T_i} \Bigl(1 - \frac1{r_{ij}}\Bigr) .

Links that gain more than the price of a parameter, half the logarithm of the number of changes (Schwarz 1978), are
opened, and the search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from gendyn.mjp.label_noise import LabelNoise
from gendyn.mjp.likelihood import HiddenLikelihood, Likelihood
from gendyn.mjp.maximum_likelihood import JumpParameters, LikelihoodFit, likelihood_of, maximise_likelihood
from gendyn.mjp.observations import StateObservations
from gendyn.training import Checkpoint

__all__ = ["polish"]

_LEAST_NOISE = 1e-4
"""Where the likelihood is asked whether labels go wrong at all."""

_LITTLE_NOISE = 0.005
"""A start with less noise than this asks for links before it asks for noise."""

_ROUNDS = 3
"""How often links are opened at most."""

_FEW_STEPS = 3
"""EM steps after links were opened."""

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
    kept_out = torch.zeros_like(start.rates, dtype=torch.bool) if absent is None else absent
    whole, start = start, _without(start, kept_out)
    first = start
    if isinstance(start.noise, LabelNoise) and start.noise.kind == "uniform" and seen.certain:
        right = LabelNoise.fixed(seen.meaning)
        possible = replace(_without(whole, kept_out & ~_needed(seen, start.rates)), noise=right)
        # Rare jumps that are left out look like wrong labels: they are tried before noise of which there are few signs.
        if start.noise.wrong < _LITTLE_NOISE or not _noise_pays(seen, possible):
            first = possible
    run = _Run(seen, absent is not None, store, kept, options)
    found = run.search(first, 0)
    if first is not start and _noise_pays(seen, found.parameters):
        found = run.search(start, 1 + _ROUNDS)
    return found


def _without(start: JumpParameters, absent: Tensor) -> JumpParameters:
    """Return a start without some of its links."""
    off = torch.where(absent, 0.0, start.rates).fill_diagonal_(0.0)
    return replace(start, rates=off - torch.diag(off.sum(1)))


def _needed(seen: StateObservations, rates: Tensor) -> Tensor:
    """Return pairs ``(S, S)`` of right labels that followed each other where no links lead from one to the other."""
    size = seen.n_states
    reach = (rates > 0) | torch.eye(size, dtype=torch.bool)
    for _ in range(size):
        reach = reach | (reach.double() @ reach.double() > 0)
    before, after = seen.labels[:, :-1][seen.inside], seen.labels[:, 1:][seen.inside]
    followed = torch.bincount(before * size + after, minlength=size**2).reshape(size, size) > 0
    return followed & ~reach


@dataclass(frozen=True, eq=False)
class _Run:
    """Searches of one polish, and the file of its steps."""

    seen: StateObservations
    opening: bool
    store: Checkpoint | None
    kept: Kept | None
    options: Mapping[str, Any]

    def search(self, start: JumpParameters, stage: int) -> LikelihoodFit:
        """Maximise, then open links that pay and go on."""
        likelihood = likelihood_of(self.seen, start.noise)
        found = _run_stage(likelihood, start, stage, self.store, self.kept, self.options)
        if not self.opening:
            return found
        price = 0.5 * math.log(max(2, self.seen.n_changes))
        options = dict(self.options)
        options["em_steps"] = min(_FEW_STEPS, options.get("em_steps", _FEW_STEPS))
        for later in range(stage + 1, stage + 1 + _ROUNDS):
            opened = _with_links(likelihood, found.parameters, price)
            if opened is None:
                break
            more = _run_stage(likelihood, opened, later, self.store, self.kept, options)
            found = replace(more, history=found.history + more.history, iterations=found.iterations + more.iterations)
        return found


def _with_links(likelihood: Likelihood, at: JumpParameters, price: float) -> JumpParameters | None:
    """Return a start with the links that gain more than the price, or ``None`` if none do."""
    size = len(at.rates)
    closed = (at.rates == 0) & ~torch.eye(size, dtype=torch.bool)
    if not bool(closed.any()):
        return None
    slopes = likelihood.slopes(*at.triple).rates
    dwell = slopes.diagonal().clamp_min(1e-300)[:, None].expand(size, size)
    rising = closed & (slopes > dwell)
    if not bool(rising.any()):
        return None
    ajar = torch.where(rising, 1 / dwell, at.rates).fill_diagonal_(0.0)
    later = likelihood.slopes(ajar - torch.diag(ajar.sum(1)), at.noise.emission, at.initial).rates
    # A link whose pull does not fall as it opens has no end in sight: its start is a jump.
    bend = (1 / later.clamp_min(1e-300) - 1 / slopes.clamp_min(1e-300)).clamp_min(0.0)
    jumps = torch.where(bend > 0, 1 / (dwell * bend), 1.0).clamp_max(float(likelihood.seen.n_pairs))
    ratio = torch.where(rising, slopes / dwell, 1.0)
    opened = rising & (jumps * (ratio.log() - 1 + 1 / ratio) > price)
    if not bool(opened.any()):
        return None
    off = torch.where(opened, jumps / dwell * (1 - 1 / ratio), at.rates).fill_diagonal_(0.0)
    return JumpParameters(off - torch.diag(off.sum(1)), at.noise, at.initial)


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
    initial = at.initial.clamp_min(1e-6)
    right, wrong = LabelNoise.fixed(seen.meaning), LabelNoise.uniform(seen.meaning, _LEAST_NOISE)
    # Of right labels the sum over counts is enough, and the first look.
    starts = torch.bincount(seen.labels[:, 0], minlength=seen.n_states).to(torch.float64)
    without = likelihood_of(seen, right).value(at.rates, right.emission, initial) + float(starts @ initial.log())
    return HiddenLikelihood(seen).value(at.rates, wrong.emission, initial) > without
