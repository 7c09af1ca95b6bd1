r"""Transport plans: joint laws of two samples.

A plan between :math:`\{x_i\}_{i<n_0}` and :math:`\{y_j\}_{j<n_1}` is a matrix :math:`P_{ij} \ge 0` of total mass
one; its marginals are :math:`a_i = \sum_j P_{ij}` and :math:`b_j = \sum_i P_{ij}`. It is kept as the list of its
atoms, sorted by row and then by column: an exact plan has at most :math:`n_0 + n_1 - 1` of them, so a plan between
ten thousand points and ten thousand others weighs less than a megabyte. Draws invert cumulative sums: of the joint
law for pairs, of :math:`P_{ij} / a_i` within each row for conditional draws.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike, Cost, check_samples, cost_matrix
from gendyn.randomness import Seed, torch_generator

__all__ = ["Plan"]

_ATOMS_AT_ONCE = 1_000_000
"""Atoms whose costs are evaluated together, to bound the memory of dense plans."""


class Plan:
    r"""A sparse joint law :math:`P_{ij}` of two index sets.

    Parameters
    ----------
    rows, columns
        Indices ``(E,)`` of the atoms, in any order; atoms at the same place are added up.
    mass
        Their masses ``(E,)``, non-negative; normalised to sum 1. Atoms without mass are dropped.
    shape
        ``(n_0, n_1)``.

    Attributes
    ----------
    rows, columns, mass : Tensor
        The atoms, sorted by row and then by column; int64, int64, float64.
    shape : tuple of int
        ``(n_0, n_1)``.

    Raises
    ------
    ValueError
        If lengths differ, an index is out of range, or a mass is negative or not finite, or all are zero.
    TypeError
        If indices are not integers.

    Examples
    --------
    >>> plan = Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2))
    >>> plan.to_dense().tolist(), plan.is_permutation
    ([[0.0, 0.5], [0.5, 0.0]], True)
    """

    def __init__(self, rows: ArrayLike, columns: ArrayLike, mass: ArrayLike, shape: tuple[int, int]) -> None:
        rows, columns, mass = (torch.as_tensor(value).detach() for value in (rows, columns, mass))
        n0, n1 = (int(size) for size in shape)
        if not rows.shape == columns.shape == mass.shape or rows.ndim != 1 or len(rows) == 0:
            raise ValueError(
                "rows, columns and mass must have one shape (E,) with at least one atom; "
                f"got {tuple(rows.shape)}, {tuple(columns.shape)} and {tuple(mass.shape)}"
            )
        for name, index, size in (("rows", rows, n0), ("columns", columns, n1)):
            _check_indices(index, size, name)
        weights = mass.to(torch.float64)
        if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()) or not bool((weights > 0).any()):
            raise ValueError("the mass of a plan must be finite and not negative, and some of it positive")
        key = rows.to(torch.int64) * n1 + columns.to(torch.int64)
        if bool((weights == 0).any()):
            key, weights = key[weights > 0], weights[weights > 0]
        if bool((key.diff() <= 0).any()):
            key, place = torch.unique(key, return_inverse=True)
            weights = torch.zeros(len(key), dtype=torch.float64, device=key.device).index_add_(0, place, weights)
        self.rows = key // n1
        self.columns = key % n1
        weights = weights / weights.max()
        self.mass = weights / weights.sum()
        self.shape = (n0, n1)

    @classmethod
    def from_dense(cls, matrix: ArrayLike) -> Plan:
        """Return the plan of a matrix ``(n_0, n_1)`` of masses.

        Raises
        ------
        ValueError
            If it is not a matrix of finite, non-negative masses with some mass in it.

        Examples
        --------
        >>> Plan.from_dense([[0.2, 0.0], [0.3, 0.5]])
        Plan(2 x 2, 3 atoms)
        """
        dense = torch.as_tensor(matrix)
        if dense.ndim != 2 or 0 in dense.shape:
            raise ValueError(f"matrix must have shape (n0, n1); got {tuple(dense.shape)}")
        rows, columns = torch.nonzero(dense, as_tuple=True)
        if len(rows) == 0:
            raise ValueError("the mass of a plan must be finite and not negative, and some of it positive")
        return cls(rows, columns, dense[rows, columns], (dense.shape[0], dense.shape[1]))

    def __len__(self) -> int:
        return len(self.mass)

    def __repr__(self) -> str:
        return f"Plan({self.shape[0]} x {self.shape[1]}, {len(self)} atoms)"

    @cached_property
    def marginals(self) -> tuple[Tensor, Tensor]:
        """Row sums ``(n_0,)`` and column sums ``(n_1,)``, float64."""
        rows, columns = (torch.zeros(n, dtype=torch.float64, device=self.mass.device) for n in self.shape)
        return rows.index_add_(0, self.rows, self.mass), columns.index_add_(0, self.columns, self.mass)

    @cached_property
    def is_permutation(self) -> bool:
        """Whether every row goes whole to a column of its own, all with the same mass."""
        n = self.shape[0]
        return (
            n == self.shape[1] == len(self)
            and bool((self.rows == torch.arange(n, device=self.rows.device)).all())
            and len(torch.unique(self.columns)) == n
            and bool((self.mass * n - 1).abs().max() < 1e-9)
        )

    @cached_property
    def _transposed(self) -> Plan:
        return Plan(self.columns, self.rows, self.mass, (self.shape[1], self.shape[0]))

    def transpose(self) -> Plan:
        """Return the same plan read from columns to rows, of shape ``(n_1, n_0)``.

        Examples
        --------
        >>> Plan([0, 0], [1, 2], [0.5, 0.5], (1, 3)).transpose()
        Plan(3 x 1, 2 atoms)
        """
        return self._transposed

    def to_dense(self) -> Tensor:
        """Return the matrix ``(n_0, n_1)``, float64.

        Examples
        --------
        >>> Plan([0], [1], [2.0], (1, 2)).to_dense()
        tensor([[0., 1.]], dtype=torch.float64)
        """
        dense = torch.zeros(self.shape, dtype=torch.float64, device=self.mass.device)
        dense[self.rows, self.columns] = self.mass
        return dense

    def cost(self, x0: ArrayLike, x1: ArrayLike, cost: Cost = "sqeuclidean") -> float:
        r"""Return :math:`\sum_{ij} P_{ij}\, c(x_i, y_j)`, in units of the cost.

        For the exact plan of squared Euclidean cost this is the squared 2-Wasserstein distance.

        Parameters
        ----------
        x0, x1
            The samples ``(n_0, d)`` and ``(n_1, d)`` whose points the plan joins.
        cost
            See :func:`~gendyn.coupling.cost_matrix`.

        Raises
        ------
        ValueError
            If the samples do not have the plan's sizes, or the cost is unfit.

        Examples
        --------
        >>> Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2)).cost([[0.0], [1.0]], [[0.0], [3.0]])
        5.0
        """
        first, second = check_samples(x0, x1)
        if (len(first), len(second)) != self.shape:
            raise ValueError(f"this plan joins {self.shape[0]} to {self.shape[1]} points; got {len(x0)} and {len(x1)}")
        if not isinstance(cost, str):
            return float((cost_matrix(first, second, cost)[self.rows, self.columns] * self.mass).sum())
        if cost not in ("sqeuclidean", "euclidean"):
            raise ValueError(f"cost must be 'sqeuclidean', 'euclidean', a function or a matrix; got {cost!r}")
        total = 0.0
        for start in range(0, len(self), _ATOMS_AT_ONCE):
            atoms = slice(start, start + _ATOMS_AT_ONCE)
            squares = (first[self.rows[atoms]] - second[self.columns[atoms]]).square().sum(1)
            total += float(self.mass[atoms] @ (squares if cost == "sqeuclidean" else squares.sqrt()))
        return total

    def sample(self, n: int, seed: Seed = 0) -> tuple[Tensor, Tensor]:
        """Draw ``n`` independent index pairs from the joint law.

        Parameters
        ----------
        n
            How many.
        seed
            An integer, or a generator to draw from.

        Returns
        -------
        tuple of Tensor
            Row and column indices, int64, each ``(n,)``.

        Raises
        ------
        ValueError
            If ``n`` is negative.

        Examples
        --------
        >>> i, j = Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2)).sample(100, seed=0)
        >>> bool((i + j == 1).all())
        True
        """
        if n < 0:
            raise ValueError(f"n must not be negative; got {n}")
        atoms = torch.searchsorted(self._cumulative, self._uniform(n, seed), right=True)
        return self.rows[atoms], self.columns[atoms]

    def given_rows(self, rows: ArrayLike, seed: Seed = 0) -> Tensor:
        r"""Draw one column for each given row from :math:`P_{ij} / a_i`.

        Parameters
        ----------
        rows
            Row indices ``(n,)``, in any order, repeated at will.
        seed
            An integer, or a generator to draw from.

        Returns
        -------
        Tensor
            Column indices ``(n,)``, int64.

        Raises
        ------
        ValueError
            If an index is out of range, or its row has no mass to go anywhere.

        Examples
        --------
        >>> Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2)).given_rows([0, 0, 1]).tolist()
        [1, 1, 0]
        """
        given = torch.as_tensor(rows).to(self.rows.device)
        if given.ndim != 1:
            raise ValueError(f"indices must have shape (n,); got {tuple(given.shape)}")
        if len(given) == 0:
            return torch.zeros(0, dtype=torch.int64, device=self.rows.device)
        _check_indices(given, self.shape[0], "indices")
        cumulative, first, last, rank = self._conditional
        first, last = first[given], last[given]
        if bool((first == last).any()):
            k = int(given[first == last][0])
            raise ValueError(
                f"point {k} has no mass in this plan and so nowhere to go; draw from points that have weight"
            )
        # Row r owns [rank, rank + 1) of the cumulative sums; rounding at its ends may not leave its atoms.
        atoms = torch.searchsorted(cumulative, rank[given] + self._uniform(len(given), seed), right=True)
        drawn: Tensor = self.columns[torch.minimum(torch.maximum(atoms, first), last - 1)]
        return drawn

    def given_columns(self, columns: ArrayLike, seed: Seed = 0) -> Tensor:
        r"""Draw one row for each given column from :math:`P_{ij} / b_j`; see :meth:`given_rows`.

        Examples
        --------
        >>> Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2)).given_columns([1, 1, 0]).tolist()
        [0, 0, 1]
        """
        return self._transposed.given_rows(columns, seed)

    def expected_target(self, x1: ArrayLike) -> Tensor:
        r"""Return the barycentric projection :math:`\sum_j P_{ij}\, y_j / a_i` of every row.

        Parameters
        ----------
        x1
            What the columns stand for, ``(n_1, d)``: points, or any values attached to them.

        Returns
        -------
        Tensor
            Means ``(n_0, d)``, of the dtype of ``x1`` where that is floating.

        Raises
        ------
        ValueError
            If ``x1`` has another number of rows, or a row of the plan has no mass.

        Examples
        --------
        >>> Plan([0, 0], [0, 1], [0.5, 0.5], (1, 2)).expected_target([[0.0], [1.0]])
        tensor([[0.5000]])
        """
        values = torch.as_tensor(x1).to(self.mass.device)
        if values.ndim != 2 or len(values) != self.shape[1]:
            raise ValueError(f"x1 must have shape ({self.shape[1]}, d); got {tuple(values.shape)}")
        weights = self.marginals[0]
        if bool((weights == 0).any()):
            k = int(torch.nonzero(weights == 0)[0])
            raise ValueError(f"point {k} has no mass in this plan and so no expected target; leave it out of the plan")
        sums = torch.zeros(self.shape[0], values.shape[1], dtype=torch.float64, device=values.device)
        for start in range(0, len(self), _ATOMS_AT_ONCE):
            atoms = slice(start, start + _ATOMS_AT_ONCE)
            part = self.mass[atoms, None] * values[self.columns[atoms]].to(torch.float64)
            sums.index_add_(0, self.rows[atoms], part)
        means = sums / weights[:, None]
        return means.to(values.dtype) if values.is_floating_point() else means

    @cached_property
    def _cumulative(self) -> Tensor:
        """Cumulative masses of the atoms; the last is exactly 1, above every uniform number."""
        cumulative: Tensor = self.mass.cumsum(0).clamp_(max=1.0)
        cumulative[-1] = 1.0
        return cumulative

    @cached_property
    def _conditional(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cumulative conditional masses ``(E,)``; first atom, one past the last, and rank of every row ``(n_0,)``.

        Every row that has atoms adds exactly one, so that rows of tiny mass are resolved as well as heavy ones.
        """
        counts = torch.bincount(self.rows, minlength=self.shape[0])
        last = counts.cumsum(0)
        owned = counts > 0
        rank = owned.cumsum(0) - 1
        base = rank[self.rows].to(torch.float64)
        cumulative = (self.mass / self.marginals[0][self.rows]).cumsum(0)
        cumulative = torch.minimum(torch.maximum(cumulative, base), base + 1)
        cumulative[last[owned] - 1] = (rank[owned] + 1).to(torch.float64)
        return cumulative, last - counts, last, rank

    def _uniform(self, n: int, seed: Seed) -> Tensor:
        generator = seed if isinstance(seed, torch.Generator) else torch_generator(seed, "plan")
        uniform: Tensor = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
        return uniform.to(self.mass.device)


def _check_indices(index: Tensor, size: int, name: str) -> None:
    """Refuse indices that are not integers in ``[0, size)``."""
    if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
        raise TypeError(f"{name} must be integers; got {str(index.dtype).removeprefix('torch.')}")
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= size:
        raise ValueError(f"{name} must lie between 0 and {size - 1}; got {low if low < 0 else high}")
