r"""Multifractional Brownian motion: a Hurst index that changes with time.

With the processes :math:`dY_k = -\gamma_k Y_k\,dt + dB`, :math:`Y(0) = 0`, and the weights :math:`\omega(H)` of kind II
there are two ways to let H move,

.. math::

    \text{evaluated:}\quad \hat B(t) = \sum_k \omega_k(H(t))\, Y_k(t), \qquad
    \text{integrated:}\quad \hat B(t) = \int_0^t \sum_k \omega_k(H(s))\, dY_k(s) .

The first is the motion of Riemann and Liouville with the index of the moment (Peltier and Levy Vehel 1995): its
variance is :math:`t^{2H(t)}`, and when H moves the whole past is weighed anew. In the second every increment keeps the
index it was made with. For a constant H they are one. On a grid the integral takes H at the beginning of each step.

Both are normal, with covariances in closed form that are differentiable in H: a curve of H is learned by likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from gendyn.data.checks import ArrayLike, as_tensor, check_times
from gendyn.nn import MLP
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.fractional.decay_rates import check_rates, enough_rates, rates_between
from gendyn.sampling.fractional.gaussian_rows import check_floating, row_normals
from gendyn.sampling.fractional.pathwise_weights import KernelFit, log_variance_constant
from gendyn.sampling.fractional.shared_driver import driven_covariance, increment_covariance, symmetric_root

__all__ = ["Definition", "HurstCurve", "MultifractionalMotion", "sample_multifractional"]

Definition = Literal["evaluated", "integrated"]


class HurstCurve(nn.Module):
    r"""A curve :math:`H(t) \in (0, 1)`, a small network of :math:`(\sin t, \cos t, t)` that begins at one half.

    Parameters
    ----------
    hidden
        Width of its hidden layer.
    seed
        Of its initial weights.

    Examples
    --------
    >>> HurstCurve()(torch.tensor([0.0, 1.0])).tolist()
    [0.5, 0.5]
    """

    def __init__(self, hidden: int = 10, *, seed: Seed = 0) -> None:
        super().__init__()
        self.mlp = MLP(3, 1, (hidden,), "tanh", seed=seed, final_scale=0.0)

    def forward(self, t: Tensor) -> Tensor:
        """Return the index at times of any shape."""
        like = next(self.mlp.parameters())
        time = t.to(like)
        index: Tensor = torch.sigmoid(self.mlp(torch.stack([time.sin(), time.cos(), time], -1)))[..., 0]
        return index.to(t) if t.is_floating_point() else index


class MultifractionalMotion:
    """Multifractional Brownian motion on a grid, of kind II and unit scale, by its Markov approximation.

    Parameters
    ----------
    times
        ``(T,)``, strictly increasing from 0.
    hurst
        The index at these times, ``(T,)``, or a function that returns it, such as :class:`HurstCurve`; gradients flow
        back to it.
    definition
        ``"evaluated"`` or ``"integrated"``, see the module.
    count
        Number of processes at most; a short grid takes fewer.
    rates
        Their decay rates ``(K,)``, in place of ``count``.
    unit
        How many units in which the variance is :math:`t^{2H(t)}` a unit of the times is; when H moves, that is not a
        matter of scale alone.

    Raises
    ------
    ValueError
        If times do not begin at 0, or the index leaves (0, 1), or there is no such definition.

    Examples
    --------
    >>> times = torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64)
    >>> motion = MultifractionalMotion(times, [0.3, 0.3, 0.5, 0.7])
    >>> motion.covariance.diagonal().round(decimals=2)  # t ** 2H(t)
    tensor([0.0000, 0.6400, 1.0000, 2.6400], dtype=torch.float64)
    """

    def __init__(
        self,
        times: ArrayLike,
        hurst: ArrayLike | Callable[[Tensor], Tensor],
        *,
        definition: Definition = "evaluated",
        count: int = 7,
        rates: ArrayLike = None,
        unit: float = 1.0,
    ) -> None:
        self.times = check_times(times)
        if float(self.times[0]) != 0 or len(self.times) < 2:
            raise ValueError(f"times must begin at 0 and hold a second one; got {self.times.tolist()[:3]}")
        if definition not in get_args(Definition):
            raise ValueError(f"definition must be 'evaluated' or 'integrated'; got {definition!r}")
        self.definition = definition
        index = hurst(self.times) if callable(hurst) else as_tensor(hurst, "hurst")
        self.hurst = index.to(torch.float64)
        if self.hurst.shape != self.times.shape:
            raise ValueError(f"hurst must give one index for each of {len(self.times)} times; got {tuple(index.shape)}")
        outside = ~((self.hurst > 0) & (self.hurst < 1))
        if bool(outside.any()):
            k = int(torch.nonzero(outside)[0])
            raise ValueError(
                f"the Hurst index must stay between 0 and 1, both excluded; got {float(self.hurst[k]):g} at time "
                f"{float(self.times[k]):g}"
            )
        horizon, shortest = float(self.times[-1]), float(self.times.diff().min())
        few = min(count, enough_rates(shortest, horizon))
        self.rates = rates_between(shortest, horizon, few) if rates is None else check_rates(rates)
        self.weights = KernelFit(self.rates, horizon, "II").weights(self.hurst)
        if not (math.isfinite(unit) and unit > 0):
            raise ValueError(f"unit must be a positive number; got {unit}")
        scale = self.hurst * math.log(unit) - 0.5 * log_variance_constant(self.hurst, "II")
        self.weights = self.weights * torch.exp(scale)[:, None]

    @cached_property
    def covariance(self) -> Tensor:
        """Covariance at the times, ``(T, T)``, float64, with gradients to the index."""
        omega, grid = self.weights, self.times
        steps = grid.diff()
        if self.definition == "evaluated":
            held = (driven_covariance(self.rates, grid) @ omega[..., None])[..., 0]
            lags = (grid - grid[:, None]).clamp_min(0.0)
            upper = torch.einsum("ik,ijk,jk->ij", held, torch.exp(-lags[..., None] * self.rates), omega)
            return torch.triu(upper) + torch.triu(upper, 1).mT
        # Of increments, each with the weights of its beginning.
        own, before = omega[:-1], driven_covariance(self.rates, grid)
        fade = torch.exp(-steps[:, None] * self.rates)
        held = (before[1:] @ own[..., None])[..., 0] - fade * (before[:-1] @ own[..., None])[..., 0]
        lags = (grid[:-1] - grid[1:, None]).clamp_min(0.0)
        later = torch.expm1(-steps[:, None] * self.rates) * own
        across = torch.triu(torch.einsum("ik,ijk,jk->ij", held, torch.exp(-lags[..., None] * self.rates), later), 1)
        forms = increment_covariance(self.rates, grid[:-1], steps, stationary=False)
        variances = torch.einsum("ik,ikl,il->i", own, forms, own)
        whole: Tensor = (across + across.mT + torch.diag(variances)).cumsum(0).cumsum(1)
        return torch.nn.functional.pad(whole, (1, 0, 1, 0))

    def log_density(self, values: Tensor) -> Tensor:
        """Return the log density of paths ``(n, T)`` that are 0 at time 0: ``(n,)``, with gradients to the index."""
        x = values.to(torch.float64)[:, 1:]
        factor = torch.linalg.cholesky(self.covariance[1:, 1:])
        white = torch.linalg.solve_triangular(factor, x.mT, upper=False)
        logs = factor.diagonal().log().sum() + 0.5 * len(factor) * math.log(2 * math.pi)
        density: Tensor = -0.5 * white.square().sum(0) - logs
        return density


def sample_multifractional(
    motion: MultifractionalMotion, n: int, *, seed: Seed = 0, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draw paths of multifractional Brownian motion, exact in the law of the approximation.

    Parameters
    ----------
    motion
        The law, on its grid.
    n
        Number of paths.
    seed
        Seed or generator. Path ``i`` does not depend on ``n``.
    dtype
        Type of the result; all is float64 inside.

    Returns
    -------
    Tensor
        ``(n, T)``.

    Examples
    --------
    >>> motion = MultifractionalMotion(torch.linspace(0, 1, 11), lambda t: 0.3 + 0.4 * t)
    >>> round(sample_multifractional(motion, 4000)[:, -1].var().item(), 1)  # 1 at time 1, whatever the index
    1.0
    """
    key, rates, omega = derive_seed(as_seed(seed), "multifractional"), motion.rates, motion.weights.detach()
    steps, width = motion.times.diff(), len(motion.rates)
    roots, decays = symmetric_root(driven_covariance(rates, steps)).mT, torch.exp(-steps[:, None] * rates)
    values = torch.zeros(n, len(motion.times), dtype=check_floating(dtype))
    for rows, normals in row_normals(n, len(steps) * width, key):
        state = normals.new_zeros(len(normals), width)
        path = normals.new_zeros(len(normals))
        for k in range(len(steps)):
            moved = state * decays[k] + normals[:, k * width : (k + 1) * width] @ roots[k]
            path = moved @ omega[k + 1] if motion.definition == "evaluated" else path + (moved - state) @ omega[k]
            values[rows, k + 1] = path.to(dtype)
            state = moved
    return values
