r"""The published flow-matching methods by name, each a point on the axes that the models have.

A method is a coupling of the ends, a conditional path :math:`x = \mu_t + \sigma_t z` between them, and what is
regressed on it: the velocity :math:`\dot\mu_t + \dot\sigma_t z` of the particle, and for some the score
:math:`-z/\sigma_t`. :func:`preset_table` prints them.

A ``sigma`` is a blur of the path, except for ``"sbcfm"`` and ``"sf2m"``, where it is the diffusion of a bridge,
:math:`\sigma^2 = 2\epsilon`. Both are in units of the scaled data, and a gap between populations has length 1.

(Lipman et al. 2023; Albergo and Vanden-Eijnden 2023; Liu, Gong and Liu 2023; Tong et al., TMLR 2024 and AISTATS 2024;
Kapusniak et al. 2024.)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pandas as pd

from gendyn.interpolants.flow_matching import FlowMatching
from gendyn.interpolants.gamma import Bridge
from gendyn.interpolants.population_model import PopulationModel
from gendyn.interpolants.stochastic_interpolant import StochasticInterpolant

__all__ = ["PRESETS", "Preset", "preset", "preset_table"]

_LEAST_DIFFUSION = 1e-3
"""Below this a bridge is a straight line to rounding, and its score diverges."""


@dataclass(frozen=True)
class Preset:
    """A published method.

    Attributes
    ----------
    model
        Its estimator.
    sigma
        Its usual noise.
    mean, deviation, learns
        What its conditional path is between neighbouring points x0 and x1, and what is regressed, for readers.
    options
        Hyper-parameters of the estimator that make it the method.
    """

    model: type[PopulationModel]
    sigma: float
    mean: str
    deviation: str
    learns: str
    options: Mapping[str, Any] = field(default_factory=dict)


_STRAIGHT = "(1-t) x0 + t x1"
_BRIDGE = {"schedule": "bridge", "coupling": "sinkhorn"}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "icfm": Preset(
            FlowMatching, 0.1, _STRAIGHT, "sigma", "velocity", {"coupling": "independent", "path": "linear"}
        ),
        "otcfm": Preset(FlowMatching, 0.1, _STRAIGHT, "sigma", "velocity", {"coupling": "ot", "path": "linear"}),
        "fm": Preset(
            FlowMatching,
            0.1,
            "t x1",
            "1 - (1-sigma) t",
            "velocity",
            {"coupling": "independent", "path": "shrinking", "scale": "none"},
        ),
        "vp": Preset(
            FlowMatching,
            0.1,
            "cos(pi t/2) x0 + sin(pi t/2) x1",
            "sigma",
            "velocity",
            {"coupling": "independent", "path": "trigonometric"},
        ),
        "sbcfm": Preset(
            StochasticInterpolant,
            1.0,
            "x0 + (x1-x0) F(t)/F(1)",
            "sqrt(F - F^2/F(1))",
            "velocity",
            {**_BRIDGE, "fields": ("velocity",)},
        ),
        "sf2m": Preset(
            StochasticInterpolant,
            1.0,
            "x0 + (x1-x0) F(t)/F(1)",
            "sqrt(F - F^2/F(1))",
            "velocity and score",
            {**_BRIDGE, "fields": ("velocity", "score"), "score_weight": "gamma"},
        ),
        "rectified": Preset(
            FlowMatching,
            0.0,
            f"{_STRAIGHT}, refitted to its own pairs",
            "sigma",
            "velocity",
            {"coupling": "independent", "path": "linear", "reflow": 1},
        ),
        "spline": Preset(
            FlowMatching,
            0.1,
            "natural cubic spline through all times (path='pchip': monotone)",
            "sigma",
            "velocity",
            {"coupling": "spline-ot", "path": "cubic", "bend": 1.0},
        ),
        "metric": Preset(
            FlowMatching,
            0.1,
            f"{_STRAIGHT} + 2t(1-t) phi(x0, x1, t)",
            "sigma",
            "phi, then velocity",
            {"coupling": "ot", "path": "metric"},
        ),
    }
)
"""Name to method; a new one joins by an entry here."""


def preset(name: str, sigma: float | Sequence[float] | None = None, **options: Any) -> PopulationModel:
    r"""Return an unfitted model that is set up as a published method.

    Parameters
    ----------
    name
        One of :data:`PRESETS`; :func:`preset_table` says what each is.
    sigma
        The noise, in units of the scaled data; by default the method's own. For ``"sbcfm"`` and ``"sf2m"`` it is the
        diffusion of the bridge, :math:`\sigma^2 = 2\epsilon`, and may be a sequence: values of g(t) at evenly spaced
        times of a gap, straight between them, so that :math:`F(t) = \int_0^t g^2`.
    **options
        Hyper-parameters of the model, which go before those of the preset; for example ``coupling="ot"`` with
        ``"sf2m"``, ``path="pchip"`` with ``"spline"``, ``reflow=2`` with ``"rectified"``, ``metric="rbf"`` with
        ``"metric"``.

    Returns
    -------
    PopulationModel
        :class:`~gendyn.StochasticInterpolant` for the bridges, else :class:`~gendyn.FlowMatching`. A fitted ``"sf2m"``
        has velocity and score: ``sample()`` runs its flow and ``sample(epsilon="bridge")`` its diffusion, either
        backward where times fall.

    Raises
    ------
    ValueError
        If there is no preset of that name, the model has no such hyper-parameter, or a diffusion is not positive.

    Warns
    -----
    UserWarning
        If the diffusion of a bridge is below 1e-3: it is next to none, and the score diverges.

    Examples
    --------
    >>> preset("otcfm", steps=100)
    FlowMatching(path='linear', steps=100)
    >>> preset("sf2m", sigma=0.5).gamma
    ('bridge', 0.5)
    """
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    chosen = PRESETS[name]
    noise = chosen.sigma if sigma is None else sigma
    settings = dict(chosen.options)
    if chosen.model is StochasticInterpolant:
        settings |= _bridge(noise)
    elif isinstance(noise, Sequence):
        raise ValueError(f"the sigma of {name!r} is one number; only bridges have one that changes with time")
    else:
        settings["sigma"] = noise
    return chosen.model(**settings).set_params(**options)


def preset_table() -> pd.DataFrame:
    """Return what each preset is: its coupling, its conditional path, what it learns, and its usual sigma.

    Examples
    --------
    >>> preset_table().loc["fm", ["coupling", "mean", "deviation"]].tolist()
    ['independent', 't x1', '1 - (1-sigma) t']
    """
    rows = {
        name: {
            "model": p.model.__name__,
            "coupling": p.options["coupling"],
            "mean": p.mean,
            "deviation": p.deviation,
            "learns": p.learns,
            "sigma": p.sigma,
        }
        for name, p in PRESETS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def _bridge(sigma: float | Sequence[float]) -> dict[str, Any]:
    """Return the amplitude of a bridge, and the regularisation of the entropic plan that belongs to it."""
    values = tuple(float(g) for g in sigma) if isinstance(sigma, Sequence) else (float(sigma),)
    amplitude = Bridge(*values)
    if min(amplitude.diffusion) < _LEAST_DIFFUSION:
        warnings.warn(
            f"a diffusion of {min(amplitude.diffusion):g} is next to none, and the score of its bridge diverges; "
            "use 'otcfm'",
            stacklevel=3,
        )
    return {"gamma": ("bridge", *amplitude.diffusion), "regularisation": 2 * amplitude.total}
