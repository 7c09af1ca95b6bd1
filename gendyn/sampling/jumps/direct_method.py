r"""The direct method of Gillespie (1977), for many paths at once.

.. math:: \tau = -\frac{\log(1 - u_1)}{a_0(x)}, \qquad r = \min\Bigl\{r : \sum_{s \le r} a_s(x) > u_2\, a_0(x)\Bigr\} .
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from gendyn.sampling.jumps.jump_process import JumpProcess, cumulative_rates
from gendyn.sampling.jumps.segments import Segment, fire_events
from gendyn.sampling.jumps.uniforms import UniformStream

__all__ = ["direct_method"]


def direct_method(
    process: JumpProcess, x0: Tensor, start: Tensor, end: float, uniforms: UniformStream
) -> Iterator[Segment]:
    """Yield the events up to ``end`` of paths that start at ``x0``, ``(B, d)``, and ``start``, ``(B,)``.

    Raises
    ------
    ValueError
        If the rates depend on time, are negative, or lead to negative counts.

    Examples
    --------
    >>> from gendyn.sampling.jumps import RateMatrix
    >>> switch = RateMatrix([[-1.5, 1.5], [0.5, -0.5]])
    >>> x0 = torch.zeros(3, 1, dtype=torch.int64)
    >>> segment = next(direct_method(switch, x0, torch.zeros(3, dtype=torch.float64), 2.0, UniformStream(0, 3, 2)))
    >>> segment.states[0].tolist()
    [[0], [0], [0]]
    """
    if not process.autonomous:
        raise ValueError("the direct method is for rates that do not depend on time; use solver='thinning' and a bound")
    cumulative = cumulative_rates(process)

    def step(t: Tensor, x: Tensor, exponential: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        rates = cumulative(t, x)
        total = rates[:, -1]
        t = t + exponential / total
        which = ((pick * total)[:, None] >= rates).sum(1).clamp_(max=rates.shape[1] - 1)
        over = t > end
        return t.masked_fill_(over, math.inf), torch.where(over[:, None], x, process.jump(x, which))

    return fire_events(step, x0, start, uniforms)
