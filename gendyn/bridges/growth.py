r"""How fast cells multiply between populations, and what that makes of the weights of a coupling.

Cell i of a population is expected to leave :math:`g_i = e^{r_i \tau}` descendants after an interval of length
:math:`\tau`. Weights a become :math:`p_i = a_i g_i`, of mass :math:`G = \sum_i p_i`, and the coupling is that between p
and the next population at the same mass, missed at a price where there is one
(:func:`~gendyn.coupling.static_bridge`). What each cell really left, the row sum of the coupling over its weight, is
learned growth: it takes the place of g in a further solution, as often as is asked (Schiebinger et al. 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gendyn.coupling import LogDensities, StaticBridge, blocked_bridge, static_bridge
from gendyn.coupling.cost import ArrayLike
from gendyn.coupling.entropic import Relaxation, check_relaxation
from gendyn.data import Snapshots

__all__ = ["Growth", "GrowthRate", "growing_coupling", "rates_of"]

GrowthRate = Callable[[Tensor, Tensor], Tensor] | Sequence[ArrayLike]
"""Births minus deaths per unit of time: ``r(t, x) -> (n,)``, or ``(n_k,)`` at each time."""


@dataclass(frozen=True, eq=False)
class Growth:
    """How cells multiply in a bridge.

    Attributes
    ----------
    rates
        ``K`` tensors ``(n_k,)``: expected births minus deaths per unit of time over the interval after each population.
    relaxation
        Prices of missing the weights of the earlier and the later population of an interval, in nats.
    iterations
        How many couplings are solved an interval, each with the growth that the one before found.
    """

    rates: tuple[Tensor, ...]
    relaxation: tuple[float, float] = (math.inf, math.inf)
    iterations: int = 1

    @classmethod
    def of(
        cls, data: Snapshots, rate: GrowthRate | None, relaxation: Relaxation = math.inf, iterations: int = 1
    ) -> Growth | None:
        """Return the growth of hyper-parameters, or ``None`` where they say that there is none.

        Raises
        ------
        TypeError
            If the rate is neither a function nor a sequence.
        ValueError
            If rates do not fit the populations, or prices or iterations are out of range.
        """
        prices = check_relaxation(relaxation)
        if iterations < 1:
            raise ValueError(f"growth_iterations must be at least 1; got {iterations}")
        if rate is None and all(map(math.isinf, prices)):
            return None
        return cls(rates_of(rate, data), prices, iterations)


def rates_of(rate: GrowthRate | None, data: Snapshots) -> tuple[Tensor, ...]:
    """Return the rates at the rows of every population but the last, ``(n_k,)`` each, float64.

    Raises
    ------
    TypeError
        If the rate is neither a function nor a sequence.
    ValueError
        If there are not as many rates as rows, or one is not finite.

    Examples
    --------
    >>> data = Snapshots([0.0, 1.0], [torch.tensor([[-1.0], [2.0]]), torch.zeros(3, 1)])
    >>> rates_of(lambda t, x: (x[:, 0] > 0).double(), data)
    (tensor([0., 1.], dtype=torch.float64),)
    """
    count = len(data) - 1
    if rate is not None and not callable(rate) and (isinstance(rate, str) or not isinstance(rate, Sequence)):
        raise TypeError(
            f"growth_rate must be a function r(t, x) -> (n,), or one array of rates a time; got {type(rate).__name__}"
        )
    if isinstance(rate, Sequence) and len(rate) not in (count, count + 1):
        raise ValueError(
            f"growth_rate must hold rates for each of {count + 1} times (those of the last are not needed); "
            f"got {len(rate)}"
        )
    found = []
    for k, x in enumerate(data.samples[:-1]):
        t = data.times[k]
        given: Any = torch.zeros(len(x)) if rate is None else rate(t.to(x), x) if callable(rate) else rate[k]
        values = torch.as_tensor(given).detach().to(device=x.device, dtype=torch.float64)
        if values.shape != (len(x),):
            raise ValueError(
                f"growth_rate must give one number a row: {len(x)} at time {float(t):g}; got shape "
                f"{tuple(values.shape)}"
            )
        if not bool(torch.isfinite(values).all()):
            row = int(torch.nonzero(~torch.isfinite(values))[0])
            raise ValueError(f"growth_rate must be finite; got {float(values[row])} for row {row} at time {float(t):g}")
        found.append(values)
    return tuple(found)


def growing_coupling(
    log_density: Tensor | LogDensities, a: Tensor, b: Tensor, log_growth: Tensor, growth: Growth, **options: Any
) -> StaticBridge:
    r"""Solve an interval in which cells multiply.

    Parameters
    ----------
    log_density
        :math:`\log p(y_j \mid x_i)`, ``(n_0, n_1)``, or what forms them in blocks of rows.
    a, b
        Weights of sum 1.
    log_growth
        :math:`\log g`, ``(n_0,)``.
    growth
        Prices and iterations.
    **options
        Of :func:`~gendyn.coupling.static_bridge`, or of :func:`~gendyn.coupling.blocked_bridge`.

    Returns
    -------
    StaticBridge
        With potentials of the plan :math:`a_i b_j e^{f_i + g_j} p(y_j \mid x_i)`, whose row sums are
        :math:`a_i e^{\text{log\_gain}_i}`.

    Examples
    --------
    Half of the cells double, so that nobody has to change places:

    >>> x, y = torch.tensor([-5.0, 5.0]).double(), torch.tensor([-5.0, 5.0]).double()
    >>> log_density = -(x[:, None] - y).square() / (2 * 0.3**2)
    >>> a, b = torch.tensor([0.5, 0.5]).double(), torch.tensor([1 / 3, 2 / 3]).double()
    >>> doubled = torch.tensor([0.0, 2.0]).clamp_min(1.0).log().double()
    >>> solved = growing_coupling(log_density, a, b, doubled, Growth((doubled,)))
    >>> round(solved.mass, 6), [round(v, 6) for v in solved.log_gain.exp().tolist()]
    (1.5, [1.0, 2.0])
    """
    grown = log_growth
    for _ in range(growth.iterations):
        total = torch.logsumexp(a.log() + grown, 0)
        p = (a.log() + grown - total).exp()
        if isinstance(log_density, Tensor):
            solved = static_bridge(log_density, p, b, relaxation=growth.relaxation, **options)
        else:
            solved = blocked_bridge(log_density, p, b, relaxation=growth.relaxation, **options)
        before = grown
        if solved.log_gain is None:
            break
        grown = before + solved.log_gain
    f, g = solved.potentials
    return replace(solved, potentials=(f + before, g), mass=solved.mass * math.exp(float(total)), log_gain=grown)
