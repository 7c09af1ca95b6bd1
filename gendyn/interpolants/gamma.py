r"""Amplitudes of the latent noise of an interpolant.

They are the functions :math:`\gamma(t)` in

.. math:: x_t = \alpha(t)\, x_0 + \beta(t)\, x_1 + \gamma(t)\, z, \qquad
    \gamma(0) = \gamma(1) = 0, \quad \gamma > 0 \text{ between}.

The Brownian amplitude :math:`\sqrt{a\,t(1-t)}` has a derivative that diverges at both ends, where the product
:math:`\gamma \dot\gamma = a(1 - 2t)/2` is finite. Every amplitude therefore gives that product in closed form, and
whatever needs :math:`\gamma\dot\gamma` takes it from there (Albergo, Boffi and Vanden-Eijnden 2023).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["GAMMAS", "Brownian", "Gamma", "Quadratic", "Sigmoid", "SineSquared", "Zero", "get_gamma"]


class Gamma(ABC):
    """An amplitude, its derivative, and their product; times ``t`` of any shape, results of the same shape."""

    @abstractmethod
    def value(self, t: Tensor) -> Tensor:
        r"""Return :math:`\gamma(t)`."""

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        r"""Return :math:`\dot\gamma(t)`; infinite where it diverges."""

    def product(self, t: Tensor) -> Tensor:
        r"""Return :math:`\gamma(t)\dot\gamma(t)`, finite everywhere."""
        return self.value(t) * self.rate(t)


@dataclass(frozen=True)
class Brownian(Gamma):
    r""":math:`\sqrt{a\,t(1-t)}`, the standard deviation of a Brownian bridge of variance ``a`` per unit of time.

    With ``a=2``, straight lines and independent, whitened data the covariance of :math:`x_t` stays the unit matrix.

    Raises
    ------
    ValueError
        If ``a`` is not positive.

    Examples
    --------
    >>> Brownian().product(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0.5, 0.0, -0.5]
    """

    a: float = 1.0

    def __post_init__(self) -> None:
        if not self.a > 0:
            raise ValueError(f"the variance a of a Brownian amplitude must be positive; got {self.a}")

    def value(self, t: Tensor) -> Tensor:
        r"""Return :math:`\sqrt{a\,t(1-t)}`."""
        return (self.a * t * (1 - t)).clamp_min(0).sqrt()

    def rate(self, t: Tensor) -> Tensor:
        r"""Return :math:`a(1 - 2t)/(2\gamma)`."""
        return self.product(t) / self.value(t)

    def product(self, t: Tensor) -> Tensor:
        r"""Return :math:`a(1 - 2t)/2`."""
        return self.a * (1 - 2 * t) / 2


@dataclass(frozen=True)
class Quadratic(Gamma):
    """:math:`t(1-t)`.

    Examples
    --------
    >>> Quadratic().value(torch.tensor(0.5)).item()
    0.25
    """

    def value(self, t: Tensor) -> Tensor:
        """Return :math:`t(1-t)`."""
        return t * (1 - t)

    def rate(self, t: Tensor) -> Tensor:
        """Return :math:`1 - 2t`."""
        return 1 - 2 * t


@dataclass(frozen=True)
class SineSquared(Gamma):
    r""":math:`\sin^2(\pi t)`.

    Examples
    --------
    >>> SineSquared().value(torch.tensor(0.5)).item()
    1.0
    """

    def value(self, t: Tensor) -> Tensor:
        r"""Return :math:`\sin^2(\pi t)`."""
        return torch.sin(math.pi * t) ** 2

    def rate(self, t: Tensor) -> Tensor:
        r"""Return :math:`\pi \sin(2\pi t)`."""
        return math.pi * torch.sin(2 * math.pi * t)


@dataclass(frozen=True)
class Sigmoid(Gamma):
    r"""A bump of two logistic functions: :math:`S(f(t-\tfrac12)+1) - S(f(t-\tfrac12)-1)` minus its value at the ends.

    Raises
    ------
    ValueError
        If the steepness ``f`` is not positive.

    Examples
    --------
    >>> round(Sigmoid().value(torch.tensor(0.5)).item(), 4)
    0.4466
    """

    f: float = 10.0

    def __post_init__(self) -> None:
        if not self.f > 0:
            raise ValueError(f"the steepness f of a sigmoid amplitude must be positive; got {self.f}")

    def value(self, t: Tensor) -> Tensor:
        """Return the bump."""
        u = self.f * (t - 0.5)
        end = torch.as_tensor(self.f / 2, dtype=t.dtype, device=t.device)
        return torch.sigmoid(u + 1) - torch.sigmoid(u - 1) - torch.sigmoid(1 - end) + torch.sigmoid(-1 - end)

    def rate(self, t: Tensor) -> Tensor:
        """Return its derivative."""
        up, down = torch.sigmoid(self.f * (t - 0.5) + 1), torch.sigmoid(self.f * (t - 0.5) - 1)
        return self.f * (up * (1 - up) - down * (1 - down))


@dataclass(frozen=True)
class Zero(Gamma):
    """No latent noise: the interpolant of flow matching, which defines a velocity but no score.

    Examples
    --------
    >>> Zero().value(torch.tensor(0.5)).item()
    0.0
    """

    def value(self, t: Tensor) -> Tensor:
        """Return zero."""
        return torch.zeros_like(t)

    def rate(self, t: Tensor) -> Tensor:
        """Return zero."""
        return torch.zeros_like(t)


GAMMAS: Mapping[str, type[Gamma]] = MappingProxyType(
    {"brownian": Brownian, "quadratic": Quadratic, "sin2": SineSquared, "sigmoid": Sigmoid, "zero": Zero}
)
"""Name to class; a new amplitude joins by a line here."""


def get_gamma(gamma: str | tuple[str, float] | Gamma) -> Gamma:
    """Return an amplitude by name, or by name and parameter; an amplitude is returned as it is.

    Raises
    ------
    ValueError
        If there is none of that name, or it takes no parameter; the sentence lists what there is.

    Examples
    --------
    >>> get_gamma("brownian"), get_gamma(("brownian", 2.0))
    (Brownian(a=1.0), Brownian(a=2.0))
    """
    if isinstance(gamma, Gamma):
        return gamma
    name, parameters = (gamma, ()) if isinstance(gamma, str) else (gamma[0], tuple(gamma[1:]))
    if name not in GAMMAS:
        raise ValueError(f"there is no gamma {name!r}; there are {', '.join(GAMMAS)}")
    if len(parameters) > len(fields(GAMMAS[name])):  # type: ignore[arg-type]
        raise ValueError(f"gamma {name!r} takes no parameter; got {parameters[0]}")
    return GAMMAS[name](*parameters)
