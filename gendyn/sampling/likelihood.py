r"""Densities and weights of paths: change of variables along a flow, Girsanov's theorem along a diffusion.

Along an ordinary differential equation :math:`\dot x = f(t, x)` the log density of a moving point obeys (Chen et al.
2018)

.. math:: \frac{d}{dt} \log p_t(x_t) = -\operatorname{div} f(t, x_t), \qquad
    \operatorname{div} f = \sum_i \partial_i f_i = E\bigl[v^\top (\partial f)\, v\bigr]

for any random :math:`v` with :math:`E[v v^\top] = I` (Hutchinson 1989). For a diffusion seen at times :math:`t_k`, with
:math:`\Delta X_k = X_{k+1} - X_k`, steps :math:`h_k` and :math:`a = g g^\top`, the Euler-Maruyama transition is

.. math:: X_{k+1} \mid X_k \sim \mathcal N\bigl(X_k + f(t_k, X_k)\, h_k,\; a(t_k, X_k)\, h_k\bigr),

and two processes with the same :math:`g` have the likelihood ratio of Girsanov's theorem,

.. math::

    \log \frac{dP_1}{dP_0} = \sum_k u_k^\top \Delta W_k - \tfrac12 \lvert u_k \rvert^2 h_k, \qquad
    g u_k = f_1 - f_0, \quad g \Delta W_k = \Delta X_k - f_0 h_k,

which is the ratio of those transitions exactly, and of the diffusions as the steps shrink.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator
from gendyn.sampling.door import Gradient
from gendyn.sampling.linear import check_observed, matrix_product, step_inside
from gendyn.sampling.process import Calculus, NoiseType, Process, check_process, refuse_jumps
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import DormandPrince, Solver
from gendyn.sampling.tiles import Tiles

__all__ = [
    "effective_sample_size",
    "flow_log_prob",
    "girsanov_log_weights",
    "log_density_change",
    "noise_covariance",
    "resample",
    "transition_log_prob",
]

Divergence = Literal["exact", "hutchinson"]
Times = Tensor | Sequence[float] | NDArray[np.floating[Any]]

_SINGULAR = 1e-12
"""An eigenvalue, or a pivot, of the noise covariance below this part of its scale is rounding error."""


def log_density_change(
    process: Process,
    x: ArrayLike,
    times: Times,
    *,
    divergence: Divergence = "exact",
    probes: int = 1,
    seed: Seed = 0,
    solver: str | Solver | DormandPrince = "rk4",
    step: float | None = None,
    gradient: Gradient = "none",
) -> tuple[Tensor, Tensor]:
    r"""Move points along a flow and return how their log density changes.

    .. math:: \Delta = \log p_{t_T}(x_{t_T}) - \log p_{t_1}(x_{t_1}) = -\int_{t_1}^{t_T} \operatorname{div} f(t,
    x_t)\,dt

    Parameters
    ----------
    process
        An ordinary differential equation whose drift acts on each row alone.
    x
        Points ``(B, d)`` at the first time.
    times
        ``(T,)``, rising or falling; the integral runs from the first to the last. Steps end on every time.
    divergence
        ``"exact"``: d vector-Jacobian products in every evaluation. ``"hutchinson"``: unbiased, one product for each
        probe; its standard deviation falls as the square root of their number.
    probes
        Number of Rademacher vectors :math:`v` for each point, fixed along its trajectory (Grathwohl et al. 2019).
    seed
        Seed or generator of the probes.
    solver, step
        As for :func:`gendyn.sampling.sample`; the step is by default the process's own ``time_step``, and ``"dopri5"``
        needs none.
    gradient
        ``"none"`` builds no graph; ``"backprop"`` lets gradients flow to ``x`` and the process's parameters.

    Returns
    -------
    x_end, delta
        Points ``(B, d)`` at the last time and :math:`\Delta` ``(B,)``, in the type of ``x``.

    Raises
    ------
    ValueError
        If the process has noise, there is no step, or an option or a shape does not fit.

    References
    ----------
    R. T. Q. Chen et al., *Neural Ordinary Differential Equations* (2018); W. Grathwohl et al., *FFJORD* (2019).

    Examples
    --------
    >>> from gendyn.sampling import ODE
    >>> end, delta = log_density_change(ODE(lambda t, x: -x, dim=3), torch.ones(2, 3), [0.0, 1.0], step=0.1)
    >>> [round(v, 4) for v in delta.tolist()]
    [3.0, 3.0]
    """
    if divergence not in ("exact", "hutchinson"):
        raise ValueError(f"divergence must be 'exact' or 'hutchinson'; got {divergence!r}")
    if probes != int(probes) or probes < 1:
        raise ValueError(f"probes must be a whole number of at least 1; got {probes}")
    x = as_tensor(x, "x")
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"x must hold real points (B, d); got shape {tuple(x.shape)} of {x.dtype}")
    grid = as_tensor(times, "times").to(torch.float64)
    if grid.ndim != 1:
        raise ValueError(f"times must have shape (T,), shared by all points; got {tuple(grid.shape)}")
    check_process(process, grid[0].to(x), x)
    if process.noise_type != "none":
        raise ValueError(
            f"a density moves along an ordinary differential equation; {type(process).__name__} has "
            f"{process.noise_type} noise: give its probability flow"
        )
    refuse_jumps(process, "a density along a flow")
    if step is None and solver != "dopri5" and not isinstance(solver, DormandPrince):
        step = getattr(process, "time_step", None)
        if step is None:
            raise ValueError(
                f"solver {solver if isinstance(solver, str) else solver.name!r} needs a step: give step=, or "
                f"solver='dopri5'; {type(process).__name__} names no time_step of its own"
            )
    vectors = _rademacher(x, int(probes), seed) if divergence == "hutchinson" else None
    state = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
    moved = sample(
        _WithDensity(process, vectors), state, grid, solver=solver, step=step, gradient=gradient, save="final"
    ).values[:, -1]
    return moved[:, :-1], moved[:, -1]


def flow_log_prob(
    process: Process,
    x: ArrayLike,
    times: Times,
    base_log_prob: Callable[[Tensor], Tensor],
    *,
    divergence: Divergence = "exact",
    probes: int = 1,
    seed: Seed = 0,
    solver: str | Solver | DormandPrince = "rk4",
    step: float | None = None,
    gradient: Gradient = "none",
) -> Tensor:
    r"""Return the log density of points under a flow that starts from a known law.

    .. math:: \log p_{t_T}(x) = \log p_{t_1}(x_{t_1}) - \int_{t_1}^{t_T} \operatorname{div} f(t, x_t)\,dt

    The points are carried back from the last time to the first, where the base density is known.

    Parameters
    ----------
    process, divergence, probes, seed, solver, step, gradient
        As in :func:`log_density_change`.
    x
        Points ``(B, d)`` at the last time.
    times
        ``(T,)``, the times at which one samples the flow: the first is that of the base.
    base_log_prob
        Log density of the base law, ``(B, d) -> (B,)``.

    Returns
    -------
    Tensor
        Log densities ``(B,)``.

    Raises
    ------
    ValueError
        As in :func:`log_density_change`, or if ``base_log_prob`` returns another shape.

    Examples
    --------
    >>> from gendyn.sampling import ODE
    >>> normal = torch.distributions.Normal(0.0, 1.0)
    >>> spread = ODE(lambda t, x: x, dim=1)  # by time 1 the standard deviation is e
    >>> x = torch.tensor([[2.0]], dtype=torch.float64)
    >>> out = flow_log_prob(spread, x, [0.0, 1.0], lambda z: normal.log_prob(z).sum(1), step=0.01)
    >>> round(out.item() - torch.distributions.Normal(0.0, math.e).log_prob(x).item(), 6)
    0.0
    """
    grid = as_tensor(times, "times").to(torch.float64).flip(-1)
    start, delta = log_density_change(
        process, x, grid, divergence=divergence, probes=probes, seed=seed, solver=solver, step=step, gradient=gradient
    )
    with _graph(gradient):
        base = base_log_prob(start)
        if base.shape != delta.shape:
            raise ValueError(f"base_log_prob must return shape {tuple(delta.shape)}; got {tuple(base.shape)}")
        return base - delta


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
    with _graph(gradient):
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
    with _graph(gradient):
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


class _WithDensity:
    r"""The flow of :math:`(x, \Delta)` with :math:`\dot\Delta = -\operatorname{div} f`."""

    noise_type: NoiseType = "none"
    calculus: Calculus = "ito"

    def __init__(self, process: Process, probes: Tensor | None) -> None:
        self.process = process
        self.probes = probes
        self.dim = process.dim + 1

    def drift(self, t: Tensor, state: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x = state[:, :-1]
            x = x if keep and x.requires_grad else x.detach().requires_grad_()
            f = self.process.drift(t, x)
            divergence = self._divergence(f, x, keep)
        flow = torch.cat([f, -divergence], dim=1)
        return flow if keep else flow.detach()

    def diffusion(self, t: Tensor, state: Tensor) -> Tensor:
        return torch.zeros_like(state)

    def _divergence(self, f: Tensor, x: Tensor, keep: bool) -> Tensor:
        total = x.new_zeros(len(x), 1)
        if not f.requires_grad:
            return total
        if self.probes is None:
            for i in range(x.shape[1]):
                (row,) = torch.autograd.grad(
                    f[:, i].sum(), x, retain_graph=True, create_graph=keep, materialize_grads=True
                )
                total = total + row[:, i : i + 1]
            return total
        # A first look at the process passes its first rows alone.
        for v in self.probes[:, : len(x)]:
            (product,) = torch.autograd.grad(f, x, v, retain_graph=True, create_graph=keep, materialize_grads=True)
            total = total + (product * v).sum(1, keepdim=True)
        return total / len(self.probes)


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


def _rademacher(x: Tensor, probes: int, seed: Seed) -> Tensor:
    """Return signs ``(probes, B, d)``; those of a row do not depend on how many rows there are."""
    key = derive_seed(as_seed(seed), "hutchinson")
    normals = Tiles(key, "probes", len(x), x.shape[1], 0, x.detach()).draw((0,), probes)
    return torch.where(normals < 0, -1.0, 1.0).to(x)


def _normalised(log_weights: Tensor) -> Tensor:
    w = log_weights.detach().to(torch.float64)
    if w.ndim != 1 or len(w) == 0:
        raise ValueError(f"log_weights must have shape (n,) with at least one weight; got {tuple(w.shape)}")
    if bool((w.isnan() | (w == math.inf)).any()):
        raise ValueError("log_weights must be numbers or minus infinity; got NaN or infinity")
    if not bool((w > -math.inf).any()):
        raise ValueError("every weight is zero; there is nothing to draw: look at where the log weights come from")
    return torch.softmax(w, dim=0)


def _graph(gradient: Gradient) -> contextlib.AbstractContextManager[None]:
    if gradient not in ("none", "backprop"):
        raise ValueError(f"gradient must be 'none' or 'backprop'; got {gradient!r}")
    return contextlib.nullcontext() if gradient == "backprop" else torch.no_grad()
