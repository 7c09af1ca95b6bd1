r"""Systems with finitely many states: rate matrices that somebody measured or made, started in their stationary law.

The discrete flashing ratchet has six states, three places with the potential on (0, 1, 2) and off (3, 4, 5):

.. math::

    Q_{ij} = e^{-V (j - i) / 2} \quad (i \ne j \le 2), \qquad Q_{ij} = b \quad (i \ne j \ge 3), \qquad
    Q_{i, i+3} = Q_{i+3, i} = r .

A potential that is switched on and off by itself drives a current, and produces entropy, for any :math:`V \ne 0`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed, torch_generator
from gendyn.sampling.jumps.jump_process import RateMatrix
from gendyn.systems.parameters import check_count, check_finite, check_positive

__all__ = ["AlanineDipeptide", "FiniteStateSystem", "FlashingRatchet", "IonChannel"]


class FiniteStateSystem(RateMatrix):
    """A rate matrix with a start law (the stationary one) and times to look at it."""

    names: tuple[str, ...] = ("state",)
    times: ClassVar[tuple[float, ...]]

    def __init__(self, rates: Tensor, states: Sequence[str]) -> None:
        super().__init__(rates, states)
        self.names = ("state",)

    def initial(self, n: int, seed: Seed = 0) -> Tensor:
        """Draw n states from the stationary law, shape ``(n, 1)``, int64."""
        generator = torch_generator(seed, "initial")
        return torch.multinomial(self.stationary(), check_count("n", n), replacement=True, generator=generator)[:, None]


@dataclass(unsafe_hash=True)
class FlashingRatchet(FiniteStateSystem):
    r"""The discrete flashing ratchet of Ajdari and Prost (1992), as Roldan and Parrondo (2010) have it.

    Parameters
    ----------
    potential
        :math:`V`, its height, in units of the thermal energy.
    switching
        :math:`r`, rate at which the potential is switched on and off, per time unit.
    diffusion
        :math:`b`, rate of jumps while it is off, per time unit.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> FlashingRatchet(potential=1.0).stationary()[:3]
    tensor([0.3012, 0.1365, 0.0623], dtype=torch.float64)
    """

    potential: float = 1.0
    switching: float = 1.0
    diffusion: float = 1.0

    times = tuple(2.5 * k / 99 for k in range(100))

    def __post_init__(self) -> None:
        check_finite(self, ["potential"])
        check_positive(self, ["switching", "diffusion"])
        place = torch.arange(3, dtype=torch.float64)
        rates = torch.zeros(6, 6, dtype=torch.float64)
        rates[:3, :3] = torch.exp(-self.potential * (place - place[:, None]) / 2)
        rates[3:, 3:] = self.diffusion
        rates[:3, 3:] = rates[3:, :3] = self.switching * torch.eye(3, dtype=torch.float64)
        super().__init__(_closed(rates), ["on 0", "on 1", "on 2", "off 0", "off 1", "off 2"])

    @staticmethod
    def parameters_of(process: RateMatrix) -> tuple[float, float, float]:
        """Return potential, switching and diffusion as a rate matrix of six states has them, on average.

        Raises
        ------
        ValueError
            If there are not six states, or a jump that the potential steers has no rate.
        """
        if process.n_states != 6:
            raise ValueError(f"a flashing ratchet has 6 states; got {process.n_states}")
        q, places = process.matrix(), range(3)
        pairs = [(i, j) for i in places for j in places if i != j]
        if any(float(q[i, j]) <= 0 for i, j in pairs):
            raise ValueError("every jump among states 0, 1, 2 needs a positive rate; the potential is a log of them")
        potential = sum(-2 * math.log(float(q[i, j])) / (j - i) for i, j in pairs) / 6
        switching = sum(float(q[i, i + 3] + q[i + 3, i]) for i in places) / 6
        diffusion = sum(float(q[i + 3, j + 3]) for i, j in pairs) / 6
        return potential, switching, diffusion


@dataclass(unsafe_hash=True)
class AlanineDipeptide(FiniteStateSystem):
    """Six conformations of a small molecule, rates per nanosecond over almost four decades.

    As a published model of jump processes inferred them from molecular dynamics, taken here as ground truth; the times
    are a picosecond apart, as the data were.

    Examples
    --------
    >>> AlanineDipeptide().stationary()[:2]
    tensor([0.2982, 0.3123], dtype=torch.float64)
    """

    times = tuple(0.001 * k for k in range(50))

    def __post_init__(self) -> None:
        rates = [
            [0.0, 53.0, 0.19, 7.9, 0.06, 0.02],
            [47.0, 0.0, 0.05, 12.0, 0.04, 0.01],
            [0.28, 0.13, 0.0, 17.0, 0.02, 0.04],
            [36.0, 26.9, 41.0, 0.0, 0.3, 0.01],
            [0.17, 0.2, 0.4, 0.2, 0.0, 3.0],
            [1.2, 1.8, 0.5, 0.7, 19.0, 0.0],
        ]
        super().__init__(_closed(torch.tensor(rates, dtype=torch.float64)), [f"conformation {k}" for k in range(6)])


@dataclass(unsafe_hash=True)
class IonChannel(FiniteStateSystem):
    """An ion channel with three conductances, rates per second; looked at five thousand times a second.

    Made to match, within a few per cent, the stationary law (.180, .150, .671) and the mean first passage times that
    were published for a recording of a viral potassium channel.

    Examples
    --------
    >>> IonChannel().stationary()
    tensor([0.1812, 0.1466, 0.6722], dtype=torch.float64)
    """

    times = tuple(0.0002 * k for k in range(5000))

    def __post_init__(self) -> None:
        rates = [[0.0, 18.68, 11.25], [23.96, 0.0, 45.55], [2.84, 10.13, 0.0]]
        super().__init__(_closed(torch.tensor(rates, dtype=torch.float64)), ["low", "middle", "high"])


def _closed(rates: Tensor) -> Tensor:
    """Return the rates with a diagonal that makes rows sum to zero."""
    off = rates.clone().fill_diagonal_(0.0)
    return off - torch.diag(off.sum(1))
