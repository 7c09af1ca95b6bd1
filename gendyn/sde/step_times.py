r"""The times at which a solver stands: of each series its own, and all that somebody wants to look at.

Between the first and the last time of a series there are

.. math:: n = \lceil (t_{\text{last}} - t_{\text{first}}) / h - 10^{-6} \rceil

equal steps, however often it was observed in between: what the observations say within a step enters through the
control of that step. Or the observation times themselves, as published. Wanted times are added.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.data.checks import exact_times

__all__ = ["step_times"]

_SAME = 1e-9
"""Times closer than this, relative to the longest span, are one."""


def step_times(
    times: Tensor, lengths: Tensor, *, longest: float | None = None, wanted: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the solver's grid of each series, and where the wanted times stand in it.

    Parameters
    ----------
    times
        Of the observations, ``(B, L)``, repeating a series' last time after its end.
    lengths
        Number of times of each series ``(B,)``.
    longest
        Longest step ``h``; without, the steps are those between observations.
    wanted
        Further times ``(Q,)`` or ``(B, Q)``, none before the first of their series.

    Returns
    -------
    tuple
        The grid ``(B, M)``, or ``(M,)`` where it is that of all, float64; padding repeats the last time. Places
        ``(B, Q)`` of the wanted times, or ``None``.

    Raises
    ------
    ValueError
        If a step is not positive, or a wanted time lies before its series.

    Examples
    --------
    >>> times = torch.tensor([[0.0, 0.1, 1.0], [0.0, 0.5, 0.5]])
    >>> step_times(times, torch.tensor([3, 2]), longest=0.5)[0].tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.5, 0.5]]
    >>> grid, places = step_times(times[:1], torch.tensor([3]), wanted=torch.tensor([[0.5, 2.0]]))
    >>> grid.tolist(), places.tolist()
    ([0.0, 0.1, 0.5, 1.0, 2.0], [[2, 4]])
    """
    clock, ends = exact_times(times), lengths.cpu()
    batch, length = clock.shape
    first = clock[:, :1]
    last = clock.gather(1, (ends - 1)[:, None])
    asked = None
    if wanted is not None:
        asked = exact_times(wanted)
        asked = asked.expand(batch, -1) if asked.ndim == 1 else asked
        if asked.ndim != 2 or len(asked) != batch:
            raise ValueError(f"wanted times must have shape (Q,) or ({batch}, Q); got {tuple(wanted.shape)}")
    span = float((torch.maximum(last, asked.amax(1, keepdim=True)) if asked is not None else last).sub(first).max())
    slack = _SAME * max(span, torch.finfo(torch.float64).tiny)
    if asked is not None and bool((early := asked < first - slack).any()):
        i, k = torch.nonzero(early)[0].tolist()
        raise ValueError(
            f"series {i} begins at {float(first[i, 0]):g}; nothing can be said about the time {float(asked[i, k]):g} "
            "before it"
        )
    if longest is None:
        here = torch.where(torch.arange(length) < ends[:, None], clock, torch.inf)
    else:
        if not longest > 0:
            raise ValueError(f"the longest step must be positive; got {longest}")
        counts = torch.ceil((last - first) / longest - 1e-6).clamp_min(1).to(torch.int64)
        part = torch.arange(int(counts.max()) + 1)
        here = torch.where(part <= counts, first + (last - first) * (part / counts.to(torch.float64)), torch.inf)
    if asked is not None:
        here = torch.cat([here, asked], dim=1)
    grid = _pushed_together(here, slack)
    if asked is None:
        return (grid[0] if bool((grid == grid[0]).all()) else grid), None
    places = torch.searchsorted(grid.contiguous(), (asked - slack).contiguous()).clamp_max(grid.shape[1] - 1)
    return (grid[0] if bool((grid == grid[0]).all()) else grid), places


def _pushed_together(here: Tensor, slack: float) -> Tensor:
    """Return each row in order without what is infinite or there twice, padded with its last time."""
    ordered = here.sort(1).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ~(ordered[:, 1:] - ordered[:, :-1] > slack)
    ordered = ordered.masked_fill(again, torch.inf).sort(1).values
    counts = torch.isfinite(ordered).sum(1)
    most = max(int(counts.max()), 2)
    if ordered.shape[1] < most:
        ordered = torch.cat([ordered, torch.full_like(ordered[:, :1], torch.inf)], dim=1)
    return ordered.gather(1, torch.minimum(torch.arange(most), (counts - 1)[:, None]))
