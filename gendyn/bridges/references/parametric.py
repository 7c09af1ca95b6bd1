r"""References whose drift is a formula with named parameters.

A parameter that must be positive is :math:`e^{\rho}`, any other :math:`o + u\rho`, with :math:`\rho` what is optimised,
and origin :math:`o` and unit :math:`u` constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Real

import torch
from torch import Tensor, nn

from gendyn.bridges.references.family import LearnableReference, ReferenceFamily

__all__ = ["ParametricReference", "check_starts"]

_TRIFLE = 1e-12
"""What a positive parameter is raised to where a linear solve finds it negative."""


class ParametricReference(LearnableReference):
    """A reference with named parameters, numbers or short tensors.

    Parameters
    ----------
    family, dim
        As for the base.
    shapes
        Shape of every parameter by name.
    positive
        Names of those that are positive.
    """

    def __init__(
        self, family: ReferenceFamily, dim: int, shapes: Mapping[str, tuple[int, ...]], positive: frozenset[str]
    ) -> None:
        super().__init__(family, dim)
        self.positive = positive | {"sigma"}
        self.raw = nn.ParameterDict()
        for name, shape in shapes.items():
            # One by one: from a whole dictionary it would sort them.
            self.raw[name] = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
            if name not in positive:
                self.register_buffer(f"origin_{name}", torch.zeros(shape, dtype=torch.float64))
                self.register_buffer(f"unit_{name}", torch.ones((), dtype=torch.float64))

    def values(self) -> dict[str, Tensor]:
        """Return the parameters of the drift by name, with gradients."""
        return {
            name: raw.exp()
            if name in self.positive
            else torch.addcmul(getattr(self, f"origin_{name}"), getattr(self, f"unit_{name}"), raw)
            for name, raw in self.raw.items()
        }

    def coefficients(self) -> dict[str, Tensor]:
        """Return the parameters by name in the units of the data, with gradients; ``sigma`` is the last."""
        return self.values() | super().coefficients()

    @torch.no_grad()
    def set_values(
        self,
        values: Mapping[str, float | Tensor],
        units: Mapping[str, float] | None = None,
        origins: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Set parameters by name, and the units and origins of those that may have any sign."""
        for name, unit in (units or {}).items():
            getattr(self, f"unit_{name}").fill_(unit)
        for name, origin in (origins or {}).items():
            getattr(self, f"origin_{name}").copy_(origin)
        for name, value in values.items():
            number = torch.as_tensor(value, dtype=torch.float64, device=self.log_sigma.device)
            if name in self.positive:
                self.raw[name].copy_(number.clamp_min(_TRIFLE).log())
            else:
                self.raw[name].copy_((number - getattr(self, f"origin_{name}")) / getattr(self, f"unit_{name}"))


def check_starts(family: ReferenceFamily, positive: frozenset[str], free: tuple[str, ...] = ()) -> None:
    """Refuse start values that are given and not finite numbers, or not positive where they must be.

    Raises
    ------
    TypeError
        If a value is no number.
    ValueError
        If it is not finite, or out of its range.
    """
    for field in fields(family):
        if field.name not in positive and field.name not in free:
            continue
        given = getattr(family, field.name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is None:
                continue
            who = f"{type(family).__name__}: {field.name}"
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{who} must be a number, or None to start from the data; got {type(value).__name__}")
            if not math.isfinite(value):
                raise ValueError(f"{who} must be finite; got {value}")
            if field.name in positive and value <= 0:
                raise ValueError(f"{who} must be positive; got {value}")
