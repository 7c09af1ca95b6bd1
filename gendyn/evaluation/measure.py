r"""How a number between two samples gets its floor and its interval, whatever the samples are made of.

For a metric :math:`D` and samples :math:`X` (real, size n) and :math:`Y` (generated):

- the floor is :math:`D(X_1, X_2)` of two disjoint random halves of :math:`X`;
- the interval is :math:`D(X, Y) \pm 1.96\, s`, :math:`s` being the standard deviation of :math:`D` over resamples of
  both, drawn with replacement at :math:`m = \min(n, m_{\max})` rows, times :math:`\sqrt{m/n}`; of the two samples the
  one with the larger :math:`m/n` counts, so that the interval is never too narrow.

The interval is laid about the value because a distance between two resamples is itself biased upward: quantiles
of the resamples would not hold the value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from gendyn.evaluation.metric import MetricResult
from gendyn.parallel import spread
from gendyn.randomness import Seed, as_seed, derive_seed, numpy_generator

__all__ = ["Sample", "known_floor", "measure"]

Floor = tuple[float | None, int | None]
"""A floor and the size of the halves that it was computed with."""

_KNOWN: ContextVar[Floor | None] = ContextVar("known_floor", default=None)


@contextmanager
def known_floor(floor: float | None, size: int | None) -> Iterator[None]:
    """Let the metric that is called inside take over a floor instead of computing it again.

    A floor depends on the real sample and the seed alone: whoever scores several generated samples against one real one
    computes it once.

    Examples
    --------
    >>> from gendyn.evaluation.points import points
    >>> with known_floor(0.25, 10):
    ...     result = measure("gap", lambda a, b: 1.0, *points(np.zeros((20, 1)), np.ones((20, 1))))
    >>> result.floor, result.extra["floor_size"]
    (0.25, 10)
    """
    token = _KNOWN.set((floor, size))
    try:
        yield
    finally:
        _KNOWN.reset(token)


class Sample(Protocol):
    """Something with rows that can be halved and resampled: points, or paths."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def halves(self, rng: np.random.Generator) -> tuple[Self, Self] | None:
        """Return two disjoint random halves, or ``None`` where there is too little for two."""
        ...

    def resample(self, rng: np.random.Generator, size: int) -> Self:
        """Return ``size`` rows drawn with replacement, as likely as their weights say."""
        ...


Kind = TypeVar("Kind", bound=Sample)


def measure(
    name: str,
    value_of: Callable[[Kind, Kind], float],
    real: Kind,
    generated: Kind,
    *,
    seed: Seed = 0,
    n_bootstrap: int = 30,
    bootstrap_size: int = 2000,
    p_value: float | None = None,
    extra: dict[str, Any] | None = None,
) -> MetricResult:
    """Return the value of a metric with floor and interval.

    Parameters
    ----------
    name
        Name of the estimator.
    value_of
        The metric; takes its randomness, if any, from a seed fixed beforehand, so that it is a function of its samples.
    real, generated
        The samples.
    seed
        Root of the randomness of floor and interval.
    n_bootstrap
        Resamples behind the interval; fewer than two leave it out.
    bootstrap_size
        Rows of a resample at most.
    p_value, extra
        Passed into the result.

    Returns
    -------
    MetricResult
        ``extra["floor_size"]`` states the size of the halves: where a metric's bias falls with the size, value and
        floor may be compared only with this in mind. Resamples on which the metric is not finite are left out and
        counted in ``extra["bootstrap"]["undefined"]``; a floor that is not defined is ``None``.

    Examples
    --------
    >>> from gendyn.evaluation.points import points
    >>> x = np.random.default_rng(0).normal(size=(100, 1))
    >>> gap = lambda a, b: float(abs(a.values.mean() - b.values.mean()))
    >>> result = measure("gap of means", gap, *points(x, x + 1))
    >>> round(result.value, 6), result.low < 1 < result.high
    (1.0, True)
    """
    began = time.perf_counter()
    root = as_seed(seed)
    value = value_of(real, generated)
    notes = dict(extra or {})
    known = _KNOWN.get()
    floor, size = _floor(value_of, real, root) if known is None else known
    if size is not None:
        notes["floor_size"] = size
    low = high = None
    if n_bootstrap > 1:
        m, n = min(len(real), bootstrap_size), min(len(generated), bootstrap_size)

        def resampled(k: int) -> float:
            rng = numpy_generator(derive_seed(root, "bootstrap", k))
            return value_of(real.resample(rng, m), generated.resample(rng, n))

        draws = np.array(spread(resampled, range(n_bootstrap)))
        notes["bootstrap"] = {"resamples": n_bootstrap, "real": m, "generated": n}
        defined = draws[np.isfinite(draws)]
        if len(defined) < len(draws):
            # Of few rows a resample may be constant, where many metrics have no meaning.
            notes["bootstrap"]["undefined"] = len(draws) - len(defined)
        if len(defined) > 1 and np.isfinite(value):
            shrink = np.sqrt(max(m / len(real), n / len(generated)))
            reach = float(1.96 * defined.std(ddof=1) * shrink)
            low, high = value - reach, value + reach
    seconds = time.perf_counter() - began
    return MetricResult(name, value, low, high, floor, len(real), len(generated), p_value, root, seconds, notes)


def _floor(value_of: Callable[[Kind, Kind], float], real: Kind, root: int) -> Floor:
    halves = real.halves(numpy_generator(derive_seed(root, "floor")))
    if halves is None:
        return None, None
    floor = value_of(*halves)
    return None if np.isnan(floor) else floor, len(halves[0])
