r"""How far two laws of paths lie apart in the signature kernel, with a test of whether they differ.

With the signature kernel :math:`k` of :mod:`gendyn.evaluation.signature_kernels` the squared maximum mean discrepancy

.. math:: E k(X, X') + E k(Y, Y') - 2 E k(X, Y)

is zero only for equal laws of the (time-extended) paths (Chevyrev and Oberhauser 2022; Salvi et al. 2021). All of it is
read off one kernel matrix of the pooled paths: value, floor, interval and permutation test.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.kernels import median_bandwidths
from gendyn.evaluation.measure import measure
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, Scale, drop_constant, path_sets, rescale
from gendyn.evaluation.permutation import permutation_test
from gendyn.evaluation.points import LARGEST, Array
from gendyn.evaluation.polylines import polylines
from gendyn.evaluation.pooled import discrepancy, pooled_rows
from gendyn.evaluation.signature_kernels import signature_gram, unit_scale
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["signature_mmd"]

_NAME = "signature MMD^2"


def signature_mmd(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    bandwidth: float | Literal["median"] | None = None,
    refinement: int = 0,
    basepoint: bool = True,
    scale: Scale = "real-std",
    on_nan: Literal["raise", "count"] = "raise",
    max_paths: int = 500,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    n_permutations: int = 199,
) -> MetricResult:
    """Return the squared MMD of the signature kernel (U-statistic) with floor, interval and permutation test.

    Channels are put on one scale, a time channel on [0, 1] is added, and the whole is multiplied by one factor that
    brings the mean variation of the real paths to 1 (without which the kernel overflows). All of that is fixed by the
    real paths alone.

    Parameters
    ----------
    real, generated
        Sets of paths of at least two times; times may be each path's own. Times at which nothing was observed are
        passed over; times at which only some channels were observed are refused.
    bandwidth
        ``None`` for the linear static kernel; otherwise that of a Gaussian one, a number or ``"median"`` for the median
        distance between points of the real paths.
    refinement
        Dyadic refinement of the scheme, see :func:`~gendyn.evaluation.signature_kernel`.
    basepoint
        Whether a zero point is put in front, without which a signature is blind to the level.
    scale
        Puts channels on one scale, see :func:`~gendyn.evaluation.path_set.rescale`; a channel that is constant in the
        real paths is left out with a warning.
    on_nan
        ``"count"`` leaves out generated paths that are not finite and counts them in ``extra["dropped"]``.
    max_paths
        Paths of either set at most; of more, so many are drawn. The cost grows with its square, and the sizes of the
        result are those used.
    seed
        Root of the randomness of draws, floor, interval and test.
    n_bootstrap
        Resamples of paths behind the interval.
    n_permutations
        Permutations of the test of equal laws; zero leaves it out.

    Raises
    ------
    ValueError
        If the sets do not fit, or the kernel overflows because generated paths run much farther than real ones.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 5, 2)).cumsum(axis=1)
    >>> signature_mmd(x[:30], x[30:] + np.linspace(0, 4, 5)[:, None]).p_value
    0.005
    """
    one, two = path_sets(real, generated, metric=_NAME, needs="any", minimum_times=2, on_nan=on_nan)
    if max_paths < 2:
        raise ValueError(f"max_paths must be at least 2; got {max_paths}")
    if scale is not None:
        one, two = drop_constant(one, two, _NAME)
    root = as_seed(seed)
    one, two = rescale(one, two, scale)
    x, y = polylines(_drawn(one, "real", max_paths, root), _drawn(two, "generated", max_paths, root), _NAME,
                     basepoint=basepoint)  # fmt: skip
    width = median_bandwidths(x.flatten(0, 1).numpy(), root)[1] if bandwidth == "median" else bandwidth
    factor = unit_scale(x, width)
    gram = _gram(x, y, width, factor, refinement)
    p_value = None
    if n_permutations:
        p_value = permutation_test(gram, len(x), n_permutations=n_permutations, seed=root).p_value
    return measure(
        _NAME,
        lambda u, v: discrepancy(gram, u, v),
        *pooled_rows(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))),
        seed=root,
        n_bootstrap=n_bootstrap,
        p_value=p_value,
        extra={
            "bandwidth": width,
            "factor": factor,
            "refinement": refinement,
            "permutations": n_permutations,
            "dropped": two.dropped,
        },
    )


def _drawn(paths: PathSet, name: str, most: int, root: int) -> PathSet:
    if len(paths) <= most:
        return paths
    return paths.take(numpy_generator(derive_seed(root, "drawn", name)).choice(len(paths), most, replace=False))


def _gram(x: Tensor, y: Tensor, bandwidth: float | None, factor: float, refinement: int) -> Array:
    """Return the kernel matrix of the pooled paths, whose numbers of corners may differ."""
    within_x, across, within_y = (
        signature_gram(one, two, bandwidth=bandwidth, scale=factor, refinement=refinement)
        for one, two in ((x, None), (x, y), (y, None))
    )
    gram = torch.cat([torch.cat([within_x, across], dim=1), torch.cat([across.T, within_y], dim=1)])
    # Beyond this its squares are no numbers; NaN fails the comparison too.
    if not float(gram.abs().max()) < LARGEST:
        ratio = factor / unit_scale(y, bandwidth)
        raise ValueError(
            f"the signature kernel overflowed: generated paths vary {ratio:.3g} times as much as real ones; "
            "no kernel compares these, signature_distance at a low depth does"
        )
    return np.asarray(gram.numpy())
