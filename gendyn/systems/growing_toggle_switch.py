r"""Toggle switch with growth: cells choose a fate, and one fate divides.

The genes are those of :class:`ToggleSwitch`; a cell in state x divides at the rate :math:`b\,h(X_1)`, with
:math:`h(x) = x^n / (K^n + x^n)`, and dies at the rate :math:`d`. Of a population that branches so, the expected mass is
carried by cells that do not, each with a weight

.. math:: W_t = \exp\Bigl(\int_0^t \bigl(b\,h(X_1(s)) - d\bigr) ds\Bigr), \qquad
    E\Bigl[\sum_{\text{alive}} f(X^{(i)}_t)\Bigr] = E\bigl[W_t\, f(X_t)\bigr]

(many-to-one formula; Feynman and Kac). The logarithm of the weight is the third coordinate of the state. What is seen
is the product of choice and growth: without the masses, the fate that divides looks like the fate that is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.randomness import Seed
from gendyn.systems.parameters import check_non_negative
from gendyn.systems.toggle_switch import ToggleSwitch

__all__ = ["GrowingToggleSwitch"]


@dataclass(frozen=True)
class GrowingToggleSwitch(ToggleSwitch):
    r"""A toggle switch whose cells divide where gene 1 is on, and die.

    Parameters
    ----------
    division
        :math:`b`, highest rate of division, per time unit.
    death
        :math:`d`, rate of death, per time unit.

    Further parameters are those of :class:`ToggleSwitch`.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> circuit = GrowingToggleSwitch()
    >>> circuit.growth_rate(torch.tensor([[2.4, 0.1], [0.1, 2.4]])).tolist()
    [0.385..., -0.099...]
    """

    division: float = 0.5
    death: float = 0.1

    dim: ClassVar[int] = 3
    names: ClassVar[tuple[str, ...]] = ("gene 1", "gene 2", "log weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_non_negative(self, ["division", "death"])

    @property
    def noise_dim(self) -> int:
        """3, or 0 at zero volatility; the weight has none of its own."""
        return 3 if self.volatility else 0

    def growth_rate(self, x: Tensor) -> Tensor:
        """Return division minus death of cells ``(B, 2)`` or states ``(B, 3)``, shape ``(B,)``."""
        power = (x[..., 0] / self.threshold).clamp(min=0.0).pow(self.hill)
        return self.division * (power / (1 + power)) - self.death

    def drift(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the drift of the genes and the growth rate, shape ``(B, 3)``."""
        return torch.cat([super().drift(t, x[..., :2]), self.growth_rate(x)[..., None]], -1)

    def diffusion(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the noise of the genes and 0, shape ``(B, 3)``."""
        return torch.nn.functional.pad(super().diffusion(t, x[..., :2]), (0, 1))

    def diffusion_dx(self, t: Tensor, x: Tensor) -> Tensor:
        """Return the derivative of the noise of the genes and 0, shape ``(B, 3)``."""
        return torch.nn.functional.pad(super().diffusion_dx(t, x[..., :2]), (0, 1))

    def initial(self, n: int, seed: Seed = 0, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw n undecided cells of weight 1, shape ``(n, 3)``."""
        return torch.nn.functional.pad(super().initial(n, seed, dtype=dtype), (0, 1))

    def weighted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells ``(B, 2)`` of states ``(B, 3)`` and their weights ``(B,)``."""
        return x[..., :2], x[..., 2].exp()
