r"""Whether the linear-noise approximation may be trusted: its moments against those of simulated paths.

Transition laws of a reference that is not linear are taken to be Gaussian, around one orbit. Where noise carries paths
to both sides of a ridge, or the drift bends over the width of a law, that is wrong, and so is what is built on it. Here
the reference is run from a few states of the bridge, spread over the intervals, and of each feature

.. math:: \frac{|\hat m - m|}{\sqrt{S}} \le \frac14, \qquad \Bigl|\frac{\hat S}{S} - 1\Bigr| \le \frac14

is asked. With 2000 paths the limits are eleven and eight standard errors, so that chance does not warn.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch

from gendyn.bridges.glued_paths import GluedPaths
from gendyn.bridges.transition import linear_part, transition_law
from gendyn.randomness import derive_seed
from gendyn.sampling import NonFiniteStateError, Process

__all__ = ["linear_noise_error", "warn_of_linear_noise"]

_SOURCES = 5
"""States from which the reference is run."""

_PATHS = 2000

_MEAN, _VARIANCE = 0.25, 0.25
"""Largest errors: of the mean in standard deviations, of the variance as a part of it."""


@torch.no_grad()
def linear_noise_error(bridge: GluedPaths, substeps: int, seed: int) -> dict[str, Any] | None:
    """Return where transition laws are worst, or nothing where they are exact.

    Parameters
    ----------
    bridge
        Paths of a reference.
    substeps
        Those of its transition laws.
    seed
        From where, and with which noise the reference is run.

    Returns
    -------
    dict or None
        ``mean``, the error of a mean in standard deviations; ``variance``, simulated over approximated; ``feature``,
        ``state`` and the times ``start`` and ``end`` of both: those that miss their limits most.

    Examples
    --------
    >>> import gendyn as gd
    >>> data = gd.systems.simulate_snapshots(gd.systems.LotkaVolterra(), [0.0, 1.0], 20, step=0.02)
    >>> model = gd.SchrodingerBridge(gd.systems.LotkaVolterra()).fit(data, progress=False)
    >>> worst = linear_noise_error(model.bridge_, 16, 0)
    >>> worst["mean"] < 0.1, 0.85 < worst["variance"] < 1.15
    (True, True)
    """
    reference, times = bridge.process_reference, bridge.times.tolist()
    if _exact(reference, times[0]):
        return None
    intervals = len(times) - 1
    found: list[dict[str, Any]] = []
    for number in range(_SOURCES):
        k = number * intervals // _SOURCES if intervals >= _SOURCES else number % intervals
        start, end = times[k : k + 2]
        state = bridge.sample_states([start], 1, derive_seed(seed, "state", number))[:, 0]
        elapsed = torch.tensor([end - start], dtype=torch.float64)
        law = transition_law(reference, state, start, elapsed, substeps=substeps)
        many = state.expand(_PATHS, -1).contiguous()
        try:
            paths = bridge.run_reference(many, [start, end], None, derive_seed(seed, "paths", number)).values[:, 0]
        except NonFiniteStateError:
            paths = torch.full_like(many, math.inf)
        variance = law.covariances[-1, 0].diagonal()
        means = (paths.mean(0) - law.means[-1, 0]).abs() / variance.sqrt()
        ratios = paths.sub(paths[:1]).var(0).nan_to_num(nan=math.inf) / variance
        for feature, (mean, ratio) in enumerate(zip(means.tolist(), ratios.tolist(), strict=True)):
            error = max(mean / _MEAN, abs(ratio - 1) / _VARIANCE)
            found.append(
                {"mean": mean, "variance": ratio, "feature": feature, "state": state[0].tolist()}
                | {"start": start, "end": end, "error": error if math.isfinite(error) else math.inf}
            )
    return max(found, key=lambda entry: float(entry["error"]))


def warn_of_linear_noise(bridge: GluedPaths, substeps: int, seed: int) -> None:
    """Warn where simulated paths contradict the transition laws of a bridge.

    Parameters
    ----------
    bridge, substeps, seed
        As for :func:`linear_noise_error`.

    Warns
    -----
    UserWarning
        If a mean or a variance misses its limit.
    """
    worst = linear_noise_error(bridge, substeps, seed)
    if worst is None or worst["error"] <= 1:
        return
    state = ", ".join(f"{value:.3g}" for value in worst["state"])
    warnings.warn(
        f"the linear-noise approximation is not to be trusted here: from ({state}) between times {worst['start']:g} "
        f"and {worst['end']:g} the mean of feature {worst['feature']} is off by {worst['mean']:.2g} standard "
        f"deviations, and simulated paths have {worst['variance']:.3g} times its variance, where 0.25 and 0.75 to 1.25 "
        "would do; learn the reference by method='path_em', give it another volatility or less noise, or take "
        "populations at shorter intervals",
        UserWarning,
        stacklevel=3,
    )


def _exact(reference: Process, start: float) -> bool:
    """Return whether transition laws are exact: those of linear processes."""
    piece = getattr(reference, "piece", None)
    return linear_part(reference if piece is None else piece(start)) is not None
