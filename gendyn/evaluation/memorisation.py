r"""Whether a generator repeats what it was fitted on, and whether it repeats itself.

For paths :math:`a, b` let :math:`\rho(a, b)` be the Euclidean distance of all their values (where there are gaps: the
root of the mean square over values seen in both, times the root of the number of values), and :math:`\rho(a, B)` that
from :math:`a` to the nearest path of :math:`B`. With training paths :math:`X`, held-out real paths :math:`H` and
generated ones :math:`Y`:

- copy ratio: :math:`\operatorname{med}_Y \rho(y, X) / \operatorname{med}_H \rho(h, X)`. New paths of the true law lie
  as far from the training paths as held-out ones do: the ratio is 1; a generator that replays has 0.
- diversity: mean :math:`\rho` between generated paths over mean :math:`\rho` between real ones.

Where no held-out paths are given, distances within :math:`X`, each path left out of its own search, take the place of
:math:`\rho(h, X)`. For windows that overlap they are tiny: copying then shows less, so cut the series into blocks of
time and hold out one of them.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, Scale, on_scale_of, path_sets
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["COLLAPSED", "COPIES", "memorisation"]

COPIES = 0.7
"""Copy ratio below which a generator is flagged as one that repeats its training paths."""

COLLAPSED = 0.9
"""Diversity below which a generator is flagged as one that repeats itself."""

_PAIRS = 4_000_000
_SPREAD = 2000
_RESAMPLES = 200


def memorisation(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    train: Paths | Tensor | Array | None = None,
    scale: Scale = "real-std",
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
) -> MetricResult:
    """Return the copy ratio, and beside it everything else that tells copies and collapse.

    Parameters
    ----------
    real, generated
        Sets of paths at shared times; gaps are allowed. With ``train``, ``real`` is held out from it; without,
        ``real`` is what the generator was fitted on.
    train
        The paths that the generator was fitted on.
    scale
        What distances are measured in, see :func:`~gendyn.evaluation.path_set.rescale`; statistics come from the
        training paths.
    on_nan
        ``"count"`` leaves broken generated paths out, and counts them in ``extra["dropped"]``.
    seed
        Root of the randomness of interval and floor, and of which 2000 paths enter the diversity.

    Returns
    -------
    MetricResult
        The copy ratio, one for a generator as good as the truth. Its interval is a bootstrap of the medians; its floor
        is the ratio between two halves of the held-out distances. ``extra`` holds ``copies`` and ``collapsed`` (the
        flags), ``diversity``, ``inward`` and ``outward`` (mean distance of generated paths to the nearest training
        path, and the other way round), ``real_to_train`` (the median in the denominator), ``share_near`` (generated
        paths nearer to a training path than 99 % of held-out ones are; 0.01 expected) and ``reference``.

    Raises
    ------
    ValueError
        If sets do not fit, or held-out paths lie among the training paths.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(300, 5, 2))
    >>> memorisation(x[:100], x[100:200], train=x[200:]).extra["copies"]
    False
    >>> memorisation(x[:100], x[200:], train=x[200:]).extra["copies"]
    True
    """
    began = time.perf_counter()
    root = as_seed(seed)
    held, made = path_sets(real, generated, metric="memorisation", needs="shared", on_nan=on_nan)
    fitted = (
        held if train is None else path_sets(train, generated, metric="memorisation", needs="shared", on_nan=on_nan)[0]
    )
    held, made, fitted = on_scale_of(fitted, scale, held, made, fitted)
    inward, outward = nearest(made, fitted), nearest(fitted, made)
    reference = nearest(fitted, fitted, leave_out=True) if train is None else nearest(held, fitted)
    usual = float(np.median(reference))
    if not usual > 0:
        raise ValueError(
            "more than half of the real paths lie among the training paths; give held-out ones as real, or leave train "
            "out"
            if train is not None
            else "more than half of the real paths are equal to another one, so nothing tells a copy from a new path"
        )
    value = float(np.median(inward)) / usual
    rng = numpy_generator(derive_seed(root, "bootstrap"))
    ratios = [
        np.median(rng.choice(inward, len(inward)))
        / max(np.median(rng.choice(reference, len(reference))), 1e-12 * usual)
        for _ in range(_RESAMPLES)
    ]
    low, high = (float(end) for end in np.quantile(ratios, [0.025, 0.975]))
    spread = _mean_distance(held, derive_seed(root, "real"))
    # Of equal paths the expanded square leaves a rounding error.
    if not spread > 1e-6 * usual:
        raise ValueError("all held-out paths are equal, so there is no diversity to compare with; give other ones")
    diversity = _mean_distance(made, derive_seed(root, "generated")) / spread
    extra: dict[str, Any] = {
        "copies": value < COPIES,
        "collapsed": diversity < COLLAPSED,
        "diversity": diversity,
        "inward": float(inward.mean()),
        "outward": float(outward.mean()),
        "real_to_train": usual,
        "share_near": float((inward < np.quantile(reference, 0.01)).mean()),
        "reference": "leave-one-out" if train is None else "held-out",
        "dropped": made.dropped,
    }
    seconds = time.perf_counter() - began
    floor = _between_halves(reference, numpy_generator(derive_seed(root, "floor")))
    return MetricResult("copy ratio", value, low, high, floor, len(held), len(made), None, root, seconds, extra)


def nearest(paths: PathSet, others: PathSet, *, leave_out: bool = False) -> Array:
    """Return the distance of each path to the nearest of the others ``(n,)``; ``leave_out`` its own number.

    Examples
    --------
    >>> nearest(*path_sets(np.zeros((2, 3, 1)), np.ones((2, 3, 1)), metric="gap")).round(4).tolist()
    [1.7321, 1.7321]
    """
    result = np.empty(len(paths))
    rows = max(1, _PAIRS // len(others))
    for start in range(0, len(paths), rows):
        part = np.arange(start, min(start + rows, len(paths)))
        square = _square_distances(paths.take(part), others)
        if leave_out:
            square[np.arange(len(part)), part] = np.inf
        closest = square.argmin(1)
        alone = np.flatnonzero(np.isinf(square[np.arange(len(part)), closest]))
        if len(alone):
            raise ValueError(
                f"path {part[alone[0]]} shares no observed time and channel with any path that it could be near to: "
                "leave it out, or compare sets that were observed together"
            )
        # The expanded square loses digits where it matters most, at copies.
        gap = paths.values[part] - others.values[closest]
        result[part] = np.sqrt(np.nanmean(gap**2, axis=(1, 2)) * gap[0].size)
    return result


def _square_distances(paths: PathSet, others: PathSet) -> Array:
    """Return squared distances ``(n, m)``; infinite where two paths have no value in common."""
    # About a common point, so that the expanded square keeps its digits far from the origin.
    middle = np.nanmean(others.values, axis=(0, 1))
    x, y = (torch.from_numpy(np.nan_to_num(p.values - middle).reshape(len(p), -1)) for p in (paths, others))
    if paths.mask is None and others.mask is None:
        square = torch.addmm(y.square().sum(1), x, y.T, alpha=-2).add_(x.square().sum(1, keepdim=True))
        return np.asarray(square.clamp_min_(0).numpy())
    u, v = (torch.from_numpy(p.observed.reshape(len(p), -1).astype(np.float64)) for p in (paths, others))
    total = (x * x) @ v.T - 2 * (x @ y.T) + u @ (y * y).T
    common = u @ v.T
    return np.asarray(torch.where(common > 0, total.clamp_min(0) / common * x.shape[1], torch.inf).numpy())


def _mean_distance(paths: PathSet, seed: int) -> float:
    """Return the mean distance between two different paths, of at most 2000."""
    chosen = paths
    if len(paths) > _SPREAD:
        chosen = paths.take(numpy_generator(seed).choice(len(paths), _SPREAD, replace=False))
    distances = np.sqrt(_square_distances(chosen, chosen))
    np.fill_diagonal(distances, np.nan)
    return float(np.nanmean(np.where(np.isinf(distances), np.nan, distances)))


def _between_halves(distances: Array, rng: np.random.Generator) -> float | None:
    half = len(distances) // 2
    if half < 2:
        return None
    order = rng.permutation(len(distances))
    below = float(np.median(distances[order[half : 2 * half]]))
    return float(np.median(distances[order[:half]])) / below if below > 0 else None
