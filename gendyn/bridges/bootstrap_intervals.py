r"""Intervals by fitting anew what was drawn again: rows of every population, with replacement.

Let :math:`\hat\theta` be the estimate and :math:`\theta^*` those of the drawn populations, on the scale on which the
parameter is kept. As :math:`\hat\theta` lies around the truth, so does :math:`\theta^*` around :math:`\hat\theta`,

.. math:: \bigl[\, 2 \hat\theta - q_{(1 + l) / 2},\; 2 \hat\theta - q_{(1 - l) / 2} \,\bigr],

with the quantiles :math:`q` of :math:`\theta^*` and the level :math:`l` (the basic bootstrap: Davison and Hinkley 1997,
section 5.2). Noise that is matched is matched anew in every draw. What resampling does to the noise, to be estimated
larger where fewer sources reach a point, is reflected with the rest, so that an interval need not have the estimate in
its middle, or in it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.bridges.coupling_em import CouplingObjective
from gendyn.bridges.marginals import Marginals
from gendyn.bridges.noise_matching import NoiseMatch
from gendyn.bridges.parameter_intervals import parameter_table
from gendyn.bridges.pushforward import PushforwardObjective
from gendyn.bridges.references.family import LearnableReference
from gendyn.bridges.transition import NoTransition
from gendyn.randomness import torch_generator

__all__ = ["bootstrap_table", "resampled"]

_LEAST = 10
"""Draws, at least, that must have an estimate for there to be quantiles."""


def resampled(marginals: Marginals, generator: torch.Generator) -> Marginals:
    """Return populations of as many draws with replacement; a row that was drawn twice counts twice, as one row.

    That pairs of a row with itself are no pairs of cells is then known to whoever leaves them out.
    """
    samples, weights = [], []
    for x, w in zip(marginals.samples, marginals.weights, strict=True):
        rows, counts = torch.unique(torch.randint(len(x), (len(x),), generator=generator), return_counts=True)
        samples.append(x[rows.to(x.device)])
        weights.append(w[rows.to(w.device)] * counts.to(w))
    return replace(marginals, samples=tuple(samples), weights=tuple(w / w.sum() for w in weights))


def bootstrap_table(
    objective: PushforwardObjective | CouplingObjective,
    reference: LearnableReference,
    parameters: Sequence[Tensor],
    level: float,
    *,
    draws: int,
    seed: int,
    match_seed: int | None = None,
) -> pd.DataFrame:
    """Return value and interval of every named parameter, as :func:`parameter_table` does.

    Parameters
    ----------
    objective
        What the estimate minimises.
    reference, parameters
        The reference at the estimate, and those of its parameters that were learned; they are as before afterwards, but
        for noise that is matched.
    level
        Probability that an interval is to cover the truth.
    draws
        How often populations are drawn and fitted.
    seed
        Which rows are drawn.
    match_seed
        Which frequencies the noise is matched at, where it is: after every fit, see :class:`NoiseMatch`.
    """
    kept = [p.detach().clone() for p in parameters]

    def put_back() -> None:
        with torch.no_grad():
            for p, value in zip(parameters, kept, strict=True):
                p.copy_(value)

    matched = match_seed is not None and NoiseMatch(reference, objective.marginals, match_seed).match(reference)
    noise = reference.log_sigma.detach().clone()
    table = parameter_table(reference, parameters, None, level)
    put_back()
    found = []
    for number in range(draws):
        again = copy.copy(objective)
        again.marginals = resampled(objective.marginals, torch_generator(seed, "bootstrap", number))
        try:
            again.improve(reference, parameters)
            if matched and match_seed is not None:
                NoiseMatch(reference, again.marginals, match_seed).match(reference)
        except NoTransition:
            continue
        finally:
            values = parameter_table(reference, parameters, None, level)["value"].to_numpy()
            put_back()
        found.append(values)
    with torch.no_grad():
        reference.log_sigma.copy_(noise)
    if len(found) < _LEAST:
        return table
    estimates, centre = np.stack(found), table["value"].to_numpy()
    positive = table["parameter"].str.partition("[")[0].isin(reference.positive).to_numpy()
    estimates[:, positive] = np.log(estimates[:, positive])
    centre = np.where(positive, np.log(np.where(positive, centre, 1.0)), centre)
    low, high = (2 * centre - np.quantile(estimates, q, axis=0) for q in ((1 + level) / 2, (1 - level) / 2))
    # What was held did not move.
    moved = np.ptp(estimates, axis=0) > 0
    for name, end in (("low", low), ("high", high)):
        end = np.where(positive, np.exp(np.where(positive, end, 0.0)), end)
        table[name] = np.where(moved, end, np.nan)
    return table
