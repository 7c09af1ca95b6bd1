"""What is compared with what: two data sets of one kind, checked at the door and cut into cases."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.evaluation.catalogue import KINDS, Kind
from gendyn.evaluation.forecast import forecasts
from gendyn.evaluation.path_set import path_sets
from gendyn.evaluation.points import as_array
from gendyn.evaluation.trajectory import trajectories

__all__ = ["Case", "Comparison"]

OnNan = Literal["raise", "count"]


@dataclass(frozen=True)
class Case:
    """One pair of samples that metrics are computed between: of populations, those at one time.

    Attributes
    ----------
    time
        Of two populations; ``None`` where there is one case without a time.
    real, generated
        The samples.
    weights_real, weights_generated
        Of the points of populations, or ``None``.
    """

    time: float | None
    real: Any
    generated: Any
    weights_real: Tensor | None = None
    weights_generated: Tensor | None = None

    @property
    def name(self) -> str:
        """Return where it is, for sentences: ``" at t=2"`` or nothing."""
        return "" if self.time is None else f" at t={self.time:g}"

    def thinned(self, most: int, seed: int) -> Case:
        """Return the case with at most this many points a side, drawn at random."""
        one, two = (
            Snapshots([0.0], [x], weights=None if w is None else [w]).subsample(most, seed=seed + k)
            for k, (x, w) in enumerate(((self.real, self.weights_real), (self.generated, self.weights_generated)))
        )
        weights = [None if s.weights is None else s.weights[0] for s in (one, two)]
        return Case(self.time, one.samples[0], two.samples[0], *weights)


@dataclass(frozen=True)
class Comparison:
    """Real data beside generated ones.

    Attributes
    ----------
    kind
        See :data:`~gendyn.evaluation.catalogue.KINDS`.
    real, generated
        Snapshots for populations; paths or arrays otherwise.
    dim
        Number of features.
    timed
        Whether populations have times of their own, or were given as plain arrays.
    on_nan
        What is done with generated paths that are not finite.
    dropped
        Of the generated paths, or of the forecasts, those left out for that.
    n_times
        Times of the generated paths; ``None`` for populations.

    Examples
    --------
    >>> Comparison.of(np.zeros((5, 8, 2)), np.zeros((4, 8, 2))).kind
    'paths'
    >>> Comparison.of(np.zeros((5, 2)), np.zeros((4, 2))).kind
    'populations'
    """

    kind: Kind
    real: Any
    generated: Any
    dim: int
    timed: bool = False
    on_nan: OnNan = "raise"
    dropped: int = 0
    n_times: int | None = None

    @classmethod
    def of(cls, real: Any, generated: Any, kind: str = "auto", on_nan: OnNan = "raise") -> Comparison:
        """Return the comparison of two data sets, its kind read off from them where it is not given.

        Raises
        ------
        TypeError
            If the two are of different kinds.
        ValueError
            If the kind is unknown, or the data do not fit it or each other.
        """
        if kind not in ("auto", *KINDS):
            raise ValueError(f"kind must be 'auto', {', '.join(map(repr, KINDS))}; got {kind!r}")
        if on_nan not in get_args(OnNan):
            raise ValueError(f"on_nan must be 'raise' or 'count'; got {on_nan!r}")
        found: Kind = _kind_of(real, generated) if kind == "auto" else cast(Kind, kind)
        if found == "populations":
            if on_nan == "count":
                raise ValueError("on_nan='count' is for paths; populations must be finite: drop such points yourself")
            one, two = _populations(real, generated)
            return cls(found, one, two, one.dim, isinstance(real, (Snapshots, Paths)))
        for name, data in (("real", real), ("generated", generated)):
            if isinstance(data, Snapshots):
                raise TypeError(f"{found} must be Paths or arrays; got Snapshots as {name}")
        if found == "forecasts":
            made = forecasts(real, generated, metric="evaluate", on_nan=on_nan)
            side, dropped = made.outcome, made.dropped
        else:
            side = (
                trajectories(real, generated, metric="evaluate", on_nan=on_nan)[1]
                if found == "trajectories"
                else path_sets(real, generated, metric="evaluate", needs="any", on_nan=on_nan)[1]
            )
            dropped = side.dropped
        return cls(found, real, generated, side.dim, on_nan=on_nan, dropped=dropped, n_times=side.n_times)

    def cases(self) -> list[Case]:
        """Return the pairs that metrics are computed between."""
        if self.kind != "populations":
            return [Case(None, self.real, self.generated)]
        cases = []
        for k, t in enumerate(self.real.times.tolist()):
            pair = (self.real, k), (self.generated, self.generated.index(t))
            weights = [None if s.weights is None else s.weights[i] for s, i in pair]
            cases.append(Case(t if self.timed else None, *(s.samples[i] for s, i in pair), *weights))
        return cases

    def fingerprint(self) -> str:
        """Return a digest of the real data, by which floors are told to belong to them."""
        digest = hashlib.sha256(self.kind.encode())
        parts: list[Any] = [self.real]
        if isinstance(self.real, Snapshots):
            parts = [self.real.times, *self.real.samples, *(self.real.weights or ())]
        elif isinstance(self.real, Paths):
            parts = [self.real.times, self.real.values]
            parts += [x for x in (self.real.mask, self.real.lengths) if x is not None]
        for part in parts:
            array = as_array(part, "real")
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
        return digest.hexdigest()[:32]


def _kind_of(real: Any, generated: Any) -> Kind:
    """Return the kind of data that two data sets are."""
    held = [isinstance(x, Snapshots) for x in (real, generated)]
    if any(held):
        other = generated if held[0] else real
        if isinstance(other, (Snapshots, Paths)):
            return "populations"
        raise TypeError(
            f"real and generated must both be Snapshots or Paths, or both arrays; got {type(real).__name__} and "
            f"{type(generated).__name__}"
        )
    ranks = [_rank(x, name) for x, name in ((real, "real"), (generated, "generated"))]
    if ranks[1] == ranks[0] + 1 and ranks[1] in (2, 3, 4) and not isinstance(generated, Paths):
        return "forecasts"
    if ranks[0] != ranks[1]:
        raise TypeError(
            "real and generated must both be points (n, d), both paths (n, T, d), or outcomes (n, T, d) and members "
            f"(n, M, T, d); got {ranks[0]} and {ranks[1]} dimensions"
        )
    if ranks[0] in (1, 2):
        return "populations"
    if ranks[0] == 3:
        return "trajectories" if len(real) == len(generated) == 1 else "paths"
    raise ValueError(f"real and generated must be points (n, d) or paths (n, T, d); got {ranks[0]} dimensions")


def _rank(data: Any, name: str) -> int:
    if isinstance(data, Paths):
        return 3
    return data.ndim if isinstance(data, (Tensor, np.ndarray)) else as_array(data, name).ndim


def _populations(real: Any, generated: Any) -> tuple[Snapshots, Snapshots]:
    """Return both as populations at the times that they have in common."""
    converted = []
    for name, data in (("real", real), ("generated", generated)):
        if isinstance(data, Paths):
            if not data.shared_times:
                raise ValueError(f"the {name} paths have times of their own; populations are compared at shared times")
            converted.append(data.snapshots())
        else:
            converted.append(data if isinstance(data, Snapshots) else Snapshots([0.0], [data]))
    one, two = converted
    if one.dim != two.dim:
        raise ValueError(f"real and generated must have the same number of features; got {one.dim} and {two.dim}")
    theirs = two.times.tolist()
    common = [t for t in one.times.tolist() if any(abs(t - u) <= 1e-9 * max(1.0, abs(t)) for u in theirs)]
    if not common:
        raise ValueError(f"real and generated have no time in common; got {one.times.tolist()[:8]} and {theirs[:8]}")
    return one.only(common), two.only(common)
