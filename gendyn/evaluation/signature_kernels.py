r"""The signature kernel: the inner product of two signatures, all levels, without computing either.

For curves :math:`x, y` the kernel :math:`k(s, t) = \langle S(x_{[0,s]}), S(y_{[0,t]}) \rangle` solves

.. math:: \frac{\partial^2 k}{\partial s\, \partial t} = \langle \dot x_s, \dot y_t \rangle\, k,
    \qquad k(0, \cdot) = k(\cdot, 0) = 1

(Salvi et al. 2021). On the grid of segments, with :math:`p_{ij} = \langle \Delta x_i, \Delta y_j \rangle`,

.. math:: k_{i+1,j+1} = (k_{i,j+1} + k_{i+1,j}) \big(1 + \tfrac12 p_{ij} + \tfrac1{12} p_{ij}^2\big)
    - k_{ij} \big(1 - \tfrac1{12} p_{ij}^2\big)

is of second order; dyadic refinement ``r`` cuts each segment in :math:`2^r`, so that a cell becomes :math:`4^r` cells
of :math:`p / 4^r`. Cells of one anti-diagonal do not depend on each other: they, and all pairs of a block, are one
vector operation. Gradients are those of the scheme itself, by its adjoint recursion from the last diagonal back to the
first.

Curves may first be lifted by a Gaussian static kernel :math:`\kappa(a, b) = e^{-\lvert a - b\rvert^2 / 2\ell^2}`, whose
double differences then take the place of :math:`p`. The kernel grows like :math:`e^{2\sqrt{V_x V_y}}` in the variations
:math:`V` of the (lifted) curves, so they are brought to about one, see :func:`unit_scale`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from gendyn.parallel import spread

__all__ = ["kernel_score", "signature_gram", "signature_kernel", "unit_scale"]

_BLOCK = 1 << 20
"""Cells of a block of pairs, refinement included, 8 MB in float64, of which some 1 MB are at work at a time."""


def signature_kernel(
    x: Tensor, y: Tensor, *, bandwidth: float | None = None, scale: float = 1.0, refinement: int = 0
) -> Tensor:
    """Return the signature kernel of each curve of ``x`` with the curve of ``y`` in the same row; differentiable.

    Parameters
    ----------
    x, y
        Polylines ``(n, T, d)`` and ``(n, U, d)``. For a time channel and a base point see
        :func:`~gendyn.evaluation.polyline`.
    bandwidth
        Of the Gaussian static kernel, in units of the data; ``None`` for the linear one.
    scale
        Factor on the (lifted) curves, see :func:`unit_scale`.
    refinement
        Dyadic refinement ``r`` of both curves; the error falls like ``4**-r``, the cost grows like ``4**r``.

    Returns
    -------
    Tensor
        ``(n,)``.

    Raises
    ------
    ValueError
        If the curves do not fit, or bandwidth or scale is not positive, or the refinement is negative.

    Examples
    --------
    >>> line = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    >>> [round(float(signature_kernel(line, line, refinement=r)), 5) for r in (0, 2, 4)]  # I_0(2) = 2.279585
    [2.25, 2.28084, 2.27971]
    """
    _check(x, y, bandwidth, scale, refinement)
    if len(x) != len(y):
        raise ValueError(f"x and y must hold equally many curves; got {len(x)} and {len(y)}: see signature_gram")
    width = max(1, _BLOCK // _cells(x, y, refinement))

    def block(u: Tensor, v: Tensor) -> Tensor:
        if bandwidth is None:
            p = torch.einsum("nid,njd->ijn", u.diff(dim=1), v.diff(dim=1))
        else:
            squares = (u[:, :, None] - v[:, None, :]).square().sum(-1)
            p = (squares * (-0.5 / bandwidth**2)).exp().diff(dim=1).diff(dim=2).permute(1, 2, 0)
        return _goursat(p * scale**2, refinement)

    return torch.cat(_each(block, list(zip(torch.split(x, width), torch.split(y, width), strict=True))))


def signature_gram(
    x: Tensor, y: Tensor | None = None, *, bandwidth: float | None = None, scale: float = 1.0, refinement: int = 0
) -> Tensor:
    """Return the signature kernel of every curve of ``x`` with every curve of ``y``; differentiable.

    Memory is bounded: blocks of pairs are worked on one after the other, and computed again on the way back of a
    gradient. Cost is that of ``n m T U 4**r`` cells.

    Parameters
    ----------
    x, y
        Polylines ``(n, T, d)`` and ``(m, U, d)``; ``y`` is ``x`` if left out, and each pair is then computed once.
    bandwidth, scale, refinement
        As in :func:`signature_kernel`.

    Returns
    -------
    Tensor
        ``(n, m)``; symmetric where ``y`` is left out. Its smallest eigenvalues may lie some 1e-6 below zero, which
        is the error of the scheme and falls with refinement.

    Raises
    ------
    ValueError
        As :func:`signature_kernel`.

    Examples
    --------
    >>> x = torch.tensor([[[0.0], [1.0]], [[0.0], [0.5]]], dtype=torch.float64)
    >>> gram = signature_gram(x, refinement=5)
    >>> bool((gram == gram.T).all()), round(float(gram[0, 0]), 4), round(float(gram[1, 1]), 4)
    (True, 2.2796, 1.2661)
    """
    other = x if y is None else y
    _check(x, other, bandwidth, scale, refinement)
    if bandwidth is not None:
        # Squared distances are taken from inner products, which cancel far from the origin.
        origin = x.detach().mean(dim=(0, 1))
        x, other = x - origin, other - origin
    width = max(1, int((_BLOCK / _cells(x, other, refinement)) ** 0.5))

    def block(u: Tensor, v: Tensor) -> Tensor:
        if bandwidth is None:
            p = _products(u.diff(dim=1) * scale**2, v.diff(dim=1))
        else:
            norms = u.square().sum(-1).T[:, None, :, None] + v.square().sum(-1).T[None, :, None, :]
            squares = norms - 2 * _products(u, v)
            p = scale**2 * (squares * (-0.5 / bandwidth**2)).exp().diff(dim=0).diff(dim=1)
        return _goursat(p.flatten(2), refinement).view(len(u), len(v))

    first, second = torch.split(x, width), torch.split(other, width)
    # Of a symmetric matrix only the blocks on and above the diagonal are computed.
    tasks = [(i, j) for i in range(len(first)) for j in range(i if y is None else 0, len(second))]
    blocks = dict(zip(tasks, _each(block, [(first[i], second[j]) for i, j in tasks]), strict=True))
    rows = [
        torch.cat([blocks[i, j] if (i, j) in blocks else blocks[j, i].T for j in range(len(second))], dim=1)
        for i in range(len(first))
    ]
    gram = torch.cat(rows)
    return (gram + gram.T) / 2 if y is None else gram


def unit_scale(x: Tensor, bandwidth: float | None = None) -> float:
    """Return the factor that brings the mean variation of the (lifted) curves ``(n, T, d)`` to 1.

    Raises
    ------
    ValueError
        If no curve moves.

    Examples
    --------
    >>> unit_scale(torch.tensor([[[0.0], [1.0]], [[0.0], [3.0]]]))
    0.5
    """
    steps = x.detach().diff(dim=1).square().sum(-1)
    if bandwidth is not None:
        steps = -2 * torch.expm1(steps * (-0.5 / bandwidth**2))
    variation = float(steps.sqrt().sum(1).mean())
    if not variation > 0:
        raise ValueError("no curve moves, so there is no variation to scale by; give a scale")
    return 1 / variation


def kernel_score(within: Tensor, across: Tensor) -> Tensor:
    r"""Return the kernel score :math:`E k(X, X') - 2 E k(X, y)` of a generated batch, unbiased; to be made small.

    Its expectation over outcomes is smallest where the law of the batch is theirs (Gneiting and Raftery 2007): it is
    their squared discrepancy less a term that does not depend on the batch.

    Parameters
    ----------
    within
        Kernel matrix ``(n, n)`` of the batch, ``n >= 2``.
    across
        Kernel matrix ``(n, m)`` of the batch with the outcomes.

    Raises
    ------
    ValueError
        If the matrices do not fit, or the batch has one member.

    Examples
    --------
    >>> float(kernel_score(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[0.25], [0.75]])))
    -0.5
    """
    n = len(within)
    if within.shape != (n, n) or across.ndim != 2 or len(across) != n or across.shape[1] < 1:
        raise ValueError(
            f"within must be (n, n) and across (n, m); got {tuple(within.shape)} and {tuple(across.shape)}"
        )
    if n < 2:
        raise ValueError("a kernel score needs two generated members or more; got 1")
    return (within.sum() - within.diagonal().sum()) / (n * (n - 1)) - 2 * across.mean()


def _check(x: Tensor, y: Tensor, bandwidth: float | None, scale: float, refinement: int) -> None:
    for name, side in (("x", x), ("y", y)):
        if side.ndim != 3 or side.shape[1] < 2 or 0 in side.shape:
            raise ValueError(f"{name} must be polylines (n, T, d) of two corners or more; got {tuple(side.shape)}")
        if not side.is_floating_point():
            raise TypeError(f"{name} must be of a floating type; got {side.dtype}")
    if x.shape[2] != y.shape[2]:
        raise ValueError(f"x and y must have the same number of channels; got {tuple(x.shape)} and {tuple(y.shape)}")
    if not (bandwidth is None or bandwidth > 0):
        raise ValueError(f"bandwidth must be positive, or None for the linear static kernel; got {bandwidth}")
    if not scale > 0:
        raise ValueError(f"scale must be positive; got {scale}")
    if refinement < 0:
        raise ValueError(f"refinement must be 0 or more; got {refinement}")


def _cells(x: Tensor, y: Tensor, refinement: int) -> int:
    return int((x.shape[1] - 1) * (y.shape[1] - 1) * 4**refinement)


def _each(block: Callable[[Tensor, Tensor], Tensor], pairs: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Compute all blocks; where a gradient is wanted, keep only their inputs and compute them again on the way back."""
    if torch.is_grad_enabled() and any(u.requires_grad or v.requires_grad for u, v in pairs):
        return [checkpoint(block, u, v, use_reentrant=False, preserve_rng_state=False) for u, v in pairs]
    return spread(lambda pair: block(*pair), [(u.detach(), v.detach()) for u, v in pairs])


def _products(u: Tensor, v: Tensor) -> Tensor:
    """Return all inner products ``(T, U, n, m)`` of ``(n, T, d)`` and ``(m, U, d)``."""
    flat = u.transpose(0, 1).flatten(0, 1) @ v.transpose(0, 1).flatten(0, 1).T
    return flat.view(u.shape[1], len(u), v.shape[1], len(v)).transpose(1, 2)


def _goursat(p: Tensor, refinement: int) -> Tensor:
    """Return the kernels ``(P,)`` of pairs with increments ``p (T - 1, U - 1, P)``."""
    kernel: Tensor = _Goursat.apply(p, refinement)  # type: ignore[no-untyped-call]
    return kernel


class _Goursat(torch.autograd.Function):
    """The scheme on all cells as one function of the increments."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, refinement: int) -> Tensor:
        ctx.save_for_backward(p)
        ctx.refinement = refinement
        return _Wavefront(p, refinement).kernel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (p,) = ctx.saved_tensors
        return _Wavefront(p, ctx.refinement).gradient(gradient), None


class _Wavefront:
    """Walks the anti-diagonals of the refined grid, pairs last, so that every operation runs along memory.

    A diagonal ``s`` is kept as ``(A + 1, P)``, its row ``i`` being node ``(i, s - i)``: ones at first, which stay on
    the axes, and rows off the grid are not read. Increments are kept halved, one row a cell.
    """

    def __init__(self, p: Tensor, refinement: int) -> None:
        self.columns = p.shape[1]
        self.refinement = refinement
        self.end = p.shape[0] << refinement, p.shape[1] << refinement
        self.shape = p.shape
        self.half = p.reshape(-1, p.shape[2]) * (0.5 / 4**refinement)

    def kernel(self) -> Tensor:
        """Return the value at the last node."""
        before, last, new = (self._ones() for _ in range(3))
        room = torch.empty_like(new), torch.empty_like(new)
        for s in range(2, sum(self.end) + 1):
            self._advance(s, before, last, new, room)
            before, last, new = last, new, before
        return last[-1].clone()

    def gradient(self, upstream: Tensor) -> Tensor:
        """Return the gradient with respect to the increments by the adjoint recursion, from the last node back."""
        diagonals = [self._ones(), self._ones()]
        room = torch.empty_like(diagonals[0]), torch.empty_like(diagonals[0])
        for s in range(2, sum(self.end) + 1):
            diagonals.append(self._ones())
            self._advance(s, diagonals[s - 2], diagonals[s - 1], diagonals[s], room)
        total = torch.zeros_like(self.half)
        now, below, two_below = (torch.zeros_like(diagonals[0]) for _ in range(3))
        now[-1] = upstream
        for s in range(sum(self.end), 1, -1):
            here, behind, cell = self._rows(s), self._rows(s, back=1), self._cells(s)
            adjoint, half = now[here], self.half[cell]
            third = half / 3
            sides = diagonals[s - 1][behind] + diagonals[s - 1][here]
            share = adjoint * (sides * (third + 0.5) + diagonals[s - 2][behind] * third)
            if self.refinement:
                total.index_add_(0, cell, share)
            else:
                total[cell] = share
            square = half * third
            flow = adjoint * (1 + half + square)
            below[behind] += flow
            below[here] += flow
            two_below[behind] -= adjoint * (1 - square)
            now, below, two_below = below, two_below, now.zero_()
        result: Tensor = total.div_(4**self.refinement).view(self.shape)
        return result

    def _ones(self) -> Tensor:
        shape = self.end[0] + 1, self.half.shape[1]
        return torch.ones(shape, dtype=self.half.dtype, device=self.half.device)

    def _advance(self, s: int, before: Tensor, last: Tensor, new: Tensor, room: tuple[Tensor, Tensor]) -> None:
        r"""Compute a diagonal from the two before it.

        With the sum :math:`u` of both sides, the corner :math:`c` and :math:`h = p/2` the scheme is
        :math:`u - c + h (u + \tfrac13 h (u + c))`.
        """
        here, behind = self._rows(s), self._rows(s, back=1)
        corner, half, value = before[behind], self.half[self._cells(s)], new[here]
        sides, inner = (part[: len(value)] for part in room)
        torch.add(last[behind], last[here], out=sides)
        torch.add(sides, corner, out=inner).mul_(half)
        torch.add(sides, inner, alpha=1 / 3, out=inner)
        torch.sub(sides, corner, out=value).addcmul_(inner, half)

    def _rows(self, s: int, back: int = 0) -> slice:
        """Return the rows of a diagonal that are not on the axes, or the rows one back."""
        rows, columns = self.end
        return slice(max(1, s - columns) - back, min(rows, s - 1) + 1 - back)

    def _cells(self, s: int) -> Any:
        """Return where the cells that end on a diagonal stand among the increments."""
        first, stop = self._rows(s).start, self._rows(s).stop
        if self.refinement == 0:
            start, step = (first - 1) * self.columns + s - first - 1, max(1, self.columns - 1)
            return slice(start, start + (stop - first - 1) * step + 1, step)
        i = torch.arange(first - 1, stop - 1, device=self.half.device)
        return (i >> self.refinement) * self.columns + ((s - 2 - i) >> self.refinement)
