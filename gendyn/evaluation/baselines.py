r"""What needs no learning: the rows that every hold-out table must beat.

For a hole at time :math:`t` between the populations before and after it, with fraction
:math:`s = (t - t_-)/(t_+ - t_-)`:

- ``previous`` and ``next``: the neighbouring populations as they are;
- ``union``: both together;
- ``mean shift``: the earlier one, moved by :math:`s` times the difference of the means;
- ``OT interpolant``: McCann's displacement :math:`(1-s) x_i + s y_j` over all atoms of the exact plan, with their mass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gendyn.coupling import Plan, exact_plan
from gendyn.data import Snapshots
from gendyn.randomness import numpy_generator

__all__ = [
    "Prediction",
    "mean_shift",
    "neighbour_plan",
    "neighbour_rows",
    "neighbours",
    "ot_interpolant",
    "training_free_rows",
    "union",
]


@dataclass(frozen=True)
class Prediction:
    """A predicted population: samples ``(n, d)`` and weights ``(n,)`` that sum to 1 (``None``: uniform).

    ``origin`` says where it came from, when a method chose among several.
    """

    samples: Tensor
    weights: Tensor | None = None
    origin: str = ""

    def draw(self, n: int, seed: int) -> Tensor:
        r"""Draw ``n`` points, each as often as its weight says, as evenly as whole numbers allow, in random order.

        A point of weight w comes :math:`\lfloor nw \rfloor` or :math:`\lceil nw \rceil` times (systematic sampling in
        random order): with uniform weights, given or not, without replacement where there are enough. Predictions with
        and without weights are then drawn with the same care, and their distances compare.

        Parameters
        ----------
        n
            How many.
        seed
            Of the order and of the comb.

        Examples
        --------
        >>> sorted(Prediction(torch.arange(3.0)[:, None]).draw(3, seed=0).flatten().tolist())
        [0.0, 1.0, 2.0]
        >>> cells = Prediction(torch.arange(3.0)[:, None], torch.tensor([0.5, 0.0, 0.5]))
        >>> sorted(cells.draw(4, seed=0).flatten().tolist())
        [0.0, 0.0, 2.0, 2.0]
        """
        rng = numpy_generator(seed, "draw")
        size = len(self.samples)
        order = rng.permutation(size)
        if self.weights is None:
            ends = np.arange(1, size + 1) / size
        else:
            weights = self.weights.detach().cpu().numpy().astype(np.float64)
            order = order[weights[order] > 0]
            sums = weights[order].cumsum()
            ends = sums / sums[-1]
        teeth = (np.arange(n) + rng.random()) / n
        rows = rng.permutation(order[np.searchsorted(ends, teeth, side="right").clip(max=len(order) - 1)])
        return self.samples[torch.from_numpy(rows)]


def neighbours(snapshots: Snapshots, t: float) -> tuple[float, float]:
    """Return the measured times before and after ``t``.

    Raises
    ------
    ValueError
        If ``t`` does not lie between two measured times.

    Examples
    --------
    >>> x = torch.zeros(2, 1)
    >>> neighbours(Snapshots([0.0, 1.0, 3.0], [x, x, x]), 2.0)
    (1.0, 3.0)
    """
    times = snapshots.times.tolist()
    before, after = [u for u in times if u < t], [u for u in times if u > t]
    if not before or not after:
        raise ValueError(f"time {t:g} does not lie between measured times {times}")
    return before[-1], after[0]


def union(snapshots: Snapshots, t: float) -> Prediction:
    """Return both neighbouring populations together, each row counted once.

    Examples
    --------
    >>> x = torch.zeros(2, 1)
    >>> union(Snapshots([0.0, 1.0], [x, x + 1]), 0.5).samples.flatten().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    low, high = neighbours(snapshots, t)
    weights = None
    if snapshots.weights is not None:
        weights = torch.cat([snapshots.mass(low), snapshots.mass(high)]) / 2
    return Prediction(torch.cat([snapshots.population(low), snapshots.population(high)]), weights)


def mean_shift(snapshots: Snapshots, t: float, fraction: float | None = None) -> Prediction:
    """Return the earlier population, moved by a fraction of the mean difference (by default that of the time).

    Examples
    --------
    >>> x = torch.zeros(2, 1)
    >>> mean_shift(Snapshots([0.0, 4.0], [x, x + 8]), 1.0).samples.flatten().tolist()
    [2.0, 2.0]
    """
    low, high = neighbours(snapshots, t)
    s = (t - low) / (high - low) if fraction is None else fraction
    first, second = snapshots.population(low), snapshots.population(high)
    w0, w1 = snapshots.mass(low), snapshots.mass(high)
    shift = (w1.to(torch.float64) @ second.to(torch.float64)) - (w0.to(torch.float64) @ first.to(torch.float64))
    return Prediction(first + (s * shift).to(first.dtype), None if snapshots.weights is None else w0)


def neighbour_plan(snapshots: Snapshots, t: float) -> Plan:
    """Return the exact transport plan between the measured populations before and after ``t``."""
    low, high = neighbours(snapshots, t)
    weights = (None, None) if snapshots.weights is None else (snapshots.mass(low), snapshots.mass(high))
    return exact_plan(snapshots.population(low), snapshots.population(high), *weights)


def ot_interpolant(
    snapshots: Snapshots, t: float, fraction: float | None = None, plan: Plan | None = None
) -> Prediction:
    """Return the displacement interpolant of the exact plan between the neighbours, solved here if it is not given.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [10.0]])
    >>> sorted(ot_interpolant(Snapshots([0.0, 1.0], [x, x + 2]), 0.5).samples.flatten().tolist())
    [1.0, 11.0]
    """
    low, high = neighbours(snapshots, t)
    s = (t - low) / (high - low) if fraction is None else fraction
    first, second = snapshots.population(low), snapshots.population(high)
    if plan is None:
        plan = neighbour_plan(snapshots, t)
    return Prediction((1 - s) * first[plan.rows] + s * second[plan.columns], plan.mass.to(first.dtype))


def neighbour_rows(snapshots: Snapshots, t: float, fraction: float | None = None) -> dict[str, Prediction]:
    """Return the predictions that need neither learning nor a plan, by name."""
    low, high = neighbours(snapshots, t)
    whole = [
        Prediction(snapshots.population(u), None if snapshots.weights is None else snapshots.mass(u))
        for u in (low, high)
    ]
    return {
        "previous": whole[0],
        "next": whole[1],
        "union": union(snapshots, t),
        "mean shift": mean_shift(snapshots, t, fraction),
    }


def training_free_rows(snapshots: Snapshots, t: float, fraction: float | None = None) -> dict[str, Prediction]:
    """Return all predictions that need no learning, by name."""
    return neighbour_rows(snapshots, t, fraction) | {"OT interpolant": ot_interpolant(snapshots, t, fraction)}
