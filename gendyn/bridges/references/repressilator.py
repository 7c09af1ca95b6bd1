r"""Rings of genes that repress each other, as families of references.

.. math:: f_i(x) = \frac{\beta}{1 + (x_{i-1}/k)^n} - \gamma x_i

with the first gene repressed by the last. With proteins the state is :math:`(m, p)` and

.. math::

    f_{m_i} = \alpha + \frac{\beta}{1 + (p_{i-1}/k)^n} - \gamma m_i, \qquad f_{p_i} = \beta_p m_i - \gamma_p p_i .

Levels below a trifle repress like it: the power has no derivative at zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.bridges.references.family import ReferenceFamily, Units, VolatilityLike
from gendyn.bridges.references.parametric import ParametricReference, check_starts
from gendyn.data import Snapshots

__all__ = ["Repressilator"]

_NAMES = ("production", "threshold", "hill", "decay")

LEAST = 1e-6
"""Level below which repressors count as this."""


def repression(x: Tensor, threshold: Tensor, hill: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`1/(1 + (x/k)^n)` and its derivative by ``x``, of any shape."""
    clamped = x.clamp_min(LEAST)
    # (x/k)^n = exp(n log(x/k)); as a logistic function it cannot overflow.
    free = torch.sigmoid(-hill * (clamped.log() - threshold.log()))
    slope = -hill * free * (1 - free) / clamped
    return free, torch.where(x > LEAST, slope, 0.0)


@dataclass(frozen=True)
class Repressilator(ReferenceFamily):
    r"""A ring of genes, one a feature; parameters as in :class:`gendyn.systems.Repressilator`.

    Parameters
    ----------
    production, threshold, hill, decay
        :math:`\beta, k, n, \gamma` to start from, positive; ``None``: the decay is the pace of the data, the threshold
        their mean, the production what sustains their largest value, the steepness 2.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> import gendyn as gd
    >>> data = gd.systems.simulate_snapshots(gd.systems.Repressilator(), [0.0, 1.0], n=50)
    >>> reference = Repressilator(hill=3.0).start(data)
    >>> sorted(reference.coefficients())
    ['decay', 'hill', 'production', 'sigma', 'threshold']
    """

    production: float | None = None
    threshold: float | None = None
    hill: float | None = None
    decay: float | None = None
    volatility: VolatilityLike = field(default="proportional", kw_only=True)

    name: ClassVar[str] = "repressilator"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, frozenset(_NAMES))

    def _reference(self, dim: int, seed: int) -> _Ring:
        if dim < 2:
            raise ValueError(f"Repressilator is a ring of two genes or more; the data have {dim} feature")
        return _Ring(self, dim, dict.fromkeys(_NAMES, ()), frozenset(_NAMES))


class _Ring(ParametricReference):
    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        family = self.family
        assert isinstance(family, Repressilator)
        decay = family.decay or units.pace
        level = float(units.centre.mean())
        self.set_values(
            {
                "production": family.production or decay * float(units.top.max()),
                "threshold": family.threshold or (level if level > 0 else units.spread),
                "hill": family.hill or 2.0,
                "decay": decay,
            }
        )

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        values = self.values()
        free, _ = repression(x.roll(1, 1), values["threshold"], values["hill"])
        return values["production"] * free - values["decay"] * x

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        values = self.values()
        free, slope = repression(x.roll(1, 1), values["threshold"], values["hill"])
        identity = torch.eye(self.dim, dtype=x.dtype, device=x.device)
        # Rolled, the i-th row of the identity names the gene that represses the i-th.
        jacobian = (values["production"] * slope)[:, :, None] * identity.roll(-1, 1) - values["decay"] * identity
        return values["production"] * free - values["decay"] * x, jacobian
