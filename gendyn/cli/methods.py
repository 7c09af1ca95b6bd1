"""Models by the names that a person types: ``flow-matching``, ``flow-matching:coupling=ot``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gendyn.cli.options import parse_settings

if TYPE_CHECKING:
    from gendyn.training import Estimator

__all__ = ["build", "build_many", "names_of_models"]


COUPLINGS = ("independent", "ot", "sinkhorn", "spline-ot")
"""Short names: flow matching with this coupling."""


def names_of_models() -> dict[str, type[Estimator]]:
    """Return the models by the names that a person types.

    Examples
    --------
    >>> "flow-matching" in names_of_models()
    True
    """
    from gendyn.models import MODELS

    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", key).lower(): kind for key, kind in MODELS.items()}


def build(text: str, settings: Mapping[str, Any] | None = None) -> Estimator:
    """Return an unfitted model from ``name`` or ``name:parameter=value:parameter=value``.

    Parameters
    ----------
    text
        The name of a class in :data:`gendyn.models.MODELS`, in words joined by hyphens, with parameters after colons;
        a lone word after the colon is the coupling. A coupling alone means flow matching with it.
    settings
        Further parameters; those in ``text`` win.

    Raises
    ------
    ValueError
        If there is no such model, or it has no such parameter.
    """
    known = names_of_models()
    if text.strip().lower() in COUPLINGS:
        text = f"flow-matching:{text.strip().lower()}"
    name, *parts = text.split(":")
    if name.strip().lower() not in known:
        raise ValueError(
            f"there is no method {name!r}; there are {', '.join(known)}, and for flow-matching the short names "
            f"{', '.join(COUPLINGS)}"
        )
    kind = known[name.strip().lower()]
    parameters = {
        **(settings or {}),
        **parse_settings([p if "=" in p else f"coupling={p}" for p in parts], "--methods"),
    }
    defaults = kind().get_params()
    unknown = [key for key in parameters if key not in defaults]
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(defaults)}")
    if isinstance(parameters.get("hidden"), list):
        parameters["hidden"] = tuple(parameters["hidden"])
    return kind(**parameters)


def build_many(text: str, settings: Mapping[str, Any]) -> dict[str, Estimator]:
    """Return unfitted models from names separated by commas, each under the name that was typed.

    Raises
    ------
    ValueError
        If a name is empty or stands there twice, or as `build` does.
    """
    # A comma inside brackets belongs to a list, as in flow-matching:hidden=[64,64].
    names = [name.strip() for name in re.split(r",(?![^\[]*\])", text)]
    if not all(names):
        raise ValueError(f"--methods must be names separated by commas without gaps; got {text!r}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"--methods names {twice[0]} twice")
    return {name: build(name, settings) for name in names}
