r"""Learning-rate schedules: a factor on the peak rate as a function of the fraction of the fit that is done.

With :math:`s = \text{step}/\text{steps} \in [0, 1)`: ``constant`` 1; ``cosine`` :math:`\tfrac12 (1 + \cos \pi s)`;
``step`` halves at each quarter; ``warmup-cosine`` rises linearly over the first 5 % and then follows the cosine.
A schedule has no state, so a resumed fit needs none of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "get_schedule"]


def _warmup_cosine(s: float) -> float:
    return (s + 1e-3) / (0.05 + 1e-3) if s < 0.05 else 0.5 * (1 + math.cos(math.pi * (s - 0.05) / 0.95))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda s: 1.0,
    "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s)),
    "step": lambda s: 0.5 ** math.floor(4 * s),
    "warmup-cosine": _warmup_cosine,
}
"""Schedules by name."""


def get_schedule(name: str) -> Callable[[float], float]:
    """Return a schedule by name.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those there are.

    Examples
    --------
    >>> get_schedule("cosine")(0.5)
    0.5
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; got {name!r}")
    return SCHEDULES[name]
