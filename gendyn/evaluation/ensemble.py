r"""Predict by several models at once: a linear opinion pool.

Where the data cannot say which of several models is right (a price of growth, a coupling, a seed), averaging over them
is safer than choosing one. The pool of the predictions :math:`\hat\rho_1, \dots, \hat\rho_K` of a population is

.. math:: \hat\rho = \sum_k w_k\,\hat\rho_k, \qquad w_k \ge 0, \quad \sum_k w_k = 1,

and because :math:`W_1` and the energy distance are convex, it is never worse than the members are on average:
:math:`W_1(\hat\rho, \rho) \le \sum_k w_k W_1(\hat\rho_k, \rho)` (Stone 1961; Villani 2009, theorem 4.8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gendyn.coupling import Plan
from gendyn.data import Snapshots
from gendyn.evaluation.baselines import Prediction
from gendyn.evaluation.starts import Method, predict_starts
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["Ensemble"]


class Ensemble:
    r"""A method for :func:`gendyn.leave_one_out` that pools what several models predict.

    Parameters
    ----------
    members
        Unfitted estimators, or callables as :func:`gendyn.leave_one_out` takes them, by name. Give the same estimator
        under several names to average over seeds: every member has a seed of its own.
    weights
        Mass of every member; ``None``: the same for all. Scaled to sum to 1.
    same_size
        Whether the pool has as many cells as one member predicts, each member giving a random share of its own.
        Distances between samples shrink with their sizes, and a pool of all cells would gain by that alone.

    Raises
    ------
    ValueError
        If there are no members, or ``weights`` are not one for each, non-negative and somewhere positive.
    TypeError
        If a member is neither an unfitted estimator nor callable.

    Notes
    -----
    A start (see :mod:`gendyn.evaluation.starts`) that one member lacks, the pool lacks too.

    References
    ----------
    Stone. The opinion pool. Annals of Mathematical Statistics 1961.
    Villani. Optimal transport, old and new. Springer 2009.

    Examples
    --------
    >>> data = Snapshots([0.0, 2.0], [torch.zeros(4, 1), torch.full((4, 1), 2.0)])
    >>> before = lambda train, previous, hole, seed: train.population(previous)
    >>> after = lambda train, previous, hole, seed: train.population(2.0)
    >>> pool = Ensemble({"before": before, "after": after})
    >>> sorted(pool(data, 0.0, 1.0, seed=0).samples.flatten().tolist())
    [0.0, 0.0, 2.0, 2.0]
    """

    def __init__(
        self, members: Mapping[str, Method], *, weights: Sequence[float] | None = None, same_size: bool = True
    ) -> None:
        if not members:
            raise ValueError("members must name at least one model; got none")
        for name, method in members.items():
            if isinstance(method, type) or not (hasattr(method, "fit") or callable(method)):
                raise TypeError(f"member {name!r} must be an unfitted estimator or a callable; got {method!r}")
        given = [1.0] * len(members) if weights is None else [float(w) for w in weights]
        # Written so that NaN fails too.
        if len(given) != len(members) or not all(0 <= w < float("inf") for w in given) or not sum(given) > 0:
            raise ValueError(
                f"weights must be {len(members)} finite numbers, one a member, none negative and not all 0; "
                f"got {weights}"
            )
        self.members = dict(members)
        self.weights = tuple(w / sum(given) for w in given)
        self.same_size = same_size

    def __call__(self, train: Snapshots, previous: float, hole: float, seed: Seed) -> Prediction:
        """Fit every member, push the cells of the time before the hole, and return the pool.

        Returns
        -------
        Prediction
            Of ``hole``; ``previous`` is found from it.
        """
        return self.predict_starts("ensemble", train, hole, as_seed(seed), starts=("restart",))["restart"]

    def predict_starts(
        self,
        name: str,
        train: Snapshots,
        hole: float,
        seed: int,
        *,
        starts: tuple[str, ...] = ("restart", "rollout", "two-sided"),
        plan: Plan | None = None,
    ) -> dict[str, Prediction]:
        """Return the pool of every start that all members have; arguments as of the function of this name."""
        found: list[dict[str, Prediction]] = []
        used = [k for k, weight in enumerate(self.weights) if weight > 0]
        for k, (member, method) in enumerate(self.members.items()):
            if k in used:
                key = derive_seed(seed, "member", k) % 2**31
                found.append(predict_starts(f"{name}, {member}", method, train, hole, key, starts=starts, plan=plan))
        weights = [self.weights[k] for k in used]
        common = [start for start in starts if all(start in predictions for predictions in found)]
        return {start: self._pool([predictions[start] for predictions in found], weights, seed) for start in common}

    def _pool(self, predictions: Sequence[Prediction], weights: Sequence[float], seed: int) -> Prediction:
        samples, masses = [], []
        for k, (prediction, weight) in enumerate(zip(predictions, weights, strict=True)):
            n = len(prediction.samples)
            size = max(1, round(weight * n)) if self.same_size else n
            rows = torch.from_numpy(numpy_generator(seed, "share", k).permutation(n)[:size])
            mass: Any = (
                torch.ones(n, dtype=torch.float64) if prediction.weights is None else prediction.weights.double()
            )
            chosen = mass.cpu()[rows]
            if not chosen.sum() > 0:
                # A share in which nobody has mass says nothing; all cells do.
                rows, chosen = torch.arange(n), mass.cpu()
            samples.append(prediction.samples[rows.to(prediction.samples.device)])
            masses.append(weight * chosen / chosen.sum())
        joined = torch.cat(samples)
        return Prediction(joined, torch.cat(masses).to(joined))
