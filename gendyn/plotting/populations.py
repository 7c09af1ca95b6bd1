"""Pictures of populations: by time, and generated beside real."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from torch import Tensor

from gendyn.data import Paths, Snapshots
from gendyn.plotting.motion import trajectories
from gendyn.plotting.projection import Projection, thin
from gendyn.plotting.style import GENERATED, MUTED, REAL, axes, figure_of, style, time_colours

__all__ = ["hold_out", "marginals", "populations", "snapshots"]


def snapshots(
    data: Snapshots,
    *,
    ax: Axes | None = None,
    dims: tuple[int, int] | None = None,
    max_points: int = 3000,
    colourbar: bool = True,
    projection: Projection | None = None,
) -> Axes:
    """Draw populations, coloured by time; more than two features are shown in principal components.

    ``projection`` lets several pictures share their coordinates.

    Examples
    --------
    >>> import torch
    >>> ax = snapshots(Snapshots([0.0, 1.0], [torch.zeros(3, 2), torch.ones(3, 2)]))
    >>> len(ax.collections)
    2
    """
    ax = axes(ax)
    times = data.times.tolist()
    colours, norm = time_colours(times)
    projection = projection or Projection(data, dims)
    with style():
        for t, x in zip(times, data.samples, strict=True):
            points = projection(thin(x, max_points))
            if data.dim == 1:
                _density(ax, points[:, 0], colours(norm(t)), label=f"t = {t:g}")
            else:
                ax.scatter(
                    points[:, 0],
                    points[:, 1],
                    s=_size(len(points)),
                    color=colours(norm(t)),
                    alpha=0.55,
                    linewidths=0,
                    rasterized=True,
                )
        _label(ax, projection)
        if colourbar and len(times) > 1:
            bar = figure_of(ax).colorbar(ScalarMappable(norm, colours), ax=ax, shrink=0.7, pad=0.02)
            bar.set_label("time")
            bar.outline.set_visible(False)
    return ax


def populations(
    real: Snapshots, generated: Snapshots, *, dims: tuple[int, int] | None = None, max_points: int = 2000
) -> Figure:
    """Draw real (grey) and generated (red) populations, one panel a common time, in the same coordinates.

    Examples
    --------
    >>> import torch
    >>> x = Snapshots([0.0, 1.0], [torch.zeros(3, 2), torch.ones(3, 2)])
    >>> len(populations(x, x).axes)
    2
    """
    times = [t for t in real.times.tolist() if t in generated.times.tolist()]
    if not times:
        raise ValueError("real and generated populations have no time in common")
    shown = times if len(times) <= 4 else [times[round(k)] for k in np.linspace(0, len(times) - 1, 4)]
    projection = Projection(real, dims)
    with style():
        figure = Figure(figsize=(3.1 * len(shown) + 0.4, 3.3), layout="constrained")
        panels = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
        for ax, t in zip(panels, shown, strict=True):
            _pair(ax, projection, real.population(t), generated.population(t), max_points)
            ax.set_title(f"t = {t:g}")
            ax.label_outer()
        _legend(panels[0])
    return figure


def hold_out(train: Snapshots, paths: Paths, truth: Snapshots, *, max_points: int = 2000) -> Figure:
    """Draw what a fit saw, the trajectories it learned, and the population it never saw beside its prediction.

    Parameters
    ----------
    train
        The populations of the fit.
    paths
        Paths of the learned process; the time of ``truth`` is among theirs.
    truth
        The held-out population.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(3, 2)
    >>> figure = hold_out(Snapshots([0.0, 2.0], [x, x + 1]), Paths([0.0, 1.0, 2.0], torch.zeros(3, 3, 2)),
    ...     Snapshots([1.0], [x]))
    >>> [ax.get_title(loc="left") for ax in figure.axes][:3]
    ['observed', 'learned', 'held out: t = 1']
    """
    whole = Snapshots.concatenate(train, truth)
    hole = float(truth.times[0])
    projection = Projection(whole)
    with style():
        figure = Figure(figsize=(12.6, 4.1), layout="constrained")
        left, middle, right = figure.subplots(1, 3, sharex=train.dim > 1, sharey=train.dim > 1)
        snapshots(train, ax=left, projection=projection, max_points=max_points, colourbar=False)
        trajectories(paths, ax=middle, projection=projection)
        _pair(right, projection, truth.population(hole), paths.snapshot(hole).samples[0], max_points)
        _legend(right)
        for ax, title in ((left, "observed"), (middle, "learned"), (right, f"held out: t = {hole:g}")):
            ax.set_title(title)
        if train.dim > 1:
            for ax in (middle, right):
                ax.set_ylabel("")
        colours, norm = time_colours(paths.times.tolist())
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=[left, middle], shrink=0.8, pad=0.01)
        bar.set_label("time")
        bar.outline.set_visible(False)
    return figure


def marginals(real: Snapshots, generated: Snapshots, *, features: int = 4, time: float | None = None) -> Figure:
    """Draw densities of the leading features of both populations at one time (by default the last common one).

    Examples
    --------
    >>> import torch
    >>> x = Snapshots([0.0], [torch.randn(50, 3, generator=torch.Generator().manual_seed(0))])
    >>> len(marginals(x, x).axes)
    3
    """
    times = [t for t in real.times.tolist() if t in generated.times.tolist()]
    if not times:
        raise ValueError("real and generated populations have no time in common")
    t = times[-1] if time is None else time
    first, second = thin(real.population(t), 5000), thin(generated.population(t), 5000)
    count = min(features, real.dim)
    with style():
        figure = Figure(figsize=(2.7 * count + 0.3, 2.5), layout="constrained")
        panels = figure.subplots(1, count, squeeze=False)[0]
        for i, ax in enumerate(panels):
            _density(ax, first[:, i], REAL, label="real", fill=True)
            _density(ax, second[:, i], GENERATED, label="generated", dashed=True)
            ax.set_xlabel(real.names[i] if real.names else f"feature {i}")
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
        panels[0].legend(loc="best", fontsize="small")
        panels[0].set_title(f"t = {t:g}")
    return figure


def _pair(ax: Axes, projection: Projection, real: Tensor, generated: Tensor, max_points: int) -> None:
    """Draw a real population in grey and a generated one in red."""
    for name, sample, colour in (("real", real, REAL), ("generated", generated, GENERATED)):
        points = projection(thin(sample, max_points))
        if points.shape[1] == 1:
            _density(ax, points[:, 0], colour, label=name)
        else:
            made = name == "generated"
            ax.scatter(
                points[:, 0],
                points[:, 1],
                s=_size(len(points)) * (1.4 if made else 1.0),
                color=colour,
                marker="x" if made else "o",
                alpha=0.55 if made else 0.35,
                linewidths=0.6 if made else 0.0,
                label=name,
                rasterized=True,
            )
    _label(ax, projection)


def _legend(ax: Axes) -> None:
    legend = ax.legend(loc="best", markerscale=2.0, handletextpad=0.2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def _density(
    ax: Axes, x: NDArray[np.float64], colour: Any, *, label: str, fill: bool = False, dashed: bool = False
) -> None:
    """Draw a kernel density; a constant sample, which has none, becomes a line."""
    if np.ptp(x) <= 1e-12 * max(1.0, float(np.abs(x).max())):
        ax.axvline(float(x[0]), color=colour, label=label)
        return
    low, high = np.quantile(x, [0.002, 0.998])
    pad = 0.15 * (high - low or 1.0)
    grid = np.linspace(low - pad, high + pad, 256)
    density = gaussian_kde(x)(grid)
    ax.plot(grid, density, color=colour, lw=1.6, ls="--" if dashed else "-", label=label)
    if fill:
        ax.fill_between(grid, density, color=MUTED, alpha=0.35, lw=0)
    ax.set_ylim(bottom=0)


def _label(ax: Axes, projection: Projection) -> None:
    ax.set_xlabel(projection.labels[0])
    if len(projection.labels) > 1:
        ax.set_ylabel(projection.labels[1])
    else:
        ax.set_ylabel("density")


def _size(n: int) -> float:
    return float(np.clip(4000 / max(n, 1), 3, 18))
