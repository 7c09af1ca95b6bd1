r"""Populations at times: what is known when each measurement destroys what it measures.

A :class:`Snapshots` holds, for strictly increasing times :math:`t_1 < \dots < t_T`, a sample

.. math:: \{x^{(k)}_i\}_{i=1}^{n_k} \subset \mathbb{R}^d, \qquad k = 1, \dots, T,

optionally with weights :math:`w^{(k)}_i \ge 0` (the population is then :math:`\sum_i w_i \delta_{x_i}`; their sum
may be a mass) and a table of labels. No row of one time belongs to a row of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import union_categoricals
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor, as_times, check_finite, check_names, check_times, listed
from gendyn.randomness import Seed, torch_generator

__all__ = ["Snapshots"]


class Snapshots:
    """Populations at strictly increasing times.

    Parameters
    ----------
    times
        ``(T,)``, strictly increasing, finite; kept in float64.
    samples
        ``T`` arrays ``(n_k, d)`` of finite numbers; ``(n_k,)`` is read as one feature. Copied, so that later changes
        to the caller's arrays change nothing here. float64 is kept, all else becomes float32.
    weights
        ``T`` arrays ``(n_k,)``, non-negative and not all zero, or ``None``.
    obs
        ``T`` tables with one row per sample and the same columns, or ``None``.
    names
        ``d`` different names of the features, or ``None``.

    Raises
    ------
    TypeError
        If an argument is not array-like.
    ValueError
        If times are unsorted, doubled or not finite; a population is empty, holds NaN or infinity, or has
        another number of features; weights are negative, all zero or of another length.

    Examples
    --------
    >>> data = Snapshots([0.0, 2.0], [torch.zeros(3, 2), torch.ones(4, 2)])
    >>> data
    Snapshots(2 times from 0 to 2, 3 to 4 rows each, 2 features)
    >>> data.at(2.0).samples[0].shape
    torch.Size([4, 2])
    """

    __slots__ = ("_names", "_obs", "_samples", "_times", "_weights")

    def __init__(
        self,
        times: ArrayLike,
        samples: Sequence[ArrayLike],
        weights: Sequence[ArrayLike] | None = None,
        obs: Sequence[pd.DataFrame] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self._times = check_times(times)
        self._samples = _check_samples(self._times, samples)
        if names is None and isinstance(samples[0], pd.DataFrame):
            names = [str(column) for column in samples[0].columns]
        self._weights = None if weights is None else _check_weights(self._times, self._samples, weights)
        self._obs = None if obs is None else _check_obs(self._times, self._samples, obs)
        self._names = None if names is None else check_names(names, self._samples[0].shape[1])

    @property
    def times(self) -> Tensor:
        """The times ``(T,)``, float64, strictly increasing, on the CPU."""
        return self._times

    @property
    def samples(self) -> tuple[Tensor, ...]:
        """The populations, ``(n_k, d)`` each."""
        return self._samples

    @property
    def weights(self) -> tuple[Tensor, ...] | None:
        """The weights, ``(n_k,)`` each, as given (not normalised), or ``None``."""
        return self._weights

    @property
    def obs(self) -> tuple[pd.DataFrame, ...] | None:
        """The tables of labels (copies), or ``None``."""
        return None if self._obs is None else tuple(frame.copy() for frame in self._obs)

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the features, or ``None``."""
        return self._names

    @property
    def dim(self) -> int:
        """Number of features ``d``."""
        return int(self._samples[0].shape[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of rows at each time."""
        return tuple(len(x) for x in self._samples)

    @property
    def n_times(self) -> int:
        """Number of times ``T``."""
        return len(self._times)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the samples: float32 or float64."""
        return self._samples[0].dtype

    @property
    def device(self) -> torch.device:
        """Where the samples are."""
        return self._samples[0].device

    def __len__(self) -> int:
        return len(self._times)

    def __repr__(self) -> str:
        low, high = min(self.sizes), max(self.sizes)
        rows = f"{low}" if low == high else f"{low} to {high}"
        span = (
            f"time {self._times[0]:g}"
            if len(self) == 1
            else f"{len(self)} times from {self._times[0]:g} to {self._times[-1]:g}"
        )
        return f"Snapshots({span}, {rows} rows each, {self.dim} features)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshots):
            return NotImplemented
        return (
            torch.equal(self._times, other._times)
            and self._names == other._names
            and _equal_tensors(self._samples, other._samples)
            and _equal_tensors(self._weights, other._weights)
            and _equal_frames(self._obs, other._obs)
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {
            "times": self._times,
            "samples": self._samples,
            "weights": self._weights,
            "obs": self._obs,
            "names": self._names,
        }

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, f"_{name}", value)

    def index(self, t: float) -> int:
        """Return the position of time ``t``, met to a relative 1e-9.

        Raises
        ------
        ValueError
            If nothing was measured at ``t``; the message lists the times there are.
        """
        gaps = (self._times - float(t)).abs()
        nearest = int(gaps.argmin())
        if not float(gaps[nearest]) <= 1e-9 * max(1.0, abs(float(t))):
            raise ValueError(f"nothing was measured at time {float(t):g}; there are times {listed(self._times)}")
        return nearest

    def at(self, t: float) -> Snapshots:
        """Return the population at time ``t`` as snapshots with one time."""
        return self._take([self.index(t)])

    def population(self, t: float) -> Tensor:
        """Return the samples ``(n, d)`` at time ``t``."""
        return self._samples[self.index(t)]

    def mass(self, t: float) -> Tensor:
        """Return the weights ``(n,)`` at time ``t``, normalised to sum 1; uniform where none were given."""
        k = self.index(t)
        if self._weights is None:
            return torch.full((self.sizes[k],), 1.0 / self.sizes[k], dtype=self.dtype, device=self.device)
        return self._weights[k] / self._weights[k].sum()

    def only(self, times: Iterable[float] | float) -> Snapshots:
        """Return the snapshots at these times alone."""
        return self._take(sorted({self.index(t) for t in as_times(times)}))

    def without(self, times: Iterable[float] | float) -> Snapshots:
        """Return the snapshots at all other times: the way to hold times out."""
        out = {self.index(t) for t in as_times(times)}
        kept = [k for k in range(len(self)) if k not in out]
        if not kept:
            raise ValueError(f"without({listed(self._times)}) leaves no time at all; keep at least one")
        return self._take(kept)

    def between(self, low: float, high: float) -> Snapshots:
        """Return the snapshots at times in ``[low, high]``."""
        kept = [k for k, t in enumerate(self._times.tolist()) if low <= t <= high]
        if not kept:
            raise ValueError(f"no time lies in [{low:g}, {high:g}]; there are times {listed(self._times)}")
        return self._take(kept)

    def rows(self, rows: Sequence[Tensor]) -> Snapshots:
        """Return the chosen rows of each time; ``rows`` holds one index tensor per time."""
        if len(rows) != len(self):
            raise ValueError(f"rows must hold one index tensor per time; got {len(rows)} for {len(self)} times")
        return Snapshots(
            self._times,
            [x[r.to(x.device)] for x, r in zip(self._samples, rows, strict=True)],
            None if self._weights is None else [w[r.to(w.device)] for w, r in zip(self._weights, rows, strict=True)],
            None if self._obs is None else [f.iloc[r.cpu().numpy()] for f, r in zip(self._obs, rows, strict=True)],
            self._names,
        )

    def subsample(self, n: int, *, seed: Seed = 0) -> Snapshots:
        """Return at most ``n`` rows of each time, drawn without replacement, in their order."""
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        generator = torch_generator(seed, "subsample")
        rows = [
            torch.arange(size) if size <= n else torch.randperm(size, generator=generator)[:n].sort().values
            for size in self.sizes
        ]
        return self.rows(rows)

    def with_samples(self, samples: Sequence[ArrayLike], names: Sequence[str] | None = None) -> Snapshots:
        """Return the same times, weights and labels with other values, for example in another scale."""
        checked = _check_samples(self._times, samples)
        sizes = tuple(len(x) for x in checked)
        if sizes != self.sizes:
            raise ValueError(f"the new samples must have {self.sizes} rows, as the old ones; got {sizes}")
        if names is None and checked[0].shape[1] == self.dim:
            names = self._names
        return Snapshots(self._times, checked, self._weights, self._obs, names)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Snapshots:
        """Return the snapshots on another device or in another floating type."""
        return Snapshots(
            self._times,
            [x.to(device=device, dtype=dtype) for x in self._samples],
            None if self._weights is None else [w.to(device=device, dtype=dtype) for w in self._weights],
            self._obs,
            self._names,
        )

    @staticmethod
    def concatenate(*parts: Snapshots) -> Snapshots:
        """Join snapshots; equal times are pooled, weights and columns of labels are kept where every part has them.

        Raises
        ------
        ValueError
            If parts have different numbers of features, or features of different names.
        """
        if not parts:
            raise ValueError("concatenate needs at least one Snapshots; got none")
        dims = {part.dim for part in parts}
        if len(dims) > 1:
            raise ValueError(f"all parts must have the same number of features; got {sorted(dims)}")
        names = {part._names for part in parts if part._names is not None}
        if len(names) > 1:
            raise ValueError("all parts must name their features alike; rename them, or give one part without names")
        times: list[list[float]] = []
        for t in sorted({t for part in parts for t in part._times.tolist()}):
            # 0.1 + 0.2 and 0.3 are one time.
            if not times or t - times[-1][-1] > 1e-12 * max(1.0, abs(t)):
                times.append([])
            times[-1].append(t)
        groups = [
            [(part, k) for part in parts for k, t in enumerate(part._times.tolist()) if t in pooled] for pooled in times
        ]
        dtype = torch.float64 if any(part.dtype == torch.float64 for part in parts) else torch.float32
        samples = [torch.cat([part._samples[k].to(dtype) for part, k in group]) for group in groups]
        weights, obs = None, None
        if all(part._weights is not None for part in parts):
            weights = [
                torch.cat([part._weights[k].to(dtype) for part, k in group if part._weights is not None])
                for group in groups
            ]
        frames = [part._obs[0] for part in parts if part._obs is not None]
        if len(frames) == len(parts):
            shared = [column for column in frames[0].columns if all(column in frame.columns for frame in frames)]
            obs = [pd.concat([part._obs[k][shared] for part, k in group if part._obs is not None]) for group in groups]
        return Snapshots([pooled[0] for pooled in times], samples, weights, obs, next(iter(names), None))

    def to_frame(self) -> pd.DataFrame:
        """Return one long table: ``time``, ``weight`` where there are any, the features, the labels."""
        fixed = {"time"} if self._weights is None else {"time", "weight"}
        names = [f"x.{name}" if name in fixed else name for name in self._names or [f"x{i}" for i in range(self.dim)]]
        frames = []
        for k, t in enumerate(self._times.tolist()):
            frame = pd.DataFrame(self._samples[k].cpu().numpy(), columns=names)
            if self._weights is not None:
                frame.insert(0, "weight", self._weights[k].cpu().numpy())
            frame.insert(0, "time", t)
            if self._obs is not None:
                labels = self._obs[k].reset_index(drop=True)
                taken = set(frame.columns)
                labels.columns = pd.Index([f"{name}_label" if name in taken else name for name in labels.columns])
                frame = pd.concat([frame, labels], axis=1)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def save(self, path: str | Path) -> None:
        """Write to ``.npz``, ``.parquet``, ``.csv``, ``.csv.gz`` or ``.h5ad``, atomically and without loss."""
        from gendyn.data.storage import save_snapshots

        save_snapshots(self, path)

    @staticmethod
    def load(path: str | Path) -> Snapshots:
        """Read back what :meth:`save` wrote."""
        from gendyn.data.storage import load_snapshots

        return load_snapshots(path)

    @classmethod
    def _adopt(
        cls,
        times: Tensor,
        samples: Sequence[Tensor],
        weights: Sequence[Tensor] | None,
        obs: Sequence[pd.DataFrame] | None,
        names: Sequence[str] | None,
    ) -> Snapshots:
        """Take over populations without copying them: for readers, which own what they read."""
        made = object.__new__(cls)
        made._times, made._samples = check_times(times), tuple(samples)
        for t, x in zip(times.tolist(), samples, strict=True):
            check_finite(x, f"samples at time {t:g}")
        made._weights = None if weights is None else _check_weights(times, samples, weights)
        made._obs = None if obs is None else _check_obs(times, samples, obs)
        made._names = None if names is None else check_names(names, samples[0].shape[1])
        return made

    def _take(self, kept: Sequence[int]) -> Snapshots:
        """Return the chosen times, sharing memory (the contents are not to be written to)."""
        part = object.__new__(Snapshots)
        part._times = self._times[list(kept)]
        part._samples = tuple(self._samples[k] for k in kept)
        part._weights = None if self._weights is None else tuple(self._weights[k] for k in kept)
        part._obs = None if self._obs is None else tuple(self._obs[k] for k in kept)
        part._names = self._names
        return part


def _check_count(name: str, values: object, count: int) -> None:
    if isinstance(values, str) or not isinstance(values, Sized):
        raise TypeError(f"{name} must be a sequence with one entry per time; got {type(values).__name__}")
    if len(values) != count:
        raise ValueError(f"{name} must hold one entry per time; got {len(values)} for {count} times")


def _check_samples(times: Tensor, samples: Sequence[ArrayLike]) -> tuple[Tensor, ...]:
    _check_count("samples", samples, len(times))
    populations = []
    for t, sample in zip(times.tolist(), samples, strict=True):
        x = as_tensor(sample, f"samples at time {t:g}")
        x = x if x.is_floating_point() else x.to(torch.float32)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2:
            raise ValueError(f"samples at time {t:g} must have shape (n, d); got {tuple(x.shape)}")
        if len(x) == 0 or x.shape[1] == 0:
            raise ValueError(f"the population at time {t:g} is empty (shape {tuple(x.shape)}); leave that time out")
        check_finite(x, f"samples at time {t:g}")
        populations.append(x)
    dims = [x.shape[1] for x in populations]
    if len(set(dims)) > 1:
        odd = next(k for k, dim in enumerate(dims) if dim != dims[0])
        raise ValueError(
            f"all times must have the same number of features; got {dims}: at time {times[odd]:g} keep those of "
            "the first"
        )
    dtype = torch.float64 if any(x.dtype == torch.float64 for x in populations) else torch.float32
    return tuple(x.detach().to(dtype) for x in populations)


def _check_weights(times: Tensor, samples: Sequence[Tensor], weights: Sequence[ArrayLike]) -> tuple[Tensor, ...]:
    _check_count("weights", weights, len(times))
    checked = []
    for t, x, weight in zip(times.tolist(), samples, weights, strict=True):
        w = as_tensor(weight, f"weights at time {t:g}").to(dtype=x.dtype, device=x.device)
        if w.shape != (len(x),):
            raise ValueError(f"weights at time {t:g} must have shape ({len(x)},); got {tuple(w.shape)}: give one a row")
        check_finite(w, f"weights at time {t:g}")
        if bool((w < 0).any()):
            raise ValueError(
                f"weights must not be negative; got {float(w.min()):g} at time {t:g}, row {int(w.argmin())}: leave out "
                "what does not count, or give it weight 0"
            )
        if not bool((w > 0).any()):
            raise ValueError(f"all weights at time {t:g} are zero; at least one must be positive: leave that time out")
        checked.append(w)
    return tuple(checked)


def _check_obs(times: Tensor, samples: Sequence[Tensor], obs: Sequence[pd.DataFrame]) -> tuple[pd.DataFrame, ...]:
    _check_count("obs", obs, len(times))
    checked: list[pd.DataFrame] = []
    for t, x, frame in zip(times.tolist(), samples, obs, strict=True):
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"obs at time {t:g} must be a DataFrame; got {type(frame).__name__}")
        if len(frame) != len(x):
            raise ValueError(f"obs at time {t:g} must have one row for each of {len(x)} samples; got {len(frame)}")
        copy = frame.copy()
        copy.columns = pd.Index([str(name) for name in frame.columns], dtype=object)
        if not copy.columns.is_unique:
            double = copy.columns[copy.columns.duplicated()][0]
            raise ValueError(f"columns of obs must have different names; got {double!r} more than once")
        if checked and set(copy.columns) != set(checked[0].columns):
            odd = sorted(set(copy.columns) ^ set(checked[0].columns))
            raise ValueError(f"obs must have the same columns at every time; {odd[0]!r} is not there at all of them")
        checked.append(copy if not checked else copy[list(checked[0].columns)])
    for name in checked[0].columns if checked else ():
        _agree(checked, name)
    return tuple(checked)


def _agree(frames: Sequence[pd.DataFrame], name: str) -> None:
    """Give a column of labels one type at all times, so that one table can hold it."""
    columns = [frame[name] for frame in frames]
    if all(column.dtype == columns[0].dtype for column in columns):
        return
    if all(isinstance(column.dtype, pd.CategoricalDtype) and not column.dtype.ordered for column in columns):
        joint = pd.Series(union_categoricals([column.array for column in columns]))
    else:
        joint = pd.concat(columns, ignore_index=True)
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    for frame, end in zip(frames, ends, strict=True):
        frame[name] = joint.iloc[end - len(frame) : end].set_axis(frame.index)


def _equal_tensors(first: Sequence[Tensor] | None, second: Sequence[Tensor] | None) -> bool:
    if first is None or second is None:
        return first is second
    return len(first) == len(second) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(first, second, strict=True)
    )


def _equal_frames(first: Sequence[pd.DataFrame] | None, second: Sequence[pd.DataFrame] | None) -> bool:
    if first is None or second is None:
        return first is second
    return len(first) == len(second) and all(_equal_frame(a, b) for a, b in zip(first, second, strict=True))


def _equal_frame(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Return whether tables hold the same; None and NaN both mean missing."""
    if not first.columns.equals(second.columns) or not first.index.equals(second.index):
        return False
    return all(
        first[name].dtype == second[name].dtype
        and first[name].where(first[name].notna()).equals(second[name].where(second[name].notna()))
        for name in first.columns
    )
