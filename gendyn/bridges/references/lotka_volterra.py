r"""Predators and prey as a family of references.

.. math:: f(x, y) = (a x - b x y,\; d x y - c y)

Left out, start values put the point of rest :math:`(c/d, a/b)`, which is the average over every orbit, on the mean of
the data, and turn around it at the pace of the data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.bridges.references.family import ReferenceFamily, Units, VolatilityLike
from gendyn.bridges.references.parametric import ParametricReference, check_starts
from gendyn.data import Snapshots

__all__ = ["LotkaVolterra"]

_NAMES = ("growth", "predation", "death", "reproduction")


@dataclass(frozen=True)
class LotkaVolterra(ReferenceFamily):
    r"""Prey and predators, in this order; parameters as in :class:`gendyn.systems.LotkaVolterra`.

    Parameters
    ----------
    growth, predation, death, reproduction
        :math:`a, b, c, d` to start from, positive; ``None``: from the data.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> from gendyn.systems import simulate_snapshots
    >>> import gendyn as gd
    >>> data = simulate_snapshots(gd.systems.LotkaVolterra(), [0.0, 1.0, 2.0], n=50)
    >>> reference = LotkaVolterra(growth=1.0).start(data)
    >>> round(reference.coefficients()["growth"].item(), 6)
    1.0
    """

    growth: float | None = None
    predation: float | None = None
    death: float | None = None
    reproduction: float | None = None
    volatility: VolatilityLike = field(default="proportional", kw_only=True)

    name: ClassVar[str] = "lotka-volterra"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, frozenset(_NAMES))

    def _reference(self, dim: int, seed: int) -> _PredatorPrey:
        if dim != 2:
            raise ValueError(f"LotkaVolterra has 2 features, prey and predators; the data have {dim}")
        return _PredatorPrey(self, 2, dict.fromkeys(_NAMES, ()), frozenset(_NAMES))


class _PredatorPrey(ParametricReference):
    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        family = self.family
        assert isinstance(family, LotkaVolterra)
        rest = torch.where(units.centre > 0, units.centre, units.spreads)
        growth, death = family.growth or units.pace, family.death or units.pace
        self.set_values(
            {
                "growth": growth,
                "predation": family.predation or growth / rest[1],
                "death": death,
                "reproduction": family.reproduction or death / rest[0],
            }
        )

    def _per_head(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        values = self.values()
        prey, predator = x[:, 0], x[:, 1]
        return (
            values["growth"] - values["predation"] * predator,
            values["reproduction"] * prey - values["death"],
            values,
        )

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        of_prey, of_predator, _ = self._per_head(x)
        return x * torch.stack([of_prey, of_predator], 1)

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        of_prey, of_predator, values = self._per_head(x)
        entries = [of_prey, -values["predation"] * x[:, 0], values["reproduction"] * x[:, 1], of_predator]
        return x * torch.stack([of_prey, of_predator], 1), torch.stack(entries, 1).reshape(-1, 2, 2)

    def features(self, t: Tensor, x: Tensor) -> Tensor:
        prey, predator, met = x[:, 0], x[:, 1], x[:, 0] * x[:, 1]
        none = torch.zeros_like(met)
        rows = [prey, -met, none, none, none, none, -predator, met]
        return torch.stack(rows, 1).reshape(-1, 2, 4)

    def weights(self) -> Tensor:
        return torch.stack(list(self.values().values()))

    @torch.no_grad()
    def set_weights(self, theta: Tensor) -> None:
        self.set_values(dict(zip(_NAMES, theta, strict=True)))
