r"""Kernel ridge regression that learns what to look at.

.. math:: f_k(x) = b_k + \sum_c \alpha_{ck} \exp\left(-\tfrac12 \lVert R_k^\top (x - c) \rVert^2\right), \qquad
    R_k R_k^\top \propto \sum_i \nabla f_k(x_i)\, \nabla f_k(x_i)^\top .

Begun with the metric of standardised features, the regression is fitted anew with the mean outer product of its own
gradients as the metric: directions along which nothing changes are shrunk away. Each group k of targets, of which all
share a metric, has its own. Centres c are some of the rows (Nystroem). Metric, width and penalty with the least error
of left-out blocks are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn.randomness import Seed, torch_generator
from gendyn.sde.series_scaling import mean_and_deviation

__all__ = ["KernelRidge"]

_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_WIDTHS = (1.0, 2.0)
"""Widths of the kernel, in median distances of rows."""

_ROUNDS = 5
"""Metrics that are tried at most."""

_GRADIENTS = 400
"""Rows at which gradients are taken."""

_FLOOR = 1e-3
"""Share of the first metric that stays in each, so that nothing is lost for good."""


class KernelRidge:
    """A fitted kernel ridge regression.

    Parameters
    ----------
    shift, scale
        Of the features ``(P,)``.
    centres
        ``(m, P)``, scaled.
    root
        ``(K, P, P)``: of the metric of each group, and over the width of its kernel.
    weight, bias
        ``(K, m, J)`` and ``(K, J)``.

    References
    ----------
    Radhakrishnan, Beaglehole, Pandit, Belkin. Mechanism for feature learning in neural networks and
    backpropagation-free machine learning models. Science, 2024.

    Examples
    --------
    >>> x = torch.rand(300, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> y = torch.sin(6 * x[:, :1])[:, None]
    >>> ridge, left_out = KernelRidge.fit(x[:250], y[:250])
    >>> bool((ridge(x[250:]) - y[250:]).square().mean() < 1e-3)
    True
    """

    def __init__(
        self, shift: Tensor, scale: Tensor, centres: Tensor, root: Tensor, weight: Tensor, bias: Tensor
    ) -> None:
        self.shift, self.scale, self.centres = shift, scale, centres
        self.root, self.weight, self.bias = root, weight, bias

    def __call__(self, features: Tensor) -> Tensor:
        """Return predictions ``(n, K, J)`` of features ``(n, P)``."""
        x = ((features - self.shift) / self.scale).to(self.centres)
        found = []
        for root, weight, bias in zip(self.root, self.weight, self.bias, strict=True):
            found.append(_kernel(x @ root, self.centres @ root) @ weight + bias)
        return torch.stack(found, dim=1).to(features)

    @classmethod
    def fit(
        cls, features: Tensor, targets: Tensor, *, blocks: int = 5, centres: int = 600, seed: Seed = 0
    ) -> tuple[KernelRidge, Tensor]:
        """Fit, and return the regression with its predictions of left-out rows ``(n, K, J)``.

        Parameters
        ----------
        features
            ``(n, P)``.
        targets
            ``(n, K, J)``: K groups of J targets.
        blocks
            Number of parts, each of rows that follow each other, which are left out together.
        centres
            Number of centres, at most.
        seed
            Of the choice of centres, and of rows at which gradients are taken.

        Raises
        ------
        ValueError
            If there are fewer rows than blocks.
        """
        n = len(features)
        if n < blocks:
            raise ValueError(f"{blocks} blocks need at least as many series; got {n}")
        shift, scale = mean_and_deviation(features)
        x = ((features - shift) / scale).to(torch.float64)
        y = targets.to(torch.float64)
        order = torch.randperm(n, generator=torch_generator(seed, "centres")).to(x.device)
        middle, some = x[order[:centres]], x[order[-_GRADIENTS:]]
        parts = [_fit_group(x, y[:, k], middle, some, blocks) for k in range(y.shape[1])]
        root, weight, bias, left_out = (torch.stack(part) for part in zip(*parts, strict=True))
        return cls(shift, scale, middle, root, weight, bias), left_out.transpose(0, 1).to(targets)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all by name."""
        return {name: getattr(self, name) for name in ("shift", "scale", "centres", "root", "weight", "bias")}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> KernelRidge:
        """Return the regression that :meth:`state_dict` described."""
        return cls(state["shift"], state["scale"], state["centres"], state["root"], state["weight"], state["bias"])


def _kernel(x: Tensor, c: Tensor) -> Tensor:
    return torch.cdist(x, c, compute_mode="use_mm_for_euclid_dist").square_().mul_(-0.5).exp_()


def _fit_group(x: Tensor, y: Tensor, centres: Tensor, some: Tensor, blocks: int) -> tuple[Tensor, ...]:
    """Return root, weight and bias of targets ``(n, J)`` that share a metric, and predictions of left-out rows."""
    # Columns that are the same count as one. Distances by products would lose that a column is the same as itself.
    columns = x[:_GRADIENTS].T.contiguous()
    same = torch.cdist(columns, columns, compute_mode="donot_use_mm_for_euclid_dist") < 1e-9 * len(x)
    metric = torch.diag(1 / same.sum(1).to(x))
    best: tuple[float, tuple[Tensor, ...]] = (math.inf, ())
    for _ in range(_ROUNDS):
        values, vectors = torch.linalg.eigh(metric)
        bare = vectors * values.clamp_min(0).sqrt()
        distance = torch.cdist(some @ bare, centres @ bare).median().clamp_min(1e-12)
        tried = [_fit_kernel(x, y, centres, bare / (width * distance), blocks) for width in _WIDTHS]
        error, found = min(tried, key=lambda one: one[0])
        if not error < best[0]:
            break
        best = error, found
        metric = _mean_gradient_product(some, centres, found[0], found[1])
    return best[1]


def _fit_kernel(x: Tensor, y: Tensor, centres: Tensor, root: Tensor, blocks: int) -> tuple[float, tuple[Tensor, ...]]:
    """Return the error of left-out rows with the best penalty, and the regression with their predictions."""
    c = centres @ root
    eye = torch.eye(len(c), dtype=x.dtype, device=x.device)
    factor = torch.linalg.cholesky(_kernel(c, c) + 1e-7 * eye)
    told = torch.linalg.solve_triangular(factor, _kernel(x @ root, c).T, upper=False).T
    mean = y.mean(0)
    rows = torch.arange(len(x), device=x.device).tensor_split(blocks)
    moments = [told[k].T @ told[k] for k in rows]
    products = [told[k].T @ (y[k] - mean) for k in rows]
    every, of_all = torch.stack(moments).sum(0), torch.stack(products).sum(0)
    left_out = torch.empty(len(_STRENGTHS), *y.shape, dtype=x.dtype, device=x.device)
    for k, some, of_some in zip(rows, moments, products, strict=True):
        values, vectors = torch.linalg.eigh(every - some)
        inner, seen = vectors.T @ (of_all - of_some), told[k] @ vectors
        for s, strength in enumerate(_STRENGTHS):
            left_out[s, k] = seen @ (inner / (values.clamp_min(0) + strength)[:, None]) + mean
    errors = (left_out - y).square().mean((1, 2))
    s = int(errors.argmin())
    weight = torch.linalg.solve_triangular(
        factor.T, torch.linalg.solve(every + _STRENGTHS[s] * eye, of_all), upper=True
    )
    return float(errors[s]), (root, weight, mean, left_out[s])


def _mean_gradient_product(x: Tensor, centres: Tensor, root: Tensor, weight: Tensor) -> Tensor:
    """Return the mean outer product of gradients at rows ``(P, P)``, of trace P."""
    t, c = x @ root, centres @ root
    total = torch.zeros_like(root)
    for rows in torch.arange(len(t), device=t.device).tensor_split(max(1, len(t) // 64)):
        part = t[rows]
        k = _kernel(part, c)
        # Of sum_c a_c K(x, c): sum_c a_c K(x, c) (c - x), for each target.
        slope = torch.einsum("ic,cp,cj->ipj", k, c, weight) - part[:, :, None] * (k @ weight)[:, None]
        total += torch.einsum("ipj,iqj->pq", slope, slope)
    metric = root @ total @ root.T
    eye = torch.eye(len(metric), dtype=x.dtype, device=x.device)
    return metric * (len(metric) / metric.trace().clamp_min(1e-300)) + _FLOOR * eye
