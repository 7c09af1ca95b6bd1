r"""Utility: whether a classifier that learned from generated paths knows real ones.

Given real paths to learn from, others to be asked about, and generated ones, all with labels, the same classifier is

- TSTR: trained on synthetic, tested on real;
- TRTS: trained on real, tested on synthetic;
- TRTR: trained on real, tested on real: the ceiling.

TSTR over TRTR is one for a generator that is as good to learn from as the truth (Esteban, Hyland and Raetsch 2017).
TRTS alone is no merit: it is highest for a generator that draws typical paths only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, on_scale_of, path_sets
from gendyn.evaluation.points import Array
from gendyn.evaluation.recurrent import Integers, Pools, RecurrentBank, columns, readable, share_right
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator
from gendyn.training import fit

__all__ = ["utility"]

_UNITS = 16
_BATCH = 32
_RATE = 5e-3


def utility(
    real: Paths,
    generated: Paths,
    *,
    train: Paths | None = None,
    n_trials: int = 5,
    iterations: int = 300,
    seed: Seed = 0,
) -> MetricResult:
    """Return how well a classifier trained on generated paths knows real ones, relative to one trained on real ones.

    The classifier is a gated recurrent network with 16 units whose states are averaged over the times that were
    observed, on standardised values.

    Parameters
    ----------
    real
        Labelled paths at shared times; gaps and unequal lengths are allowed. With ``train`` they are asked about only;
        without, each trial learns from one half of every class and asks about the other.
    generated
        Labelled paths, drawn class by class, with the labels of the real ones.
    train
        Real paths to learn from, which the generator may have been fitted on.
    n_trials
        Networks for either training set, each with its own start; all are trained together as one.
    iterations
        Steps of Adam at rate 0.005 with batches of 32 paths.
    seed
        Root of all randomness.

    Returns
    -------
    MetricResult
        TSTR over TRTR; the floor is one, and more is better here. The interval is over trials, which know
        nothing of the sampling of the test paths. ``extra`` holds ``TSTR``, ``TRTS`` and ``TRTR`` (each with mean and
        sd), ``chance`` (share of the largest class) and ``classes``.

    Raises
    ------
    TypeError
        If an argument is not paths.
    ValueError
        If paths have no labels, labels differ between sets, there is one class only, or a class of ``real`` has one
        path.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(60) % 2
    >>> x = rng.normal(size=(60, 8, 1)) + 3.0 * labels[:, None, None]
    >>> result = utility(Paths(range(8), x, labels=labels), Paths(range(8), x, labels=labels), iterations=60)
    >>> result.value > 0.9, result.extra["chance"]
    (True, 0.5)
    """
    began = time.perf_counter()
    root = as_seed(seed)
    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1; got {n_trials}")
    sources = [generated, real] if train is None else [generated, real, train]
    classes, labels = _labelled(sources)
    asked, made = path_sets(real, generated, metric="utility", needs="shared")
    sets = [made, asked]
    if train is not None:
        sets.append(path_sets(train, generated, metric="utility", needs="shared")[0])
    halves = _halves(labels[1], n_trials, numpy_generator(derive_seed(root, "halves"))) if train is None else None
    lessons = _Lessons(on_scale_of(sets[-1], "real-std", *sets), labels, halves, n_trials, derive_seed(root, "start"))
    fit(
        lessons,
        steps=iterations,
        lr=_RATE,
        schedule="constant",
        clip=None,
        seed=derive_seed(root, "batches"),
        progress=False,
    )
    on_real, on_made = lessons.right(lessons.asked), lessons.right(lessons.made)
    scores = {"TSTR": on_real[:n_trials], "TRTS": on_made[n_trials:], "TRTR": on_real[n_trials:]}
    ceiling = float(scores["TRTR"].mean())
    if not ceiling > 0:
        raise ValueError(
            f"networks trained on real paths were never right about the {len(lessons.asked[-1])} that they were asked "
            "about, so there is no ceiling to compare with; give more paths or more iterations"
        )
    ratios = scores["TSTR"] / ceiling
    low = high = None
    if n_trials > 1:
        reach = float(stats.t.ppf(0.975, n_trials - 1) * ratios.std(ddof=1) / np.sqrt(n_trials))
        low, high = float(ratios.mean()) - reach, float(ratios.mean()) + reach
    extra: dict[str, Any] = {
        name: {"mean": float(found.mean()), "sd": float(found.std(ddof=1)) if n_trials > 1 else None}
        for name, found in scores.items()
    }
    extra |= {"chance": float(np.bincount(labels[1]).max() / len(real)), "classes": len(classes), "trials": n_trials}
    value, seconds = float(ratios.mean()), time.perf_counter() - began
    return MetricResult("utility", value, low, high, 1.0, len(real), len(generated), None, root, seconds, extra)


class _Lessons:
    """Networks that learn the classes, the first half of them from generated paths, the others from real ones."""

    def __init__(
        self,
        sets: Sequence[PathSet],
        labels: Sequence[Integers],
        halves: Sequence[tuple[Integers, Integers]] | None,
        trials: int,
        seed: int,
    ) -> None:
        gaps = any(paths.mask is not None for paths in sets)
        self._rows = readable(np.concatenate([_channels(paths, gaps) for paths in sets]))
        self._observed = sets[0].dim if gaps else None
        self._labels = torch.from_numpy(np.concatenate(labels))
        made, asked, *taught = (
            numbers.numpy() for numbers in torch.split(torch.arange(len(self._rows)), [len(paths) for paths in sets])
        )
        learn = [taught[0]] * trials if halves is None else [asked[part] for part, _ in halves]
        ask = [asked] * trials if halves is None else [asked[part] for _, part in halves]
        self.asked, self.made = 2 * ask, 2 * trials * [made]
        self._pools = Pools([[torch.from_numpy(pool)] for pool in trials * [made] + learn])
        classes = int(self._labels.max()) + 1
        self._bank = RecurrentBank(2 * trials, self._rows.shape[2], _UNITS, classes, seed=seed)
        self.module: nn.Module = self._bank

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the sum over networks, which share no weight, of their cross-entropies."""
        numbers = self._pools.draw(_BATCH, generator)[:, 0]
        return nn.functional.cross_entropy(self._odds(numbers), self._labels[numbers], reduction="sum") / _BATCH

    def _odds(self, numbers: Tensor) -> Tensor:
        """Return the log odds of the classes ``(K, classes, B)``."""
        x = columns(self._rows, numbers)
        states = self._bank.states(x)
        if self._observed is None:
            return self._bank.read(states.mean(0))
        seen = x[:, :, self._observed :].amax(2, keepdim=True)
        return self._bank.read((states * seen).sum(0) / seen.sum(0).clamp_min(1))

    @torch.no_grad()
    def right(self, asked: Sequence[Integers]) -> Array:
        """Return the share of right answers of each network about its paths ``(K,)``."""
        return share_right(lambda numbers: self._odds(numbers).argmax(1) == self._labels[numbers], asked)


def _channels(paths: PathSet, gaps: bool) -> Array:
    """Return values and, where any set has gaps, what was observed ``(n, T, c)``."""
    if not gaps:
        return paths.values
    return np.concatenate([np.nan_to_num(paths.values), paths.observed], axis=2)


def _labelled(sources: Sequence[Paths]) -> tuple[Array, list[Integers]]:
    """Return the classes, and the number of that of each path for every source."""
    found = []
    for source in sources:
        if not isinstance(source, Paths):
            raise TypeError(f"utility needs gendyn.Paths with labels; got {type(source).__name__}")
        if source.labels is None:
            raise ValueError("utility needs paths with labels; give Paths(..., labels=...)")
        found.append(source.labels)
    classes = np.unique(found[1])
    for labels in found:
        if not np.array_equal(np.unique(labels), classes):
            raise ValueError(
                f"all sets must have the same classes; got {classes.tolist()} and {np.unique(labels).tolist()}"
            )
    if len(classes) < 2:
        raise ValueError(f"utility needs at least two classes; all paths are of {classes.tolist()[0]!r}")
    return classes, [np.searchsorted(classes, labels) for labels in found]


def _halves(labels: Integers, trials: int, rng: np.random.Generator) -> list[tuple[Integers, Integers]]:
    """Return for every trial one half of every class to learn from, and the other to ask about."""
    if np.bincount(labels).min() < 2:
        raise ValueError("every class of the real paths needs two of them, one to learn from and one to ask about")
    result = []
    for _ in range(trials):
        order = rng.permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        # Every second path of a class, in an order that is random within it.
        place = np.arange(len(labels)) - np.searchsorted(labels[order], labels[order])
        result.append((order[place % 2 == 0], order[place % 2 == 1]))
    return result
