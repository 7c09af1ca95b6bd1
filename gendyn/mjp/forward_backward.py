r"""The forward recursion over looks, and its derivatives by the backward recursion in place of a graph.

.. math:: f_m = (\hat\alpha_{m-1} T_m) \odot d_m, \qquad c_m = \sum_s f_{m,s}, \qquad \hat\alpha_m = f_m / c_m, \qquad
    \ell = \sum_m \log c_m,

with :math:`f_0 = p_0 \odot d_0`. With :math:`\hat\beta_M = 1` and :math:`H_m = \hat\beta_m \odot d_m / c_m`,

.. math:: \hat\beta_{m-1} = T_m H_m, \qquad \frac{\partial\ell}{\partial T_m} = \hat\alpha_{m-1} H_m^\top, \qquad
    \frac{\partial\ell}{\partial d_m} = (\hat\alpha_{m-1} T_m) \odot \hat\beta_m / c_m, \qquad
    \frac{\partial\ell}{\partial p_0} = H_0

(Baum, Petrie, Soules and Weiss 1970; Rabiner 1989). Paths come last in every array, so that sums over states run along
whole rows of memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["log_forward"]

_LEAST = 1e-300
"""Probabilities below this count as this."""


def log_forward(moves: Tensor, density: Tensor, initial: Tensor, inside: Tensor) -> Tensor:
    r"""Return :math:`\ell`, the sum over paths; differentiable once.

    Parameters
    ----------
    moves
        :math:`T_m`, what happens between looks: ``(S, S, L - 1, K)``, or ``(L - 1, S, S)`` where it is the same for all
        paths.
    density
        :math:`d_m`, how likely each look is in each state, ``(L, S, K)``.
    initial
        :math:`p_0`, ``(S,)``.
    inside
        Which of the later looks a path has, ``(L - 1, K)``.

    Examples
    --------
    >>> moves = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
    >>> density = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]]])
    >>> log_forward(moves, density, torch.tensor([1.0, 0.0]), torch.tensor([[True]])).exp()
    tensor(0.1000)
    """
    value: Tensor = _LogForward.apply(moves, density, initial, inside)  # type: ignore[no-untyped-call]
    return value


class _LogForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, moves: Tensor, density: Tensor, initial: Tensor, inside: Tensor) -> Tensor:
        law, norm = _scaled(initial[:, None] * density[0])
        laws, moved, norms = [law], [], [norm]
        whole = inside.all(1).tolist()
        for m, move in enumerate(_steps(moves)):
            following = (law[:, None] * move).sum(0) if moves.ndim == 4 else move.T @ law
            seen, norm = _scaled(following * density[m + 1])
            law = seen if whole[m] else torch.where(inside[m], seen, law)
            laws.append(law)
            moved.append(following)
            norms.append(norm if whole[m] else torch.where(inside[m], norm, 1.0))
        scales = torch.stack(norms)
        ctx.save_for_backward(moves, density, initial, inside, torch.stack(laws), scales, *moved)
        return scales.log().sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, towards: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        moves, density, initial, inside, laws, scales, *moved = ctx.saved_tensors
        alone, steps, whole = moves.ndim == 4, _steps(moves), inside.all(1).tolist()
        # What is impossible has a constant for its logarithm, and no slope.
        inverse = torch.where(scales > _LEAST, 1 / scales, 0.0)
        inverse[1:] *= inside
        back = torch.ones_like(laws[0])
        pulls, of_density = torch.empty_like(laws[1:]), torch.empty_like(density)
        for m in range(len(steps) - 1, -1, -1):
            share = back * inverse[m + 1]
            of_density[m + 1] = moved[m] * share
            pulls[m] = pull = share * density[m + 1]
            earlier = (steps[m] * pull).sum(1) if alone else steps[m] @ pull
            back = earlier if whole[m] else torch.where(inside[m], earlier, back)
        share = back * inverse[0]
        of_density[0] = initial[:, None] * share
        of_initial = (density[0] * share).sum(1) * towards
        of_moves = None
        if ctx.needs_input_grad[0]:
            if alone:
                before, after = laws[:-1].transpose(0, 1).contiguous(), pulls.transpose(0, 1).contiguous()
                of_moves = (before[:, None] * after).mul_(towards)
            else:
                of_moves = (laws[:-1] @ pulls.transpose(1, 2)).mul_(towards)
        return of_moves, of_density.mul_(towards), of_initial, None


def _steps(moves: Tensor) -> tuple[Tensor, ...]:
    return moves.unbind(2 if moves.ndim == 4 else 0)


def _scaled(law: Tensor) -> tuple[Tensor, Tensor]:
    """Return laws ``(S, K)`` that sum to 1, and what they summed to."""
    norm = law.sum(0).clamp_min(_LEAST)
    return law / norm, norm
