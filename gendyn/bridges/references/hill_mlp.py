r"""Production by a network, decay in proportion: half a mechanism of genes.

.. math:: f(x) = m \odot \operatorname{sigmoid}\bigl(\mathrm{net}(x^+/s)\bigr) - l \odot x^+, \qquad x^+ = \max(x, 0),

with the highest rates of production :math:`m > 0` and of decay :math:`l > 0` of every gene, and the spread :math:`s` of
the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.bridges.references.family import ReferenceFamily, Units, VolatilityLike
from gendyn.bridges.references.parametric import ParametricReference, check_starts
from gendyn.bridges.references.perceptron import Perceptron, check_architecture
from gendyn.data import Snapshots
from gendyn.randomness import derive_seed

__all__ = ["HillMLP"]

_POSITIVE = frozenset({"production", "decay"})


@dataclass(frozen=True)
class HillMLP(ReferenceFamily):
    r"""Genes that are made by an unknown rule and decay (Berlinghieri et al. 2025).

    Parameters
    ----------
    production
        :math:`m` to start from, positive, the same for all genes; ``None``: what sustains the largest value of each.
    decay
        :math:`l` to start from, positive, the same for all genes; ``None``: the pace of the data.
    hidden
        Widths of the hidden layers.
    activation
        ``"silu"``, ``"softplus"`` or ``"tanh"``.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.ones(5, 3), 2 * torch.ones(5, 3)])
    >>> reference = HillMLP(production=5.0, decay=1.0).start(data)
    >>> [round(value, 6) for value in reference.coefficients()["production"].tolist()]
    [5.0, 5.0, 5.0]
    """

    production: float | None = None
    decay: float | None = None
    hidden: tuple[int, ...] = (32, 64, 32)
    activation: str = "silu"
    volatility: VolatilityLike = field(default="proportional", kw_only=True)

    name: ClassVar[str] = "hill-mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, _POSITIVE)
        object.__setattr__(self, "hidden", check_architecture(self.hidden, self.activation))

    def _reference(self, dim: int, seed: int) -> _HillField:
        network = Perceptron(dim, dim, self.hidden, self.activation, seed=derive_seed(seed, self.name))
        return _HillField(self, dim, network)


class _HillField(ParametricReference):
    spread: Tensor

    def __init__(self, family: ReferenceFamily, dim: int, network: Perceptron) -> None:
        super().__init__(family, dim, dict.fromkeys(("production", "decay"), (dim,)), _POSITIVE)
        self.network = network
        self.register_buffer("spread", torch.ones((), dtype=torch.float64))

    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        family = self.family
        assert isinstance(family, HillMLP)
        self.spread.fill_(units.spread)
        decay = family.decay or units.pace
        top = torch.where(units.top > 0, units.top, units.spreads)
        ones = torch.ones_like(top)
        made = decay * top if family.production is None else family.production * ones
        self.set_values({"production": made, "decay": decay * ones})

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        values, level = self.values(), x.relu()
        made = torch.sigmoid(self.network(level / self.spread))
        return values["production"] * made - values["decay"] * level

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        values, level = self.values(), x.relu()
        logits, jacobian = self.network.value_and_jacobian(level / self.spread)
        made = torch.sigmoid(logits)
        steepness = values["production"] * made * (1 - made) / self.spread
        inside = steepness[:, :, None] * jacobian - torch.diag(values["decay"])
        drift = values["production"] * made - values["decay"] * level
        return drift, inside * (x > 0)[:, None, :]

    def ridge_terms(self) -> Tensor:
        return self.network.squares()
