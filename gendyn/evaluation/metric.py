"""One number and what it takes to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MetricResult"]


@dataclass(frozen=True)
class MetricResult:
    """The value of a metric with its floor, its interval and its sizes.

    Attributes
    ----------
    metric
        Name of the estimator.
    value
        The estimate.
    low, high
        Ends of a bootstrap interval for the value at level 95 %.
    floor
        The same metric between two disjoint random halves of the real sample: what no generator can be expected to
        beat. ``None`` where halves would be too small.
    n_real, n_generated
        Sample sizes that entered the value.
    p_value
        Of a permutation test of equal laws, where one was asked for.
    seed
        Root of all randomness in it.
    seconds
        Wall time.
    extra
        Anything else worth knowing, for example the size of the halves.

    Examples
    --------
    >>> MetricResult("w1", 0.5, low=0.4, high=0.6, floor=0.3, n_real=100, n_generated=100)
    w1 = 0.5 [0.4, 0.6], floor 0.3 (100 real, 100 generated)
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    n_real: int = 0
    n_generated: int = 0
    p_value: float | None = None
    seed: int = 0
    seconds: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" [{self.low:.4g}, {self.high:.4g}]"
        floor = "" if self.floor is None else f", floor {self.floor:.4g}"
        p = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        return (
            f"{self.metric} = {self.value:.4g}{interval}{floor}{p} ({self.n_real} real, {self.n_generated} generated)"
        )

    def __float__(self) -> float:
        return self.value

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        return asdict(self)
