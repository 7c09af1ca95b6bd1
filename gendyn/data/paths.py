r"""Trajectories, observed or generated.

A :class:`Paths` holds ``n`` functions of time at discrete times: values :math:`x_i(t_k) \in \mathbb{R}^d`, with times
shared by all paths or of each path's own, a mask of what was observed, and a label per path.
Discrete states are integer values with ``states`` naming them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gendyn.data.checks import ArrayLike, as_tensor, as_times, check_names, exact_times, listed
from gendyn.data.path_checks import check_labels, check_lengths, check_mask, check_path_times, check_values
from gendyn.data.snapshots import Snapshots

__all__ = ["Paths"]


class Paths:
    """Trajectories at shared or own times.

    Parameters
    ----------
    times
        ``(T,)`` shared, strictly monotone; or ``(n, T)``, strictly increasing up to each path's length and
        repeating the last time after it. Kept in float64.
    values
        ``(n, T, d)``; ``(n, T)`` is read as one feature. Tensors are kept as they are, with their graph; arrays are
        copied. Integers are discrete states.
    mask
        ``(n, T, d)`` or ``(n, T)``, true where observed; values that are not observed may be NaN.
    lengths
        ``(n,)`` number of times of each path; by default where a path's own times stop increasing, else ``T``.
    labels
        ``(n,)`` integers or strings, or ``None``.
    names
        ``d`` names of the features, or ``None``.
    states
        Names of the discrete states, or ``None``; values then lie in ``0 ... len(states) - 1``.
    info
        How the paths were made: anything that JSON can hold. Not compared.

    Raises
    ------
    ValueError
        If shapes do not fit, times are not monotone, an observed value is not finite, a mask hides everything, or
        a state has no name.

    Examples
    --------
    >>> paths = Paths([0.0, 1.0, 2.0], torch.zeros(5, 3, 2))
    >>> paths
    Paths(5 paths, 3 times from 0 to 2, 2 features)
    >>> paths.snapshot(1.0).samples[0].shape
    torch.Size([5, 2])
    """

    __slots__ = ("_info", "_labels", "_lengths", "_mask", "_names", "_states", "_times", "_values")

    def __init__(
        self,
        times: ArrayLike,
        values: ArrayLike,
        mask: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        x = values if isinstance(values, Tensor) else as_tensor(values, "values")
        if x.dtype in (torch.bool, torch.int8, torch.int16, torch.int32, torch.uint8):
            x = x.to(torch.int64)
        x = x[:, :, None] if x.ndim == 2 else x
        if x.ndim != 3:
            raise ValueError(f"values must have shape (n, T, d); got {tuple(x.shape)}")
        if 0 in x.shape:
            raise ValueError(f"values must hold at least one path, time and feature; got shape {tuple(x.shape)}")
        self._set(times, x, mask, lengths, labels, names, states, info)
        check_values(self._values.__getitem__, self._values, self._mask, self._lengths, self._states)

    def _set(
        self,
        times: ArrayLike,
        values: Tensor,
        mask: ArrayLike | None,
        lengths: ArrayLike | None,
        labels: ArrayLike | None,
        names: Sequence[str] | None,
        states: Sequence[str] | None,
        info: Mapping[str, Any] | None,
    ) -> None:
        """Set everything, and check everything but the values themselves."""
        x = values.to(torch.float32) if values.dtype in (torch.float16, torch.bfloat16) else values
        self._values = x
        self._times = exact_times(times)
        self._lengths = check_lengths(self._times, x, lengths)
        check_path_times(self._times, x, self._lengths)
        self._mask = None if mask is None else check_mask(mask, x)
        self._labels = None if labels is None else check_labels(labels, len(x))
        self._names = None if names is None else check_names(names, x.shape[2])
        if states is not None and x.is_floating_point():
            raise TypeError(f"states name integer values; got values of type {x.dtype}: convert them to integers")
        self._states = None if states is None else check_names(states, len(states))
        self._info = dict(info or {})

    @classmethod
    def of_checked(
        cls,
        times: ArrayLike,
        values: Tensor,
        mask: ArrayLike | None = None,
        lengths: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> Paths:
        """Return paths without a look at the values, which who calls this has made or checked (:func:`check_values`).

        A look at values that are mapped from a file would bring the whole file into the memory of this process.

        Parameters
        ----------
        times, values, mask, lengths, labels, names, states, info
            As for :class:`Paths`; ``values`` have shape ``(n, T, d)``.

        Examples
        --------
        >>> Paths.of_checked([0.0, 1.0], torch.zeros(5, 2, 1))
        Paths(5 paths, 2 times from 0 to 1, 1 features)
        """
        paths = cls.__new__(cls)
        paths._set(times, values, mask, lengths, labels, names, states, info)
        return paths

    @property
    def times(self) -> Tensor:
        """Times, ``(T,)`` shared or ``(n, T)`` of each path's own, float64, on the CPU."""
        return self._times

    @property
    def values(self) -> Tensor:
        """Values ``(n, T, d)``."""
        return self._values

    @property
    def mask(self) -> Tensor | None:
        """What was observed, ``(n, T, d)``, or ``None`` for everything."""
        return self._mask

    @property
    def lengths(self) -> Tensor | None:
        """Number of times of each path ``(n,)``, or ``None`` where all have ``T``."""
        return self._lengths

    @property
    def labels(self) -> np.ndarray[Any, Any] | None:
        """One label per path ``(n,)``, or ``None``."""
        return None if self._labels is None else self._labels.copy()

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the features, or ``None``."""
        return self._names

    @property
    def states(self) -> tuple[str, ...] | None:
        """Names of the discrete states, or ``None``."""
        return self._states

    @property
    def info(self) -> Mapping[str, Any]:
        """How the paths were made."""
        return MappingProxyType(self._info)

    @property
    def n_paths(self) -> int:
        """Number of paths ``n``."""
        return int(self._values.shape[0])

    @property
    def n_times(self) -> int:
        """Number of times ``T`` (of the longest path)."""
        return int(self._values.shape[1])

    @property
    def dim(self) -> int:
        """Number of features ``d``."""
        return int(self._values.shape[2])

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values."""
        return self._values.dtype

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self._values.device

    @property
    def shared_times(self) -> bool:
        """Whether all paths have the same times."""
        return self._times.ndim == 1

    def __len__(self) -> int:
        return self.n_paths

    def __repr__(self) -> str:
        low, high = float(self._times.min()), float(self._times.max())
        own = "" if self.shared_times else "own "
        kind = f"{len(self._states)} states" if self._states is not None else f"{self.dim} features"
        return f"Paths({self.n_paths} paths, {self.n_times} {own}times from {low:g} to {high:g}, {kind})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Paths):
            return NotImplemented
        same_labels = (self._labels is None) == (other._labels is None) and (
            self._labels is None or bool(np.array_equal(self._labels, other._labels))  # type: ignore[arg-type]
        )
        return (
            self._values.dtype == other._values.dtype
            and _same(self._times, other._times)
            and _same(self._values, other._values)
            and _same(self._mask, other._mask)
            and _same(self._lengths, other._lengths)
            and same_labels
            and self._names == other._names
            and self._states == other._states
        )

    __hash__ = None  # type: ignore[assignment]

    def snapshot(self, t: float) -> Snapshots:
        """Return all paths' values at one shared time, as snapshots with one time."""
        return self.snapshots([t])

    def snapshots(self, times: Iterable[float] | float | None = None) -> Snapshots:
        """Return the paths' values at shared times as populations; paths that were not observed there are left out.

        Raises
        ------
        ValueError
            If the paths have times of their own, a time is not among the shared ones, or nothing was observed there.
        """
        if not self.shared_times:
            raise ValueError("these paths have times of their own; snapshots need times shared by all paths")
        wanted = self._times.tolist() if times is None else as_times(times)
        chosen, populations, labels = [], [], []
        for t in sorted(wanted):
            k = self._index(t)
            seen = torch.ones(self.n_paths, dtype=torch.bool, device=self.device)
            if self._mask is not None:
                seen &= self._mask[:, k].all(-1)
            if self._lengths is not None:
                seen &= self._lengths > k
            if not bool(seen.any()):
                raise ValueError(f"no path was observed in all features at time {t:g}")
            chosen.append(float(self._times[k]))
            populations.append(self._values[:, k][seen])
            if self._labels is not None:
                labels.append(pd.DataFrame({"label": self._labels[seen.cpu().numpy()]}))
        return Snapshots(chosen, populations, obs=labels or None, names=self._names)

    def select(self, rows: ArrayLike) -> Paths:
        """Return the paths with the given numbers, or where a mask ``(n,)`` is true."""
        index = as_tensor(rows, "rows").to(self.device)
        index = torch.nonzero(index).flatten() if index.dtype == torch.bool else index.to(torch.int64)
        return Paths(
            self._times if self.shared_times else self._times[index.to(self._times.device)],
            self._values[index],
            None if self._mask is None else self._mask[index],
            None if self._lengths is None else self._lengths[index],
            None if self._labels is None else self._labels[index.cpu().numpy()],
            self._names,
            self._states,
            self._info,
        )

    def detach(self) -> Paths:
        """Return the same paths without their graph."""
        return self._with_values(self._values.detach())

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Paths:
        """Return the paths on another device or in another type."""
        return self._with_values(self._values.to(device=device, dtype=dtype))

    def to_frame(self) -> pd.DataFrame:
        """Return one long table: ``path``, ``time``, the features (NaN where not observed), ``label``."""
        n, length, dim = self._values.shape
        times = self._times.cpu().expand(n, length).numpy()
        values = self._values.detach().cpu().numpy()
        if self._mask is not None:
            values = np.where(self._mask.cpu().numpy(), values.astype(np.result_type(values, np.float32)), np.nan)
        names = self._names or tuple(f"x{i}" for i in range(dim))
        frame = pd.DataFrame(values.reshape(n * length, dim), columns=list(names))
        frame.insert(0, "time", times.reshape(-1))
        frame.insert(0, "path", np.repeat(np.arange(n), length))
        if self._labels is not None:
            frame["label"] = np.repeat(self._labels, length)
        if self._lengths is not None:
            inside = np.arange(length)[None] < self._lengths.cpu().numpy()[:, None]
            frame = frame[inside.reshape(-1)].reset_index(drop=True)
        return frame

    def to_xarray(self) -> Any:
        """Return an ``xarray.Dataset`` with dimensions ``path``, ``time``, ``feature`` (needs the extra ``io``)."""
        from gendyn.data.storage.formats import optional

        xarray = optional("xarray", "io")
        names = list(self._names or (f"x{i}" for i in range(self.dim)))
        coordinates: dict[str, Any] = {"path": np.arange(self.n_paths), "feature": names}
        if self.shared_times:
            coordinates["time"] = self._times.cpu().numpy()
        else:
            coordinates["path_time"] = (("path", "time"), self._times.cpu().numpy())
        if self._labels is not None:
            coordinates["label"] = ("path", self._labels)
        variables = {"values": (("path", "time", "feature"), self._values.detach().cpu().numpy())}
        if self._mask is not None:
            variables["mask"] = (("path", "time", "feature"), self._mask.cpu().numpy())
        return xarray.Dataset(variables, coords=coordinates)

    def save(self, path: str | Path) -> None:
        """Write to ``.npz``, ``.parquet`` or ``.zarr``, atomically and without loss."""
        from gendyn.data.storage import save_paths

        save_paths(self, path)

    @staticmethod
    def load(path: str | Path) -> Paths:
        """Read back what :meth:`save` wrote."""
        from gendyn.data.storage import load_paths

        return load_paths(path)

    def _index(self, t: float) -> int:
        gaps = (self._times - float(t)).abs()
        k = int(gaps.argmin())
        if not float(gaps[k]) <= 1e-9 * max(1.0, abs(float(t))):
            raise ValueError(f"the paths have no time {float(t):g}; there are times {listed(self._times)}")
        return k

    def _with_values(self, values: Tensor) -> Paths:
        move = values.device
        return Paths(
            self._times,
            values,
            None if self._mask is None else self._mask.to(move),
            None if self._lengths is None else self._lengths.to(move),
            self._labels,
            self._names,
            self._states,
            self._info,
        )


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    if first.shape != second.shape:
        return False
    if first.is_floating_point():
        return bool(((first == second) | (first.isnan() & second.isnan())).all())
    return torch.equal(first, second)
