"""What an emission is: how looks arise from states, and which numbers of that are estimated."""

from __future__ import annotations

from typing import Protocol, Self

from torch import Tensor

from gendyn.mjp.observations import StateObservations

__all__ = ["Emission"]


class Emission(Protocol):
    """How looks arise from states."""

    @property
    def emission(self) -> Tensor:
        """The numbers themselves, as a likelihood takes them."""
        ...

    @property
    def n_free(self) -> int:
        """Number of unknowns."""
        ...

    @property
    def certain(self) -> bool:
        """Whether looks show the state itself."""
        ...

    def density(self, seen: StateObservations, emission: Tensor) -> Tensor:
        """Return how likely each look is in each state, ``(K, L, S)``."""
        ...

    def updated(self, counts: Tensor) -> Self:
        """Return the likeliest emission given ``emission * d(log-likelihood)/d(emission)``, or the same one."""
        ...

    def free(self) -> Tensor:
        """Return the unknowns, without bounds."""
        ...

    def with_free(self, free: Tensor) -> Self:
        """Return the emission for unknowns; differentiable."""
        ...
