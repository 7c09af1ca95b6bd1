r"""Where observations pull a linear equation with fractional noise: a backward Gaussian recursion.

What all later observations say about a state is normal, :math:`-\tfrac12 z^\top J z + j^\top z` up to a constant. An
observation of X with noise s adds :math:`1/s^2` to J and :math:`y/s^2` to j, and over a step
:math:`z' = \Phi z + c + R\,\varepsilon`

.. math::

    S = R^\top J R = E\,\mathrm{diag}(s)\,E^\top, \quad W = R^\top J, \quad
    \mathcal N\Bigl(\varepsilon;\ (I + S)^{-1} \bigl[R^\top (j - J c) - W \Phi z\bigr],\ (I + S)^{-1}\Bigr)

is the posterior of the noise. In the coordinates of E its components are independent, with divergence

.. math:: \tfrac12 \bigl[\log(1 + s_i) - s_i / (1 + s_i) + \mu_i^2\bigr] .

``"guided"`` steps take this law: for a linear equation they are the posterior itself, however long steps are.
``"control"`` steps keep the noise and add a shift :math:`u\,dt` of the driver, held over the step, of cost
:math:`\tfrac12 h u^2`: the best is that of the same recursion with :math:`B / \sqrt h` in place of R, a
linear-quadratic regulator.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gendyn.sde.fractional_steps import FractionalSteps

__all__ = ["Guide", "Pull", "guide"]

Posterior = Literal["guided", "control"]


class Pull(NamedTuple):
    r"""How noise is pulled, before the gain :math:`1/(1+s)`: ``offset - z gain - n push``; axes ``(M, G, D, ...)``.

    Attributes
    ----------
    strength
        s, ``(..., m)``.
    turn
        E, ``(..., m, m)``.
    offset
        ``(..., C, m)``.
    gain
        ``(..., d, m)``.
    push
        Of a held force of one, ``(..., m)``.
    """

    strength: Tensor
    turn: Tensor
    offset: Tensor
    gain: Tensor
    push: Tensor


class Guide(NamedTuple):
    """Pulls of all steps, and of the start ``(G, D, ...)``; what all observations say about the start, J and j."""

    steps: Pull
    start: Pull
    precision: Tensor
    linear: Tensor


def guide(
    steps: FractionalSteps,
    start_mean: Tensor,
    start_root: Tensor,
    values: Tensor,
    weights: Tensor,
    posterior: Posterior = "guided",
) -> Guide:
    r"""Return what observations make of the noise.

    Parameters
    ----------
    steps
        Of M steps, without gradients.
    start_mean, start_root
        Of the first state: mean ``(D, d)`` and root of the covariance ``(D, d, d)``.
    values
        Observations at the M + 1 times, ``(M + 1, G, D, C)``; anything where there is none.
    weights
        :math:`1/s^2`, ``(M + 1, G, D)``, 0 where nothing was observed.
    posterior
        ``"guided"`` or ``"control"``.

    Examples
    --------
    Brownian motion from 0 that is seen after 2, with variance 1/2:

    >>> from gendyn.sde.fractional_steps import fractional_steps
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> steps = fractional_steps(2 * one[None], 1e-9 * one, one[None], 0 * one, 0 * one)
    >>> seen = torch.tensor([0.0, 2.0], dtype=torch.float64)[:, None, None]
    >>> found = guide(steps, torch.zeros(1, 2).double(), torch.zeros(1, 2, 2).double(), seen[..., None], seen)
    >>> found.precision[0, 0, 0, 0], found.linear[0, 0, 0, 0]  # 1 / (2 + 1/2), and times the value
    (tensor(0.4000, dtype=torch.float64), tensor(0.8000, dtype=torch.float64))
    """
    count, laws, dim = weights.shape
    width, columns = steps.matrix.shape[-1], values.shape[-1]
    precision = values.new_zeros(laws, dim, width, width)
    linear = values.new_zeros(laws, dim, columns, width)
    roots = steering_roots(steps, posterior)
    parts: list[Pull] = []
    for k in range(count - 1, -1, -1):
        if k < count - 1:
            phi, shift = steps.matrix[k], steps.shift[k]
            left = linear - (precision @ shift[..., None])[..., 0][..., None, :]
            pull, share = _pull(roots[k], precision, left)
            stay = torch.eye(width, dtype=phi.dtype, device=phi.device) - roots[k] @ share
            push = pull.gain[..., 0, :] * steps.push[k][..., None]
            parts.append(pull._replace(gain=phi.mT @ pull.gain, push=push))
            linear = left @ stay @ phi
            # Of two positive parts: nothing is lost where an observation tells almost all.
            precision = phi.mT @ (stay.mT @ precision @ stay + share.mT @ share) @ phi
        precision = precision.clone()
        precision[..., 0, 0] += weights[k]
        linear = linear.clone()
        linear[..., 0] += weights[k][..., None] * torch.where(weights[k][..., None] > 0, values[k], 0.0)
    left = linear - (precision @ start_mean[..., None])[..., 0][..., None, :]
    start, _ = _pull(start_root.expand(laws, -1, -1, -1), precision, left)
    stacked = Pull(*(torch.stack(part[::-1]) for part in zip(*parts, strict=True)))
    return Guide(stacked, start, precision, linear)


def steering_roots(steps: FractionalSteps, posterior: Posterior) -> Tensor:
    """Return through what the posterior moves a state, ``(M, G, D, d, m)``: the noise, or a control of the driver."""
    if posterior == "guided":
        return steps.root
    still = steps.gaps == 0
    size = torch.where(still, 1.0, steps.gaps).sqrt()
    return (torch.where(still[..., None, None], 0.0, steps.drive) / size[..., None, None])[..., None]


def _pull(root: Tensor, precision: Tensor, left: Tensor) -> tuple[Pull, Tensor]:
    r"""Return the pull of a step, with ``gain`` of the state after it, and :math:`(I + S)^{-1} R^\top J`."""
    along = precision @ root
    s, turn = torch.linalg.eigh(root.mT @ along)
    s = s.clamp_min(0.0)
    turned = root @ turn
    gain = precision @ turned
    share = turn @ (gain.mT / (1 + s)[..., None])
    return Pull(s, turn, left @ turned, gain, s), share
