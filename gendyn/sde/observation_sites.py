r"""What noisy looks at a function of a normal state say about it, as looks at the state itself.

Of a look :math:`y = G(u) + s\,\varepsilon` at a state that is :math:`\mathcal N(m, \tau^2)` under the posterior, the
normal look with the same pull on average is, with :math:`\ell(u) = -(y - G(u))^2 / 2s^2`,

.. math:: \lambda = -E[\ell''(u)] = -\tfrac1\tau E[\varepsilon\,\ell'(m + \tau \varepsilon)], \qquad
    r = m + E[\ell'(u)] / \lambda .

At its fixed point the posterior is the best of all normal ones, so that the bound of the evidence has no slope in it
(Khan and Lin 2017). Expectations are by quadrature of Gauss and Hermite.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gendyn.sde.lamperti import LampertiTransform

__all__ = ["expected_square", "first_sites", "observation_sites"]

_NODES = 9

_LEAST = 0.1
r"""Least :math:`\lambda`, as a part of what the slope of G alone gives."""


def first_sites(transform: LampertiTransform, values: Tensor, looked: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`r = F(y)` and :math:`\lambda = G'(r)^2 / s^2`, G being a line.

    Parameters
    ----------
    transform
        F, with the inverse G.
    values, looked
        y and :math:`1/s^2`, 0 where nothing was observed, ``(M, B, D, 1)``.

    Returns
    -------
    tuple
        r ``(M, B, D, 1)`` and :math:`\lambda` ``(M, B, D)``.
    """
    y = values.movedim(2, -1)
    goals, size = transform(y).movedim(-1, 2), transform.size(y).movedim(-1, 2)
    return goals, (looked * size.square())[..., 0]


def observation_sites(
    transform: LampertiTransform, values: Tensor, looked: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Return r and :math:`\lambda` as :func:`first_sites` does, given means ``(M, B, D, 1)`` and variances."""
    deviation = variance[..., None].clamp_min(1e-300).sqrt()
    x, size, nodes, share = _shown(transform, mean, deviation)
    slope = (values[..., None] - x) * size
    pulled, turned = (slope * share).sum(-1), -(slope * nodes * share).sum(-1) / deviation
    weight = turned.clamp_min(_LEAST * (size.square() * share).sum(-1))
    return mean + pulled / weight, (looked * weight)[..., 0]


def expected_square(transform: LampertiTransform, values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return the expected square of y - G(u), ``(M, B, D, 1)``."""
    x, _, _, share = _shown(transform, mean, variance[..., None].clamp_min(1e-300).sqrt())
    return ((values[..., None] - x).square() * share).sum(-1)


def _shown(transform: LampertiTransform, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return G and its slope at nodes ``(M, B, D, 1, n)``, the nodes, and their shares."""
    nodes, share = (torch.from_numpy(v).to(mean) for v in np.polynomial.hermite_e.hermegauss(_NODES))
    u = mean[..., None] + deviation[..., None] * nodes
    x, size = (part.movedim(-1, 2) for part in transform.inverse_with_size(u.movedim(2, -1)))
    return x, size, nodes, share / math.sqrt(2 * math.pi)
