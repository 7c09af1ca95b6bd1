r"""Ridge regression in closed form, with what it would have said about each row without having seen it.

.. math:: \hat W = \arg\min_W \sum_i w_i \lVert y_i - x_i W \rVert^2 + \lambda \lVert W \rVert^2, \qquad
    \hat y_i^{(-i)} = y_i - \frac{y_i - \hat y_i}{1 - h_{ii}} ,

with the hat matrix h of the standardised features; :math:`\lambda` has the least error of the left-out rows. A network
that learns what a regression has left must be shown the left-out predictions: those of the fit itself leave too little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn.sde.series_scaling import mean_and_deviation

__all__ = ["Ridge"]

_STRENGTHS = torch.logspace(-4, 5, 28, dtype=torch.float64)


class Ridge:
    """A fitted ridge regression.

    Parameters
    ----------
    shift, scale
        Of the features ``(P,)``.
    weight, bias
        ``(P, K)`` and ``(K,)``.
    clip
        Deviations beyond which features are not told how far they lie.

    Examples
    --------
    >>> x = torch.arange(12.0)[:, None]
    >>> ridge, left_out = Ridge.fit(x, 2 * x + 1)
    >>> round(ridge(torch.tensor([[20.0]])).item(), 2), round(left_out[0].item(), 2)
    (41.0, 1.0)
    """

    def __init__(self, shift: Tensor, scale: Tensor, weight: Tensor, bias: Tensor, clip: float = math.inf) -> None:
        self.shift, self.scale, self.weight, self.bias, self.clip = shift, scale, weight, bias, clip

    def __call__(self, features: Tensor) -> Tensor:
        """Return predictions ``(n, K)`` of features ``(n, P)``."""
        return ((features - self.shift) / self.scale).clamp(-self.clip, self.clip) @ self.weight + self.bias

    @classmethod
    def fit(
        cls,
        features: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        *,
        copies: int = 1,
        blocks: int | None = None,
        clip: float = math.inf,
    ) -> tuple[Ridge, Tensor]:
        """Fit, and return the regression with its predictions of left-out rows ``(n, K)``.

        Parameters
        ----------
        features
            ``(n, P)``.
        targets
            ``(n, K)``.
        weights
            Of the rows ``(n,)``, by default equal.
        copies
            Number of equal parts that follow each other and hold the same cases, which are left out together.
        blocks
            Number of parts, each of rows that follow each other, which are left out together, where neighbouring rows
            are alike; by default every row is left out by itself.
        clip
            See the class.
        """
        dtype = features.dtype
        shift, scale = mean_and_deviation(features)
        x = ((features - shift) / scale).clamp(-clip, clip).to(torch.float64)
        y = targets.to(torch.float64)
        w = torch.ones_like(x[:, 0]) if weights is None else weights.to(x) / weights.to(x).mean()
        root = w.sqrt()[:, None]
        total = w.sum()
        x_mean, y_mean = ((v * w[:, None]).sum(0) / total for v in (x, y))
        xc, yc = (x - x_mean) * root, (y - y_mean) * root
        u, s, vh = torch.linalg.svd(xc, full_matrices=False)
        kept = s > 1e-10 * s[:1].clamp_min(1e-300)
        u, s, vh = u[:, kept], s[kept], vh[kept]
        inner = u.T @ yc
        best: tuple[float, float] = (torch.inf, 1.0)
        left_out = y
        for strength in _STRENGTHS.tolist():
            shrink = s.square() / (s.square() + strength)
            residual = yc - u @ (shrink[:, None] * inner)
            if blocks is not None:
                apart = _left_out_in_blocks(u, shrink, root[:, 0] / total.sqrt(), residual, blocks)
            elif copies == 1:
                leverage = (u.square() @ shrink)[:, None] + w[:, None] / total
                apart = residual / (1 - leverage).clamp_min(1e-8)
            else:
                apart = _left_out_together(u, shrink, root[:, 0] / total.sqrt(), residual, copies)
            error = float(apart.square().sum())
            if error < best[0]:
                best, left_out = (error, strength), y - apart / root
        weight = vh.T @ ((s / (s.square() + best[1]))[:, None] * inner)
        bias = y_mean - x_mean @ weight
        return cls(shift, scale, weight.to(dtype), bias.to(dtype), clip), left_out.to(dtype)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        state = {"shift": self.shift, "scale": self.scale, "weight": self.weight, "bias": self.bias}
        return state | {"clip": torch.tensor(self.clip, dtype=torch.float64)}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Ridge:
        """Return the regression that :meth:`state_dict` described."""
        return cls(state["shift"], state["scale"], state["weight"], state["bias"], float(state["clip"]))


def _left_out_in_blocks(u: Tensor, shrink: Tensor, constant: Tensor, residual: Tensor, blocks: int) -> Tensor:
    """Return residuals ``(n, K)`` of rows whose whole blocks are left out."""
    found = []
    for rows in torch.arange(len(u), device=u.device).tensor_split(blocks):
        part, one = u[rows], constant[rows]
        hat = (part * shrink) @ part.T + one[:, None] * one
        eye = torch.eye(len(rows), dtype=u.dtype, device=u.device)
        found.append(torch.linalg.solve((1 + 1e-8) * eye - hat, residual[rows]))
    return torch.cat(found)


def _left_out_together(u: Tensor, shrink: Tensor, constant: Tensor, residual: Tensor, copies: int) -> Tensor:
    """Return residuals ``(n, K)`` of cases whose copies are left out with them."""
    parts = u.reshape(copies, -1, u.shape[1]).transpose(0, 1)
    ones = constant.reshape(copies, -1).T
    hat = (parts * shrink) @ parts.mT + ones[:, :, None] * ones[:, None, :]
    eye = torch.eye(copies, dtype=u.dtype, device=u.device)
    grouped = residual.reshape(copies, -1, residual.shape[1]).transpose(0, 1)
    # So that what cannot be left out has no infinite error.
    found: Tensor = torch.linalg.solve((1 + 1e-8) * eye - hat, grouped)
    return found.transpose(0, 1).flatten(0, 1)
