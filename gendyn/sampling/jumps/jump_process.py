r"""What a Markov jump process is: a state that stays put for a random time, then jumps.

In state :math:`x` the jump :math:`r` happens at rate :math:`a_r(t, x)`. The waiting time for any of them, and which
one it is, are

.. math::

    P(\tau > s) = \exp\Bigl(-\int_t^{t+s} a_0(v, x)\,dv\Bigr), \qquad P(r) = \frac{a_r}{a_0}, \qquad a_0 = \sum_r a_r .

Two kinds are at hand. A rate matrix :math:`Q` moves a state among :math:`0 \dots K-1`: its jumps are the target
states, at rates :math:`Q_{ij}`, and its law solves :math:`\dot p = p\,Q`, so that :math:`p(t) = p(0)\,e^{Qt}`. A
reaction network moves counts: reaction :math:`r` adds the row :math:`\nu_r` of the stoichiometry to them. Time,
rates and probabilities are float64, states int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor, check_finite, check_names

__all__ = ["JumpProcess", "RateMatrix", "ReactionNetwork"]

_ROW_SUM = 1e-8
"""How far from zero a row of a rate matrix may sum, relative to its largest entry."""


@runtime_checkable
class JumpProcess(Protocol):
    """The members every jump process has.

    Optional member: ``bound(state) -> (B,)``, a bound on the total rate in a state at all times, which thinning needs.
    """

    @property
    def dim(self) -> int:
        """Number of components ``d`` of a state."""
        ...

    @property
    def autonomous(self) -> bool:
        """Whether the rates do not depend on time."""
        ...

    def rates(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the rate of every jump ``(B, R)``, for times ``(B, 1)`` and states ``(B, d)``, integers from 0 on."""
        ...

    def jump(self, state: Tensor, which: Tensor) -> Tensor:
        """Return the states ``(B, d)`` after the jumps numbered ``which``, ``(B,)``."""
        ...


class RateMatrix:
    r"""A Markov jump process on finitely many states :math:`0 \dots K-1`.

    .. math:: \dot p = p\, Q(t), \qquad Q_{ij} \ge 0 \;(i \ne j), \qquad \textstyle\sum_j Q_{ij} = 0 .

    Parameters
    ----------
    rates
        :math:`Q`, shape ``(K, K)``, per time unit. Or a function of time: it is given times ``(B, 1, 1)`` in float64
        and returns ``(B, K, K)`` (or ``(K, K)``); it is called at time 0 once to learn ``K``.
    states
        ``K`` names of the states.
    bound
        For a function of time: a number that no exit rate :math:`-Q_{ii}(t)` exceeds at any time.

    Raises
    ------
    TypeError
        If ``rates`` is neither numbers nor a function that returns a tensor.
    ValueError
        If the matrix is not square, a rate is negative, a row does not sum to zero (to 1e-8, relative to its largest
        entry), or the bound is missing, not positive, or given for a constant matrix.

    Examples
    --------
    >>> switch = RateMatrix([[-1.5, 1.5], [0.5, -0.5]], states=["off", "on"])
    >>> switch
    RateMatrix(2 states)
    >>> switch.stationary().tolist()
    [0.25, 0.7...]
    >>> round(switch.transition(0.5)[0, 1].item(), 6)
    0.47409
    >>> RateMatrix([[-1.0, 1.5], [0.5, -0.5]])
    Traceback (most recent call last):
    ...
    ValueError: row 0 of the rate matrix sums to 0.5, but rows must sum to zero: set its diagonal entry to -1.5
    """

    dim: int = 1

    def __init__(
        self,
        rates: ArrayLike | Callable[[Tensor], Tensor],
        states: Sequence[str] | None = None,
        *,
        bound: float | None = None,
    ) -> None:
        self.autonomous: bool = isinstance(rates, Tensor) or not callable(rates)
        self._function: Callable[[Tensor], Tensor] | None = None
        if self.autonomous:
            if bound is not None:
                raise ValueError("a constant rate matrix bounds its own exit rates; leave out bound")
            matrix = as_tensor(rates, "rates").detach().cpu().to(torch.float64)
            _check_rate_matrix(matrix)
            self._off_diagonal = matrix.clone().fill_diagonal_(0.0)
            self.n_states: int = len(matrix)
            self._bound = float(self.exit_rates.max())
        else:
            if bound is None:
                raise ValueError("rates that depend on time need bound=, a number that no exit rate exceeds")
            if not (math.isfinite(bound) and bound > 0):
                raise ValueError(f"bound must be a positive number; got {bound}")
            self._function, self._bound = rates, float(bound)
            first = rates(torch.zeros(1, 1, 1, dtype=torch.float64))
            if not isinstance(first, Tensor):
                raise TypeError(f"rates(t) must return a tensor; got {type(first).__name__}")
            if first.ndim not in (2, 3) or first.shape[-1] != first.shape[-2]:
                raise ValueError(
                    f"rates(t) must return shape (B, K, K) or (K, K) for times (B, 1, 1); got {tuple(first.shape)}"
                )
            self.n_states = int(first.shape[-1])
            _check_rate_matrix(self.matrix(0.0))
        self.states: tuple[str, ...] | None = None if states is None else check_names(states, self.n_states)
        self.names: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        return f"RateMatrix({self.n_states} states{'' if self.autonomous else ', rates depend on time'})"

    def matrix(self, t: float = 0.0) -> Tensor:
        r"""Return :math:`Q(t)`, shape ``(K, K)``, with rows that sum to zero exactly."""
        if self._function is None:
            off = self._off_diagonal
        else:
            values = self._function(torch.full((1, 1, 1), float(t), dtype=torch.float64)).detach().to(torch.float64)
            values = values.reshape(self.n_states, self.n_states)
            _check_rate_matrix(values)
            off = values.clone().fill_diagonal_(0.0)
        return off - torch.diag(off.sum(1))

    @property
    def exit_rates(self) -> Tensor:
        r"""Exit rates :math:`-Q_{ii}` of a constant matrix, ``(K,)``."""
        return self._constant("exit_rates").sum(1)

    def rates(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the rates to every state ``(B, K)``, zero to the own; ``t`` is ``(B, 1)``, ``state`` is ``(B, 1)``."""
        own = state[:, 0]
        if self._function is None:
            return self._off_diagonal.index_select(0, own)
        matrices = self._function(t.reshape(-1, 1, 1)).to(torch.float64)
        rows = matrices.expand(len(own), self.n_states, self.n_states)[torch.arange(len(own)), own]
        bad = rows.sum(1).abs() > _ROW_SUM * rows.abs().amax(1)
        if bool(bad.any()):
            i = int(torch.nonzero(bad)[0])
            raise ValueError(
                f"row {int(own[i])} of the rate matrix sums to {float(rows[i].sum()):g} at time {float(t[i]):g}, but "
                "rows must sum to zero: set its diagonal entry to minus the sum of the others"
            )
        return rows.scatter(1, state, 0.0)

    def jump(self, state: Tensor, which: Tensor) -> Tensor:
        """Return the target states ``(B, 1)``."""
        return which[:, None]

    def bound(self, state: Tensor) -> Tensor:
        """Return the bound on the exit rate, the same for every state, ``(B,)``."""
        return torch.full((len(state),), self._bound, dtype=torch.float64)

    def transition(self, t: float | Tensor) -> Tensor:
        r"""Return :math:`P(t) = e^{Qt}` of a constant matrix, ``(K, K)``, or ``(T, K, K)`` for times ``(T,)``.

        Raises
        ------
        ValueError
            If a time is negative or not finite, or the rates depend on time.

        Examples
        --------
        >>> RateMatrix([[-1.0, 1.0], [0.0, 0.0]]).transition(torch.tensor([0.0, 1.0]))[:, 0, 0].tolist()
        [1.0, 0.36787...]
        """
        self._constant("transition")
        gaps = torch.as_tensor(t, dtype=torch.float64)
        if gaps.ndim > 1 or not bool((torch.isfinite(gaps) & (gaps >= 0)).all()):
            raise ValueError("t must be finite and not negative, one number or a row of them")
        p: Tensor = torch.linalg.matrix_exp(self.matrix() * gaps[..., None, None]).clamp_min(0.0)
        return p / p.sum(-1, keepdim=True)

    def stationary(self) -> Tensor:
        r"""Return the law :math:`\pi` with :math:`\pi Q = 0` of a constant matrix, ``(K,)``.

        Raises
        ------
        ValueError
            If there are several such laws, or the rates depend on time.

        Examples
        --------
        >>> law = RateMatrix([[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0], [2.0, 0.0, -2.0]]).stationary()
        >>> [round(p, 6) for p in law.tolist()]
        [0.4, 0.4, 0.2]
        """
        self._constant("stationary")
        matrix = self.matrix()
        if self.n_states > 1 and int(torch.linalg.matrix_rank(matrix)) < self.n_states - 1:
            raise ValueError(
                "the process has several stationary laws, as some states cannot be left for others; look at each "
                "closed set of states on its own"
            )
        system = torch.cat([matrix.T, torch.ones(1, self.n_states, dtype=torch.float64)])
        right = torch.zeros(self.n_states + 1, 1, dtype=torch.float64)
        right[-1] = 1.0
        law: Tensor = torch.linalg.lstsq(system, right).solution[:, 0].clamp_min(0.0)
        return law / law.sum()

    def _constant(self, what: str) -> Tensor:
        if self._function is not None:
            raise ValueError(
                f"{what} is for constant rates, but these depend on time; use RateMatrix(process.matrix(t))"
            )
        return self._off_diagonal


class ReactionNetwork:
    r"""A Markov jump process on counts: reaction :math:`r` happens at rate :math:`a_r(t, x)` and adds :math:`\nu_r`.

    .. math:: x \to x + \nu_r \quad \text{at rate } a_r(t, x), \qquad x \in \{0, 1, 2, \dots\}^d .

    Parameters
    ----------
    stoichiometry
        :math:`\nu`, integers ``(R, d)``: one row per reaction, one column per species.
    propensities
        :math:`a(t, x)`, per time unit: given times ``(B, 1)`` and counts ``(B, d)``, both float64, returns ``(B, R)``.
        A reaction that would make a count negative must have propensity zero there.
    names
        ``d`` names of the species.
    bound
        What the sum of the propensities never exceeds: a number, or a function of the counts ``(B, d)`` that returns
        ``(B,)`` and holds at all times. Thinning needs it.
    autonomous
        Whether the propensities do not depend on time.

    Raises
    ------
    TypeError
        If ``propensities`` is not a function.
    ValueError
        If the stoichiometry is not a table of integers, or the bound is not positive.

    Examples
    --------
    >>> birth_death = ReactionNetwork([[1], [-1]], lambda t, x: torch.cat([1.0 * x, 1.5 * x], dim=1), names=["cells"])
    >>> birth_death
    ReactionNetwork(2 reactions of 1 species)
    >>> birth_death.rates(torch.zeros(1, 1), torch.tensor([[20]])).tolist()
    [[20.0, 30.0]]
    """

    states: tuple[str, ...] | None = None

    def __init__(
        self,
        stoichiometry: ArrayLike,
        propensities: Callable[[Tensor, Tensor], Tensor],
        names: Sequence[str] | None = None,
        bound: float | Callable[[Tensor], Tensor] | None = None,
        *,
        autonomous: bool = True,
    ) -> None:
        changes = as_tensor(stoichiometry, "stoichiometry")
        if changes.ndim != 2 or 0 in changes.shape:
            raise ValueError(
                f"stoichiometry must have shape (R, d), a row per reaction, a column per species; got "
                f"{tuple(changes.shape)}"
            )
        if changes.is_floating_point() and not bool((changes == changes.round()).all()):
            raise ValueError(
                "stoichiometry must hold whole numbers; got fractions: count molecules, not concentrations"
            )
        if not callable(propensities):
            raise TypeError(f"propensities must be a function a(t, x); got {type(propensities).__name__}")
        if bound is not None and not callable(bound) and not (math.isfinite(bound) and bound > 0):
            raise ValueError(f"bound must be a positive number or a function of the counts; got {bound}")
        self.stoichiometry = changes.cpu().to(torch.int64)
        self.n_reactions, self.dim = (int(size) for size in changes.shape)
        self.names: tuple[str, ...] | None = None if names is None else check_names(names, self.dim)
        self.autonomous: bool = autonomous
        self._propensities = propensities
        self._bound = bound

    def __repr__(self) -> str:
        time = "" if self.autonomous else ", rates depend on time"
        return f"ReactionNetwork({self.n_reactions} reactions of {self.dim} species{time})"

    def rates(self, t: Tensor, state: Tensor) -> Tensor:
        """Return the propensities ``(B, R)`` at times ``(B, 1)`` and counts ``(B, d)``."""
        values = self._propensities(t, state.to(torch.float64))
        if not isinstance(values, Tensor):
            raise TypeError(f"the propensities must be a tensor; got {type(values).__name__}")
        if values.shape != (len(state), self.n_reactions):
            raise ValueError(
                f"the propensities must have shape ({len(state)}, {self.n_reactions}) for counts "
                f"{tuple(state.shape)}; got {tuple(values.shape)}"
            )
        return values.detach().to(torch.float64)

    def jump(self, state: Tensor, which: Tensor) -> Tensor:
        """Return the counts ``(B, d)`` after the reactions ``which``, ``(B,)``."""
        return state + self.stoichiometry.index_select(0, which)

    def bound(self, state: Tensor) -> Tensor:
        """Return the bound on the sum of the propensities ``(B,)``.

        Raises
        ------
        ValueError
            If none was given.
        """
        if self._bound is None:
            raise ValueError(
                "thinning needs a bound on the sum of the propensities; give ReactionNetwork(..., bound=) a number "
                "or a function of the counts"
            )
        if not callable(self._bound):
            return torch.full((len(state),), float(self._bound), dtype=torch.float64)
        values = self._bound(state.to(torch.float64))
        if values.shape != (len(state),):
            raise ValueError(f"bound(x) must have shape ({len(state)},); got {tuple(values.shape)}")
        return values.detach().to(torch.float64)


def cumulative_rates(process: JumpProcess) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function of times ``(B,)`` and states that gives the rates summed up, ``(B, R)``, checked."""
    if isinstance(process, RateMatrix) and process.autonomous:
        table = process.rates(torch.zeros(process.n_states, 1), torch.arange(process.n_states)[:, None]).cumsum(1)
        return lambda t, state: table.index_select(0, state[:, 0])

    return lambda t, state: checked_rates(process, t, state).cumsum(1)


def checked_rates(process: JumpProcess, t: Tensor, state: Tensor) -> Tensor:
    """Return the rates ``(B, R)`` at times ``(B,)``, or say which is negative or not finite."""
    rates = process.rates(t[:, None], state)
    low, high = (float(v) for v in torch.aminmax(rates))
    if not (low >= 0 and high < math.inf):
        check_counts(state, t)
        i, r = torch.nonzero(~((rates >= 0) & torch.isfinite(rates)))[0].tolist()
        raise ValueError(
            f"rates must be finite and not negative; got {float(rates[i, r]):g} for jump {r} in state "
            f"{state[i].tolist()} at time {float(t[i]):g}: look at the rate function there"
        )
    return rates


def check_counts(state: Tensor, t: Tensor) -> None:
    """Refuse states ``(..., d)`` that a jump has made negative by times ``(...)``."""
    bad = torch.nonzero((state < 0).any(-1))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(
            f"a jump led to the state {state[where].tolist()} by time {float(t[where]):g}, but counts are never "
            "negative: give a jump rate zero where it cannot happen"
        )


def check_states(process: JumpProcess, x0: ArrayLike) -> Tensor:
    """Return start states ``(B, d)`` as int64, or say what does not fit."""
    missing = [m for m in ("dim", "autonomous", "rates", "jump") if not hasattr(process, m)]
    if missing:
        raise TypeError(
            f"a jump process needs {', '.join(missing)}; {type(process).__name__} does not have it: use "
            "gendyn.sampling.jumps.RateMatrix or ReactionNetwork"
        )
    states = as_tensor(x0, "x0").detach().cpu()
    if states.ndim == 1:
        states = states[None] if len(states) == process.dim else states[:, None]
    if states.ndim != 2 or 0 in states.shape or states.shape[1] != process.dim:
        raise ValueError(
            f"x0 must have shape (B, {process.dim}), a row per path; got {tuple(states.shape)}: the process has "
            f"{process.dim} components"
        )
    check_finite(states, "x0")
    if states.is_floating_point() and not bool((states == states.round()).all()):
        i = int(torch.nonzero((states != states.round()).any(1))[0])
        raise ValueError(f"x0 must hold whole numbers; got {states[i].tolist()} in row {i}: round or count anew")
    states = states.to(torch.int64)
    if isinstance(process, RateMatrix):
        low, high = int(states.min()), int(states.max())
        if low < 0 or high >= process.n_states:
            raise ValueError(f"x0 must lie in 0 to {process.n_states - 1}, the states; got {low} to {high}")
    elif isinstance(process, ReactionNetwork) and bool((states < 0).any()):
        raise ValueError(f"x0 must not be negative, as it counts; got {int(states.min())}")
    return states


def _check_rate_matrix(matrix: Tensor) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) == 0:
        raise ValueError(f"rates must have shape (K, K), a row per state; got {tuple(matrix.shape)}")
    check_finite(matrix, "rates")
    off = matrix.clone().fill_diagonal_(0.0)
    if bool((off < 0).any()):
        i, j = (int(v) for v in torch.nonzero(off < 0)[0])
        raise ValueError(
            f"rates off the diagonal must not be negative; got {float(off[i, j]):g} from state {i} to state {j}: only "
            "the diagonal holds negative numbers"
        )
    sums = matrix.sum(1)
    bad = torch.nonzero(sums.abs() > _ROW_SUM * matrix.abs().amax(1)).flatten()
    if len(bad):
        i = int(bad[0])
        raise ValueError(
            f"row {i} of the rate matrix sums to {float(sums[i]):g}, but rows must sum to zero: set its diagonal entry "
            f"to {-float(off[i].sum()):g}"
        )
