r"""The skeleton: the states at given times, without what happens between.

.. math:: X_{t_{k+1}} \sim P_{X_{t_k},\,\cdot}, \qquad P = e^{Q (t_{k+1} - t_k)} .

Exact at those times, at a cost that does not depend on the number of jumps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn.sampling.jumps.jump_process import JumpProcess, RateMatrix
from gendyn.sampling.jumps.uniforms import EVENTS, UniformStream

__all__ = ["skeleton"]


def skeleton(process: JumpProcess, x0: Tensor, times: Tensor, uniforms: UniformStream) -> Tensor:
    """Return the states at times ``(T,)`` of paths that start at ``x0``, ``(B, 1)``: ``(B, T, 1)``.

    Raises
    ------
    ValueError
        If the process is not a constant rate matrix, or paths have times of their own.

    Examples
    --------
    >>> switch = RateMatrix([[-1.5, 1.5], [0.5, -0.5]])
    >>> x0 = torch.zeros(2000, 1, dtype=torch.int64)
    >>> states = skeleton(switch, x0, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64), UniformStream(0, 2000, 1))
    >>> states[:, 1].double().mean().item()
    0.4...
    """
    if not isinstance(process, RateMatrix) or not process.autonomous:
        raise ValueError("the skeleton is for a constant RateMatrix; use solver='direct_method' or 'thinning'")
    if times.ndim != 1:
        raise ValueError("the skeleton needs times shared by all paths; use solver='direct_method'")
    # Times such as 0.1, 0.2, ... differ in the last bits; one matrix exponential serves equal gaps.
    gaps = torch.tensor([float(f"{gap:.12g}") for gap in times.diff().tolist()], dtype=torch.float64)
    distinct, which = torch.unique(gaps, return_inverse=True)
    tables = [cumulative_probabilities(process.transition(gap)) for gap in distinct]
    rows = torch.arange(len(x0))
    states = x0.new_empty((len(times), *x0.shape))
    states[0] = x = x0
    numbers = torch.empty(0)
    for k, gap in enumerate(which.tolist()):
        if k % EVENTS == 0:
            numbers = uniforms.draw(rows)
        x = (numbers[k % EVENTS] >= tables[gap].index_select(0, x[:, 0])).sum(1, keepdim=True)
        states[k + 1] = x
    return states.transpose(0, 1).contiguous()


def cumulative_probabilities(p: Tensor) -> Tensor:
    """Return rows summed up, ``(K, K)``, exactly 1 from the last possible state on."""
    p = p.clamp_min(0.0)
    total = p.cumsum(1)
    # Rounding must neither lose the last state nor let in an impossible one.
    last = p.shape[1] - 1 - (p.flip(1) > 0).to(torch.int64).argmax(1)
    return torch.where(torch.arange(p.shape[1]) >= last[:, None], 1.0, total)
