r"""Processes that an interpolant gives: its flow, and diffusions with the same marginals.

.. math:: dX = b\,dt, \qquad dX = (b + \epsilon s)\,dt + \sqrt{2\epsilon}\,dW, \qquad
    dZ_\tau = (-b + \epsilon s)\,d\tau + \sqrt{2\epsilon}\,dW \quad (\tau = -t),

the flow, the forward and the backward diffusion: if velocity b and score s are exact, all have the same
one-time laws for every :math:`\epsilon(t) \ge 0` (Albergo, Boffi and Vanden-Eijnden 2023). Here
:math:`\epsilon` is half the squared diffusion, on the interpolant's own scale: scaled positions, every gap between
populations of length 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn.data import Scaling
from gendyn.interpolants.epsilon import Epsilon
from gendyn.interpolants.fields import InterpolantFields

__all__ = ["InterpolantProcess"]

_LARGEST_RATIO = 1e3
"""Of epsilon and gamma, beyond which the noise of a learned noise is all there is."""


class InterpolantProcess(nn.Module):
    """The flow or a diffusion of learned fields, in the units of the data.

    Parameters
    ----------
    fields
        Velocity and score in scaled units.
    scaling
        Shift and scale of the positions, ``(d,)`` each.
    times
        Times of the populations ``(K+1,)``.
    epsilon
        Half the squared diffusion; zero gives the flow.
    margin
        Within this part of a gap from either of its ends epsilon is zero: the flow takes the last step, which takes
        out the last noise.
    backward
        Whether time runs backward: the process then runs over minus time.
    condition
        ``(c,)``, or ``(n, c)`` for paths that run at once, or ``None``.
    guidance
        Weight w of classifier-free guidance: fields are ``(1 + w) f(condition) - w f(none)`` (Ho and Salimans 2022).
    told
        Leading entries of a condition that ``none`` leaves out; ``None``: all.

    Attributes
    ----------
    dim, noise_type, calculus, noise_dim
        As for every process; ``noise_type`` is ``"none"`` or ``"additive"``.
    time_step : float
        A fiftieth (flow) or a hundredth (diffusion) of the shortest gap.
    """

    calculus: Literal["ito"] = "ito"
    shift: Tensor
    scale: Tensor
    times: Tensor

    def __init__(
        self,
        fields: InterpolantFields,
        scaling: Scaling,
        times: Tensor,
        *,
        epsilon: Epsilon = 0.0,
        margin: float = 0.01,
        backward: bool = False,
        condition: Tensor | None = None,
        guidance: float = 0.0,
        told: int | None = None,
    ) -> None:
        super().__init__()
        self.fields = fields
        self.dim = len(scaling.shift)
        self.epsilon = epsilon
        self.margin = margin
        self.backward = backward
        self.condition = condition
        self.guidance = guidance
        self.told = told
        moves = callable(epsilon) or epsilon != 0
        if not callable(epsilon) and not epsilon >= 0:
            raise ValueError(f"epsilon must be zero or positive; got {epsilon}")
        if not 0 <= margin < 0.5:
            raise ValueError(f"margin must lie in [0, 0.5); got {margin}")
        if moves:
            fields.check_score()
            _warn_of_singular_noise(fields, epsilon, margin)
        self.noise_type: Literal["none", "additive"] = "additive" if moves else "none"
        self.noise_dim = self.dim if moves else 0
        self.register_buffer("shift", scaling.shift.clone())
        self.register_buffer("scale", scaling.scale.clone())
        self.register_buffer("times", times.to(torch.float64).clone())
        self.time_step = float(times.diff().min()) / (100 if moves else 50)

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the velocity ``(B, d)`` at ``x (B, d)``, in units of ``x`` per unit of time."""
        s = self._global(t)
        return self._guided(self.fields.velocity, s, x) * (self.scale / self._span)

    def score(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the score ``(B, d)``, in one over the units of ``x``."""
        return self._guided(self.fields.score, self._global(t), x) / self.scale

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift ``(B, d)``."""
        s = self._global(-t if self.backward else t)
        if self.noise_type == "additive":
            epsilon, length = self._epsilon(s)
            if bool((epsilon > 0).any()):
                velocity, score = self._guided(self._both, s, x).unbind(0)
                kick = (epsilon / length).to(x.dtype) * score
                return ((-velocity if self.backward else velocity) + kick) * (self.scale / self._span)
        velocity = self._guided(self.fields.velocity, s, x)
        return (-velocity if self.backward else velocity) * (self.scale / self._span)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the diffusion ``(d, d)``, or ``(B, d, d)`` for times of each row's own; zeros of a flow."""
        if self.noise_type == "none":
            return torch.zeros_like(x)
        epsilon, length = self._epsilon(self._global(-t if self.backward else t))
        amplitude = (2 * epsilon / (length * self._span)).sqrt().to(x.dtype)
        return torch.diag(self.scale.to(x.dtype)) * (amplitude if amplitude.ndim == 0 else amplitude[..., None])

    def _both(self, s: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return torch.stack(self.fields.velocity_and_score(s, x, condition))

    @property
    def _span(self) -> float:
        return float(self.times[-1] - self.times[0])

    def _global(self, t: Tensor) -> Tensor:
        return (t.to(torch.float64) - self.times[0]) / self._span

    def _epsilon(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return epsilon and the gap's length in global time."""
        _, t, length = self.fields.local(s)
        epsilon = self.epsilon(t) if callable(self.epsilon) else torch.full_like(t, self.epsilon)
        inside = (t >= self.margin * (1 - 1e-9)) & (t <= (1 - self.margin) * (1 - 1e-9))
        return torch.where(inside, epsilon, 0.0), length

    def _guided(self, field: Callable[..., Tensor], s: Tensor, x: Tensor) -> Tensor:
        z, s = (x - self.shift) / self.scale, s.to(x.dtype)
        if self.condition is None:
            return field(s, z)
        # The door looks at the first rows alone.
        condition = self.condition if self.condition.ndim == 1 else self.condition[: len(x)]
        found = field(s, z, condition)
        if self.guidance == 0:
            return found
        nothing = condition.clone()
        nothing[..., : self.told] = 0
        return (1 + self.guidance) * found - self.guidance * field(s, z, nothing)


def _warn_of_singular_noise(fields: InterpolantFields, epsilon: Epsilon, margin: float) -> None:
    """Warn where a score that is a learned noise over gamma meets an epsilon that does not vanish with it."""
    if fields.schedule.sides == "one-sided" or "score" in fields.networks:
        return
    inner = max(margin, fields.margin)
    t = torch.linspace(inner, 1 - inner, 201, dtype=torch.float64)
    strength = epsilon(t) if callable(epsilon) else torch.full_like(t, epsilon)
    largest = float((strength / fields.schedule.gamma.value(t)).max())
    if largest > _LARGEST_RATIO:
        warnings.warn(
            f"epsilon / gamma reaches {largest:.3g}, by which errors of the learned noise are magnified; use an "
            "epsilon that vanishes at the ends, such as gendyn.interpolants.vanishing(), a larger margin, or learn "
            "'score'",
            stacklevel=4,
        )
