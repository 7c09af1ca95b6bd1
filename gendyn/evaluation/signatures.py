r"""Signatures of polylines, and how far the mean signatures of two sets of paths lie apart.

The signature of a curve is the sequence of its iterated integrals, one tensor per level,

.. math:: S^k = \int_{t_1 < \dots < t_k} dx_{t_1} \otimes \dots \otimes dx_{t_k} \in (\mathbb{R}^d)^{\otimes k} .

That of a segment :math:`v` is the tensor exponential :math:`1 + v + v^{\otimes 2}/2 + \dots`, and that of two curves
run one after the other is the product of theirs (Chen 1958), so a polyline costs one fused product per segment (Kidger
and Lyons 2021). The signature tells curves apart up to their speed, and its mean tells laws apart: the distance

.. math:: \Big\lVert \frac1n \sum_i S_N(x_i) - \frac1m \sum_j S_N(y_j) \Big\rVert_2

of means up to level ``N`` is Sig-W1 (Ni et al. 2021).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import Scale, drop_constant, path_sets, rescale
from gendyn.evaluation.points import LARGEST, Array
from gendyn.evaluation.polylines import polylines
from gendyn.evaluation.pooled import pooled_rows
from gendyn.randomness import Seed

__all__ = ["signature", "signature_distance", "signature_length"]

_BLOCK = 1 << 17
"""Entries of the highest level that are worked on at once, so that they stay in the cache."""

_LARGEST = 250_000_000
"""Entries of the signatures of all paths: 2 GB."""


def signature_length(dim: int, depth: int) -> int:
    """Return the number of coordinates ``d + d**2 + ... + d**N`` of a signature.

    Examples
    --------
    >>> signature_length(2, 3)
    14
    """
    return sum(dim**k for k in range(1, depth + 1))


def signature(paths: Tensor, depth: int) -> Tensor:
    """Return the signatures of polylines, levels ``1 ... depth`` one after the other; differentiable.

    Parameters
    ----------
    paths
        Corners ``(n, T, d)``, ``T >= 2``. For a time channel and a base point see
        :func:`~gendyn.evaluation.polyline`.
    depth
        The highest level ``N``.

    Returns
    -------
    Tensor
        ``(n, d + d**2 + ... + d**N)``; level ``k`` is a tensor ``(d, ..., d)`` in row-major order.

    Raises
    ------
    ValueError
        If paths are no polylines, or the depth is below 1.

    Examples
    --------
    >>> signature(torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]]]), 2)
    tensor([[1.0000, 2.0000, 0.5000, 2.0000, 0.0000, 2.0000]])
    """
    if paths.ndim != 3 or paths.shape[1] < 2 or paths.shape[2] < 1:
        raise ValueError(f"a signature needs polylines (n, T, d) of two corners or more; got {tuple(paths.shape)}")
    if depth < 1:
        raise ValueError(f"depth must be at least 1; got {depth}")
    width = max(1, _BLOCK // paths.shape[2] ** depth)
    return torch.cat([_signature(block, depth) for block in torch.split(paths, width)])


def _signature(paths: Tensor, depth: int) -> Tensor:
    segments = paths.diff(dim=1).unbind(1)
    levels = [torch.zeros_like(segments[0])]
    levels += [paths.new_zeros(len(paths), paths.shape[2] ** k) for k in range(2, depth + 1)]
    for v in segments:
        levels = _followed_by(levels, v)
    return torch.cat(levels, dim=1)


def _followed_by(levels: list[Tensor], v: Tensor) -> list[Tensor]:
    r"""Multiply by the exponential of a segment ``(n, d)``.

    Level ``k`` becomes :math:`\sum_j S^{k-j} \otimes v^{\otimes j} / j!`, which Horner's rule sums without forming the
    powers of ``v``.
    """
    after = []
    for k in range(1, len(levels) + 1):
        term = v / k
        for j in range(1, k):
            term = ((term + levels[j - 1])[:, :, None] * (v / (k - j))[:, None, :]).flatten(1)
        after.append(levels[k - 1] + term)
    return after


def signature_distance(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    depth: int = 4,
    basepoint: bool = True,
    scale: Scale = "minmax",
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
    n_bootstrap: int = 30,
) -> MetricResult:
    """Return the distance of mean signatures (Sig-W1) with floor and interval.

    A time channel on [0, 1] is added always. Levels of a path of variation ``V`` grow like ``V**k / k!``: bring
    channels to about one, as ``scale`` does.

    Parameters
    ----------
    real, generated
        Sets of paths; times may be each path's own. Times at which nothing was observed are passed over; times at which
        only some channels were observed are refused.
    depth
        The highest level; 4 to 6 are usual.
    basepoint
        Whether a zero point is put in front, without which a signature is blind to the level.
    scale
        Puts channels on one scale, see :func:`~gendyn.evaluation.path_set.rescale`; a channel that is constant in the
        real paths is left out with a warning. ``None`` takes the data as they are, as published tables do.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``extra["dropped"]``.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples of paths behind the interval.

    Returns
    -------
    MetricResult
        ``extra["by_level"]`` holds the distance of each level; their squares add up to that of the value.

    Raises
    ------
    ValueError
        If the sets do not fit, the signatures of all paths would take more than 2 GB, or they overflow.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(400, 5, 2)).cumsum(axis=1)
    >>> result = signature_distance(x[:200], -np.abs(x[200:]))
    >>> result.value > 2 * result.floor
    True
    """
    name = f"Sig-W1 (depth {depth})"
    one, two = path_sets(real, generated, metric=name, needs="any", minimum_times=2, on_nan=on_nan)
    if scale is not None:
        one, two = drop_constant(one, two, name)
    one, two = rescale(one, two, scale)
    length, n = signature_length(one.dim + 1, depth), len(one) + len(two)
    if length * n > _LARGEST:
        raise ValueError(
            f"signatures of depth {depth} in {one.dim + 1} channels have {length} coordinates, too many for {n} paths: "
            "lower the depth or take fewer paths"
        )
    features = np.concatenate(
        [signature(side, depth).numpy() for side in polylines(one, two, name, basepoint=basepoint)]
    )
    if not float(np.abs(features).max()) < LARGEST:
        raise ValueError(
            f"signatures of depth {depth} overflowed: generated paths run so much farther than real ones that powers "
            "of their variation are no numbers; lower the depth, or leave the runaways out"
        )
    sides = pooled_rows(np.full(len(one), 1 / len(one)), np.full(len(two), 1 / len(two)))
    gap = (sides[0].shares - sides[1].shares) @ features
    ends = np.cumsum([(one.dim + 1) ** k for k in range(1, depth)])
    return measure(
        name,
        lambda u, v: float(np.linalg.norm((u.shares - v.shares) @ features)),
        *sides,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra={
            "depth": depth,
            "by_level": [float(np.linalg.norm(level)) for level in np.split(gap, ends)],
            "dropped": two.dropped,
        },
    )
