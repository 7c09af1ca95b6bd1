r"""How strong the noise of an interpolant's diffusion is: :math:`\epsilon(t)`, half its squared diffusion.

Every :math:`\epsilon \ge 0` leaves the laws at all times what they are if velocity and score are exact. Where they are
learned it repairs errors of the velocity and adds those of the score; and a score that is divided by :math:`\gamma`
asks for an :math:`\epsilon` that vanishes with it (Albergo, Boffi and Vanden-Eijnden 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from gendyn.interpolants.gamma import Bridge, Brownian
from gendyn.interpolants.schedule import Schedule

__all__ = [
    "Epsilon",
    "EpsilonName",
    "bridge_epsilon",
    "get_epsilon",
    "like_gamma",
    "path_optimal",
    "vanishing",
]

Epsilon = float | Callable[[Tensor], Tensor]
"""A number, or a function of the local time in [0, 1]."""

EpsilonName = Literal["bridge", "path-optimal"]
"""Those that a schedule itself has."""


def vanishing(c: float = 1.0) -> Callable[[Tensor], Tensor]:
    r"""Return :math:`c\,t(1-t)`, which vanishes at both ends where a score that is divided by gamma diverges.

    Examples
    --------
    >>> vanishing(4.0)(torch.tensor(0.5)).item()
    1.0
    """
    return lambda t: c * t * (1 - t)


def like_gamma(schedule: Schedule, c: float = 1.0) -> Callable[[Tensor], Tensor]:
    r"""Return :math:`c\,\gamma(t)`.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import Linear
    >>> like_gamma(Linear(), 2.0)(torch.tensor(0.5)).item()
    1.0
    """
    return lambda t: c * schedule.gamma.value(t)


def bridge_epsilon(schedule: Schedule) -> Callable[[Tensor], Tensor]:
    r"""Return :math:`g(t)^2/2`, half the squared diffusion of the process that a schedule is the bridge of.

    With entropic ends of regularisation :math:`2\int g^2` the diffusion is then the Schroedinger bridge.

    Raises
    ------
    ValueError
        If the schedule's noise is not that of a bridge.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import BridgeSchedule
    >>> bridge_epsilon(BridgeSchedule(("bridge", 2.0)))(torch.tensor(0.5)).item()
    2.0
    """
    gamma = schedule.gamma
    if isinstance(gamma, Brownian):
        variance = gamma.a
        return lambda t: torch.full_like(t, 0.5 * variance)
    if not isinstance(gamma, Bridge):
        raise ValueError(f"{schedule} is no bridge; its gamma must be 'bridge' or 'brownian'")
    bridge = gamma
    return lambda t: 0.5 * bridge.squared_diffusion(t)


def path_optimal(schedule: Schedule, margin: float = 1e-3) -> Callable[[Tensor], Tensor]:
    r"""Return :math:`\alpha^2\dot\beta/\beta - \alpha\dot\alpha`, which is optimal for one-sided schedules.

    It minimises the bound on the Kullback-Leibler divergence between the laws of paths; it diverges at t=0, where time
    is held at ``margin``. For straight lines it is :math:`(1-t)/t`.

    Raises
    ------
    ValueError
        If the schedule is not one-sided.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import OneSidedLinear
    >>> path_optimal(OneSidedLinear())(torch.tensor(0.25)).item()
    3.0
    """
    if schedule.sides != "one-sided":
        raise ValueError(f"the path-optimal epsilon is that of a one-sided schedule; got {schedule}")

    def epsilon(t: Tensor) -> Tensor:
        c = schedule.at(t.clamp(margin, 1 - 1e-9))
        return c.alpha**2 * c.beta_rate / c.beta - c.alpha * c.alpha_rate

    return epsilon


def get_epsilon(epsilon: Epsilon | EpsilonName, schedule: Schedule) -> Epsilon:
    """Return the epsilon that a schedule has by name; a number or a function is returned as it is.

    Raises
    ------
    ValueError
        If there is none of that name, or the schedule has none.

    Examples
    --------
    >>> from gendyn.interpolants.schedule import BridgeSchedule
    >>> get_epsilon("bridge", BridgeSchedule(("bridge", 2.0)))(torch.tensor(0.5)).item()
    2.0
    """
    if not isinstance(epsilon, str):
        return epsilon
    if epsilon not in get_args(EpsilonName):
        raise ValueError(
            f"epsilon must be a number, a function of the local time, or one of {get_args(EpsilonName)}; "
            f"got {epsilon!r}"
        )
    return bridge_epsilon(schedule) if epsilon == "bridge" else path_optimal(schedule)
