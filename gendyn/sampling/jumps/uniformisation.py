r"""Uniformisation: a chain that steps at the events of one Poisson process, for all states the same.

.. math:: N \sim \operatorname{Poisson}(\Lambda T), \qquad P = I + Q / \Lambda, \qquad \Lambda = \max_i (-Q_{ii}) .

Given their number the events are sorted uniform times; at each the state moves by the matrix :math:`P`, often to
itself. Jensen (1953).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gendyn.sampling.jumps.counts import poisson_quantile
from gendyn.sampling.jumps.jump_process import JumpProcess, RateMatrix
from gendyn.sampling.jumps.segments import Segment
from gendyn.sampling.jumps.skeleton import cumulative_probabilities
from gendyn.sampling.jumps.uniforms import UniformStream
from gendyn.sampling.tiles import ROWS

__all__ = ["uniformisation"]

_EVENTS_AT_ONCE = 1 << 21
"""About as many events, over all paths, are held at a time."""


def uniformisation(
    process: JumpProcess, x0: Tensor, start: Tensor, end: float, uniforms: UniformStream
) -> Iterator[Segment]:
    """Yield the events up to ``end`` of paths that start at ``x0``, ``(B, d)``, and ``start``, ``(B,)``.

    Raises
    ------
    ValueError
        If the process is not a constant rate matrix.

    Examples
    --------
    >>> switch = RateMatrix([[-1.5, 1.5], [0.5, -0.5]])
    >>> x0 = torch.zeros(3, 1, dtype=torch.int64)
    >>> segment = next(uniformisation(switch, x0, torch.zeros(3, dtype=torch.float64), 2.0, UniformStream(0, 3, 2)))
    >>> bool((segment.times.diff(dim=0)[0] > 0).all())
    True
    """
    if not isinstance(process, RateMatrix) or not process.autonomous:
        raise ValueError("uniformisation is for a constant RateMatrix; use solver='direct_method' or 'thinning'")
    rate = float(process.exit_rates.max())
    mean = rate * (end - start)
    longest = float(mean.max())
    table = cumulative_probabilities(
        torch.eye(process.n_states, dtype=torch.float64) + process.matrix() / (rate or 1.0)
    )
    size = max(ROWS, int(_EVENTS_AT_ONCE / max(longest, 1.0)) // ROWS * ROWS)
    for first in range(0, len(x0), size):
        rows = torch.arange(first, min(first + size, len(x0)))
        numbers = uniforms.draw(rows)
        count = poisson_quantile(numbers[0, :, 0], mean[rows])
        most = int(count.max())
        pieces = [numbers[1:]]
        for _ in range(-(-(most + 1 - len(numbers)) // len(numbers))):
            pieces.append(uniforms.draw(rows))
        numbers = torch.cat(pieces)[:most]
        times = start[rows] + (end - start[rows]) * numbers[..., 0]
        times[torch.arange(most)[:, None] >= count] = math.inf
        times = times.sort(dim=0).values
        states = x0.new_empty((most + 1, len(rows), 1))
        states[0] = x = x0[rows]
        for k in range(most):
            x = (numbers[k, :, 1:] >= table.index_select(0, x[:, 0])).sum(1, keepdim=True)
            states[k + 1] = x
        # One more row of "never", so that the path is seen to have ended.
        times = torch.cat([times, times.new_full((1, len(rows)), math.inf)])
        states = torch.cat([states, states[-1:]])
        yield Segment(rows, start[rows], times, states)
