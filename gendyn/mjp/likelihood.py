r"""How likely looks at a hidden jump process are, and the jumps and dwell times expected of it between them.

For looks at certain states the likelihood of a rate matrix :math:`Q` is a product over intervals (Kalbfleisch and
Lawless 1985),

.. math::

    \ell(Q) = \sum_{\Delta} \sum_{ab} C_{ab}(\Delta) \log P(\Delta)_{ab}, \qquad P(\Delta) = e^{Q\Delta},

in which an exact entry into :math:`b` has the factor :math:`\sum_{k \ne b} P(\Delta)_{ak} Q_{kb}`, and an interval in
which everything is known has :math:`e^{Q_{aa}\Delta} Q_{ab}`. Where labels :math:`y` are wrong with probabilities
:math:`1 - E_{ss}`, or stand for several states, it is that of a hidden Markov model in continuous time,

.. math:: \alpha_m = \bigl(\alpha_{m-1} P(\Delta_m)\bigr) \odot E_{\cdot y_m}, \quad \alpha_0 = p_0 \odot E_{\cdot y_0}.

The derivatives of either in the entries of :math:`Q`, each taken as free, are expectations given what was seen
(Fisher's identity; Holmes and Rubin 2002),

.. math::

    Q_{ij}\,\frac{\partial \ell}{\partial Q_{ij}} = \mathbb E[N_{ij}], \qquad
    \frac{\partial \ell}{\partial Q_{ii}} = \mathbb E[T_i],

numbers of jumps and times spent; likewise :math:`E_{sy}\,\partial \ell / \partial E_{sy}` are expected numbers of
labels, and :math:`p_{0,s}\,\partial \ell / \partial p_{0,s}` expected starts. So one backward pass is the whole E-step.
All float64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gendyn.mjp.forward_backward import log_forward
from gendyn.mjp.observations import COMPLETE, ENTRY, SNAPSHOT, StateObservations

__all__ = [
    "ExpectedEvents",
    "HiddenLikelihood",
    "Likelihood",
    "LookDensity",
    "PanelLikelihood",
    "Slopes",
    "label_density",
]

_LEAST = 1e-300
"""Probabilities below this count as this."""

_ENTRIES = 20_000_000
"""Numbers that a backward pass holds at once, about."""

_LAGS = 20_000
"""Intervals of different length whose matrices are exponentiated at once."""


@dataclass(frozen=True, eq=False)
class ExpectedEvents:
    """What one E-step expects, given looks and parameters.

    Attributes
    ----------
    log_likelihood
        Of the parameters.
    jumps
        :math:`E[N_{ij}]`, ``(S, S)``, zero on the diagonal.
    dwell
        :math:`E[T_i]`, ``(S,)``.
    labels
        Expected number of each label ``(S, labels)`` in each state.
    starts
        Expected number of paths that start in each state, ``(S,)``.
    """

    log_likelihood: float
    jumps: Tensor
    dwell: Tensor
    labels: Tensor
    starts: Tensor


@dataclass(frozen=True, eq=False)
class Slopes:
    """A log-likelihood and its derivatives in every entry of rates, emission and initial law."""

    log_likelihood: float
    rates: Tensor
    emission: Tensor
    initial: Tensor


class Likelihood(ABC):
    """The likelihood of looks as a function of rates, emission and initial law; see the module's equations.

    Parameters
    ----------
    seen
        The looks.

    Attributes
    ----------
    hidden
        Whether looks do not show the state for certain, so that the law of the first one counts.
    """

    hidden: bool = False

    def __init__(self, seen: StateObservations) -> None:
        self.seen = seen

    @abstractmethod
    def _parts(self, moved: Tensor, rates: Tensor, emission: Tensor, initial: Tensor) -> Iterator[Tensor]:
        """Yield the terms of the sum given ``exp(Q lags)``, each with a graph of its own."""

    def value(self, rates: Tensor, emission: Tensor, initial: Tensor) -> float:
        r"""Return :math:`\ell`, without derivatives.

        Parameters
        ----------
        rates
            :math:`Q`, ``(S, S)``.
        emission
            :math:`E_{sy}`, ``(S, labels)``.
        initial
            :math:`p_0`, ``(S,)``.
        """
        with torch.no_grad():
            moved = torch.cat(list(_moved(rates, self.seen.lags)))
            return sum(float(part) for part in self._parts(moved, rates, emission, initial))

    def slopes(self, rates: Tensor, emission: Tensor, initial: Tensor) -> Slopes:
        """Return the value and its derivatives; parameters as for :meth:`value`."""
        with torch.no_grad():
            moved = torch.cat(list(_moved(rates, self.seen.lags)))
        free = [v.detach().clone().requires_grad_() for v in (moved, rates, emission, initial)]
        total, sums = 0.0, [torch.zeros_like(v) for v in free]
        with torch.enable_grad():
            for part in self._parts(*free):
                total += float(part.detach())
                found: Sequence[Tensor | None] = torch.autograd.grad(part, free, allow_unused=True)
                sums = [s if g is None else s + g for s, g in zip(sums, found, strict=True)]
            place = 0
            for block in _moved(free[1], self.seen.lags):
                towards = sums[0][place : place + len(block)]
                sums[1] = sums[1] + torch.autograd.grad(block, free[1], towards)[0]
                place += len(block)
        return Slopes(total, *sums[1:])

    def expected(self, rates: Tensor, emission: Tensor, initial: Tensor) -> ExpectedEvents:
        """Return the expectations of one E-step; parameters as for :meth:`value`."""
        slopes = self.slopes(rates, emission, initial)
        jumps = (rates * slopes.rates).fill_diagonal_(0.0).clamp_min(0.0)
        return ExpectedEvents(
            slopes.log_likelihood,
            jumps,
            slopes.rates.diagonal().clamp_min(0.0),
            emission * slopes.emission,
            initial * slopes.initial,
        )


class PanelLikelihood(Likelihood):
    r"""The likelihood given the first look of every path, where every label is the state.

    Intervals count by their length and ends, so that the cost does not grow with the number of paths.

    Parameters
    ----------
    seen
        The looks; their labels must be certain.

    Attributes
    ----------
    counts
        :math:`C_{ab}(\Delta)`, ``(M, S, S)``: pairs of consecutive snapshots.
    entries
        Alike, pairs that end in an exact entry.

    Examples
    --------
    >>> from gendyn.data import Paths
    >>> seen = StateObservations.of(Paths([0.0, 1.0], torch.tensor([[0, 1], [0, 0]])))
    >>> rates = torch.tensor([[-1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    >>> PanelLikelihood(seen).value(rates, torch.eye(2), torch.ones(2))  # log(1 - 1/e) + log(1/e)
    -1.45867...
    """

    def __init__(self, seen: StateObservations) -> None:
        super().__init__(seen)
        if not seen.certain:
            raise ValueError("some labels stand for several states; take HiddenLikelihood")
        size, lags = seen.n_states, len(seen.lags)
        inside = seen.inside
        before, after = seen.labels[:, :-1][inside], seen.labels[:, 1:][inside]
        kinds, lag = seen.kinds[:, 1:][inside], seen.lag_of[inside]

        def count(kind: int) -> Tensor:
            chosen = kinds == kind
            flat = (lag[chosen] * size + before[chosen]) * size + after[chosen]
            return torch.bincount(flat, minlength=lags * size**2).reshape(lags, size, size).to(torch.float64)

        self.counts, self.entries, known = count(SNAPSHOT), count(ENTRY), count(COMPLETE)
        self._dwell = (known.sum(2) * seen.lags[:, None]).sum(0)
        self._jumps = known.sum(0).fill_diagonal_(0.0)
        self._starts = torch.bincount(seen.labels[:, 0], minlength=size).to(torch.float64)

    def _parts(self, moved: Tensor, rates: Tensor, emission: Tensor, initial: Tensor) -> Iterator[Tensor]:
        yield _weighted_log(self.counts, moved)
        if bool(self.entries.any()):
            yield _weighted_log(self.entries, moved @ _off_diagonal(rates))
        if bool(self._dwell.any()):
            yield _weighted_log(self._jumps, rates) + (self._dwell * rates.diagonal()).sum()

    def expected(self, rates: Tensor, emission: Tensor, initial: Tensor) -> ExpectedEvents:
        """Return the expectations of one E-step; labels and starts are as they were seen."""
        found = super().expected(rates, emission, initial)
        every = torch.bincount(self.seen.labels[_looks(self.seen)], minlength=self.seen.n_states).to(torch.float64)
        return replace(found, labels=torch.diag(every), starts=self._starts)


class HiddenLikelihood(Likelihood):
    """The likelihood where looks do not show the state for certain: the forward recursion over all paths.

    Parameters
    ----------
    seen
        The looks.
    density
        How likely each look is in each state, ``(K, L, S)``, from looks and an emission. By default the emission holds
        probabilities of labels, ``(S, labels)``.

    Examples
    --------
    >>> from gendyn.data import Paths
    >>> seen = StateObservations.of(Paths([0.0, 0.5, 1.5, 2.0], torch.tensor([[0, 1, 1, 0]])))
    >>> rates = torch.tensor([[-0.7, 0.7], [0.3, -0.3]], dtype=torch.float64)
    >>> emission = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    >>> initial = torch.tensor([0.6, 0.4], dtype=torch.float64)
    >>> hidden = HiddenLikelihood(seen)
    >>> hidden.value(rates, emission, initial)
    -3.5004003...
    >>> hidden.smoothed(rates, emission, initial)[0, :, 0]
    tensor([0.8355, 0.1513, 0.1204, 0.5961], dtype=torch.float64)
    """

    hidden = True

    def __init__(self, seen: StateObservations, density: LookDensity | None = None) -> None:
        super().__init__(seen)
        self.density: LookDensity = label_density if density is None else density

    def _blocks(self) -> Iterator[StateObservations]:
        size = max(1, _ENTRIES // (self.seen.labels.shape[1] * self.seen.n_states**2))
        for start in range(0, len(self.seen.labels), size):
            yield self.seen.rows(slice(start, start + size))

    def _parts(self, moved: Tensor, rates: Tensor, emission: Tensor, initial: Tensor) -> Iterator[Tensor]:
        for seen in self._blocks():
            yield _forward(seen, self.density(seen, emission), moved, rates, initial)

    def smoothed(self, rates: Tensor, emission: Tensor, initial: Tensor) -> Tensor:
        r"""Return :math:`P(X_{t_m} = s \mid y)` of every look, ``(K, L, S)``; zero after a path's end."""
        with torch.no_grad():
            moved = torch.cat(list(_moved(rates, self.seen.lags)))
        parts = []
        for seen in self._blocks():
            # What a look's density is multiplied with at the optimum tells its posterior: a derivative at 1.
            weights = torch.ones(*seen.labels.shape, seen.n_states, dtype=torch.float64, requires_grad=True)
            with torch.enable_grad():
                density = self.density(seen, emission).detach() * weights
                total = _forward(seen, density, moved, rates.detach(), initial.detach())
            parts.append(torch.autograd.grad(total, weights)[0])
        return torch.cat(parts)


LookDensity = Callable[[StateObservations, Tensor], Tensor]
"""How likely each look is in each state, ``(K, L, S)``, from looks and an emission."""


def label_density(seen: StateObservations, emission: Tensor) -> Tensor:
    """Return the probability of every label in every state, ``(K, L, S)``."""
    return emission.T[seen.labels]


def _forward(seen: StateObservations, density: Tensor, moved: Tensor, rates: Tensor, initial: Tensor) -> Tensor:
    """Return the log-likelihood of some paths, given how likely looks are ``(K, L, S)``."""
    inside, lag, size = seen.inside.T, seen.lag_of.T, seen.n_states
    density = density.permute(1, 2, 0).contiguous()
    special = bool((seen.kinds != SNAPSHOT).any())
    shared = None if special else _shared(lag, inside)
    if shared is not None:
        return log_forward(moved.index_select(0, shared), density, initial, inside)
    moves = moved.flatten(1).T.contiguous().index_select(1, lag.flatten()).reshape(size, size, *lag.shape)
    if special:
        kinds, entering = seen.kinds.T[1:], _off_diagonal(rates)
        stayed = (rates.diagonal()[:, None, None] * seen.lags[lag]).exp()
        stayed = torch.eye(size, dtype=rates.dtype)[:, :, None, None] * stayed
        same = (seen.labels[:, :-1] == seen.labels[:, 1:]).T
        moves = torch.where(kinds == ENTRY, _entering(moves, entering), moves)
        moves = torch.where(kinds == COMPLETE, torch.where(same, stayed, _entering(stayed, entering)), moves)
    return log_forward(moves, density, initial, inside)


def _entering(moves: Tensor, entering: Tensor) -> Tensor:
    """Return what happens until a jump at the end of each interval, ``(S, S, L - 1, K)``."""
    return torch.einsum("abmk,bc->acmk", moves, entering)


def _shared(lag: Tensor, inside: Tensor) -> Tensor | None:
    """Return the lag of every interval ``(L - 1,)`` if it is the same for all paths that have it."""
    longest = torch.where(inside, lag, -1).amax(1).clamp_min(0)
    return longest if bool((~inside | (lag == longest[:, None])).all()) else None


def _moved(rates: Tensor, lags: Tensor) -> Iterator[Tensor]:
    r"""Yield :math:`e^{Q\Delta}`, ``(<= 20000, S, S)``, in the order of the lags."""
    for start in range(0, len(lags), _LAGS):
        some = lags[start : start + _LAGS]
        yield torch.linalg.matrix_exp(rates * some[:, None, None])


def _weighted_log(counts: Tensor, probabilities: Tensor) -> Tensor:
    """Return the sum of counts times logs over what was counted."""
    there = counts > 0
    return (counts[there] * probabilities[there].clamp_min(_LEAST).log()).sum()


def _off_diagonal(rates: Tensor) -> Tensor:
    return rates - torch.diag(rates.diagonal())


def _looks(seen: StateObservations) -> Tensor:
    return torch.arange(seen.labels.shape[1])[None] < seen.lengths[:, None]
