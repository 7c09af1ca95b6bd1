r"""Costs that look at labels or covariates next to positions.

.. math:: c_w\bigl((x, k), (y, l)\bigr) = c(x, y) + w\,[k \ne l] \qquad\text{or}\qquad
    c(x, y) + w\,\lVert k - l \rVert^2

for labels or for numbers k and l. Transport that ignores labels joins a point of one label to the source of another;
whoever then reads the label as a condition has taught each label a source of its own. The condition travels as last
columns of the samples, so that every coupling and every plan can take such a cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, Cost, CostFunction, cost_matrix

__all__ = ["ConditionedCost", "attach_conditions"]


class ConditionedCost:
    """A cost of samples whose last columns are conditions.

    Parameters
    ----------
    weight
        Price ``w`` of different labels, or of a unit of squared difference of numbers, in units of the cost. Infinite,
        for labels alone: as much mass as can be is moved within its label, and among such plans the cheapest is taken.
    width
        Columns of the condition.
    labels
        Whether it is a label, a whole number in one column, or numbers.
    cost
        Of the other columns.

    Examples
    --------
    >>> cost = ConditionedCost(5.0, labels=True)
    >>> x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)  # at 0 with the label 1
    >>> cost(x, torch.tensor([[2.0, 1.0], [2.0, 3.0]], dtype=torch.float64)).tolist()
    [[4.0, 9.0]]
    """

    def __init__(self, weight: float, *, width: int = 1, labels: bool, cost: Cost = "sqeuclidean") -> None:
        if not weight > 0 or (math.isinf(weight) and not labels):
            what = "positive" if labels else "positive and finite, for numbers are rarely equal"
            raise ValueError(f"the weight of a condition must be {what}; got {weight}")
        self.weight = weight
        self.width = width
        self.labels = labels
        self.cost = cost

    def __call__(self, x0: Tensor, x1: Tensor) -> Tensor:
        """Return the costs ``(n_0, n_1)``."""
        costs = cost_matrix(x0[:, : -self.width], x1[:, : -self.width], self.cost)
        known0, known1 = x0[:, -self.width :], x1[:, -self.width :]
        if not self.labels:
            return costs + self.weight * cost_matrix(known0, known1)
        weight = self.weight
        if math.isinf(weight):
            # No chain of exchanges gains more than this.
            weight = (len(x0) + len(x1)) * (float(costs.max() - costs.min()) or 1.0)
        return costs + weight * (known0 != known1.T)


def attach_conditions(
    samples: Sequence[ArrayLike],
    conditions: Sequence[ArrayLike | Sequence[object]],
    weight: float = math.inf,
    cost: Cost = "sqeuclidean",
) -> tuple[list[Tensor], CostFunction]:
    """Return samples with their conditions as last columns, and the cost that reads them.

    Parameters
    ----------
    samples
        Two or more samples ``(n_k, d)``.
    conditions
        The condition of every row of each: ``(n_k,)`` labels (anything that can be sorted, such as strings or whole
        numbers), or ``(n_k,)`` or ``(n_k, c)`` floating-point numbers.
    weight, cost
        See :class:`ConditionedCost`.

    Raises
    ------
    ValueError
        If there are not as many conditions as rows, a number is not finite, or the weight does not fit.

    Examples
    --------
    >>> from gendyn.coupling import ExactCoupling
    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
    >>> (u, v), cost = attach_conditions([x, y], [["B", "T"], ["T", "B"]])
    >>> ExactCoupling(cost=cost)(u, v, generator=torch.Generator())[1].tolist()
    [1, 0]
    """
    if len(samples) != len(conditions):
        raise ValueError(
            f"every sample needs its conditions; got {len(samples)} samples and {len(conditions)} of those"
        )
    points = [torch.as_tensor(x).detach() for x in samples]
    values = [c.detach().cpu().numpy() if isinstance(c, Tensor) else np.asarray(c) for c in conditions]
    for k, (x, value) in enumerate(zip(points, values, strict=True)):
        if len(value) != len(x):
            raise ValueError(f"conditions must have one entry a row; got {len(value)} for {len(x)} rows of sample {k}")
    labels = not all(np.issubdtype(value.dtype, np.floating) for value in values)
    if labels:
        if any(value.ndim != 1 for value in values):
            raise ValueError("labels must have shape (n,), one a row")
        codes = np.unique(np.concatenate(values), return_inverse=True)[1].astype(np.float64)
        numbers = np.split(codes[:, None], np.cumsum([len(value) for value in values])[:-1])
    else:
        numbers = [value.reshape(len(value), -1).astype(np.float64) for value in values]
        if not all(np.isfinite(number).all() for number in numbers):
            raise ValueError("conditions must be finite; got NaN or infinity")
    joined = [
        torch.cat([x.to(torch.float64), torch.from_numpy(number).to(x.device)], dim=1)
        for x, number in zip(points, numbers, strict=True)
    ]
    return joined, ConditionedCost(weight, width=numbers[0].shape[1], labels=labels, cost=cost)
