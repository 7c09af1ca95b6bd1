r"""A formula of one's own as a family of references: :math:`f(t, x;\, \theta)` with named parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.bridges.references.family import LearnableReference, ReferenceFamily, Units
from gendyn.bridges.references.parametric import ParametricReference
from gendyn.data import Snapshots
from gendyn.randomness import Seed

__all__ = ["Custom"]

Formula = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Custom(ReferenceFamily):
    r"""A drift from a function of time, state and named parameters; a model with it cannot be saved.

    Parameters
    ----------
    drift
        ``drift(t, x, **parameters) -> (n, d)`` in torch, for a 0-dimensional time or times ``(n, 1)``; rows must not
        influence each other.
    parameters
        Where each parameter starts: a number or a sequence of numbers, in the units of the data.
    positive
        Names of those that must be positive.
    jacobian
        ``jacobian(t, x, **parameters) -> (n, d, d)``; by default the derivative of the drift.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Raises
    ------
    TypeError
        If the drift is no function.
    ValueError
        If a start is not finite, or not positive where it must be; or a positive name is no parameter.

    Examples
    --------
    >>> def logistic(t, x, rate, capacity):
    ...     return rate * x * (1 - x / capacity)
    >>> family = Custom(logistic, {"rate": 1.0, "capacity": 5.0}, positive=("rate", "capacity"))
    >>> data = Snapshots([0.0, 1.0], [torch.ones(5, 1), 2 * torch.ones(5, 1)])
    >>> round(family.start(data).drift(torch.tensor(0.0), torch.full((1, 1), 2.5)).item(), 6)
    1.25
    """

    drift: Formula
    parameters: Mapping[str, float | Sequence[float] | Tensor]
    positive: tuple[str, ...] = ()
    jacobian: Formula | None = None

    name: ClassVar[str] = "custom"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.drift):
            raise TypeError(f"drift must be a function drift(t, x, **parameters); got {type(self.drift).__name__}")
        starts = {name: torch.as_tensor(value, dtype=torch.float64).detach() for name, value in self.parameters.items()}
        object.__setattr__(self, "parameters", starts)
        object.__setattr__(self, "positive", tuple(self.positive))
        for name in self.positive:
            if name not in starts:
                raise ValueError(f"positive names {name!r}, but the parameters are {', '.join(starts) or 'none'}")
        for name, start in starts.items():
            if name == "sigma" or not name.isidentifier():
                raise ValueError(f"a parameter cannot be called {name!r}; sigma is the noise, and others are names")
            if not bool(torch.isfinite(start).all()):
                raise ValueError(f"parameter {name} must start from finite numbers; got {start.tolist()}")
            if name in self.positive and not bool((start > 0).all()):
                raise ValueError(f"parameter {name} must be positive; got {start.tolist()}")

    def _reference(self, dim: int, seed: int) -> _Formula:
        starts = self._starts()
        shapes = {name: tuple(start.shape) for name, start in starts.items()}
        return _Formula(self, dim, shapes, frozenset(self.positive))

    def _starts(self) -> dict[str, Tensor]:
        return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in self.parameters.items()}

    def start(self, data: Snapshots, seed: Seed = 0) -> LearnableReference:
        """Return a reference at the start values; see the base.

        Raises
        ------
        ValueError
            If the drift does not have the shape of the states.
        """
        reference = super().start(data, seed)
        x = data.samples[0][:2].to(torch.float64)
        with torch.no_grad():
            shape = tuple(reference.drift(data.times[0].to(x), x).shape)
        if shape != tuple(x.shape):
            raise ValueError(f"the drift must have the shape of the states, {tuple(x.shape)}; got {shape}")
        return reference


class _Formula(ParametricReference):
    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        assert isinstance(self.family, Custom)
        self.set_values(self.family._starts())

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        assert isinstance(self.family, Custom)
        return self.family.drift(t, x, **self.values())

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.family, Custom)
        if self.family.jacobian is None:
            return super()._drift_and_jacobian(t, x)
        return self._drift(t, x), self.family.jacobian(t, x, **self.values())
