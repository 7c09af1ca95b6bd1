"""The pictures of a report, by the kind of data that were compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gendyn import plotting
from gendyn.data import Paths, Snapshots
from gendyn.evaluation.catalogue import Kind
from gendyn.evaluation.comparison import Comparison
from gendyn.evaluation.dictionary import radial
from gendyn.evaluation.forecast import forecasts
from gendyn.evaluation.koopman import residual_dmd, successors
from gendyn.evaluation.metric import MetricResult
from gendyn.evaluation.ordinal import complexity_limits
from gendyn.evaluation.path_set import PathSet, on_scale_of, path_sets
from gendyn.evaluation.points import Array
from gendyn.evaluation.power_spectrum import power_spectrum
from gendyn.evaluation.trajectory import trajectories
from gendyn.randomness import numpy_generator

__all__ = ["pictures_of"]

Picture = tuple[Figure, str]
Results = Mapping[str, MetricResult]

_CENTRES = 60
"""Radial functions of the dictionary of a Koopman picture."""

_PAIRS = 4000
"""Pairs that a Koopman picture is computed from at most; its residuals need no more."""

_LEAST_PAIRS = 10
"""Pairs for each function of a dictionary, below which residuals mean nothing."""


def pictures_of(
    comparison: Comparison, scores: Sequence[tuple[str, float | None, MetricResult]], *, seed: int = 0
) -> list[Picture]:
    """Return figures with their captions.

    Parameters
    ----------
    comparison
        What was compared.
    scores
        Name, time and result of each metric: some pictures are of what a metric found beside its value.
    seed
        Of which states the pictures of Koopman modes are computed from.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 8, 2))
    >>> len(pictures_of(Comparison.of(x, x + 1), []))
    4
    """
    return _PICTURES[comparison.kind](comparison, {name: result for name, _, result in scores}, seed)


def _of_populations(comparison: Comparison, results: Results, seed: int) -> list[Picture]:
    real, generated = comparison.real, comparison.generated
    return [
        (plotting.populations(real, generated), "Real and generated populations."),
        (plotting.marginals(real, generated), "Marginal densities of the leading features."),
    ]


def _of_paths(comparison: Comparison, results: Results, seed: int) -> list[Picture]:
    sets = path_sets(comparison.real, comparison.generated, metric="a picture", needs="any", on_nan=comparison.on_nan)
    real, generated = (_paths(s) for s in sets)
    pictures = [(plotting.sample_paths(real, generated), "Single paths, real above and generated below.")]
    if real.shared_times and generated.shared_times:
        pictures += [
            (plotting.fans(real, generated), "Quantiles against time: real as bands, generated as lines."),
            _marginals(*sets),
        ]
        if real.n_times > 2 and _same_times(*sets):
            pictures.append((plotting.autocorrelations(real, generated), "Autocorrelation by lag."))
    return pictures + _plane(results)


def _of_forecasts(comparison: Comparison, results: Results, seed: int) -> list[Picture]:
    made = forecasts(comparison.real, comparison.generated, metric="a picture", on_nan=comparison.on_nan)
    pictures = [
        (
            plotting.forecast_fans(made.outcome.times, made.outcome.values, made.members),
            f"Outcomes (grey) over 50 and 90 % of their members, {made.outcome.names[0]}.",
        )
    ]
    if "rank histogram" in results:
        found = results["rank histogram"].extra
        ax = plotting.rank_histogram(found["counts"], design_effect=found["design_effect"])
        pictures.append(_drawn(ax, "Ranks of outcomes among members; a calibrated forecast stays in the band."))
    if "coverage" in results:
        found = results["coverage"].extra
        ax = plotting.coverage(found["levels"], found["shares"], found["low"], found["high"])
        pictures.append(_drawn(ax, "Share of outcomes inside central intervals, against the share promised."))
    return pictures


def _of_trajectories(comparison: Comparison, results: Results, seed: int) -> list[Picture]:
    sides = trajectories(comparison.real, comparison.generated, metric="a picture", on_nan=comparison.on_nan)
    real, generated = (_paths(side) for side in sides)
    pictures = [(plotting.orbits(real, generated), "Long runs in the plane of two features or components.")]
    if "power-spectrum distance" in results:
        smoothing = results["power-spectrum distance"].extra["smoothing"]
        frequencies, first = power_spectrum(real, smoothing=smoothing)
        _, second = power_spectrum(generated, smoothing=smoothing)
        ax = plotting.power_spectra(frequencies, first[:, 0], second[:, 0])
        pictures.append(_drawn(ax, f"Power spectrum of {sides[0].names[0]}."))
    pictures += _plane(results)
    one, two = on_scale_of(sides[0], "real-std", *sides)
    one_step = math.isclose(*(side.time_step for side in sides), rel_tol=1e-4)
    koopman = _koopman(one, two, seed) if one_step and _even(one) and _even(two) else None
    if koopman is not None:
        pictures.append(koopman)
    return pictures


_PICTURES: Mapping[Kind, Callable[[Comparison, Results, int], list[Picture]]] = MappingProxyType(
    {
        "populations": _of_populations,
        "paths": _of_paths,
        "forecasts": _of_forecasts,
        "trajectories": _of_trajectories,
    }
)


def _paths(side: PathSet) -> Paths:
    values = side.values if side.mask is None else np.where(side.mask, side.values, 0.0)
    return Paths(side.times, values, mask=side.mask, names=side.names)


def _same_times(real: PathSet, generated: PathSet) -> bool:
    return real.times.shape == generated.times.shape and bool(np.allclose(real.times, generated.times))


def _even(side: PathSet) -> bool:
    steps = np.diff(side.times)
    return bool((np.abs(steps - steps.mean()) <= 1e-4 * abs(steps.mean())).all())


def _marginals(real: PathSet, generated: PathSet) -> Picture:
    """Draw the densities at the last time; a path that was not observed in full there is left out."""
    sides, when = (real, generated), "at the last time"
    shown = [_complete(s.values[:, -1]) for s in sides]
    if min(map(len, shown)) < 2 or not np.isclose(real.times[-1], generated.times[-1]):
        # Too little was observed in full at the last time, or the last times differ.
        shown, when = [_complete(s.values.reshape(-1, s.dim)) for s in sides], "of all times together"
    one, two = (Snapshots([float(real.times[-1])], [x], names=real.names) for x in shown)
    return plotting.marginals(one, two, features=6 if real.dim > 4 else 4), f"Marginal densities {when}."


def _complete(rows: Array) -> Array:
    """Return the rows ``(n, d)`` that were observed in full."""
    return rows[np.isfinite(rows).all(axis=1)]


def _plane(results: Results) -> list[Picture]:
    """Draw the plane of entropy and complexity that the ordinal distance has found."""
    if "ordinal distance" not in results:
        return []
    found = results["ordinal distance"].extra
    entropy = np.linspace(0.0, 1.0, 200)
    limits = (entropy, *complexity_limits(entropy, order=found["order"]))
    name, channel = next(iter(found["channels"].items()))
    points = {
        f"{side}, lag {lag}": tuple(channel[side][k])
        for k, lag in enumerate(channel["lags"])
        for side in ("real", "generated")
    }
    ax = plotting.complexity_plane(points, limits)
    return [
        _drawn(ax, f"Permutation entropy and statistical complexity of {name}, between the curves that bound them.")
    ]


def _koopman(real: PathSet, generated: PathSet, seed: int) -> Picture | None:
    """Draw Koopman eigenvalues of both sides, on radial functions about real states."""
    pairs = [successors(_paths(side)) for side in (real, generated)]
    if min(len(x) for x, _ in pairs) < _LEAST_PAIRS * (_CENTRES + 1):
        return None
    rng = numpy_generator(seed, "koopman")
    states = pairs[0][0]
    centres = states[rng.choice(len(states), _CENTRES, replace=False)]
    width = float(np.median(np.linalg.norm(centres[:, None] - centres, axis=-1)))
    if not width > 0:
        return None
    with plotting.style():
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (x, y), name in zip(panels, pairs, ("real", "generated"), strict=True):
        rows = _rows(rng, len(x))
        modes = residual_dmd(radial(centres, width), x[rows], y[rows])
        plotting.koopman_spectrum(modes.eigenvalues, modes.residuals, modes.kept, ax=ax)
        with plotting.style():
            ax.set_title(name, loc="left", weight="bold", size="medium")
        ax.label_outer()
    caption = (
        "Koopman eigenvalues of one step on radial functions about real states; crosses have residuals above 0.05. Of "
        "random dynamics the residual holds the conditional variance too."
    )
    return figure, caption


def _rows(rng: np.random.Generator, n: int) -> Array | Any:
    return np.sort(rng.choice(n, _PAIRS, replace=False)) if n > _PAIRS else np.arange(n)


def _drawn(ax: Axes, caption: str) -> Picture:
    return plotting.figure_of(ax), caption
