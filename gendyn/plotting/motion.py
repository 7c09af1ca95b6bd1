"""Pictures of motion: trajectories, fans of quantiles, velocity fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from gendyn.data import Paths, Snapshots
from gendyn.plotting.projection import Projection, thin
from gendyn.plotting.style import GENERATED, MUTED, REAL, axes, style, time_colours

__all__ = ["fan", "trajectories", "velocity"]


def trajectories(
    paths: Paths,
    data: Snapshots | None = None,
    *,
    ax: Axes | None = None,
    dims: tuple[int, int] | None = None,
    max_paths: int = 120,
    projection: Projection | None = None,
) -> Axes:
    """Draw paths as lines coloured by time, over the measured populations in grey.

    ``projection`` lets several pictures share their coordinates.

    Examples
    --------
    >>> ax = trajectories(Paths([0.0, 1.0, 2.0], torch.zeros(4, 3, 2)))
    >>> len(ax.collections[-2].get_segments())
    8
    """
    if not paths.shared_times:
        raise ValueError("trajectories are drawn at times shared by all paths; these have times of their own")
    ax = axes(ax)
    reference = data if data is not None else paths.snapshots()
    projection = projection or Projection(reference, dims)
    times = paths.times.cpu().numpy()
    colours, norm = time_colours(times.tolist())
    chosen = np.linspace(0, len(paths) - 1, min(max_paths, len(paths))).round().astype(int)
    values = paths.values.detach().cpu()[torch.from_numpy(chosen)]
    with style():
        if data is not None:
            for x in data.samples:
                points = projection(thin(x, 1500))
                second = points[:, 1] if data.dim > 1 else np.zeros(len(points))
                ax.scatter(points[:, 0], second, s=4, color=MUTED, alpha=0.35, linewidths=0, rasterized=True)
        lines = projection(values)
        if paths.dim == 1:
            lines = np.stack([np.broadcast_to(times, lines.shape[:2]), lines[:, :, 0]], axis=-1)
        segments = np.stack([lines[:, :-1], lines[:, 1:]], axis=2).reshape(-1, 2, 2)
        middle = np.tile((times[:-1] + times[1:]) / 2, len(lines))
        collection = LineCollection(list(segments), cmap=colours, norm=norm, linewidths=0.8, alpha=0.75)
        collection.set_array(middle)
        ax.add_collection(collection)
        ax.scatter(lines[:, -1, 0], lines[:, -1, 1], s=7, color=colours(norm(times[-1])), zorder=3, linewidths=0)
        ax.autoscale_view()
        if paths.dim == 1:
            ax.set_xlabel("time")
            ax.set_ylabel(projection.labels[0])
        else:
            ax.set_xlabel(projection.labels[0])
            ax.set_ylabel(projection.labels[1])
    return ax


def fan(
    paths: Paths, data: Snapshots | None = None, *, feature: int = 0, ax: Axes | None = None, colour: str = GENERATED
) -> Axes:
    """Draw median and 50 and 90 % bands of a feature against time, with measured values as dots.

    Examples
    --------
    >>> ax = fan(Paths([0.0, 1.0], torch.zeros(10, 2, 1)))
    >>> len(ax.lines)
    1
    """
    if not 0 <= feature < paths.dim:
        raise ValueError(f"feature must lie in 0 to {paths.dim - 1}; got {feature}")
    ax = axes(ax)
    times = paths.times.cpu().numpy()
    values = paths.values.detach().cpu().numpy()[:, :, feature]
    low, q1, median, q3, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    with style():
        ax.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)
        ax.fill_between(times, q1, q3, color=colour, alpha=0.25, lw=0)
        ax.plot(times, median, color=colour, lw=1.8)
        if data is not None:
            for t, x in zip(data.times.tolist(), data.samples, strict=True):
                points = thin(x, 300)[:, feature]
                width = 0.012 * float(times[-1] - times[0])
                jitter = width * (2 * ((np.arange(len(points)) * 0.618034) % 1) - 1)
                ax.scatter(t + jitter, points, s=4, color=REAL, alpha=0.35, linewidths=0, rasterized=True)
        ax.set_xlabel("time")
        ax.set_ylabel(paths.names[feature] if paths.names else f"feature {feature}")
    return ax


def velocity(
    process: Any,
    data: Snapshots,
    time: float,
    *,
    ax: Axes | None = None,
    dims: tuple[int, int] | None = None,
    resolution: int = 26,
) -> Axes:
    """Draw the drift of a process at one time as streamlines where data are, in the plane of the picture.

    Streamlines are cut off farther from any measured point than the data are from each other.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> rotation = SimpleNamespace(drift=lambda t, x: torch.stack([-x[:, 1], x[:, 0]], dim=1))
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> ax = velocity(rotation, Snapshots([0.0], [x]), 0.0)
    >>> len(ax.collections) > 1
    True
    """
    if data.dim < 2:
        raise ValueError("a stream picture needs at least two features; got 1")
    ax = axes(ax)
    projection = Projection(data, dims)
    points = np.concatenate([projection(thin(x, 1500)) for x in data.samples])
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    pad = 0.05 * (high - low)
    gx, gy = (np.linspace(a, b, resolution) for a, b in zip(low - pad, high + pad, strict=True))
    grid = np.stack(np.meshgrid(gx, gy), axis=-1)
    x = torch.from_numpy(projection.inverse(grid.reshape(-1, 2))).to(data.samples[0])
    with torch.no_grad():
        drift = process.drift(torch.tensor(time, dtype=x.dtype, device=x.device), x).cpu().numpy() @ projection.matrix
    field = drift.reshape(resolution, resolution, 2)
    scale = np.ptp(points, axis=0)
    gaps = (
        np.linalg.norm((grid.reshape(-1, 1, 2) - points[None, ::2]) / scale, axis=-1)
        .min(1)
        .reshape(resolution, resolution)
    )
    field = np.where((gaps < 1.6 / resolution)[..., None], field, np.nan)
    speed = np.linalg.norm(field, axis=-1)
    with style():
        ax.scatter(points[:, 0], points[:, 1], s=3, color=MUTED, alpha=0.3, linewidths=0, rasterized=True)
        top = float(np.nanmax(speed)) if np.isfinite(speed).any() else 0.0
        if top > 0:
            width = 0.5 + 1.6 * np.nan_to_num(speed) / top
            ax.streamplot(
                gx, gy, field[..., 0], field[..., 1], color=GENERATED, linewidth=width, density=1.3, arrowsize=0.9
            )
        ax.set_xlabel(projection.labels[0])
        ax.set_ylabel(projection.labels[1])
        ax.set_title(f"velocity at t = {time:g}")
    return ax
