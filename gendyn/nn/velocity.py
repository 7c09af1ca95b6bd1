r"""Networks for fields on space and time: velocities, drifts, scores.

.. math:: v_\theta(t, x, c) = \mathrm{MLP}\bigl([\tau(t), x, c]\bigr) \in \mathbb{R}^d

with time as it is, or as sinusoidal features :math:`\tau(t)`, and an optional condition :math:`c`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gendyn.nn.mlp import MLP
from gendyn.nn.time_features import SinusoidalTime
from gendyn.randomness import Seed

__all__ = ["VelocityNetwork"]


class VelocityNetwork(nn.Module):
    """A field ``(t, x, condition) -> (B, d)``.

    Parameters
    ----------
    dim
        Number of features ``d``.
    hidden, activation
        Of the perceptron, see :class:`~gendyn.nn.MLP`.
    condition_dim
        Width of the condition; zero for none.
    time_features
        Number of sinusoidal features of time; zero feeds time as it is.
    seed
        Seed of the initial weights.

    Raises
    ------
    ValueError
        If shapes do not fit; the message says which are needed.

    Examples
    --------
    >>> network = VelocityNetwork(2, hidden=(16,))
    >>> network(torch.tensor(0.5), torch.zeros(7, 2)).shape
    torch.Size([7, 2])
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        *,
        condition_dim: int = 0,
        time_features: int = 0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.condition_dim = condition_dim
        self.time_features = SinusoidalTime(time_features) if time_features else None
        self.mlp = MLP(dim + (time_features or 1) + condition_dim, dim, hidden, activation, seed=seed)

    def forward(self, t: Tensor, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the field ``(B, d)`` at ``x`` of shape ``(B, d)`` and times ``()``, ``(B,)`` or ``(B, 1)``."""
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (B, {self.dim}); got {tuple(x.shape)}")
        if t.ndim == 1 and len(t) == len(x):
            t = t[:, None]
        if t.ndim != 0 and t.shape != (len(x), 1):
            raise ValueError(f"t must have shape (), ({len(x)},) or ({len(x)}, 1); got {tuple(t.shape)}")
        if self.time_features is not None:
            t = self.time_features(t.reshape(-1, 1))
        parts = [t.to(x.dtype).expand(len(x), t.shape[-1] if t.ndim else 1), x]
        if self.condition_dim:
            if condition is None or condition.shape != (len(x), self.condition_dim):
                got = "none" if condition is None else tuple(condition.shape)
                raise ValueError(f"condition must have shape ({len(x)}, {self.condition_dim}); got {got}")
            parts.append(condition.to(x.dtype))
        elif condition is not None:
            raise ValueError("this network was made without a condition (condition_dim=0), but one was given")
        output: Tensor = self.mlp(torch.cat(parts, dim=1))
        return output
