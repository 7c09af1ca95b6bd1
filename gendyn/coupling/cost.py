r"""What it costs to move one sample onto another, and what is refused before any transport begins.

Between samples :math:`x \in \mathbb{R}^{n_0 \times d}` and :math:`y \in \mathbb{R}^{n_1 \times d}` a cost is a
matrix :math:`c_{ij}`, by default :math:`\lVert x_i - y_j \rVert^2`. It is formed in float64 from the differences
themselves, never from :math:`\lVert x \rVert^2 - 2 x y^\top + \lVert y \rVert^2`, which cancels where two clouds lie
close together and far from the origin: equal points cost exactly zero and the cost is exactly symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.distance import cdist
from torch import Tensor

__all__ = [
    "LARGEST_COST",
    "ArrayLike",
    "Cost",
    "CostFunction",
    "check_samples",
    "check_weights",
    "cost_matrix",
    "is_uniform",
]

ArrayLike = Any
"""A tensor, or whatever ``torch.as_tensor`` reads as one."""

CostFunction = Callable[[Tensor, Tensor], Tensor]
"""A function of float64 samples ``(n_0, d)`` and ``(n_1, d)`` that returns the costs ``(n_0, n_1)``."""

Cost = Literal["sqeuclidean", "euclidean"] | CostFunction | Tensor | np.ndarray[Any, Any]
"""A cost by name, as a function, or as the matrix ``(n_0, n_1)`` itself."""

LARGEST_COST = 250_000_000
"""Entries of the largest cost matrix that is ever formed: 2 GB, and some 8 GB while the transport is solved."""


def check_samples(x0: ArrayLike, x1: ArrayLike) -> tuple[Tensor, Tensor]:
    """Return two finite samples ``(n_0, d)`` and ``(n_1, d)`` in float64, detached from any graph.

    Parameters
    ----------
    x0, x1
        Samples, one row a point.

    Raises
    ------
    ValueError
        If either is not a matrix with at least one row and one column, holds NaN or infinity, or if the
        numbers of columns or the devices differ.

    Examples
    --------
    >>> check_samples([[0, 1]], [[2.0, 3.0], [4.0, 5.0]])[0]
    tensor([[0., 1.]], dtype=torch.float64)
    """
    samples = []
    for name, value in (("x0", x0), ("x1", x1)):
        x = torch.as_tensor(value).detach().to(torch.float64)
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(
                f"{name} must have shape (n, d) with at least one point and one feature; got {tuple(x.shape)}"
                + ("; for one feature give x[:, None]" if x.ndim == 1 else "")
            )
        finite = torch.isfinite(x).all(1)
        if not bool(finite.all()):
            rows = torch.nonzero(~finite).flatten().tolist()
            raise ValueError(
                f"{name} must be finite; got NaN or infinity in {len(rows)} of {len(x)} rows (first: row {rows[0]})"
            )
        samples.append(x)
    first, second = samples
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"x0 and x1 must have the same number of features; got {first.shape[1]} and {second.shape[1]}")
    if first.device != second.device:
        raise ValueError(f"x0 and x1 must be on one device; got {first.device} and {second.device}")
    return first, second


def check_weights(weights: ArrayLike | None, x: Tensor, name: str) -> Tensor:
    """Return weights ``(n,)`` of the rows of ``x`` that sum to 1, in float64; uniform for ``None``.

    Raises
    ------
    ValueError
        If the length is not that of ``x``, or a weight is negative or not finite, or all are zero.

    Examples
    --------
    >>> check_weights([1, 3], torch.zeros(2, 1), "weights0").tolist()
    [0.25, 0.75]
    """
    if weights is None:
        return torch.full((len(x),), 1.0 / len(x), dtype=torch.float64, device=x.device)
    w = torch.as_tensor(weights).detach().to(device=x.device, dtype=torch.float64)
    if w.shape != (len(x),):
        raise ValueError(f"{name} must have shape ({len(x)},), one weight a point; got {tuple(w.shape)}")
    wrong = torch.nonzero(~torch.isfinite(w) | (w < 0)).flatten()
    if len(wrong):
        k = int(wrong[0])
        raise ValueError(f"{name} must be finite and not negative; got {float(w[k])} at position {k}")
    largest = w.max()
    if not bool(largest > 0):
        raise ValueError(f"{name} must not be all zero; give at least one point a positive weight")
    # Divided by the largest first, so that sums of very large or very small weights stay in range.
    w = w / largest
    return w / w.sum()


def is_uniform(weights: Tensor) -> bool:
    """Whether normalised weights are all equal, up to rounding.

    Examples
    --------
    >>> is_uniform(torch.tensor([0.5, 0.5])), is_uniform(torch.tensor([0.4, 0.6]))
    (True, False)
    """
    return bool((weights.max() - weights.min()) * len(weights) < 1e-12)


def cost_matrix(x0: ArrayLike, x1: ArrayLike, cost: Cost = "sqeuclidean") -> Tensor:
    r"""Return the costs ``(n_0, n_1)`` of moving each point of ``x0`` to each point of ``x1``, in float64.

    Parameters
    ----------
    x0, x1
        Samples ``(n_0, d)`` and ``(n_1, d)``.
    cost
        ``"sqeuclidean"``, :math:`\lVert x_i - y_j \rVert^2` in squared units of the data; ``"euclidean"``, its
        root; a function of both samples; or the matrix itself.

    Raises
    ------
    ValueError
        If the samples are unfit, the matrix would have more than 2.5e8 entries, the cost is unknown, or its
        matrix has another shape or holds NaN or infinity.

    Examples
    --------
    >>> cost_matrix([[0.0, 0.0]], [[3.0, 4.0]]).tolist(), cost_matrix([[0.0, 0.0]], [[3.0, 4.0]], "euclidean").tolist()
    ([[25.0]], [[5.0]])
    """
    first, second = check_samples(x0, x1)
    n0, n1 = len(first), len(second)
    if n0 * n1 > LARGEST_COST:
        raise ValueError(
            f"a cost between {n0} and {n1} points has {n0 * n1:.2g} entries, more than the {LARGEST_COST:.2g} that fit "
            "in memory; couple mini-batches of them instead, for example with ExactCoupling(block=64)"
        )
    matrix = _matrix(first, second, cost)
    if matrix.shape != (n0, n1):
        raise ValueError(f"the cost must have shape ({n0}, {n1}); got {tuple(matrix.shape)}")
    # One pass: a sum of finite numbers is finite unless it overflows, and then the exact test decides.
    if not bool(torch.isfinite(matrix.sum())) and not bool(torch.isfinite(matrix).all()):
        i, j = torch.nonzero(~torch.isfinite(matrix))[0].tolist()
        raise ValueError(
            f"the cost must be finite for every pair of points; got {float(matrix[i, j])} from point {i} of x0 "
            f"to point {j} of x1"
        )
    return matrix


def _matrix(x0: Tensor, x1: Tensor, cost: Cost) -> Tensor:
    if isinstance(cost, (Tensor, np.ndarray)):
        return torch.as_tensor(cost).detach().to(device=x0.device, dtype=torch.float64)
    if callable(cost):
        return torch.as_tensor(cost(x0, x1)).detach().to(device=x0.device, dtype=torch.float64)
    if cost not in ("sqeuclidean", "euclidean"):
        raise ValueError(f"cost must be 'sqeuclidean', 'euclidean', a function or a matrix; got {cost!r}")
    if x0.device.type == "cpu":
        return torch.from_numpy(cdist(x0.numpy(), x1.numpy(), cost))
    distance = torch.cdist(x0, x1, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.square_() if cost == "sqeuclidean" else distance
