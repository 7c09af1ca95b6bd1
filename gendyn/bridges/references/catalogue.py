"""The families by name: one explicit table, so that reading a file runs nothing which it does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gendyn.bridges.references.family import ReferenceFamily
from gendyn.bridges.references.hill_mlp import HillMLP
from gendyn.bridges.references.linear import Brownian, Linear, Spring
from gendyn.bridges.references.lotka_volterra import LotkaVolterra
from gendyn.bridges.references.networks import MLP, GradientField, LinearPlusMLP
from gendyn.bridges.references.protein_repressilator import ProteinRepressilator
from gendyn.bridges.references.repressilator import Repressilator
from gendyn.bridges.references.vortex import BigVortex, LambOseen

__all__ = ["FAMILIES", "get_family"]

FAMILIES: dict[str, type[ReferenceFamily]] = {
    family.name: family
    for family in (
        BigVortex,
        Brownian,
        GradientField,
        HillMLP,
        LambOseen,
        Linear,
        LinearPlusMLP,
        LotkaVolterra,
        MLP,
        ProteinRepressilator,
        Repressilator,
        Spring,
    )
}
"""Every family that a name or a file can stand for."""


def get_family(family: str | ReferenceFamily | Mapping[str, Any]) -> ReferenceFamily:
    """Return a family from its name, or from what its ``describe()`` gave.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those there are.

    Examples
    --------
    >>> get_family("lotka-volterra").volatility
    'proportional'
    """
    if isinstance(family, ReferenceFamily):
        return family
    name, parameters = (family, {}) if isinstance(family, str) else (family["family"], family["parameters"])
    if name not in FAMILIES:
        raise ValueError(f"there is no family of references {name!r}; there are {', '.join(sorted(FAMILIES))}")
    # JSON has lists where the families have tuples.
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()}
    return FAMILIES[name](**plain)
