r"""Couplings of mini-batches: which row of one batch goes with which row of another.

A coupling of samples :math:`x \in \mathbb{R}^{n_0 \times d}`, :math:`y \in \mathbb{R}^{n_1 \times d}` with weights
:math:`a, b` returns index pairs :math:`(i_k, j_k)`, :math:`k < \max(n_0, n_1)`, whose two marginals are :math:`a` and
:math:`b`: it decides who is paired with whom and nothing else. For batches of equal size and uniform weights a
coupling is a permutation where it can be (every row used once, which has less variance than draws with
replacement); elsewhere pairs are drawn in proportion to a plan (Fatras et al. 2021, Tong et al. 2024).

Couplings may leave points out, those far from all others: they decide who counts, too, and the marginals of their
pairs are not the weights (Chizat et al. 2018; Chapel, Alaya and Gasso 2020).
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, Cost, check_samples, check_weights, cost_matrix, is_uniform
from gendyn.coupling.entropic import sinkhorn_plan
from gendyn.coupling.exact import exact_plan, optimal_partners
from gendyn.coupling.partial import partial_plan
from gendyn.coupling.plan import Plan

__all__ = [
    "Coupling",
    "EntropicCoupling",
    "ExactCoupling",
    "IndependentCoupling",
    "PairedCoupling",
    "PartialCoupling",
    "draw_evenly",
]


class Coupling(Protocol):
    """Anything that pairs the rows of two batches."""

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs ``(i, j)``, int64, each as long as the larger batch.

        Parameters
        ----------
        x0, x1
            Batches ``(n_0, d)`` and ``(n_1, d)``.
        weights0, weights1
            Weights of their rows; uniform by default.
        generator
            Where every random number comes from.
        """
        ...


class IndependentCoupling:
    """Anyone with anyone: a random permutation, or independent draws where sizes differ or rows have weights.

    Examples
    --------
    >>> i, j = IndependentCoupling()(torch.zeros(4, 1), torch.ones(4, 1), generator=torch.Generator().manual_seed(0))
    >>> i.tolist(), sorted(j.tolist())
    ([0, 1, 2, 3], [0, 1, 2, 3])
    """

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`."""
        first, second = check_samples(x0, x1)
        a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
        n = max(len(first), len(second))
        if _is_plain(a, b):
            return torch.arange(n, device=first.device), _shuffled(n, generator).to(first.device)
        return draw_evenly(a, n, generator), draw_evenly(b, n, generator)

    def __repr__(self) -> str:
        return "IndependentCoupling()"


class PairedCoupling:
    """Row with row, for batches that were measured, or made, in pairs.

    Examples
    --------
    >>> i, j = PairedCoupling()(torch.zeros(3, 1), torch.ones(3, 1), generator=torch.Generator())
    >>> i.tolist(), j.tolist()
    ([0, 1, 2], [0, 1, 2])
    """

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`. Weights, where given, must agree: they belong to the pairs.

        Raises
        ------
        ValueError
            If the batches differ in size or weights.
        """
        first, second = check_samples(x0, x1)
        n = len(first)
        if n != len(second):
            raise ValueError(f"paired batches must have equal sizes; got {n} and {len(second)}")
        a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
        if not torch.allclose(a, b, rtol=1e-6, atol=0.0):
            raise ValueError("paired batches must have equal weights: row i of both is one pair")
        rows = torch.arange(n, device=first.device) if is_uniform(a) else draw_evenly(a, n, generator)
        return rows, rows.clone()

    def __repr__(self) -> str:
        return "PairedCoupling()"


class ExactCoupling:
    """Exact optimal transport between the batches.

    Parameters
    ----------
    block
        Cut the batches at random into blocks of at most this many rows and solve each: far cheaper (64 costs a quarter
        of a batch of 256) and a little less optimal. Batches of unequal size or with weights are first drawn to
        one size. ``None`` solves the whole batch.
    resample
        Draw pairs from the plan with replacement even where it is a permutation.
    cost
        A name or a function; see :func:`~gendyn.coupling.cost_matrix`.

    Raises
    ------
    ValueError
        If ``block`` is below 2 or the cost is not a known name or a function.

    Examples
    --------
    >>> x = torch.tensor([[0.0], [1.0]])
    >>> i, j = ExactCoupling()(x, x.flip(0), generator=torch.Generator().manual_seed(0))
    >>> i.tolist(), j.tolist()
    ([0, 1], [1, 0])
    """

    def __init__(self, block: int | None = None, resample: bool = False, cost: Cost = "sqeuclidean") -> None:
        if block is not None and block < 2:
            raise ValueError(f"block must be at least 2 rows, or None for the whole batch; got {block}")
        _check_reusable(cost)
        self.block = block
        self.resample = resample
        self.cost = cost

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`."""
        first, second = check_samples(x0, x1)
        a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
        n = max(len(first), len(second))
        plain = _is_plain(a, b)
        if self.block is not None and n > self.block:
            if plain:
                rows, columns = (_shuffled(n, generator).to(first.device) for _ in range(2))
            else:
                rows, columns = draw_evenly(a, n, generator), draw_evenly(b, n, generator)
            return self._blocks(first, second, rows, columns, generator)
        if plain:
            return self._permutation(first, second, generator)
        return exact_plan(first, second, a, b, self.cost).sample(n, generator)

    def _permutation(self, x0: Tensor, x1: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pair two batches of one size; with ``resample`` draw those pairs with replacement."""
        partners = optimal_partners(x0, x1, self.cost)
        rows = torch.arange(len(x0), device=x0.device)
        if self.resample:
            rows = torch.randint(len(x0), (len(x0),), generator=generator, device=generator.device).to(x0.device)
        return rows, partners[rows]

    def _blocks(
        self, x0: Tensor, x1: Tensor, rows: Tensor, columns: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Pair rows and columns, given in random order, within consecutive blocks of nearly equal size."""
        count = math.ceil(len(rows) / (self.block or len(rows)))
        pairs = []
        for some_rows, some_columns in zip(rows.tensor_split(count), columns.tensor_split(count), strict=True):
            i, j = self._permutation(x0[some_rows], x1[some_columns], generator)
            pairs.append((some_rows[i], some_columns[j]))
        return torch.cat([i for i, _ in pairs]), torch.cat([j for _, j in pairs])

    def __repr__(self) -> str:
        return f"ExactCoupling(block={self.block}, resample={self.resample}, cost={_cost_name(self.cost)})"


class EntropicCoupling:
    r"""Entropic optimal transport between the batches, balanced or at a price of leaving points out.

    Pairs are drawn from the plan. Where sizes are equal, weights uniform and everybody is joined, every row of the
    first batch is used once and its partner drawn from the conditional law of the plan; elsewhere pairs are drawn from
    the joint law. With a finite relaxation :math:`\rho` the plan minimises cost, entropy and :math:`\rho` times the
    Kullback-Leibler divergences of its marginals from the weights: a point far from all others is paired rarely, and
    the marginals of the pairs are not the weights.

    Parameters
    ----------
    regularisation
        :math:`\varepsilon`, in units of the cost; :math:`2 \sigma^2` with the squared cost makes the pairs those of a
        Schroedinger bridge. ``None`` takes 5 % of the median cost of every batch.
    cost
        A name or a function; see :func:`~gendyn.coupling.cost_matrix`.
    relaxation
        :math:`\rho`, in units of the cost; infinite: everybody is joined.
    max_iterations, tolerance
        See :func:`~gendyn.coupling.sinkhorn_plan`; looser here, for pairs are random anyway.

    Raises
    ------
    ValueError
        If the regularisation is not positive and finite, the relaxation not positive, or the cost not a known name or
        a function.

    Examples
    --------
    >>> x = torch.linspace(0, 1, 5)[:, None]
    >>> i, j = EntropicCoupling(0.1)(x, x, generator=torch.Generator().manual_seed(0))
    >>> i.tolist()
    [0, 1, 2, 3, 4]
    >>> x, y = torch.tensor([[0.0], [50.0]]), torch.tensor([[0.0], [1.0]])
    >>> i, j = EntropicCoupling(0.1, relaxation=1.0)(x, y, generator=torch.Generator().manual_seed(0))
    >>> i.tolist()
    [0, 0]
    """

    def __init__(
        self,
        regularisation: float | None = None,
        cost: Cost = "sqeuclidean",
        *,
        relaxation: float = math.inf,
        max_iterations: int = 1000,
        tolerance: float = 1e-3,
    ) -> None:
        if not relaxation > 0:
            raise ValueError(f"relaxation must be positive, or infinite for a balanced plan; got {relaxation}")
        if regularisation is not None and not 0 < regularisation < math.inf:
            raise ValueError(f"regularisation must be positive and finite; got {regularisation}")
        _check_reusable(cost)
        self.regularisation = regularisation
        self.cost = cost
        self.relaxation = relaxation
        self.max_iterations = max_iterations
        self.tolerance = tolerance

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`."""
        first, second = check_samples(x0, x1)
        a, b = check_weights(weights0, first, "weights0"), check_weights(weights1, second, "weights1")
        costs = cost_matrix(first, second, self.cost)
        strength = _default_strength(costs) if self.regularisation is None else self.regularisation
        plan = sinkhorn_plan(
            first,
            second,
            strength,
            a,
            b,
            relaxation=self.relaxation,
            cost=costs,
            max_iterations=self.max_iterations,
            tolerance=self.tolerance,
        ).plan
        if self.relaxation < math.inf:
            return _draw_pairs(plan, generator)
        if _is_plain(a, b):
            rows = torch.arange(len(first), device=first.device)
            return rows, plan.given_rows(rows, generator)
        return plan.sample(max(plan.shape), generator)

    def __repr__(self) -> str:
        left_out = f", relaxation={self.relaxation}" if self.relaxation < math.inf else ""
        return f"EntropicCoupling(regularisation={self.regularisation}, cost={_cost_name(self.cost)}{left_out})"


class PartialCoupling:
    """Exact transport of a part of the mass, where it is cheapest; the rest is left out.

    Parameters
    ----------
    mass
        Fraction of either batch that is paired, in ``(0, 1]``.
    cost
        A name or a function; see :func:`~gendyn.coupling.cost_matrix`.

    Raises
    ------
    ValueError
        If the mass is not in ``(0, 1]``, or the cost is not a known name or a function.

    Examples
    --------
    >>> x, y = torch.tensor([[0.0], [50.0]]), torch.tensor([[0.0], [-50.0]])
    >>> i, j = PartialCoupling(0.5)(x, y, generator=torch.Generator().manual_seed(0))
    >>> i.tolist(), j.tolist()
    ([0, 0], [0, 0])
    """

    def __init__(self, mass: float, cost: Cost = "sqeuclidean") -> None:
        if not 0 < mass <= 1:
            raise ValueError(f"mass must lie in (0, 1], a fraction of either sample; got {mass}")
        _check_reusable(cost)
        self.mass = mass
        self.cost = cost

    def __call__(
        self,
        x0: ArrayLike,
        x1: ArrayLike,
        weights0: ArrayLike | None = None,
        weights1: ArrayLike | None = None,
        *,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Return index pairs; see :class:`Coupling`."""
        return _draw_pairs(partial_plan(x0, x1, self.mass, weights0, weights1, self.cost), generator)

    def __repr__(self) -> str:
        return f"PartialCoupling(mass={self.mass}, cost={_cost_name(self.cost)})"


def _check_reusable(cost: Cost) -> None:
    """Refuse a cost that cannot serve one batch after another.

    Raises
    ------
    ValueError
        If it is a matrix, or no known name.
    """
    if isinstance(cost, (Tensor, np.ndarray)):
        raise ValueError(
            "a coupling of mini-batches needs a cost by name or as a function, for every batch has its own matrix; "
            "use exact_plan or sinkhorn_plan for one matrix"
        )
    if not callable(cost) and cost not in ("sqeuclidean", "euclidean"):
        raise ValueError(f"cost must be 'sqeuclidean', 'euclidean' or a function; got {cost!r}")


def _cost_name(cost: Cost) -> str:
    """Return what a coupling's ``repr`` says of its cost."""
    return repr(cost) if isinstance(cost, str) else getattr(cost, "__name__", type(cost).__name__)


def _default_strength(costs: Tensor) -> float:
    """Return 5 % of the median cost; where all points coincide, and any regularisation gives the same plan, 1."""
    return 0.05 * float(costs.abs().median()) or 1.0


def _is_plain(a: Tensor, b: Tensor) -> bool:
    """Whether two batches have one size and uniform weights: a permutation then pairs them."""
    return len(a) == len(b) and is_uniform(a) and is_uniform(b)


def _shuffled(n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(n, generator=generator, device=generator.device)


def _draw_pairs(plan: Plan, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw as many pairs as the larger side has points, every atom as evenly as whole numbers allow."""
    atoms = draw_evenly(plan.mass, max(plan.shape), generator)
    return plan.rows[atoms], plan.columns[atoms]


def draw_evenly(weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw ``n`` rows in proportion to their weights, as evenly as whole numbers allow, in random order.

    One uniform number shifts a comb of ``n`` teeth over the cumulative weights (systematic sampling): every row comes
    up within one of its expected number of times, and in expectation exactly that often.
    """
    shift = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).to(weights.device)
    cumulative = weights.cumsum(0)
    teeth = (torch.arange(n, dtype=torch.float64, device=weights.device) + shift) / n
    # A tooth at the very end must not fall on a trailing row without weight.
    last = int(torch.nonzero(weights).max())
    rows = torch.searchsorted(cumulative, teeth, right=True).clamp_(max=last)
    return rows[_shuffled(n, generator).to(weights.device)]
