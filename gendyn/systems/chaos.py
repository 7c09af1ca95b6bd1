r"""Chaotic flows: deterministic motion that nobody can predict for long, with noise on every coordinate if asked.

.. math:: dX = f(X)\,dt + \sigma\,dW

Nearby states part at the rate of the largest Lyapunov exponent, while volumes shrink at the mean divergence of
:math:`f`, which is the sum of all exponents. Averages along a path of what the generator makes of any function vanish:
with :math:`f(x) = x_i`, the mean of the i-th right-hand side is zero, which gives each flow exact relations
between its averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_normal

__all__ = ["ChaoticFlow", "Halvorsen", "HyperRoessler", "Lorenz96", "Roessler", "Thomas"]


@dataclass(frozen=True)
class ChaoticFlow:
    r"""What chaotic flows have in common: noise of one size on each coordinate, or none.

    Parameters
    ----------
    volatility
        :math:`\sigma`, state units per square root of time; zero is deterministic.

    Raises
    ------
    ValueError
        If it is negative or not finite.
    """

    volatility: float = field(default=0.0, kw_only=True)

    calculus: ClassVar[Calculus] = "ito"
    period: ClassVar[float]
    """The dominant time scale."""

    def __post_init__(self) -> None:
        check_non_negative(self, ["volatility"])

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return ("x", "y", "z")

    @property
    def noise_type(self) -> NoiseType:
        """``none``, or ``additive`` with a volatility."""
        return "additive" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """0, or d with a volatility."""
        return self.dim if self.volatility else 0

    @property
    def times(self) -> tuple[float, ...]:
        """Thirty times in each of seven periods."""
        return tuple(self.period * k / 30 for k in range(211))

    @property
    def time_step(self) -> float:
        """A three-hundredth of a period."""
        return self.period / 300

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the volatility times the identity, shape ``(d, d)``."""
        return self.volatility * torch.eye(self.dim, dtype=x.dtype, device=x.device)


@dataclass(frozen=True)
class Lorenz96(ChaoticFlow):
    r"""Lorenz 1996: a ring of sites with weather going round.

    .. math:: \dot x_i = (x_{i+1} - x_{i-2})\, x_{i-1} - x_i + F

    The quadratic part conserves :math:`\sum x_i^2`, so averages obey :math:`\langle x^2 \rangle = F \langle x \rangle`
    exactly; the divergence is :math:`-d`. Lorenz (1996).

    Parameters
    ----------
    sites
        :math:`d`, at least 4.
    forcing
        :math:`F`; chaos above about 5 for many sites. The default has a largest exponent of 1.7 per time unit.

    Raises
    ------
    ValueError
        If there are fewer than 4 sites, or a parameter is out of its range.

    Examples
    --------
    >>> Lorenz96(sites=4).drift(torch.tensor(0.0), torch.full((1, 4), 8.0)).tolist()
    [[0.0, 0.0, 0.0, 0.0]]
    """

    sites: int = 40
    forcing: float = 8.0

    period: ClassVar[float] = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_finite(self, ["forcing"])
        if check_count("Lorenz96: sites", self.sites) < 4:
            raise ValueError(f"Lorenz96: sites must be at least 4; got {self.sites}")

    @property
    def names(self) -> tuple[str, ...]:
        """``x1 ... xd``."""
        return tuple(f"x{i + 1}" for i in range(self.sites))

    @property
    def divergence(self) -> float:
        """Rate of change of log volume, the sum of the Lyapunov exponents, per time unit."""
        return -float(self.sites)

    @property
    def equilibrium(self) -> float:
        """The level F of every site at which the ring rests."""
        return float(self.forcing)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the right-hand sides, shape ``(B, d)``."""
        return (x.roll(-1, -1) - x.roll(2, -1)) * x.roll(1, -1) - x + self.forcing

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states around rest with deviation 1, shape ``(n, d)``."""
        return draw_normal((self.equilibrium,) * self.sites, 1.0, check_count("n", n), seed, dtype)


@dataclass(frozen=True)
class Roessler(ChaoticFlow):
    r"""Roessler 1976: a spiral that folds back on itself.

    .. math:: \dot x = -y - z, \qquad \dot y = x + a y, \qquad \dot z = b + z (x - c)

    Averages obey :math:`\langle y \rangle = -\langle z \rangle` and
    :math:`\langle x \rangle = a \langle z \rangle`. For the defaults the largest exponent is 0.07 per time unit.

    Parameters
    ----------
    spiral
        :math:`a`.
    lift
        :math:`b`.
    fold
        :math:`c`.

    Examples
    --------
    >>> [round(level, 4) for level in Roessler().equilibria[0]]
    [0.007, -0.0351, 0.0351]
    """

    spiral: float = 0.2
    lift: float = 0.2
    fold: float = 5.7

    period: ClassVar[float] = 5.9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["spiral", "lift", "fold"])

    @property
    def equilibria(self) -> list[tuple[float, float, float]]:
        """The two points of rest, or none."""
        root = self.fold**2 - 4 * self.spiral * self.lift
        if root < 0:
            return []
        levels = [(self.fold + sign * math.sqrt(root)) / (2 * self.spiral) for sign in (-1, 1)]
        return [(self.spiral * z, -z, z) for z in levels]

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the right-hand sides, shape ``(B, 3)``."""
        a, b, c = x.unbind(-1)
        return torch.stack([-b - c, a + self.spiral * b, self.lift + c * (a - self.fold)], -1)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states beside the attractor, shape ``(n, 3)``."""
        return draw_normal((6.5, 0.5, 0.3), 0.5, check_count("n", n), seed, dtype)


@dataclass(frozen=True)
class Thomas(ChaoticFlow):
    r"""Thomas 1999: a walk through a lattice of feedback loops, the same in all three directions.

    .. math:: \dot x = -a x + b \sin y, \qquad \dot y = -a y + b \sin z, \qquad \dot z = -a z + b \sin x

    The divergence is :math:`-3a`.

    Parameters
    ----------
    damping
        :math:`a`, per time unit.
    feedback
        :math:`b`, per time unit.

    Examples
    --------
    >>> round(Thomas().divergence, 2)
    -5.55
    """

    damping: float = 1.85
    feedback: float = 10.0

    period: ClassVar[float] = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["damping", "feedback"])

    @property
    def divergence(self) -> float:
        """Rate of change of log volume, the sum of the Lyapunov exponents, per time unit."""
        return -3 * self.damping

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the right-hand sides, shape ``(B, 3)``."""
        return self.feedback * x.roll(-1, -1).sin() - self.damping * x

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states with deviation 2 around 0, the size of the attractor, shape ``(n, 3)``."""
        return draw_normal((0.0, 0.0, 0.0), 2.0, check_count("n", n), seed, dtype)


@dataclass(frozen=True)
class Halvorsen(ChaoticFlow):
    r"""Halvorsen's flow: three equations that are one.

    .. math:: \dot x = -a x - b y - b z - y^2

    and so on round the three coordinates. The divergence is :math:`-3a`, and averages obey
    :math:`\langle y^2 \rangle = -(a + 2b) \langle y \rangle`. Sprott, *Chaos and Time-Series Analysis* (2003).

    Parameters
    ----------
    damping
        :math:`a`, per time unit.
    coupling
        :math:`b`, per time unit.

    Examples
    --------
    >>> round(Halvorsen().divergence, 2), round(Halvorsen().equilibria[1][0], 2)
    (-4.2, -9.4)
    """

    damping: float = 1.4
    coupling: float = 4.0

    period: ClassVar[float] = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["damping", "coupling"])

    @property
    def divergence(self) -> float:
        """Rate of change of log volume, the sum of the Lyapunov exponents, per time unit."""
        return -3 * self.damping

    @property
    def equilibria(self) -> list[tuple[float, float, float]]:
        """The two points of rest on the diagonal."""
        level = -(self.damping + 2 * self.coupling)
        return [(0.0, 0.0, 0.0), (level, level, level)]

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the right-hand sides, shape ``(B, 3)``."""
        next_one, after = x.roll(-1, -1), x.roll(-2, -1)
        return -self.damping * x - self.coupling * (next_one + after) - next_one.square()

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states beside the attractor, shape ``(n, 3)``."""
        return draw_normal((-8.7, -2.5, 0.1), 0.1, check_count("n", n), seed, dtype)


@dataclass(frozen=True)
class HyperRoessler(ChaoticFlow):
    r"""Roessler 1979: a flow with two directions of stretching.

    .. math:: \dot x = -y - z, \qquad \dot y = x + a y + w, \qquad \dot z = b + x z, \qquad \dot w = -c z + d w

    For the defaults the exponents are 0.11, 0.02, 0 and about -25 per time unit; averages obey
    :math:`c \langle z \rangle = d \langle w \rangle` and :math:`\langle y \rangle = -\langle z \rangle`.

    Parameters
    ----------
    spiral
        :math:`a`.
    lift
        :math:`b`.
    drain
        :math:`c`.
    gain
        :math:`d`.

    Examples
    --------
    >>> HyperRoessler().names
    ('x', 'y', 'z', 'w')
    """

    spiral: float = 0.25
    lift: float = 3.0
    drain: float = 0.5
    gain: float = 0.05

    period: ClassVar[float] = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["spiral", "lift", "drain", "gain"])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the four coordinates."""
        return ("x", "y", "z", "w")

    @property
    def time_step(self) -> float:
        """A thousandth of a period: z is thrown up and falls back within a hundredth of it."""
        return self.period / 1000

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the right-hand sides, shape ``(B, 4)``."""
        a, b, c, d = x.unbind(-1)
        return torch.stack([-b - c, a + self.spiral * b + d, self.lift + a * c, self.gain * d - self.drain * c], -1)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states beside the attractor, shape ``(n, 4)``."""
        centre = np.array([-20.0, 0.0, 0.2, 15.0])
        return draw_normal(centre, 0.1, check_count("n", n), seed, dtype)
