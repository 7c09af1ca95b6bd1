r"""Two-state folding: a particle in five dimensions with a folded and an unfolded state, seen in steps.

.. math::

    X_{k+1} = X_k - h\,\nabla U(|X_k|) + \sqrt{2h}\,\xi_k, \qquad
    U(r) = \begin{cases} -\tfrac52 (r-3)^2 & r < 3 \\ \tfrac12 (r-3)^3 - (r-3)^2 & r \ge 3 \end{cases}

The published toy is this chain with :math:`h = 0.1` (Mardt, Pasquali, Wu and Noe 2018), not the equation
:math:`dX = -\nabla U\,dt + \sqrt2\,dW` behind it: there the force at the centre, 15, pulls so hard that all but
four in a thousand are folded; a step of 0.1 overshoots, and about seven in ten are. So the step and the Euler-Maruyama
method belong to the system.

The distance :math:`r = |X|` is a Markov chain of its own, with a noncentral chi transition

.. math::

    p(r' \mid r) = \frac{r'}{2h} \Bigl(\frac{r'}{m}\Bigr)^{\nu} \exp\Bigl(-\frac{r'^2 + m^2}{4h}\Bigr)
    I_\nu\Bigl(\frac{r' m}{2h}\Bigr), \qquad m = |r - h\,U'(r)|, \quad \nu = \tfrac32,

a smooth kernel whose stationary law and slowest decay a quadrature gives to many digits. Coarse-grained, the chain
is a jump process between two states with that law and that decay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import ive
from torch import Tensor

from gendyn.data import Paths
from gendyn.randomness import Seed, torch_generator
from gendyn.sampling.jumps.jump_process import RateMatrix
from gendyn.systems.parameters import check_count, check_positive
from gendyn.systems.system import Calculus, NoiseType

__all__ = ["TwoStateFolding"]

_FAR = 8.5
"""Distance that the chain does not reach: U grows like its cube."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TwoStateFolding:
    r"""The folding chain in five dimensions.

    Parameters
    ----------
    step
        :math:`h`, time units: part of the system, see above.

    Raises
    ------
    ValueError
        If the step is not positive.

    Examples
    --------
    >>> chain = TwoStateFolding()
    >>> round(chain.folded_fraction(), 3), round(chain.relaxation_time, 1)
    (0.722, 16.2)
    """

    step: float = 0.1

    dim: ClassVar[int] = 5
    noise_dim: ClassVar[int] = 5
    noise_type: ClassVar[NoiseType] = "additive"
    calculus: ClassVar[Calculus] = "ito"
    solver: ClassVar[str] = "euler_maruyama"
    names: ClassVar[tuple[str, ...]] = ("x1", "x2", "x3", "x4", "x5")
    states: ClassVar[tuple[str, ...]] = ("folded", "unfolded")

    def __post_init__(self) -> None:
        check_positive(self, ["step"])

    @property
    def times(self) -> tuple[float, ...]:
        """A hundred times, a step apart."""
        return tuple(self.step * k for k in range(100))

    @property
    def time_step(self) -> float:
        """The step of the chain."""
        return self.step

    def potential(self, radius: Tensor) -> Tensor:
        """Return U at distances from the centre, same shape."""
        beyond = radius - 3
        return torch.where(beyond < 0, -2.5 * beyond.square(), 0.5 * beyond.pow(3) - beyond.square())

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return minus the gradient of U, shape ``(B, 5)``; at the centre, where it has none, 0."""
        square = x.square().sum(-1, keepdim=True)
        centre = square == 0
        radius = torch.where(centre, torch.ones_like(square), square).sqrt()
        beyond = radius - 3
        slope = torch.where(beyond < 0, -5 * beyond, 1.5 * beyond.square() - 2 * beyond)
        return -slope / radius * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the square root of 2 times the identity, shape ``(5, 5)``."""
        return math.sqrt(2) * torch.eye(5, dtype=x.dtype, device=x.device)

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n states from the stationary law of the chain, shape ``(n, 5)``."""
        generator = torch_generator(seed, "initial")
        drawn = torch.randn(check_count("n", n), 6, generator=generator, dtype=torch.float64)
        grid = np.linspace(0.0, _FAR, 1001)
        density = self.radial_density(grid)
        mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
        level = torch.special.ndtr(drawn[:, :1]).numpy() * mass[-1]
        radius = torch.as_tensor(np.interp(level, mass, grid))
        return (radius * torch.nn.functional.normalize(drawn[:, 1:], dim=1)).to(dtype)

    def radial_density(self, radius: ArrayLike) -> Array:
        """Return the stationary density of the chain's distance from the centre, same shape as ``radius (R,)``."""
        nodes, weights, law, _ = self._spectrum
        return np.asarray(_transition(np.asarray(radius, dtype=np.float64), nodes, self.step) @ (weights * law))

    def folded_fraction(self, boundary: float | None = None) -> float:
        """Return the stationary probability to be nearer to the centre than a boundary, by default the barrier."""
        nodes, weights = leggauss(200)
        edge = self.barrier if boundary is None else boundary
        return float(self.radial_density(edge * (nodes + 1) / 2) @ weights * edge / 2)

    @cached_property
    def barrier(self) -> float:
        """The distance at which the chain is found least often between its two states."""
        found = minimize_scalar(lambda r: self.radial_density(np.array([r]))[0], bounds=(1.5, 3.8), method="bounded")
        return float(found.x)

    @property
    def relaxation_time(self) -> float:
        """Time after which the memory of the state has decayed to 1 / e, from the chain's second eigenvalue."""
        return -self.step / math.log(self._spectrum[3])

    def rate_matrix(self, boundary: float | None = None) -> RateMatrix:
        """Return the jump process between folded and unfolded with the chain's stationary law and slowest decay.

        Fits to labelled paths give rates that are higher, for they count excursions across the boundary that turn
        back at once.
        """
        folded, rate = self.folded_fraction(boundary), 1 / self.relaxation_time
        up, down = rate * (1 - folded), rate * folded
        return RateMatrix([[-up, up], [down, -down]], states=self.states)

    def label(self, paths: Paths, boundary: float | None = None) -> Paths:
        """Return the states of paths ``(n, T, 5)``: 0 (folded) inside the boundary, by default the barrier, else 1.

        Raises
        ------
        ValueError
            If the paths do not have five features.
        """
        if paths.dim != 5:
            raise ValueError(f"the folding chain has 5 features; these paths have {paths.dim}")
        edge = self.barrier if boundary is None else boundary
        inside = paths.values.square().sum(-1, keepdim=True).sqrt() < edge
        return Paths(paths.times, (~inside).to(torch.int64), names=["state"], states=self.states, info=paths.info)

    @cached_property
    def _spectrum(self) -> tuple[Array, Array, Array, float]:
        """Return nodes, weights, stationary density and second eigenvalue of the chain of distances."""
        # The potential has a corner in its second derivative at 3: a rule on each side keeps the accuracy.
        unit, mass = leggauss(80)
        unit, mass = (unit + 1) / 2, mass / 2
        nodes = np.concatenate([3 * unit, 3 + (_FAR - 3) * unit])
        weights = np.concatenate([3 * mass, (_FAR - 3) * mass])
        matrix = _transition(nodes, nodes, self.step) * weights
        values, vectors = np.linalg.eig(matrix)
        order = np.argsort(-np.abs(values))
        law = np.abs(vectors[:, order[0]].real)
        return nodes, weights, law / (law @ weights), float(values[order[1]].real)


def _transition(after: Array, before: Array, step: float) -> Array:
    """Return the density of the next distance (rows) for each distance before (columns)."""
    beyond = before - 3
    slope = np.where(beyond < 0, -5 * beyond, 1.5 * beyond**2 - 2 * beyond)
    mean = np.maximum(np.abs(before - step * slope), 1e-9)
    r, spread, order = np.maximum(after, 1e-9)[:, None], 2 * step, 1.5
    decay = np.exp(-((r - mean) ** 2) / (2 * spread)) * ive(order, r * mean / spread)
    return np.asarray(r / spread * (r / mean) ** order * decay)
