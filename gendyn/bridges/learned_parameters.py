"""The table of what a refinement has learned, with intervals where these are affordable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from torch import Tensor

from gendyn.bridges.bootstrap_intervals import bootstrap_table
from gendyn.bridges.coupling_em import CouplingObjective
from gendyn.bridges.noise_matching import NoiseMatch
from gendyn.bridges.parameter_intervals import parameter_influences, parameter_table
from gendyn.bridges.pushforward import PushforwardObjective
from gendyn.bridges.references.family import LearnableReference

__all__ = ["learned_parameters"]

_DRAWS = 100
"""Fits to drawn populations for intervals."""

_MOST = 120
"""Parameters beyond which intervals are left out: they cost four likelihoods each."""


def learned_parameters(
    objective: PushforwardObjective | CouplingObjective,
    reference: LearnableReference,
    learned: Sequence[Tensor],
    *,
    intervals: Literal["laplace", "bootstrap"] | None,
    level: float,
    seed: int,
    match_seed: int | None,
) -> pd.DataFrame:
    """Match the noise where that is wanted; return ``parameter``, ``value``, ``low``, ``high`` and ``level``.

    Parameters
    ----------
    objective
        What the last engine minimised.
    reference
        What was learned; its noise is matched in place.
    learned
        The parameters that were.
    intervals, level
        As for :class:`~gendyn.ReferenceRefinement`. There are none where some parameters have no name, coordinates are
        hidden, or they would be too many.
    seed
        Which rows a bootstrap draws.
    match_seed
        Which frequencies the noise is matched at; ``None``: it is not.
    """
    affordable = bool(learned) and objective.marginals.lift is None and _named(reference)
    if intervals == "bootstrap" and affordable:
        return bootstrap_table(objective, reference, learned, level, draws=_DRAWS, seed=seed, match_seed=match_seed)
    influences = None
    if intervals == "laplace" and affordable:
        influences = parameter_influences(objective, reference, learned)
    if match_seed is not None:
        match = NoiseMatch(reference, objective.marginals, match_seed)
        if match.match(reference) and influences is not None:
            influences = match.influences(reference, learned, influences)
    return parameter_table(reference, learned, None if influences is None else influences.covariance(), level)


def _named(reference: LearnableReference) -> bool:
    """Return whether all parameters have names, and are few enough for intervals."""
    named = sum(value.numel() for value in reference.coefficients().values()) - reference.log_sigma.numel()
    moved = sum(parameter.numel() for parameter in reference.drift_parameters())
    held = set(reference.family.fixed) - {"sigma"}
    moved += sum(value.numel() for name, value in reference.coefficients().items() if name in held)
    return named == moved <= _MOST
