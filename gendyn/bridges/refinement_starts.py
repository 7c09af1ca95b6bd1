"""Where a refinement starts, and which of several starts led furthest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gendyn.bridges.marginals import Marginals
from gendyn.bridges.references.family import LearnableReference, ReferenceFamily
from gendyn.bridges.refinement_engine import Stage, refine
from gendyn.bridges.transition import NoTransition
from gendyn.data import Snapshots
from gendyn.randomness import derive_seed, torch_generator
from gendyn.training import Checkpoint

__all__ = ["likeliest", "start_reference"]

_JITTER = 0.5
"""Standard deviation by which a restart moves start values, in logarithms and units of spread and pace."""


def start_reference(
    family: ReferenceFamily,
    data: Snapshots,
    root: int,
    number: int = 0,
    *,
    sigma: float | None = None,
    hidden: bool = False,
) -> LearnableReference:
    """Return the reference where a start begins; the first begins where the family says, others beside it.

    Parameters
    ----------
    family, data
        What is learned, and from what.
    root, number
        Seed of the fit, and which start.
    sigma
        The noise to begin with, where it is given.
    hidden
        Whether some features of the family may be missing from the data.

    Raises
    ------
    ValueError
        If features are missing that may not be.

    Examples
    --------
    >>> from gendyn.bridges.references import Brownian
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(2, 1), torch.ones(2, 1)])
    >>> round(start_reference(Brownian(), data, 0, sigma=0.5).log_sigma.exp().item(), 6)
    0.5
    """
    reference = family.start(data, derive_seed(root, "start", number))
    if reference.recorded < reference.dim and not hidden:
        raise ValueError(
            f"{type(family).__name__} has {reference.dim} features, and the data show {reference.recorded} of them; "
            "give gendyn.references.PartlyObserved around it, which says what is known of the others, or take a family "
            "of the recorded features alone"
        )
    with torch.no_grad():
        if sigma is not None:
            noise = reference.log_sigma
            noise.copy_(torch.tensor(sigma, dtype=torch.float64, device=noise.device).log())
        if number:
            generator = torch_generator(root, "restart", number)
            for parameter in reference.drift_parameters():
                moved = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(_JITTER * moved.to(parameter.device) / max(1, parameter.shape[-1:].numel()))
    return reference


def likeliest(
    starts: Sequence[LearnableReference],
    marginals: Marginals,
    stages: Sequence[Stage],
    stores: Sequence[Checkpoint | None],
    **options: bool,
) -> tuple[LearnableReference, list[dict[str, Any]]]:
    """Refine references from several starts; return the one with the smallest objective, and its history."""
    found: list[tuple[float, LearnableReference, list[dict[str, Any]]]] = []
    failure: NoTransition | None = None
    for reference, store in zip(starts, stores, strict=True):
        try:
            rows = refine(reference, marginals, stages, store=store, **options)
        except NoTransition as error:
            failure = error
            continue
        found.append((rows[-1]["objective"], reference, rows))
    if not found:
        assert failure is not None
        raise failure
    _, reference, rows = min(found, key=lambda entry: entry[0])
    return reference, rows
