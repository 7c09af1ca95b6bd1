r"""Schroedinger bridges through populations that may be missed at a price, all intervals solved together.

Of a Markov reference Q that starts in the first population, on the points of the populations, it is

.. math:: \min_P \mathrm{KL}(P \Vert Q) + \sum_k \lambda_k\, \mathrm{KL}(P_{t_k} \Vert a_k)

over laws P of index tuples :math:`(i_0, \dots, i_K)`, the global problem of Lavenant et al. (2021). Infinite prices
meet the populations, and the intervals fall apart; finite ones do not let them: where few cells were seen, their
weights give way to what the populations before and after say. The solution is

.. math:: P = u_0(i_0)\, a_0(i_0) \prod_{k=1}^{K} p_k(i_k \mid i_{k-1})\, u_k(i_k), \qquad
    u_k \propto \Bigl(\frac{a_k}{F_k B_k}\Bigr)^{\lambda_k / (1 + \lambda_k)},

with messages :math:`F_k = (u_{k-1} F_{k-1})\, p_k`, :math:`F_0 = a_0`, from the past and
:math:`B_k = p_{k+1}\, (u_{k+1} B_{k+1})`, :math:`B_K = 1`, from the future. A sweep sets the :math:`u_k` one after the
other, there and back; each maximises the dual problem in :math:`u_k`, so that the sweeps converge. Given its own
weights :math:`w_k = u_k F_k B_k` the solution is the bridge through them, of potentials :math:`f = -\log B_k` and
:math:`g = -\log F_{k+1}`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, check_weights
from gendyn.coupling.static_bridge import bridge_kl

__all__ = ["MarginalRelaxation", "SoftChain", "check_marginal_relaxation", "soft_chain"]

MarginalRelaxation = float | Sequence[float]
r"""Prices :math:`\lambda` of missing populations, one of all or one each, in nats; infinite: they are met."""


@dataclass(frozen=True, eq=False)
class SoftChain:
    r"""What :func:`soft_chain` returns.

    Attributes
    ----------
    weights
        Marginals :math:`w_k` of the solution, ``(n_k,)`` each.
    potentials
        :math:`(f, g)` of every interval: its coupling is :math:`w_i w_j e^{f_i + g_j} p(y_j \mid x_i)`, see
        :func:`~gendyn.coupling.bridge_plan`.
    kl
        :math:`\mathrm{KL}(w_i w_j e^{f_i + g_j} p \Vert w_i p)` of every interval, ``(K,)``, in nats.
    divergences
        :math:`\mathrm{KL}(w_k \Vert a_k)`, ``(K + 1,)``, in nats.
    objective
        The minimum.
    marginal_error
        Mass that the last sweep moved, of the population where it moved most.
    iterations
        Sweeps.
    converged
        Whether the error is within the tolerance.
    """

    weights: tuple[Tensor, ...]
    potentials: tuple[tuple[Tensor, Tensor], ...]
    kl: Tensor
    divergences: Tensor
    objective: float
    marginal_error: float
    iterations: int
    converged: bool


def soft_chain(
    log_densities: Sequence[Tensor],
    weights: Sequence[ArrayLike | None] | None = None,
    *,
    relaxation: MarginalRelaxation,
    potentials: Sequence[tuple[Tensor, Tensor]] | None = None,
    tolerance: float = 1e-5,
    max_iterations: int = 20_000,
) -> SoftChain:
    r"""Solve the bridge through populations that may be missed at a price.

    Parameters
    ----------
    log_densities
        :math:`\log p_k(y_j \mid x_i)` of the ``K`` intervals, ``(n_{k-1}, n_k)`` each, finite.
    weights
        Weights :math:`a_k` ``(n_k,)`` of the ``K + 1`` populations, each normalised to sum 1; uniform by default.
    relaxation
        :math:`\lambda`, or one a population.
    potentials
        Where to start: those of :func:`~gendyn.coupling.static_bridge` of every interval; by default all are 0.
    tolerance
        Mass that a last sweep may move.
    max_iterations
        Sweeps at most.

    Raises
    ------
    ValueError
        If densities, weights or prices are unfit.

    Warns
    -----
    UserWarning
        If a sweep still moves more than ``tolerance`` of the mass.

    Examples
    --------
    A population in the middle, seen by one cell on either side, gives way to those before and after:

    >>> x = torch.tensor([[0.0], [3.0]]).double()
    >>> stay = -(x - x.T).square() / 2
    >>> ends = [1.0, 0.0]
    >>> for price in (float("inf"), 1.0):
    ...     solved = soft_chain([stay, stay], [ends, None, ends], relaxation=price)
    ...     print([round(w, 3) for w in solved.weights[1].tolist()])
    [0.5, 0.5]
    [0.989, 0.011]
    """
    chain = _Chain.of(log_densities, weights, relaxation)
    if potentials is not None:
        chain.start(potentials)
    error, sweeps = math.inf, 0
    while sweeps < max_iterations and not error <= tolerance:
        error = chain.sweep()
        sweeps += 1
    if not error <= tolerance:
        warnings.warn(
            f"the soft marginals still move by {error:.1e} of the mass after {sweeps} sweeps: sigma is small against "
            "the displacement; raise sigma, take a reference that moves with the data, lower the relaxation, or raise "
            "max_iterations",
            UserWarning,
            stacklevel=2,
        )
    return chain.solution(error, sweeps, error <= tolerance)


def check_marginal_relaxation(relaxation: MarginalRelaxation, populations: int | None = None) -> tuple[float, ...]:
    """Return prices, one a population where their number is given.

    Raises
    ------
    ValueError
        If one is not positive, or they are not as many as populations.

    Examples
    --------
    >>> check_marginal_relaxation(2.0, 3)
    (2.0, 2.0, 2.0)
    """
    prices = tuple(map(float, relaxation)) if isinstance(relaxation, Sequence) else (float(relaxation),)
    if not prices or not all(price > 0 for price in prices):
        raise ValueError(
            "marginal_relaxation must be positive, or infinite for populations that are met, one number or one a "
            f"population; got {relaxation}"
        )
    if populations is None or len(prices) == populations:
        return prices
    if isinstance(relaxation, Sequence):
        raise ValueError(
            f"marginal_relaxation must be one number, or one for each of {populations} populations; got {len(prices)}"
        )
    return prices * populations


@dataclass(eq=False)
class _Chain:
    """Log-densities, log-weights and powers of all times, with the logarithms of what is iterated."""

    pairs: list[Tensor]
    log_weights: list[Tensor]
    prices: tuple[float, ...]
    scalings: list[Tensor]
    forward: list[Tensor]
    backward: list[Tensor]

    @classmethod
    def of(
        cls,
        log_densities: Sequence[Tensor],
        weights: Sequence[ArrayLike | None] | None,
        relaxation: MarginalRelaxation,
    ) -> _Chain:
        """Check what is given, and begin with no constraint but the start of the reference."""
        pairs = [torch.as_tensor(pair).detach().to(torch.float64) for pair in log_densities]
        if not pairs:
            raise ValueError("a chain needs log_densities of one interval or more; got none")
        for k, pair in enumerate(pairs):
            if pair.ndim != 2 or 0 in pair.shape:
                raise ValueError(f"log_densities must have shapes (n, m); got {tuple(pair.shape)} at interval {k}")
            if not bool(torch.isfinite(pair).all()):
                raise ValueError(
                    f"log_densities must be finite for every pair of points; those of interval {k} are not"
                )
        for k, (one, other) in enumerate(pairwise(pairs)):
            if one.shape[1] != other.shape[0]:
                raise ValueError(
                    f"interval {k} ends in {one.shape[1]} points and interval {k + 1} starts from {other.shape[0]}; "
                    "consecutive intervals must share a population"
                )
        given: Sequence[ArrayLike | None] = [None] * (len(pairs) + 1) if weights is None else weights
        if len(given) != len(pairs) + 1:
            raise ValueError(f"{len(pairs)} intervals have {len(pairs) + 1} populations; got weights of {len(given)}")
        rows = [*pairs, pairs[-1].T]
        logs = [check_weights(one, like, "weights").log() for one, like in zip(given, rows, strict=True)]
        prices = check_marginal_relaxation(relaxation, len(logs))
        chain = cls(pairs, logs, prices, [torch.zeros_like(one) for one in logs], [logs[0]], [])
        chain._look_back()
        chain._look_ahead()
        return chain

    def start(self, potentials: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Begin with the bridge that meets the populations."""
        self.scalings = [torch.zeros_like(one) for one in self.log_weights]
        for k, (f, g) in enumerate(potentials):
            self.scalings[k] += f
            self.scalings[k + 1] += g + self.log_weights[k + 1]
        self._look_back()
        self._look_ahead()

    def sweep(self) -> float:
        """Set all scalings, from the first to the last and back; return the mass that moved most."""
        moved, last = 0.0, len(self.scalings) - 1
        for k in range(last):
            moved = max(moved, self._set(k))
            self.forward[k + 1] = self._arriving(k)
        for k in range(last, 0, -1):
            moved = max(moved, self._set(k))
            self.backward[k - 1] = self._returning(k)
        moved = max(moved, self._set(0))
        # All messages are then those of the same scalings.
        self._look_back()
        return moved

    def _set(self, k: int) -> float:
        """Set the scaling of one population to the best given all others; return the mass that this moves."""
        log_a, price = self.log_weights[k], self.prices[k]
        others = self.forward[k] + self.backward[k]
        before = torch.softmax(self.scalings[k] + others, 0)
        power = 1.0 if math.isinf(price) else price / (1 + price)
        # A point without weight is not visited, whatever the price.
        found = torch.where(log_a == -math.inf, -math.inf, power * (log_a - others))
        self.scalings[k] = found - torch.logsumexp(found + others, 0)
        return float((torch.softmax(found + others, 0) - before).abs().sum())

    def _arriving(self, k: int) -> Tensor:
        """Return what population k says about the next, with all before it."""
        return torch.logsumexp((self.scalings[k] + self.forward[k])[:, None] + self.pairs[k], 0)

    def _returning(self, k: int) -> Tensor:
        """Return what population k says about the one before, with all after it."""
        return torch.logsumexp(self.pairs[k - 1] + (self.scalings[k] + self.backward[k]), 1)

    def _look_back(self) -> None:
        """Form all messages from the past."""
        self.forward = [self.log_weights[0]]
        for k in range(len(self.pairs)):
            self.forward.append(self._arriving(k))

    def _look_ahead(self) -> None:
        """Form all messages from the future."""
        self.backward = [torch.zeros_like(self.log_weights[-1])] * len(self.log_weights)
        for k in range(len(self.pairs), 0, -1):
            self.backward[k - 1] = self._returning(k)

    def solution(self, error: float, sweeps: int, converged: bool) -> SoftChain:
        """Return the law, as a bridge through weights of its own."""
        sums = [u + f + b for u, f, b in zip(self.scalings, self.forward, self.backward, strict=True)]
        logs = [torch.log_softmax(one, 0) for one in sums]
        weights = tuple(one.exp() for one in logs)
        # The last scaling has made the total mass 1, so that messages alone are the potentials.
        potentials = tuple((-self.backward[k], -self.forward[k + 1]) for k in range(len(self.pairs)))
        kl = torch.tensor(
            [bridge_kl(pair, *ends) for pair, ends in zip(potentials, pairwise(weights), strict=True)],
            dtype=torch.float64,
        )
        missed = [
            float((w * torch.where(w > 0, log_w - log_a, 0.0)).sum())
            for w, log_w, log_a in zip(weights, logs, self.log_weights, strict=True)
        ]
        prices = [price * gap for price, gap in zip(self.prices, missed, strict=True) if not math.isinf(price)]
        objective = float(kl.sum()) + missed[0] + sum(prices)
        return SoftChain(
            weights, potentials, kl, torch.tensor(missed, dtype=torch.float64), objective, error, sweeps, converged
        )
