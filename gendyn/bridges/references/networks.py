r"""Networks as families of references, in units of the data.

With pace :math:`\nu`, centre :math:`c` and spread :math:`s` of the data and :math:`u = (x - c)/s`,

.. math::

    f(x) = \nu s\,\mathrm{net}(u), \qquad f(x) = \nu s\,\nabla\psi(u), \qquad f(x) = A x + b + \nu s\,\mathrm{net}(u)

for :class:`MLP`, :class:`GradientField` and :class:`LinearPlusMLP`, whose network starts near zero, so that it starts
as a linear reference does. :class:`Network` takes any module :math:`f(t, x)` as it is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from gendyn.bridges.references.family import LearnableReference, ReferenceFamily, Units
from gendyn.bridges.references.linear import Linear, LinearDrift
from gendyn.bridges.references.perceptron import Perceptron, check_architecture
from gendyn.data import Snapshots
from gendyn.randomness import derive_seed

__all__ = ["MLP", "GradientField", "LinearPlusMLP", "Network"]

_NEAR_ZERO = 0.01
"""Factor on the last layer of a network that starts near zero."""


@dataclass(frozen=True)
class MLP(ReferenceFamily):
    r"""Any drift: a perceptron.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    activation
        ``"silu"``, ``"softplus"`` or ``"tanh"``.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(5, 2), torch.ones(5, 2)])
    >>> MLP((16,)).start(data, seed=1).drift(torch.tensor(0.0), torch.zeros(4, 2)).shape
    torch.Size([4, 2])
    """

    hidden: tuple[int, ...] = (32, 32)
    activation: str = "silu"

    name: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden", check_architecture(self.hidden, self.activation))

    def _reference(self, dim: int, seed: int) -> _Field:
        network = Perceptron(dim, dim, self.hidden, self.activation, seed=derive_seed(seed, self.name))
        return _Field(self, dim, network)


@dataclass(frozen=True)
class GradientField(ReferenceFamily):
    r"""A drift that climbs a potential: the gradient of a perceptron, smooth, with one output.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    activation
        ``"silu"``, ``"softplus"`` or ``"tanh"``.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(5, 2), torch.ones(5, 2)])
    >>> jacobian = GradientField().start(data).jacobian(torch.tensor(0.0), torch.zeros(1, 2))[0]
    >>> bool((jacobian - jacobian.T).abs().max() < 1e-7)  # nothing turns
    True
    """

    hidden: tuple[int, ...] = (128, 64, 64)
    activation: str = "softplus"

    name: ClassVar[str] = "gradient-field"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden", check_architecture(self.hidden, self.activation))

    def _reference(self, dim: int, seed: int) -> _GradientField:
        key = derive_seed(seed, self.name)
        network = Perceptron(dim, 1, self.hidden, self.activation, seed=key, final_bias=False)
        return _GradientField(self, dim, network)


@dataclass(frozen=True)
class LinearPlusMLP(ReferenceFamily):
    r"""A linear drift, and a perceptron for what is left; starts from no drift but for a trifle.

    Parameters
    ----------
    hidden
        Widths of the hidden layers.
    activation
        ``"silu"``, ``"softplus"`` or ``"tanh"``.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(5, 2), torch.ones(5, 2)])
    >>> import gendyn as gd
    >>> reference = LinearPlusMLP().start(data)
    >>> linear = gd.references.Linear().start(data)
    >>> _ = reference.adopt(linear)  # a linear reference that was learned before
    >>> reference.coefficients()["rate"].shape
    torch.Size([2, 2])
    """

    hidden: tuple[int, ...] = (32, 32)
    activation: str = "silu"

    name: ClassVar[str] = "linear-plus-mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden", check_architecture(self.hidden, self.activation))

    def _reference(self, dim: int, seed: int) -> _LinearPlusField:
        key = derive_seed(seed, self.name)
        network = Perceptron(dim, dim, self.hidden, self.activation, seed=key, final_scale=_NEAR_ZERO)
        return _LinearPlusField(self, dim, network)


@dataclass(frozen=True)
class Network(ReferenceFamily):
    """A module of one's own as the drift; a model with it cannot be saved.

    Parameters
    ----------
    module
        ``module(t, x) -> (n, d)`` for a 0-dimensional time or times ``(n, 1)``; rows must not influence each other, and
        its second derivative must not vanish everywhere. It is copied and runs in float64; its weights are where it
        starts from, in the units of the data.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Raises
    ------
    TypeError
        If it is no module.

    Examples
    --------
    >>> class Pull(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.strength = torch.nn.Parameter(torch.tensor(1.0))
    ...     def forward(self, t, x):
    ...         return -self.strength * x
    >>> data = Snapshots([0.0, 1.0], [torch.zeros(5, 2), torch.ones(5, 2)])
    >>> Network(Pull()).start(data).jacobian(torch.tensor(0.0), torch.zeros(1, 2)).tolist()
    [[[-1.0, -0.0], [-0.0, -1.0]]]
    """

    module: nn.Module

    name: ClassVar[str] = "network"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.module, nn.Module):
            raise TypeError(
                f"Network takes a torch.nn.Module f(t, x); got {type(self.module).__name__}: give a function to Custom"
            )

    def _reference(self, dim: int, seed: int) -> _Module:
        return _Module(self, dim, copy.deepcopy(self.module).double())

    def start(self, data: Snapshots, seed: int | torch.Generator = 0) -> LearnableReference:
        """Return a reference at the weights of the module; see the base.

        Raises
        ------
        ValueError
            If the module does not give drifts of the shape of the states.
        """
        reference = super().start(data, seed)
        x = data.samples[0][:2].to(torch.float64)
        with torch.no_grad():
            shape = tuple(reference.drift(data.times[0].to(x), x).shape)
        if shape != tuple(x.shape):
            raise ValueError(f"the module must give drifts of the shape of the states, {tuple(x.shape)}; got {shape}")
        return reference


class _Scaled(LearnableReference):
    """A reference with the units of its data."""

    centre: Tensor
    spread: Tensor
    pace: Tensor

    def __init__(self, family: ReferenceFamily, dim: int, network: Perceptron) -> None:
        super().__init__(family, dim)
        self.network = network
        self.register_buffer("centre", torch.zeros(dim, dtype=torch.float64))
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))
        self.register_buffer("pace", torch.ones((), dtype=torch.float64))

    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        self.centre.copy_(units.centre)
        self.spread.fill_(units.spread)
        self.pace.fill_(units.pace)

    def ridge_terms(self) -> Tensor:
        return self.network.squares()


class _Field(_Scaled):
    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        drift: Tensor = self.pace * self.spread * self.network((x - self.centre) / self.spread)
        return drift

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        value, jacobian = self.network.value_and_jacobian((x - self.centre) / self.spread)
        return self.pace * self.spread * value, self.pace * jacobian


class _GradientField(_Scaled):
    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self.pace * self.spread * self.network.gradient((x - self.centre) / self.spread)

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        gradient, hessian = self.network.gradient_and_hessian((x - self.centre) / self.spread)
        return self.pace * self.spread * gradient, self.pace * hessian


class _LinearPlusField(LinearDrift):
    def __init__(self, family: ReferenceFamily, dim: int, network: Perceptron) -> None:
        super().__init__(family, dim)
        self.network = network

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        drift: Tensor = super()._drift(t, x) + self.pace * self.spread * self.network((x - self.centre) / self.spread)
        return drift

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        value, jacobian = self.network.value_and_jacobian((x - self.centre) / self.spread)
        return super()._drift(t, x) + self.pace * self.spread * value, self.rate + self.pace * jacobian

    def ridge_terms(self) -> Tensor:
        return super().ridge_terms() + self.network.squares()

    def simpler(self) -> LearnableReference:
        noise = {name: getattr(self.family, name) for name in ("sigma", "volatility", "sigma_per_feature")}
        return Linear(**noise)._reference(self.dim, 0).adopt(self).to(self.log_sigma.device)


class _Module(LearnableReference):
    def __init__(self, family: ReferenceFamily, dim: int, module: nn.Module) -> None:
        super().__init__(family, dim)
        self.module = module

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        drift: Tensor = self.module(t, x)
        return drift

    def ridge_terms(self) -> Tensor:
        squares = [parameter.square().sum() for parameter in self.module.parameters() if parameter.ndim > 1]
        return torch.stack(squares).sum() if squares else super().ridge_terms()
