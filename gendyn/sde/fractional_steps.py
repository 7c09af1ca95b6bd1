r"""Exact steps of a linear equation with fractional noise, whatever their length.

.. math::

    dX = (b - \theta X)\,dt + \sigma\,d\hat B, \qquad
    d\hat B = \sum_k \omega_k\,dY_k + \sum_j \xi_j\,d\varphi_j, \qquad dY_k = -\gamma_k Y_k\,dt + dB

of each feature is a Gaussian transition of :math:`z = (X, Y, \xi)`,

.. math:: z' = \Phi z + c + R\,\varepsilon, \quad \varepsilon \sim \mathcal N(0, I), \qquad
    \Phi_{xk} = -\sigma \omega_k \gamma_k D_k, \quad
    D_k = \int_0^h e^{-\theta (h - s)} e^{-\gamma_k s} ds, \quad RR^\top = Q .

With what an impulse of the driver leaves after a time, :math:`k(\tau) = (k_x, e^{-\gamma \tau}, 0)`, the noise is
:math:`\int_0^h k(h - s)\,dB_s` of covariance :math:`Q = \int_0^h k k^\top d\tau`, singular to rounding as soon as
steps are short. Gauss-Legendre nodes graded to 0 make it a product :math:`K K^\top` with a column for each node, and
the orthogonal factor of :math:`K^\top = O L` turns it: :math:`R = K O`. Nothing is inverted and O is held when R is
differentiated, which leaves the slope of :math:`RR^\top` exact, since the columns of O span the rows of K.

A force f held over the step adds :math:`f \int_0^h e^{-\theta s} ds` to X; a control u that shifts dB by u dt adds
:math:`B u`, with :math:`B = \int_0^h k\,d\tau`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["FractionalSteps", "fractional_steps"]

_NODES = ((2.0, 12, 1), (100.0, 32, 3), (1e4, 64, 6), (math.inf, 96, 8))
"""Up to which fastest rate times step how many nodes, graded by which power, integrate to 1e-8 or better."""


class FractionalSteps(NamedTuple):
    r"""Transitions of M steps, G rows of times and D features; ``d`` is 1 + K + r, ``m`` is 1 + K; float64.

    Attributes
    ----------
    gaps
        h, ``(M, G)``.
    matrix
        :math:`\Phi`, ``(M, G, D, d, d)``.
    shift
        c, ``(M, G, D, d)``.
    root
        R, ``(M, G, D, d, m)``.
    drive
        B, ``(M, G, D, d)``.
    push
        What a held force of one adds to X, ``(M, G, D)``.
    """

    gaps: Tensor
    matrix: Tensor
    shift: Tensor
    root: Tensor
    drive: Tensor
    push: Tensor

    def detach(self) -> FractionalSteps:
        """Return the steps without gradients."""
        return FractionalSteps(*(part.detach() for part in self))


def fractional_steps(
    gaps: Tensor,
    rates: Tensor,
    weights: Tensor,
    theta: Tensor,
    offset: Tensor,
    rises: Tensor | None = None,
    jumps: Tensor | None = None,
) -> FractionalSteps:
    r"""Return the transitions of steps.

    Parameters
    ----------
    gaps
        h, ``(M, G)``, float64; 0 is a step that changes nothing.
    rates
        :math:`\gamma`, ``(K,)``.
    weights
        :math:`\sigma \omega`, ``(D, K)``, or of each step its own, ``(M, G, D, K)``.
    theta, offset
        :math:`\theta` and :math:`b`, ``(D,)``.
    rises
        :math:`\sigma` times the increments of the modes :math:`\varphi`, ``(M, G, D, r)``; ``None`` for none.
    jumps
        By how much the memory weighs more than in the step before, ``(M, G, D, K)``; ``None`` for weights that only
        new increments know.

    Examples
    --------
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> steps = fractional_steps(torch.tensor([[0.5], [9.0]]).double(), 2 * one, one[None], 0 * one, 0 * one)
    >>> (steps.root @ steps.root.mT)[:, 0, 0, 1, 1]  # (1 - exp(-4 h)) / 4
    tensor([0.2162, 0.2500], dtype=torch.float64)
    """
    count = len(rates)
    dim = weights.shape[-2]
    theta, offset = theta.expand(dim), offset.expand(dim)
    decay = torch.exp(-rates * gaps[..., None])
    keep = torch.exp(-theta * gaps[..., None])
    own = -(rates * weights) * _both(theta, rates, gaps)
    if jumps is not None:
        own = own + _halfway(theta, gaps) * jumps
    width = 1 + count + (0 if rises is None else rises.shape[-1])
    first = torch.cat([keep[..., None], own] + ([] if rises is None else [_halfway(theta, gaps) * rises]), -1)
    rest = torch.cat([decay, decay.new_ones(*decay.shape[:-1], width - 1 - count)], -1)[:, :, None]
    lower = torch.diag_embed(rest, 1)[..., :-1, :].expand(*keep.shape, width - 1, width)
    matrix = torch.cat([first[..., None, :], lower], -2)
    held = _integral(theta, gaps[..., None])
    root = _root(gaps, rates, weights, theta)
    reached = _integral(rates, gaps[..., None])
    # What the driver adds to X: its own increment, less what relaxes meanwhile.
    driven = _mixed(theta, rates, gaps)
    along = (weights * (reached[:, :, None] - theta[:, None] * driven)).sum(-1)
    drive = torch.cat([along[..., None], reached[:, :, None].expand(*along.shape, count)], -1)
    extra = width - 1 - count
    return FractionalSteps(
        gaps,
        matrix,
        torch.nn.functional.pad((offset * held)[..., None], (0, width - 1)),
        torch.nn.functional.pad(root, (0, 0, 0, extra)),
        torch.nn.functional.pad(drive, (0, extra)),
        held,
    )


def _integral(rate: Tensor, h: Tensor) -> Tensor:
    r"""Return :math:`\int_0^h e^{-a s} ds`, also where the rate is 0."""
    x = rate * h
    small = x.abs() < 1e-6
    safe = torch.where(small, 1.0, x)
    result: Tensor = h * torch.where(small, 1 - x / 2, -torch.expm1(-safe) / safe)
    return result


def _both(theta: Tensor, rates: Tensor, gaps: Tensor) -> Tensor:
    r"""Return :math:`D_k`, ``(M, G, D, K)``: two relaxations one after the other."""
    h = gaps[..., None, None]
    low = torch.minimum(theta[:, None], rates)
    return torch.exp(-low * h) * _integral((theta[:, None] - rates).abs(), h)


def _mixed(theta: Tensor, rates: Tensor, gaps: Tensor) -> Tensor:
    r"""Return :math:`\int_0^h D_k`, ``(M, G, D, K)``.

    It is the divided difference of :math:`\int_0^h e^{-a s} ds` in a, and where the two rates nearly meet the mean of
    its derivative between them.
    """
    h = gaps[..., None, None]
    a, b = theta[:, None], rates
    near = (a - b).abs() < 0.1 * (a.abs() + b)
    apart = torch.where(near, 1.0, a - b)
    direct = (_integral(b, h) - _integral(a, h)) / apart
    nodes, weight = np.polynomial.legendre.leggauss(8)
    mean = torch.zeros_like(direct)
    for node, share in zip(nodes, weight, strict=True):
        mean = mean + share / 2 * _first_moment(a + (node + 1) / 2 * (b - a), h)
    return torch.where(near, mean, direct)


def _first_moment(rate: Tensor, h: Tensor) -> Tensor:
    r"""Return :math:`\int_0^h s\,e^{-a s} ds`."""
    x = rate * h
    small = x.abs() < 1e-2
    safe = torch.where(small, 1.0, x)
    series = 0.5 - x / 3 + x**2 / 8 - x**3 / 30 + x**4 / 144
    return h**2 * torch.where(small, series, (-torch.expm1(-safe) - safe * torch.exp(-safe)) / safe**2)


def _halfway(theta: Tensor, gaps: Tensor) -> Tensor:
    """Return what is left of a rise in the middle of a step, ``(M, G, D, 1)``."""
    return torch.exp(-0.5 * theta * gaps[..., None])[..., None]


def _root(gaps: Tensor, rates: Tensor, weights: Tensor, theta: Tensor) -> Tensor:
    """Return the root of what the driver adds to (X, Y) over steps, ``(M, G, D, 1 + K, 1 + K)``."""
    fastest = max(float(rates[-1]), float(theta.detach().abs().max()))
    extent = fastest * float(gaps.max()) if gaps.numel() else 0.0
    count, power = next((n, p) for limit, n, p in _NODES if extent <= limit)
    nodes, share = np.polynomial.legendre.leggauss(max(count, len(rates) + 1))
    unit = torch.from_numpy((nodes + 1) / 2).to(gaps)
    mass = power * unit ** (power - 1) * torch.from_numpy(share / 2).to(gaps)
    tau = gaps[..., None] * unit**power
    size = (gaps[..., None] * mass).sqrt()
    # (M, G, N, K), and with features (M, G, N, D, K)
    fading = torch.exp(-rates * tau[..., None])
    left = fading[..., None, :] - theta[:, None] * _both(theta, rates, tau)
    own = ((weights[..., None, :, :] * left).sum(-1) * size[..., None]).movedim(-1, -2)
    memory = (fading * size[..., None]).mT
    impulses = torch.cat([own[..., None, :], memory[:, :, None].expand(*own.shape[:3], *memory.shape[-2:])], -2)
    turn: Tensor = torch.linalg.qr(impulses.detach().mT).Q
    return impulses @ turn
