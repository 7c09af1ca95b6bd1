r"""Times that cluster before every observation.

A path that an observation pulls is pulled hardest just before it. Between rows at a and a later b the n steps end at

.. math:: t_i = a + (b - a) \bigl(1 - (1 - i/n)^p\bigr), \qquad i = 1, \dots, n ,

equal ones for p = 1. A control that is held over steps needs p = 3; a step that is guided needs nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gendyn.data.checks import exact_times

__all__ = ["approach_times"]

_SAME = 1e-12
"""Times closer than this, relative to the longest span, are one: the last steps before an observation are short."""


def approach_times(
    times: Tensor,
    lengths: Tensor,
    *,
    longest: float = math.inf,
    least: int = 1,
    power: float = 1.0,
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a grid of steps, and where times of the series and wanted ones stand in it.

    Parameters
    ----------
    times
        Of the observations, ``(B, L)``, repeating a series' last time after its end.
    lengths
        Number of times of each series ``(B,)``.
    longest
        Longest step.
    least
        Fewest steps between two rows.
    power
        p.
    wanted
        Further times ``(B, Q)``, none before the first of their series; after the last, steps are equal.

    Returns
    -------
    tuple
        Grid ``(B, M)``, or ``(M,)`` where it is that of all; padding repeats the last time. Places ``(B, L + Q)``.

    Raises
    ------
    ValueError
        If a wanted time lies before its series.

    Examples
    --------
    >>> grid, places = approach_times(torch.tensor([[0.0, 1.0]]), torch.tensor([2]), least=2, power=3.0)
    >>> grid.tolist(), places.tolist()
    ([0.0, 0.875, 1.0], [[0, 2]])
    """
    clock = exact_times(times)
    batch, rows = clock.shape
    last = clock.gather(1, (lengths.cpu() - 1)[:, None])
    asked = clock[:, :0] if wanted is None else exact_times(wanted).expand(batch, -1)
    end = torch.cat([last, asked], 1).amax(1, keepdim=True)
    slack = _SAME * max(float((end - clock[:, :1]).max()), torch.finfo(torch.float64).tiny)
    if asked.numel() and bool((early := asked < clock[:, :1] - slack).any()):
        i, k = torch.nonzero(early)[0].tolist()
        raise ValueError(
            f"series {i} begins at {float(clock[i, 0]):g}; nothing can be said about the time {float(asked[i, k]):g} "
            "before it"
        )
    starts, ends = torch.cat([clock[:, :-1], last], 1), torch.cat([clock[:, 1:], end], 1)
    gap = (ends - starts)[:, :, None]
    powers = torch.full((rows,), power, dtype=torch.float64)
    powers[-1] = 1.0
    fewest = torch.full((rows,), least)
    fewest[-1] = 1
    counts = torch.ceil(powers * gap[..., 0] / longest - 1e-6).to(torch.int64).clamp_min(fewest)[:, :, None]
    part = torch.arange(1, int(counts.max()) + 1)
    inner = starts[:, :, None] + gap * (1 - (1 - part / counts.to(torch.float64)).clamp_min(0.0) ** powers[:, None])
    inner = torch.where((part < counts) & (gap > slack), inner, torch.inf).flatten(1)
    every = torch.cat([inner, clock, asked], 1).sort(1).values
    # The smallest of times that are nearly one stands for all.
    again = torch.zeros_like(every, dtype=torch.bool)
    again[:, 1:] = every.diff(dim=1) <= slack
    every = every.masked_fill(again, torch.inf).sort(1).values
    sizes = torch.isfinite(every).sum(1, keepdim=True)
    grid = every.gather(1, torch.minimum(torch.arange(max(int(sizes.max()), 2)), sizes - 1))
    places = torch.searchsorted(grid.contiguous(), (torch.cat([clock, asked], 1) - slack).contiguous())
    # Padding stands at the end of its row, which may be there many times.
    places = torch.minimum(places, sizes - 1)
    return (grid[0] if bool((grid == grid[:1]).all()) else grid), places
