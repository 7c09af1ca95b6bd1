"""A stable SDE of a batch of series: a field, and the control of every series on a grid of times.

Between the times of the grid the control is linear. A step that begins on the grid finds all that does not depend on
the state ready, computed for the whole grid in one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.sde.stable_field import StableField

__all__ = ["StableProcess"]


class StableProcess:
    """The process whose paths are the latent paths of a batch of series.

    Parameters
    ----------
    field
        Networks of drift and diffusion.
    times
        The grid, ``(M,)`` shared or ``(B, M)`` of each series' own, in float64; padding repeats a series' last time.
    controls
        ``(B, M, d_x)``.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process.
    n_rows : int
        Number of series ``B``.
    solver : str
        ``"euler_maruyama"``; ``"log_euler"`` for an exact geometric equation; ``"euler"`` without noise.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> from gendyn.sampling import sample
    >>> process = StableProcess(StableField(1, hidden=4), torch.linspace(0, 1, 11), torch.zeros(3, 11, 1))
    >>> sample(process, torch.zeros(3, 4), process.times, substeps=1).values.shape
    torch.Size([3, 11, 4])
    """

    calculus: Literal["ito"] = "ito"

    def __init__(self, field: StableField, times: Tensor, controls: Tensor) -> None:
        if controls.ndim != 3 or times.shape not in ((controls.shape[1],), controls.shape[:2]):
            raise ValueError(
                f"a stable process needs controls (B, M, d) at times (M,) or (B, M); got {tuple(controls.shape)} at "
                f"{tuple(times.shape)}"
            )
        if controls.shape[2] != field.control_dim:
            raise ValueError(f"the field is for {field.control_dim} control channels; got {controls.shape[2]}")
        self.field = field
        self.times = times.detach().cpu().to(torch.float64)
        self.controls = controls
        self.n_rows = len(controls)
        self.dim = field.hidden
        design = field.design
        scalar = design.noise_sharing == "scalar"
        self.noise_type: Literal["none", "diagonal", "scalar"] = (
            "none" if design.noise == "none" else "scalar" if scalar else "diagonal"
        )
        self.noise_dim = {"none": 0, "scalar": 1, "diagonal": self.dim}[self.noise_type]
        self.solver = "log_euler" if design.on_logarithm else "euler" if design.noise == "none" else "euler_maruyama"
        self._mixing = field.mixing()
        self._matrix = self._mixing.matrix
        # Steps first, so that what a step needs lies together.
        self._clock = self.times.to(controls)
        wide = self._clock[:, None, None] if times.ndim == 1 else self._clock.T[:, :, None]
        offsets, levels = field.table(self._mixing, wide, controls.transpose(0, 1))
        # Cut once: a graph through M cuts of one tensor would fill M tensors of its size with zeros.
        self._offsets, self._levels = offsets.unbind(0), levels.unbind(0)
        self._index()

    def _index(self) -> None:
        """Give every time of the grid its number; where each series has its own, every time of the longest."""
        if self.times.ndim == 1:
            self._longest, row = 0, self._clock
        else:
            self._longest = int((self.times.diff(dim=1) > 0).sum(1).argmax())
            row = self._clock[self._longest]
        self._numbers: dict[float, int] = {}
        for k, t in enumerate(row.tolist()):
            self._numbers.setdefault(t, k)

    def rows(self, start: int, stop: int) -> StableProcess:
        """Return the process of some of the series."""
        if (start, stop) == (0, self.n_rows):
            return self
        part = copy(self)
        part.controls = self.controls[start:stop]
        part.n_rows = len(part.controls)
        part._offsets = tuple(offset[start:stop] for offset in self._offsets)
        if self.times.ndim == 2:
            part.times, part._clock = self.times[start:stop], self._clock[start:stop]
            part._levels = tuple(level[start:stop] for level in self._levels)
            part._index()
        return part

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what can be trained."""
        return self.field.parameters()

    def drift(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the drift ``(B, h)``."""
        offset, _ = self._parts(t, len(z))
        return self.field.drift(self._matrix, offset, z)

    def diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """Return the diffusion ``(B, h)``."""
        _, level = self._parts(t, len(z))
        noise: Tensor = self.field.noise(level, z)
        return noise

    def drift_diffusion(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return both."""
        offset, level = self._parts(t, len(z))
        return self.field.drift(self._matrix, offset, z), self.field.noise(level, z)

    def __getattr__(self, name: str) -> object:
        # Only an exact geometric equation knows its coefficients relative to the state.
        if name == "relative" and self.__dict__["solver"] == "log_euler":
            return self._relative
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _relative(self, t: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return drift and diffusion divided by the state."""
        offset, level = self._parts(t, len(z))
        return self.field.relative_drift(self._matrix, offset, z), self.field.noise.relative(level, z)

    def _parts(self, t: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return what does not depend on the state at a time, for the first ``count`` rows."""
        k = self._number(t)
        if k is not None:
            offset, level = self._offsets[k], self._levels[k]
            return (offset, level) if count == self.n_rows else (offset[:count], level[:count])
        return self.field.table(self._mixing, t[None] if t.ndim == 0 else t, self._control(t, count))

    def _number(self, t: Tensor) -> int | None:
        """Return the number of the step that begins at a time, if one does."""
        if t.ndim == 0:
            return self._numbers.get(float(t)) if self.times.ndim == 1 else None
        if self.times.ndim == 1 or self._longest >= len(t):
            return None
        k = self._numbers.get(float(t[self._longest]))
        return k if k is not None and torch.equal(self._clock[: len(t), k], t[:, 0]) else None

    def _control(self, t: Tensor, count: int) -> Tensor:
        """Return the controls of the first rows at a time that is not on the grid, linearly between neighbours."""
        clock = self._clock.expand(self.n_rows, -1)[:count].contiguous()
        asked = t.expand(count, 1).contiguous()
        right = torch.searchsorted(clock, asked).clamp(1, clock.shape[1] - 1)
        before, after = clock.gather(1, right - 1), clock.gather(1, right)
        part = ((asked - before) / (after - before).clamp_min(torch.finfo(clock.dtype).tiny)).clamp(0, 1)
        rows = torch.arange(count, device=clock.device)
        left, end = self.controls[rows, right[:, 0] - 1], self.controls[rows, right[:, 0]]
        return left + part * (end - left)
