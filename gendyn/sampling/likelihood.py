r"""Weights and likelihoods of paths: Girsanov's theorem along a diffusion.

For a diffusion seen at times :math:`t_k`, with
:math:`\Delta X_k = X_{k+1} - X_k`, steps :math:`h_k` and :math:`a = g g^\top`, the Euler-Maruyama transition is

.. math:: X_{k+1} \mid X_k \sim \mathcal N\bigl(X_k + f(t_k, X_k)\, h_k,\; a(t_k, X_k)\, h_k\bigr),

and two processes with the same :math:`g` have the likelihood ratio of Girsanov's theorem,

.. math::

    \log \frac{dP_1}{dP_0} = \sum_k u_k^\top \Delta W_k - \tfrac12 \lvert u_k \rvert^2 h_k, \qquad
    g u_k = f_1 - f_0, \quad g \Delta W_k = \Delta X_k - f_0 h_k,

which is the ratio of those transitions exactly, and of the diffusions as the steps shrink.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, torch_generator
from gendyn.sampling.door import Gradient, graph_mode
from gendyn.sampling.linear import check_observed, matrix_product, step_inside
from gendyn.sampling.process import NoiseType, Process, check_process, refuse_jumps

__all__ = [
    "effective_sample_size",
    "girsanov_log_weights",
    "noise_covariance",
    "resample",
    "transition_log_prob",
]

_SINGULAR = 1e-12
"""An eigenvalue, or a pivot, of the noise covariance below this part of its scale is rounding error."""


def girsanov_log_weights(
    paths: Paths, numerator: Process, denominator: Process, *, gradient: Gradient = "none"
) -> Tensor:
    r"""Return :math:`\log dP_{\text{num}}/dP_{\text{den}}` of each path, for two processes with the same diffusion.

    .. math:: \sum_k \delta_k^\top a_k^{+} \bigl(\Delta X_k - f_{\text{den}} h_k\bigr)
        - \tfrac12 \delta_k^\top a_k^{+} \delta_k\, h_k, \qquad \delta = f_{\text{num}} - f_{\text{den}},

    which is the module's formula with the shortest :math:`u`. If ``paths`` were simulated from the denominator by
    Euler-Maruyama steps between these very times, the mean of the exponential is 1; the start law is taken as common.

    Parameters
    ----------
    paths
        Fully observed paths ``(n, T, d)`` at times close enough for an Euler step.
    numerator, denominator
        Processes in Ito form with any noise, singular included.
    gradient
        ``"backprop"`` keeps the graph to the values and to the processes' parameters.

    Returns
    -------
    Tensor
        ``(n,)``, float64.

    Raises
    ------
    ValueError
        If the diffusions differ, or no noise reaches a direction in which the drifts differ (the laws are then
        singular to each other), or paths and processes do not fit.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> ones = lambda t, x: torch.ones_like(x)
    >>> still, drifting = SDE(lambda t, x: 0 * x, ones, dim=1), SDE(lambda t, x: 0 * x + 1, ones, dim=1)
    >>> girsanov_log_weights(Paths([0.0, 1.0], torch.tensor([[0.0, 2.0]])), drifting, still).tolist()
    [1.5]
    """
    for process, role in ((numerator, "numerator"), (denominator, "denominator")):
        _check_diffusion(process, paths, role)
    tolerance = torch.finfo(paths.dtype).eps
    with graph_mode(gradient):
        result = paths.values.new_zeros(len(paths), dtype=torch.float64)
        for k in range(paths.n_times - 1):
            inside, t, h, x, moved = _step(paths, k)
            noise, other = _Noise(denominator, t, x), _Noise(numerator, t, x)
            _check_same(noise, other, tolerance**0.7, t)
            above, below = numerator.drift(t, x).to(torch.float64), denominator.drift(t, x).to(torch.float64)
            change = above - below
            solved = noise.solve(change)
            missed = (noise.multiply(solved) - change).detach().abs().amax(1)
            reach = torch.maximum(above.detach().abs().amax(1), below.detach().abs().amax(1))
            out = (missed > tolerance**0.5 * reach) & inside
            if bool(out.any()):
                raise ValueError(
                    f"the drifts differ in a direction that no noise reaches, in {int(out.sum())} of {len(paths)} "
                    f"paths at t={float(t.max()):g}: the two laws are singular to each other and have no weights"
                )
            term = (solved * (moved - below * h)).sum(1) - 0.5 * (solved * change).sum(1) * h.reshape(-1)
            result = result + torch.where(inside, term, 0.0)
    return result


def transition_log_prob(paths: Paths, process: Process, *, gradient: Gradient = "none") -> Tensor:
    r"""Return the Euler-Gaussian log likelihood of each path given its first value.

    .. math:: \sum_k \log \mathcal N\bigl(x_{k+1};\; x_k + f(t_k, x_k) h_k,\; a(t_k, x_k) h_k\bigr)

    Exact for no process but Brownian motion with drift; its error shrinks with the time between observations. A
    :class:`~gendyn.sampling.linear.LinearProcess` has the exact ``log_likelihood``.

    Parameters
    ----------
    paths
        Fully observed paths ``(n, T, d)``.
    process
        In Ito form, with noise that reaches every feature.
    gradient
        ``"backprop"`` keeps the graph to the values and to the process's parameters: minus the mean is a loss.

    Returns
    -------
    Tensor
        ``(n,)``, float64.

    Raises
    ------
    ValueError
        If :math:`a = g g^\top` is singular somewhere, or paths and process do not fit.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> round(transition_log_prob(Paths([0.0, 1.0], torch.zeros(1, 2)), brownian).item(), 6)
    -0.918939
    """
    _check_diffusion(process, paths, "process")
    with graph_mode(gradient):
        result = paths.values.new_zeros(len(paths), dtype=torch.float64)
        for k in range(paths.n_times - 1):
            inside, t, h, x, moved = _step(paths, k)
            noise = _Noise(process, t, x)
            if bool((noise.singular & inside).any()):
                raise ValueError(
                    f"the noise of {type(process).__name__} misses a feature at t={float(t.max()):g}; "
                    "an Euler transition has a density only where g g^T is invertible"
                )
            gap = moved - process.drift(t, x).to(torch.float64) * h
            quadratic = (gap * noise.solve(gap)).sum(1) / h.reshape(-1)
            constant = noise.log_determinant() + paths.dim * torch.log(2 * math.pi * h.reshape(-1))
            result = result + torch.where(inside, -0.5 * (quadratic + constant), 0.0)
    return result


def resample(
    paths: Paths,
    log_weights: Tensor,
    *,
    n: int | None = None,
    seed: Seed = 0,
    method: Literal["systematic", "multinomial"] = "systematic",
) -> tuple[Paths, Tensor]:
    r"""Draw paths with chances in proportion to their weights, so that they are weighted equally afterwards.

    Parameters
    ----------
    paths
        Weighted paths.
    log_weights
        ``(n_paths,)``, up to a common constant; minus infinity is weight zero.
    n
        How many to draw; by default as many as there are.
    seed
        Seed or generator.
    method
        ``"systematic"``: one uniform number and equal strides, so path i comes :math:`\lfloor n w_i \rfloor` or
        :math:`\lceil n w_i \rceil` times (Kitagawa 1996). ``"multinomial"``: independent draws.

    Returns
    -------
    paths, indices
        The drawn paths, and the number of the path each comes from, ``(n,)``, ascending.

    Raises
    ------
    ValueError
        If the weights do not fit the paths, are NaN or infinite, or all zero.

    Examples
    --------
    >>> paths = Paths([0.0, 1.0], torch.zeros(3, 2))
    >>> resample(paths, torch.tensor([0.0, -torch.inf, 0.0]), n=4)[1].tolist()
    [0, 0, 2, 2]
    """
    if method not in ("systematic", "multinomial"):
        raise ValueError(f"method must be 'systematic' or 'multinomial'; got {method!r}")
    count = len(paths) if n is None else n
    if count != int(count) or count < 1:
        raise ValueError(f"n must be a whole number of at least 1; got {n}")
    if tuple(log_weights.shape) != (len(paths),):
        raise ValueError(f"log_weights must have shape ({len(paths)},), one per path; got {tuple(log_weights.shape)}")
    weights = _normalised(log_weights).cpu()
    cumulative = weights.cumsum(0)
    # Divided by itself, the last is exactly 1: no number below 1 falls behind the last path with weight.
    cumulative = cumulative / cumulative[-1]
    generator = torch_generator(seed, "resample")
    draws = 1 if method == "systematic" else count
    uniform = torch.rand(draws, generator=generator, dtype=torch.float64)
    if method == "systematic":
        uniform = (torch.arange(count, dtype=torch.float64) + uniform) / count
    indices = torch.searchsorted(cumulative, uniform.sort().values.clamp_max(1 - 2**-53), right=True)
    indices = indices.to(paths.device)
    return paths.select(indices), indices


def effective_sample_size(log_weights: Tensor) -> float:
    r"""Return :math:`(\sum w)^2 / \sum w^2`, the number of equally weighted draws that are worth as much (Kong 1992).

    Parameters
    ----------
    log_weights
        ``(n,)``, up to a common constant.

    Returns
    -------
    float
        Between 1 and n.

    Raises
    ------
    ValueError
        If the weights are NaN or infinite, or all zero.

    Examples
    --------
    >>> effective_sample_size(torch.zeros(8)), effective_sample_size(torch.tensor([0.0, -torch.inf]))
    (8.0, 1.0)
    """
    return 1.0 / float(_normalised(log_weights).square().sum())


def noise_covariance(diffusion: Tensor, noise_type: NoiseType) -> Tensor:
    r"""Return :math:`a = g g^\top` as ``(d, d)`` or ``(B, d, d)``, from a diffusion shaped as its noise type says.

    Examples
    --------
    >>> noise_covariance(torch.tensor([[1.0, 2.0]]), "diagonal").tolist()
    [[[1.0, 0.0], [0.0, 4.0]]]
    """
    if noise_type == "diagonal":
        return torch.diag_embed(diffusion.square())
    if noise_type == "scalar":
        diffusion = diffusion[:, :, None]
    return diffusion @ diffusion.mT


class _Noise:
    """The noise covariance at a step and what is solved with it, in float64; singular rows by a generalised inverse."""

    def __init__(self, process: Process, t: Tensor, x: Tensor) -> None:
        g = process.diffusion(t, x).to(torch.float64)
        self.diagonal = process.noise_type == "diagonal"
        self.a = g.square() if self.diagonal else noise_covariance(g, process.noise_type)
        if self.diagonal:
            self.singular = (self.a == 0).any(1)
            self.factor = self.a
            return
        # Features may have noise of very different size; what is singular is judged at equal size.
        variances = self.a.diagonal(dim1=-2, dim2=-1)
        self.scale = torch.where(variances > 0, variances, 1.0).sqrt()
        self.scaled = self.a / (self.scale[..., :, None] * self.scale[..., None, :])
        self.factor, failed = torch.linalg.cholesky_ex(self.scaled)
        weak = self.factor.diagonal(dim1=-2, dim2=-1).detach().square().amin(-1) < _SINGULAR
        self.singular = ((failed != 0) | weak).expand(len(x))

    def multiply(self, v: Tensor) -> Tensor:
        return v * self.a if self.diagonal else matrix_product(self.a, v)

    def solve(self, v: Tensor) -> Tensor:
        if self.diagonal:
            return torch.where(self.a > 0, v / torch.where(self.a > 0, self.a, 1.0), 0.0)
        if bool(self.singular.any()):
            inverse = torch.linalg.pinv(self.scaled, rtol=_SINGULAR, hermitian=True)
            return matrix_product(inverse, v / self.scale) / self.scale
        if self.a.ndim == 2:
            return torch.cholesky_solve((v / self.scale).T, self.factor).T / self.scale
        return torch.cholesky_solve((v / self.scale)[:, :, None], self.factor)[:, :, 0] / self.scale

    def log_determinant(self) -> Tensor:
        if self.diagonal:
            return torch.where(self.a > 0, self.a, 1.0).log().sum(1)
        pivots = self.factor.diagonal(dim1=-2, dim2=-1)
        return 2 * (torch.where(pivots > 0, pivots, 1.0).log().sum(-1) + self.scale.log().sum(-1))

    def full(self) -> Tensor:
        return torch.diag_embed(self.a) if self.diagonal else self.a


def _check_same(first: _Noise, second: _Noise, tolerance: float, t: Tensor) -> None:
    a, b = (first.a, second.a) if first.diagonal == second.diagonal else (first.full(), second.full())
    gap, size = float((a - b).detach().abs().max()), float(a.detach().abs().max())
    if gap > tolerance * size:
        raise ValueError(
            f"numerator and denominator must have the same diffusion, but their g g^T differ by up to {gap:.3g} (of "
            f"{size:.3g}) at t={float(t.max()):g}: laws with different diffusions are singular to each other"
        )


def _check_diffusion(process: Process, paths: Paths, role: str) -> None:
    check_observed(paths, getattr(process, "dim", paths.dim))
    first = paths.times[..., 0].to(paths.values)
    check_process(process, first if first.ndim == 0 else first[:, None], paths.values[:, 0])
    refuse_jumps(process, "this likelihood")
    if process.noise_type == "none":
        raise ValueError(f"the {role} must have noise; {type(process).__name__} is an ordinary differential equation")
    if process.calculus != "ito" and process.noise_type != "additive":
        raise ValueError(
            f"the {role} is in Stratonovich form with {process.noise_type} noise; write it in Ito form, whose drift "
            "the formula needs"
        )


def _step(paths: Paths, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return which paths have a k-th step, its time, its length, where it starts and how far it goes.

    Lengths (a number, or ``(n, 1)``) and moves are in float64; a path that has ended stays where its first value is.
    """
    inside = step_inside(paths, k)
    x, first = paths.values, paths.values[:, 0]
    before = torch.where(inside[:, None], x[:, k], first)
    moved = x[:, k + 1].to(torch.float64) - before.to(torch.float64)
    t, h = paths.times[..., k].to(before), (paths.times[..., k + 1] - paths.times[..., k]).to(x.device)
    if not paths.shared_times:
        t, h = t[:, None], torch.where(inside, h, 1.0)[:, None]
    return inside, t, h, before, torch.where(inside[:, None], moved, 0.0)


def _normalised(log_weights: Tensor) -> Tensor:
    w = log_weights.detach().to(torch.float64)
    if w.ndim != 1 or len(w) == 0:
        raise ValueError(f"log_weights must have shape (n,) with at least one weight; got {tuple(w.shape)}")
    if bool((w.isnan() | (w == math.inf)).any()):
        raise ValueError("log_weights must be numbers or minus infinity; got NaN or infinity")
    if not bool((w > -math.inf).any()):
        raise ValueError("every weight is zero; there is nothing to draw: look at where the log weights come from")
    return torch.softmax(w, dim=0)
