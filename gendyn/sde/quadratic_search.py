r"""The maximum of a smooth function of a few parameters, all of whose trials can be evaluated at once.

Newton's method: value, slope and curvature come from the stencil
:math:`p,\ p \pm h e_i,\ p \pm h(e_i + e_j)`, one batch; the step, with the curvature made negative and cut to a radius,
is tried at several lengths, one more batch. Parameters stay within bounds; one at its bound that would leave it is
held. Nothing is random, so a search that was stopped goes on to the same end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["QuadraticSearch", "SearchState"]

_WIDTH = 0.02
"""Distance of the stencil; parameters are logits and logarithms, whose natural scale is 1."""

_SHORTENED = (1.0, 0.5, 0.25, 0.1, 0.02)
_FLAT = 1e-6


@dataclass(frozen=True, eq=False)
class SearchState:
    """Where a search is.

    Attributes
    ----------
    point
        Parameters ``(p,)``.
    value
        Of the function there.
    done
        Whether no step goes up any more.
    """

    point: Tensor
    value: float
    done: bool = False


class QuadraticSearch:
    """Newton's method by differences, within bounds.

    Parameters
    ----------
    function
        Of points ``(P, p)``: values ``(P,)``, float64.
    low, high
        Bounds ``(p,)``.
    tolerance
        Rise below which a search is done.

    Examples
    --------
    >>> def hill(x):
    ...     return -(x[:, 0] - 1) ** 2 - (x[:, 1] - x[:, 0]) ** 4 - x[:, 1] ** 2
    >>> search = QuadraticSearch(hill, torch.tensor([-3.0, -3.0]).double(), torch.tensor([3.0, 3.0]).double())
    >>> state = search.begin(torch.tensor([[2.0, 2.0], [-1.0, 0.0]]).double())
    >>> while not state.done:
    ...     state = search.advance(state)
    >>> round(state.value, 3)
    -0.188
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, *, tolerance: float = 1e-5
    ) -> None:
        self._function, self.low, self.high, self._tolerance = function, low, high, tolerance

    def begin(self, points: Tensor) -> SearchState:
        """Return the best of some points ``(P, p)`` to start from."""
        values = self._function(points)
        best = int(torch.where(values.isnan(), -torch.inf, values).argmax())
        return SearchState(points[best], float(values[best]), points.shape[1] == 0)

    def advance(self, state: SearchState) -> SearchState:
        """Return the state after one step."""
        slope, curvature = self.derivatives(state.point)
        held = ((state.point <= self.low) & (slope < 0)) | ((state.point >= self.high) & (slope > 0))
        free = ~held
        step = torch.zeros_like(slope)
        if bool(free.any()):
            values, vectors = torch.linalg.eigh(-curvature[free][:, free])
            along = vectors.mT @ slope[free]
            step[free] = vectors @ (along / values.abs().clamp_min(_FLAT))
            step = step / max(1.0, float(step.abs().max()) / 1.5)
        lengths = torch.tensor(_SHORTENED, dtype=step.dtype)
        tried = (state.point + lengths[:, None] * step).clamp(self.low, self.high)
        found = self._function(tried)
        best = int(torch.where(found.isnan(), -torch.inf, found).argmax())
        rise = float(found[best]) - state.value
        if not rise > 0:
            return SearchState(state.point, state.value, True)
        return SearchState(tried[best], float(found[best]), rise < self._tolerance)

    def derivatives(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return slope ``(p,)`` and curvature ``(p, p)`` at a point."""
        size = len(point)
        unit = torch.eye(size, dtype=point.dtype) * _WIDTH
        pairs = [(i, j) for i in range(size) for j in range(i)]
        mixed = [unit[i] + unit[j] for i, j in pairs]
        around = torch.stack([torch.zeros_like(point), *unit, *(-unit), *mixed, *(-x for x in mixed)])
        values = self._function(point + around)
        middle, up, down = values[0], values[1 : 1 + size], values[1 + size : 1 + 2 * size]
        slope = (up - down) / (2 * _WIDTH)
        curvature = torch.diag((up - 2 * middle + down) / _WIDTH**2)
        ahead, behind = values[1 + 2 * size :].reshape(2, -1)
        for (i, j), both in zip(pairs, ahead + behind, strict=True):
            # f(i + j) + f(-i - j) = 2 f + (c_ii + c_jj + 2 c_ij) h^2 + ...
            own = up[i] + down[i] + up[j] + down[j] - 2 * middle
            curvature[i, j] = curvature[j, i] = (both - own) / (2 * _WIDTH**2)
        return slope, curvature
