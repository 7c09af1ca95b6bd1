r"""How far apart two systems are in the order of their values.

With pattern masses :math:`p` (real) and :math:`q` (generated) of a channel at one lag, see
:mod:`~gendyn.evaluation.ordinal`, the distance is that of Jensen and Shannon,

.. math:: \Bigl( S\bigl[\tfrac{p+q}{2}\bigr] - \tfrac12 S[p] - \tfrac12 S[q] \Bigr)^{1/2} \in [0, 1]

with entropies S in bits, averaged over channels and lags. It reads the order of values only: it does not change when
channels are transformed monotonically.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from scipy.spatial.distance import jensenshannon

from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.ordinal import check_order, entropy_complexity, ordinal_counts, sampling_lags
from gendyn.evaluation.path_set import drop_constant
from gendyn.evaluation.points import Array
from gendyn.evaluation.trajectory import Trajectories, Trajectory, compare, trajectories
from gendyn.randomness import Seed

__all__ = ["ordinal_distance", "ordinal_distance_value"]

Lags = tuple[tuple[int, ...], ...]


def ordinal_distance_value(
    real: Trajectory, generated: Trajectory, *, order: int = 5, lags: Sequence[int] | None = None
) -> float:
    """Return the distance of ordinal patterns alone; see :func:`ordinal_distance`.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=5000)
    >>> ordinal_distance_value(x, np.exp(x))
    0.0
    """
    one, two, chosen = _prepared(real, generated, order, lags, "raise")
    return _distance(_masses(one, order, chosen), _masses(two, order, chosen))


def ordinal_distance(
    real: Trajectory,
    generated: Trajectory,
    *,
    order: int = 5,
    lags: Sequence[int] | None = None,
    reference: Trajectory | None = None,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    on_nan: Literal["raise", "count"] = "raise",
) -> MetricResult:
    """Return the Jensen-Shannon distance of ordinal patterns with floor and interval.

    Parameters
    ----------
    real, generated
        Long trajectories, or sets of paths, evenly spaced with the same step; windows with a gap are left out.
    order
        Length of the patterns.
    lags
        Steps between the values of a pattern; by default three for each channel, chosen from the real side by
        :func:`~gendyn.evaluation.ordinal.sampling_lags`.
    reference
        Another real trajectory, against which the floor is computed; by default the floor is between halves.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples behind the interval, see :mod:`~gendyn.evaluation.trajectory`.
    on_nan
        ``"count"`` leaves out generated paths that are not finite.

    Returns
    -------
    MetricResult
        ``extra`` holds ``entropy_difference`` and ``complexity_difference`` (generated minus real, averaged), and
        ``channels``: for each its ``lags`` and, at each, ``real`` and ``generated`` pairs (H, C). ``windows`` is the
        least number of windows behind a distance: ten for each pattern are wanted.

    Raises
    ------
    ValueError
        If trajectories are unfit, or too short for the patterns.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=20000)
    >>> result = ordinal_distance(noise, np.cumsum(noise), order=4)
    >>> result.value > 10 * result.floor, result.extra["entropy_difference"] < 0
    (True, True)
    """
    one, two, chosen = _prepared(real, generated, order, lags, on_nan)
    third = None
    if reference is not None:
        third = trajectories(real, reference, metric="ordinal distance", even=True, minimum_times=order)[1]
        third = third.only(one.names)
    counts = [_counts(side, order, chosen) for side in (one, two)]
    planes = [[entropy_complexity(c) for c in side] for side in counts]
    gap = np.mean([np.subtract(g, r).mean(axis=1) for r, g in zip(*planes, strict=True)], axis=0)
    return compare(
        "ordinal distance",
        lambda x, y: _distance(_masses(x, order, chosen), _masses(y, order, chosen)),
        one,
        two,
        reference=third,
        seed=seed,
        n_bootstrap=n_bootstrap,
        extra={
            "order": order,
            "windows": int(min(c.sum(axis=1).min() for side in counts for c in side)),
            "entropy_difference": float(gap[0]),
            "complexity_difference": float(gap[1]),
            "channels": {
                name: {
                    "lags": list(chosen[i]),
                    "real": np.transpose(planes[0][i]).tolist(),
                    "generated": np.transpose(planes[1][i]).tolist(),
                }
                for i, name in enumerate(one.names)
            },
        },
    )


def _prepared(
    real: Trajectory,
    generated: Trajectory,
    order: int,
    lags: Sequence[int] | None,
    on_nan: Literal["raise", "count"],
) -> tuple[Trajectories, Trajectories, Lags]:
    check_order(order)
    one, two = trajectories(real, generated, metric="ordinal distance", even=True, minimum_times=order, on_nan=on_nan)
    one, two = drop_constant(one, two, "ordinal distance")
    # A pattern must fit into a half of one trajectory as well, between which the floor is computed.
    shortest = min(one.n_times // 2 if one.single else one.n_times, two.n_times)
    longest = (shortest - 1) // (order - 1)
    asked = 1 if lags is None else max(lags, default=0)
    if not 1 <= asked <= longest:
        raise ValueError(
            f"ordinal distance needs lags of at least 1 and at most {longest} for {order} values in trajectories of "
            f"{one.n_times} and {two.n_times} times, the first of which is halved for the floor if it is alone; "
            f"got {asked}"
        )
    if lags is not None:
        return one, two, (tuple(lags),) * one.dim
    chosen = (sampling_lags(one.values[:, :, i], order=order) for i in range(one.dim))
    return one, two, tuple(tuple(sorted({min(lag, longest) for lag in channel})) for channel in chosen)


def _counts(side: Trajectories, order: int, lags: Lags) -> list[np.ndarray[Any, Any]]:
    """Return for each channel the counts ``(lags, n!)``."""
    values = np.ascontiguousarray(np.moveaxis(side.values, 2, 0))
    counts = [
        np.stack([ordinal_counts(channel, order=order, lag=lag) for lag in at])
        for channel, at in zip(values, lags, strict=True)
    ]
    if not all((c.sum(axis=1) > 0).all() for c in counts):
        raise ValueError(f"ordinal distance found no window of {order} values without a gap; lower order or lags")
    return counts


def _masses(side: Trajectories, order: int, lags: Lags) -> list[Array]:
    return [c / c.sum(axis=1, keepdims=True) for c in _counts(side, order, lags)]


def _distance(real: list[Array], generated: list[Array]) -> float:
    return float(np.mean([jensenshannon(p, q, base=2, axis=1).mean() for p, q in zip(real, generated, strict=True)]))
