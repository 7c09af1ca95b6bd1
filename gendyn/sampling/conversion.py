r"""Between the Ito and the Stratonovich form of one process: on request, never silently.

.. math:: f_{\text{Strat}} = f_{\text{Ito}} - \tfrac12 \sum_j (D g_{\cdot j})\, g_{\cdot j}

with the sum over Brownian motions: for diagonal noise :math:`\tfrac12 g_i\, \partial g_i/\partial x_i`, for scalar
noise :math:`\tfrac12 (Dg) g`, for additive noise nothing. Derivatives come from the process's ``diffusion_dx`` where
it has one, else from automatic differentiation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gendyn.sampling.process import Calculus, NoiseType, Process, jumps_of, noise_dim
from gendyn.sampling.solvers.solver import diffusion_derivative

__all__ = ["Converted", "check_diagonal", "to_ito", "to_stratonovich"]


class Converted(nn.Module):
    """A process written in the other calculus; its paths have the same law, and jumps stay as they are.

    Parameters
    ----------
    process
        The process as it was.
    calculus
        The calculus of the new form.
    """

    def __init__(self, process: Process, calculus: Calculus) -> None:
        super().__init__()
        self.process = process
        self.calculus: Calculus = calculus
        self.dim = process.dim
        self.noise_type: NoiseType = process.noise_type
        self.noise_dim = noise_dim(process)
        self.time_step = getattr(process, "time_step", None)
        self.jumps = jumps_of(process)
        self.needs_diagonal = process.noise_type == "diagonal"
        self._sign = -0.5 if calculus == "stratonovich" else 0.5

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift of the new form, ``(B, d)``."""
        return self.process.drift(t, x) + self._sign * _correction(self.process, t, x)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion, which is the same in both forms."""
        return self.process.diffusion(t, x)


def to_stratonovich(process: Process) -> Process:
    """Return the Stratonovich form of a process; itself, if it has no noise, additive noise, or that form already.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: x, lambda t, x: 2.0 * x, dim=1)
    >>> to_stratonovich(geometric).drift(torch.tensor(0.0), torch.ones(1, 1)).item()
    -1.0
    """
    return _converted(process, "stratonovich")


def to_ito(process: Process) -> Process:
    """Return the Ito form of a process; itself, if it has no noise, additive noise, or that form already.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> geometric = SDE(lambda t, x: x, lambda t, x: 2.0 * x, dim=1, calculus="stratonovich")
    >>> to_ito(geometric).drift(torch.tensor(0.0), torch.ones(1, 1)).item()
    3.0
    """
    return _converted(process, "ito")


def check_diagonal(process: Process, x: Tensor, t: float = 0.0, *, tolerance: float = 1e-6) -> bool:
    """Return whether each entry of a diagonal diffusion depends on its own coordinate alone.

    Milstein's method and SRI2 have their order only then; a network of all coordinates is not diagonal in this sense.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> check_diagonal(SDE(lambda t, x: x, lambda t, x: x.sum(1, keepdim=True).expand_as(x), dim=2), torch.ones(3, 2))
    False
    """
    if process.noise_type != "diagonal":
        raise ValueError(f"check_diagonal is for diagonal noise; this process has {process.noise_type} noise")
    time = torch.as_tensor(t, dtype=x.dtype, device=x.device)

    def one(row: Tensor) -> Tensor:
        return process.diffusion(time, row[None])[0]

    jacobian = torch.func.vmap(torch.func.jacrev(one))(x)
    off = jacobian - torch.diag_embed(jacobian.diagonal(dim1=1, dim2=2))
    return bool(off.abs().max() < tolerance)


def _converted(process: Process, calculus: Calculus) -> Process:
    if process.noise_type in ("none", "additive") or process.calculus == calculus:
        return process
    return Converted(process, calculus)


def _correction(process: Process, t: Tensor, x: Tensor) -> Tensor:
    """Return the sum over Brownian motions of (D g) g, ``(B, d)``."""
    if process.noise_type in ("diagonal", "scalar"):
        return diffusion_derivative(process, t, x, process.diffusion(t, x))
    g = process.diffusion(t, x)
    total = torch.zeros_like(x)
    for j in range(g.shape[-1]):

        def column(z: Tensor, j: int = j) -> Any:
            return process.diffusion(t, z)[:, :, j]

        # States and diffusions that were expanded over the batch share memory, which forward differentiation refuses.
        total = total + torch.func.jvp(column, (x.contiguous(),), (g[:, :, j].contiguous(),))[1]
    return total
