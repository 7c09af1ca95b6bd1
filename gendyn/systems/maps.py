r"""Maps: a state that moves once every unit of time.

.. math:: x_{k+1} = F(x_k), \qquad k = 0, 1, 2, \dots

For the sampler a map is the process with drift :math:`F(x) - x` and no noise, and its own solver, which applies
:math:`F` instead of adding the difference: the rounding of a sum can carry a state out of the set that
:math:`F` keeps it in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.sampling.process import Process
from gendyn.systems.parameters import check_count, check_finite
from gendyn.systems.system import Calculus, NoiseType, draw_normal, draw_uniform

__all__ = ["HenonMap", "Iteration", "LogisticMap", "Map"]


class Map(Protocol):
    """What is iterated."""

    def map(self, x: Tensor) -> Tensor:
        """Return F(x), shape of ``x (B, d)``."""
        ...


class Iteration:
    """The solver of maps: one application of the map in a unit of time.

    Examples
    --------
    >>> from gendyn.sampling import sample
    >>> sample(LogisticMap(growth=2.0), torch.tensor([[0.1]]), [0, 1, 2]).values[0, :, 0]
    tensor([0.1000, 0.1800, 0.2952])
    """

    name = "iteration"
    calculus: tuple[Calculus, ...] = ("ito", "stratonovich")
    noise_types: tuple[NoiseType, ...] = ("none",)
    order = math.inf
    weak_order = math.inf
    drift_evaluations = 1
    diffusion_evaluations = 0
    needs_area = False
    use = "maps: exact"

    def step(
        self, process: Process, t: Tensor, h: float | Tensor, x: Tensor, dw: Tensor | None, area: Tensor | None = None
    ) -> Tensor:
        """Return F(x).

        Raises
        ------
        ValueError
            If the step is not of length 1 (or 0, where a path has ended).
        """
        step = torch.as_tensor(h)
        if not bool(((step == 1) | (step == 0)).all()):
            raise ValueError(
                f"a map moves once every unit of time; got a step of {float(step.max()):g}: give whole times and step=1"
            )
        moved = cast("Map", process).map(x)
        return moved if isinstance(h, float) else torch.where(h > 0, moved, x)


@dataclass(frozen=True)
class LogisticMap:
    r"""The logistic map on [0, 1]: a population that outgrows its place.

    .. math:: x_{k+1} = r\, x_k (1 - x_k)

    At :math:`r = 4` the invariant density is :math:`1 / (\pi \sqrt{x (1-x)})` and the Lyapunov exponent
    :math:`\ln 2`; between 1 and 3 every path goes to :math:`1 - 1/r`. May (1976).

    Parameters
    ----------
    growth
        :math:`r`, between 0 and 4.

    Raises
    ------
    ValueError
        If growth does not lie between 0 and 4.

    Examples
    --------
    >>> round(LogisticMap(growth=4.0).lyapunov_exponent, 6)
    0.693147
    """

    growth: float = 4.0

    dim: ClassVar[int] = 1
    noise_dim: ClassVar[int] = 0
    noise_type: ClassVar[NoiseType] = "none"
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("x",)
    times: ClassVar[tuple[float, ...]] = tuple(float(k) for k in range(201))
    time_step: ClassVar[float] = 1.0
    solver: ClassVar[Iteration] = Iteration()

    def __post_init__(self) -> None:
        check_finite(self, ["growth"])
        if not 0 <= self.growth <= 4:
            raise ValueError(f"LogisticMap: growth must lie between 0 and 4; got {self.growth}")

    @property
    def equilibria(self) -> list[float]:
        """Every point of rest in [0, 1]."""
        return [0.0] if self.growth <= 1 else [0.0, 1 - 1 / self.growth]

    @property
    def lyapunov_exponent(self) -> float:
        """Mean rate at which neighbours part, per step.

        Raises
        ------
        ValueError
            Where no closed form is known: growth between 3 and 4.
        """
        if self.growth == 4:
            return math.log(2)
        if self.growth > 3:
            raise ValueError(f"LogisticMap: no closed form of the exponent is known at growth {self.growth}")
        slope = self.growth if self.growth <= 1 else abs(2 - self.growth)
        return math.log(slope) if slope else -math.inf

    def invariant_density(self, x: Tensor) -> Tensor:
        """Return the invariant density at ``x`` inside (0, 1), same shape, float64.

        Raises
        ------
        ValueError
            If growth is not 4.
        """
        if self.growth != 4:
            raise ValueError(f"LogisticMap: the invariant density is known at growth 4; got {self.growth}")
        wide = x.to(torch.float64)
        return 1 / (math.pi * (wide * (1 - wide)).sqrt())

    def map(self, x: Tensor) -> Tensor:
        """Return F(x), below 1, shape ``(B, 1)``."""
        # What rounds to 1 would be 0 ever after: in float32 one path in twelve within a thousand steps.
        below_one = 1 - torch.finfo(x.dtype).eps / 2
        return (self.growth * x * (1 - x)).clamp(max=below_one)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``F(x) - x``, the change in a unit of time, shape ``(B, 1)``."""
        return self.map(x) - x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros, shape ``(B, 1)``."""
        return torch.zeros_like(x)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states uniformly between 0.1 and 0.9, shape ``(n, 1)``."""
        return draw_uniform((0.1,), (0.9,), check_count("n", n), seed, dtype)


@dataclass(frozen=True)
class HenonMap:
    r"""The Henon map: stretch, fold, and a strange attractor of infinitely many sheets.

    .. math:: x_{k+1} = 1 - a x_k^2 + y_k, \qquad y_{k+1} = b x_k

    Areas shrink by :math:`b` in each step, so the exponents sum to :math:`\ln b`; the larger is 0.419 for the defaults.
    Henon (1976).

    Parameters
    ----------
    bend
        :math:`a`.
    shrink
        :math:`b`, not zero.

    Raises
    ------
    ValueError
        If a parameter is not finite, or shrink is 0.

    Examples
    --------
    >>> round(HenonMap().divergence, 6)
    -1.203973
    """

    bend: float = 1.4
    shrink: float = 0.3

    dim: ClassVar[int] = 2
    noise_dim: ClassVar[int] = 0
    noise_type: ClassVar[NoiseType] = "none"
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("x", "y")
    times: ClassVar[tuple[float, ...]] = tuple(float(k) for k in range(201))
    time_step: ClassVar[float] = 1.0
    solver: ClassVar[Iteration] = Iteration()

    def __post_init__(self) -> None:
        check_finite(self, ["bend", "shrink"])
        if self.shrink == 0:
            raise ValueError("HenonMap: shrink must not be 0; the map would forget a coordinate")

    @property
    def divergence(self) -> float:
        """Change of log area in a step, the sum of the Lyapunov exponents."""
        return math.log(abs(self.shrink))

    @property
    def equilibria(self) -> list[tuple[float, float]]:
        """Every point of rest."""
        if self.bend == 0:
            return [] if self.shrink == 1 else [(1 / (1 - self.shrink), self.shrink / (1 - self.shrink))]
        root = (1 - self.shrink) ** 2 + 4 * self.bend
        if root < 0:
            return []
        points = [(self.shrink - 1 + sign * math.sqrt(root)) / (2 * self.bend) for sign in (-1, 1)]
        return [(x, self.shrink * x) for x in points]

    def map(self, x: Tensor) -> Tensor:
        """Return F(x), shape ``(B, 2)``."""
        return torch.stack([1 - self.bend * x[..., 0].square() + x[..., 1], self.shrink * x[..., 0]], -1)

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return ``F(x) - x``, the change in a unit of time, shape ``(B, 2)``."""
        return self.map(x) - x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return zeros, shape ``(B, 2)``."""
        return torch.zeros_like(x)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states around the origin with deviation 0.1, in the basin of the attractor, shape ``(n, 2)``."""
        return draw_normal((0.0, 0.0), 0.1, check_count("n", n), seed, dtype)
