r"""Uniformisation: a chain that steps at the events of one Poisson process, for all states the same.

.. math:: \tau_{k+1} = \tau_k - \frac{\log(1 - u_k)}{\Lambda}, \qquad P = I + \frac{Q}{\Lambda}, \qquad
    \Lambda = \max_i (-Q_{ii}) .

At each event the state moves by the matrix :math:`P`, often to itself. The event times know nothing of the states, so
that they are drawn many at a time. Jensen (1953).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gendyn.sampling.jumps.jump_process import JumpProcess, RateMatrix
from gendyn.sampling.jumps.segments import Segment
from gendyn.sampling.jumps.skeleton import cumulative_probabilities
from gendyn.sampling.jumps.uniforms import UniformStream

__all__ = ["uniformisation"]


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
    chances = torch.eye(process.n_states, dtype=torch.float64) + process.matrix() / (rate or 1.0)
    # The last sum is 1, which no uniform number reaches.
    table = cumulative_probabilities(chances)[:, :-1].contiguous()
    rows, t, x = torch.arange(len(x0)), start, x0
    while len(rows):
        numbers = uniforms.draw(rows)
        # Where no state is ever left the rate is zero and every time infinite; the floor keeps 0/0 out.
        waits = torch.log1p(-numbers[..., 0]).neg_().clamp_(min=2.0**-54)
        times = waits.cumsum_(0).div_(rate).add_(t)
        times.masked_fill_(times > end, math.inf)
        picks = numbers[..., 1:].contiguous()
        states = x.new_empty((len(picks) + 1, *x.shape))
        states[0] = x
        for k, pick in enumerate(picks):
            states[k + 1] = x = (pick >= table.index_select(0, x[:, 0])).sum(1, keepdim=True)
        yield Segment(rows, t, times, states)
        live = torch.nonzero(times[-1] < math.inf).flatten()
        rows, t, x = rows[live], times[-1, live], x[live]
