r"""Diffusions of neural SDEs by name: a level times a shape of the state.

.. math:: g(t, z) = v \cdot s(z), \qquad \text{bounded as published:}\quad g(t, z) = \tanh(w\, v\, s(z)),\;
    w = \operatorname{sigmoid}(\theta).

The level :math:`v` is a constant (one for all features, or one for each), a constant times t, or a linear map or
perceptron of :math:`\tau(t) = (\sin t, \cos t)`, alone or with the state; the shape :math:`s` is one, the state, its
root, cube, sigmoid or positive part. The root and the cube are there to show what goes wrong: neither is Lipschitz.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gendyn.nn import seeded_linear

__all__ = ["NOISE_LEVELS", "NoiseLevel", "time_waves"]

_LEVELS = {
    "none": ("none", "one"),
    "constant": ("constant", "one"),
    "constant*time": ("constant*time", "one"),
    "constant*state": ("constant", "state"),
    "constant*time*state": ("constant*time", "state"),
    "constant*sqrt(state)": ("constant", "sqrt"),
    "constant*cube(state)": ("constant", "cube"),
    "constant*sigmoid(state)": ("constant", "sigmoid"),
    "constant*relu(state)": ("constant", "relu"),
    "per-feature": ("per-feature", "one"),
    "per-feature*state": ("per-feature", "state"),
    "linear(time)": ("linear(time)", "one"),
    "linear(time)*state": ("linear(time)", "state"),
    "linear(time,state)": ("linear(time,state)", "one"),
    "linear(time,state)*state": ("linear(time,state)", "state"),
    "mlp(time)": ("mlp(time)", "one"),
    "mlp(time)*state": ("mlp(time)", "state"),
    "mlp(time,state)": ("mlp(time,state)", "one"),
    "mlp(time,state)*state": ("mlp(time,state)", "state"),
}

NOISE_LEVELS: Mapping[str, tuple[str, str]] = MappingProxyType(_LEVELS)
"""Level and shape of every diffusion by name."""

_SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "state": lambda z: z,
    "sqrt": torch.sqrt,
    "cube": lambda z: z**3,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
}


def time_waves(t: Tensor) -> Tensor:
    """Return sine and cosine of times ``(..., 1)``, ``(..., 2)``.

    Examples
    --------
    >>> time_waves(torch.zeros(3, 1))[0].tolist()
    [0.0, 1.0]
    """
    return torch.cat([t.sin(), t.cos()], dim=-1)


class NoiseLevel(nn.Module):
    """A diffusion of :data:`NOISE_LEVELS`, in two parts: what knows no state, and the rest.

    Parameters
    ----------
    name
        Which.
    hidden
        Number of features ``h`` of the state, and width of the networks.
    bounded
        Whether it is clipped by a hyperbolic tangent, as published. Without, networks end in a softplus instead of a
        rectifier, and cannot die.
    generator
        Of the initial weights.

    Raises
    ------
    ValueError
        If there is no diffusion of that name.

    Examples
    --------
    >>> noise = NoiseLevel("constant*state", 3, bounded=False, generator=torch.Generator().manual_seed(0))
    >>> noise(noise.table(torch.zeros(1, 1)), torch.full((1, 3), 2.0)).tolist()
    [[2.0, 2.0, 2.0]]
    """

    def __init__(self, name: str, hidden: int, *, bounded: bool, generator: torch.Generator) -> None:
        super().__init__()
        if name not in NOISE_LEVELS:
            raise ValueError(f"noise must be one of {', '.join(NOISE_LEVELS)}; got {name!r}")
        self.name, self.hidden, self.bounded = name, hidden, bounded
        self.level, self.shape = NOISE_LEVELS[name]
        self.knows_state = "state)" in self.level
        if self.level.startswith("constant") or self.level == "per-feature":
            # Logarithms, so that a level stays positive.
            self.log_level = nn.Parameter(torch.zeros(hidden if self.level == "per-feature" else 1))
        elif self.level != "none":
            self.waves = seeded_linear(
                2, hidden, generator, scale=math.sqrt(2 / (hidden + 2)) if self.knows_state else 1.0
            )
            if self.knows_state:
                self.state = seeded_linear(
                    hidden, hidden, generator, bias=False, scale=math.sqrt(hidden / (hidden + 2))
                )
            if self.level.startswith("mlp"):
                self.out = seeded_linear(hidden, hidden, generator)
        if bounded and self.level != "none":
            self.weight = nn.Parameter(torch.ones(()))

    def table(self, t: Tensor) -> Tensor:
        """Return what does not depend on the state ``(..., h)``, at times ``(..., 1)``."""
        if self.level == "none":
            return t.new_zeros((*t.shape[:-1], self.hidden))
        if hasattr(self, "log_level"):
            level = self.log_level.exp().expand((*t.shape[:-1], self.hidden))
            part = level * t if self.level.endswith("time") else level
        else:
            part = self.waves(time_waves(t))
            if not self.knows_state and self.level.startswith("mlp"):
                part = self._end(part)
        if self.shape == "one" and not self.knows_state:
            return self._clip(part)
        return part

    def forward(self, part: Tensor, z: Tensor) -> Tensor:
        """Return the diffusion ``(B, h)``, from a part of the table and states ``(B, h)``."""
        level = self._level(part, z)
        if self.shape == "one":
            return self._clip(level) if self.knows_state else level.expand(z.shape)
        return self._clip(level * _SHAPES[self.shape](z))

    def relative(self, part: Tensor, z: Tensor) -> Tensor:
        """Return the diffusion divided by the state, of unbounded noise that is proportional to it."""
        return self._level(part, z).expand(z.shape)

    def _level(self, part: Tensor, z: Tensor) -> Tensor:
        if not self.knows_state:
            return part
        mixed = part + self.state(z)
        return self._end(mixed) if self.level.startswith("mlp") else mixed

    def _end(self, before: Tensor) -> Tensor:
        level: Tensor = self.out(torch.relu(before))
        return torch.relu(level) if self.bounded else softplus(level)

    def _clip(self, g: Tensor) -> Tensor:
        return torch.tanh(torch.sigmoid(self.weight) * g) if self.bounded else g
