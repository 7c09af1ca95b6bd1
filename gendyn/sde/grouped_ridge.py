r"""Ridge regression that leaves out whole groups, and chooses what it sees by what it then says of them.

.. math:: \hat w_k = \arg\min_w \sum_{i \notin k} (y_i - b - x_i w)^2 + \lambda \lVert w \rVert^2, \qquad
    (\lambda, J) = \arg\min \sum_k \sum_{i \in k} (y_i - \hat b_k - x_i \hat w_k)^2 ,

over groups k, strengths :math:`\lambda` and sets J of features. Rows of one series are near-copies of each other: to
leave out single rows would flatter what remembers. All regressions come from the moments of the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.sde.series_scaling import mean_and_deviation

__all__ = ["GroupedRidge"]

_STRENGTHS = torch.logspace(-4, 5, 28, dtype=torch.float64)


@dataclass(frozen=True)
class GroupedRidge:
    """A fitted regression of one outcome.

    Attributes
    ----------
    weight, bias
        ``(P,)`` and ``()`` of the features as they were given, in double precision; zero weight for what is not seen.
    left_out
        What is said of each row ``(n,)`` by the regression that its group was left out of.
    chosen
        Number of the set of features.

    Examples
    --------
    >>> x = torch.arange(12.0)[:, None]
    >>> found = GroupedRidge.fit(x, 2 * x[:, 0] + 1, torch.arange(12) % 3, [[0]])
    >>> round(float(20 * found.weight[0] + found.bias), 2)
    41.0
    """

    weight: Tensor
    bias: Tensor
    left_out: Tensor
    chosen: int

    @classmethod
    def fit(cls, features: Tensor, target: Tensor, groups: Tensor, sets: Sequence[Sequence[int]]) -> GroupedRidge:
        """Fit to rows ``(n, P)`` and outcomes ``(n,)``, of groups ``0, ..., K - 1`` ``(n,)``; no group may be all.

        Raises
        ------
        ValueError
            If there are fewer than two groups.
        """
        count = int(groups.max()) + 1
        if count < 2:
            raise ValueError("to leave out groups there must be two; all rows are of one")
        shift, scale = mean_and_deviation(features.to(torch.float64))
        x = (features.to(torch.float64) - shift) / scale
        y = target.to(torch.float64)
        whole = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        rows = [torch.nonzero(groups == k)[:, 0] for k in range(count)]
        moments = torch.stack([whole[k].T @ whole[k] for k in rows])
        products = torch.stack([whole[k].T @ y[k] for k in rows])
        every, of_all = moments.sum(0), products.sum(0)
        best: tuple[float, int, int] = (torch.inf, 0, 0)
        left_out = y
        for number, chosen in enumerate(sets):
            index = torch.tensor(list(chosen), device=x.device)
            said = torch.empty(len(y), len(_STRENGTHS), dtype=torch.float64, device=x.device)
            for k, some in enumerate(rows):
                weights, bias = _weights(every - moments[k], of_all - products[k], index)
                said[some] = x[some][:, index] @ weights + bias
            errors = (said - y[:, None]).square().sum(0)
            strength = int(errors.argmin())
            # An order of the sets, small ones first, decides where nothing is gained.
            if float(errors[strength]) < best[0]:
                best, left_out = (float(errors[strength]), number, strength), said[:, strength]
        _, number, strength = best
        index = torch.tensor(list(sets[number]), device=x.device)
        weights, bias = _weights(every, of_all, index)
        weight = torch.zeros_like(shift)
        weight[index] = weights[:, strength] / scale[index]
        return cls(weight, bias[strength] - shift @ weight, left_out, number)


def _weights(moments: Tensor, products: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights ``(J, K)`` and biases ``(K,)`` of all strengths; of the moments the last is the constant."""
    total = moments[-1, -1]
    mean, mean_of_y = moments[-1, index] / total, products[-1] / total
    spread = moments[index][:, index] - total * mean[:, None] * mean
    together = products[index] - total * mean * mean_of_y
    values, vectors = torch.linalg.eigh(spread)
    strengths = _STRENGTHS.to(values)
    weights = vectors @ ((vectors.T @ together)[:, None] / (values.clamp_min(0)[:, None] + strengths))
    return weights, mean_of_y - mean @ weights
