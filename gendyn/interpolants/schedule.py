r"""Schedules: the coefficients of a spatially linear interpolant between two laws.

Between :math:`x_0 \sim \rho_0` at t=0 and :math:`x_1 \sim \rho_1` at t=1,

.. math:: x_t = \alpha(t)\, x_0 + \beta(t)\, x_1 + \gamma(t)\, z, \qquad z \sim \mathcal{N}(0, I),

with :math:`\alpha(0) = \beta(1) = 1` and :math:`\alpha(1) = \beta(0) = \gamma(0) = \gamma(1) = 0`. Three kinds:

- two-sided: both ends are data, the latent noise :math:`\gamma z` is added between them;
- one-sided: :math:`x_0` is itself standard Gaussian noise, :math:`\alpha` plays the part of :math:`\gamma`, and no
  other noise is added;
- mirror: :math:`\rho_0 = \rho_1`, :math:`x_t = x_1 + \gamma(t) z`.

(Albergo, Boffi and Vanden-Eijnden 2023.)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gendyn.interpolants.gamma import Bridge, Gamma, SineSquared, Zero, get_gamma

__all__ = [
    "SCHEDULES",
    "BridgeSchedule",
    "Coefficients",
    "CustomSchedule",
    "EncodeDecode",
    "GammaOption",
    "Linear",
    "Mirror",
    "OneSidedLinear",
    "OneSidedTrigonometric",
    "OneSidedVariancePreserving",
    "Schedule",
    "Sides",
    "Trigonometric",
    "VariancePreservingTrigonometric",
    "get_schedule",
]

Sides = Literal["two-sided", "one-sided", "mirror"]

Function = Callable[[Tensor], Tensor]
GammaOption = str | tuple[str | float, ...] | Gamma


class Coefficients(NamedTuple):
    """What a schedule is at some times; every entry has the shape of the times."""

    alpha: Tensor
    beta: Tensor
    gamma: Tensor
    alpha_rate: Tensor
    beta_rate: Tensor
    gamma_rate: Tensor
    """Infinite where it diverges; use ``gamma_product`` wherever it is multiplied by ``gamma``."""
    gamma_product: Tensor
    """``gamma`` times ``gamma_rate``, finite everywhere."""


class Schedule(ABC):
    """The coefficients of an interpolant as functions of time.

    Parameters
    ----------
    gamma
        Amplitude of the latent noise: its name, see :data:`gendyn.interpolants.gamma.GAMMAS`, name and parameter, or
        an object.
    """

    sides: Sides = "two-sided"
    linear = True
    """Whether the ends enter linearly, with coefficients."""

    def __init__(self, gamma: GammaOption = "brownian") -> None:
        self.gamma = get_gamma(gamma)

    @abstractmethod
    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""

    def at(self, t: Tensor) -> Coefficients:
        """Return all coefficients at times ``t`` of any shape.

        Examples
        --------
        >>> Linear().at(torch.tensor(0.25)).alpha.item()
        0.75
        """
        alpha, beta, alpha_rate, beta_rate = self.means(t)
        amplitude = self.gamma
        return Coefficients(
            alpha, beta, amplitude.value(t), alpha_rate, beta_rate, amplitude.rate(t), amplitude.product(t)
        )

    def path(self, t: Tensor, c: Coefficients, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the path between ends ``(B, d)`` and its derivative, at times with these coefficients."""
        return c.alpha * x0 + c.beta * x1, c.alpha_rate * x0 + c.beta_rate * x1

    @property
    def has_score(self) -> bool:
        """Whether every intermediate law is smooth, so that its score is defined."""
        return self.sides == "one-sided" or not isinstance(self.gamma, Zero)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'' if self.sides == 'one-sided' else self.gamma})"


class Linear(Schedule):
    """Straight lines: ``alpha = 1 - t``, ``beta = t``.

    Examples
    --------
    >>> Linear("zero")
    Linear(Zero())
    """

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        return 1 - t, t, -torch.ones_like(t), torch.ones_like(t)


class BridgeSchedule(Schedule):
    r"""The bridge of a diffusion g(t): :math:`\beta = F(t)/F(1)`, :math:`\alpha = 1 - \beta`, :math:`F = \int_0^t g^2`.

    Ends joined by the entropic plan of squared cost with regularisation :math:`2F(1)` make its laws those of the
    Schroedinger bridge of :math:`dX = g\,dW`, which is the diffusion of its fields with :math:`\epsilon = g^2/2`.

    Raises
    ------
    ValueError
        If the amplitude is not that of a bridge.

    Examples
    --------
    >>> BridgeSchedule(("bridge", 2.0, 1.0)).at(torch.tensor(0.5)).beta.item()
    0.6607142686843872
    """

    gamma: Bridge

    def __init__(self, gamma: GammaOption = ("bridge", 1.0)) -> None:
        super().__init__(gamma)
        if not isinstance(self.gamma, Bridge):
            raise ValueError(f"a bridge has the amplitude of its diffusion, such as ('bridge', 1.0); got {self.gamma}")

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        beta = self.gamma.progress(t)
        rate = self.gamma.squared_diffusion(t) / self.gamma.total
        return 1 - beta, beta, -rate, rate


class Trigonometric(Schedule):
    r"""A quarter circle: :math:`\alpha = \cos(\pi t/2)`, :math:`\beta = \sin(\pi t/2)`.

    Examples
    --------
    >>> c = Trigonometric("zero").at(torch.tensor(0.3))
    >>> round((c.alpha**2 + c.beta**2).item(), 6)
    1.0
    """

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        half = math.pi / 2
        alpha, beta = torch.cos(half * t), torch.sin(half * t)
        return alpha, beta, -half * beta, half * alpha


class VariancePreservingTrigonometric(Schedule):
    r"""A quarter circle that leaves room for the noise: :math:`\alpha^2 + \beta^2 + \gamma^2 = 1`.

    Raises
    ------
    ValueError
        If the amplitude reaches 1.

    Examples
    --------
    >>> c = VariancePreservingTrigonometric().at(torch.tensor(0.3))
    >>> round((c.alpha**2 + c.beta**2 + c.gamma**2).item(), 6)
    1.0
    """

    def __init__(self, gamma: GammaOption = "brownian") -> None:
        super().__init__(gamma)
        peak = float(self.gamma.value(torch.linspace(0, 1, 1001, dtype=torch.float64)).max())
        if peak >= 1 - 1e-12:
            raise ValueError(f"a variance-preserving schedule needs gamma below 1; {self.gamma} reaches {peak:g}")

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        half = math.pi / 2
        cosine, sine = torch.cos(half * t), torch.sin(half * t)
        left = (1 - self.gamma.value(t) ** 2).sqrt()
        left_rate = -self.gamma.product(t) / left
        return (
            left * cosine,
            left * sine,
            left_rate * cosine - half * left * sine,
            left_rate * sine + half * left * cosine,
        )


class EncodeDecode(Schedule):
    r"""Data to pure noise and back: :math:`\cos^2(\pi t)` for the first end before t=1/2 and for the second after it.

    The latent noise must not vanish at t=1/2, where nothing else is left.

    Raises
    ------
    ValueError
        If the amplitude is zero.

    Examples
    --------
    >>> EncodeDecode().at(torch.tensor(0.25)).beta.item()
    0.0
    """

    def __init__(self, gamma: GammaOption = "sin2") -> None:
        super().__init__(gamma)
        if isinstance(self.gamma, Zero):
            raise ValueError(
                "encode-decode needs gamma above zero: without it the law collapses to a point at t=0.5; "
                f"use {SineSquared()}"
            )

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        bell, slope = torch.cos(math.pi * t) ** 2, -math.pi * torch.sin(2 * math.pi * t)
        first, second = (t < 0.5).to(t.dtype), (t > 0.5).to(t.dtype)
        return first * bell, second * bell, first * slope, second * slope


class _OneSided(Schedule):
    """The first end is standard Gaussian noise."""

    sides: Sides = "one-sided"

    def __init__(self) -> None:
        super().__init__(Zero())


class OneSidedLinear(_OneSided):
    """From noise by straight lines: ``alpha = 1 - t``, ``beta = t``.

    Examples
    --------
    >>> OneSidedLinear().has_score
    True
    """

    means = Linear.means


class OneSidedTrigonometric(_OneSided):
    r"""From noise along a quarter circle: :math:`\alpha = \cos(\pi t/2)`, :math:`\beta = \sin(\pi t/2)`.

    Examples
    --------
    >>> OneSidedTrigonometric().sides
    'one-sided'
    """

    means = Trigonometric.means


class OneSidedVariancePreserving(_OneSided):
    r"""From noise with :math:`\alpha = \sqrt{1 - t^2}`, :math:`\beta = t`; the derivative of alpha diverges at t=1.

    Examples
    --------
    >>> OneSidedVariancePreserving().at(torch.tensor(0.6)).alpha.item()
    0.800000011920929
    """

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        alpha = (1 - t * t).clamp_min(0).sqrt()
        return alpha, t, -t / alpha, torch.ones_like(t)


class Mirror(Schedule):
    r"""Both ends are the same law: :math:`x_t = x_1 + \gamma(t) z`.

    The flow of its velocity is the identity; its diffusion resamples the data.

    Raises
    ------
    ValueError
        If the amplitude is zero.

    Examples
    --------
    >>> Mirror().at(torch.tensor(0.3)).beta.item()
    1.0
    """

    sides: Sides = "mirror"

    def __init__(self, gamma: GammaOption = "brownian") -> None:
        super().__init__(gamma)
        if isinstance(self.gamma, Zero):
            raise ValueError("a mirror interpolant needs gamma above zero: without it nothing moves")

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        nothing = torch.zeros_like(t)
        return nothing, torch.ones_like(t), nothing, nothing


class CustomSchedule(Schedule):
    """A schedule of the user's own functions.

    Parameters
    ----------
    alpha, beta
        Functions of times of any shape; their derivatives are taken by autograd.
    gamma
        Amplitude of the latent noise.
    validate
        Check the values at both ends.

    Raises
    ------
    ValueError
        If alpha or beta does not begin or end where it must.

    Examples
    --------
    >>> smooth = CustomSchedule(lambda t: 1 - t**2 * (3 - 2 * t), lambda t: t**2 * (3 - 2 * t), "zero")
    >>> smooth.at(torch.tensor(0.5)).beta_rate.item()
    1.5
    """

    def __init__(
        self, alpha: Function, beta: Function, gamma: GammaOption = "brownian", *, validate: bool = True
    ) -> None:
        super().__init__(gamma)
        self._alpha, self._beta = alpha, beta
        if not validate:
            return
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        for name, function, wanted in (("alpha", alpha, (1.0, 0.0)), ("beta", beta, (0.0, 1.0))):
            found = function(ends)
            if not torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), atol=1e-6):
                raise ValueError(
                    f"{name} must be {wanted[0]:g} at t=0 and {wanted[1]:g} at t=1; "
                    f"got {float(found[0]):g} and {float(found[1]):g}"
                )

    def means(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return alpha, beta and their derivatives at ``t``."""
        alpha, alpha_rate = _with_rate(self._alpha, t)
        beta, beta_rate = _with_rate(self._beta, t)
        return alpha, beta, alpha_rate, beta_rate


SCHEDULES: Mapping[str, type[Schedule]] = MappingProxyType(
    {
        "linear": Linear,
        "bridge": BridgeSchedule,
        "trigonometric": Trigonometric,
        "variance-preserving-trigonometric": VariancePreservingTrigonometric,
        "encode-decode": EncodeDecode,
        "one-sided-linear": OneSidedLinear,
        "one-sided-trigonometric": OneSidedTrigonometric,
        "one-sided-variance-preserving": OneSidedVariancePreserving,
        "mirror": Mirror,
    }
)
"""Name to class; a new schedule joins by a line here."""


def get_schedule(schedule: str | Schedule, gamma: GammaOption | None = None) -> Schedule:
    """Return a schedule by name; an object is returned as it is.

    Parameters
    ----------
    schedule
        A name of :data:`SCHEDULES`, or an object.
    gamma
        Amplitude of the latent noise; by default the schedule's own.

    Raises
    ------
    ValueError
        If there is none of that name, or a gamma is given where there is none to choose.

    Examples
    --------
    >>> get_schedule("trigonometric", "quadratic")
    Trigonometric(Quadratic())
    """
    if isinstance(schedule, Schedule):
        if gamma is not None:
            raise ValueError(f"{schedule} has its own gamma; leave gamma out, or name a schedule")
        return schedule
    if schedule not in SCHEDULES:
        raise ValueError(f"there is no schedule {schedule!r}; there are {', '.join(SCHEDULES)}")
    kind = SCHEDULES[schedule]
    if gamma is None:
        return kind()
    if kind.sides == "one-sided":
        raise ValueError(
            f"schedule {schedule!r} is one-sided: its alpha is the amplitude of the noise; leave gamma out"
        )
    return kind(gamma)


def _with_rate(function: Function, t: Tensor) -> tuple[Tensor, Tensor]:
    value, rate = torch.autograd.functional.jvp(function, t, torch.ones_like(t))  # type: ignore[no-untyped-call]
    return value, rate
