r"""Thinning, for rates that change with time: candidates come at a rate above them, and are kept in proportion.

.. math::

    \tau = -\frac{\log(1 - u_1)}{\bar a(x)}, \qquad
    r = \min\Bigl\{r : \sum_{s \le r} a_s(t + \tau, x) > u_2\, \bar a(x)\Bigr\},

and no jump where there is no such :math:`r`. The bound :math:`\bar a(x) \ge a_0(t, x)` must hold at all times.
Lewis and Shedler (1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gendyn.sampling.jumps.jump_process import JumpProcess, cumulative_rates
from gendyn.sampling.jumps.segments import Segment, fire_events
from gendyn.sampling.jumps.uniforms import UniformStream

__all__ = ["thinning"]

_SLACK = 1.0 + 1e-9
"""A bound may be touched to rounding."""


def thinning(process: JumpProcess, x0: Tensor, start: Tensor, end: float, uniforms: UniformStream) -> Iterator[Segment]:
    """Yield the candidate events up to ``end`` of paths that start at ``x0``, ``(B, d)``, and ``start``, ``(B,)``.

    Raises
    ------
    ValueError
        If there is no bound, a rate exceeds it, rates are negative, or lead to negative counts.

    Examples
    --------
    >>> from gendyn.sampling.jumps import ReactionNetwork
    >>> arrivals = ReactionNetwork([[1]], lambda t, x: 2 * (1 + torch.sin(t)), bound=4.0, autonomous=False)
    >>> x0 = torch.zeros(3, 1, dtype=torch.int64)
    >>> segment = next(thinning(arrivals, x0, torch.zeros(3, dtype=torch.float64), 2.0, UniformStream(0, 3, 2)))
    >>> bool((segment.times[0] > 0).all())
    True
    """
    bound: Callable[[Tensor], Tensor] | None = getattr(process, "bound", None)
    if bound is None:
        raise ValueError(
            f"thinning needs a bound on the total rate; give {type(process).__name__} a method bound(state)"
        )
    cumulative = cumulative_rates(process)

    def step(t: Tensor, x: Tensor, exponential: Tensor, pick: Tensor) -> tuple[Tensor, Tensor]:
        most = bound(x)
        t = t + exponential / most
        over = t > end
        # Paths that have ended stay within the times for which the bound was given.
        rates = cumulative(t.clamp(max=end), x)
        _check_bound(rates[:, -1], most, t, x)
        which = ((pick * most)[:, None] >= rates).sum(1)
        stays = over | (which == rates.shape[1])
        moved = process.jump(x, which.clamp_(max=rates.shape[1] - 1))
        return t.masked_fill_(over, math.inf), torch.where(stays[:, None], x, moved)

    return fire_events(step, x0, start, uniforms)


def _check_bound(total: Tensor, most: Tensor, t: Tensor, x: Tensor) -> None:
    above = total > most * _SLACK
    if bool(above.any()):
        i = int(torch.nonzero(above)[0])
        raise ValueError(
            f"the total rate {float(total[i]):g} in state {x[i].tolist()} at time {float(t[i]):g} exceeds its bound "
            f"{float(most[i]):g}; thinning would be wrong: give a larger bound"
        )
