r"""Discriminative scores: how far real and generated paths can be told apart by a classifier trained to do so.

.. math:: \mathrm{DS} = \frac1K \sum_{k=1}^K \bigl| a_k - \tfrac12 \bigr|,

:math:`a_k` being the accuracy of the judge of trial :math:`k` on paths it has not seen. The modulus makes it positive
for equal laws: its expectation is then at least :math:`\tfrac12 \sqrt{2/(\pi n)}` with :math:`n` paths asked about,
and below that smaller is not better. The judge of the published tables has a few units and is blind to much;
:func:`strong_discriminative_score` asks judges that are not. Neither can tell a good generator from one that replays
its training paths, so both carry a :func:`~gendyn.evaluation.memorisation` check.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from torch import Tensor

from gendyn.data import Paths
from gendyn.evaluation.judges import (
    STRONG,
    VARIANTS,
    Evidence,
    Split,
    Verdict,
    boosting_accuracies,
    divide,
    evidence,
    network_accuracies,
)
from gendyn.evaluation.memorisation import memorisation
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import on_scale_of, path_sets
from gendyn.evaluation.points import Array
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["discriminative_score", "strong_discriminative_score"]

_FEWEST = 10
"""Paths of either kind below which a fifth of them says nothing."""

_STRONG_TRIALS = 2


def discriminative_score(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    train: Paths | Tensor | Array | None = None,
    variant: str = "timegan",
    split: Split = "random",
    strong: bool = True,
    n_trials: int = 10,
    iterations: int | None = None,
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
) -> MetricResult:
    """Return the discriminative score of published tables, with what it takes to read it.

    All trials are trained together as one network. Real paths with gaps are allowed: generated ones get the gaps of
    real ones, and the judge sees what was observed.

    Parameters
    ----------
    real, generated
        Sets of paths at shared times, scaled to [0, 1] by the real ones. The larger is thinned to the size of the
        smaller.
    train
        The paths that the generator was fitted on, where ``real`` is held out from them; for the check of
        memorisation, and for the scale.
    variant
        ``"timegan"``, ``"gtgan"`` or ``"dcgan"``, see :data:`~gendyn.evaluation.judges.VARIANTS`.
    split
        ``"blocked"`` where paths are overlapping windows of one series, in order: near-copies of what the judge has
        learned from are then not asked about.
    strong
        Whether to ask the judges of :func:`strong_discriminative_score` too.
    n_trials
        Judges, each with its own division of the paths and its own start.
    iterations
        Steps of training, where not those of the variant.
    on_nan
        ``"count"`` leaves broken generated paths out, and counts them in ``extra["dropped"]``.
    seed
        Root of all randomness.

    Returns
    -------
    MetricResult
        The floor is the expectation for equal laws by chance alone. Interval and p-value are those of
        :class:`~gendyn.evaluation.judges.Verdict`. ``extra`` holds ``signed`` (mean of accuracy minus one half, zero
        for equal laws) with ``signed_low`` and ``signed_high``, ``sd`` over trials, ``strong`` (a summary of each
        strong judge), ``maximum`` (the largest of its score and theirs), and ``memorisation``.

    Raises
    ------
    ValueError
        If sets do not fit, there are fewer than ten paths, or a name is unknown.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(100, 5, 2))
    >>> result = discriminative_score(x, x + 5.0, strong=False, iterations=100)
    >>> round(result.floor, 3), result.extra["memorisation"]["copies"]
    (0.063, False)
    """
    began = time.perf_counter()
    root = as_seed(seed)
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}; got {variant!r}")
    judge, name = VARIANTS[variant], f"discriminative score ({variant})"
    shown, extra = _show(name, real, generated, train, on_nan, root)
    divisions = divide(shown, split, n_trials, numpy_generator(derive_seed(root, "split")), joint=judge.joint)
    verdict = Verdict.of(network_accuracies(shown, divisions, judge, derive_seed(root, "judge"), iterations), divisions)
    extra |= {"split": split} | verdict.summary()
    if strong:
        others = _ask_strong(shown, split, _STRONG_TRIALS, root)
        extra["strong"] = {judge: found.summary() for judge, found in others.items()}
        extra["maximum"] = max(verdict.score, *(found.signed for found in others.values()))
    return _result(name, np.abs(verdict.accuracies - 0.5), verdict, shown, root, began, extra)


def strong_discriminative_score(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    train: Paths | Tensor | Array | None = None,
    split: Split = "random",
    n_trials: int = _STRONG_TRIALS,
    iterations: int | None = None,
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
) -> MetricResult:
    r"""Return how much better than chance the better of two judges is that see what that of published tables does not.

    .. math:: \max_j \frac1K \sum_{k=1}^K \bigl( a_{jk} - \tfrac12 \bigr)

    They are the recurrent network with 32 units, and gradient boosting on values, differences and moments. A generator
    that only the small network cannot tell from the truth is not near to it.

    Parameters
    ----------
    real, generated, train, split, on_nan, seed
        As for :func:`discriminative_score`.
    n_trials
        Divisions of the paths for each judge.
    iterations
        Steps of training of the network, 1000 by default.

    Returns
    -------
    MetricResult
        Of the judge that is right more often. Without a modulus, it is near zero for equal laws, and clearly below zero
        where a judge was asked about copies of paths that it had learned as of the other kind. ``extra`` holds
        ``judge`` (its name), ``judges`` (a summary of each) and ``memorisation``.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(200, 5, 1))
    >>> result = strong_discriminative_score(x, np.sort(x, axis=1), n_trials=1, iterations=20)
    >>> result.value > 0.4, result.extra["judge"]
    (True, 'boosting')
    """
    began = time.perf_counter()
    root = as_seed(seed)
    name = "strong discriminative score"
    shown, extra = _show(name, real, generated, train, on_nan, root)
    verdicts = _ask_strong(shown, split, n_trials, root, iterations)
    best = max(verdicts, key=lambda judge: verdicts[judge].signed)
    extra |= {"split": split, "judge": best} | verdicts[best].summary()
    extra["judges"] = {judge: verdict.summary() for judge, verdict in verdicts.items()}
    off = verdicts[best].accuracies - 0.5
    return _result(name, off, verdicts[best], shown, root, began, extra)


def _show(
    name: str, real: Any, generated: Any, train: Any, on_nan: Literal["raise", "count"], root: int
) -> tuple[Evidence, dict[str, Any]]:
    """Return what judges are shown, and the notes that every discriminative score carries."""
    held, made = path_sets(real, generated, metric=name, needs="shared", minimum=_FEWEST, on_nan=on_nan)
    fitted = held
    if train is not None:
        fitted = path_sets(train, generated, metric=name, needs="shared", on_nan=on_nan)[0]
    held, made = on_scale_of(fitted, "minmax", held, made)
    shown = evidence(held, made, numpy_generator(derive_seed(root, "evidence")))
    check = memorisation(real, generated, train=train, on_nan=on_nan, seed=derive_seed(root, "memorisation"))
    return shown, {"memorisation": {"copy_ratio": check.value} | dict(check.extra), "dropped": made.dropped}


def _ask_strong(
    shown: Evidence, split: Split, n_trials: int, root: int, iterations: int | None = None
) -> dict[str, Verdict]:
    divisions = divide(shown, split, n_trials, numpy_generator(derive_seed(root, "strong split")))
    accuracies = {
        "gru": network_accuracies(shown, divisions, STRONG, derive_seed(root, "strong gru"), iterations),
        "boosting": boosting_accuracies(shown, divisions, derive_seed(root, "boosting")),
    }
    return {judge: Verdict.of(found, divisions) for judge, found in accuracies.items()}


def _result(
    name: str, scores: Array, verdict: Verdict, shown: Evidence, root: int, began: float, extra: dict[str, Any]
) -> MetricResult:
    return MetricResult(
        name,
        float(scores.mean()),
        *verdict.interval(scores),
        verdict.chance,
        shown.half,
        shown.half,
        verdict.p_value,
        root,
        time.perf_counter() - began,
        extra,
    )
