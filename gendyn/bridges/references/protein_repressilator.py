r"""Rings of genes whose proteins repress, as a family of references: messengers :math:`m` first, then proteins p.

.. math::

    f_{m_i} = \alpha + \frac{\beta}{1 + (p_{i-1}/k)^n} - \gamma m_i, \qquad f_{p_i} = \beta_p m_i - \gamma_p p_i

Populations show the messengers alone, or both. Where proteins are hidden, nothing tells their unit: ``translation`` and
``threshold`` can grow together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.bridges.references.family import ReferenceFamily, Units, VolatilityLike
from gendyn.bridges.references.parametric import ParametricReference, check_starts
from gendyn.bridges.references.repressilator import repression
from gendyn.data import Snapshots
from gendyn.systems.parameters import check_count

__all__ = ["ProteinRepressilator"]

_NAMES = ("leak", "production", "threshold", "hill", "decay", "translation", "protein_decay")

_LEAK = 1e-3
"""Part of the production that leaks at the start."""


@dataclass(frozen=True)
class ProteinRepressilator(ReferenceFamily):
    r"""A ring of genes with messengers and proteins; parameters as in :class:`gendyn.systems.ProteinRepressilator`.

    Parameters
    ----------
    leak, production, threshold, hill, decay, translation, protein_decay
        :math:`\alpha, \beta, k, n, \gamma, \beta_p, \gamma_p` to start from, positive; ``None``: all decay and are
        translated at the pace of the data, and the rest as in :class:`Repressilator`.
    genes
        Length of the ring. Data of as many features are messengers, with proteins hidden; of twice as many, both.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> import gendyn as gd
    >>> data = gd.systems.simulate_snapshots(gd.systems.ProteinRepressilator(), [0.0, 1.0], n=50)
    >>> reference = ProteinRepressilator().start(data)
    >>> reference.recorded, reference.dim
    (3, 6)
    """

    leak: float | None = None
    production: float | None = None
    threshold: float | None = None
    hill: float | None = None
    decay: float | None = None
    translation: float | None = None
    protein_decay: float | None = None
    genes: int = 3
    volatility: VolatilityLike = field(default="proportional", kw_only=True)

    name: ClassVar[str] = "protein-repressilator"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, frozenset(_NAMES))
        check_count("genes", self.genes)

    def _state_dim(self, data: Snapshots) -> int:
        if data.dim not in (self.genes, 2 * self.genes):
            raise ValueError(
                f"ProteinRepressilator of {self.genes} genes is seen in {self.genes} messengers, or in these and "
                f"{self.genes} proteins; the data have {data.dim} features"
            )
        return 2 * self.genes

    def _reference(self, dim: int, seed: int) -> _ProteinRing:
        if dim != 2 * self.genes:
            raise ValueError(f"ProteinRepressilator of {self.genes} genes has {2 * self.genes} features; got {dim}")
        return _ProteinRing(self, dim, dict.fromkeys(_NAMES, ()), frozenset(_NAMES))


class _ProteinRing(ParametricReference):
    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        family = self.family
        assert isinstance(family, ProteinRepressilator)
        decay = family.decay or units.pace
        # Hidden proteins are taken to be as many as messengers, whose level they have at rest.
        level = float(units.centre[-family.genes :].mean())
        production = family.production or decay * float(units.top[: family.genes].max())
        self.set_values(
            {
                "leak": family.leak or _LEAK * production,
                "production": production,
                "threshold": family.threshold or (level if level > 0 else units.spread),
                "hill": family.hill or 2.0,
                "decay": decay,
                "translation": family.translation or units.pace,
                "protein_decay": family.protein_decay or units.pace,
            }
        )

    def _drift_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        values = self.values()
        messengers, proteins = x.chunk(2, 1)
        free, slope = repression(proteins.roll(1, 1), values["threshold"], values["hill"])
        made = values["leak"] + values["production"] * free - values["decay"] * messengers
        change = values["translation"] * messengers - values["protein_decay"] * proteins
        return torch.cat([made, change], 1), slope, values

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self._drift_and_slope(x)[0]

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        drift, slope, values = self._drift_and_slope(x)
        identity = torch.eye(self.dim // 2, dtype=x.dtype, device=x.device)
        repressed = (values["production"] * slope)[:, :, None] * identity.roll(-1, 1)
        upper = torch.cat([(-values["decay"] * identity).expand_as(repressed), repressed], 2)
        lower = torch.cat([values["translation"] * identity, -values["protein_decay"] * identity], 1)
        return drift, torch.cat([upper, lower.expand_as(upper)], 1)
