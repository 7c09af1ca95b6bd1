r"""Hold one time out, learn from the others, predict it.

Next to every learned row stand the rows that need no learning and the floor (two random halves of the held-out
population). Two protocols:

``published``
    As tables in the literature are made: scaling from all rows, the held-out ones too; ordinal times 0, 1, 2, ...;
    every row of the previous time pushed to the hole; metrics against every row there.
``clean``
    Scaling from the training times alone, real times, predictions from the previous time (restart), from the first
    (rollout) and, of models without noise, from both neighbours (two-sided, see :mod:`gendyn.evaluation.starts`), and
    the skill

    .. math:: S = \frac{B - M}{B - F}

    of a method's distance :math:`M` between that of the OT interpolant :math:`B` and the floor :math:`F`, all three at
    equal sizes :math:`\lfloor n/2 \rfloor`: 0 is as good as transport without learning, 1 is perfect, below 0 is worse.
    Its interval is a paired bootstrap over the held-out rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from gendyn.coupling import Plan
from gendyn.data import Scaling, Snapshots
from gendyn.evaluation.baselines import Prediction, neighbour_plan, neighbour_rows, ot_interpolant
from gendyn.evaluation.holdout_report import LeaveOneOutReport
from gendyn.evaluation.kernels import energy_value, mmd_value
from gendyn.evaluation.sliced import sliced_wasserstein_value
from gendyn.evaluation.starts import Method, Start, predict_starts
from gendyn.evaluation.transport import wasserstein_value
from gendyn.parallel import spread
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["leave_one_out"]

Protocol = Literal["clean", "published"]

_EXACT_SIZE = 5000
_DRAWS = 5
_RESAMPLES = 200
_RESAMPLE_SIZE = 500


def leave_one_out(
    snapshots: Snapshots,
    methods: Mapping[str, Method],
    protocol: Protocol = "clean",
    *,
    scale: Literal["whiten", "global", "none"] = "global",
    times: Sequence[float] | None = None,
    seed: Seed = 0,
    n_seeds: int = 1,
    n_jobs: int = 1,
    progress: bool = False,
) -> LeaveOneOutReport:
    """Predict each held-out time from the others and compare with what needs no learning.

    Parameters
    ----------
    snapshots
        Populations at three times or more.
    methods
        Unfitted estimators by name (cloned for every hole and seed), or callables
        ``(train, previous_time, hole, seed) -> samples``, ``(samples, weights)`` or ``Prediction``. A
        :class:`~gendyn.evaluation.InnerHoldOut` chooses among several; its row has the start ``"selected"``, and the
        column ``origin`` says what was chosen. A :class:`~gendyn.evaluation.Ensemble` pools several.
    protocol
        ``"clean"`` or ``"published"``, see the module's text.
    scale
        Scaling of the space in which models are fitted and distances taken.
    times
        Times to hold out, one at a time; by default all but the first and the last.
    seed, n_seeds
        Root of the randomness, and how many fits of every method; values are their means, spread as ``seed_deviation``.
    n_jobs
        Processes among which holes and methods are divided, by joblib: -1 for all cores; any backend that
        ``joblib.parallel_config`` names. Does not show in the result.
    progress
        Show a progress bar over holes and methods.

    Returns
    -------
    LeaveOneOutReport
        ``.table`` holds a row per method, hole and metric; printing it gives the pivoted comparison.

    Raises
    ------
    ValueError
        If there are fewer than three times, a hole is not an inner time, or an option is unknown.
    TypeError
        If a method is neither an estimator nor callable.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(3, 60, 2, generator=torch.Generator().manual_seed(0))
    >>> data = Snapshots([0.0, 1.0, 2.0], [x[0], x[1] + 4.0, x[2]])
    >>> report = leave_one_out(data, {"stay": lambda train, previous, hole, seed: train.population(previous)})
    >>> table = report.table
    >>> value = table[(table.row == "stay") & (table.metric == "W1")].value.iloc[0]
    >>> floor = table[(table.row == "floor") & (table.metric == "W1")].value.iloc[0]
    >>> bool(value > 2 * floor)
    True
    """
    holes = _check(snapshots, methods, protocol, scale, times, n_seeds)
    if n_jobs == 0:
        raise ValueError("n_jobs must be the number of processes, or -1 for all cores; got 0")
    root = as_seed(seed)
    work = _ordinal(snapshots) if protocol == "published" else snapshots
    positions = [snapshots.index(t) for t in holes]

    def fold_of(position: int) -> _Fold:
        hole = float(work.times[position])
        train = work.without([hole])
        scaling = Scaling.fit(work if protocol == "published" else train, scale)
        truth = scaling.populations(work.only([hole]))
        named = float(snapshots.times[position])
        return _Fold(scaling.populations(train), hole, truth, protocol, derive_seed(root, position), named)

    # Methods of one hole stay together: what one of them has solved, the next need not solve again.
    # They take longest, and so come first.
    tasks = [(position, chosen) for chosen in (methods, None) for position in positions]
    if n_jobs == 1:
        folds = {position: fold_of(position) for position in positions}
        done: Iterable[list[dict[str, Any]]] = (
            _rows_of(folds[position], chosen, root, n_seeds) for position, chosen in tasks
        )
    else:
        jobs = (joblib.delayed(_rows_of)(fold_of(position), chosen, root, n_seeds) for position, chosen in tasks)
        done = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    rows: list[dict[str, Any]] = []
    for found in tqdm(done, total=len(tasks), disable=not progress, desc="leave one out"):
        rows += found
    table = _with_means(pd.DataFrame(_in_order(rows)))
    return LeaveOneOutReport(table, protocol=protocol, scale=scale, seed=root)


def _rows_of(fold: _Fold, methods: Mapping[str, Method] | None, root: int, n_seeds: int) -> list[dict[str, Any]]:
    """Return the rows of methods on one fold; or of what needs no learning, and of the floor."""
    if methods is None:
        entries = [_Entry(name, "baseline", "restart", [found], 0.0) for name, found in fold.baselines.items()]
        return fold.rows(entries) + fold.floor_rows()
    entries = [
        entry for name, method in methods.items() for entry in _method_entries(fold, name, method, root, n_seeds)
    ]
    return fold.rows(entries) if entries else []


def _in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put holes in order, in each what needs no learning first and the floor last, as in the tables."""
    return sorted(rows, key=lambda row: (row["hole"], ("baseline", "method", "floor").index(row["kind"])))


@dataclass(frozen=True)
class _Entry:
    """Predictions of one hole by one method from one start, one a seed."""

    name: str
    kind: str
    start: str
    predictions: list[Prediction]
    seconds: float


def _method_entries(fold: _Fold, name: str, method: Method, root: int, n_seeds: int) -> list[_Entry]:
    """Fit a method on a fold with every seed, and predict from each start."""
    predictions: dict[str, list[Prediction]] = {}
    began = time.perf_counter()
    for repeat in range(n_seeds):
        seed = derive_seed(root, "fit", repeat) % 2**31
        starts: tuple[Start, ...] = get_args(Start) if fold.protocol == "clean" else ("restart",)
        # The plan of the fold is solved once, and kept for every method and for what needs no learning.
        pushed = hasattr(method, "fit") or hasattr(method, "predict_starts")
        plan = fold.plan if fold.protocol == "clean" and pushed else None
        found = predict_starts(name, method, fold.train, fold.hole, seed, starts=starts, plan=plan)
        for start, prediction in found.items():
            predictions.setdefault("selected" if prediction.origin else start, []).append(prediction)
    seconds = (time.perf_counter() - began) / n_seeds
    return [_Entry(name, "method", start, found, seconds) for start, found in predictions.items()]


@dataclass
class _Fold:
    """One hole: what is learned from, what is to be met, and the yardsticks."""

    train: Snapshots
    hole: float
    truth: Snapshots
    protocol: str
    seed: int
    named: float
    """The hole's time in the user's units."""

    def __post_init__(self) -> None:
        self.real = self.truth.samples[0]
        self.real_weights = None if self.truth.weights is None else self.truth.mass(self.hole)
        rng = numpy_generator(self.seed, "halves")
        self.half = max(1, len(self.real) // 2)
        self.halves = [rng.permutation(len(self.real)) for _ in range(_DRAWS)]

    @property
    def fraction(self) -> float | None:
        """Where the hole lies between its neighbours: half way by ordinal times, else as real times say."""
        return 0.5 if self.protocol == "published" else None

    @cached_property
    def reference(self) -> Prediction:
        """What skill is measured against."""
        return ot_interpolant(self.train, self.hole, self.fraction, self.plan)

    @cached_property
    def plan(self) -> Plan:
        """The exact plan between the neighbours of the hole."""
        return neighbour_plan(self.train, self.hole)

    @cached_property
    def baselines(self) -> dict[str, Prediction]:
        """The predictions that need no learning."""
        return neighbour_rows(self.train, self.hole, self.fraction) | {"OT interpolant": self.reference}

    @cached_property
    def reference_at_half(self) -> float:
        """W1 of the reference at equal sizes."""
        return self._at_half(self.reference)

    @cached_property
    def reference_resampled(self) -> NDArray[np.float64]:
        """W1 of the reference on resamples of the truth."""
        return self._resampled(self.reference)

    @cached_property
    def floor(self) -> float:
        """Mean W1 between random halves of the truth."""

        def value(order: NDArray[np.int64]) -> float:
            return wasserstein_value(self.real[order[: self.half]], self.real[order[self.half : 2 * self.half]])

        return float(np.mean(spread(value, self.halves)))

    def rows(self, entries: Sequence[_Entry]) -> list[dict[str, Any]]:
        """Return the table rows of some predictions of this hole."""
        # From the first time and from the one before the hole may be the same prediction: it is measured once.
        everything = {id(prediction): prediction for entry in entries for prediction in entry.predictions}
        measured = dict(zip(everything, spread(self._measure, everything.values()), strict=True))
        gains: dict[int, dict[str, float]] = {}
        if self.protocol == "clean":
            kinds = {id(prediction): entry.kind for entry in entries for prediction in entry.predictions}
            gains = {key: self._gain(prediction, kinds[key]) for key, prediction in everything.items()}
        rows = []
        for entry in entries:
            found = [measured[id(prediction)] for prediction in entry.predictions]
            own = [gains[id(prediction)] for prediction in entry.predictions if gains]
            for metric in found[0]:
                values = np.array([f[metric] for f in found])
                row: dict[str, Any] = {
                    "row": entry.name,
                    "kind": entry.kind,
                    "start": entry.start,
                    "hole": self.named,
                    "metric": metric,
                    "origin": "; ".join(dict.fromkeys(p.origin for p in entry.predictions if p.origin)),
                    "value": float(values.mean()),
                    "seed_deviation": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
                    "n_real": len(self.real),
                    "n_generated": len(entry.predictions[0].samples),
                    "seconds": entry.seconds,
                }
                if metric == "W1" and own:
                    row |= {key: float(np.mean([gain[key] for gain in own])) for key in own[0]}
                rows.append(row)
        return rows

    def floor_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the floor: two random halves of the truth; W1 is the mean of five divisions."""
        order = self.halves[0]
        one, two = self.real[order[: self.half]], self.real[order[self.half : 2 * self.half]]
        if len(two) == 0:
            return []
        values = self._metrics(one, two, None, None) | {"W1": self.floor}
        base = {
            "row": "floor",
            "kind": "floor",
            "start": "",
            "hole": self.named,
            "origin": "",
            "seed_deviation": np.nan,
            "seconds": 0.0,
        }
        rows = []
        for metric, value in values.items():
            row = base | {"metric": metric, "value": value, "n_real": len(one), "n_generated": len(two)}
            if metric == "W1" and self.protocol == "clean":
                row |= {"value_at_half": self.floor}
            rows.append(row)
        return rows

    def _measure(self, prediction: Prediction) -> dict[str, float]:
        return self._metrics(self.real, prediction.samples, self.real_weights, prediction.weights)

    def _metrics(self, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None) -> dict[str, float]:
        values = {}
        if max(len(x), len(y)) <= 2 * _EXACT_SIZE:
            values["W1"] = wasserstein_value(x, y, weights_real=a, weights_generated=b)
        else:
            values["W1"] = wasserstein_value(*_thin(x, y, a, b, self.seed))
            values["sliced W2"] = sliced_wasserstein_value(x, y, weights_real=a, weights_generated=b, seed=self.seed)
        if self.protocol == "clean":
            values["energy distance"] = energy_value(x, y, weights_real=a, weights_generated=b)
            values["MMD^2"] = mmd_value(x, y, weights_real=a, weights_generated=b, seed=self.seed)
        return values

    def _at_half(self, prediction: Prediction) -> float:
        """Return the mean W1 over draws of ``n // 2`` predicted points against ``n // 2`` true ones."""

        def value(draw: int) -> float:
            predicted = prediction.draw(self.half, derive_seed(self.seed, "predicted", draw))
            return wasserstein_value(self.real[self.halves[draw][: self.half]], predicted)

        return float(np.mean(spread(value, range(_DRAWS))))

    def _gain(self, prediction: Prediction, kind: str) -> dict[str, float]:
        """Return W1 at equal sizes, by how much it is below that of the OT interpolant, and the error of this gain."""
        nothing = {"value_at_half": np.nan, "gain": np.nan, "gain_error": np.nan}
        if 2 * self.half > len(self.real):
            return nothing
        if prediction is self.reference:
            return nothing | {"value_at_half": self.reference_at_half, "gain": 0.0}
        value = self._at_half(prediction)
        found = nothing | {"value_at_half": value, "gain": self.reference_at_half - value}
        if kind != "method":
            return found
        # Small resamples carry more bias than the whole, but the same to both rows: only their difference is used,
        # its spread shrunk to the full size.
        differences = self.reference_resampled - self._resampled(prediction)
        shrink = np.sqrt(min(_RESAMPLE_SIZE, len(self.real)) / len(self.real))
        return found | {"gain_error": float(differences.std(ddof=1) * shrink)}

    def _resampled(self, prediction: Prediction) -> np.ndarray[Any, Any]:
        """Return W1 on resamples of the truth; the same resamples for every prediction."""
        size = min(_RESAMPLE_SIZE, len(self.real))

        def value(k: int) -> float:
            rows = numpy_generator(self.seed, "bootstrap", k).integers(0, len(self.real), size)
            return wasserstein_value(self.real[rows], prediction.draw(size, derive_seed(self.seed, "resample", k)))

        return np.array(spread(value, range(_RESAMPLES)))


def _thin(x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    """Draw at most as many points of each side as exact transport takes."""
    return tuple(
        Prediction(z, w).draw(min(len(z), _EXACT_SIZE), derive_seed(seed, "thin", k))
        for k, (z, w) in enumerate(((x, a), (y, b)))
    )  # type: ignore[return-value]


def _check(
    snapshots: Snapshots,
    methods: Mapping[str, Method],
    protocol: str,
    scale: str,
    times: Sequence[float] | None,
    n_seeds: int,
) -> list[float]:
    if not isinstance(snapshots, Snapshots):
        raise TypeError(f"leave_one_out needs gendyn.Snapshots; got {type(snapshots).__name__}")
    if len(snapshots) < 3:
        raise ValueError(f"leaving one time out needs at least three times; got {len(snapshots)}")
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol must be 'clean' or 'published'; got {protocol!r}")
    if scale not in ("whiten", "global", "none"):
        raise ValueError(f"scale must be 'whiten', 'global' or 'none'; got {scale!r}")
    if n_seeds < 1:
        raise ValueError(f"n_seeds must be at least 1; got {n_seeds}")
    if not isinstance(methods, Mapping):
        raise TypeError(f"methods must be a mapping of names to estimators; got {type(methods).__name__}")
    for name, method in methods.items():
        if isinstance(method, type) or not (hasattr(method, "fit") or callable(method)):
            raise TypeError(f"method {name!r} must be an unfitted estimator or a callable; got {method!r}")
    inner = snapshots.times[1:-1].tolist()
    holes = inner if times is None else [float(snapshots.times[snapshots.index(t)]) for t in times]
    outside = [t for t in holes if t not in inner]
    if outside or not holes:
        raise ValueError(
            f"only inner times can be held out ({', '.join(f'{t:g}' for t in inner)}); "
            f"got {outside[0] if outside else 'none'}"
        )
    return holes


def _ordinal(snapshots: Snapshots) -> Snapshots:
    """Return the same populations at times 0, 1, 2, ..."""
    return Snapshots(range(len(snapshots)), snapshots.samples, snapshots.weights, names=snapshots.names)


def _with_means(table: pd.DataFrame) -> pd.DataFrame:
    """Add the mean over holes of every row and metric, with hole NaN, and the skill of all."""
    for column in ("value_at_half", "gain", "gain_error"):
        if column not in table:
            table[column] = np.nan
    keys = ["row", "kind", "start", "metric"]
    groups = table.groupby(keys, sort=False)
    means = groups[["value", "seed_deviation", "value_at_half", "gain", "seconds"]].mean().reset_index()
    # Holes are independent given the method: variances of their gains add.
    squares = table["gain_error"].pow(2).groupby([table[key] for key in keys], sort=False).sum(min_count=1)
    means["gain_error"] = np.sqrt(squares.to_numpy()) / groups.size().to_numpy()
    means["hole"], means["origin"] = np.nan, ""
    return _with_skill(pd.concat([table, means], ignore_index=True))


def _with_skill(table: pd.DataFrame) -> pd.DataFrame:
    """Add the skill (B - M) / (B - F): of each hole, and of the means over holes.

    Where the OT interpolant is at the floor there is no room for skill, and the skill is NaN. A mean skill is the ratio
    of mean gain and mean room, so that a hole with little room does not outweigh the others.
    """
    yardsticks = []
    for kind, row in (("baseline", "OT interpolant"), ("floor", "floor")):
        chosen = table[(table["metric"] == "W1") & (table["kind"] == kind) & (table["row"] == row)]
        # A hole of its own name: NaN, the mean over holes, is no key.
        yardsticks.append(dict(zip(chosen["hole"].fillna(np.inf), chosen["value_at_half"], strict=True)))
    above, below = (table["hole"].fillna(np.inf).map(yardstick) for yardstick in yardsticks)
    rooms = (above - below).where(above > below)
    table["skill"] = table["gain"] / rooms
    for column, sign in (("skill_low", -1.96), ("skill_high", 1.96)):
        table[column] = table["skill"] + sign * table["gain_error"] / rooms
    is_floor = (table["kind"] == "floor") & table["value_at_half"].notna()
    table.loc[is_floor & rooms.notna(), "skill"] = 1.0
    return table
