r"""What was seen of a hidden jump process: labels at times, and what each look means.

A path is looked at times :math:`t_0 < t_1 < \dots`. A look is of one of three kinds,

- *snapshot*: the process was in a state at :math:`t_m`, whatever it did since :math:`t_{m-1}` (panel data);
- *entry*: it jumped into this state exactly at :math:`t_m`, from a state that is not known (a death);
- *complete*: it kept the state of the look before until it jumped at :math:`t_m`, or stayed until then.

A label is a state, or stands for one of several (a censored look).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from gendyn.data import Paths
from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.sampling.jumps import JumpPaths

__all__ = ["COMPLETE", "ENTRY", "SNAPSHOT", "StateObservations"]

SNAPSHOT, ENTRY, COMPLETE = 0, 1, 2
"""Kinds of looks; see the module's docstring."""

_SAME = 1e-6
"""Lags that differ by less than this part are one lag."""


@dataclass(frozen=True, eq=False)
class StateObservations:
    """Labels of ``K`` paths at up to ``L`` times, checked.

    Attributes
    ----------
    times
        ``(K, L)``, float64; after a path's end its last time.
    labels
        ``(K, L)``, int64; after a path's end its last label.
    kinds
        ``(K, L)``, int64: what each look means; the first of a path is always a snapshot.
    lengths
        ``(K,)`` number of looks.
    n_states
        Number of states ``S``.
    meaning
        ``(labels, S)``, booleans: the states that a label may stand for. The first ``S`` labels are the states.
    states
        Names of the states, or ``None``.
    values
        Measurements ``(K, L, d)`` that the labels were made of, or ``None``.

    Examples
    --------
    >>> seen = StateObservations.of(Paths([0.0, 0.5, 1.5], torch.tensor([[0, 0, 1], [1, 1, 1]])))
    >>> seen.n_states, seen.n_pairs
    (2, 4)
    >>> seen.lags
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    times: Tensor
    labels: Tensor
    kinds: Tensor
    lengths: Tensor
    n_states: int
    meaning: Tensor
    states: tuple[str, ...] | None = None
    values: Tensor | None = None

    @classmethod
    def of(
        cls,
        paths: Paths | JumpPaths,
        *,
        n_states: int | None = None,
        entry: Sequence[int | str] = (),
        censored: Mapping[int | str, Sequence[int | str]] | None = None,
        kinds: ArrayLike | None = None,
        values: Tensor | None = None,
    ) -> StateObservations:
        """Read observations off paths.

        Parameters
        ----------
        paths
            One integer feature; looks that are masked out are dropped. Every event of every path is known of
            :class:`~gendyn.sampling.jumps.JumpPaths`.
        n_states
            Number of states; by default that of the names, or one more than the largest label that is not censored.
        entry
            States (numbers or names) whose every first look is the exact time at which they were entered.
        censored
            Labels that stand for one of several states: ``{label: states}``.
        kinds
            ``(K, T)``, the kind of every look, in place of ``entry``.
        values
            Measurements ``(K, T, d)`` that the labels were made of.

        Raises
        ------
        TypeError
            If the paths are something else.
        ValueError
            If labels are no whole numbers from 0 on, a state or kind does not exist, or no path has two looks.
        """
        if isinstance(paths, JumpPaths):
            if entry or censored or kinds is not None:
                raise ValueError(
                    "paths with all their events have no entries, censored labels or kinds; leave them out"
                )
            return _complete(paths, n_states)
        if not isinstance(paths, Paths):
            raise TypeError(
                f"a jump process is fitted to gendyn.Paths or to JumpPaths; got {type(paths).__name__}: read a table "
                "with gendyn.read_paths(table, id_key=..., time_key=..., values=['state'])"
            )
        labels = _whole_labels(paths)
        names = paths.states
        codes = {_number(label, names): states for label, states in (censored or {}).items()}
        seen = _seen(paths)
        count = _count_states(labels, seen, names, codes, n_states)
        labels, meaning = _meanings(labels, seen, count, names, codes)
        which = _kinds(kinds, entry, labels, count, names)
        lengths = seen.sum(1)
        times = (paths.times if paths.times.ndim == 2 else paths.times.expand(len(labels), -1)).cpu()
        if paths.n_times > 1 and float(times[0, 1]) < float(times[0, 0]):
            raise ValueError("times fall along the paths; a jump process is fitted forward in time: reverse them")
        if not bool(seen.all()):
            times, labels, which, values = _packed(seen, times, labels, which, values)
        which[:, 0] = SNAPSHOT
        if not bool((lengths > 1).any()):
            raise ValueError("no path has two looks, so that nothing tells how fast states change; give longer paths")
        kept = lengths > 0
        if not bool(kept.all()):
            times, labels, which, lengths = (v[kept] for v in (times, labels, which, lengths))
            values = None if values is None else values[kept]
        named = names[:count] if names is not None and len(names) >= count else None
        return cls(times, labels, which, lengths, count, meaning, named, values)

    @property
    def n_pairs(self) -> int:
        """Number of pairs of consecutive looks."""
        return int((self.lengths - 1).sum())

    @property
    def n_changes(self) -> int:
        """Number of those pairs whose labels differ."""
        return int(((self.labels[:, 1:] != self.labels[:, :-1]) & self.inside).sum())

    @cached_property
    def lag_of(self) -> Tensor:
        """Index ``(K, L - 1)`` of each interval in :attr:`lags`."""
        return self._grouped[1]

    @property
    def lags(self) -> Tensor:
        """The different intervals between looks, increasing, ``(M,)``; those within rounding are one."""
        return self._grouped[0]

    @property
    def median_lag(self) -> float:
        """Median interval between looks."""
        below = torch.bincount(self.lag_of[self.inside]).cumsum(0)
        return float(self.lags[int((below <= (below[-1] - 1) // 2).sum())])

    @cached_property
    def _grouped(self) -> tuple[Tensor, Tensor]:
        real = self.inside
        if len(self.times) > 1 and self.times.stride(0) == 0 and bool(real.all()):
            # One row of times for all paths.
            one = replace(self, times=self.times[:1].clone(), labels=self.labels[:1], lengths=self.lengths[:1])
            return one.lags, one.lag_of.expand(len(self.labels), -1)
        gaps = self.times.diff(dim=1)
        values, order = gaps[real].sort()
        horizon = float((self.times[:, -1] - self.times[:, 0]).max())
        # A time in single precision is off by a part of the whole time, not of the interval.
        slack = (_SAME * values).maximum((_SAME * values.new_tensor(horizon)).minimum(1e-4 * values))
        group = torch.cat([values.new_zeros(1), (values.diff() > slack[1:]).to(values.dtype)]).cumsum(0).long()
        counts = torch.bincount(group)
        lags = torch.bincount(group, weights=values) / counts
        index = torch.empty_like(group)
        index[order] = group
        whole = torch.zeros(gaps.shape, dtype=torch.int64)
        whole[real] = index
        return lags, whole

    @cached_property
    def inside(self) -> Tensor:
        """Whether an interval ``(K, L - 1)`` belongs to its path."""
        return torch.arange(self.labels.shape[1] - 1)[None] < (self.lengths - 1)[:, None]

    @property
    def certain(self) -> bool:
        """Whether every label is a state."""
        return len(self.meaning) == self.n_states or int(self.labels.max()) < self.n_states

    def apart(self, least: float) -> StateObservations:
        """Return the looks that lie at least so far apart, about: the first in every such interval, and the last.

        Parameters
        ----------
        least
            Time between looks.

        Examples
        --------
        >>> seen = StateObservations.of(Paths([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], torch.tensor([[0, 1, 1, 0, 0, 1]])))
        >>> seen.apart(0.2).times, seen.apart(0.2).labels
        (tensor([[0.0000, 0.2000, 0.4000, 0.5000]], dtype=torch.float64), tensor([[0, 1, 0, 1]]))
        """
        # A look on the border of two intervals is in the later one whatever its rounding.
        interval = ((self.times - self.times[:, :1]) / least + 1e-6).floor()
        places = torch.arange(self.labels.shape[1])[None]
        chosen = (interval.diff(dim=1, prepend=interval[:, :1] - 1) > 0) | (places == self.lengths[:, None] - 1)
        chosen = chosen & (places < self.lengths[:, None])
        times, labels, kinds, values = _packed(chosen, self.times, self.labels, self.kinds, self.values)
        kinds[:, 0] = SNAPSHOT
        return replace(self, times=times, labels=labels, kinds=kinds, lengths=chosen.sum(1), values=values)

    def rows(self, chosen: slice) -> StateObservations:
        """Return some of the paths, with the lags of all."""
        part = StateObservations(
            self.times[chosen],
            self.labels[chosen],
            self.kinds[chosen],
            self.lengths[chosen],
            self.n_states,
            self.meaning,
            self.states,
            None if self.values is None else self.values[chosen],
        )
        part.__dict__["_grouped"] = (self.lags, self.lag_of[chosen])
        return part


def _packed(
    chosen: Tensor, times: Tensor, labels: Tensor, kinds: Tensor, values: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return some of the looks ``(K, T)``, in their order, without the holes between them."""
    counts = chosen.sum(1)
    width = max(1, int(counts.max()))
    order = torch.argsort((~chosen).to(torch.int8), dim=1, stable=True)[:, :width]
    last = (counts - 1).clamp_min(0)[:, None]
    beyond = torch.arange(width)[None] > last
    # Where a path has ended its last look is repeated.
    order = torch.where(beyond, order.gather(1, last), order)
    times, labels, kinds = (v.gather(1, order) for v in (times, labels, kinds))
    kinds = torch.where(beyond, SNAPSHOT, kinds)
    if values is not None:
        values = values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))
        values = torch.where(beyond[..., None], torch.zeros_like(values), values)
    return times, labels, kinds, values


def _whole_labels(paths: Paths) -> Tensor:
    """Return the labels ``(K, T)`` as whole numbers."""
    if paths.values.shape[2] != 1:
        raise ValueError(f"a jump process has one state at a time; got {paths.values.shape[2]} features: pick one")
    values = paths.values[..., 0].detach().cpu()
    seen = _seen(paths)
    wrong = seen & ((values < 0) | (values != values.round() if values.is_floating_point() else False))
    if bool(wrong.any()):
        i, k = torch.nonzero(wrong)[0].tolist()
        raise ValueError(
            f"labels must be whole numbers from 0 on; got {float(values[i, k]):g} at time {k} of path {i}: number the "
            "states, or turn measurements into states first"
        )
    return torch.where(seen, values, torch.zeros_like(values)).to(torch.int64)


def _seen(paths: Paths) -> Tensor:
    """Return which looks ``(K, T)`` there are."""
    n, length = paths.values.shape[:2]
    ends = torch.full((n,), length) if paths.lengths is None else paths.lengths.cpu()
    inside = torch.arange(length)[None] < ends[:, None]
    return inside if paths.mask is None else inside & paths.mask[..., 0].cpu()


def _number(state: int | str, names: tuple[str, ...] | None) -> int:
    """Return the number of a state given by number or name."""
    if isinstance(state, str):
        if names is None or state not in names:
            there = "states have no names" if names is None else f"there are {', '.join(names)}"
            raise ValueError(f"there is no state {state!r}: {there}")
        return names.index(state)
    return int(state)


def _count_states(
    labels: Tensor, seen: Tensor, names: tuple[str, ...] | None, codes: Mapping[int, object], asked: int | None
) -> int:
    """Return the number of states: asked for, named, or seen."""
    proper = seen.clone()
    for code in codes:
        proper &= labels != code
    largest = int(labels[proper].max()) + 1 if bool(proper.any()) else 1
    if asked is None:
        return max(largest, 2) if names is None else max(len(names) - sum(code < len(names) for code in codes), largest)
    if asked < 2:
        raise ValueError(f"a jump process needs two states or more; got n_states={asked}")
    if largest > asked:
        i, k = torch.nonzero(proper & (labels >= asked))[0].tolist()
        raise ValueError(
            f"labels must lie in 0 to {asked - 1}, the states; got {int(labels[i, k])} at time {k} of path {i}: raise "
            "n_states, or name the label in censored"
        )
    return asked


def _meanings(
    labels: Tensor,
    seen: Tensor,
    count: int,
    names: tuple[str, ...] | None,
    codes: Mapping[int, Sequence[int | str]],
) -> tuple[Tensor, Tensor]:
    """Return labels with censored ones behind the states, and what each label may stand for."""
    meaning = [torch.eye(count, dtype=torch.bool)]
    result = labels.clone()
    for place, (code, allowed) in enumerate(codes.items()):
        chosen = [_number(state, names) for state in allowed]
        if not chosen or not all(0 <= state < count for state in chosen):
            raise ValueError(f"a censored label stands for some of the states 0 to {count - 1}; got {list(allowed)}")
        if code < count:
            raise ValueError(
                f"label {code} is a state and cannot stand for others as well; number censored labels after the states"
            )
        row = torch.zeros(1, count, dtype=torch.bool)
        row[0, chosen] = True
        meaning.append(row)
        result[seen & (labels == code)] = count + place
    return result, torch.cat(meaning)


def _kinds(
    kinds: ArrayLike | None,
    entry: Sequence[int | str],
    labels: Tensor,
    count: int,
    names: tuple[str, ...] | None,
) -> Tensor:
    """Return the kind of every look ``(K, T)``."""
    result = torch.zeros_like(labels)
    if kinds is not None:
        if entry:
            raise ValueError("give either entry or kinds, not both")
        given = as_tensor(kinds, "kinds")
        if given.shape != labels.shape:
            raise ValueError(f"kinds must have shape {tuple(labels.shape)}, one a look; got {tuple(given.shape)}")
        unknown = torch.nonzero((given != SNAPSHOT) & (given != ENTRY) & (given != COMPLETE))
        if len(unknown):
            i, k = unknown[0].tolist()
            raise ValueError(
                f"a kind is {SNAPSHOT} (snapshot), {ENTRY} (entry) or {COMPLETE} (complete); got "
                f"{given[i, k].item()} at time {k} of path {i}"
            )
        result = given.to(torch.int64).clone()
    for state in entry:
        number = _number(state, names)
        if not 0 <= number < count:
            raise ValueError(f"entry names states 0 to {count - 1}; got {state}")
        entered = labels == number
        entered[:, 1:] &= labels[:, :-1] != number
        result[entered] = ENTRY
    return result


def _complete(paths: JumpPaths, n_states: int | None) -> StateObservations:
    """Return every event as a look, and the end of the record, where there is one, as the last."""
    if paths.dim != 1:
        raise ValueError(f"a jump process of states has one component; got {paths.dim}")
    ended = paths.end < float("inf")
    counts, states = paths.counts.cpu(), paths.event_states[..., 0].cpu()
    lengths = counts + (2 if ended else 1)
    width = int(lengths.max())
    if width < 2:
        raise ValueError("no path has an event or an end, so that nothing tells how fast states change")
    after = torch.arange(width)[None].expand(len(states), -1)
    labels = states.gather(1, after.minimum(counts[:, None]))
    last = (
        torch.full((len(states), 1), paths.end, dtype=torch.float64)
        if ended
        else paths.event_times.gather(1, (counts[:, None] - 1).clamp_min(0))
    )
    moments = torch.cat([torch.full((len(states), 1), paths.start, dtype=torch.float64), paths.event_times.cpu()], 1)
    moments = moments.gather(1, after.clamp_max(moments.shape[1] - 1))
    times = torch.where(after <= counts[:, None], moments, last)
    kinds = torch.full((len(states), width), COMPLETE, dtype=torch.int64)
    kinds[:, 0] = SNAPSHOT
    count = n_states or (len(paths.states) if paths.states else max(2, int(labels.max()) + 1))
    return StateObservations(times, labels, kinds, lengths, count, torch.eye(count, dtype=torch.bool), paths.states)
