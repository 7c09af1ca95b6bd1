r"""Linear references: return, rotation, growth; their transitions are exact, and differentiable in the parameters.

.. math:: f(x) = A x + b = \nu\,\bigl(M (x - c) + s\,m\bigr)

with pace :math:`\nu`, centre :math:`c` and spread :math:`s` of the data, so that :math:`M` and :math:`m`, which are
optimised and penalised, have no units. :class:`Spring` is :math:`-\kappa x`, :class:`Brownian` stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gendyn.bridges.references.family import LearnableReference, ReferenceFamily, Units
from gendyn.bridges.references.parametric import ParametricReference, check_starts
from gendyn.data import Snapshots

__all__ = ["Brownian", "Linear", "LinearDrift", "Spring"]


@dataclass(frozen=True)
class Linear(ReferenceFamily):
    r"""Any linear drift :math:`A x + b`; starts from none.

    Parameters
    ----------
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`. With constant noise transitions are exact.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(5, 2), torch.ones(5, 2)])
    >>> Linear().start(data).coefficients()["rate"].shape
    torch.Size([2, 2])
    """

    name: ClassVar[str] = "linear"

    def _reference(self, dim: int, seed: int) -> _Linear:
        return _Linear(self, dim)


@dataclass(frozen=True)
class Spring(ReferenceFamily):
    r"""Return to the origin: :math:`-\kappa x`.

    Parameters
    ----------
    stiffness
        :math:`\kappa` to start from, positive; ``None``: the pace of the data.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.ones(5, 1), torch.zeros(5, 1)])
    >>> Spring(2.0).start(data).drift(torch.tensor(0.0), torch.ones(1, 1)).item()
    -2.0
    """

    stiffness: float | None = None

    name: ClassVar[str] = "spring"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, frozenset({"stiffness"}))

    def _reference(self, dim: int, seed: int) -> _Spring:
        return _Spring(self, dim, {"stiffness": ()}, frozenset({"stiffness"}))


@dataclass(frozen=True)
class Brownian(ReferenceFamily):
    r"""No drift: only the noise is learned.

    Parameters
    ----------
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.ones(5, 1), torch.zeros(5, 1)])
    >>> Brownian(sigma=0.5).start(data).drift_parameters()
    []
    """

    name: ClassVar[str] = "brownian"

    def _reference(self, dim: int, seed: int) -> _Brownian:
        return _Brownian(self, dim)


class _ExactNoise:
    """What makes the transitions of a linear drift exact: the covariance of constant noise."""

    family: ReferenceFamily
    dim: int
    log_sigma: nn.Parameter

    @property
    def noise_covariance(self) -> Tensor:
        r""":math:`\operatorname{diag}\sigma^2`, ``(d, d)``; there is none where noise depends on the state."""
        if self.family.volatility != "constant":
            raise AttributeError("noise that depends on the state has no constant covariance")
        return torch.diag_embed((2 * self.log_sigma).exp().expand(self.dim))


class LinearDrift(LearnableReference):
    """A linear drift, see the module's equation, with any noise."""

    centre: Tensor
    spread: Tensor
    pace: Tensor

    def __init__(self, family: ReferenceFamily, dim: int) -> None:
        super().__init__(family, dim)
        self.matrix = nn.Parameter(torch.zeros(dim, dim, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))
        self.register_buffer("pace", torch.ones((), dtype=torch.float64))

    def place(self, units: Units, data: Snapshots) -> None:
        """Take over the units of the data."""
        super().place(units, data)
        self.centre.copy_(units.centre)
        self.spread.fill_(units.spread)
        self.pace.fill_(units.pace)

    @property
    def rate(self) -> Tensor:
        """:math:`A`, ``(d, d)``, per time unit."""
        return self.pace * self.matrix

    @property
    def offset(self) -> Tensor:
        """:math:`b`, ``(d,)``, units of the data per time unit."""
        return self.pace * (self.spread * self.shift - self.matrix @ self.centre)

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.addmm(self.offset, x, self.rate.T)

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._drift(t, x), self.rate.expand(len(x), -1, -1)

    def coefficients(self) -> dict[str, Tensor]:
        """Return ``rate``, ``offset`` and ``sigma``, with gradients."""
        return {"rate": self.rate, "offset": self.offset} | super().coefficients()

    def ridge_terms(self) -> Tensor:
        """Return the squared norm of the rate, free of units."""
        return self.matrix.square().sum()


class _Linear(_ExactNoise, LinearDrift):
    def features(self, t: Tensor, x: Tensor) -> Tensor:
        inputs = torch.cat([x - self.centre, self.spread.expand(len(x), 1)], 1) * self.pace
        identity = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        # theta lists, output by output, its row of the matrix and its shift.
        return (identity[:, :, None] * inputs[:, None, None, :]).flatten(2)

    def weights(self) -> Tensor:
        return torch.cat([self.matrix, self.shift[:, None]], 1).flatten()

    @torch.no_grad()
    def set_weights(self, theta: Tensor) -> None:
        rows = theta.reshape(self.dim, self.dim + 1)
        self.matrix.copy_(rows[:, :-1])
        self.shift.copy_(rows[:, -1])

    @property
    def penalised(self) -> Tensor:
        mask = torch.ones(self.dim, self.dim + 1, dtype=torch.bool, device=self.matrix.device)
        mask[:, -1] = False
        return mask.flatten()


class _Spring(_ExactNoise, ParametricReference):
    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        assert isinstance(self.family, Spring)
        self.set_values({"stiffness": self.family.stiffness or units.pace})

    @property
    def rate(self) -> Tensor:
        identity = torch.eye(self.dim, dtype=torch.float64, device=self.log_sigma.device)
        return -self.values()["stiffness"] * identity

    @property
    def offset(self) -> Tensor:
        return self.log_sigma.new_zeros(self.dim)

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        return -self.values()["stiffness"] * x

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._drift(t, x), self.rate.expand(len(x), -1, -1)

    def features(self, t: Tensor, x: Tensor) -> Tensor:
        return -x[:, :, None]

    def weights(self) -> Tensor:
        return self.values()["stiffness"][None]

    @torch.no_grad()
    def set_weights(self, theta: Tensor) -> None:
        self.set_values({"stiffness": theta[0]})


class _Brownian(_ExactNoise, LearnableReference):
    @property
    def rate(self) -> Tensor:
        return self.log_sigma.new_zeros(self.dim, self.dim)

    @property
    def offset(self) -> Tensor:
        return self.log_sigma.new_zeros(self.dim)

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(x), x.new_zeros(len(x), self.dim, self.dim)
