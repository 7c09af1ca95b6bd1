r"""Toggle switch: two genes that activate themselves and repress each other; cells commit to one fate.

.. math::

    dX_i = \Big(\alpha_i \frac{X_i^n}{K^n + X_i^n} + \beta \frac{K^n}{K^n + X_j^n} - \gamma X_i\Big) dt
           + \sigma \sqrt{X_i}\,dW_i, \qquad \{i, j\} = \{1, 2\}

with :math:`\alpha_{1,2} = \alpha (1 \pm \text{bias})`. Cells start with both genes low, both rise together
(the undecided progenitor), then noise tips each cell to one side: a population whose snapshots
branch. The deterministic part is the fate-decision circuit of GATA1 and PU.1 in
Huang, Guo, May and Enver (2007); the noise is that of birth and death, whose variance grows with the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_count, check_finite, check_non_negative, check_positive
from gendyn.systems.system import Calculus, NoiseType, draw_normal

__all__ = ["ToggleSwitch"]


@dataclass(frozen=True)
class ToggleSwitch:
    r"""Two mutually repressing, self-activating genes with birth-death noise.

    Parameters
    ----------
    activation
        :math:`\alpha`, strength of self-activation, concentration per time unit.
    production
        :math:`\beta`, production while the other gene is off, concentration per time unit.
    threshold
        :math:`K`, concentration at which activation and repression are half on.
    hill
        :math:`n`, steepness.
    decay
        :math:`\gamma`, per time unit.
    bias
        Relative advantage of gene 1 in self-activation, between -1 and 1; zero is symmetric.
    volatility
        :math:`\sigma`, square root of concentration per square root of time; zero is deterministic.
    start, start_deviation
        Both genes start at :math:`\mathcal N(\text{start}, \text{start\_deviation}^2)`, folded to stay
        above zero.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> circuit = ToggleSwitch()
    >>> circuit.committed(torch.tensor([[2.4, 0.1], [0.1, 2.4], [0.9, 0.8]])).tolist()
    [1, 2, 0]
    """

    activation: float = 1.5
    production: float = 1.0
    threshold: float = 1.0
    hill: float = 4.0
    decay: float = 1.0
    bias: float = 0.03
    volatility: float = 0.12
    start: float = 0.3
    start_deviation: float = 0.1

    dim: ClassVar[int] = 2
    calculus: ClassVar[Calculus] = "ito"
    names: ClassVar[tuple[str, ...]] = ("gene 1", "gene 2")

    def __post_init__(self) -> None:
        check_positive(self, ["production", "threshold", "hill", "decay"])
        check_non_negative(self, ["activation", "volatility", "start", "start_deviation"])
        check_finite(self, ["bias"])
        if not -1 <= self.bias <= 1:
            raise ValueError(f"ToggleSwitch: bias must lie between -1 and 1; got {self.bias}")

    @property
    def noise_type(self) -> NoiseType:
        """``diagonal``, or ``none`` at zero volatility."""
        return "diagonal" if self.volatility else "none"

    @property
    def noise_dim(self) -> int:
        """2, or 0 at zero volatility."""
        return 2 if self.volatility else 0

    @property
    def times(self) -> tuple[float, ...]:
        """Six times over six lifetimes: before, during and after the decision."""
        return tuple(k / self.decay for k in (0.0, 1.0, 2.0, 3.0, 4.0, 6.0))

    @property
    def time_step(self) -> float:
        """A hundredth of a lifetime."""
        return 0.01 / self.decay

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return activation + production - decay, shape ``(B, 2)``; levels below zero act like zero."""
        power = (x / self.threshold).clamp(min=0.0).pow(self.hill)
        # h = u^n / (1 + u^n), written so that neither branch overflows.
        on = power / (1 + power)
        strength = x.new_tensor([self.activation * (1 + self.bias), self.activation * (1 - self.bias)])
        return strength * on + self.production * (1 - on.flip(-1)) - self.decay * x

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\sigma\sqrt{x}`, shape ``(B, 2)``; zero below zero, where production pushes back."""
        return self.volatility * x.clamp(min=0.0).sqrt()

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`\partial g_i / \partial x_i = \sigma / (2\sqrt{x})`, zero for x <= 0; ``(B, 2)``."""
        positive = x > 0
        root = torch.where(positive, x, torch.ones_like(x)).sqrt()
        return torch.where(positive, 0.5 * self.volatility / root, torch.zeros_like(x))

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n undecided cells, both genes low, shape ``(n, 2)``."""
        return draw_normal((self.start, self.start), self.start_deviation, check_count("n", n), seed, dtype).abs()

    def committed(self, x: Tensor) -> Tensor:
        """Return the fate of each cell, shape ``(B,)``: 1 or 2 if that gene leads by a threshold, else 0."""
        lead = x[..., 0] - x[..., 1]
        return (lead >= self.threshold).long() + 2 * (lead <= -self.threshold).long()
