r"""Plans of consecutive times, chained into paths through all times.

The chain of plans :math:`P^{(1)}, \dots, P^{(T-1)}`, consecutive ones sharing a population, is the Markov law of
index tuples

.. math:: \pi(i_1, \dots, i_T) = P^{(1)}_{i_1 i_2} \prod_{k=2}^{T-1} P^{(k)}(i_{k+1} \mid i_k),

whose marginal at every time is that population's weights and whose pairs of consecutive times are the plans. It is
the same law from whichever time it is written, so a path may start anywhere and grow both ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gendyn.coupling.cost import ArrayLike
from gendyn.coupling.pairing import Coupling
from gendyn.coupling.plan import Plan
from gendyn.randomness import Seed, torch_generator

__all__ = ["PlanChain", "chain_minibatch"]

_LARGEST_DISAGREEMENT = 0.01
"""Mass by which two plans may differ at the time they share; entropic plans meet their weights only so far."""


class PlanChain:
    """Transport plans between consecutive times, as one law of paths.

    Parameters
    ----------
    plans
        ``T - 1`` plans; the columns of each are the rows of the next, with the same weights.

    Attributes
    ----------
    plans : tuple of Plan
        The plans.
    sizes : tuple of int
        Number of points at each of the ``T`` times.

    Raises
    ------
    ValueError
        If there is no plan, or two consecutive plans differ about the size or the weights of the time they share.

    Examples
    --------
    >>> swap = Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2))
    >>> paths = PlanChain([swap, swap]).sample(4, seed=0)
    >>> bool((paths[:, 0] == paths[:, 2]).all()), bool((paths[:, 0] != paths[:, 1]).all())
    (True, True)
    """

    def __init__(self, plans: Sequence[Plan]) -> None:
        if len(plans) == 0:
            raise ValueError("a chain needs at least one plan; got none")
        for k, (plan, after) in enumerate(pairwise(plans)):
            if plan.shape[1] != after.shape[0]:
                raise ValueError(
                    f"plan {k} ends at {plan.shape[1]} points and plan {k + 1} starts from {after.shape[0]}; "
                    "consecutive plans must share a population"
                )
            apart = 0.5 * float((plan.marginals[1] - after.marginals[0]).abs().sum())
            if apart > _LARGEST_DISAGREEMENT:
                raise ValueError(
                    f"plans {k} and {k + 1} differ by {apart:.2g} of the mass about the time they share; "
                    "solve both with the same weights"
                )
        self.plans = tuple(plans)
        self.sizes = (*(plan.shape[0] for plan in plans), plans[-1].shape[1])

    @property
    def n_times(self) -> int:
        """Number of times ``T``."""
        return len(self.sizes)

    def __repr__(self) -> str:
        return f"PlanChain({' - '.join(map(str, self.sizes))})"

    def weights(self, time: int) -> Tensor:
        """Return the weights of the points at one time, counted from 0; they sum to 1.

        Examples
        --------
        >>> PlanChain([Plan([0, 0], [0, 1], [0.25, 0.75], (1, 2))]).weights(1).tolist()
        [0.25, 0.75]
        """
        self._check_time(time)
        return self.plans[time].marginals[0] if time < len(self.plans) else self.plans[-1].marginals[1]

    def sample(self, n: int, seed: Seed = 0) -> Tensor:
        """Draw ``n`` independent index tuples: a pair from the middle plan, extended backward and forward.

        Parameters
        ----------
        n
            How many.
        seed
            An integer, or a generator to draw from.

        Returns
        -------
        Tensor
            Indices ``(n, T)``, int64.

        Raises
        ------
        ValueError
            If ``n`` is negative.

        Examples
        --------
        >>> PlanChain([Plan([0, 0], [0, 1], [0.5, 0.5], (1, 2))]).sample(5).shape
        torch.Size([5, 2])
        """
        generator = _generator(seed)
        middle = (len(self.plans) - 1) // 2
        first, second = self.plans[middle].sample(n, generator)
        before = self._backward(middle, first, generator)
        return torch.stack([*before, first, second, *self._forward(middle + 1, second, generator)], dim=1)

    def given(self, time: int, indices: ArrayLike, seed: Seed = 0) -> Tensor:
        """Draw the path of each given point of one time, backward and forward from there.

        Parameters
        ----------
        time
            Which time the points belong to, counted from 0.
        indices
            Points ``(n,)``, repeated at will.
        seed
            An integer, or a generator to draw from.

        Returns
        -------
        Tensor
            Index tuples ``(n, T)``, with ``indices`` in column ``time``.

        Raises
        ------
        ValueError
            If there is no such time, an index is out of range, or a point has no mass.

        Examples
        --------
        >>> swap = Plan([0, 1], [1, 0], [0.5, 0.5], (2, 2))
        >>> PlanChain([swap, swap]).given(1, [0, 1]).tolist()
        [[1, 0, 1], [0, 1, 0]]
        """
        self._check_time(time)
        generator = _generator(seed)
        given = torch.as_tensor(indices).to(self.plans[0].rows.device)
        before = self._backward(time, given, generator)
        after = self._forward(time, given, generator)
        return torch.stack([*before, given.to(torch.int64), *after], dim=1)

    def _backward(self, time: int, indices: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Extend from one time to all earlier ones, and return those in order of time."""
        path = [indices]
        for plan in reversed(self.plans[:time]):
            path.append(plan.given_columns(path[-1], generator))
        return path[:0:-1]

    def _forward(self, time: int, indices: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Extend from one time to all later ones."""
        path = [indices]
        for plan in self.plans[time:]:
            path.append(plan.given_rows(path[-1], generator))
        return path[1:]

    def _check_time(self, time: int) -> None:
        if not 0 <= time < self.n_times:
            raise ValueError(f"time must lie between 0 and {self.n_times - 1}; got {time}")


def chain_minibatch(batches: Sequence[ArrayLike], coupling: Coupling, generator: torch.Generator) -> Tensor:
    """Couple equal batches of consecutive times into paths that use every row of the first once.

    The pairings of consecutive times are composed. Where all are permutations, every row of every batch is used once.

    Parameters
    ----------
    batches
        ``T`` batches ``(B, d)``.
    coupling
        Pairs two batches, see :class:`~gendyn.coupling.Coupling`.
    generator
        Where every random number comes from.

    Returns
    -------
    Tensor
        Index tuples ``(B, T)``, int64; column 0 is ``0, ..., B - 1``.

    Raises
    ------
    ValueError
        If there are fewer than two batches, their sizes differ, or the coupling does not give every row of the
        earlier batch one partner (one that draws with replacement).

    Examples
    --------
    >>> from gendyn.coupling import ExactCoupling
    >>> x = torch.arange(3.0)[:, None]
    >>> chain_minibatch([x, x.flip(0), x], ExactCoupling(), torch.Generator()).tolist()
    [[0, 2, 0], [1, 1, 1], [2, 0, 2]]
    """
    sizes = [len(batch) for batch in batches]
    if len(sizes) < 2 or len(set(sizes)) > 1:
        raise ValueError(f"at least two batches of one size are needed; got sizes {sizes}")
    path: list[Tensor] = []
    for x0, x1 in pairwise(batches):
        i, j = coupling(x0, x1, generator=generator)
        rows = torch.arange(sizes[0], device=i.device)
        if len(i) != sizes[0] or not bool((i.sort().values == rows).all()):
            raise ValueError(
                "a chain of batches needs a coupling that gives every row of the earlier batch one partner; "
                f"{coupling!r} draws rows with replacement: use resample=False"
            )
        partner = torch.empty_like(j)
        partner[i] = j
        path = [*path, partner[path[-1]]] if path else [rows, partner]
    return torch.stack(path, dim=1)


def _generator(seed: Seed) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch_generator(seed, "chain")
