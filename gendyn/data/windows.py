r"""Short paths from a long one: windows, and blocks of time that share nothing.

A series of :math:`n` rows has

.. math:: N = \lfloor (n - L) / s \rfloor + 1

windows of :math:`L` rows at stride :math:`s`. At a stride below :math:`L` neighbours share rows, so windows must never
be divided at random into those to learn from and those to judge by: near-copies would lie on both sides. Cut the
series first, into blocks of consecutive rows with a gap between them (:func:`blocked_split`), and take windows of
each block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gendyn.data.checks import ArrayLike, as_tensor
from gendyn.data.paths import Paths

__all__ = ["as_paths", "blocked_split", "table_windows", "windows"]

_REGULAR = 1e-6
"""How far steps of time may differ, relative to the first, and still be one step."""


def as_paths(series: Paths | ArrayLike) -> Paths:
    """Return a series as paths: paths as they are; an array with rows as times 0, 1, 2, ... and NaN as not observed.

    Parameters
    ----------
    series
        Paths, or an array: ``(T,)`` or ``(T, d)`` for one series, ``(n, T, d)`` for several.

    Raises
    ------
    ValueError
        If an array has no such shape.

    Examples
    --------
    >>> as_paths([[1.0, 2.0], [3.0, float("nan")]])
    Paths(1 paths, 2 times from 0 to 1, 2 features)
    """
    if isinstance(series, Paths):
        return series
    values = as_tensor(series, "series")
    if values.ndim not in (1, 2, 3) or 0 in values.shape:
        raise ValueError(f"a series must have shape (T,), (T, d) or (n, T, d); got {tuple(values.shape)}")
    values = values[:, None] if values.ndim == 1 else values
    values = values[None] if values.ndim == 2 else values
    hidden = values.isnan() if values.is_floating_point() else torch.zeros_like(values, dtype=torch.bool)
    return Paths(torch.arange(values.shape[1]), values, mask=~hidden if bool(hidden.any()) else None)


def windows(series: Paths | ArrayLike, length: int, stride: int = 1) -> Paths:
    """Return all windows of a series as paths, in order.

    Parameters
    ----------
    series
        Paths, each cut by itself, or an array, see :func:`as_paths`.
    length
        Rows of a window.
    stride
        Rows from the start of one window to that of the next: 1 for all windows, ``length`` for windows that share
        no row.

    Returns
    -------
    Paths
        ``(N, length, d)`` with the mask, label, names and states of the path each comes from. Time counts from the
        first row of each window, and is shared by all where the series is regular.

    Raises
    ------
    ValueError
        If length or stride is below 1, or no path is as long as a window.

    Examples
    --------
    >>> windows(torch.arange(5.0), length=3).values[:, :, 0].tolist()
    [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    """
    paths = as_paths(series)
    length, stride = _count("length", length), _count("stride", stride)
    if length > paths.n_times:
        raise ValueError(f"a window of {length} rows is longer than the series, which has {paths.n_times}")
    starts = torch.arange(0, paths.n_times - length + 1, stride)
    inside = torch.ones(len(paths), len(starts), dtype=torch.bool)
    if paths.lengths is not None:
        inside = starts + length <= paths.lengths.cpu()[:, None]
        if not bool(inside.any()):
            raise ValueError(f"no path has the {length} rows of a window; the longest has {int(paths.lengths.max())}")
    path, start = (index.flatten() for index in torch.nonzero(inside, as_tuple=True))
    rows = starts[start][:, None] + torch.arange(length)
    times = paths.times.expand(len(paths), -1)[path[:, None], rows]
    times = times - times[:, :1]
    if bool((times - times[0]).abs().max() <= _REGULAR * times[0].abs().max()):
        times = times[0]
    where = path.to(paths.device)[:, None], rows.to(paths.device)
    return Paths(
        times,
        paths.values[where],
        None if paths.mask is None else paths.mask[where],
        None,
        None if paths.labels is None else paths.labels[path.numpy()],
        paths.names,
        paths.states,
        {**paths.info, "window": length, "stride": stride},
    )


def blocked_split(
    series: Paths | ArrayLike, fractions: Sequence[float] = (0.7, 0.1, 0.2), *, gap: int
) -> tuple[Paths, ...]:
    """Cut a series into blocks of consecutive rows, one after the other in time, with a gap between them.

    With the default fractions: rows to learn from, then rows to choose by, then rows to judge by. The rows of the gaps
    are in no block, so that windows on both sides are not near-copies of each other; take a gap of the length of
    the windows, or more where the series remembers longer.

    Parameters
    ----------
    series
        Paths that are all equally long, or an array, see :func:`as_paths`.
    fractions
        Share of each block in the rows that are left without the gaps; they sum to 1.
    gap
        Rows left out between two blocks.

    Returns
    -------
    tuple of Paths
        One for each fraction; times are those of the series.

    Raises
    ------
    ValueError
        If fractions are not positive or do not sum to 1, the gap is negative, a block would be empty, or paths are not
        equally long.

    Examples
    --------
    >>> train, test = blocked_split(torch.arange(12.0), (0.5, 0.5), gap=2)
    >>> train.times.tolist(), test.times.tolist()
    ([0.0, 1.0, 2.0, 3.0, 4.0], [7.0, 8.0, 9.0, 10.0, 11.0])
    """
    paths = as_paths(series)
    shares = [float(share) for share in fractions]
    if len(shares) < 2 or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"fractions must be at least two positive numbers that sum to 1; got {shares}")
    gap = _count("gap", gap, least=0)
    if paths.lengths is not None:
        raise ValueError("paths of different lengths have no common blocks of time; divide them path by path instead")
    left = paths.n_times - gap * (len(shares) - 1)
    ends = [round(left * sum(shares[: k + 1])) for k in range(len(shares))]
    bounds = list(zip([0, *ends[:-1]], ends, strict=True))
    if left < 1 or any(begin >= end for begin, end in bounds):
        raise ValueError(
            f"{paths.n_times} rows are too few for {len(shares)} blocks with gaps of {gap} rows; take a longer series, "
            "a smaller gap or larger fractions"
        )
    return tuple(_rows(paths, begin + k * gap, end + k * gap) for k, (begin, end) in enumerate(bounds))


def table_windows(series: Paths | ArrayLike, length: int = 24) -> Paths:
    r"""Return windows prepared as behind most published tables of generated time series.

    .. math:: z = \frac{x - \min x}{\max x - \min x + 10^{-7}}

    for each feature over the whole series, rows in reversed order, all windows at stride 1 but the last. Time runs
    backward in them, the scale has seen every row, and neighbours overlap: compare with the tables by these
    windows, and measure by :func:`blocked_split`. Yoon, Jarrett and van der Schaar (2019).

    Parameters
    ----------
    series
        One series, see :func:`as_paths`.
    length
        Rows of a window.

    Returns
    -------
    Paths
        ``(n - length, length, d)``, at times 0, 1, 2, ...

    Raises
    ------
    ValueError
        If there is more than one series, or it has at most ``length`` rows.

    Examples
    --------
    >>> table_windows(torch.tensor([0.0, 1.0, 4.0, 2.0]), length=2).values[:, :, 0].tolist()
    [[0.5, 1.0], [1.0, 0.25]]
    """
    paths = as_paths(series)
    length = _count("length", length)
    if len(paths) != 1:
        raise ValueError(f"the tables are about windows of one series; got {len(paths)}")
    if paths.n_times <= length:
        raise ValueError(f"windows of {length} rows need a series of at least {length + 1}; got {paths.n_times}")
    values = paths.values[0].to(torch.float64)
    seen = torch.ones_like(values, dtype=torch.bool) if paths.mask is None else paths.mask[0]
    low = torch.where(seen, values, torch.inf).amin(0)
    high = torch.where(seen, values, -torch.inf).amax(0)
    scaled = ((values - low) / (high - low + 1e-7)).to(paths.dtype if paths.values.is_floating_point() else None)
    mask = None if paths.mask is None else paths.mask.flip(1)[:, :-1]
    flipped = Paths(
        torch.arange(paths.n_times - 1), scaled.flip(0)[None, :-1], mask, names=paths.names, info=paths.info
    )
    return windows(flipped, length)


def _rows(paths: Paths, begin: int, end: int) -> Paths:
    """Return some consecutive rows of every path."""
    return Paths(
        paths.times[..., begin:end],
        paths.values[:, begin:end],
        None if paths.mask is None else paths.mask[:, begin:end],
        None,
        paths.labels,
        paths.names,
        paths.states,
        paths.info,
    )


def _count(name: str, value: int, least: int = 1) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be a whole number; got {type(value).__name__}")
    count = value.__index__()
    if count < least:
        raise ValueError(f"{name} must be at least {least}; got {count}")
    return count
