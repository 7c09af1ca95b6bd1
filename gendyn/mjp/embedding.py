r"""Whether looks at one interval can be those of a jump process at all.

The rates of looks at a single interval :math:`\Delta` are :math:`\log \hat P / \Delta`, if the logarithm of the
transition matrix that was seen is a rate matrix (Kingman 1962; Israel, Rosenthal and Wei 2001). Since
:math:`\det e^{Q\Delta} = e^{\Delta\,\mathrm{tr}\,Q} > 0`, it never is where :math:`\det \hat P \le 0`; of two states
that is the whole condition, :math:`\hat P_{00} + \hat P_{11} > 1`. The likelihood then rises without end as the rates
do, and a search stops at its bounds.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from gendyn.mjp.observations import SNAPSHOT, StateObservations

__all__ = ["NotEmbeddable", "warn_if_far_apart", "warn_if_not_embeddable"]

_FAR = 5.0
"""Holding times of the fastest state between looks, from which on looks tell occupation alone."""


class NotEmbeddable(UserWarning):
    """No jump process has the transition matrix that was seen; rates are bounded by what the looks resolve."""


def warn_if_not_embeddable(seen: StateObservations, *, stacklevel: int = 2) -> bool:
    """Warn, and return true, if snapshots at a single interval show a matrix that no jump process has.

    Parameters
    ----------
    seen
        The looks, with labels as they are.
    stacklevel
        Of the warning.

    Examples
    --------
    >>> from gendyn.data import Paths
    >>> alternating = StateObservations.of(Paths([0.0, 1.0, 2.0], torch.tensor([[0, 1, 0], [1, 0, 1]])))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     warn_if_not_embeddable(alternating)
    True
    """
    size = seen.n_states
    if len(seen.lags) != 1 or not seen.certain or bool((seen.kinds != SNAPSHOT).any()):
        return False
    before, after = seen.labels[:, :-1][seen.inside], seen.labels[:, 1:][seen.inside]
    counts = torch.bincount(before * size + after, minlength=size**2).reshape(size, size).to(torch.float64)
    if not bool((counts.sum(1) > 0).all()):
        return False
    found = counts / counts.sum(1, keepdim=True)
    determinant = float(torch.linalg.det(found))
    if determinant > 0:
        return False
    what = (
        f"the two states keep themselves with probabilities that sum to {float(found.trace()):.3g}, not above 1"
        if size == 2
        else f"the transition matrix that was seen has the determinant {determinant:.2g}, not above 0"
    )
    warnings.warn(
        f"{what}: no jump process looked at every {float(seen.lags[0]):.4g} has that, and the likeliest rates are "
        "without bound; the estimate stops at what the looks resolve. Look more often, or at intervals of several "
        "lengths",
        NotEmbeddable,
        stacklevel=stacklevel + 1,
    )
    return True


def warn_if_far_apart(seen: StateObservations, rates: Tensor, *, stacklevel: int = 2) -> None:
    """Warn if the shortest interval is longer than a process with these rates ``(S, S)`` remembers."""
    holdings = float(seen.lags[0]) * float(-rates.diagonal().min())
    if holdings > _FAR:
        warnings.warn(
            "the looks are further apart than the process remembers (the shortest interval is "
            f"{holdings:.2g} mean holding times of the fastest state): they tell how often states are occupied, not "
            "how fast they change, or no jump process fits them; look more often",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
