"""Pictures of generated paths beside real ones: bands of quantiles, single paths, autocorrelations, orbits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gendyn.data import Paths, Snapshots
from gendyn.plotting.projection import Projection
from gendyn.plotting.style import GENERATED, REAL, style

__all__ = ["autocorrelations", "fans", "orbits", "sample_paths"]

Array = np.ndarray[Any, np.dtype[np.float64]]

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def fans(real: Paths, generated: Paths, *, features: int = 6) -> Figure:
    """Draw quantiles against time, of the real paths as bands and of the generated ones as lines, one panel a feature.

    Bands hold 50 and 90 % of the real paths; lines are the same quantiles and the median of the generated ones. The two
    may have different times.

    Examples
    --------
    >>> import torch
    >>> x = Paths([0.0, 1.0], torch.zeros(10, 2, 3))
    >>> len(fans(x, x).axes)
    3
    """
    one, two = _values(real, "real"), _values(generated, "generated")
    figure, panels = _panels(_count(real, generated, features), height=2.4)
    with style():
        for i, ax in enumerate(panels):
            low, q1, median, q3, high = _quantiles(one[:, :, i])
            times = real.times.cpu().numpy()
            ax.fill_between(times, low, high, color=REAL, alpha=0.16, lw=0, label="real, 90 %")
            ax.fill_between(times, q1, q3, color=REAL, alpha=0.26, lw=0, label="real, 50 %")
            ax.plot(times, median, color=REAL, lw=1.4)
            for k, line in enumerate(_quantiles(two[:, :, i])):
                middle = k == 2
                ax.plot(
                    generated.times.cpu().numpy(),
                    line,
                    color=GENERATED,
                    lw=1.6 if middle else 0.9,
                    ls="-" if middle else "--",
                    label="generated" if middle else None,
                )
            _named(ax, real, i)
        _outer(panels, "time")
        panels[0].legend(fontsize="x-small", loc="best", handlelength=1.4)
    return figure


def sample_paths(real: Paths, generated: Paths, *, features: int = 3, count: int = 12) -> Figure:
    """Draw some single paths, real above and generated below, on the same scales; one column a feature.

    Paths may have times of their own and gaps.

    Examples
    --------
    >>> import torch
    >>> x = Paths([0.0, 1.0], torch.zeros(10, 2, 3))
    >>> len(sample_paths(x, x).axes)
    6
    """
    columns = _count(real, generated, features)
    with style():
        figure = Figure(figsize=(3.3 * columns + 0.4, 3.9), layout="constrained")
        grid = figure.subplots(2, columns, sharex=True, sharey="col", squeeze=False)
        for row, (name, paths, colour) in enumerate((("real", real, REAL), ("generated", generated, GENERATED))):
            chosen = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))
            values = _observed(paths, chosen)
            times = paths.times.cpu().numpy()
            for i, ax in enumerate(grid[row]):
                for j, path in zip(chosen, values, strict=True):
                    seen = np.isfinite(path[:, i])
                    ax.plot(
                        (times if times.ndim == 1 else times[j])[seen], path[seen, i], color=colour, lw=0.8, alpha=0.7
                    )
                ax.set_title(name if i == 0 else "")
                _named(ax, real, i)
                if row == 1:
                    ax.set_xlabel("time")
    return figure


def autocorrelations(real: Paths, generated: Paths, *, features: int = 6) -> Figure:
    """Draw the autocorrelation of each feature against the lag, pooled over paths, real and generated.

    Lags are distances from the first time, as on an even grid; of a single path the first 400.

    Examples
    --------
    >>> import torch
    >>> x = Paths(range(5), torch.randn(20, 5, 2, generator=torch.Generator().manual_seed(0)))
    >>> len(autocorrelations(x, x).axes)
    2
    """
    one, two = _values(real, "real"), _values(generated, "generated")
    figure, panels = _panels(_count(real, generated, features), height=2.1)
    sides = (("real", real, one, REAL), ("generated", generated, two, GENERATED))
    with style():
        for i, ax in enumerate(panels):
            ax.axhline(0, color="#cccccc", lw=0.8, zorder=0)
            for name, paths, values, colour in sides:
                rho = _autocorrelation(values[:, :, i])
                times = paths.times.cpu().numpy()
                ax.plot(
                    times[: len(rho)] - times[0],
                    rho,
                    color=colour,
                    lw=1.5,
                    ls="-" if name == "real" else "--",
                    label=name,
                )
            _named(ax, real, i)
        _outer(panels, "lag")
        panels[0].legend(fontsize="x-small", loc="best")
    return figure


def orbits(real: Paths, generated: Paths, *, dims: tuple[int, int] | None = None, most: int = 20_000) -> Figure:
    """Draw long runs, real and generated, in the plane of two features or components; one feature against its past.

    The delay of one feature is where its autocorrelation first falls below 1/e.

    Examples
    --------
    >>> import torch
    >>> x = Paths(range(50), torch.sin(torch.arange(50.0))[None, :, None])
    >>> len(orbits(x, x).axes)
    2
    """
    sides = (("real", real, REAL), ("generated", generated, GENERATED))
    _check_features(real, generated)
    if real.dim == 1:
        first = _observed(real, np.array([0]))[0, :, 0]
        below = np.flatnonzero(_autocorrelation(first[None]) < math.exp(-1))
        delay = int(below[0]) if len(below) else 1
        labels: tuple[str, ...] = (_name(real, 0), f"{delay} steps later")
    else:
        flat = _observed(real, np.arange(len(real))).reshape(-1, real.dim)
        projection = Projection(Snapshots([0.0], [flat[np.isfinite(flat).all(axis=1)]], names=real.names), dims)
        labels = projection.labels
    with style():
        figure = Figure(figsize=(8.2, 3.9), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for ax, (name, paths, colour) in zip(panels, sides, strict=True):
            shown = max(1, most // paths.n_times)
            for path in _observed(paths, np.arange(min(len(paths), shown)))[:, :most]:
                seen = path[np.isfinite(path).all(axis=1)]
                if real.dim == 1:
                    plane = np.stack([seen[:-delay, 0], seen[delay:, 0]], axis=1)
                else:
                    plane = projection(seen)
                ax.plot(plane[:, 0], plane[:, 1], color=colour, lw=0.4, alpha=0.6, rasterized=True)
            ax.set_title(name)
            ax.set_xlabel(labels[0])
        panels[0].set_ylabel(labels[1])
    return figure


def _check_features(real: Paths, generated: Paths) -> None:
    if real.dim != generated.dim:
        raise ValueError(
            f"real and generated must have the same number of features; got {real.dim} and {generated.dim}"
        )


def _count(real: Paths, generated: Paths, features: int) -> int:
    """Return how many features are drawn."""
    _check_features(real, generated)
    if features < 1:
        raise ValueError(f"features must be at least 1; got {features}")
    return min(features, real.dim)


def _quantiles(values: Array) -> Array:
    """Return the quantiles ``(5, T)`` of series ``(n, T)``, NaN at times at which nothing was observed."""
    found = np.full((len(_QUANTILES), values.shape[1]), np.nan)
    seen = np.isfinite(values).any(axis=0)
    found[:, seen] = np.nanquantile(values[:, seen], _QUANTILES, axis=0)
    return found


def _panels(count: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of at most three panels a row."""
    columns = min(3, count)
    rows = math.ceil(count / columns)
    with style():
        figure = Figure(figsize=(3.3 * columns + 0.4, height * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        for ax in grid[count:]:
            ax.remove()
    return figure, list(grid[:count])


def _outer(panels: list[Axes], label: str) -> None:
    """Label the axis below the last panel of every column."""
    columns = min(3, len(panels))
    for k, ax in enumerate(panels):
        if k + columns >= len(panels):
            ax.set_xlabel(label)
            ax.tick_params(labelbottom=True)


def _named(ax: Axes, paths: Paths, feature: int) -> None:
    ax.set_ylabel(_name(paths, feature))


def _name(paths: Paths, feature: int) -> str:
    return paths.names[feature] if paths.names else f"feature {feature}"


def _values(paths: Paths, name: str) -> Array:
    if not paths.shared_times:
        raise ValueError(f"this picture needs times shared by all paths; the {name} ones have times of their own")
    return _observed(paths, np.arange(len(paths)))


def _observed(paths: Paths, rows: np.ndarray[Any, Any]) -> Array:
    """Return the values ``(m, T, d)`` of some paths in float64, NaN where nothing was observed."""
    chosen = paths.select(rows)
    values = chosen.values.detach().cpu().numpy().astype(np.float64)
    if chosen.mask is not None:
        values = np.where(chosen.mask.cpu().numpy(), values, np.nan)
    if chosen.lengths is not None:
        within = np.arange(chosen.n_times) < chosen.lengths.cpu().numpy()[:, None]
        values = np.where(within[:, :, None], values, np.nan)
    return values


def _autocorrelation(values: Array) -> Array:
    """Return the autocorrelation of series ``(n, T)`` about their common mean, of a single one at 400 lags at most."""
    centred = values - np.nanmean(values)
    seen = np.isfinite(centred)
    centred = np.where(seen, centred, 0.0)
    length = values.shape[1]
    lags = range(max(1, min(length - 1, 400 if len(values) == 1 else length - 1) + 1))
    products = np.array([(centred[:, : length - k] * centred[:, k:]).sum() for k in lags])
    counts = np.array([(seen[:, : length - k] & seen[:, k:]).sum() for k in lags])
    variance = products[0] / max(counts[0], 1)
    return np.asarray(products / np.maximum(counts, 1) / (variance if variance > 0 else 1.0))
