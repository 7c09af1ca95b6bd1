"""Pictures of the long run: power spectra, the plane of entropy and complexity, Koopman spectra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from gendyn.plotting.style import GENERATED, MUTED, REAL, axes, figure_of, style

__all__ = ["complexity_plane", "koopman_spectrum", "power_spectra"]


def power_spectra(frequencies: Any, real: Any, generated: Any = None, *, ax: Axes | None = None) -> Axes:
    """Draw the power spectra of a channel, real and generated.

    Parameters
    ----------
    frequencies
        ``(K,)``; 0 is left out.
    real, generated
        ``(K,)`` each, as :func:`gendyn.evaluation.power_spectrum` gives them for a channel.
    ax
        Axes to draw in.

    Examples
    --------
    >>> ax = power_spectra([0.0, 0.1, 0.2, 0.3], [0.1, 0.4, 0.3, 0.2], [0.2, 0.3, 0.3, 0.2])
    >>> ax.get_yscale(), len(ax.lines)
    ('log', 2)
    """
    f = np.asarray(frequencies, dtype=np.float64)
    ax = axes(ax, (5.6, 3.6))
    with style():
        drawn = []
        for name, power, colour in (("real", real, REAL), ("generated", generated, GENERATED)):
            if power is None:
                continue
            p = np.asarray(power, dtype=np.float64)
            if p.shape != f.shape or f.ndim != 1:
                raise ValueError(f"a spectrum must have one power for each frequency; got {p.shape} and {f.shape}")
            kept = (f > 0) & (p > 0)
            ax.plot(f[kept], p[kept], color=colour, lw=1.4, ls="-" if name == "real" else "--", label=name)
            drawn.append(p[kept])
        ax.set_xscale("log")
        ax.set_yscale("log")
        # Ten orders below the peak is rounding.
        peak = max((p.max() for p in drawn if len(p)), default=1.0)
        least = min((p.min() for p in drawn if len(p)), default=1.0)
        ax.set_ylim(max(least / 2, peak * 1e-10), peak * 3)
        ax.set_xlabel("frequency")
        ax.set_ylabel("share of power")
        ax.legend(fontsize="small")
    return ax


def complexity_plane(
    points: Mapping[str, tuple[float, float]], limits: tuple[Any, Any, Any], *, ax: Axes | None = None
) -> Axes:
    """Draw series by permutation entropy and statistical complexity, between the curves that bound them.

    Parameters
    ----------
    points
        (H, C) by name. Names that start with "generated" are drawn in red; where the rest of such a name is that of a
        "real" one, the two are joined by a line and share a label.
    limits
        Entropies, and the least and largest complexity at each, as :func:`gendyn.evaluation.complexity_limits` gives.
    ax
        Axes to draw in.

    Examples
    --------
    >>> ax = complexity_plane({"noise": (1.0, 0.0)}, ([0.0, 1.0], [0.0, 0.0], [0.0, 0.0]))
    >>> ax.get_xlabel()
    'permutation entropy'
    """
    entropy, least, largest = (np.asarray(v, dtype=np.float64) for v in limits)
    if not entropy.shape == least.shape == largest.shape or entropy.ndim != 1:
        raise ValueError(
            f"limits must be three arrays of one length; got {entropy.shape}, {least.shape} and {largest.shape}"
        )
    ax = axes(ax, (5.6, 4.2))
    labels: list[tuple[str, tuple[float, float]]] = []
    with style():
        ax.fill_between(entropy, least, largest, color=MUTED, alpha=0.2, lw=0)
        ax.plot(entropy, least, color=MUTED, lw=1.2)
        ax.plot(entropy, largest, color=MUTED, lw=1.2)
        for name, (h, c) in points.items():
            made = name.startswith("generated")
            ax.scatter(h, c, s=34, color=GENERATED if made else REAL, marker="D" if made else "o", zorder=3, lw=0)
            partner = f"real{name.removeprefix('generated')}"
            if made and partner in points:
                ax.plot([h, points[partner][0]], [c, points[partner][1]], color=GENERATED, lw=0.8, alpha=0.6)
            else:
                labels.append((name, (h, c)))
        ax.set_xlim(-0.02, 1.04)
        ax.set_ylim(bottom=-0.015)
        top = ax.get_ylim()[1]
        # Labels stand in a column where the plane is empty, joined to their points: points are often close together.
        step = 0.055 * top
        middle = float(np.mean([c for _, (_, c) in labels])) if labels else 0.0
        first = min(max(middle, 0.03 * top) + step * (len(labels) - 1) / 2, 0.95 * top)
        for k, (name, point) in enumerate(sorted(labels, key=lambda label: -label[1][1])):
            at = (0.4, first - k * step) if point[0] > 0.5 else (0.7, first - k * step)
            shared = name.startswith("real") and f"generated{name.removeprefix('real')}" in points
            ax.annotate(
                name.removeprefix("real").lstrip(" ,") if shared else name,
                point,
                xytext=at,
                ha="right" if point[0] > 0.5 else "left",
                va="center",
                fontsize="small",
                color=GENERATED if name.startswith("generated") else REAL,
                arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.7, "shrinkB": 4},
            )
        if any(name.startswith("generated") for name in points):
            for name, colour, marker in (("real", REAL, "o"), ("generated", GENERATED, "D")):
                ax.scatter([], [], s=34, color=colour, marker=marker, lw=0, label=name)
            ax.legend(fontsize="small", loc="upper left")
        ax.set_xlabel("permutation entropy")
        ax.set_ylabel("statistical complexity")
    return ax


def koopman_spectrum(
    eigenvalues: Any,
    residuals: Any,
    kept: Any,
    *,
    pseudospectrum: tuple[Any, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw Koopman eigenvalues in the complex plane, coloured by residual; those not kept are crosses.

    Parameters
    ----------
    eigenvalues, residuals, kept
        ``(K,)`` each, of :class:`gendyn.evaluation.KoopmanModes`.
    pseudospectrum
        A grid of complex numbers ``(a, b)`` and the least residual at each, drawn as contours at powers of ten.
    ax
        Axes to draw in.

    Examples
    --------
    >>> ax = koopman_spectrum([1.0, 0.5j, -0.5j], [1e-3, 0.5, 0.5], [True, False, False])
    >>> len(ax.collections)
    2
    """
    z, r = np.asarray(eigenvalues, dtype=np.complex128), np.asarray(residuals, dtype=np.float64)
    keep = np.asarray(kept, dtype=bool)
    if not z.shape == r.shape == keep.shape or z.ndim != 1:
        raise ValueError(
            f"eigenvalues, residuals and kept must be as many; got shapes {z.shape}, {r.shape} and {keep.shape}"
        )
    ax = axes(ax, (5.4, 4.6))
    norm = LogNorm(1e-3, 3.0, clip=True)
    colours = colormaps["viridis"]
    with style():
        turn = np.exp(1j * np.linspace(0, 2 * np.pi, 400))
        ax.plot(turn.real, turn.imag, color=MUTED, lw=1.2)
        ax.axhline(0, color=MUTED, lw=0.6, zorder=0)
        ax.axvline(0, color=MUTED, lw=0.6, zorder=0)
        if pseudospectrum is not None:
            grid, tau = np.asarray(pseudospectrum[0]), np.asarray(pseudospectrum[1], dtype=np.float64)
            levels = [0.01, 0.03, 0.1, 0.3]
            lines = ax.contour(grid.real, grid.imag, tau, levels=levels, cmap=colours, norm=norm, linewidths=0.9)
            ax.clabel(lines, fontsize="x-small", fmt="%g")
        for marker, chosen in (("o", keep), ("x", ~keep)):
            if chosen.any():
                ax.scatter(
                    z.real[chosen],
                    z.imag[chosen],
                    c=np.maximum(r[chosen], 1e-3),
                    cmap=colours,
                    norm=norm,
                    marker=marker,
                    s=42 if marker == "o" else 26,
                    linewidths=0.0 if marker == "o" else 1.1,
                    zorder=3,
                )
        bar = figure_of(ax).colorbar(ScalarMappable(norm, colours), ax=ax, shrink=0.75, pad=0.02)
        bar.set_label("residual")
        bar.outline.set_visible(False)
        ax.set_aspect("equal")
        ax.set_xlabel("real part of the eigenvalue")
        ax.set_ylabel("imaginary part")
    return ax
