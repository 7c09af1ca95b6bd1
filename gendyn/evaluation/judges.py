r"""Judges: classifiers that are trained to tell real paths from generated ones, and how often they are right.

A judge learns from one part of both sets and is asked about the rest; its accuracy :math:`a` on equally many real and
generated paths is 1/2 where the two laws are equal. A trial is one division into parts and one judge trained from its
own start. Three kinds of judges:

- small recurrent networks with the sizes and training of published tables, see :data:`VARIANTS`;
- the same with 32 units;
- gradient boosting (100 trees of depth 3) on all values, their first differences, and mean, standard deviation and
  lag-one autocorrelation of each path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy import stats
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor, nn

from gendyn.evaluation.path_set import PathSet
from gendyn.evaluation.points import Array
from gendyn.evaluation.recurrent import Cell, Integers, Pools, RecurrentBank, columns, readable, share_right
from gendyn.parallel import spread
from gendyn.randomness import derive_seed, numpy_generator
from gendyn.training import fit

__all__ = [
    "STRONG",
    "VARIANTS",
    "Division",
    "Evidence",
    "Judge",
    "Split",
    "Verdict",
    "boosting_accuracies",
    "divide",
    "evidence",
    "network_accuracies",
]

Split = Literal["random", "blocked"]
"""``"random"``: paths are exchangeable; ``"blocked"``: they are windows of one series, in order."""

_BATCH = 128
_BLOCKS = 5


@dataclass(frozen=True)
class Judge:
    """A recurrent network as a judge, and how it is trained.

    Attributes
    ----------
    units
        Units of a layer, from the number of channels.
    iterations, rate
        Steps of Adam, and its rate.
    cell, layers
        Kind and number of layers; the last states of all of them are read.
    joint
        Whether real and generated paths are divided, and drawn into batches of 128, together; otherwise apart, and a
        batch has 128 of each.
    """

    units: Callable[[int], int]
    iterations: int
    rate: float = 1e-3
    cell: Cell = "gru"
    layers: int = 1
    joint: bool = False


VARIANTS: dict[str, Judge] = {
    "timegan": Judge(lambda dim: max(1, dim // 2), 2000),
    "gtgan": Judge(lambda dim: max(1, dim // 3), 300),
    "dcgan": Judge(lambda dim: max(1, dim // 2), 5000, cell="lstm", layers=2, joint=True),
}
"""Judges of published tables; their numbers must not be mixed.

``"timegan"``: Yoon, Jarrett and van der Schaar (2019), and most tables since. ``"gtgan"``: Jeon et al. (2022), on the
energy set. ``"dcgan"``: Min, Hu and Ichiba (2023; 2000 iterations on their electricity set). Some public code reports
the best score over the epochs of training, which selects on the number that is reported; that is not offered.
"""

STRONG = Judge(lambda dim: 32, 1000, rate=5e-3)
"""A judge with 32 units; at this rate it ends nearer to the boosted trees than after twice the steps at 0.001."""


@dataclass(frozen=True)
class Evidence:
    """Both sets as judges read them: first all real paths, then as many generated ones.

    Attributes
    ----------
    values
        ``(2 n, T, d)``; NaN where not observed.
    mask
        ``(2 n, T, d)``, or ``None`` where everything was observed.
    places
        ``(n,)`` place of each real path in its set, in order.
    span
        Number of places.
    """

    values: Array
    mask: np.ndarray[Any, np.dtype[np.bool_]] | None
    places: Integers
    span: int

    @property
    def half(self) -> int:
        """Number ``n`` of paths of either kind."""
        return len(self.places)

    @property
    def real(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which paths are real ``(2 n,)``."""
        return np.arange(2 * self.half) < self.half

    def rows(self) -> Tensor:
        """Return the inputs of networks ``(2 n, T, c)``: values and, where there are gaps, what was seen."""
        values = np.nan_to_num(self.values) if self.mask is not None else self.values
        channels = values if self.mask is None else np.concatenate([values, self.mask], axis=2)
        return readable(channels)

    def features(self) -> Array:
        """Return the inputs of trees: values, differences, and moments of each path; NaN where not observed."""
        x = self.values
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = ~np.isnan(x)
            mean = np.where(seen, x, 0).sum(1) / seen.sum(1)
            centred = x - mean[:, None]
            variance = np.nan_to_num(centred**2).sum(1) / seen.sum(1)
            pairs = centred[:, 1:] * centred[:, :-1]
            lagged = np.nan_to_num(pairs).sum(1) / (~np.isnan(pairs)).sum(1) / variance
        lagged = np.where(variance > 0, lagged, np.nan)
        flat = [part.reshape(len(x), -1) for part in (x, np.diff(x, axis=1))]
        return np.concatenate([*flat, mean, np.sqrt(variance), lagged], axis=1)


def evidence(real: PathSet, generated: PathSet, rng: np.random.Generator) -> Evidence:
    """Return what judges are shown, at equal sizes and with equal gaps.

    The larger set is thinned at random, so that a judge that knows nothing is right half the time. Where real paths
    have gaps and generated ones have none, each generated path gets the gaps of a real one.

    Raises
    ------
    ValueError
        If only the generated paths have gaps: they alone would tell the two apart.
    """
    if generated.mask is not None and real.mask is None:
        raise ValueError(
            "the generated paths have gaps and the real ones have none: the gaps alone would tell them apart"
        )
    n = min(len(real), len(generated))
    places, chosen = (np.sort(rng.permutation(len(paths))[:n]) for paths in (real, generated))
    values = np.concatenate([real.values[places], generated.values[chosen]])
    if real.mask is None:
        return Evidence(values, None, places, len(real))
    if generated.mask is None:
        copied = real.mask[rng.integers(0, len(real), n)]
    else:
        copied = generated.mask[chosen]
    mask = np.concatenate([real.mask[places], copied])
    return Evidence(np.where(mask, values, np.nan), mask, places, len(real))


@dataclass(frozen=True)
class Division:
    """One division of the paths: pools to learn from, and those to be asked about."""

    learn: tuple[Integers, ...]
    ask: Integers


def divide(
    shown: Evidence, split: Split, trials: int, rng: np.random.Generator, *, joint: bool = False
) -> list[Division]:
    """Return a division for every trial: four fifths to learn from, one fifth to ask about.

    Parameters
    ----------
    shown
        The paths.
    split
        ``"random"``, or ``"blocked"``: of the real paths each trial in turn asks about another fifth of consecutive
        ones, and as many paths as one has times are left out on either side of it, so that windows on both sides share
        no row.
    trials
        Number of divisions.
    rng
        Source of the permutations.
    joint
        Divide real and generated paths together, into one pool.

    Raises
    ------
    ValueError
        If the split is unknown, or blocks are too short for their gaps.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}; got {split!r}")
    if trials < 1:
        raise ValueError(f"n_trials must be at least 1; got {trials}")
    n = shown.half
    kept = int(0.8 * n)
    result = []
    for trial in range(trials):
        if joint and split == "random":
            order = rng.permutation(2 * n)
            result.append(Division((order[: 2 * kept],), order[2 * kept :]))
            continue
        made = n + rng.permutation(n)
        if split == "random":
            order = rng.permutation(n)
            learn, ask = order[:kept], order[kept:]
        else:
            learn, ask = _block(shown, trial % _BLOCKS)
        # A block may be a path longer than a fifth: what is asked about is never learned from.
        made_learn, made_ask = made[: min(kept, n - len(ask))], made[n - len(ask) :]
        pools = (np.concatenate([learn, made_learn]),) if joint else (learn, made_learn)
        result.append(Division(pools, np.concatenate([ask, made_ask])))
    return result


def _block(shown: Evidence, block: int) -> tuple[Integers, Integers]:
    """Return the real paths to learn from and, one fifth of the series, to ask about."""
    gap = shown.values.shape[1]
    low, high = (round(shown.span * b / _BLOCKS) for b in (block, block + 1))
    ask = np.flatnonzero((shown.places >= low) & (shown.places < high))
    learn = np.flatnonzero((shown.places < low - gap) | (shown.places >= high + gap))
    if not len(ask) or not len(learn):
        raise ValueError(
            f"blocks of a fifth of {shown.span} windows leave nothing beside gaps of {gap} windows; give a longer "
            "series, or split='random' if paths do not overlap"
        )
    return learn, ask


@dataclass(frozen=True)
class Verdict:
    r"""How often a judge was right.

    Trials share their paths, so their spread :math:`s` alone understates the error. Intervals are
    :math:`t_{K-1}\, s \sqrt{1/K + n_\text{ask}/n_\text{learn}}` wide on either side (Nadeau and Bengio 2003); the
    p-value is that of a binomial test of the mean accuracy with the number of paths of one trial, one-sided.

    Attributes
    ----------
    accuracies
        One for each trial ``(K,)``.
    n_learn, n_ask
        Paths learned from and asked about in one trial.

    Examples
    --------
    >>> verdict = Verdict(np.array([0.9, 0.8]), n_learn=800, n_ask=200)
    >>> round(verdict.score, 3), round(verdict.signed, 3), verdict.p_value < 1e-6
    (0.35, 0.35, True)
    >>> round(verdict.chance, 4)
    0.0282
    """

    accuracies: Array
    n_learn: int
    n_ask: int

    @property
    def score(self) -> float:
        r"""Mean of :math:`|a - 1/2|`."""
        return float(np.abs(self.accuracies - 0.5).mean())

    @property
    def signed(self) -> float:
        r"""Mean of :math:`a - 1/2`; zero in expectation for equal laws."""
        return float(self.accuracies.mean() - 0.5)

    @property
    def chance(self) -> float:
        r"""Expectation of :math:`|a - 1/2|` for equal laws at least: :math:`\tfrac12 \sqrt{2 / (\pi n_\text{ask})}`."""
        return float(0.5 * np.sqrt(2 / (np.pi * self.n_ask)))

    @property
    def p_value(self) -> float:
        """Of equal laws, one-sided."""
        right = round(float(self.accuracies.mean()) * self.n_ask)
        return float(stats.binomtest(right, self.n_ask, alternative="greater").pvalue)

    @classmethod
    def of(cls, accuracies: Array, divisions: Sequence[Division]) -> Verdict:
        """Return the verdict of one judge on all divisions."""
        learned = np.mean([sum(map(len, division.learn)) for division in divisions])
        asked = np.mean([len(division.ask) for division in divisions])
        return cls(accuracies, round(float(learned)), round(float(asked)))

    def interval(self, numbers: Array) -> tuple[float | None, float | None]:
        """Return the interval at 95 % of the mean of one number per trial; ``None`` for a single trial."""
        k = len(numbers)
        if k < 2:
            return None, None
        spread = numbers.std(ddof=1) * np.sqrt(1 / k + self.n_ask / self.n_learn)
        reach = float(stats.t.ppf(0.975, k - 1) * spread)
        return float(numbers.mean()) - reach, float(numbers.mean()) + reach

    def summary(self) -> dict[str, Any]:
        """Return everything in one dictionary."""
        off = self.accuracies - 0.5
        low, high = self.interval(off)
        return {
            "score": self.score,
            "sd": float(np.abs(off).std(ddof=1)) if len(off) > 1 else None,
            "signed": self.signed,
            "signed_low": low,
            "signed_high": high,
            "p_value": self.p_value,
            "chance": self.chance,
            "trials": len(off),
            "n_learn": self.n_learn,
            "n_ask": self.n_ask,
        }


class _Trials:
    """What the networks of all trials learn, as one objective."""

    def __init__(self, bank: RecurrentBank, rows: Tensor, real: Tensor, divisions: Sequence[Division]) -> None:
        self.module: nn.Module = bank
        self._bank = bank
        self._rows = rows
        self._sign = real.to(torch.float32) * 2 - 1
        self._pools = Pools([[torch.from_numpy(pool) for pool in division.learn] for division in divisions])

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        numbers = self._pools.draw(_BATCH, generator)
        odds = self.odds(numbers.flatten(1)).view(numbers.shape)
        # Cross-entropy, a mean for each pool; networks share no weight, so their losses may be added.
        return nn.functional.softplus(-self._sign[numbers] * odds).mean(2).sum()

    def odds(self, numbers: Tensor) -> Tensor:
        """Return the log odds that the networks give the paths ``(K, B)``."""
        read = self._bank.read(self._bank.states(columns(self._rows, numbers))[-1])
        # With two outputs, as some tables have it, their difference.
        return read[:, -1] - read[:, 0] if read.shape[1] == 2 else read[:, 0]

    @torch.no_grad()
    def right(self, divisions: Sequence[Division]) -> Array:
        """Return the share of right answers of each network ``(K,)``."""
        asked = [division.ask for division in divisions]
        return share_right(lambda numbers: (self.odds(numbers) > 0) == (self._sign[numbers] > 0), asked)


def network_accuracies(
    shown: Evidence, divisions: Sequence[Division], judge: Judge, seed: int, iterations: int | None = None
) -> Array:
    """Return the accuracies of one network for each division, all trained side by side."""
    rows = shown.rows()
    bank = RecurrentBank(
        len(divisions),
        rows.shape[2],
        judge.units(shown.values.shape[2]),
        2 if judge.joint else 1,
        cell=judge.cell,
        layers=judge.layers,
        seed=derive_seed(seed, "start"),
    )
    trials = _Trials(bank, rows, torch.from_numpy(shown.real), divisions)
    fit(
        trials,
        steps=judge.iterations if iterations is None else iterations,
        lr=judge.rate,
        schedule="constant",
        clip=None,
        seed=derive_seed(seed, "batches"),
        progress=False,
    )
    return trials.right(divisions)


def boosting_accuracies(shown: Evidence, divisions: Sequence[Division], seed: int) -> Array:
    """Return the accuracies of gradient boosting, trained anew for each division (Friedman 2001, on binned values)."""
    features = shown.features()

    def accuracy(k: int) -> float:
        learn, ask = np.concatenate(divisions[k].learn), divisions[k].ask
        trees = HistGradientBoostingClassifier(
            max_iter=100,
            max_depth=3,
            early_stopping=False,
            random_state=int(numpy_generator(seed, "trees", k).integers(2**31)),
        )
        # Of a constant channel the autocorrelation is defined for no path: such a feature tells nothing.
        known = np.isfinite(features[learn]).any(axis=0)
        trees.fit(features[np.ix_(learn, known)], shown.real[learn])
        return float(trees.score(features[np.ix_(ask, known)], shown.real[ask]))

    return np.array(spread(accuracy, range(len(divisions))))
