r"""Densities of a process on a grid in one or two dimensions: the Fokker-Planck equation by finite volumes.

.. math:: \partial_t p = -\sum_i \partial_i J_i, \qquad J_i = f_i\,p - \tfrac12 \partial_i (a_{ii}\, p),
    \qquad a = g g^\top \text{ diagonal}.

Between two cells at distance h the flux is that of a stationary problem with constant coefficients
:math:`D = \tfrac12 a_{ii}` and :math:`v = f_i - \partial_i D` (Scharfetter and Gummel 1969),

.. math:: J = \frac{D}{h}\Bigl[B\bigl(-\tfrac{vh}{D}\bigr)\,p_\text{left}
    - B\bigl(\tfrac{vh}{D}\bigr)\,p_\text{right}\Bigr], \qquad B(x) = \frac{x}{e^x - 1},

which is of second order where noise smooths and upwind where it does not. Nothing flows out of the grid: the mass
stays, to rounding. Time is stepped by the trapezoidal rule. A check on what is learned or sampled, not a way to many
dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import RegularGridInterpolator
from scipy.sparse.linalg import splu
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.sampling.flow_density import Times
from gendyn.sampling.process import Process, check_process, refuse_jumps

__all__ = ["GridDensity", "fokker_planck"]

_CUT = 1e-4
"""Mass in the cells at the edge of the grid, of the whole, beyond which the grid is too small."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GridDensity:
    """Densities on the centres of a grid.

    Attributes
    ----------
    times
        ``(T,)``.
    axes
        Centres of the cells along each dimension.
    values
        ``(T, n)`` or ``(T, n, m)``.
    """

    times: Tensor
    axes: tuple[Tensor, ...]
    values: Tensor

    @property
    def mass(self) -> Tensor:
        """The integral of the density at each time ``(T,)``."""
        volume = float(np.prod([float(axis[1] - axis[0]) for axis in self.axes]))
        return self.values.flatten(1).sum(1) * volume

    def log_prob(self, x: ArrayLike, k: int = -1) -> Tensor:
        """Return the log density at points ``(B, d)`` and the k-th time, straight between the centres."""
        points = as_tensor(x, "x").to(torch.float64)
        density = RegularGridInterpolator(
            [axis.numpy() for axis in self.axes], self.values[k].numpy(), bounds_error=False, fill_value=0.0
        )
        return torch.from_numpy(density(points.numpy())).clamp_min(0).log()


def fokker_planck(
    process: Process,
    times: Times,
    axes: Sequence[ArrayLike],
    base_log_prob: Callable[[Tensor], Tensor],
    *,
    step: float | None = None,
) -> GridDensity:
    """Return the density of a process on a grid at the asked times.

    Parameters
    ----------
    process
        In Ito form, of one or two dimensions, with noise of each dimension's own.
    times
        ``(T,)``, rising; at the first the density is the base's.
    axes
        Evenly spaced centres of the cells along each dimension, at least three.
    base_log_prob
        Log density ``(B, d) -> (B,)`` at the first time; on the grid it is made to have mass 1.
    step
        Time step at most; by default the process's own ``time_step``.

    Returns
    -------
    GridDensity
        Float64, on the CPU.

    Raises
    ------
    ValueError
        If the process has other dimensions or noise than that, axes or times are not as described, or there is no
        step.

    Warns
    -----
    UserWarning
        If mass has gathered at the edge of the grid.

    Examples
    --------
    >>> from gendyn.sampling import SDE
    >>> normal = torch.distributions.Normal(0.0, 1.0)
    >>> brownian = SDE(lambda t, x: 0 * x, lambda t, x: torch.ones_like(x), dim=1)
    >>> grid = torch.linspace(-12.0, 12.0, 241)
    >>> found = fokker_planck(brownian, [0.0, 3.0], [grid], lambda z: normal.log_prob(z).sum(1), step=0.05)
    >>> round(float(found.log_prob([[0.0]])[0] - torch.distributions.Normal(0.0, 2.0).log_prob(torch.zeros(()))), 3)
    0.0
    """
    centres = [_checked_axis(axis, k) for k, axis in enumerate(axes)]
    grid = as_tensor(times, "times").to(torch.float64)
    if grid.ndim != 1 or len(grid) < 1 or bool((grid.diff() <= 0).any()):
        raise ValueError("times must have shape (T,) and rise")
    if process.dim != len(centres) or process.dim > 2:
        raise ValueError(
            f"one axis for each of one or two dimensions is needed; got {len(centres)} axes and a process of "
            f"{process.dim} dimensions"
        )
    step = getattr(process, "time_step", None) if step is None else step
    if step is None or not step > 0:
        raise ValueError(f"a positive step is needed; got {step}")
    volumes = _Volumes(process, centres)
    check_process(process, grid[0], volumes.points)
    refuse_jumps(process, "a density on a grid")
    if process.calculus != "ito" and process.noise_type not in ("additive", "none"):
        raise ValueError("the process is in Stratonovich form; write it in Ito form with gendyn.sampling.to_ito")
    with torch.no_grad():
        p = base_log_prob(volumes.points).double().exp().numpy()
        p = p / (p.sum() * volumes.volume)
        saved = [p]
        for begin, end in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
            count = max(1, int(np.ceil((end - begin) / step - 1e-9)))
            h = (end - begin) / count
            for k in range(count):
                p = volumes.advance(p, begin + (k + 0.5) * h, h)
            saved.append(p)
    edge = float(np.abs(saved[-1][volumes.edge]).sum() * volumes.volume)
    if edge > _CUT:
        warnings.warn(
            f"{edge:.2g} of the mass is in the cells at the edge of the grid, which holds it back; widen the axes",
            stacklevel=2,
        )
    values = torch.from_numpy(np.stack(saved)).reshape(len(grid), *(len(c) for c in centres))
    return GridDensity(grid, tuple(torch.from_numpy(c) for c in centres), values)


class _Volumes:
    """The cells of a grid, the faces between them, and a step of the density on it."""

    def __init__(self, process: Process, centres: list[Array]) -> None:
        self.process = process
        self.widths = [float(c[1] - c[0]) for c in centres]
        self.volume = float(np.prod(self.widths))
        shape = tuple(len(c) for c in centres)
        mesh = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
        self.points = torch.from_numpy(mesh.reshape(-1, len(shape)))
        numbers = np.arange(int(np.prod(shape))).reshape(shape)
        self.left = [np.delete(numbers, -1, axis=k).ravel() for k in range(len(shape))]
        self.right = [np.delete(numbers, 0, axis=k).ravel() for k in range(len(shape))]
        self.faces = [0.5 * (self.points[a] + self.points[b]) for a, b in zip(self.left, self.right, strict=True)]
        inner = numbers[tuple(slice(1, -1) for _ in shape)].ravel()
        self.edge = np.setdiff1d(numbers, inner)

    def advance(self, p: Array, t: float, h: float) -> Array:
        """Return the density after a trapezoidal step with the coefficients in its middle."""
        rates = self._rates(torch.tensor(t, dtype=torch.float64))
        unit: Any = sparse.identity(len(p), format="csc")
        moved: Array = splu((unit - 0.5 * h * rates).tocsc()).solve(p + 0.5 * h * (rates @ p))
        return moved

    def _rates(self, t: Tensor) -> Any:
        """Return the matrix that takes densities to their rates of change."""
        spread = self._spread(t)
        rows, columns, entries = [], [], []
        for k, width in enumerate(self.widths):
            left, right = self.left[k], self.right[k]
            d = 0.5 * (spread[left, k] + spread[right, k])
            v = self.process.drift(t, self.faces[k])[:, k].numpy() - (spread[right, k] - spread[left, k]) / width
            # A little noise stands in for none, where the flux is upwind.
            d = np.maximum(d, 1e-12 * (1 + np.abs(v) * width))
            ratio = v * width / d
            out, back = d / width**2 * _bernoulli(-ratio), d / width**2 * _bernoulli(ratio)
            rows += [left, left, right, right]
            columns += [left, right, left, right]
            entries += [-out, back, out, -back]
        n = len(self.points)
        place = (np.concatenate(rows), np.concatenate(columns))
        return sparse.csc_matrix((np.concatenate(entries), place), shape=(n, n))

    def _spread(self, t: Tensor) -> Array:
        """Return half the squared diffusion of each dimension at the centres ``(n, d)``."""
        kind, n = self.process.noise_type, len(self.points)
        if kind == "none":
            return np.zeros(tuple(self.points.shape))
        g = self.process.diffusion(t, self.points).double()
        if kind == "diagonal" or (kind == "scalar" and self.process.dim == 1):
            spread: Array = 0.5 * g.square().expand(n, self.process.dim).numpy()
            return spread
        a = g @ g.mT if kind != "scalar" else g[:, :, None] * g[:, None, :]
        a = a.expand(n, *a.shape[-2:])
        diagonal = a.diagonal(dim1=-2, dim2=-1)
        if bool(((a - torch.diag_embed(diagonal)).abs() > 1e-9 * diagonal.abs().max()).any()):
            raise ValueError("the noise of the two dimensions must be independent; rotate or scale the coordinates")
        return 0.5 * diagonal.numpy()


def _bernoulli(x: Array) -> Array:
    """Return x / (exp(x) - 1) without overflow."""
    small = np.abs(x) < 1e-6
    safe = np.where(small, 1.0, np.clip(x, -1e15, 500.0))
    return np.where(small, 1 - x / 2, np.where(x > 500, 0.0, safe / np.expm1(safe)))


def _checked_axis(axis: ArrayLike, k: int) -> Array:
    centres = as_tensor(axis, "axes").double().numpy()
    gaps = np.diff(centres) if centres.ndim == 1 else np.zeros(1)
    if centres.ndim != 1 or len(centres) < 3 or not gaps.min() > 0 or np.ptp(gaps) > 1e-4 * gaps.mean():
        raise ValueError(f"axis {k} must hold at least three evenly spaced, rising centres of cells")
    # Even to rounding, whatever type they came in.
    return np.linspace(centres[0], centres[-1], len(centres))
