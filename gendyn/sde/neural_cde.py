r"""Neural controlled differential equations.

.. math:: dz = F(z)\, dX = F(z(t))\, \dot X(t)\, dt, \qquad z(t_0) = W X(t_0) + b ,

with a network :math:`F(z) \in \mathbb R^{h \times d_x}` whose last layer is a tanh, and the control :math:`X` of a
series, with time (and what else is known of how it was observed) among its channels. The path enters by its derivative:
what a series does moves the state, and where it rests the state moves by the channel of time alone. With :math:`F`
constant, :math:`z(t) = z(t_0) + F\,(X(t) - X(t_0))`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from copy import copy
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import ControlMethod, ControlPath
from gendyn.nn import MLP, seeded_linear
from gendyn.randomness import Seed, as_seed, derive_seed, torch_generator

__all__ = ["NeuralCDEField", "NeuralCDEProcess"]


class NeuralCDEField(nn.Module):
    """Networks of a neural CDE.

    Parameters
    ----------
    control_dim
        Number of channels ``d_x`` of the control.
    hidden
        Number of features ``h`` of the state.
    inner, layers
        Width and number of the hidden layers of ``F``.
    seed
        Of the initial weights.

    Examples
    --------
    >>> field = NeuralCDEField(3, hidden=8)
    >>> field(torch.zeros(5, 8)).shape, field.begin(torch.zeros(5, 3)).shape
    (torch.Size([5, 8, 3]), torch.Size([5, 8]))
    """

    def __init__(self, control_dim: int, hidden: int = 32, inner: int = 32, layers: int = 3, *, seed: Seed = 0) -> None:
        super().__init__()
        if min(control_dim, hidden, inner, layers) < 1:
            raise ValueError(
                "control_dim, hidden, inner and layers must be at least 1; got "
                f"{control_dim}, {hidden}, {inner} and {layers}"
            )
        self.control_dim, self.hidden = control_dim, hidden
        root = as_seed(seed)
        self.start = seeded_linear(control_dim, hidden, torch_generator(root, "neural CDE"))
        widths = (inner,) * layers
        self.net = MLP(hidden, hidden * control_dim, widths, "relu", seed=derive_seed(root, "matrix"))

    def begin(self, control: Tensor) -> Tensor:
        """Return start states ``(B, h)`` from controls ``(B, d_x)``."""
        state: Tensor = self.start(control)
        return state

    def forward(self, z: Tensor) -> Tensor:
        """Return the matrix ``F(z)`` of states ``(B, h)``, ``(B, h, d_x)``."""
        matrix: Tensor = torch.tanh(self.net(z)).reshape(-1, self.hidden, self.control_dim)
        return matrix


class NeuralCDEProcess:
    """The process whose paths are the states of a batch of series.

    Parameters
    ----------
    field
        Networks.
    times
        ``(M,)`` or ``(B, M)``, of :func:`~gendyn.sde.step_times`; padding repeats a series' last time.
    controls
        What the control passes through at these times ``(B, M, d_x)``.
    method
        How it is joined, see :class:`~gendyn.data.ControlPath`.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process.
    n_rows : int
        Number of series ``B``.
    solver : str
        ``"midpoint"``.

    Raises
    ------
    ValueError
        If shapes do not fit, or the path is rectilinear, which jumps.

    Examples
    --------
    >>> from gendyn.sampling import sample
    >>> process = NeuralCDEProcess(NeuralCDEField(1, hidden=4), torch.linspace(0, 1, 11), torch.zeros(3, 11, 1))
    >>> sample(process, torch.zeros(3, 4), process.times, substeps=1).values.shape
    torch.Size([3, 11, 4])
    """

    noise_type: Literal["none"] = "none"
    calculus: Literal["ito"] = "ito"
    noise_dim = 0
    solver = "midpoint"

    def __init__(
        self, field: NeuralCDEField, times: Tensor, controls: Tensor, method: ControlMethod = "hermite"
    ) -> None:
        if method == "rectilinear":
            raise ValueError("a rectilinear control path jumps and has no derivative; take another method")
        if controls.ndim != 3 or times.shape not in ((controls.shape[1],), controls.shape[:2]):
            raise ValueError(
                f"a neural CDE needs controls (B, M, d) at times (M,) or (B, M); got {tuple(controls.shape)} at "
                f"{tuple(times.shape)}"
            )
        if controls.shape[2] != field.control_dim:
            raise ValueError(f"the field is for {field.control_dim} control channels; got {controls.shape[2]}")
        self.field, self.controls = field, controls
        self.times = times.detach().cpu().to(torch.float64)
        self.n_rows, self.dim = len(controls), field.hidden
        lengths = 1 + (self.times.diff(dim=-1) > 0).sum(-1)
        path = ControlPath(self.times, controls.detach(), None, lengths.expand(self.n_rows), method)
        _, b, c, d = (part.permute(2, 0, 1) for part in path.coefficients())
        # Knots first, so that what a step needs lies together: the derivative is a polynomial of the time since.
        self._slopes = tuple(part.to(controls).contiguous() for part in (b, 2 * c, 3 * d))
        self._clock = self.times.to(controls)
        # The last step: at the end of a series the derivative is that from the left.
        self._last = (lengths - 2).clamp_min(0).to(controls.device)
        self._ticks = self._clock.tolist() if self.times.ndim == 1 else None

    def rows(self, start: int, stop: int) -> NeuralCDEProcess:
        """Return the process of some of the series."""
        if (start, stop) == (0, self.n_rows):
            return self
        part = copy(self)
        part.controls = self.controls[start:stop]
        part.n_rows = len(part.controls)
        part._slopes = tuple(slope[:, start:stop] for slope in self._slopes)
        if self.times.ndim == 2:
            part.times, part._clock = self.times[start:stop], self._clock[start:stop]
            part._last = self._last[start:stop]
        return part

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what can be trained."""
        return self.field.parameters()

    def derivative(self, t: Tensor, count: int) -> Tensor:
        """Return the derivative of the control of the first rows ``(count, d_x)``, zero beyond the ends of a series."""
        if self._ticks is not None and t.ndim == 0:
            k = min(max(bisect_right(self._ticks, float(t)) - 1, 0), int(self._last))
            s: Tensor = t - self._clock[k]
            b, c, d = (slope[k, :count] for slope in self._slopes)
            within = self._ticks[0] <= float(t) <= self._ticks[-1]
            return b + s * (c + s * d) if within else torch.zeros_like(b)
        clock = self._clock.expand(self.n_rows, -1)[:count].contiguous()
        asked = t.expand(count, 1).contiguous()
        at = (torch.searchsorted(clock, asked, right=True) - 1).clamp_min(0)
        at = torch.minimum(at, self._last.expand(self.n_rows)[:count, None])
        s = asked - clock.gather(1, at)
        rows = torch.arange(count, device=clock.device)
        b, c, d = (slope[at[:, 0], rows] for slope in self._slopes)
        return (b + s * (c + s * d)) * ((asked >= clock[:, :1]) & (asked <= clock[:, -1:]))

    def drift(self, t: Tensor, z: Tensor) -> Tensor:
        """Return ``F(z)`` times the derivative of the control ``(B, h)``."""
        matrix: Tensor = self.field(z)
        return (matrix @ self.derivative(t, len(z))[:, :, None])[:, :, 0]

    def diffusion(self, t: Tensor, z: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(z)
