r"""Choose a model and a start without looking at the time to be predicted: a hold-out inside the hold-out.

Which of several models to believe at a hole :math:`h` is itself a question for held-out data, and the cells of the
hole must not answer it. Each inner training time :math:`k` is left out in turn as well, every candidate
:math:`(m, s)`, a model pushed from a start, predicts it from the times that are left, and

.. math:: (m, s)^\star = \arg\min_{(m, s)} \sum_k D\bigl(\hat\rho^{\,m, s}_{k \mid \text{train} \setminus k},
    \rho_k\bigr), \qquad D = W_1 \text{ or the energy distance, at equal sizes},

is fitted on all training times and predicts the hole. This is nested cross-validation (Stone 1974; Varma and Simon
2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from gendyn.data import Snapshots
from gendyn.evaluation.baselines import Prediction, neighbour_plan
from gendyn.evaluation.kernels import energy_value
from gendyn.evaluation.starts import Method, Start, predict_starts
from gendyn.evaluation.transport import wasserstein_value
from gendyn.parallel import spread
from gendyn.randomness import Seed, as_seed, derive_seed

__all__ = ["InnerHoldOut"]

Criterion = Literal["W1", "energy distance"]

_DRAWS = 3

_LACKING = "a model with noise or growth cannot be pushed from both sides, and a callable has 'restart' alone"


class InnerHoldOut:
    r"""A method for :func:`gendyn.leave_one_out` that chooses among models and starts inside the training times.

    Parameters
    ----------
    candidates
        Unfitted estimators, or callables as :func:`gendyn.leave_one_out` takes them, by name.
    starts
        Starts from which cells may be pushed: of ``"restart"``, ``"rollout"``, ``"two-sided"``.
    criterion
        The distance that is made small. ``"W1"`` is what tables report. In many dimensions, at the sizes of real
        samples, it also rewards predictions with less spread than the truth; ``"energy distance"`` does not.
    default
        Name and start of what is used where two training times are left, so that there is no inner time to hold out.
        ``None``: that is an error.
    max_cells
        Most cells a side in an inner comparison.
    choose_once
        Whether a choice is kept while the training populations are the same object: of several seeds, as
        :func:`gendyn.leave_one_out` fits them, the first then chooses and all are fitted with its choice. By default
        every seed chooses for itself, and the spread of seeds has that of the choice in it.

    Raises
    ------
    ValueError
        If there are no candidates, a start or the criterion is unknown, or ``default`` is not among the candidates.
    TypeError
        If a candidate is neither an unfitted estimator nor callable.

    Notes
    -----
    For a hole with ``K`` inner training times, every candidate is fitted ``K`` times, and the chosen one once more.
    The inner gaps are wider than the outer one, so that the choice leans to what bridges wide gaps.

    References
    ----------
    Stone. Cross-validatory choice and assessment of statistical predictions. JRSS B 1974.
    Varma, Simon. Bias in error estimation when using cross-validation for model selection. BMC Bioinformatics 2006.

    Examples
    --------
    >>> import torch
    >>> from gendyn.evaluation import mean_shift
    >>> x = torch.randn(5, 60, 2, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots(range(5), [x[k] + 3.0 * k for k in range(5)])
    >>> stay = lambda train, previous, hole, seed: train.population(previous)
    >>> shift = lambda train, previous, hole, seed: mean_shift(train, hole)
    >>> method = InnerHoldOut({"stay": stay, "shift": shift})
    >>> method(data.without(2.0), 1.0, 2.0, 0).origin
    'shift, restart'
    """

    def __init__(
        self,
        candidates: Mapping[str, Method],
        *,
        starts: Sequence[Start] = ("restart", "rollout", "two-sided"),
        criterion: Criterion = "W1",
        default: tuple[str, Start] | None = None,
        max_cells: int = 1000,
        choose_once: bool = False,
    ) -> None:
        if not candidates:
            raise ValueError("candidates must name at least one model; got none")
        for name, method in candidates.items():
            if isinstance(method, type) or not (hasattr(method, "fit") or callable(method)):
                raise TypeError(f"candidate {name!r} must be an unfitted estimator or a callable; got {method!r}")
        unknown = [start for start in starts if start not in get_args(Start)]
        if unknown or not starts:
            raise ValueError(f"starts must be of {get_args(Start)}; got {unknown[0] if unknown else 'none'!r}")
        if criterion not in get_args(Criterion):
            raise ValueError(f"criterion must be one of {get_args(Criterion)}; got {criterion!r}")
        if default is not None and (default[0] not in candidates or default[1] not in starts):
            raise ValueError(
                f"default must be a candidate and a start, of {', '.join(candidates)} and {', '.join(starts)}; "
                f"got {default!r}"
            )
        if max_cells < 2:
            raise ValueError(f"max_cells must be at least 2; got {max_cells}")
        self.candidates = dict(candidates)
        self.starts = tuple(starts)
        self.criterion = criterion
        self.default = default
        self.max_cells = max_cells
        self.choose_once = choose_once
        self._kept: tuple[Snapshots, tuple[str, str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the choice that is kept: another process has other populations."""
        return self.__dict__ | {"_kept": None}

    def __call__(self, train: Snapshots, previous: float, hole: float, seed: Seed) -> Prediction:
        """Choose inside the training times, fit the chosen model on all of them, and predict the hole.

        Returns
        -------
        Prediction
            Its ``origin`` names the model and the start.

        Raises
        ------
        ValueError
            If two training times are left and there is no default.
        """
        root = as_seed(seed)
        if self.choose_once and self._kept is not None and self._kept[0] is train:
            name, start = self._kept[1]
        else:
            name, start = self._best(train, root)
            self._kept = (train, (name, start)) if self.choose_once else None
        predictions = predict_starts(name, self.candidates[name], train, hole, root, starts=(start,))
        if start not in predictions:
            raise ValueError(f"candidate {name!r} cannot be pushed from start {start!r}: {_LACKING}")
        return replace(predictions[start], origin=f"{name}, {start}")

    def scores(self, train: Snapshots, seed: Seed = 0) -> pd.DataFrame:
        """Return the distance of every candidate at every inner time of ``train``, each held out in turn.

        Returns
        -------
        pandas.DataFrame
            Columns ``candidate``, ``start``, ``time`` and ``distance``; empty if ``train`` has two times.
        """
        return pd.DataFrame(self._scores(train, as_seed(seed)), columns=["candidate", "start", "time", "distance"])

    def _scores(self, train: Snapshots, seed: int) -> list[tuple[str, str, float, float]]:
        rows = []
        for k, time in enumerate(train.times.tolist()[1:-1]):
            # Models see the times that are left; the cells of this one are only compared with.
            rest = train.without([time])
            plan = neighbour_plan(rest, time) if "two-sided" in self.starts else None
            for name, method in self.candidates.items():
                key = derive_seed(seed, "inner", k) % 2**31
                predictions = predict_starts(name, method, rest, time, key, starts=self.starts, plan=plan)
                for start, found in predictions.items():
                    distance = self._distance(train, time, found, derive_seed(seed, "compare", k))
                    rows.append((name, start, time, distance))
        return rows

    def _best(self, train: Snapshots, seed: int) -> tuple[str, str]:
        if len(train) < 3:
            if self.default is None:
                raise ValueError(
                    f"choosing by an inner hold-out needs three training times or more; got {len(train)}: "
                    "name what to use then, default=(candidate, start)"
                )
            return self.default
        totals: dict[tuple[str, str], list[float]] = {}
        for name, start, _, distance in self._scores(train, seed):
            totals.setdefault((name, start), []).append(distance)
        if not totals:
            wanted = ", ".join(self.starts)
            raise ValueError(f"no candidate can be pushed from start {wanted}: {_LACKING}")
        return min(totals, key=lambda key: sum(totals[key]))

    def _distance(self, train: Snapshots, time: float, found: Prediction, seed: int) -> float:
        """Return the mean distance over draws, at equal sizes; the same true cells for every candidate."""
        real = train.population(time)
        mass = None if train.weights is None else train.mass(time)
        truth = Prediction(real, mass)
        n = min(max(len(real) // 2, 1), self.max_cells)

        def value(draw: int) -> float:
            cells = truth.draw(n, derive_seed(seed, "true", draw))
            predicted = found.draw(n, derive_seed(seed, "predicted", draw))
            if self.criterion == "W1":
                return wasserstein_value(cells, predicted)
            return energy_value(cells, predicted)

        return float(np.mean(spread(value, range(_DRAWS))))
