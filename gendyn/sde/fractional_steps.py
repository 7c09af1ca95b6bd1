r"""Exact steps of a linear equation with fractional noise, whatever their length.

.. math::

    dX = \theta (\mu - X)\,dt + \sigma\,d\hat B, \qquad
    d\hat B = \sum_k \omega_k\,dY_k + \sum_j \xi_j\,d\varphi_j, \qquad dY_k = -\gamma_k Y_k\,dt + dB

of each feature is a Gaussian transition of :math:`z = (X, Y, \xi)`,

.. math:: z' = \Phi z + c + R\,\varepsilon, \quad \varepsilon \sim \mathcal N(0, I), \qquad
    \Phi_{xk} = -\sigma \omega_k \gamma_k D_k, \quad
    D_k = \int_0^h e^{-\theta (h - s)} e^{-\gamma_k s} ds, \quad RR^\top = Q .

Q is that of a step so short that five nodes integrate it, doubled: :math:`Q_{2h} = Q_h + \Phi_h Q_h \Phi_h^\top`, with
:math:`\Phi_h` in closed form. It is singular to rounding as soon as steps are short, so R comes from eigenvalues of the
correlations, and is differentiated as a root and not as a decomposition. A force f held over the step adds
:math:`f \int_0^h e^{-\theta s} ds` to X; a control u that shifts dB by u dt adds :math:`B u`, with
:math:`B = \int_0^h k(\tau) d\tau` and k what an impulse of the driver leaves after a time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["FractionalSteps", "differentiable_root", "fractional_steps"]

_SHORT = 0.125
"""Fastest rate times step at which five Gauss-Legendre nodes are exact to rounding."""

_SINGULAR = 1e-14
"""Eigenvalues of correlations below this part of the largest are rounding errors."""


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
    gaps: Tensor, rates: Tensor, weights: Tensor, theta: Tensor, mean: Tensor, rises: Tensor | None = None
) -> FractionalSteps:
    r"""Return the transitions of steps.

    Parameters
    ----------
    gaps
        h, ``(M, G)``, float64; 0 is a step that changes nothing.
    rates
        :math:`\gamma`, ``(K,)``.
    weights
        :math:`\sigma \omega`, ``(D, K)``.
    theta, mean
        :math:`\theta` and :math:`\mu`, ``(D,)``.
    rises
        :math:`\sigma` times the increments of the modes :math:`\varphi`, ``(M, G, D, r)``; ``None`` for none.

    Examples
    --------
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> steps = fractional_steps(torch.tensor([[0.5], [9.0]]).double(), 2 * one, one[None], 0 * one, 0 * one)
    >>> (steps.root @ steps.root.mT)[:, 0, 0, 1, 1]  # (1 - exp(-4 h)) / 4
    tensor([0.2162, 0.2500], dtype=torch.float64)
    """
    count = len(rates)
    theta, mean = theta.expand(len(weights)), mean.expand(len(weights))
    decay = torch.exp(-rates * gaps[..., None])
    keep = torch.exp(-theta * gaps[..., None])
    own = -(rates * weights) * _both(theta, rates, gaps)
    width = 1 + count + (0 if rises is None else rises.shape[-1])
    first = torch.cat([keep[..., None], own] + ([] if rises is None else [_halfway(theta, gaps) * rises]), -1)
    rest = torch.cat([decay, decay.new_ones(*decay.shape[:-1], width - 1 - count)], -1)[:, :, None]
    lower = torch.diag_embed(rest, 1)[..., :-1, :].expand(*keep.shape, width - 1, width)
    matrix = torch.cat([first[..., None, :], lower], -2)
    held = _integral(theta, gaps[..., None])
    covariance = _covariance(gaps, rates, weights, theta)
    reached = _integral(rates, gaps[..., None])
    # What the driver adds to X: its own increment, less what relaxes meanwhile.
    driven = _mixed(theta, rates, gaps)
    along = (weights * (reached[:, :, None] - theta[:, None] * driven)).sum(-1)
    drive = torch.cat([along[..., None], reached[:, :, None].expand(*along.shape, count)], -1)
    extra = width - 1 - count
    return FractionalSteps(
        gaps,
        matrix,
        torch.nn.functional.pad((theta * mean * held)[..., None], (0, width - 1)),
        torch.nn.functional.pad(differentiable_root(covariance), (0, 0, 0, extra)),
        torch.nn.functional.pad(drive, (0, extra)),
        held,
    )


def differentiable_root(covariance: Tensor) -> Tensor:
    r"""Return R with :math:`RR^\top = Q` of ``(..., d, d)``, which may be singular to rounding, with a slope.

    A covariance of constant rank moves by :math:`dQ = P\,dQ + dQ\,P - P\,dQ\,P`, with P the projection onto its range,
    which :math:`dR = (I - \tfrac12 P)\,dQ\,(R^\top)^+` fulfils. Eigenvectors, whose own slopes are infinite where
    eigenvalues meet, are held.

    Examples
    --------
    >>> a = torch.tensor([[2.0], [1.0]], dtype=torch.float64, requires_grad=True)
    >>> root = differentiable_root(a @ a.mT)
    >>> (root @ root.mT)[0, 1].backward()
    >>> a.grad.flatten()  # the slopes of the product of the two
    tensor([1., 2.], dtype=torch.float64)
    """
    fixed = covariance.detach()
    scale = fixed.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(fixed.dtype).tiny).sqrt()
    values, vectors = torch.linalg.eigh(fixed / scale[..., :, None] / scale[..., None, :])
    kept = values > _SINGULAR * values[..., -1:]
    size = torch.where(kept, values, 0.0).sqrt()
    root: Tensor = scale[..., :, None] * vectors * size[..., None, :]
    if not covariance.requires_grad:
        return root
    inverse = vectors / scale[..., :, None] * torch.where(kept, 1 / size, 0.0)[..., None, :]
    projection = root @ inverse.mT
    move = (covariance - fixed) @ inverse
    result: Tensor = root + move - 0.5 * projection @ move
    return result


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


def _covariance(gaps: Tensor, rates: Tensor, weights: Tensor, theta: Tensor) -> Tensor:
    """Return what the driver adds to (X, Y) over steps, ``(M, G, D, 1 + K, 1 + K)``."""
    fastest = max(float(rates[-1]), float(theta.detach().abs().max()))
    longest = float(gaps.max()) if gaps.numel() else 0.0
    doublings = max(0, math.ceil(math.log2(max(fastest * longest, 1e-9) / _SHORT)))
    h = gaps / 2**doublings
    nodes, share = np.polynomial.legendre.leggauss(5)
    sums = rates[:, None] + rates
    across = torch.zeros((), dtype=torch.float64, device=gaps.device)
    own = torch.zeros((), dtype=torch.float64, device=gaps.device)
    for node, weight in zip(nodes, share, strict=True):
        tau = h * (node + 1) / 2
        fading = torch.exp(-rates * tau[..., None])[:, :, None]
        impulse = (weights * (fading - theta[:, None] * _both(theta, rates, tau))).sum(-1, keepdim=True)
        part = (weight / 2) * h[..., None, None]
        across, own = across + part * impulse * fading, own + (part * impulse.square())[..., 0]
    for _ in range(doublings):
        among = (-torch.expm1(-sums * h[..., None, None]) / sums)[:, :, None]
        fading = torch.exp(-rates * h[..., None])[:, :, None]
        keep = torch.exp(-theta * h[..., None])
        taken = -(rates * weights) * _both(theta, rates, h)
        forms = (among * taken[..., None, :]).sum(-1)
        own = own + keep.square() * own + 2 * keep * (taken * across).sum(-1) + (taken * forms).sum(-1)
        across = across + fading * (keep[..., None] * across + forms)
        h = 2 * h
    among = (-torch.expm1(-sums * gaps[..., None, None]) / sums)[:, :, None].expand(*own.shape, *sums.shape)
    top = torch.cat([own[..., None], across], -1)
    return torch.cat([top[..., None, :], torch.cat([across[..., None], among], -1)], -2)
