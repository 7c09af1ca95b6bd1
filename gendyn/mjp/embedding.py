r"""Whether looks at one interval can be those of a jump process at all.

The rates of looks at a single interval :math:`\Delta` are :math:`\log \hat P / \Delta`, if the logarithm of the
transition matrix that was seen is a rate matrix (Kingman 1962; Israel, Rosenthal and Wei 2001). Since
:math:`\det e^{Q\Delta} = e^{\Delta\,\mathrm{tr}\,Q} > 0`, it never is where :math:`\det \hat P \le 0`; of two states
that is the whole condition, :math:`\hat P_{00} + \hat P_{11} > 1`. The likelihood then rises without end as the rates
do, and a search stops at its bounds.
"""

from __future__ import annotations

import math
import warnings

import torch
from scipy.stats import chi2
from torch import Tensor

from gendyn.mjp.observations import SNAPSHOT, StateObservations

__all__ = ["NotEmbeddable", "warn_if_far_apart", "warn_if_not_embeddable"]

_FAR = 5.0
"""Holding times of the fastest state between looks, from which on looks tell occupation alone."""

_ALIKE = 1.5
"""Intervals up to this times the shortest are taken together."""

_TOLD = 2.0
"""Relaxation times between looks at which pairs must be enough to tell that their labels depend on each other."""


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
    """Warn if looks that follow each other are further apart than the process remembers.

    That is, if the shortest interval is many holding times of the fastest state by these rates ``(S, S)``, or if labels
    a shortest interval apart are as good as independent where there are enough of them to tell.
    """
    holdings = float(seen.lags[0]) * float(-rates.diagonal().min())
    pairs = _independent_pairs(seen)
    if holdings > _FAR or pairs:
        why = (
            f"the shortest interval is {holdings:.2g} mean holding times of the fastest state"
            if holdings > _FAR
            else f"the labels of {pairs} pairs, as far apart as the shortest interval, are as good as independent"
        )
        warnings.warn(
            f"the looks are further apart than the process remembers ({why}): they tell how often states are occupied, "
            "not how fast they change, or no jump process fits them; look more often",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _independent_pairs(seen: StateObservations) -> int:
    r"""Return the number of pairs whose labels are as good as independent, or 0 if they are not, or are too few.

    :math:`G = 2 \sum_{ij} C_{ij} \log\bigl(n C_{ij} / (r_i c_j)\bigr)` has about a chi-square law if they are, and
    grows with :math:`n e^{-2\Delta / t}` for a relaxation time :math:`t` if they are not (Wilks 1938).
    """
    size = seen.n_states
    before, after = seen.labels[:, :-1], seen.labels[:, 1:]
    chosen = seen.inside & (seen.lag_of <= int((seen.lags <= _ALIKE * seen.lags[0]).sum()) - 1)
    chosen = chosen & (before < size) & (after < size)
    flat = (before * size + after)[chosen]
    counts = torch.bincount(flat, minlength=size**2).reshape(size, size).to(torch.float64)
    rows, columns, total = counts.sum(1), counts.sum(0), counts.sum()
    degrees = (int((rows > 0).sum()) - 1) * (int((columns > 0).sum()) - 1)
    if degrees < 1:
        return 0
    usual = float(chi2.ppf(0.99, degrees))
    if float(total) * math.exp(-2 * _TOLD) < usual:
        return 0
    expected = rows[:, None] * columns[None] / total
    found = 2 * torch.xlogy(counts, counts / expected.clamp_min(1e-300)).sum()
    return int(total) if float(found) < usual else 0
