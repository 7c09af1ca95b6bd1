"""References from what a file holds of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from gendyn.bridges.references.fixed import ReferenceLike, restore_reference
from gendyn.bridges.references.local_brownian import LocalBrownian
from gendyn.bridges.references.matern import Matern
from gendyn.bridges.references.partly_observed import PartlyObserved
from gendyn.sampling import Process

__all__ = ["restore_any"]


def restore_any(described: Any) -> ReferenceLike:
    """Undo :func:`~gendyn.bridges.references.fixed.describe_reference`, for those that follow from populations as well.

    Examples
    --------
    >>> restore_any(Matern(2.0).describe())
    Matern(length=2.0, scale=None, smoothness=1.5)
    """
    if isinstance(described, Mapping) and "matern" in described:
        return Matern(**described["matern"])
    if isinstance(described, Mapping) and "local_brownian" in described:
        return LocalBrownian(**described["local_brownian"])
    if isinstance(described, Mapping) and "partly_observed" in described:
        parts = dict(described["partly_observed"])
        return PartlyObserved(cast(Process, restore_reference(parts.pop("process"))), **parts)
    return restore_reference(described)
