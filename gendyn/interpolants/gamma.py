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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["GAMMAS", "Bridge", "Brownian", "Gamma", "Quadratic", "Sigmoid", "SineSquared", "Zero", "get_gamma"]


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


class Bridge(Gamma):
    r"""The standard deviation of a bridge of :math:`dX = g(t)\,dW`, whose diffusion changes with time.

    With the variance :math:`F(t) = \int_0^t g^2` that the free process has gathered, the bridge between two points is

    .. math:: x_0 + (x_1 - x_0)\,\tfrac{F(t)}{F(1)} + \gamma(t) z, \qquad
        \gamma^2 = F - \frac{F^2}{F(1)}, \qquad
        \gamma\dot\gamma = \frac{g^2}{2}\Bigl(1 - \frac{2F}{F(1)}\Bigr).

    Parameters
    ----------
    *diffusion
        g at evenly spaced times from 0 to 1, straight between them; one number is a constant :math:`\sigma`, for which
        the amplitude is ``Brownian(sigma**2)``, and none is one. This is a diffusion: :math:`g^2 = 2\epsilon`.

    Raises
    ------
    ValueError
        If a number is not positive and finite.

    Examples
    --------
    >>> falling = Bridge(2.0, 1.0)
    >>> round(falling.total, 6), falling.progress(torch.tensor([0.0, 1.0])).tolist()
    (2.333333, [0.0, 1.0])
    """

    def __init__(self, *diffusion: float) -> None:
        values = [float(g) for g in diffusion] or [1.0]
        if not all(0 < g < math.inf for g in values):
            raise ValueError(f"the diffusion of a bridge must be positive and finite numbers; got {diffusion}")
        self.diffusion = tuple(values)
        grid = torch.tensor(values if len(values) > 1 else values * 2, dtype=torch.float64)
        self._first, self._slope = grid[:-1], grid.diff()
        # g^2 is a parabola in each of the equal intervals; its integral is known.
        parts = (grid[:-1] ** 2 + grid[:-1] * grid[1:] + grid[1:] ** 2) / (3 * len(self._slope))
        self._gathered = torch.cat([parts.new_zeros(1), parts.cumsum(0)])

    @property
    def total(self) -> float:
        """The variance F(1) that the free process gathers."""
        return float(self._gathered[-1])

    def squared_diffusion(self, t: Tensor) -> Tensor:
        """Return :math:`g(t)^2`."""
        return self._at(t)[0].to(t.dtype)

    def progress(self, t: Tensor) -> Tensor:
        """Return :math:`F(t)/F(1)`, from 0 to 1."""
        return (self._at(t)[1] / self.total).to(t.dtype)

    def value(self, t: Tensor) -> Tensor:
        r"""Return :math:`\sqrt{F - F^2/F(1)}`."""
        gathered = self._at(t)[1]
        return (gathered * (1 - gathered / self.total)).clamp_min(0).sqrt().to(t.dtype)

    def rate(self, t: Tensor) -> Tensor:
        r"""Return :math:`g^2(1 - 2F/F(1))/(2\gamma)`."""
        return self.product(t) / self.value(t)

    def product(self, t: Tensor) -> Tensor:
        r"""Return :math:`g^2(1 - 2F/F(1))/2`."""
        squared, gathered = self._at(t)
        return (0.5 * squared * (1 - 2 * gathered / self.total)).to(t.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bridge) and self.diffusion == other.diffusion

    def __hash__(self) -> int:
        return hash(self.diffusion)

    def __repr__(self) -> str:
        return f"Bridge({', '.join(map(repr, self.diffusion))})"

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the squared diffusion and the gathered variance, float64."""
        count = len(self._slope)
        exact = t.to(torch.float64).clamp(0.0, 1.0) * count
        k = exact.detach().floor().long().clamp(max=count - 1)
        u = exact - k
        first, slope, gathered = (table.to(t.device)[k] for table in (self._first, self._slope, self._gathered[:-1]))
        inside = first**2 * u + first * slope * u**2 + slope**2 * u**3 / 3
        return (first + slope * u) ** 2, gathered + inside / count


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
    {
        "brownian": Brownian,
        "bridge": Bridge,
        "quadratic": Quadratic,
        "sin2": SineSquared,
        "sigmoid": Sigmoid,
        "zero": Zero,
    }
)
"""Name to class; a new amplitude joins by a line here."""


def get_gamma(gamma: str | tuple[str | float, ...] | Gamma) -> Gamma:
    """Return an amplitude by name, or by name and parameters; an amplitude is returned as it is.

    Raises
    ------
    ValueError
        If there is none of that name, or it takes fewer parameters; the sentence lists what there is.

    Examples
    --------
    >>> get_gamma("brownian"), get_gamma(("brownian", 2.0))
    (Brownian(a=1.0), Brownian(a=2.0))
    """
    if isinstance(gamma, Gamma):
        return gamma
    name, parameters = (gamma, ()) if isinstance(gamma, str) else (str(gamma[0]), tuple(gamma[1:]))
    if name not in GAMMAS:
        raise ValueError(f"there is no gamma {name!r}; there are {', '.join(GAMMAS)}")
    kind: Callable[..., Gamma] = GAMMAS[name]
    taken = getattr(kind, "__dataclass_fields__", None)
    if taken is not None and len(parameters) > len(taken):
        raise ValueError(f"gamma {name!r} takes {len(taken) or 'no'} parameter; got {', '.join(map(str, parameters))}")
    return kind(*parameters)
