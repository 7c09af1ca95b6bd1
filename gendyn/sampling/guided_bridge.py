r"""Bridges of a diffusion between two observations, by guided proposals (Schauer, van der Meulen and van Zanten 2017).

The diffusion :math:`dX = f\,dt + g\,dW`, conditioned on :math:`X_T = v`, has the drift
:math:`f + a \nabla \log p(T, v \mid t, x)` with :math:`a = g g^\top`, in which the density :math:`p` is unknown. A
guided proposal puts that of an auxiliary linear process :math:`d\tilde X = (A \tilde X + b)\,dt + S\,dW` in its place:

.. math::

    dX^\circ = \bigl(f(t, X^\circ) + a(t, X^\circ)\, r(t, X^\circ)\bigr) dt + g(t, X^\circ)\,dW, \qquad
    r(t, x) = \nabla_x \log \tilde p(T, v \mid t, x).

With :math:`\tau = T - t`, the auxiliary transition :math:`(F_\tau, c_\tau, C_\tau)`, and an observation
:math:`v = X_T + \sigma \varepsilon` of deviation :math:`\sigma` (zero for the point itself),

.. math::

    V_\tau = C_\tau + \sigma^2 I, \qquad H = F_\tau^\top V_\tau^{-1} F_\tau, \qquad
    r = F_\tau^\top V_\tau^{-1} (v - c_\tau - F_\tau x).

The law of the proposal is equivalent to that of the bridge, if :math:`S S^\top = a(T, v)` where :math:`\sigma = 0`:

.. math::

    \frac{dP^\star}{dP^\circ} = \frac{\tilde p(T, v \mid 0, x_0)}{p(T, v \mid 0, x_0)} \exp \int_0^T G\,dt, \qquad
    G = (f - \tilde f)^\top r - \tfrac12 \operatorname{tr}\bigl[(a - S S^\top)(H - r r^\top)\bigr].

The guiding term grows like :math:`\tau^{-1/2}` towards the end, so the steps shrink: they are equal in the clock
:math:`s` of :math:`t(s) = s (2 - s / T)`, whose last of N steps has the length :math:`T / N^2`. A step is that of
Euler-Maruyama but for the variance of its noise, :math:`a h (1 - h \operatorname{tr}[S S^\top H] / d)`: a bridge is
narrower over a step than its process, by :math:`(\tau - h) / \tau` for Brownian motion, whose bridge is thus drawn
exactly at any step; far from the end the factor changes a step at second order only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, as_tensor, check_finite
from gendyn.randomness import Seed
from gendyn.sampling.grid import StepGrid
from gendyn.sampling.likelihood import noise_covariance
from gendyn.sampling.linear import LinearProcess, matrix_product
from gendyn.sampling.process import Calculus, NoiseType, Process, check_process, noise_dim, refuse_jumps
from gendyn.sampling.sample import sample

__all__ = ["guided_bridge"]


def guided_bridge(
    process: Process,
    x0: Tensor,
    x1: Tensor | Sequence[float],
    times: Tensor | Sequence[float] | NDArray[np.floating[Any]],
    *,
    auxiliary: LinearProcess | None = None,
    seed: Seed = 0,
    step: float | None = None,
    substeps: int | None = None,
    observation_deviation: float = 0.0,
) -> tuple[Paths, Tensor]:
    r"""Draw weighted paths of a diffusion that starts in ``x0`` and ends in ``x1``.

    Parameters
    ----------
    process
        In Ito form, with additive, diagonal or general noise and :math:`a = g g^\top` invertible.
    x0
        Start states ``(n, d)``, one for each proposal; equal rows for draws of one bridge.
    x1
        What was observed at the last time, :math:`v`: ``(d,)``, or ``(n, d)`` for each path's own.
    times
        Output times ``(T,)``, the first that of ``x0``, the last that of ``x1``.
    auxiliary
        The linear process that guides; the closer to ``process``, the more even the weights. By default Brownian motion
        with the diffusion that ``process`` has at the end point.
    seed
        Seed or generator of the noise.
    step, substeps
        Longest step, or steps per output interval; by default the ``time_step`` of ``process``, and a fiftieth of the
        whole time at most. Steps shrink linearly towards the end and always end on output times.
    observation_deviation
        Standard deviation :math:`\sigma` of the observation of every feature; with 0 the paths end in ``x1`` exactly.

    Returns
    -------
    paths, log_weights
        Values ``(n, T, d)``, and :math:`\int G\,dt` of each path, ``(n,)``, float64. The factor
        :math:`\tilde p(T, v \mid 0, x_0)` is left out: it is the same for equal starts. With it the mean of the weights
        is the transition density, :math:`p(T, v \mid 0, x_0) = \tilde p(T, v \mid 0, x_0)\, E[e^{\int G dt}]`, up to
        the error of the steps.

    Raises
    ------
    ValueError
        If shapes, times, noise type or steps do not fit; if the diffusion at the end point is singular; or if, without
        observation error, the auxiliary process has another diffusion there (the weights would degenerate).
    FloatingPointError
        If a state or a weight stops being finite: take smaller steps.

    References
    ----------
    M. Schauer, F. van der Meulen and H. van Zanten, *Guided proposals for simulating multi-dimensional diffusion
    bridges*, Bernoulli 23 (2017).

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> paths, log_weights = guided_bridge(brownian, torch.zeros(4000, 1), [1.0], [0.0, 0.5, 1.0], step=0.02)
    >>> round(paths.values[:, 1].mean().item(), 1), paths.values[0, -1].item(), log_weights.abs().max().item()
    (0.5, 1.0, 0.0)
    """
    start, grid, end = _door(process, x0, x1, times, observation_deviation)
    with torch.no_grad():
        auxiliary = _auxiliary(process, auxiliary, end, grid, observation_deviation)
        fine, kept = _shrinking_grid(process, grid, step, substeps)
        guided = _Guided(process, auxiliary, end, fine, observation_deviation)
        state = torch.cat([start, start.new_zeros(len(start), 1)], dim=1)
        try:
            # The clock of the run counts steps: each has length 1, and its true length is in the coefficients.
            run = sample(guided, state, kept, solver="euler_maruyama", step=1.0, seed=seed)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"the guided paths or their weights are not finite any more with {len(fine) - 1} steps; take a smaller "
                "step, or an auxiliary process closer to the process"
            ) from error
        values, log_weights = run.values[:, :, :-1].clone(), run.values[:, -1, -1].to(torch.float64)
        if observation_deviation == 0:
            values[:, -1] = end
    info = {**run.info, "bridge": "guided", "observation_deviation": observation_deviation}
    return Paths(grid, values, info=info), log_weights


class _Guided:
    r"""The proposal :math:`X^\circ` with :math:`\int G\,dt` as one more feature, in the clock that counts steps."""

    calculus: Calculus = "ito"

    def __init__(
        self, process: Process, auxiliary: LinearProcess, end: Tensor, times: Tensor, observation_deviation: float
    ) -> None:
        self.process = process
        self.auxiliary = auxiliary
        self.end = end
        self.dim = process.dim + 1
        self.noise_type: NoiseType = process.noise_type
        self.noise_dim = noise_dim(process) + (1 if process.noise_type == "diagonal" else 0)
        self.times = times[:-1].to(end)
        lengths = times.diff()
        self.lengths: list[float] = lengths.tolist()
        left = auxiliary.transitions(times[-1] - times[:-1])
        spread = left.covariance + observation_deviation**2 * torch.eye(process.dim, dtype=torch.float64)
        pull = torch.linalg.solve(spread, left.matrix).mT
        self.curvature = (pull @ left.matrix).to(end.device)
        self.pull, self.matrix, self.shift = (v.to(end.device) for v in (pull, left.matrix, left.shift))
        self.noise_covariance = noise_covariance(auxiliary.diffusion(times[0], end[:1]), "additive")
        narrowing = torch.einsum("ij,kij->k", auxiliary.noise_covariance, pull @ left.matrix) / process.dim
        self.deviations: list[float] = (lengths * (1 - lengths * narrowing).clamp_min(0.0)).sqrt().tolist()

    def drift_diffusion(self, clock: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        k, x = round(float(clock)), state[:, :-1]
        t, h = self.times[k], self.lengths[k]
        both = getattr(self.process, "drift_diffusion", None)
        f, g = both(t, x) if both is not None else (self.process.drift(t, x), self.process.diffusion(t, x))
        # A first look at the process passes its first rows alone.
        gap = self.end[: len(x)] - matrix_product(self.matrix[k], x.to(torch.float64)) - self.shift[k]
        r = matrix_product(self.pull[k], gap)
        a = noise_covariance(g, self.noise_type)
        excess = (a - self.noise_covariance).to(torch.float64)
        traced = (excess * self.curvature[k]).sum((-2, -1)) - (r * matrix_product(excess, r)).sum(1)
        change = ((f - self.auxiliary.drift(t, x)).to(torch.float64) * r).sum(1) - 0.5 * traced
        moved = f + matrix_product(a, r.to(x))
        return torch.cat([moved, change[:, None].to(x)], dim=1) * h, _with_row_of_zeros(
            g, self.noise_type
        ) * self.deviations[k]

    def drift(self, clock: Tensor, state: Tensor) -> Tensor:
        return self.drift_diffusion(clock, state)[0]

    def diffusion(self, clock: Tensor, state: Tensor) -> Tensor:
        return self.drift_diffusion(clock, state)[1]


def _with_row_of_zeros(g: Tensor, noise_type: NoiseType) -> Tensor:
    """Return the diffusion with one more feature that no noise reaches."""
    if noise_type == "diagonal":
        return torch.cat([g, g.new_zeros(len(g), 1)], dim=1)
    return torch.cat([g, g.new_zeros(*g.shape[:-2], 1, g.shape[-1])], dim=-2)


def _door(
    process: Process, x0: Tensor, x1: ArrayLike, times: ArrayLike, observation_deviation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return start states ``(n, d)``, times ``(T,)`` and end points ``(n, d)``, or say what does not fit."""
    start = as_tensor(x0, "x0").detach()
    start = start if start.is_floating_point() else start.to(torch.float32)
    if start.ndim != 2 or 0 in start.shape:
        raise ValueError(f"x0 must have shape (n, d), one row for each path; got {tuple(start.shape)}")
    grid = as_tensor(times, "times").detach().to("cpu", torch.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"times must have shape (T,) with T at least 2, shared by all paths; got {tuple(grid.shape)}")
    for values, name in ((start, "x0"), (grid, "times")):
        check_finite(values, name)
    if not bool((grid.diff() > 0).all()):
        k = int(torch.nonzero(grid.diff() <= 0)[0])
        raise ValueError(f"times must increase strictly; got {grid[k + 1]:g} after {grid[k]:g} at position {k + 1}")
    check_process(process, grid[0].to(start), start)
    refuse_jumps(process, "a guided bridge")
    if process.noise_type not in ("additive", "diagonal", "general"):
        raise ValueError(
            f"a guided bridge needs additive, diagonal or general noise that reaches every feature; got "
            f"{process.noise_type} noise"
        )
    if process.calculus != "ito" and process.noise_type != "additive":
        raise ValueError(
            f"a guided bridge needs Ito form; got {process.calculus} calculus: write the drift in Ito form"
        )
    end = as_tensor(x1, "x1").detach().to(start)
    if tuple(end.shape) not in ((start.shape[1],), tuple(start.shape)):
        raise ValueError(
            f"x1 must have shape ({start.shape[1]},) or {tuple(start.shape)}, one end point or one for each path; got "
            f"{tuple(end.shape)}"
        )
    check_finite(end, "x1")
    if not (math.isfinite(observation_deviation) and observation_deviation >= 0):
        raise ValueError(f"observation_deviation must be a finite number of at least 0; got {observation_deviation}")
    return start, grid, end.expand_as(start)


def _auxiliary(
    process: Process, auxiliary: LinearProcess | None, end: Tensor, grid: Tensor, observation_deviation: float
) -> LinearProcess:
    """Return the process that guides, after a look at whether its noise is that of the process at the end."""
    g = process.diffusion(grid[-1].to(end), end)
    a = noise_covariance(g, process.noise_type).to("cpu", torch.float64)
    a = a if a.ndim == 3 else a[None]
    if auxiliary is None:
        first = torch.diag(g[0]) if process.noise_type == "diagonal" else (g if g.ndim == 2 else g[0])
        auxiliary = LinearProcess(torch.zeros(process.dim, process.dim), torch.zeros(process.dim), first)
        advice = "give x1 of one bridge at a time, or an observation_deviation"
    else:
        advice = "give it the volatility of the process there, or an observation_deviation"
    if auxiliary.dim != process.dim:
        raise ValueError(f"the auxiliary process has {auxiliary.dim} features, but the process has {process.dim}")
    for covariance, whose in ((a, "the process"), (auxiliary.noise_covariance[None], "the auxiliary process")):
        if not _invertible(covariance):
            raise ValueError(
                f"the diffusion of {whose} at the end point leaves a direction without noise; a guided bridge needs "
                "an invertible g g^T"
            )
    gap = float((a - auxiliary.noise_covariance).abs().max())
    # In single precision the coefficient itself is known to 1e-7 only.
    if observation_deviation == 0 and gap > 1e-5 * float(a.abs().max()):
        raise ValueError(
            "a bridge to an exact end point needs an auxiliary process with the process's own g g^T there, but they "
            f"differ by up to {gap:.3g}: {advice}"
        )
    return auxiliary


def _invertible(covariance: Tensor) -> bool:
    """Return whether all covariances ``(B, d, d)`` have pivots above rounding."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    variances = covariance.diagonal(dim1=-2, dim2=-1)
    return not bool(failed.any()) and bool((factor.diagonal(dim1=-2, dim2=-1).square() > 1e-12 * variances).all())


def _shrinking_grid(
    process: Process, times: Tensor, step: float | None, substeps: int | None
) -> tuple[Tensor, list[int]]:
    """Return the times of all steps ``(N + 1,)`` and which of them are output times."""
    if step is not None and substeps is not None:
        raise ValueError("give step or substeps, not both")
    if step is None and substeps is None:
        step = getattr(process, "time_step", None)
        if step is None:
            raise ValueError(
                "a guided bridge needs a step: give step= (the longest) or substeps= (steps per output interval); "
                f"{type(process).__name__} names no time_step of its own"
            )
        # The guiding term has the time scale of the bridge, whatever that of the process.
        step = min(float(step), 0.02 * float(times[-1] - times[0]))
    if step is not None and not step > 0:
        raise ValueError(f"step must be positive; got {step}")
    if substeps is not None and (substeps != int(substeps) or substeps < 1):
        raise ValueError(f"substeps must be a whole number of at least 1; got {substeps}")
    span = times[-1] - times[0]
    clock = span * (1 - (1 - (times - times[0]) / span).clamp_min(0.0).sqrt())
    # Time runs at most twice as fast as the clock.
    layout = StepGrid(clock, step=None if step is None else step / 2, substeps=substeps)
    pieces, kept = [times[:1]], [0]
    for k, interval in enumerate(layout):
        inner = times[0] + interval.times[1:-1] * (2 - interval.times[1:-1] / span)
        pieces += [inner, times[k + 1 : k + 2]]
        kept.append(kept[-1] + len(interval))
    return torch.cat(pieces), kept
