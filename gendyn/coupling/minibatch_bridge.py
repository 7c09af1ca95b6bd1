r"""Static Schroedinger bridges of random batches: what millions of rows can afford.

Rows and columns are dealt into as many batches, and each batch is coupled by itself,

.. math:: \pi_{ij} = a_i b_j\, e^{f_i + g_j}\, p(y_j \mid x_i) \;\text{ within a batch},\qquad \pi_{ij} = 0
    \;\text{ between batches},

so that n rows cost n times the size of a batch rather than n squared. The plan meets the weights as nearly as batches
have equal shares of them. It is blurred: batches differ by chance, and mass makes up for that (Fatras et al. 2020).
Batches are therefore dealt evenly along the first principal axis of both populations, from which most of the
differences would come.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn.coupling.row_blocks import LogDensities, Watch
from gendyn.coupling.static_bridge import StaticBridge, static_bridge

__all__ = ["Batches", "minibatch_bridge"]


@dataclass(frozen=True, eq=False)
class Batches:
    """Which batch the rows and the columns of a coupling belong to.

    Attributes
    ----------
    rows, columns
        Numbers of batches ``(n_0,)`` and ``(n_1,)``, int64, from 0; every batch has some of both.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def deal(cls, x: Tensor, y: Tensor, batch_size: int, generator: torch.Generator) -> Batches:
        """Deal two populations into batches of at most a size, evenly along the first principal axis of both.

        Parameters
        ----------
        x, y
            Populations ``(n_0, d)`` and ``(n_1, d)``.
        batch_size
            Rows of either side of a batch, at most; the smaller side has proportionally fewer, and at least one.
        generator
            Who goes where.

        Raises
        ------
        ValueError
            If the size is not positive, or the smaller side has fewer rows than there would be batches.

        Examples
        --------
        >>> x = torch.arange(6.0)[:, None]
        >>> batches = Batches.deal(x, x, 3, torch.Generator().manual_seed(0))
        >>> torch.bincount(batches.rows).tolist(), torch.bincount(batches.columns).tolist()
        ([3, 3], [3, 3])
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        count = math.ceil(max(len(x), len(y)) / batch_size)
        if count > min(len(x), len(y)):
            raise ValueError(
                f"{count} batches of {batch_size} rows need as many rows on either side; got {len(x)} and {len(y)}: "
                "raise batch_size"
            )
        both = torch.cat([x, y])
        both = both - both.mean(0)
        axis = torch.linalg.eigh(both.T @ both).eigenvectors[:, -1]
        along = both @ axis
        return cls(_deal(along[: len(x)], count, generator), _deal(along[len(x) :], count, generator))

    @property
    def count(self) -> int:
        """Number of batches."""
        return int(self.rows.max()) + 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows and the columns of every batch."""
        rows, columns = (in_turn(side, self.count) for side in (self.rows, self.columns))
        yield from zip(rows, columns, strict=True)


def minibatch_bridge(
    densities: LogDensities,
    a: Tensor,
    b: Tensor,
    batches: Batches,
    *,
    tolerance: float = 1e-5,
    max_iterations: int = 20_000,
    name: str = "the coupling",
    watch: Watch = lambda passes, error: None,
) -> StaticBridge:
    r"""Solve the static Schroedinger bridge of every batch.

    Parameters
    ----------
    densities
        :math:`\log p(y_j \mid x_i)`.
    a, b
        Weights ``(n_0,)`` and ``(n_1,)`` of sum 1, float64.
    batches
        Who is in which batch.
    tolerance, max_iterations, name
        As for :func:`~gendyn.coupling.static_bridge`, of every batch.
    watch
        Told after every batch how many there were, and the largest error of one.

    Returns
    -------
    StaticBridge
        ``potentials`` of the equation above. Their level is that under which those of all batches have one mean, so
        that :math:`b_j e^{g_j} p(y_j \mid x)` over all columns says where paths from other points go. ``kl`` estimates
        that of the coupling of all pairs, from above. ``marginal_error`` counts that batches have unequal shares of the
        weights; ``iterations`` are those of the batches together.

    Raises
    ------
    ValueError
        If a batch has no weight on one side.

    Warns
    -----
    UserWarning
        If more than ``tolerance`` of the mass of a batch misses its place.
    """
    f, g = torch.zeros_like(a), torch.zeros_like(b)
    kl, amiss, worst, iterations = 0.0, 0.0, 0.0, 0
    for number, (rows, columns) in enumerate(batches, start=1):
        sent, due = a[rows].sum(), b[columns].sum()
        if not (sent > 0 and due > 0):
            raise ValueError("a batch has no weight; raise batch_size, or leave points without weight out of the data")
        shares = a[rows] / sent, b[columns] / due
        pairs = densities.columns(columns).exponents(rows, a.new_zeros(1), torch.zeros_like(shares[1]))
        with warnings.catch_warnings():
            # One warning tells of all batches.
            warnings.simplefilter("ignore", UserWarning)
            solved = static_bridge(pairs, *shares, tolerance=tolerance, max_iterations=max_iterations)
        level = shares[1] @ solved.potentials[1]
        f[rows] = solved.potentials[0] + level
        g[columns] = solved.potentials[1] - level - due.log()
        # Of fewer columns each has more weight, which says nothing about the coupling of all.
        kl += float(sent) * (solved.kl + float(due.log()))
        amiss += float((sent - due).abs()) + float(sent) * solved.marginal_error
        worst, iterations = max(worst, solved.marginal_error), iterations + solved.iterations
        watch(number, worst)
    if not worst <= tolerance:
        warnings.warn(
            f"batches of {name} miss their populations by up to {worst:.1e} of the mass: sigma is small against the "
            "displacement; raise sigma, take a reference that moves with the data, or raise max_iterations",
            UserWarning,
            stacklevel=2,
        )
    return StaticBridge((f, g), kl, amiss, iterations, worst <= tolerance)


def in_turn(labels: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return the places of every label, from 0 to ``count - 1``.

    Examples
    --------
    >>> in_turn(torch.tensor([1, 0, 1]), 3)
    (tensor([1]), tensor([0, 2]), tensor([], dtype=torch.int64))
    """
    ends = torch.bincount(labels, minlength=count).cumsum(0)[:-1].tolist()
    return torch.tensor_split(torch.argsort(labels, stable=True), ends)


def _deal(along: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Deal points in their order along an axis: of each ``count`` neighbours every batch gets one."""
    order = torch.argsort(along)
    rounds = math.ceil(len(along) / count)
    dealt = torch.rand(rounds, count, generator=generator).argsort(1).flatten()[: len(along)]
    labels = torch.empty_like(dealt)
    labels[order.cpu()] = dealt
    return labels.to(along.device)
