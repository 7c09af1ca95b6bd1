r"""The field of meta flow matching: a velocity that knows the population a particle started in.

.. math:: \frac{dX}{dt} = v_\theta\bigl(t, X \mid \varphi(S), c\bigr)

with source population S, its features :math:`\varphi` (:mod:`gendyn.nn.encoders`) and a condition c. Over
populations it is a vector field on the space of distributions (Atanackovic et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import Scaling
from gendyn.nn import MLP, FourierFeatures, PopulationEncoder, SinusoidalTime
from gendyn.randomness import derive_seed

__all__ = ["MetaField", "MetaProcess"]


class MetaField(nn.Module):
    """A velocity network over position, time, features of the source population, and a condition; scaled units.

    Parameters
    ----------
    dim
        Number of features ``d``.
    encoder
        Of the source population; ``None`` leaves it out.
    condition_dim
        Width of the condition.
    hidden, activation, skip
        Of the perceptron.
    frequency
        Standard deviation of the random Fourier features of the position, in cycles per unit of scaled space.
    seed
        Of weights and frequencies.
    """

    def __init__(
        self,
        dim: int,
        encoder: PopulationEncoder | None,
        condition_dim: int,
        *,
        hidden: Sequence[int],
        activation: str,
        skip: bool = False,
        frequency: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.encoder = encoder
        self.condition_dim = condition_dim
        self.waves = FourierFeatures(dim, 64, frequency, seed=derive_seed(seed, "waves"))
        self.time = SinusoidalTime(32)
        width = dim + self.waves.out_features + 32 + condition_dim + (0 if encoder is None else encoder.out_features)
        self.network = MLP(width, dim, hidden, activation, skip=skip, seed=derive_seed(seed, "field"))

    def forward(self, t: Tensor, x: Tensor, context: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """Return velocities ``(P, m, d)``.

        Parameters
        ----------
        t
            ``(P, m, 1)``, or a number for all.
        x
            Particles ``(P, m, d)`` of P populations.
        context
            Of their source populations, from the encoder.
        condition
            ``(P, c)``.
        """
        parts = [x, self.waves(x), self.time(t.to(x).expand(*x.shape[:2], 1))]
        if self.encoder is not None and context is not None:
            parts.append(self.encoder.features(x, context))
        if condition is not None:
            parts.append(condition[:, None].expand(-1, x.shape[1], -1))
        velocity: Tensor = self.network(torch.cat(parts, dim=-1))
        return velocity


class MetaProcess(nn.Module):
    """The flow of one population, in the units of the data.

    Parameters
    ----------
    field
        The network.
    scaling
        Of the positions.
    times
        Start and end ``(2,)``.
    context
        Of the source population ``(1, ...)``, or ``None``.
    condition
        ``(c,)``, or ``None``.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process.
    time_step : float
        A hundredth of the time between start and end.

    Examples
    --------
    >>> field = MetaField(2, None, 0, hidden=(8,), activation="silu", frequency=0.1, seed=0)
    >>> flow = MetaProcess(field, Scaling(torch.zeros(2), torch.ones(2)), torch.tensor([0.0, 3.0]), None, None)
    >>> flow.drift(torch.tensor(1.0), torch.zeros(5, 2)).shape
    torch.Size([5, 2])
    """

    noise_type: Literal["none"] = "none"
    calculus: Literal["ito"] = "ito"
    noise_dim = 0
    shift: Tensor
    scale: Tensor
    times: Tensor

    def __init__(
        self, field: MetaField, scaling: Scaling, times: Tensor, context: Tensor | None, condition: Tensor | None
    ) -> None:
        super().__init__()
        self.field = field
        self.dim = field.dim
        self.context = context
        self.condition = condition
        self.register_buffer("shift", scaling.shift.clone())
        self.register_buffer("scale", scaling.scale.clone())
        self.register_buffer("times", times.to(torch.float64).clone())
        self.time_step = float(times[1] - times[0]) / 100

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity ``(B, d)`` at ``t`` and ``x (B, d)``."""
        span = self.times[1] - self.times[0]
        s = ((t - self.times[0]) / span).to(x)
        condition = None if self.condition is None else self.condition[None]
        velocity: Tensor = self.field(s, ((x - self.shift) / self.scale)[None], self.context, condition)[0]
        return velocity * (self.scale / float(span))

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros: a flow has no noise."""
        return torch.zeros_like(x)
