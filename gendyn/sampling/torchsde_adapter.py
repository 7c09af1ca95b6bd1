"""To and from torchsde: its processes for our sampler, ours for its solvers.

Nothing else in the package depends on how torchsde spells things. A run through torchsde draws its Brownian path
from an explicit interval keyed by our seed: left to itself, torchsde takes a seed from NumPy's global state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torchsde
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.randomness import Seed, as_seed
from gendyn.sampling.adjoint import parameters_of
from gendyn.sampling.process import Calculus, NoiseType, Process, is_diagonal, noise_dim, refuse_jumps

__all__ = ["as_torchsde", "from_torchsde", "sample_with_torchsde"]


class _AsTorchsde(nn.Module):
    """A process as torchsde wants it: ``f``, ``g``, ``noise_type``, ``sde_type``."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.noise_type = process.noise_type
        self.sde_type = process.calculus

    def f(self, t: Tensor, y: Tensor) -> Tensor:
        """Return the drift."""
        return self.process.drift(t, y)

    def g(self, t: Tensor, y: Tensor) -> Tensor:
        """Return the diffusion, with the axes that torchsde expects."""
        g = self.process.diffusion(t, y)
        if self.noise_type == "scalar":
            return g[:, :, None]
        return g.expand(len(y), *g.shape) if self.noise_type == "additive" and g.ndim == 2 else g


class _FromTorchsde(nn.Module):
    """A process of torchsde's as ours."""

    def __init__(self, sde: Any, dim: int, columns: int) -> None:
        super().__init__()
        self.sde = sde
        self.dim = dim
        self.noise_type = cast(NoiseType, sde.noise_type)
        self.calculus = cast(Calculus, sde.sde_type)
        self.noise_dim = columns

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)``."""
        f: Tensor = self.sde.f(t, x)
        return f

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion."""
        g: Tensor = self.sde.g(t, x)
        return g[:, :, 0] if self.noise_type == "scalar" else g


def as_torchsde(process: Process) -> nn.Module:
    """Return a process in the form that ``torchsde.sdeint`` takes.

    Raises
    ------
    ValueError
        If the process has no noise, or jumps.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> as_torchsde(SDE(lambda t, x: -x, lambda t, x: x, dim=1)).sde_type
    'ito'
    """
    if process.noise_type == "none":
        raise ValueError("torchsde is for processes with noise; run this one with gendyn.sample")
    refuse_jumps(process, "torchsde")
    return _AsTorchsde(process)


def from_torchsde(sde: Any, dim: int) -> Process:
    """Return a process of torchsde's (with ``f``, ``g``, ``noise_type``, ``sde_type``) in our form.

    Parameters
    ----------
    sde
        The object of torchsde's.
    dim
        Number of features ``d``.

    Raises
    ------
    TypeError
        If members are missing.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> process = from_torchsde(as_torchsde(SDE(lambda t, x: -x, lambda t, x: x, dim=3)), dim=3)
    >>> process.noise_type, process.dim
    ('diagonal', 3)
    """
    missing = [name for name in ("f", "g", "noise_type", "sde_type") if not hasattr(sde, name)]
    if missing:
        raise TypeError(f"a process of torchsde's needs {', '.join(missing)}; {type(sde).__name__} does not have it")
    # Of the type of its parameters, if it has any.
    like = next(iter(sde.parameters()), torch.zeros(())) if isinstance(sde, nn.Module) else torch.zeros(())
    with torch.no_grad():
        columns = int(sde.g(like.new_zeros(()), like.new_zeros(1, dim)).shape[-1])
    return _FromTorchsde(sde, dim, columns)


def sample_with_torchsde(
    process: Process,
    x0: Tensor,
    times: Tensor | Sequence[float],
    *,
    method: str | None = None,
    step: float,
    seed: Seed = 0,
    levy_area: str = "space-time",
    gradient: Literal["none", "backprop", "adjoint"] = "none",
    parameters: Sequence[Tensor] | None = None,
) -> Paths:
    """Simulate by torchsde: an independent implementation, its Levy-area approximations, and its adjoint.

    Parameters
    ----------
    process, x0, times, step, seed
        As for :func:`gendyn.sample`; the path is another one than ours for the same seed.
    method
        A method of torchsde's; by default its own choice.
    levy_area
        ``"none"``, ``"space-time"``, ``"davie"`` or ``"foster"``; some of its methods need one.
    gradient
        ``"none"``; ``"backprop"`` through torchsde's steps; or ``"adjoint"``: an equation for the gradient is solved
        back along the same Brownian path, of which no graph is kept. Its error shrinks with the step.
    parameters
        Tensors beside ``x0`` that an adjoint gradient is wanted of, none computed from another; by default
        ``process.parameters()``.

    Raises
    ------
    ValueError
        If the process has no noise, or times, step or gradient do not fit. What torchsde refuses, it says in its own
        words.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> sample_with_torchsde(brownian, torch.zeros(5, 1), [0.0, 1.0], step=0.5).values.shape
    torch.Size([5, 2, 1])
    """
    grid = torch.as_tensor(times, dtype=x0.dtype, device=x0.device)
    if grid.ndim != 1 or len(grid) < 2 or not bool((grid.diff() > 0).all()):
        raise ValueError(
            "torchsde needs times shared by all paths, two or more that increase strictly; got times of shape "
            f"{tuple(grid.shape)}, from {float(grid.reshape(-1)[0]):g} to {float(grid.reshape(-1)[-1]):g}"
        )
    if not step > 0:
        raise ValueError(f"step must be positive; got {step}")
    if gradient not in ("none", "backprop", "adjoint"):
        raise ValueError(f"gradient must be 'none', 'backprop' or 'adjoint'; got {gradient!r}")
    wanted = parameters_of(process, parameters)
    if gradient == "adjoint":
        if not wanted and not x0.requires_grad:
            raise ValueError(
                "gradient='adjoint' needs something that a gradient is wanted of: x0, or parameters of the process "
                "that require one; give them as parameters=, or use gradient='none'"
            )
        if process.noise_type == "diagonal" and not is_diagonal(process, grid[0], x0):
            raise ValueError(
                "an entry of the diffusion, which is declared diagonal, changes with another coordinate: the adjoint "
                "would tend to a wrong gradient; declare noise_type 'general', or use gradient='backprop'"
            )
    # Twice the step beyond the end: rounding makes torchsde ask for a little more than the last time.
    path = torchsde.BrownianInterval(
        t0=float(grid[0]),
        t1=float(grid[-1]) + 2 * step,
        size=(len(x0), noise_dim(process)),
        dtype=x0.dtype,
        device=x0.device,
        dt=step,
        entropy=as_seed(seed) % 2**32,
        levy_area_approximation=levy_area,
    )
    if gradient == "adjoint":
        values = torchsde.sdeint_adjoint(
            as_torchsde(process), x0, grid, bm=path, method=method, dt=step, adjoint_params=wanted
        )
    else:
        with torch.no_grad() if gradient == "none" else contextlib.nullcontext():
            values = torchsde.sdeint(as_torchsde(process), x0, grid, bm=path, method=method, dt=step)
    return Paths(
        grid, values.transpose(0, 1).contiguous(), info={"solver": f"torchsde {method or 'default'}", "step": step}
    )
