r"""Predictive scores: how well a network trained on generated paths predicts real ones one step ahead.

.. math:: \mathrm{PS} = \frac1K \sum_{k=1}^K \operatorname{mean} \bigl| y_{t+1} - f_k(x_1, \dots, x_t) \bigr|
    \quad \text{over real paths},

each :math:`f_k` being a gated recurrent network with a logistic read-out, trained on generated paths by the absolute
error. Two protocols are in use, on different scales, whose numbers must never be mixed:

- ``"first"`` (Yoon, Jarrett and van der Schaar 2019): the inputs are all channels but the last, the target is the last;
- ``"second"`` (tables of irregular series, Jeon et al. 2022): inputs and targets are all channels.

What a score says shows only beside that of the same network trained on real paths; both are trained together here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from gendyn.data import Paths
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.path_set import PathSet, on_scale_of, path_sets
from gendyn.evaluation.points import Array
from gendyn.evaluation.recurrent import Pools, RecurrentBank, columns, readable
from gendyn.randomness import Seed, as_seed, derive_seed
from gendyn.training import fit

__all__ = ["Protocol", "predictive_score"]

Protocol = Literal["first", "second"]

_BATCH = 128
_COLUMNS = 4096


def predictive_score(
    real: Paths | Tensor | Array,
    generated: Paths | Tensor | Array,
    *,
    train: Paths | Tensor | Array | None = None,
    protocol: Protocol = "first",
    scale: Literal["minmax"] | None = "minmax",
    n_trials: int = 3,
    iterations: int = 5000,
    on_nan: Literal["raise", "count"] = "raise",
    seed: Seed = 0,
) -> MetricResult:
    """Return the mean absolute error on real paths of predictors trained on generated ones.

    Parameters
    ----------
    real, generated
        Complete sets of paths at shared times.
    train
        Real paths for the predictors of the floor and for the scale; by default ``real``, as in the published tables.
    protocol
        ``"first"`` or ``"second"``, see above.
    scale
        ``"minmax"`` brings the training paths to [0, 1], where the logistic read-out can reach them; ``None`` takes
        paths as they are, which must lie there.
    n_trials
        Networks for either set, each with its own start and batches; all are trained together as one.
    iterations
        Steps of Adam at rate 0.001 with batches of 128 paths.
    on_nan
        ``"count"`` leaves broken generated paths out, and counts them in ``extra["dropped"]``.
    seed
        Root of all randomness.

    Returns
    -------
    MetricResult
        The floor is the score of the same predictors trained on real paths. The interval is that of the mean over
        trials and knows nothing of the sampling of paths. ``extra`` holds ``ratio`` (value over floor), ``sd`` over
        trials, and ``outside`` (share of generated values that lie outside [0, 1], which no prediction can reach).

    Raises
    ------
    ValueError
        If sets do not fit or have gaps, there is one channel (first protocol) or one time, or ``scale=None`` is given
        values outside [0, 1].

    Examples
    --------
    >>> x = np.random.default_rng(0).random((200, 6, 2))
    >>> result = predictive_score(x, x, iterations=50, n_trials=2)
    >>> abs(result.extra["ratio"] - 1) < 0.1
    True
    """
    began = time.perf_counter()
    root = as_seed(seed)
    name = f"predictive score ({protocol} protocol)"
    if protocol not in get_args(Protocol):
        raise ValueError(f"protocol must be one of {', '.join(get_args(Protocol))}; got {protocol!r}")
    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1; got {n_trials}")
    held, made = path_sets(real, generated, metric=name, minimum_times=2, on_nan=on_nan)
    fitted = held if train is None else path_sets(train, generated, metric=name, on_nan=on_nan)[0]
    if protocol == "first" and held.dim < 2:
        raise ValueError(
            "the first protocol predicts the last channel from the others, and there is one; use protocol='second'"
        )
    held, made, fitted = on_scale_of(fitted, scale, held, made, fitted)
    if scale is None:
        _check_range({"real": held, "generated": made, "train": fitted})
    errors = _errors(held, [made, fitted], protocol, n_trials, iterations, root)
    found, floor = errors[:n_trials], errors[n_trials:]
    value, best = float(found.mean()), float(floor.mean())
    low = high = None
    if n_trials > 1:
        reach = float(stats.t.ppf(0.975, n_trials - 1) * found.std(ddof=1) / np.sqrt(n_trials))
        low, high = value - reach, value + reach
    extra = {
        "ratio": value / best if best > 0 else None,
        "sd": float(found.std(ddof=1)) if n_trials > 1 else None,
        "trials": n_trials,
        "protocol": protocol,
        "outside": float(((made.values < 0) | (made.values > 1)).mean()),
        "dropped": made.dropped,
    }
    seconds = time.perf_counter() - began
    return MetricResult(name, value, low, high, best, len(held), len(made), None, root, seconds, extra)


class _Predictors:
    """Networks that predict the next step, each trained on one of several sets, as one objective."""

    def __init__(self, sets: Sequence[PathSet], protocol: Protocol, trials: int, seed: int) -> None:
        dim = sets[0].dim
        last = slice(dim - 1, dim)
        self._inputs, self._targets = (
            (slice(0, dim - 1), last) if protocol == "first" else (slice(0, dim), slice(0, dim))
        )
        self._rows = _rows(*sets)
        sizes = [len(paths) for paths in sets]
        numbers = torch.split(torch.arange(sum(sizes)), sizes)
        self._pools = Pools([[pool] for pool in numbers for _ in range(trials)])
        width, wanted = (part.stop - part.start for part in (self._inputs, self._targets))
        self._bank = RecurrentBank(len(sets) * trials, width, max(1, dim // 2), wanted, seed=seed)
        self.module: nn.Module = self._bank

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """Return the sum over networks, which share no weight, of their mean absolute errors."""
        return self.error(columns(self._rows, self._pools.draw(_BATCH, generator)[:, 0])).mean((0, 2, 3)).sum()

    def error(self, x: Tensor) -> Tensor:
        """Return the absolute errors one step ahead ``(T - 1, K, targets, B)``."""
        predicted = self._bank.read(self._bank.states(x[:-1, :, self._inputs])).sigmoid()
        return (predicted - x[1:, :, self._targets]).abs()

    @torch.no_grad()
    def errors(self, paths: PathSet) -> Array:
        """Return the mean absolute error of each network on all paths ``(K,)``."""
        count = len(self._bank.readout)
        total = torch.zeros(count, dtype=torch.float64)
        for part in torch.split(_rows(paths), max(1, _COLUMNS // count)):
            x = part.permute(1, 2, 0)[:, None].expand(-1, count, -1, -1)
            total += self.error(x).mean((0, 2)).sum(1, dtype=torch.float64)
        return np.asarray((total / len(paths)).numpy())


def _errors(
    real: PathSet, sets: Sequence[PathSet], protocol: Protocol, trials: int, iterations: int, root: int
) -> Array:
    """Return the errors on real paths of networks trained on each set, ``trials`` for each ``(sets trials,)``."""
    predictors = _Predictors(sets, protocol, trials, derive_seed(root, "start"))
    fit(
        predictors,
        steps=iterations,
        lr=1e-3,
        schedule="constant",
        clip=None,
        seed=derive_seed(root, "batches"),
        progress=False,
    )
    return predictors.errors(real)


def _rows(*sets: PathSet) -> Tensor:
    return readable(np.concatenate([paths.values for paths in sets]))


def _check_range(sets: dict[str, PathSet]) -> None:
    for name, paths in sets.items():
        low, high = float(paths.values.min()), float(paths.values.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"the predictors end in a logistic function, so paths must lie in [0, 1]; {name} paths reach from "
                f"{low:g} to {high:g}: scale them, or use scale='minmax'"
            )
