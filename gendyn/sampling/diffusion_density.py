r"""The density of a diffusion at a point, from paths that run back from it.

For :math:`dX = f(t, X)\,dt + g(t)\,dW` with :math:`X_{t_1} \sim p_1` and noise that does not depend on the position,

.. math:: p_T(x) = E\Bigl[\exp\Bigl(-\int_{t_1}^{t_T} \operatorname{div} f(t, Y_t)\,dt\Bigr)\, p_1(Y_{t_1})
    \,\Big|\, Y_{t_T} = x\Bigr], \qquad dY = f\,dt + g\,dW \text{ run backward},

the formula of Feynman and Kac for the Fokker-Planck equation. The logarithm of a mean is above the mean of logarithms,
so that the latter bounds the log density from below: minus its mean over data bounds their cross-entropy from above
(Albergo, Boffi and Vanden-Eijnden 2023; Huang, Lim and Courville 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.flow_density import Divergence, Times, WithDensity, probe_vectors
from gendyn.sampling.process import Calculus, NoiseType, Process, check_process, noise_dim, refuse_jumps
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import Solver

__all__ = ["DiffusionDensity", "diffusion_log_prob"]


class DiffusionDensity(NamedTuple):
    """Log densities ``(B,)`` from paths that run back."""

    bound: Tensor
    """Mean of the logarithms: below the log density on average, whatever the number of paths."""
    estimate: Tensor
    """Logarithm of the mean: consistent, and also too low with few paths."""


def diffusion_log_prob(
    process: Process,
    x: ArrayLike,
    times: Times,
    base_log_prob: Callable[[Tensor], Tensor],
    *,
    paths: int = 64,
    divergence: Divergence = "exact",
    probes: int = 1,
    seed: Seed = 0,
    solver: str | Solver = "euler_maruyama",
    step: float | None = None,
) -> DiffusionDensity:
    """Return a lower bound and an estimate of the log density of a diffusion that starts from a known law.

    Parameters
    ----------
    process
        Additive noise, or none: the flow's density is then exact, up to its steps.
    x
        Points ``(B, d)`` at the last time.
    times
        ``(T,)``, rising: the first is that of the base.
    base_log_prob
        Log density of the base law, ``(B, d) -> (B,)``.
    paths
        How many run back from each point.
    divergence, probes
        As for :func:`gendyn.sampling.log_density_change`.
    seed
        Of the paths, and of the probes.
    solver, step
        As for :func:`gendyn.sampling.sample`; the step is by default the process's own ``time_step``.

    Raises
    ------
    ValueError
        If the noise depends on the position, there is no step, or an option or a shape does not fit.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> normal = torch.distributions.Normal(0.0, 1.0)
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.eye(1), dim=1, noise_type="additive", noise_dim=1)
    >>> found = diffusion_log_prob(
    ...     brownian, torch.zeros(1, 1), [0.0, 3.0], lambda z: normal.log_prob(z).sum(1), paths=4000, step=0.5
    ... )
    >>> exact = torch.distributions.Normal(0.0, 2.0).log_prob(torch.zeros(1))
    >>> bool((found.estimate - exact).abs() < 0.05), bool(found.bound < exact)
    (True, True)
    """
    if paths != int(paths) or paths < 1:
        raise ValueError(f"paths must be a whole number of at least 1; got {paths}")
    x = as_tensor(x, "x")
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"x must hold real points (B, d); got shape {tuple(x.shape)} of {x.dtype}")
    grid = as_tensor(times, "times").to(torch.float64)
    if grid.ndim != 1 or len(grid) < 2 or bool((grid.diff() <= 0).any()):
        raise ValueError("times must have shape (T,) with at least two rising times")
    check_process(process, grid[0].to(x), x)
    refuse_jumps(process, "a density from paths that run back")
    if process.noise_type not in ("additive", "none"):
        raise ValueError(
            f"the formula holds for noise that does not depend on the position; {type(process).__name__} has "
            f"{process.noise_type} noise: write it as additive, with a diffusion (d, m) of time alone"
        )
    step = getattr(process, "time_step", None) if step is None else step
    if step is None:
        raise ValueError(f"{type(process).__name__} names no time_step of its own; give step=")
    root = as_seed(seed)
    start = x.repeat_interleave(int(paths), dim=0)
    vectors = probe_vectors(divergence, start, probes, derive_seed(root, "probes"))
    state = torch.cat([start, start.new_zeros(len(start), 1)], dim=1)
    with torch.no_grad():
        run = sample(
            _RunBack(process, vectors),
            state,
            -grid.flip(0),
            solver="heun" if process.noise_type == "none" else solver,
            step=step,
            seed=root,
            save="final",
        ).values[:, -1]
        base = base_log_prob(run[:, :-1])
    if base.shape != run[:, -1].shape:
        raise ValueError(f"base_log_prob must return shape {tuple(run[:, -1].shape)}; got {tuple(base.shape)}")
    logs = (base + run[:, -1]).reshape(len(x), int(paths))
    return DiffusionDensity(logs.mean(1), torch.logsumexp(logs, 1) - math.log(paths))


class _RunBack:
    r"""The process over minus time, with :math:`-\int \operatorname{div} f` in a last entry that has no noise."""

    calculus: Calculus = "ito"

    def __init__(self, process: Process, probes: Tensor | None) -> None:
        self.process = process
        self.forward = WithDensity(process, probes)
        self.dim = process.dim + 1
        self.noise_type: NoiseType = process.noise_type
        self.noise_dim = noise_dim(process)

    def drift(self, t: Tensor, state: Tensor) -> Tensor:
        flow = self.forward.drift(-t, state)
        return torch.cat([-flow[:, :-1], flow[:, -1:]], dim=1)

    def diffusion(self, t: Tensor, state: Tensor) -> Tensor:
        if self.noise_type == "none":
            return torch.zeros_like(state)
        g = self.process.diffusion(-t, state[:, :-1])
        return torch.cat([g, torch.zeros_like(g[..., :1, :])], dim=-2)
