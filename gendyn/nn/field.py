r"""Networks for fields on space and time: velocities, drifts, scores, energies.

.. math:: v_\theta(t, x, c) = \mathrm{MLP}\bigl([\tau(t), x, c]\bigr) \in \mathbb{R}^d, \qquad
    f_\theta(t, x, c) = -\nabla_x E_\theta(t, x, c), \quad E_\theta = \mathrm{MLP}\bigl([\tau(t), x, c]\bigr)
    \in \mathbb{R},

with time as it is or as sinusoidal features :math:`\tau(t)`, and an optional condition :math:`c`. Every field is
called ``field(t, x, condition=None)`` with one time for the whole batch or one a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gendyn.nn.mlp import MLP
from gendyn.nn.time_features import SinusoidalTime
from gendyn.randomness import Seed

__all__ = ["EnergyNetwork", "FieldInput", "VelocityNetwork"]


class FieldInput(nn.Module):
    """What a field sees, in one row a point: time or its features, position, condition.

    Parameters
    ----------
    dim
        Number of features ``d`` of the position.
    condition_dim
        Width ``c`` of the condition; zero for none.
    time_features
        Number of sinusoidal features of time; zero gives time as it is.

    Raises
    ------
    ValueError
        If ``dim`` is below 1, ``condition_dim`` is negative or ``time_features`` is odd or negative.

    Examples
    --------
    >>> FieldInput(2)(torch.tensor(0.5), torch.ones(3, 2))[0].tolist()
    [0.5, 1.0, 1.0]
    """

    def __init__(self, dim: int, condition_dim: int = 0, time_features: int = 0) -> None:
        super().__init__()
        if dim < 1 or condition_dim < 0 or time_features < 0:
            raise ValueError(
                "dim must be at least 1, condition_dim and time_features at least 0; "
                f"got {dim}, {condition_dim} and {time_features}"
            )
        self.dim, self.condition_dim = dim, condition_dim
        self.time = SinusoidalTime(time_features) if time_features else None
        self.out_features = (time_features or 1) + dim + condition_dim

    def forward(self, t: Tensor | float, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the rows ``(B, out_features)``.

        Parameters
        ----------
        t
            Times ``()``, ``(B,)`` or ``(B, 1)``, of any dtype.
        x
            Positions ``(B, d)``.
        condition
            Conditions ``(B, c)``, or ``(c,)`` for all rows alike.

        Raises
        ------
        ValueError
            If a shape does not fit, or a condition is missing or not expected.
        """
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape (B, {self.dim}); got {tuple(x.shape)}")
        n = x.shape[0]
        time = t.to(x) if isinstance(t, Tensor) else x.new_tensor(t)
        if time.ndim == 1 and time.shape[0] == n:
            time = time[:, None]
        elif time.ndim == 0:
            time = time[None, None]
        elif time.shape != (n, 1):
            raise ValueError(f"t must have shape (), ({n},) or ({n}, 1); got {tuple(time.shape)}")
        if self.time is not None:
            time = self.time(time)
        if self.condition_dim == 0:
            if condition is not None:
                raise ValueError("this field takes no condition (condition_dim=0); got one")
            return torch.cat([time.expand(n, -1), x], dim=1)
        shapes = ((n, self.condition_dim), (self.condition_dim,))
        if condition is None or condition.shape not in shapes:
            got = "none" if condition is None else tuple(condition.shape)
            raise ValueError(f"condition must have shape {shapes[0]} or {shapes[1]}; got {got}")
        return torch.cat([time.expand(n, -1), x, condition.to(x).expand(n, -1)], dim=1)


class VelocityNetwork(nn.Module):
    """A vector field ``(t, x, condition) -> (B, d)``.

    Parameters
    ----------
    dim
        Number of features ``d``.
    hidden, activation, final_scale, skip
        Of the perceptron, see :class:`~gendyn.nn.MLP`.
    condition_dim
        Width of the condition; zero for none.
    time_features
        Number of sinusoidal features of time, see :class:`~gendyn.nn.SinusoidalTime`; zero feeds time as it is.
    out_features
        Number of outputs, ``dim`` by default; more for several fields at once, or for the entries of a matrix.
    seed
        Seed of the initial weights.

    Raises
    ------
    ValueError
        If a width does not fit or the activation is unknown.

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
        out_features: int | None = None,
        final_scale: float = 1.0,
        skip: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.input = FieldInput(dim, condition_dim, time_features)
        self.mlp = MLP(
            self.input.out_features,
            dim if out_features is None else out_features,
            hidden,
            activation,
            seed=seed,
            final_scale=final_scale,
            skip=skip,
        )

    def forward(self, t: Tensor | float, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the field ``(B, d)`` at ``x`` of shape ``(B, d)``, and times ``()``, ``(B,)`` or ``(B, 1)``.

        Raises
        ------
        ValueError
            If a shape does not fit, or a condition is missing or not expected.
        TypeError
            If ``x`` is not of the network's dtype.
        """
        _check_dtype(x, self.mlp)
        field: Tensor = self.mlp(self.input(t, x, condition))
        return field


class EnergyNetwork(nn.Module):
    r"""A conservative field :math:`f = -\nabla_x E_\theta(t, x, c)`, the gradient of a scalar network.

    The field can be differentiated again, with respect to the parameters and to the arguments, and works where
    gradients are switched off. The energy has no last bias, for a constant leaves the field as it is.

    Parameters
    ----------
    dim
        Number of features ``d``.
    hidden, activation, final_scale, skip
        Of the perceptron, see :class:`~gendyn.nn.MLP`; the activation should be smooth.
    condition_dim
        Width of the condition; zero for none.
    time_features
        Number of sinusoidal features of time; zero feeds time as it is.
    seed
        Seed of the initial weights.

    Raises
    ------
    ValueError
        If a width does not fit or the activation is unknown.

    Examples
    --------
    >>> network = EnergyNetwork(2, hidden=(16,))
    >>> x = torch.zeros(7, 2)
    >>> network.energy(0.5, x).shape, network(0.5, x).shape
    (torch.Size([7]), torch.Size([7, 2]))
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (128, 128, 128),
        activation: str = "silu",
        *,
        condition_dim: int = 0,
        time_features: int = 0,
        final_scale: float = 1.0,
        skip: bool = False,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.input = FieldInput(dim, condition_dim, time_features)
        self.mlp = MLP(
            self.input.out_features,
            1,
            hidden,
            activation,
            seed=seed,
            final_scale=final_scale,
            skip=skip,
            final_bias=False,
        )

    def energy(self, t: Tensor | float, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the energy ``(B,)``; arguments and errors are those of :meth:`VelocityNetwork.forward`."""
        _check_dtype(x, self.mlp)
        energy: Tensor = self.mlp(self.input(t, x, condition))
        return energy[:, 0]

    def forward(self, t: Tensor | float, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the field ``(B, d)``; arguments and errors are those of :meth:`VelocityNetwork.forward`."""
        # Rows do not see each other, so the gradient of the summed energy holds every row's own gradient.
        gradient: Tensor = torch.func.grad(lambda y: self.energy(t, y, condition).sum())(x)
        return -gradient


def _check_dtype(x: Tensor, mlp: MLP) -> None:
    dtype = mlp.layers[-1].weight.dtype
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        got, own = (str(d).removeprefix("torch.") for d in (x.dtype, dtype))
        raise TypeError(f"x must be of the network's dtype {own}; got {got}: convert one of them with .to(dtype)")
