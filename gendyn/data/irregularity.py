r"""Irregularity on purpose: what complete paths would be if somebody had looked at them less well.

Every function takes paths and returns the same paths with fewer observed values (masked, and NaN under the mask so that
no method can peek) or with moved times. What was missing before stays missing. The ways to lose values differ in
what they say about the value itself:

* completely at random: rows (:func:`drop_rows`), single values (:func:`drop_values`), stretches (:func:`drop_blocks`),
  all but a few looks (:func:`keep_sporadic`);
* for its own sake: the highest values (:func:`drop_high_values`), which no imputation from the rest can undo.

A rate :math:`r` hides :math:`\lfloor r L \rfloor` of the :math:`L` times of a path.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gendyn.data.paths import Paths
from gendyn.randomness import Seed, torch_generator

__all__ = [
    "drop_blocks",
    "drop_high_values",
    "drop_published_rows",
    "drop_rows",
    "drop_values",
    "jitter_times",
    "keep_sporadic",
]


def drop_rows(paths: Paths, rate: float, seed: Seed = 0) -> Paths:
    """Hide random rows: at a share ``rate`` of its times, a path is not observed in any feature.

    Parameters
    ----------
    paths
        What was observed.
    rate
        At least 0, below 1.
    seed
        Seed or generator; each path loses rows of its own.

    Raises
    ------
    ValueError
        If the rate is out of its range.

    Examples
    --------
    >>> drop_rows(Paths(range(10), torch.zeros(3, 10, 2)), 0.3).mask.sum(1).tolist()
    [[7, 7], [7, 7], [7, 7]]
    """
    keys = torch.rand(paths.values.shape[:2], generator=torch_generator(seed, "drop rows"), dtype=torch.float64)
    return _hide(paths, _fewest(paths, keys[:, :, None], rate).expand(paths.values.shape))


def drop_published_rows(paths: Paths, rate: float, seed: int = 56789) -> Paths:
    """Hide the rows that the published tables of irregular time series hide.

    One generator of torch, seeded by 56789, is asked for a permutation of the times of each path in turn, and the first
    ``int(rate * T)`` of each are dropped, in all features: for a long series before it is cut into windows, for
    many short paths (the sines) one after the other. Kidger, Morrill, Foster and Lyons (2020); Jeon et al. (2022).

    Parameters
    ----------
    paths
        Paths that are all equally long.
    rate
        0.3, 0.5 and 0.7 in the tables.
    seed
        That of the tables.

    Raises
    ------
    ValueError
        If the rate is out of its range, or paths are not equally long.

    Examples
    --------
    >>> hidden = ~drop_published_rows(Paths(range(24), torch.zeros(1, 24, 1)), 0.3).mask[0, :, 0]
    >>> torch.nonzero(hidden).flatten().tolist() == sorted(
    ...     torch.randperm(24, generator=torch.Generator().manual_seed(56789))[:7].tolist())
    True
    """
    _check_rate(rate)
    if paths.lengths is not None:
        raise ValueError("the published protocol is for paths of one length; use drop_rows for others")
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.zeros(len(paths), paths.n_times, dtype=torch.bool)
    # Path after path, since the stream of the tables is one.
    for row in hidden:
        row[torch.randperm(paths.n_times, generator=generator)[: int(paths.n_times * rate)]] = True
    return _hide(paths, hidden[:, :, None].expand(paths.values.shape))


def drop_values(paths: Paths, rate: float, seed: Seed = 0) -> Paths:
    """Hide random values: in each feature, at a share ``rate`` of its times, a path is not observed.

    Parameters and errors are those of :func:`drop_rows`; features lose values at times of their own.

    Examples
    --------
    >>> drop_values(Paths(range(10), torch.zeros(1, 10, 2)), 0.5).mask.sum(1).tolist()
    [[5, 5]]
    """
    keys = torch.rand(paths.values.shape, generator=torch_generator(seed, "drop values"), dtype=torch.float64)
    return _hide(paths, _fewest(paths, keys, rate))


def drop_blocks(paths: Paths, rate: float, blocks: int = 1, seed: Seed = 0) -> Paths:
    """Hide stretches: a share ``rate`` of its times, in consecutive rows, as when an instrument fails.

    Parameters
    ----------
    paths
        What was observed.
    rate
        At least 0, below 1: share of all stretches of a path together.
    blocks
        Stretches on each path, of lengths that differ by at most one, with at least one row between them.
    seed
        Seed or generator; each path has stretches of its own.

    Raises
    ------
    ValueError
        If the rate is out of its range, or so many stretches do not fit.

    Examples
    --------
    >>> hidden = ~drop_blocks(Paths(range(12), torch.zeros(1, 12, 1)), 0.5).mask[0, :, 0]
    >>> (torch.nonzero(hidden).flatten().diff() == 1).all().item(), int(hidden.sum())
    (True, 6)
    """
    _check_rate(rate)
    if isinstance(blocks, bool) or not hasattr(blocks, "__index__") or blocks < 1:
        raise ValueError(f"blocks must be a whole number of at least 1; got {blocks!r}")
    lengths = _lengths(paths)
    total = (lengths * rate).floor().to(torch.int64)
    kept = lengths - total
    if bool((kept + 1 < blocks).any()):
        raise ValueError(
            f"{blocks} stretches with a row between them do not fit on a path of {int(lengths[kept.argmin()])} rows at "
            f"rate {rate:g}; take fewer"
        )
    # A stretch goes into one of the slots before, between and after the rows that are kept.
    keys = torch.rand(len(paths), paths.n_times + 1, generator=torch_generator(seed, "drop blocks"))
    keys = keys.masked_fill(torch.arange(paths.n_times + 1) > kept[:, None], torch.inf)
    slots = keys.argsort(1)[:, :blocks].sort(1).values
    extra = torch.arange(blocks) < (total % blocks)[:, None]
    sizes = (total // blocks)[:, None] + extra.to(torch.int64)
    starts = slots + sizes.cumsum(1) - sizes
    rows = torch.arange(paths.n_times)[:, None]
    hidden = ((rows >= starts[:, None]) & (rows < (starts + sizes)[:, None])).any(-1)
    return _hide(paths, hidden[:, :, None].expand(paths.values.shape))


def drop_high_values(paths: Paths, rate: float) -> Paths:
    """Hide the highest values: in each feature, a share ``rate`` of what was observed in all paths.

    Missing not at random: whether a value is missing depends on what it is, as when a sensor saturates.

    Parameters
    ----------
    paths
        What was observed, real values.
    rate
        At least 0, below 1.

    Raises
    ------
    TypeError
        If the values are discrete states.
    ValueError
        If the rate is out of its range.

    Examples
    --------
    >>> drop_high_values(Paths(range(4), torch.tensor([[1.0, 4.0, 2.0, 3.0]])), 0.5).mask[0, :, 0].tolist()
    [True, False, True, False]
    """
    _check_rate(rate)
    if not paths.values.is_floating_point():
        raise TypeError("the highest values can be hidden of real values; these paths hold discrete states")
    values = paths.values.detach().cpu().to(torch.float64).numpy()
    seen = _seen(paths).numpy()
    hidden = np.zeros_like(seen)
    for feature in range(paths.dim):
        own = seen[:, :, feature]
        observed = np.sort(values[:, :, feature][own])
        keep = len(observed) - int(rate * len(observed))
        if keep < len(observed):
            hidden[:, :, feature] = own & (values[:, :, feature] > observed[keep - 1])
    return _hide(paths, torch.from_numpy(hidden))


def keep_sporadic(paths: Paths, least: int, most: int, together: float, seed: Seed = 0) -> Paths:
    """Keep a few looks: each path is observed at a random number of its times, mostly not in all features at once.

    Parameters
    ----------
    paths
        What could have been observed.
    least, most
        A path is looked at ``least`` to ``most`` times, every number alike.
    together
        Probability that a look shows all features; else it shows one of them, each alike.
    seed
        Seed or generator.

    Returns
    -------
    Paths
        The same times and values with a mask. The sporadic test bed of De Brouwer et al. (2019) has 16 to 23 looks and
        ``together=0.2``.

    Raises
    ------
    ValueError
        If there are not so many times, or the probability does not lie between 0 and 1.

    Examples
    --------
    >>> seen = keep_sporadic(Paths(range(50), torch.zeros(100, 50, 2)), 16, 23, together=0.2).mask
    >>> looks = seen.any(-1).sum(1)
    >>> int(looks.min()), int(looks.max())
    (16, 23)
    """
    lengths = _lengths(paths)
    if not 1 <= least <= most <= int(lengths.min()):
        raise ValueError(
            f"least and most must lie in 1 to {int(lengths.min())}, the times of the shortest path, in this order; "
            f"got {least} and {most}"
        )
    if not 0 <= together <= 1:
        raise ValueError(f"together must be a probability between 0 and 1; got {together}")
    generator = torch_generator(seed, "keep sporadic")
    shape = len(paths), paths.n_times
    looks = torch.randint(least, most + 1, (len(paths),), generator=generator)
    keys = torch.rand(shape, generator=generator, dtype=torch.float64)
    keys = keys.masked_fill(torch.arange(paths.n_times) >= lengths[:, None], torch.inf)
    chosen = keys.argsort(1).argsort(1) < looks[:, None]
    every = torch.rand(shape, generator=generator) < together
    one = torch.randint(paths.dim, shape, generator=generator)
    shown = chosen[:, :, None] & (every[:, :, None] | (one[:, :, None] == torch.arange(paths.dim)))
    return _hide(paths, ~shown)


def jitter_times(paths: Paths, scale: float, seed: Seed = 0) -> Paths:
    r"""Move the times off the grid: :math:`t_k + \tfrac{s}{2} g_k u` with :math:`u \sim U(-1, 1)`, and keep the values.

    :math:`g_k` is the gap to the nearer neighbour, so that times keep their order. This is an error of the clock: the
    values are those of the true times. To have a system with known truth looked at off the grid, sample it at the
    times of the result.

    Parameters
    ----------
    paths
        What was observed.
    scale
        :math:`s`, above 0 and below 1.
    seed
        Seed or generator.

    Returns
    -------
    Paths
        The same values with times of each path's own.

    Raises
    ------
    ValueError
        If the scale is out of its range, times fall, or a path has only one.

    Examples
    --------
    >>> moved = jitter_times(Paths([0.0, 1.0, 2.0], torch.zeros(4, 3, 1)), 0.5).times
    >>> bool(((moved - torch.tensor([0.0, 1.0, 2.0])).abs() <= 0.25).all()), moved.shape
    (True, torch.Size([4, 3]))
    """
    if not 0 < scale < 1:
        raise ValueError(f"scale must lie between 0 and 1, both excluded; got {scale}")
    lengths = _lengths(paths)
    if int(lengths.min()) < 2:
        raise ValueError("a path with one time has no gap to move it by; select paths with at least two times")
    times = paths.times.expand(len(paths), paths.n_times)
    gaps = times.diff(dim=1)
    inside = torch.arange(1, paths.n_times) < lengths[:, None]
    if bool((gaps[inside] < 0).any()):
        raise ValueError("times that fall cannot be moved; flip the paths first")
    wide = torch.where(inside, gaps, torch.inf)
    edge = wide.new_full((len(paths), 1), torch.inf)
    nearest = torch.minimum(torch.cat([edge, wide], 1), torch.cat([wide, edge], 1))
    unit = torch.rand(times.shape, generator=torch_generator(seed, "jitter"), dtype=torch.float64)
    moved = times + scale * (unit - 0.5) * torch.where(torch.isfinite(nearest), nearest, 0.0)
    # After its end a path repeats its last time.
    last = torch.minimum(torch.arange(paths.n_times), lengths[:, None] - 1)
    return Paths(
        moved.gather(1, last),
        paths.values,
        paths.mask,
        paths.lengths,
        paths.labels,
        paths.names,
        paths.states,
        paths.info,
    )


def _fewest(paths: Paths, keys: Tensor, rate: float) -> Tensor:
    """Return where the keys ``(n, T, c)`` are among the smallest share of their path."""
    _check_rate(rate)
    lengths = _lengths(paths)[:, None, None]
    keys = keys.masked_fill(torch.arange(paths.n_times)[:, None] >= lengths, torch.inf)
    return keys.argsort(1).argsort(1) < (lengths * rate).floor()


def _hide(paths: Paths, hidden: Tensor) -> Paths:
    """Return paths that are not observed where ``hidden (n, T, d)`` is true."""
    hidden = hidden.to(paths.device)
    seen = _seen(paths).to(paths.device) & ~hidden
    blank = torch.nan if paths.values.is_floating_point() else 0
    return Paths(
        paths.times,
        paths.values.masked_fill(hidden, blank),
        seen,
        paths.lengths,
        paths.labels,
        paths.names,
        paths.states,
        paths.info,
    )


def _seen(paths: Paths) -> Tensor:
    """Return what was observed ``(n, T, d)``, on the CPU; nothing after the end of a path."""
    inside = torch.arange(paths.n_times) < _lengths(paths)[:, None]
    seen = inside[:, :, None].expand(paths.values.shape)
    return seen if paths.mask is None else seen & paths.mask.cpu()


def _lengths(paths: Paths) -> Tensor:
    if paths.lengths is not None:
        return paths.lengths.cpu()
    return torch.full((len(paths),), paths.n_times)


def _check_rate(rate: float) -> None:
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1; got {rate}")
