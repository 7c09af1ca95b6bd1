r"""Which stable SDE: what its drift sees, what its noise looks like, and how both are written down.

The published families (Oh, Lim and Kim, ICLR 2024) and their naive rival, with the mix :math:`\bar z` of state and
control, time t and control X:

================  =====================================================================================
kind              equation
================  =====================================================================================
``langevin``      :math:`dz = \gamma(\bar z)\,dt + \sigma(t)\,dW`: no explicit time, additive noise
``linear-noise``  :math:`dz = \gamma(t, \bar z)\,dt + \sigma(t)\, z\,dW`
``geometric``     :math:`dz / z = \gamma(t, \bar z)\,dt + \sigma(t)\,dW`
``naive``         :math:`dz = f(t, z)\,dt + g(t, z)\,dW`: the control enters at the start alone
================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from gendyn.sde.noise_level import NOISE_LEVELS

__all__ = ["KINDS", "NoiseSharing", "Parametrisation", "StableDesign", "stable_design"]

Parametrisation = Literal["bounded", "exact"]
NoiseSharing = Literal["diagonal", "scalar"]


@dataclass(frozen=True)
class StableDesign:
    r"""What the drift sees, and which noise there is: the published families, and every other of their ablation.

    Parameters
    ----------
    state, control, clock
        Whether the drift sees the state, the control, and time. Without the state there is nothing to stabilise.
    geometric
        Whether the drift is proportional to the state.
    noise
        A name of :data:`~gendyn.sde.NOISE_LEVELS`.
    parametrisation
        ``"bounded"``: drift and diffusion are clipped by a hyperbolic tangent, as published, which bounds what a step
        can do and gives up what the theory says. ``"exact"``: the drift pulls back by :math:`-A z` (of a geometric
        equation: is relative to the state, which steps on its logarithm), and the theory holds.
    noise_sharing
        ``"diagonal"``: a Brownian motion for each feature, as published; ``"scalar"``: one for all. Only with one for
        all does linear noise stabilise almost surely in any dimension (up to :math:`L - \sigma^2/2` for a drift of
        Lipschitz constant L): with independent ones the same argument gives :math:`L + \sigma^2/2 - \sigma^2/d`, and
        so a guarantee for d = 1 alone. No linear noise stabilises the mean.

    Raises
    ------
    ValueError
        If a choice is unknown or they do not go together.

    Examples
    --------
    >>> StableDesign(clock=True, noise="mlp(time)*state").on_logarithm
    False
    """

    state: bool = True
    control: bool = True
    clock: bool = False
    geometric: bool = False
    noise: str = "mlp(time)"
    parametrisation: Parametrisation = "bounded"
    noise_sharing: NoiseSharing = "diagonal"

    def __post_init__(self) -> None:
        if self.parametrisation not in get_args(Parametrisation):
            raise ValueError(f"parametrisation must be 'bounded' or 'exact'; got {self.parametrisation!r}")
        if self.noise_sharing not in get_args(NoiseSharing):
            raise ValueError(f"noise_sharing must be 'diagonal' or 'scalar'; got {self.noise_sharing!r}")
        if self.noise not in NOISE_LEVELS:
            raise ValueError(f"noise must be one of {', '.join(NOISE_LEVELS)}; got {self.noise!r}")
        if not (self.state or self.control):
            raise ValueError("a drift must see the state, the control or both; got neither")
        if self.on_logarithm and NOISE_LEVELS[self.noise][1] != "state" and self.noise != "none":
            able = [name for name, (_, shape) in NOISE_LEVELS.items() if shape == "state"]
            raise ValueError(
                "an exact geometric equation steps on the logarithm and needs noise proportional to the state, one of "
                f"{', '.join(able)}; got {self.noise!r}"
            )

    @property
    def bounded(self) -> bool:
        """Whether drift and diffusion are clipped."""
        return self.parametrisation == "bounded"

    @property
    def on_logarithm(self) -> bool:
        """Whether steps are taken on the logarithm of the state."""
        return self.geometric and not self.bounded


KINDS: Mapping[str, StableDesign] = MappingProxyType(
    {
        "langevin": StableDesign(),
        "linear-noise": StableDesign(clock=True, noise="mlp(time)*state"),
        "geometric": StableDesign(clock=True, geometric=True, noise="mlp(time)*state"),
        "naive": StableDesign(control=False, clock=True, noise="mlp(time,state)"),
    }
)
"""The families by name."""


def stable_design(
    kind: str, parametrisation: Parametrisation = "bounded", noise_sharing: NoiseSharing = "diagonal"
) -> StableDesign:
    """Return the design of a family.

    Raises
    ------
    ValueError
        If there is no such family.

    Examples
    --------
    >>> stable_design("geometric", "exact").on_logarithm
    True
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    plain = KINDS[kind].__dict__
    return StableDesign(**plain | {"parametrisation": parametrisation, "noise_sharing": noise_sharing})
