r"""Eddies in the plane as families of references.

:class:`BigVortex` turns clockwise around :math:`(x_0, y_0)` for positive strength, with a current along x that changes
with y,

.. math:: f(x, y) = s\,\bigl(e^{-l y} (y - y_0),\; -(x - x_0)\bigr).

:class:`LambOseen` turns like a solid in its core and more slowly outside; with :math:`q = X - c` and
:math:`u = |q|^2 / a^2`,

.. math:: f(X) = \Gamma\,\varphi(u) \begin{pmatrix} q_2 \\ -q_1 \end{pmatrix}, \qquad
    \varphi(u) = \frac{1 - e^{-u}}{u} = 1 - \frac u2 + \frac{u^2}{6} - \dots,

to which ``drifting=True`` adds a current that may diverge, :math:`e \odot (X - \bar x) + w` around the mean
:math:`\bar x` of the data. Left out, start values turn around the mean of the data at its pace, to the side to
which the means of the populations turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gendyn.bridges.references.family import ReferenceFamily, Units
from gendyn.bridges.references.parametric import ParametricReference, check_starts
from gendyn.data import Snapshots

__all__ = ["BigVortex", "LambOseen"]

_SERIES = 0.05
r"""Largest :math:`u` at which the series is taken: below, derivatives of the closed form lose digits."""

_TERMS = tuple((-1.0) ** k / math.factorial(k + 1) for k in range(9))
r"""Coefficients of :math:`\varphi`; the next term is below the rounding error."""


@dataclass(frozen=True)
class BigVortex(ReferenceFamily):
    r"""One eddy with a current that changes with latitude (Shen, Berlinghieri and Broderick 2025).

    Parameters
    ----------
    strength
        :math:`s`, per time unit, positive clockwise.
    decay
        :math:`l`, per unit of y; ``None`` starts from 0.
    centre
        :math:`(x_0, y_0)`.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])])
    >>> reference = BigVortex(strength=2.0, decay=0.0, centre=(0.0, 0.0)).start(data)
    >>> [round(v, 6) for v in reference.drift(torch.tensor(0.0), torch.tensor([[1.0, 1.0]]))[0].tolist()]
    [2.0, -2.0]
    """

    strength: float | None = None
    decay: float | None = None
    centre: tuple[float, float] | None = None

    name: ClassVar[str] = "big-vortex"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, frozenset(), ("strength", "decay", "centre"))

    def _reference(self, dim: int, seed: int) -> _BigVortex:
        _check_plane("BigVortex", dim)
        return _BigVortex(self, 2, {"strength": (), "decay": (), "centre": (2,)}, frozenset())


class _BigVortex(ParametricReference):
    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        family = self.family
        assert isinstance(family, BigVortex)
        self.set_values(
            {
                "strength": -_turning(units, data) * units.pace if family.strength is None else family.strength,
                "decay": family.decay or 0.0,
                "centre": units.centre if family.centre is None else torch.tensor(family.centre),
            },
            units={"strength": units.pace, "decay": 1 / units.spread, "centre": units.spread},
            origins={"centre": units.centre},
        )

    def _current(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        values = self.values()
        apart = x - values["centre"]
        stretch = values["strength"] * torch.exp(-values["decay"] * x[:, 1])
        drift = torch.stack([stretch * apart[:, 1], -values["strength"] * apart[:, 0]], 1)
        return drift, stretch, apart, values

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        return self._current(x)[0]

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        drift, stretch, apart, values = self._current(x)
        none = torch.zeros_like(stretch)
        entries = [none, stretch * (1 - values["decay"] * apart[:, 1]), none - values["strength"], none]
        return drift, torch.stack(entries, 1).reshape(-1, 2, 2)


@dataclass(frozen=True)
class LambOseen(ReferenceFamily):
    r"""An eddy with a core, parameters as in :class:`gendyn.systems.Vortex`, and its centre.

    Parameters
    ----------
    rotation
        :math:`\Gamma`, angular velocity at the centre, positive clockwise.
    core
        :math:`a`, radius of the core, positive; ``None``: the spread of the data.
    centre
        :math:`c`.
    drifting
        Whether there is a current as well: ``expansion`` :math:`e` and ``current`` :math:`w`, two numbers each, which
        start from 0.
    sigma, volatility, sigma_per_feature
        The noise, see :class:`~gendyn.references.ReferenceFamily`.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])])
    >>> reference = LambOseen(rotation=2.0, core=1.0, centre=(0.0, 0.0)).start(data)
    >>> reference.drift(torch.tensor(0.0), torch.tensor([[0.0, 1.0]]))[0, 0].item()  # 2 (1 - 1/e)
    1.2642...
    """

    rotation: float | None = None
    core: float | None = None
    centre: tuple[float, float] | None = None
    drifting: bool = False

    name: ClassVar[str] = "lamb-oseen"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_starts(self, frozenset({"core"}), ("rotation", "centre"))

    def _reference(self, dim: int, seed: int) -> _LambOseen:
        _check_plane("LambOseen", dim)
        shapes: dict[str, tuple[int, ...]] = {"rotation": (), "core": (), "centre": (2,)}
        more: dict[str, tuple[int, ...]] = {"expansion": (2,), "current": (2,)} if self.drifting else {}
        return _LambOseen(self, 2, shapes | more, frozenset({"core"}))


class _LambOseen(ParametricReference):
    middle: Tensor

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.register_buffer("middle", torch.zeros(2, dtype=torch.float64))

    def place(self, units: Units, data: Snapshots) -> None:
        super().place(units, data)
        family = self.family
        assert isinstance(family, LambOseen)
        self.middle.copy_(units.centre)
        self.set_values(
            {
                "rotation": -_turning(units, data) * units.pace if family.rotation is None else family.rotation,
                "core": family.core or units.spread,
                "centre": units.centre if family.centre is None else torch.tensor(family.centre),
            },
            units={"rotation": units.pace, "centre": units.spread}
            | ({"expansion": units.pace, "current": units.pace * units.spread} if family.drifting else {}),
            origins={"centre": units.centre},
        )

    def _drift(self, t: Tensor, x: Tensor) -> Tensor:
        values = self.values()
        apart = x - values["centre"]
        factor, _ = _solid_to_free((apart / values["core"]).square().sum(1, keepdim=True))
        drift = values["rotation"] * factor * _turned(apart)
        if "expansion" in values:
            drift = drift + values["expansion"] * (x - self.middle) + values["current"]
        return drift

    def _drift_and_jacobian(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        values = self.values()
        apart = x - values["centre"]
        factor, slope = _solid_to_free((apart / values["core"]).square().sum(1, keepdim=True))
        turned = _turned(apart)
        drift = values["rotation"] * factor * turned
        quarter = x.new_tensor([[0.0, 1.0], [-1.0, 0.0]])
        along = turned[:, :, None] * (2 * slope / values["core"].square() * apart)[:, None, :]
        jacobian = values["rotation"] * (along + factor[:, :, None] * quarter)
        if "expansion" in values:
            drift = drift + values["expansion"] * (x - self.middle) + values["current"]
            jacobian = jacobian + torch.diag(values["expansion"])
        return drift, jacobian


def _solid_to_free(u: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`\varphi(u)` and :math:`\varphi'(u)`."""
    far = u.clamp_min(_SERIES)
    decayed = torch.exp(-far)
    value = -torch.expm1(-far) / far
    slope = (decayed - value) / far
    small = u < _SERIES
    if not bool(small.any()):
        return value, slope
    near = torch.where(small, u, 0.0)
    series, its_slope = torch.full_like(u, _TERMS[-1]), torch.zeros_like(u)
    for term in _TERMS[-2::-1]:
        its_slope = its_slope * near + series
        series = series * near + term
    return torch.where(small, series, value), torch.where(small, its_slope, slope)


def _turned(x: Tensor) -> Tensor:
    """Return points a quarter turn clockwise."""
    return torch.stack([x[:, 1], -x[:, 0]], 1)


def _turning(units: Units, data: Snapshots) -> float:
    """Return 1 where the means of the populations turn anticlockwise around the centre, else -1."""
    means = torch.stack([x.to(torch.float64).mean(0) for x in data.samples]) - units.centre
    before, after = means[:-1], means[1:]
    return 1.0 if float((before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).sum()) > 0 else -1.0


def _check_plane(name: str, dim: int) -> None:
    if dim != 2:
        raise ValueError(f"{name} turns in the plane, with 2 features; the data have {dim}")
