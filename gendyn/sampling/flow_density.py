r"""Densities along flows: the change of variables.

Along an ordinary differential equation :math:`\dot x = f(t, x)` the log density of a moving point obeys (Chen et al.
2018)

.. math:: \frac{d}{dt} \log p_t(x_t) = -\operatorname{div} f(t, x_t), \qquad
    \operatorname{div} f = \sum_i \partial_i f_i = E\bigl[v^\top (\partial f)\, v\bigr]

for any random :math:`v` with :math:`E[v v^\top] = I` (Hutchinson 1989).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.sampling.door import Gradient, graph_mode
from gendyn.sampling.process import Calculus, NoiseType, Process, check_process, refuse_jumps
from gendyn.sampling.sample import sample
from gendyn.sampling.solvers import DormandPrince, Solver
from gendyn.sampling.tiles import Tiles

__all__ = ["Divergence", "WithDensity", "flow_log_prob", "log_density_change", "probe_vectors"]

Divergence = Literal["exact", "hutchinson", "hutchinson-gaussian"]
Times = Tensor | Sequence[float] | NDArray[np.floating[Any]]


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
        probe, a vector of random signs; its standard deviation falls as the square root of their number. With the
        symmetric part S of the Jacobian the variance of one is :math:`2(\lVert S\rVert_F^2 - \sum_i S_{ii}^2)`.
        ``"hutchinson-gaussian"``: Gaussian vectors, whose variance :math:`2\lVert S\rVert_F^2` is never smaller.
    probes
        Number of vectors :math:`v` for each point, fixed along its trajectory (Grathwohl et al. 2019).
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
    vectors = probe_vectors(divergence, x, probes, seed)
    state = torch.cat([x, x.new_zeros(len(x), 1)], dim=1)
    moved = sample(
        WithDensity(process, vectors), state, grid, solver=solver, step=step, gradient=gradient, save="final"
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
    >>> import math
    >>> from gendyn.sampling import ODE
    >>> normal = torch.distributions.Normal(0.0, 1.0)
    >>> spread = ODE(lambda t, x: x, dim=1)  # by time 1 the standard deviation is e
    >>> x = torch.tensor([[2.0]], dtype=torch.float64)
    >>> out = flow_log_prob(spread, x, [0.0, 1.0], lambda z: normal.log_prob(z).sum(1), step=0.01)
    >>> abs(out.item() - torch.distributions.Normal(0.0, math.e).log_prob(x).item()) < 1e-6
    True
    """
    grid = as_tensor(times, "times").to(torch.float64).flip(-1)
    start, delta = log_density_change(
        process, x, grid, divergence=divergence, probes=probes, seed=seed, solver=solver, step=step, gradient=gradient
    )
    with graph_mode(gradient):
        base = base_log_prob(start)
        if base.shape != delta.shape:
            raise ValueError(f"base_log_prob must return shape {tuple(delta.shape)}; got {tuple(base.shape)}")
        return base - delta


class WithDensity:
    r"""The flow of :math:`(x, \Delta)` with :math:`\dot\Delta = -\operatorname{div} f`."""

    noise_type: NoiseType = "none"
    calculus: Calculus = "ito"

    def __init__(self, process: Process, probes: Tensor | None) -> None:
        self.process = process
        self.probes = probes
        self.dim = process.dim + 1

    def drift(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the drift and minus its divergence ``(B, d + 1)``."""
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            x = state[:, :-1]
            x = x if keep and x.requires_grad else x.detach().requires_grad_()
            f = self.process.drift(t, x)
            divergence = self._divergence(f, x, keep)
        flow = torch.cat([f, -divergence], dim=1)
        return flow if keep else flow.detach()

    def diffusion(self, t: Tensor, state: Tensor) -> Tensor:
        """Return zeros: a density moves along a flow."""
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


def probe_vectors(divergence: Divergence, x: Tensor, probes: int, seed: Seed) -> Tensor | None:
    """Return the probes ``(probes, B, d)`` of a divergence; those of a row do not depend on how many rows there are.

    Raises
    ------
    ValueError
        If there is no such divergence, or the number of probes is not one.
    """
    if divergence not in get_args(Divergence):
        raise ValueError(f"divergence must be one of {get_args(Divergence)}; got {divergence!r}")
    if probes != int(probes) or probes < 1:
        raise ValueError(f"probes must be a whole number of at least 1; got {probes}")
    if divergence == "exact":
        return None
    key = derive_seed(as_seed(seed), "hutchinson")
    normals = Tiles(key, "probes", len(x), x.shape[1], 0, x.detach()).draw((0,), int(probes))
    return (normals if divergence == "hutchinson-gaussian" else torch.where(normals < 0, -1.0, 1.0)).to(x)
